"""`tubelet predict`: what is in these videos?"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tubelet.cli.timeline import WHOLE, TimelineOptions, predict_timelines

__all__ = ["AnswerOptions", "WhereToWrite", "predict_sources"]


@dataclass(frozen=True)
class AnswerOptions:
    """Hold what is said of a video as a whole, and how it is computed."""

    top: int = 3
    """Classes shown for each source."""
    clips: int = 1
    """Clips spread over each video, averaged."""
    coverage: float = 0.9
    """Share of videos whose label set shall hold the true class; of calibrated models."""
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
    end) makes it a job that may be killed and given again. Of a timeline: a file .json, .csv, .vtt, .edl or .png, or a
    folder for all of them."""
    shard: str | None = None
    """Do part i of n of a job only, as in 2/8, beside others on the same --output folder."""

    @property
    def is_job(self) -> bool:
        """Tell whether results go into a folder that work can go on from."""
        output = self.output or ""
        return self.shard is not None or output.endswith(("/", os.sep)) or Path(output or "-").is_dir()

    @property
    def path(self) -> Path | None:
        """Return the path of what is written."""
        return Path(self.output) if self.output else None


def predict_sources(
    model: str,
    *sources: str,
    answer: Annotated[AnswerOptions, Parameter(name="*")] = AnswerOptions(),
    timeline: Annotated[TimelineOptions, Parameter(name="*")] = WHOLE,
    where: Annotated[WhereToWrite, Parameter(name="*")] = WhereToWrite(),
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
        Videos, GIFs, folders of images, folders of videos, glob patterns, lists of paths (.txt, .csv, .jsonl).
    decoder: str
        pyav, torchcodec or decord.
    device: str
        auto, cpu, cuda, cuda:1 or mps.
    trust_export: bool
        Run a .pt2 file, which is code of whoever made it.
    json: bool
        Print one JSON object a line: source, label, score, scores, labels, task, label_set, distance, is_unknown; or
        source, error {code, message}. Of a job one in all: shard, shards, sources, done, failed, table.
    """
    from itertools import chain

    from tubelet.cli.jobs import run_job
    from tubelet.cli.tables import print_predictions
    from tubelet.files import check_apart
    from tubelet.prediction.load import load
    from tubelet.prediction.predict import predict
    from tubelet.prediction.sources import list_sources

    if where.path is not None:
        truth = () if timeline.truth is None else (str(timeline.truth),)
        check_apart(where.path, chain(sources, truth, list_sources(sources)))
    is_timeline = timeline.is_asked(answer != AnswerOptions() or where.shard is not None)
    classifier = load(model, device=device, trust_export=trust_export)
    if is_timeline:
        return predict_timelines(classifier, sources, timeline, where.path, decoder=decoder, as_json=json)
    given = {**asdict(answer), "views": answer.clips, "decoder": decoder}
    options = {name: value for name, value in given.items() if name not in ("top", "clips")}
    if where.is_job:
        return run_job(classifier, sources, where.output, where.shard, options, as_json=json)
    outcomes = predict(classifier, sources, **options)
    return print_predictions(
        outcomes, classifier, top=answer.top, output=where.path, as_json=json, coverage=answer.coverage
    )
