"""`tubelet evaluate`: honest figures of a trained model."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tubelet.errors import ConfigError

__all__ = ["OutputOptions", "ViewOptions", "evaluate_model"]


@dataclass(frozen=True)
class ViewOptions:
    """Hold how often each video is looked at."""

    clips: int = 1
    """Clips spread over each video, averaged."""
    crops: int = 1
    """Crops of each clip: 1 takes the middle, 3 also both ends of the longer side."""
    aggregation: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged over clips and crops."""


@dataclass(frozen=True)
class OutputOptions:
    """Hold what is written."""

    output: Path | None = None
    """Folder for report.html, report.json, classification_report.txt, predictions.csv, and the confusion matrix."""
    explain: int = 0
    """Clips, the worst and the best, in which report.html shows what the model looked at; takes time."""


def evaluate_model(
    model: str,
    data: str | None = None,
    *,
    split: str = "test",
    views: Annotated[ViewOptions, Parameter(name="*")] = ViewOptions(),
    written: Annotated[OutputOptions, Parameter(name="*")] = OutputOptions(),
    decoder: str = "pyav",
    workers: int = 2,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Measure a model on labelled clips; exit status 1 where some of them could not be read.

    Parameters
    ----------
    model: str
        Run, model folder, folder of transformers, hf://owner/repo, or published weights: videomae_base.kinetics400.
    data: str
        Labelled clips; the data the run was trained on where none is named.
    split: str
        test, val or train.
    decoder: str
        pyav, torchcodec or decord.
    workers: int
        Processes that decode.
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    json: bool
        Print report.json instead of text.
    """
    from tubelet.cli.tables import print_report, track
    from tubelet.evaluation.evaluate import Output, Views, evaluate

    if written.explain and written.output is None:
        raise ConfigError("explained clips stand in report.html - no folder for it was named - add --output FOLDER.")
    output = None if written.output is None else Output(written.output, written.explain)
    with track("evaluating", quiet=json) as on_step:
        report = evaluate(
            model, data, split=split, views=Views(**asdict(views)), output=output,
            decoder=decoder, workers=workers, device=device, on_step=on_step,
        )  # fmt: skip
    print_report(report, written.output, as_json=json)
    return 1 if report.n_failed else 0
