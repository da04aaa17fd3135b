"""Hold what an evaluation found, say it in a line, and write it down."""

import csv
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from tubelet import files
from tubelet.data.dataset import BadSample
from tubelet.data.sample import SEPARATOR, Sample
from tubelet.metrics import (
    ClassificationMetrics,
    Interval,
    MultilabelMetrics,
    format_multilabel_report,
    format_report,
)
from tubelet.report.figures import draw_confusion
from tubelet.shapes import Task

__all__ = ["Report", "Scored", "write_report"]


@dataclass(frozen=True, eq=False)
class Scored:
    """Hold what a classifier said about samples."""

    scores: Float64[np.ndarray, "sample classes"]
    labels: Int64[np.ndarray, " sample"] | Bool[np.ndarray, "sample classes"]
    samples: tuple[Sample, ...]
    bad: tuple[BadSample, ...]


@dataclass(frozen=True)
class Report:
    """Hold the figures of one evaluation and what they depend on."""

    metrics: ClassificationMetrics | MultilabelMetrics
    interval: Interval | None
    """95 % interval of the headline figure: the accuracy, or the mean average precision; None for a single clip of
    several classes."""
    interval_over: str
    """What was drawn anew for it: `clips` (accuracy: Wilson's), or whole groups where clips come in groups
    (bootstrap)."""
    n: int
    """Clips that were scored."""
    n_failed: int
    """Clips that could not be read; part of no figure."""
    split: str
    views: int
    decoder: str
    data: str
    digest: str
    """Hash of the clips' names, labels and splits."""
    seconds: float
    failed: tuple[BadSample, ...] = field(default=())
    remarks: tuple[str, ...] = ()
    """What makes the figures say less than they seem to, such as clips the model was trained on."""

    @property
    def task(self) -> Task:
        """What was asked of the model: the one class of each clip, or for each class whether a clip has it."""
        return "multilabel" if isinstance(self.metrics, MultilabelMetrics) else "classification"

    def headline_figures(self) -> dict[str, Any]:
        """Name the figures that a reader looks for first."""
        metrics, ends = self.metrics, self.interval and [self.interval.low, self.interval.high]
        if isinstance(metrics, MultilabelMetrics):
            first = {"mean_ap": metrics.mean_ap, "mean_ap_interval_95": ends, "interval_over": self.interval_over}
            return {**first, "micro_f1": metrics.micro.f1, "macro_f1": metrics.macro.f1}
        first = {"top1": metrics.top1, "top1_interval_95": ends, "interval_over": self.interval_over}
        return {**first, "top_k": metrics.top_k, "k": metrics.k}

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values, headline figures first."""
        return {
            **self.headline_figures(),
            "task": self.task,
            "n": self.n,
            "n_failed": self.n_failed,
            "split": self.split,
            "views": self.views,
            "decoder": self.decoder,
            "data": self.data,
            "digest": self.digest,
            "seconds": round(self.seconds, 2),
            "metrics": self.metrics.to_dict(),
            "failed": [asdict(bad) for bad in self.failed],
            "remarks": list(self.remarks),
        }

    def headline(self) -> str:
        """State the result in one line."""
        metrics = self.metrics
        interval, over = self.interval, self.interval_over
        ends = f" (95 % interval over {over} {interval.low:.1%} to {interval.high:.1%})" if interval else ""
        clips = f"({self.n} clips of '{self.split}', {self.n_failed} failed)"
        if isinstance(metrics, MultilabelMetrics):
            unseen = f"  {len(metrics.absent)} classes without a clip" if metrics.absent else ""
            f1 = f"micro F1 {metrics.micro.f1:.3f}  macro F1 {metrics.macro.f1:.3f}"
            return f"mAP {metrics.mean_ap:.2%}{ends}  {f1}{unseen}  {clips}"
        top_k = f"  top-{metrics.k} {metrics.top_k:.2%}" if metrics.k < len(metrics.classes) else ""
        return f"top-1 {metrics.top1:.2%}{ends}{top_k}  macro F1 {metrics.macro.f1:.3f}  {clips}"


def write_report(folder: Path, report: Report, scored: Scored, classes: tuple[str, ...]) -> None:
    """Write report.json, classification_report.txt, predictions.csv and, of one class a clip, confusion.png and .json.

    The tables say `labels` in place of `label` where clips have several, as tables of clips do; `score` is the highest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "report.json", report.to_dict())
    metrics = report.metrics
    if isinstance(metrics, MultilabelMetrics):
        files.write_text(folder / "classification_report.txt", format_multilabel_report(metrics))
        given = [
            SEPARATOR.join(sorted(classes[place] for place in np.flatnonzero(row > metrics.threshold)))
            for row in scored.scores
        ]
    else:
        files.write_text(folder / "classification_report.txt", format_report(metrics))
        _write_confusion(folder, metrics.confusion, classes)
        given = [classes[place] for place in scored.scores.argmax(1)]
    with files.write_whole(folder / "predictions.csv", "w") as table:
        writer = csv.writer(table, lineterminator="\n")
        label = "labels" if report.task == "multilabel" else "label"
        writer.writerow(["source", label, "predicted", "score", *(f"score:{name}" for name in classes)])
        for sample, predicted, row in zip(scored.samples, given, scored.scores, strict=True):
            writer.writerow([sample.name, sample.label, predicted, f"{row.max():.6f}", *(f"{s:.6f}" for s in row)])
        for bad in scored.bad:
            writer.writerow([bad.name, "", f"error:{bad.code}", ""])


def _write_confusion(folder: Path, matrix: Int64[np.ndarray, "classes classes"], classes: tuple[str, ...]) -> None:
    files.write_json(
        folder / "confusion.json", {"classes": list(classes), "rows_true_columns_predicted": matrix.tolist()}
    )
    draw_confusion(matrix, classes, folder / "confusion.png")
