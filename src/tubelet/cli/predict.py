"""`tubelet predict`: what is in these videos?"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

__all__ = ["HowToPredict", "WhereToWrite", "predict_sources"]


@dataclass(frozen=True)
class HowToPredict:
    """Hold how videos are read and scored."""

    clips: int = 1
    """Clips spread over each video, averaged."""
    coverage: float = 0.9
    """Share of videos whose label set shall hold the true class; of calibrated models."""
    decoder: str = "pyav"
    """Reader of videos: pyav, torchcodec or decord."""
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    """Number format of the model; auto is bf16 where it is native: faster, and may tip close decisions."""
    batch: int = 8
    """Clips scored at once, at most."""
    readers: int = 0
    """Threads that read videos while the model computes; 0: one a processor, at most eight."""


@dataclass(frozen=True)
class WhereToWrite:
    """Hold what is written."""

    output: str | None = None
    """CSV file to write all scores to, sources that failed with their error. A folder (there already, or with / at its
    end) makes it a job that may be killed and given again."""
    shard: str | None = None
    """Do part i of n of a job only, as in 2/8, beside others on the same --output folder."""

    @property
    def is_job(self) -> bool:
        """Tell whether results go into a folder that work can go on from."""
        output = self.output or ""
        return self.shard is not None or output.endswith(("/", os.sep)) or Path(output or "-").is_dir()


def predict_sources(
    model: str,
    *sources: str,
    top: int = 3,
    how: Annotated[HowToPredict, Parameter(name="*")] = HowToPredict(),
    where: Annotated[WhereToWrite, Parameter(name="*")] = WhereToWrite(),
    device: str = "auto",
    json: bool = False,
) -> int:
    """Classify files, folders or patterns; exit status 1 where some could not be read, after all others.

    Parameters
    ----------
    model: str
        Run, model folder, folder of transformers, hf://owner/repo, or published weights: videomae_base.kinetics400.
    sources: str
        Videos, GIFs, folders of images, folders of videos, glob patterns, lists of paths (.txt, .csv, .jsonl).
    top: int
        Classes shown for each source.
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    json: bool
        Print one JSON object a line: source, label, score, scores, labels, task, label_set, distance, is_unknown; or
        source, error {code, message}. Of a job one in all: shard, shards, sources, done, failed, table.
    """
    from tubelet.cli.tables import print_predictions
    from tubelet.prediction.load import load
    from tubelet.prediction.predict import predict

    given = asdict(how)
    given["views"] = given.pop("clips")
    classifier = load(model, device=device)
    if where.is_job:
        from tubelet.cli.jobs import run_job

        return run_job(classifier, sources, where.output, where.shard, given, as_json=json)
    outcomes = predict(classifier, sources, **given)
    output = Path(where.output) if where.output else None
    return print_predictions(outcomes, classifier, top=top, output=output, as_json=json, coverage=how.coverage)
