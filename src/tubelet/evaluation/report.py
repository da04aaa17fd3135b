"""Hold what an evaluation found, say it in a line, and write it down."""

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from tubelet import files
from tubelet.data.dataset import BadSample
from tubelet.data.sample import SEPARATOR, Sample
from tubelet.evaluation.views import Views
from tubelet.metrics import (
    CalibrationMetrics,
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


SEED = 0
"""Of the draws that intervals rest on; nothing else in an evaluation is random."""


@dataclass(frozen=True)
class Report:
    """Hold the figures of one evaluation and what they depend on."""

    metrics: ClassificationMetrics | MultilabelMetrics
    intervals: Mapping[str, Interval | None]
    """95 % intervals of the headline figures, by the names of `metrics.estimate_headlines`; None where nothing can be
    said."""
    interval_over: str
    """What was drawn anew for them: `clips` (shares of clips: Wilson's formula instead), or whole groups where clips
    come in groups."""
    calibration: CalibrationMetrics
    """How far probabilities can be taken at their word."""
    n: int
    """Clips that were scored."""
    n_failed: int
    """Clips that could not be read; part of no figure."""
    split: str
    views: Views
    macs: int | None
    """Multiply-accumulates of one view: products, convolutions, attention; None where they cannot be counted."""
    decoder: str
    precision: str
    """Number format of the weights."""
    model: str
    """Architecture and size."""
    weights: str
    """sha256 that they have in a model folder: which model this is about."""
    data: str
    digest: str
    """Hash of the names, labels and splits of all clips."""
    split_digest: str
    """Hash of the names and labels of the split's clips."""
    seconds: float
    failed: tuple[BadSample, ...] = field(default=())
    remarks: tuple[str, ...] = ()
    """What makes the figures say less than they seem to, such as clips the model was trained on."""

    @property
    def task(self) -> Task:
        """What was asked of the model: the one class of each clip, or for each class whether a clip has it."""
        return "multilabel" if isinstance(self.metrics, MultilabelMetrics) else "classification"

    @property
    def interval(self) -> Interval | None:
        """Give the interval of the figure that comes first: the accuracy, or the mean average precision."""
        return self.intervals["mean_ap" if self.task == "multilabel" else "top1"]

    def headline_figures(self) -> dict[str, Any]:
        """Name the figures that a reader looks for first."""
        metrics, ends = self.metrics, self.interval and [self.interval.low, self.interval.high]
        if isinstance(metrics, MultilabelMetrics):
            first = {"mean_ap": metrics.mean_ap, "mean_ap_interval_95": ends, "interval_over": self.interval_over}
            return {**first, "micro_f1": metrics.micro.f1, "macro_f1": metrics.macro.f1}
        first = {"top1": metrics.top1, "top1_interval_95": ends, "interval_over": self.interval_over}
        first |= {"top_k": metrics.top_k, "k": metrics.k, "balanced_accuracy": metrics.balanced_accuracy}
        return {**first, "macro_f1": metrics.macro.f1, "weighted_f1": metrics.weighted.f1, "mean_ap": metrics.mean_ap}

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values, headline figures first."""
        return {
            **self.headline_figures(),
            "mean_auc": self.metrics.mean_auc,
            "intervals_95": {name: one and [one.low, one.high] for name, one in self.intervals.items()},
            "task": self.task,
            "n": self.n,
            "n_failed": self.n_failed,
            "split": self.split,
            "views": self.views.count,
            **asdict(self.views),
            "cost": {"macs_per_view": self.macs, "macs_per_video": self.macs and self.macs * self.views.count},
            "decoder": self.decoder,
            "precision": self.precision,
            "model": self.model,
            "weights": self.weights,
            "seed": SEED,
            "data": self.data,
            "digest": self.digest,
            "split_digest": self.split_digest,
            "versions": {"tubelet": version("tubelet"), "torch": torch.__version__},
            "seconds": round(self.seconds, 2),
            "calibration": self.calibration.to_dict(),
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
        averages = f"  balanced {metrics.balanced_accuracy:.2%}  macro F1 {metrics.macro.f1:.3f}"
        curve = f"  AUC {metrics.curve.auc:.3f}" if metrics.curve else ""
        return f"top-1 {metrics.top1:.2%}{ends}{top_k}{averages}{curve}  {clips}"

    def describe(self) -> str:
        """State in a second line what a probability is worth, and what an answer costs."""
        error = f"calibration error (ECE) {self.calibration.ece:.1%}"
        cost = f"  {self.macs * self.views.count / 1e9:,.3g} GMACs a video" if self.macs else ""
        return f"{error}  views {self.views}{cost}"


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
            writer.writerow([sample.name, sample.label, predicted, f"{row.max():.9g}", *(f"{s:.9g}" for s in row)])
        for bad in scored.bad:
            writer.writerow([bad.name, "", f"error:{bad.code}", ""])


def _write_confusion(folder: Path, matrix: Int64[np.ndarray, "classes classes"], classes: tuple[str, ...]) -> None:
    files.write_json(
        folder / "confusion.json", {"classes": list(classes), "rows_true_columns_predicted": matrix.tolist()}
    )
    draw_confusion(matrix, classes, folder / "confusion.png")
