"""`tubelet predict`: what is in these videos?"""

from pathlib import Path

__all__ = ["predict_sources"]


def predict_sources(
    model: str,
    *sources: str,
    top: int = 3,
    clips: int = 1,
    coverage: float = 0.9,
    output: Path | None = None,
    decoder: str = "pyav",
    device: str = "auto",
    trust_export: bool = False,
    json: bool = False,
) -> int:
    """Classify files, folders or patterns; exit status 1 where some could not be read, after all others.

    Parameters
    ----------
    model: str
        Run, model folder, folder of transformers, hf://owner/repo, published weights: videomae_base.kinetics400; or an
        exported file: mine.onnx, mine_openvino, mine.pt2.
    sources: str
        Videos, GIFs, folders of images, folders of videos, glob patterns.
    top: int
        Classes shown for each source.
    clips: int
        Clips spread over each video, averaged.
    coverage: float
        Share of videos whose label set shall hold the true class; of calibrated models.
    output: Path
        CSV file to write all scores to; sources that failed are listed with their error.
    decoder: str
        pyav, torchcodec or decord.
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    trust_export: bool
        Run a .pt2 file, which is code of whoever made it.
    json: bool
        Print one JSON object a line: source, label, score, scores, labels, task, label_set, distance, is_unknown; or
        source, error {code, message}.
    """
    from tubelet.cli.tables import print_predictions
    from tubelet.prediction.load import load
    from tubelet.prediction.predict import predict

    classifier = load(model, device=device, trust_export=trust_export)
    outcomes = predict(classifier, sources, views=clips, decoder=decoder, coverage=coverage)
    return print_predictions(outcomes, classifier, top=top, output=output, as_json=json, coverage=coverage)
