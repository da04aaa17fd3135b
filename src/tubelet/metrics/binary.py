"""Measure a choice between two classes at every threshold of the second one's score, the positive class."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from tubelet.errors import DataError
from tubelet.metrics.ranking import Ranking

__all__ = ["BinaryCurve", "measure_curve"]

MAX_POINTS = 200
"""Points of the curve that are written down; a picture shows no more."""

Points = Float64[np.ndarray, " threshold"]


@dataclass(frozen=True, eq=False)
class BinaryCurve:
    """Hold precision, recall and F1 at every threshold: a clip is called positive from that score on."""

    positive: str
    """The class that the thresholds are of: the second of the two."""
    thresholds: Points = field(repr=False)
    """Every score there is, falling, so that recall rises."""
    precision: Points = field(repr=False)
    """Of the clips from the threshold on, the share that is positive, 0..1."""
    recall: Points = field(repr=False)
    """Of the positive clips, the share from the threshold on, 0..1."""
    f1: Points = field(repr=False)
    """Harmonic mean of both, 0..1."""
    auc: float
    """Area under the ROC curve: how often a positive clip scores above a negative one; by chance 0.5."""
    average_precision: float
    """Mean precision over the recalls; by chance the share of positive clips."""

    @property
    def best(self) -> int:
        """Find the place of the highest F1, of equal ones that of the highest threshold.

        It is the best one of these very clips. A threshold to work with is chosen on validation clips.
        """
        return int(self.f1.argmax())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: the figures, the best threshold, and at most 200 points of the curve."""
        best = self.best
        chosen = np.linspace(0, len(self.thresholds) - 1, min(len(self.thresholds), MAX_POINTS)).round().astype(int)
        columns = ("thresholds", "precision", "recall", "f1")
        return {
            "positive": self.positive,
            "auc": self.auc,
            "average_precision": self.average_precision,
            "best_threshold": float(self.thresholds[best]),
            "best_f1": float(self.f1[best]),
            "precision_at_best": float(self.precision[best]),
            "recall_at_best": float(self.recall[best]),
            "curve": {name: getattr(self, name)[chosen].tolist() for name in columns},
        }


def measure_curve(scores: Float64[np.ndarray, " n"], labels: Bool[np.ndarray, " n"], positive: str) -> BinaryCurve:
    """Measure precision, recall and F1 at every threshold.

    Args:
        scores: float64 (n), of the positive class.
        labels: bool (n): whether a clip is positive.
        positive: the positive class's name.

    Raises:
        DataError: all clips are positive, or none is: there is nothing to tell apart.

    Example:
        >>> curve = measure_curve(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False]), "fight")
        >>> curve.recall.tolist(), curve.auc, float(curve.thresholds[curve.best])
        ([0.5, 0.5, 1.0, 1.0], 0.75, 0.7)
    """
    if labels.all() or not labels.any():
        raise DataError(
            f"a threshold curve of '{positive}' needs clips with it and without it - found {int(labels.sum())} of "
            f"{len(labels)} with it - choose other clips."
        )
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    hits, taken, support = np.cumsum(labels[order])[ends], ends + 1, int(labels.sum())
    ranking = Ranking(scores[:, None], labels[:, None])
    return BinaryCurve(
        positive=positive,
        thresholds=falling[ends],
        precision=hits / taken,
        recall=hits / support,
        f1=2 * hits / (taken + support),
        auc=float(ranking.auc()[0]),
        average_precision=float(ranking.average_precision()[0]),
    )
