"""`tubelet predict`: what is in these videos?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tubelet.cli.timeline import WHOLE, TimelineOptions, predict_timelines

__all__ = ["AnswerOptions", "predict_sources"]


@dataclass(frozen=True)
class AnswerOptions:
    """Hold what is said of a video as a whole."""

    top: int = 3
    """Classes shown for each source."""
    clips: int = 1
    """Clips spread over each video, averaged."""
    coverage: float = 0.9
    """Share of videos whose label set shall hold the true class; of calibrated models."""


def predict_sources(
    model: str,
    *sources: str,
    answer: Annotated[AnswerOptions, Parameter(name="*")] = AnswerOptions(),
    timeline: Annotated[TimelineOptions, Parameter(name="*")] = WHOLE,
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
    output: Path
        CSV file to write all scores to; sources that failed are listed with their error. Of a timeline: a file .json,
        .csv, .vtt, .edl or .png, or a folder for all of them.
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

    is_timeline = timeline.is_asked(answer != AnswerOptions())
    classifier = load(model, device=device, trust_export=trust_export)
    if is_timeline:
        return predict_timelines(classifier, sources, timeline, output, decoder=decoder, as_json=json)
    outcomes = predict(classifier, sources, views=answer.clips, decoder=decoder, coverage=answer.coverage)
    return print_predictions(
        outcomes, classifier, top=answer.top, output=output, as_json=json, coverage=answer.coverage
    )
