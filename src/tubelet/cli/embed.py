"""`tubelet embed`: which clips are alike?"""

from pathlib import Path

__all__ = ["embed_clips"]


def embed_clips(
    model: str,
    clips: str,
    *,
    output: Path | None = None,
    like: str | None = None,
    top: int = 5,
    decoder: str = "pyav",
    workers: int = 2,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Compute the features of clips, and list those most like a clip; exit status 1 where some could not be read.

    Parameters
    ----------
    model: str
        Run, model folder, folder of transformers, hf://owner/repo, or published weights: videomae_base.kinetics400.
    clips: str
        Folder of videos, list of files, or labelled clips.
    output: Path
        File .npz or .parquet for names, labels and features; clips that it has already are not read again.
    like: str
        One of the clips, by its name, or the path of another: the clips most like it are listed.
    top: int
        How many of them.
    decoder: str
        pyav, torchcodec or decord.
    workers: int
        Processes that decode.
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    json: bool
        Print one JSON object instead of text.
    """
    from tubelet.cli.tables import track
    from tubelet.cli.teaching_tables import print_embeddings
    from tubelet.data.loader import LoaderOptions
    from tubelet.prediction.load import load_classifier
    from tubelet.teaching.embeddings import Embeddings, embed, find_similar

    options = LoaderOptions(batch=16, workers=workers, decoder=decoder)
    classifier = load_classifier(model, device=device)
    known = Embeddings.read(output) if output and output.exists() else None
    with track("embedding", quiet=json) as on_step:
        found = embed(classifier, clips, known=known, options=options, on_step=on_step)
    if output:
        found.save(output)
    near = find_similar(classifier, found, like, top, options) if like else []
    print_embeddings(found, near, output, as_json=json)
    return 1 if found.failed else 0
