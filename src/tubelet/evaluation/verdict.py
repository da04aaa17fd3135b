"""Decide what a model needs of time, from the answers it gave to the same clips played in several ways.

How well a class is told is its recall less the rate of false alarms: how often its own clips are called by its name,
less how often the others are. A model that calls every frozen clip "zoom_in" finds all clips of that class, and tells
nothing. For all classes together it is the accuracy.

    chance      not clearly better in order than by chance         cannot say
    frozen      clearly no loss                                    one frame is enough
    shuffled    clearly no loss                                    several frames, in any order
    reversed    clearly no loss, shuffled a loss                   motion, but not its direction
    shuffled or reversed a loss otherwise                          the order of frames

"Clearly a loss" is an interval of the paired difference above 0; "clearly no loss" is one that ends below a fifth of
what there was to lose. Between them nobody can say. The figures are differences on the same clips.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from tubelet.metrics import Interval

__all__ = ["WORDS", "Change", "Verdict", "decide", "estimate_change", "estimate_class_change"]

Verdict = Literal["order", "motion", "frames", "appearance", "undecided", "chance", "few"]

WORDS: Mapping[Verdict, str] = MappingProxyType(
    {
        "order": "uses the order of frames",
        "motion": "uses motion but not its direction",
        "frames": "needs several frames, in any order",
        "appearance": "one frame is enough: told by appearance",
        "undecided": "cannot say: too few clips to tell a loss from chance",
        "chance": "cannot say: not clearly better than chance",
        "few": "cannot say: too few clips, or groups of clips",
    }
)
"""What each verdict means, for people."""

LEVEL = 0.95
MIN_UNITS = 6
"""Clips, or groups of them, below which nothing is said: of five that all change, chance explains one case in 16."""
NEGLIGIBLE = 0.2
"""Share of what a model can tell that it may lose without needing what was taken away."""

Groups = Int64[np.ndarray, " clip"]


@dataclass(frozen=True)
class Change:
    """Hold a difference, and how far it may be from the truth."""

    value: float
    """What was measured, -1..1."""
    interval: Interval


def estimate_change(differences: Float64[np.ndarray, " clip"], groups: Groups | None = None) -> Change:
    """Estimate the mean of differences that are -1, 0 or 1 for each clip, such as right before less right after.

    Why not a bootstrap: where none of ten clips changed, or all did, it claims to be certain. Clips of one group change
    together, so that their sum is one observation; two more groups of average size are added, half a one up and half a
    one down. Without groups this is the interval of Agresti and Min.

    Args:
        differences: one for each clip; at least one.
        groups: for each clip, which group it belongs to; None: each is its own.

    Example:
        >>> change = estimate_change(np.zeros(10))
        >>> change.value, round(change.interval.high, 2)
        (0.0, 0.16)

    Source: A. Agresti and Y. Min, Simple improved confidence intervals for comparing matched proportions, Statistics in
    Medicine 24 (2005).
    """
    middle, variance = _pool(differences, groups)
    return _make_change(float(differences.mean()), middle, variance)


def estimate_class_change(
    said: Bool[np.ndarray, " clip"],
    said_later: Bool[np.ndarray, " clip"],
    is_own: Bool[np.ndarray, " clip"],
    groups: Groups | None = None,
) -> Change:
    """Estimate how much less well a class is told: the change of its recall less that of its false alarms.

    Args:
        said: whether each clip was given the class.
        said_later: the same, with the clips played in another way; all False measures `said` against chance.
        is_own: which clips are of the class; at least one.
        groups: for each clip, which group it belongs to; none should hold clips of several classes.
    """
    differences = said.astype(np.float64) - said_later
    value = middle = variance = 0.0
    for sign, chosen in ((1, is_own), (-1, ~is_own)):
        if chosen.any():
            part = _pool(differences[chosen], None if groups is None else groups[chosen])
            value += sign * float(differences[chosen].mean())
            middle, variance = middle + sign * part[0], variance + part[1]
    return _make_change(value, middle, variance)


def _pool(differences: Float64[np.ndarray, " clip"], groups: Groups | None) -> tuple[float, float]:
    """Return the mean and its variance, with two groups added."""
    members = np.arange(len(differences)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(members, differences), np.bincount(members)
    size = len(differences) / len(sums)
    total = len(differences) + 2 * size
    middle = float(differences.sum() / total)
    spread = np.square(sums - sizes * middle).sum() + size**2 * (1 + 2 * middle**2)
    return middle, float(spread / total**2)


def _make_change(value: float, middle: float, variance: float) -> Change:
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * variance**0.5
    # A model that does worse than chance loses more than it had: that counts as all.
    low, value, high = (min(1.0, max(-1.0, number)) for number in (middle - half, value, middle + half))
    return Change(value, Interval(low, high, LEVEL))


def decide(skill: Change, losses: Mapping[str, Change], units: int) -> Verdict:
    """Decide what a model, or one class of it, needs of time: the table at the top of this module.

    Args:
        skill: how much better than chance it is with frames in order.
        losses: how much worse it is `frozen`, `shuffled` and `reversed`.
        units: clips, or groups of them, that this was measured on.
    """
    if units < MIN_UNITS:
        return "few"
    if skill.interval.low <= 0:
        return "chance"
    limit = NEGLIGIBLE * skill.value
    frozen, shuffled, backward = (_judge(losses[order], limit) for order in ("frozen", "shuffled", "reversed"))
    if not frozen:
        return "undecided" if frozen is None else "appearance"
    if backward or (shuffled and backward is None):
        return "order"
    if shuffled is None:
        return "undecided"
    return "motion" if shuffled else "frames"


def _judge(loss: Change, limit: float) -> bool | None:
    """Say whether something was lost; None where the interval leaves both open."""
    if loss.interval.high < limit:
        return False
    return True if loss.interval.low > 0 else None
