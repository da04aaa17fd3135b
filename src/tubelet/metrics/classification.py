"""Measure single-label classification: accuracy, confusion, precision, recall, F1, and the averages of them.

What counts:

    - The predicted class is the one with the highest score; ties go to the lower index, also in top-k.
    - A class without a single label in the data is not measured: its precision, recall and F1 are None, and it enters
      no average. Clips wrongly given to it still count against the class that they belong to.
    - A class that has labels and was never predicted has precision 0 and F1 0, and enters every average.
    - k of top-k is 5, or the number of classes where there are fewer; `top_k` says which.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from tubelet.errors import DataError
from tubelet.metrics.binary import BinaryCurve, measure_curve
from tubelet.metrics.intervals import Interval, estimate_wilson
from tubelet.metrics.ranking import Ranking, to_plain

__all__ = [
    "Averages",
    "ClassMetrics",
    "ClassificationMetrics",
    "average_f1",
    "count_confusion",
    "format_report",
    "lay_out_row",
    "measure_classification",
    "rank_labels",
]

Scores = Float64[np.ndarray, "n classes"]
Labels = Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class ClassMetrics:
    """Hold what was measured for one class."""

    name: str
    """The class's name."""
    precision: float | None
    """Of the clips predicted as this class, the share that was right, 0..1; 0 where none was predicted; None where the
    data hold no clip of the class."""
    recall: float | None
    """Of the clips of this class, the share that was found, 0..1; None where the data hold none."""
    f1: float | None
    """Harmonic mean of precision and recall, 0..1; None where the data hold no clip of the class."""
    support: int
    """Clips of this class in the data."""
    predicted: int
    """Clips that were predicted as this class."""
    auc: float | None
    """Area under the ROC curve of this class against the rest: how often one of its clips scores higher for it than
    one of another class, 0..1; by chance 0.5; None where all clips are of it, or none."""
    average_precision: float | None
    """How far its clips are ranked before the others by its score, 0..1; by chance their share; None where the data
    hold none."""


@dataclass(frozen=True)
class Averages:
    """Hold averages over the classes that the data hold."""

    precision: float
    """Average precision over classes, 0..1 (not the area under a curve)."""
    recall: float
    """Average recall, 0..1."""
    f1: float
    """Average F1, 0..1."""


@dataclass(frozen=True, eq=False)
class ClassificationMetrics:
    """Hold every number that a report shows about one set of scored clips."""

    count: int
    """Clips that were scored."""
    top1: float
    """Share of clips whose label has the highest score, 0..1: the accuracy."""
    top1_interval: Interval
    """95 % Wilson interval of `top1`, as if clips were independent."""
    k: int
    """The k of `top_k`: 5, or the number of classes where there are fewer."""
    top_k: float
    """Share of clips whose label is among the k highest scores, 0..1."""
    balanced_accuracy: float
    """Mean recall of the classes that the data hold, 0..1: the accuracy if all of them were equally frequent."""
    macro: Averages
    """Plain means over the classes that the data hold: rare classes count as much as frequent ones."""
    weighted: Averages
    """Means weighted by support: every clip counts alike."""
    mean_ap: float
    """Mean of the classes' average precision, 0..1."""
    mean_auc: float | None
    """Mean of the classes' area under the ROC curve, one against the rest; None where the data hold one class."""
    curve: BinaryCurve | None
    """Precision, recall and F1 at every threshold of the second class; None for other than two classes, and where the
    data do not hold both."""
    per_class: tuple[ClassMetrics, ...]
    """One entry for each class, in index order."""
    confusion: Int64[np.ndarray, "classes classes"] = field(repr=False)
    """Clips by label (row) and prediction (column)."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name the classes in index order."""
        return tuple(entry.name for entry in self.per_class)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists that `json` can write; None stands for what was not measurable."""
        return asdict(replace(self, curve=None)) | {
            "curve": self.curve and self.curve.to_dict(),
            "per_class": [asdict(entry) for entry in self.per_class],
            "confusion": self.confusion.tolist(),
        }


def measure_classification(scores: Scores, labels: Labels, classes: Sequence[str]) -> ClassificationMetrics:
    """Measure how well scores name the labels.

    Args:
        scores: float64 (n, classes): probabilities. Figures of the predicted class are the same for logits; those of
            ranks compare clips with each other (AUC, average precision), and are not.
        labels: int64 (n), indices into `classes`.
        classes: names in index order; those without a label are reported but not averaged (see the module).

    Raises:
        DataError: no clip, shapes that contradict each other, a label out of range, or a score that is nan.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> metrics = measure_classification(scores, np.array([0, 1, 1]), ["run", "walk"])
        >>> round(metrics.top1, 3), metrics.per_class[1].recall, metrics.k
        (0.667, 0.5, 2)

    Cost: 0.1 s for 1,000 clips of 100 classes.
    """
    _check_scores(scores, labels, classes)
    ranks = rank_labels(scores, labels)
    confusion = count_confusion(scores.argmax(1), labels, len(classes))
    (precisions,), (areas,) = Ranking(scores, labels[:, None] == np.arange(len(classes))).measure(
        np.ones((1, len(labels)))
    )
    per_class = _measure_classes(confusion, classes, areas, precisions)
    measured = [entry for entry in per_class if entry.support]
    macro = _average(measured, [1] * len(measured))
    has_curve = len(classes) == 2 and len(measured) == 2
    k = min(5, len(classes))
    right = int(np.count_nonzero(ranks == 0))
    return ClassificationMetrics(
        count=len(labels),
        top1=right / len(labels),
        top1_interval=estimate_wilson(right, len(labels)),
        k=k,
        top_k=float(np.mean(ranks < k)),
        balanced_accuracy=macro.recall,
        macro=macro,
        weighted=_average(measured, [entry.support for entry in measured]),
        mean_ap=float(np.nanmean(precisions)),
        mean_auc=None if np.isnan(areas).all() else float(np.nanmean(areas)),
        curve=measure_curve(scores[:, 1], labels == 1, classes[1]) if has_curve else None,
        per_class=per_class,
        confusion=confusion,
    )


def rank_labels(scores: Scores, labels: Labels) -> Labels:
    """Count, for each clip, the classes that come before its label: 0 where the label has the highest score.

    Of equal scores the lower index comes first, so that a model that cannot decide is not right for every label.

    Example:
        >>> rank_labels(np.array([[0.5, 0.5, 0.1], [0.5, 0.5, 0.1]]), np.array([0, 1])).tolist()
        [0, 1]
    """
    own = np.take_along_axis(scores, labels[:, None], 1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    ranks: Labels = np.count_nonzero((scores > own) | ((scores == own) & before), axis=1)
    return ranks


def count_confusion(predictions: Labels, labels: Labels, num_classes: int) -> Int64[np.ndarray, "classes classes"]:
    """Count clips by label (row) and prediction (column); counts of parts of the data may be added up.

    Example:
        >>> count_confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    cells = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def average_f1(confusion: Int64[np.ndarray, "classes classes"]) -> float:
    """Return macro-averaged F1 alone, fast enough to be called for every bootstrap resample; nan where nothing counts.

    Example:
        >>> confusion = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
        >>> round(average_f1(confusion), 3)
        0.667
    """
    support = confusion.sum(1)
    present = support > 0
    if not present.any():
        return float("nan")
    return float(np.mean(2 * confusion.diagonal()[present] / (support + confusion.sum(0))[present]))


