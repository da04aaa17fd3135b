"""Measure how scores rank clips: average precision and the area under the ROC curve, of each class for itself."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

__all__ = ["Ranking", "average_known", "divide", "to_plain"]

PerClass = Float64[np.ndarray, " classes"]
PerResample = Float64[np.ndarray, "resample classes"]
Rows = Int64[np.ndarray, " row"]
Own = Int64[np.ndarray, " own"]
Column = tuple[Rows, Own, Own, Own]


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
            precisions[:, index], areas[:, index] = _measure_column(drawn, *column)
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


def _rank(scores: Float64[np.ndarray, " n"], has: Bool[np.ndarray, " n"]) -> Column:
    """Order clips by score; of those that have the class, say which they are and where their equals begin and end."""
    order = np.argsort(-scores, kind="stable")
    own = order[has[order]]
    rising = scores[order[::-1]]
    begin = len(scores) - np.searchsorted(rising, scores[own], side="right")
    end = len(scores) - np.searchsorted(rising, scores[own], side="left")
    return order, own, begin, end


def _measure_column(
    drawn: Float64[np.ndarray, "n resample"], order: Rows, own: Own, begin: Own, end: Own
) -> tuple[Float64[np.ndarray, " resample"], Float64[np.ndarray, " resample"]]:
    """Measure one class in each resample; a clip that has it is a hit, any other a miss."""
    through = np.cumsum(drawn[order], axis=0)
    hits_through = np.cumsum(drawn[own], axis=0)
    # Hits are ranked too: how many of them come before a place is how many of their own places lie before it.
    places = np.flatnonzero(np.isin(order, own))
    hits = hits_through[np.searchsorted(places, end) - 1]
    ranked = through[end - 1]
    hits_before, ranked_before = (
        np.where((at > 0)[:, None], sums[np.maximum(at, 1) - 1], 0.0)
        for at, sums in ((np.searchsorted(places, begin), hits_through), (begin, through))
    )
    weights, total = drawn[own], drawn.sum(0)
    misses = total - weights.sum(0)
    ahead, level = ranked_before - hits_before, (ranked - ranked_before) - (hits - hits_before)
    precision = divide((weights * hits / np.maximum(ranked, 1.0)).sum(0), weights.sum(0))
    return precision, divide((weights * (misses - ahead - level / 2)).sum(0), weights.sum(0) * misses)
