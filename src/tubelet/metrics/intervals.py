"""State how sure a measured number is: 95 % intervals for proportions and for anything that can be resampled."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Int64

from tubelet.errors import DataError

__all__ = ["Interval", "estimate_bootstrap", "estimate_wilson"]

Rows = Int64[np.ndarray, " row"]


@dataclass(frozen=True)
class Interval:
    """Hold a confidence interval, both ends included."""

    low: float
    """Lower end, in the unit of the number it belongs to."""
    high: float
    """Upper end."""
    level: float = 0.95
    """How often, in repeated measurements, such an interval holds the true value; 0..1."""


def estimate_wilson(successes: int, count: int, level: float = 0.95) -> Interval:
    """Return the Wilson score interval of a proportion, such as an accuracy.

    Why: it stays inside 0..1 and is honest for few clips and for accuracies near 1, where the usual plus-minus is not.
    It takes the clips as independent; where several come from one source, use `estimate_bootstrap` over sources.

    Args:
        successes: clips that were right, 0..count.
        count: clips in all, at least 1.
        level: confidence, 0..1 without the ends.

    Raises:
        DataError: no clip, or more successes than clips.

    Example:
        >>> interval = estimate_wilson(8, 10)
        >>> f"{interval.low:.2f} to {interval.high:.2f}"
        '0.49 to 0.94'

    Source: E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).
    """
    if not 0 <= successes <= count or count == 0:
        raise DataError(
            f"an interval needs 0 <= successes <= count and at least one clip - found {successes} of {count} - "
            "count the clips that were scored."
        )
    share = successes / count
    squared = NormalDist().inv_cdf((1 + level) / 2) ** 2
    middle = (share + squared / (2 * count)) / (1 + squared / count)
    half = sqrt(squared * (share * (1 - share) / count + squared / (4 * count**2))) / (1 + squared / count)
    # At the two ends the formula gives 0 and 1 exactly; arithmetic does not.
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == count else min(1.0, middle + half)
    return Interval(low, high, level)


def estimate_bootstrap(
    statistic: Callable[[Rows], float],
    count: int,
    generator: np.random.Generator,
    *,
    groups: Int64[np.ndarray, " count"] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval | None:
    """Return the percentile bootstrap interval of any statistic of clips, resampling clips or whole groups of them.

    Why groups: clips cut from one recording are right or wrong together; resampling them one by one makes the interval
    far too narrow.

    Args:
        statistic: computes the number from row indices (repeats included); resamples that give nan are left out.
        count: number of rows.
        generator: source of chance; equal generators give equal intervals.
        groups: for each row, which group it belongs to (any integers); None resamples single rows.
        resamples: more make the ends steadier: at 1000 they move by about a tenth of the interval's half width.
        level: confidence, 0..1 without the ends.

    Returns:
        The interval, or None where there are fewer than two rows or groups: one unit says nothing about spread.

    Example:
        >>> right = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0])
        >>> interval = estimate_bootstrap(lambda rows: right[rows].mean(), 8, np.random.default_rng(0))
        >>> f"{interval.low:.2f} to {interval.high:.2f}"
        '0.50 to 1.00'

    Cost: `resamples` calls of `statistic`.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    members = _list_members(count, groups)
    if len(members) < 2:
        return None
    values = np.empty(resamples)
    for resample in range(resamples):
        chosen = generator.integers(len(members), size=len(members))
        values[resample] = statistic(chosen if groups is None else np.concatenate([members[group] for group in chosen]))
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def _list_members(count: int, groups: Int64[np.ndarray, " count"] | None) -> list[Rows]:
    if groups is None:
        return [np.array([row]) for row in range(count)]
    if len(groups) != count:
        raise DataError(
            f"every row needs its group - found {len(groups)} groups for {count} rows - pass one integer for each row."
        )
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
