"""Measure whether probabilities can be taken at their word: of the clips called 80 % sure, are 80 % right?"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from tubelet.errors import DataError

__all__ = ["CalibrationBin", "CalibrationMetrics", "measure_calibration"]


@dataclass(frozen=True)
class CalibrationBin:
    """Hold the answers whose confidence lies in [low, high), and in the last bin 1 as well."""

    low: float
    """Lowest confidence of the bin."""
    high: float
    """Highest."""
    confidence: float | None
    """Mean confidence of the answers in it, 0..1; None where there are none."""
    accuracy: float | None
    """Share of them that is right, 0..1; None where there are none."""
    count: int
    """Answers in it."""


@dataclass(frozen=True)
class CalibrationMetrics:
    """Hold how far confidence and accuracy lie apart."""

    ece: float
    """Expected calibration error: mean distance of confidence and accuracy over the bins, weighted by count, 0..1. It
    depends on the number of bins, and is above 0 by chance for few clips, even of a perfect model."""
    brier: float
    """Mean squared distance of probabilities and truth, summed over classes, 0..2 (0..1 of multi-label, where each
    class is a question of its own)."""
    nll: float
    """Mean negative logarithm of the probability of the truth (log loss), in nats; probabilities below 2e-16 count as
    that."""
    bins: tuple[CalibrationBin, ...]
    """The reliability diagram: equally wide bins of confidence."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that `json` can write."""
        return {**asdict(self), "bins": [asdict(one) for one in self.bins]}


def measure_calibration(
    scores: Float64[np.ndarray, "n classes"],
    labels: Int64[np.ndarray, " n"] | Bool[np.ndarray, "n classes"],
    bins: int = 15,
) -> CalibrationMetrics:
    """Measure how well probabilities agree with how often they come true.

    Args:
        scores: float64 (n, classes), probabilities.
        labels: of each clip the index of its class: the confidence is that of the highest class. Or for each class
            whether the clip has it (multi-label): each class's probability is compared with how often clips have it.
        bins: equally wide bins of confidence.

    Raises:
        DataError: no clip, or scores that are no probabilities.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.7, 0.3], [0.7, 0.3], [0.3, 0.7]])
        >>> found = measure_calibration(scores, np.array([0, 0, 1, 1]))
        >>> round(found.ece, 3), round(found.brier, 3)
        (0.05, 0.34)

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), section 2; G. W. Brier, Verification of
    forecasts expressed in terms of probability, Monthly Weather Review 78 (1950).
    """
    if len(scores) == 0 or not ((scores >= 0) & (scores <= 1)).all():
        raise DataError(
            f"calibration needs clips and probabilities in 0..1 - found {len(scores)} clips"
            + (f", scores from {scores.min():.3g} to {scores.max():.3g}" if scores.size else "")
            + " - give softmax or sigmoid outputs."
        )
    tiny = np.finfo(np.float64).eps
    if labels.ndim == 2:
        confidence, right = scores.ravel(), labels.ravel()
        truth = np.where(labels, scores, 1 - scores)
        brier = float(((scores - labels) ** 2).mean())
    else:
        confidence, right = scores.max(1), scores.argmax(1) == labels
        truth = np.take_along_axis(scores, labels[:, None], 1)
        brier = float((np.sum(scores**2, 1) - 2 * truth[:, 0] + 1).mean())
    found = _fill_bins(confidence, right, bins)
    gaps = [one.count * abs((one.confidence or 0.0) - (one.accuracy or 0.0)) for one in found]
    return CalibrationMetrics(
        ece=sum(gaps) / len(confidence),
        brier=brier,
        nll=float(-np.log(np.maximum(truth, tiny)).mean()),
        bins=found,
    )


def _fill_bins(
    confidence: Float64[np.ndarray, " answer"], right: Bool[np.ndarray, " answer"], bins: int
) -> tuple[CalibrationBin, ...]:
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    columns = [np.bincount(place, weights, bins).tolist() for weights in (confidence, right.astype(np.float64), None)]
    found = []
    for low, high, total, hits, count in zip(edges[:-1].tolist(), edges[1:].tolist(), *columns, strict=True):
        confidence_here, accuracy = (total / count, hits / count) if count else (None, None)
        found.append(CalibrationBin(low, high, confidence_here, accuracy, count))
    return tuple(found)
