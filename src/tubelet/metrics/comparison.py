"""Compare two models on the same clips: which of them is better, and could it be chance?

Both were asked about the same clips, so hard clips are hard for both: the clips on which they differ tell more than two
intervals laid side by side, which may overlap where one model is clearly better.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, erfc, sqrt

import numpy as np
from jaxtyping import Bool, Int64

from tubelet.errors import DataError
from tubelet.metrics.intervals import Interval, estimate_bootstrap

__all__ = ["McNemar", "PairedDifference", "compare_paired", "mcnemar"]

EXACT_BELOW = 25
"""Clips on which two models differ, below which the chi-squared distribution is too rough."""

Rows = Int64[np.ndarray, " row"]


@dataclass(frozen=True)
class McNemar:
    """Hold the outcome of McNemar's test: the clips on which exactly one of two models is right."""

    only_a: int
    """Clips that the first is right on and the second wrong."""
    only_b: int
    """Clips that the second is right on and the first wrong."""
    p_value: float
    """How often two equally good models would differ at least so much, 0..1."""
    statistic: float | None
    """Chi squared with continuity correction; None where the binomial distribution was used."""

    @property
    def is_exact(self) -> bool:
        """Whether the binomial distribution was used: below 25 clips that differ."""
        return self.statistic is None


@dataclass(frozen=True)
class PairedDifference:
    """Hold by how much a figure differs between two models on the same clips."""

    difference: float
    """The second model's figure less the first one's."""
    interval: Interval | None
    """Its interval; where it does not hold 0, the difference is more than chance. None for fewer than two clips or
    groups."""


def mcnemar(right_a: Bool[np.ndarray, " clip"], right_b: Bool[np.ndarray, " clip2"]) -> McNemar:
    """Test whether two models are equally often right, from the clips on which only one of them is.

    It takes clips as independent; where several come from one source, believe `compare_paired` over groups instead.

    Args:
        right_a: bool (clip): whether the first model is right.
        right_b: the same of the second, in the same order of clips.

    Raises:
        DataError: different numbers of clips, or none.

    Example:
        >>> right_a = np.array([True] * 50 + [False] * 10)
        >>> right_b = np.array([True] * 42 + [False] * 16 + [True] * 2)
        >>> outcome = mcnemar(right_a, right_b)
        >>> outcome.only_a, outcome.only_b, round(outcome.p_value, 3)
        (8, 2, 0.109)

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12
    (1947); correction: A. L. Edwards, Psychometrika 13 (1948).
    """
    if len(right_a) != len(right_b) or len(right_a) == 0:
        raise DataError(
            f"a comparison needs both models' answers for the same clips - found {len(right_a)} and {len(right_b)} - "
            "score the same clips with both."
        )
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    differing = only_a + only_b
    if differing < EXACT_BELOW:
        tail = sum(comb(differing, count) for count in range(min(only_a, only_b) + 1)) / 2**differing
        return McNemar(only_a, only_b, min(1.0, 2 * tail), None)
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / differing
    return McNemar(only_a, only_b, erfc(sqrt(statistic / 2)), statistic)


def compare_paired(
    measure_a: Callable[[Rows], float],
    measure_b: Callable[[Rows], float],
    count: int,
    generator: np.random.Generator,
    *,
    groups: Int64[np.ndarray, " count"] | None = None,
    resamples: int = 1000,
) -> PairedDifference:
    """Estimate by how much a figure differs between two models, drawing the same clips for both each time.

    Args:
        measure_a: the first model's figure of rows (repeats included), such as its accuracy on them.
        measure_b: the second model's, of the same rows.
        count: number of rows.
        generator: source of chance; equal generators give equal intervals.
        groups: for each row, which group it belongs to; whole groups are drawn. None draws single rows.
        resamples: how often.

    Example:
        >>> a, b = np.array([1.0, 0, 1, 0, 0, 1, 0, 1] * 8), np.array([1.0, 1, 1, 0, 1, 1, 0, 1] * 8)
        >>> found = compare_paired(
        ...     lambda rows: a[rows].mean(), lambda rows: b[rows].mean(), 64, np.random.default_rng(0)
        ... )
        >>> found.difference, found.interval.low > 0
        (0.25, True)

    Cost: `resamples` calls of both measures.
    """

    def measure(rows: Rows) -> float:
        return float(measure_b(rows) - measure_a(rows))

    interval = estimate_bootstrap(measure, count, generator, groups=groups, resamples=resamples)
    return PairedDifference(measure(np.arange(count)), interval)
