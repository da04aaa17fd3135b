"""`tubelet teach`: a model of new classes from a few labelled clips, and which to label next."""

from pathlib import Path

__all__ = ["teach_model"]


def teach_model(
    model: str,
    data: str,
    *,
    output: Path,
    pool: str | None = None,
    top: int = 10,
    decoder: str = "pyav",
    workers: int = 2,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Fit a new head to a few labelled clips, and list the clips that are worth labelling next.

    The features of a trained model stay as they are. Run it again with more clips: only those are read.

    Parameters
    ----------
    model: str
        Whose features are used: run, model folder, folder of transformers, hf://owner/repo, or published weights.
    data: str
        Labelled clips: a folder of class folders, or a table; those of a split 'test' are left alone.
    output: Path
        Folder for the model, the features, and uncertain.csv.
    pool: str
        Folder of videos, or list of files, without labels.
    top: int
        Clips of the pool that are listed; uncertain.csv has them all.
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
    from tubelet.cli.teaching_tables import print_lesson
    from tubelet.data.loader import LoaderOptions
    from tubelet.teaching.teach import teach

    options = LoaderOptions(batch=16, workers=workers, decoder=decoder)
    with track("reading clips", quiet=json) as on_step:
        lesson = teach(model, data, pool=pool, output=output, options=options, device=device, on_step=on_step)
    print_lesson(lesson, output, top, as_json=json)
    return 1 if lesson.failed else 0