def format_report(metrics: ClassificationMetrics, digits: int = 2) -> str:
    """Lay the metrics out as text, in the columns of scikit-learn's `classification_report`.

    A dash stands where the data hold no clip of a class; such classes enter no average.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> print(format_report(measure_classification(scores, np.array([0, 1, 1]), ["run", "walk"])))
                      precision    recall  f1-score   support
        <BLANKLINE>
                 run       0.50      1.00      0.67         1
                walk       1.00      0.50      0.67         2
        <BLANKLINE>
            accuracy                           0.67         3
           macro avg       0.75      0.75      0.67         3
        weighted avg       0.83      0.67      0.67         3
        <BLANKLINE>
    """
    width = max(len("weighted avg"), digits, *map(len, metrics.classes))

    lay_out = partial(lay_out_row, width, digits)
    lines = [lay_out("", "precision", "recall", "f1-score", "support"), ""]
    lines += [lay_out(one.name, one.precision, one.recall, one.f1, one.support) for one in metrics.per_class]
    lines += ["", lay_out("accuracy", "", "", metrics.top1, metrics.count)]
    for name, means in (("macro avg", metrics.macro), ("weighted avg", metrics.weighted)):
        lines.append(lay_out(name, means.precision, means.recall, means.f1, metrics.count))
    return "\n".join(lines) + "\n"


def lay_out_row(width: int, digits: int, name: str, *cells: str | int | float | None) -> str:
    """Lay out one line of a report; None becomes a dash."""
    texts = ["-" if cell is None else f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell) for cell in cells]
    return f"{name:>{width}} " + "".join(f" {text:>9}" for text in texts)


def _measure_classes(
    confusion: Int64[np.ndarray, "classes classes"],
    classes: Sequence[str],
    areas: Float64[np.ndarray, " classes"],
    precisions: Float64[np.ndarray, " classes"],
) -> tuple[ClassMetrics, ...]:
    entries = []
    counts = (confusion.diagonal().tolist(), confusion.sum(1).tolist(), confusion.sum(0).tolist())
    for name, right, support, predicted, area, precision in zip(classes, *counts, areas, precisions, strict=True):
        absent = support == 0
        entries.append(
            ClassMetrics(
                name=name,
                precision=None if absent else right / max(predicted, 1),
                recall=None if absent else right / support,
                f1=None if absent else 2 * right / (support + predicted),
                support=support,
                predicted=predicted,
                auc=to_plain(area),
                average_precision=to_plain(precision),
            )
        )
    return tuple(entries)


def _average(measured: Sequence[ClassMetrics], weights: Sequence[int]) -> Averages:
    table = np.array([(entry.precision, entry.recall, entry.f1) for entry in measured], dtype=np.float64)
    precision, recall, f1 = np.average(table, axis=0, weights=weights).tolist()
    return Averages(precision, recall, f1)


def _check_scores(scores: Scores, labels: Labels, classes: Sequence[str]) -> None:
    if len(labels) == 0 or scores.shape != (len(labels), len(classes)):
        raise DataError(
            f"measuring needs one row of scores for each clip and one column for each class - found scores "
            f"{scores.shape}, {len(labels)} labels and {len(classes)} classes - check what was scored."
        )
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(
            f"labels must lie in 0..{len(classes) - 1} - found {labels.min()}..{labels.max()} - "
            "check that data and model have the same class list."
        )
    if np.isnan(scores).any():
        raise DataError(
            f"scores must be numbers - found nan for {np.isnan(scores).any(1).sum()} of {len(labels)} clips - "
            "look at the model's weights and at the first clip that gives nan."
        )
