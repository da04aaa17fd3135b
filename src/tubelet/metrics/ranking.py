"""Measure how scores rank clips: average precision and the area under the ROC curve, of each class for itself."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

__all__ = ["Ranking", "average_known", "divide", "to_plain"]

PerClass = Float64[np.ndarray, " classes"]
PerResample = Float64[np.ndarray, "resample classes"]
Rows = Int64[np.ndarray, " row"]
Own = Int64[np.ndarray, " own"]


class _Column(NamedTuple):
    """Hold how the scores of one class order the clips."""

    order: Rows
    """Clips, the highest score first."""
    own: Own
    """Those that have the class, in that order."""
    cuts: Int64[np.ndarray, " cut"]
    """Places between which `order` may be summed up: its ends, and where equals of `own` begin and end."""
    spans: tuple[Own, Own]
    """For each of `own`, the cuts where its equals begin and end."""
    own_spans: tuple[Own, Own]
    """The same, counted in clips that have the class."""


class Ranking:
    """Rank clips by their score for each class, once, and measure any resample of them.

    Equal scores are taken together: in average precision as one threshold, in the area under the ROC curve as half
    won.

    Args:
        scores: float64 (n, classes); only their order within a class matters.
        labels: bool (n, classes): whether a clip has the class.

    Example:
        >>> ranking = Ranking(np.array([[0.9], [0.8], [0.7]]), np.array([[True], [False], [True]]))
        >>> ranking.average_precision().round(3).tolist()
        [0.833]

    Source: of the area, Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143 (1982): the
    share of pairs in which the clip that has the class scores higher.
    """

    def __init__(self, scores: Float64[np.ndarray, "n classes"], labels: Bool[np.ndarray, "n classes"]) -> None:
        self._count = len(scores)
        self._columns = [_rank(own, has) for own, has in zip(scores.T, labels.T, strict=True)]

    def measure(self, repeats: Float64[np.ndarray, "resample n"]) -> tuple[PerResample, PerResample]:
        """Return the average precision and the area under the ROC curve of each class in each resample.

        Args:
            repeats: how often each resample holds each clip.

        Returns:
            Average precision, nan where no clip has the class; area, nan also where all have it.

        Cost: one pass over the clips of each class, which are not ranked again.
        """
        drawn = np.ascontiguousarray(repeats.T)
        precisions, areas = np.empty((2, len(repeats), len(self._columns)))
        for index, column in enumerate(self._columns):
            precisions[:, index], areas[:, index] = _measure_column(drawn, column)
        return precisions, areas

    def average_precision(self, rows: Rows | None = None) -> PerClass:
        """Return the average precision of each class in a choice of rows, repeats included; nan where none has it."""
        precisions, _ = self.measure(self._count_repeats(rows))
        return precisions.reshape(-1)

    def auc(self, rows: Rows | None = None) -> PerClass:
        """Return the area under the ROC curve of each class; nan where all clips have it, or none."""
        _, areas = self.measure(self._count_repeats(rows))
        return areas.reshape(-1)

    def mean_ap(self, rows: Rows | None = None) -> float:
        """Return the mean average precision over the classes that some of the clips have; nan where there are none."""
        return float(average_known(self.average_precision(rows)[None])[0])

    def _count_repeats(self, rows: Rows | None) -> Float64[np.ndarray, "1 n"]:
        repeats = np.ones(self._count) if rows is None else np.bincount(rows, minlength=self._count)
        return repeats.astype(np.float64)[None]


def average_known(values: PerResample) -> Float64[np.ndarray, " resample"]:
    """Average over the classes for which there is a figure; nan where there is none."""
    return divide(np.nansum(values, axis=1), (~np.isnan(values)).sum(1))


def divide(sums: np.ndarray, counts: np.ndarray) -> Float64[np.ndarray, "..."]:
    """Divide, with nan where there is nothing to divide by."""
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def to_plain(value: float) -> float | None:
    """Turn nan into None, as JSON wants it."""
    return None if np.isnan(value) else float(value)


def _rank(scores: Float64[np.ndarray, " n"], has: Bool[np.ndarray, " n"]) -> _Column:
    """Order clips by score, and say where those that have the class lie, and where their equals begin and end."""
    order = np.argsort(-scores, kind="stable")
    places = np.flatnonzero(has[order])
    own, rising = order[places], scores[order[::-1]]
    begin = len(scores) - np.searchsorted(rising, scores[own], side="right")
    end = len(scores) - np.searchsorted(rising, scores[own], side="left")
    cuts = np.unique(np.concatenate([[0, len(scores)], begin, end]))
    spans = (np.searchsorted(cuts, begin), np.searchsorted(cuts, end))
    return _Column(order, own, cuts, spans, (np.searchsorted(places, begin), np.searchsorted(places, end)))


def _measure_column(
    drawn: Float64[np.ndarray, "n resample"], column: _Column
) -> tuple[Float64[np.ndarray, " resample"], Float64[np.ndarray, " resample"]]:
    """Measure one class in each resample; a clip that has it is a hit, any other a miss."""
    weights = drawn[column.own]
    # Summed up between cuts first: rare classes have few, and running sums over all clips would take most of the time.
    ranked_at = _add_up(np.add.reduceat(drawn[column.order], column.cuts[:-1], axis=0))
    ranked_before, ranked = (ranked_at[at] for at in column.spans)
    hits_before, hits = (_add_up(weights)[at] for at in column.own_spans)
    positives, total = weights.sum(0), ranked_at[-1]
    misses = total - positives
    ahead, level = ranked_before - hits_before, (ranked - ranked_before) - (hits - hits_before)
    precision = divide((weights * hits / np.maximum(ranked, 1.0)).sum(0), positives)
    return precision, divide((weights * (misses - ahead - level / 2)).sum(0), positives * misses)


def _add_up(rows: Float64[np.ndarray, "row resample"]) -> Float64[np.ndarray, "sum resample"]:
    """Return the sums of the first 0, 1, 2, ... rows."""
    return np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
