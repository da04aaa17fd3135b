"""Recognize clips that show the same pictures, whatever their codec, size, rate or name, and if cut a little smaller.

    clip --> 32 moments of 16 x 16 gray --> [ what stays: the mean | where things move | what changes, and when ]

    all pairs   mean pictures and places of motion alike, and lengths            two matrix products: few pairs remain
    these       one picture cut to fit the other, then one shifted in time       what stays and what changes must agree

Two clips are called near duplicates where both halves agree. The first alone would call every clip of a camera that
stands still a duplicate of the others; the second tells apart what happened before it.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

__all__ = ["MOMENTS", "SIDE", "Fingerprint", "find_near_duplicates", "make_fingerprint"]

MOMENTS = 32
"""Frames that are compared, spread evenly over the clip."""
SIDE = 16
"""Pixels of a side of the small pictures."""

SAME_PICTURE = 0.9
"""Least correlation of the mean pictures, after the best cut."""
SAME_CHANGE = 0.8
"""Least correlation of the changes, after the best shift in time, where the backgrounds agree."""
SAME_BACKGROUND = 0.85
"""Least correlation of the median pictures, after the same cut."""
SAME_CHANGE_ALONE = 0.92
"""Least correlation of the changes where the backgrounds tell nothing: things that move before a plain wall."""
SAME_STILL = 0.999
"""Least correlation of the mean pictures where nothing moves that could be compared."""
_ALIKE = 0.55
"""Least correlation, before any cut, of the mean pictures and of the places of motion for a closer look."""
_MOST_LONGER = 2.5
"""How many times as long one of two clips may be."""
_LEAST_SHARED = 0.7
"""Least part of the shorter clip that the two must share."""
_LITTLE_CHANGE = 0.6
"""Deviation of the changes, in gray levels of 255, below which coding noise is as large."""
_BLOCK = 1024


@dataclass(frozen=True)
class Fingerprint:
    """Hold what a clip looks like."""

    frames: UInt8[np.ndarray, "moment row column"]
    """Small gray pictures of its moments."""
    times_s: Float64[np.ndarray, " moment"]
    """When they are shown, in seconds from the first."""
    duration_s: float

    @cached_property
    def still(self) -> Float32[np.ndarray, " pixel"]:
        """The mean picture, with mean 0 and length 1; all zeros for a plain one."""
        return _normalize(self.frames.astype(np.float32).mean(axis=0).reshape(-1))

    @cached_property
    def moves(self) -> bool:
        """Whether more changes than coding noise."""
        values = self.frames.astype(np.float32)
        return float((values - values.mean(axis=0)).std()) > _LITTLE_CHANGE

    @cached_property
    def places(self) -> Float32[np.ndarray, " pixel"]:
        """Where things move: the deviation of each pixel over time, with mean 0 and length 1."""
        return _normalize(_halve(self.frames.astype(np.float32)).std(axis=0).reshape(-1))


def make_fingerprint(
    frames: UInt8[np.ndarray, "moment row column"], times_s: Float64[np.ndarray, " moment"], duration_s: float
) -> Fingerprint:
    """Make the fingerprint of a clip from small gray pictures of its moments."""
    return Fingerprint(frames, times_s - times_s[0], duration_s)


def _normalize(values: Float32[np.ndarray, " value"]) -> Float32[np.ndarray, " value"]:
    centered = values - values.mean()
    length = float(np.linalg.norm(centered))
    normalized: Float32[np.ndarray, " value"] = centered / length if length > 1e-3 else np.zeros_like(centered)
    return normalized


def _halve(frames: Float32[np.ndarray, "moment row column"]) -> Float32[np.ndarray, "moment row2 column2"]:
    """Take means of 2 x 2 pixels: motion in coarser pictures forgives a cut and a moment in between."""
    moments, rows, columns = frames.shape
    halved: Float32[np.ndarray, "moment row2 column2"] = frames.reshape(moments, rows // 2, 2, columns // 2, 2).mean(
        (2, 4)
    )
    return halved


def find_near_duplicates(
    prints: Sequence[Fingerprint], kinds: Sequence[Hashable] | None = None
) -> list[tuple[int, int]]:
    """List the pairs of clips that show the same pictures, as (earlier, later) indices.

    Args:
        prints: of all clips.
        kinds: of each clip. A clip that shows the same as an earlier one of its kind is compared with none after it:
            the earlier one stands for both, so that thousands that are alike take minutes, not days.

    Cost: two matrix products of 320 numbers a pair, in blocks that fit into memory; 6 ms for each pair that is alike.
    """
    covered: set[int] = set()
    pairs = []
    for a, b in _find_candidates(prints):
        if a not in covered and _is_same(prints[a], prints[b]):
            pairs.append((a, b))
            if kinds is not None and kinds[a] == kinds[b]:
                covered.add(b)
    return pairs


def _find_candidates(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Name the pairs that are worth a closer look, as (earlier, later) indices."""
    if not prints:
        return
    stills = np.stack([own.still for own in prints])
    places = np.stack([own.places for own in prints])
    durations = np.array([own.duration_s for own in prints])
    for start in range(0, len(prints), _BLOCK):
        rows = slice(start, start + _BLOCK)
        longer = durations[rows, None] / np.maximum(durations, 1e-9)
        alike: Bool[np.ndarray, "row column"] = (longer < _MOST_LONGER) & (longer > 1 / _MOST_LONGER)
        alike &= (stills[rows] @ stills.T > _ALIKE) & (places[rows] @ places.T > _ALIKE)
        # Where nothing moves, only noise has places.
        alike |= stills[rows] @ stills.T > SAME_STILL
        yield from ((start + int(a), int(b)) for a, b in zip(*np.nonzero(alike), strict=True) if start + a < b)


def _is_same(one: Fingerprint, other: Fingerprint) -> bool:
    if not one.moves and not other.moves:
        near = abs(one.duration_s - other.duration_s) <= 0.1 * max(one.duration_s, other.duration_s) + 0.05
        return bool(one.still @ other.still > SAME_STILL) and near
    if not (one.moves and other.moves):
        return False
    likeness, first, second = _cut_to_fit(one, other)
    if likeness < SAME_PICTURE:
        return False
    change = _compare_changes(one, other, _halve(first), _halve(second))
    if change < SAME_CHANGE or change > SAME_CHANGE_ALONE:
        return change > SAME_CHANGE_ALONE
    # The mean holds traces of what moves; the median is what stands behind it.
    backgrounds = [_normalize(np.median(frames, axis=0).reshape(-1)) for frames in (first, second)]
    return bool(backgrounds[0] @ backgrounds[1] > SAME_BACKGROUND)


@lru_cache(maxsize=1)
def _make_cuts() -> Float32[np.ndarray, "cut row row"]:
    """Make matrices that resample a line of pixels to a part: the whole first, then 80 to 97 % at three places."""
    cuts = []
    sizes = (0.97, 0.94, 0.9, 0.85, 0.8)
    for start, part in [(0.0, 1.0), *((place * (1 - part), part) for part in sizes for place in (0.0, 0.5, 1.0))]:
        places = (start + (np.arange(SIDE) + 0.5) * part / SIDE) * SIDE - 0.5
        cuts.append(np.maximum(0, 1 - np.abs(places.clip(0, SIDE - 1)[:, None] - np.arange(SIDE))))
    return np.stack(cuts).astype(np.float32)


def _cut_to_fit(
    one: Fingerprint, other: Fingerprint
) -> tuple[float, Float32[np.ndarray, "moment row column"], Float32[np.ndarray, "moment row column"]]:
    """Cut one of two clips so that their mean pictures agree best; return how well, and the pictures of both."""
    first, second = one.frames.astype(np.float32), other.frames.astype(np.float32)
    cut_second, of_second = _cut_best(second, first)
    cut_first, of_first = _cut_best(first, second)
    if of_second > of_first:
        return of_second, first, cut_second
    return of_first, cut_first, second


def _cut_best(
    frames: Float32[np.ndarray, "moment row column"], wanted: Float32[np.ndarray, "moment row column"]
) -> tuple[Float32[np.ndarray, "moment row column"], float]:
    """Cut pictures at the sides so that their mean comes nearest to that of others."""
    cuts = _make_cuts()
    by_row = np.einsum("cij,jk->cik", cuts, frames.mean(axis=0))
    tried = np.einsum("cik,dlk->cdil", by_row, cuts).reshape(len(cuts) ** 2, -1)
    tried = tried - tried.mean(axis=1, keepdims=True)
    likeness = tried @ _normalize(wanted.mean(axis=0).reshape(-1)) / np.maximum(np.linalg.norm(tried, axis=1), 1e-3)
    best = int(likeness.argmax())
    rows, columns = cuts[best // len(cuts)], cuts[best % len(cuts)]
    return np.einsum("ij,tjk,lk->til", rows, frames, columns, optimize=True), float(likeness[best])


def _compare_changes(
    one: Fingerprint,
    other: Fingerprint,
    first: Float32[np.ndarray, "moment row column"],
    second: Float32[np.ndarray, "moment row column"],
) -> float:
    """Return the correlation of what changes, at the shift in time where it is greatest.

    Moment by moment first: the same frames, told to be shown at another rate, agree without regard to seconds.
    """
    best = _correlate(first.reshape(MOMENTS, -1), second.reshape(MOMENTS, -1))
    lengths = [float(own.times_s[-1]) for own in (one, other)]
    if min(lengths) <= 0:
        return best
    step = min(lengths) / (MOMENTS - 1)
    a, b = (_resample(own.times_s, pictures, step) for own, pictures in ((one, first), (other, second)))
    least = max(int(_LEAST_SHARED * min(len(a), len(b))), 2)
    for shift in range(least - len(b), len(a) - least + 1):
        count = min(len(a), shift + len(b)) - max(shift, 0)
        if count >= least:
            shared = a[max(shift, 0) :][:count], b[max(-shift, 0) :][:count]
            best = max(best, _correlate(*shared))
    return best


def _resample(
    times_s: Float64[np.ndarray, " moment"], frames: Float32[np.ndarray, "moment row column"], step: float
) -> Float32[np.ndarray, "time pixel"]:
    """Blend pictures so that they stand at even steps of time."""
    wanted = np.arange(int(times_s[-1] / step + 1e-6) + 1) * step
    after = np.searchsorted(times_s, wanted).clip(1, len(times_s) - 1)
    before = after - 1
    gap = np.maximum(times_s[after] - times_s[before], 1e-9)
    weight = ((wanted - times_s[before]) / gap).clip(0, 1).astype(np.float32)[:, None]
    flat = frames.reshape(len(frames), -1)
    blended: Float32[np.ndarray, "time pixel"] = flat[before] * (1 - weight) + flat[after] * weight
    return blended


def _correlate(one: Float32[np.ndarray, "time pixel"], other: Float32[np.ndarray, "time pixel"]) -> float:
    """Correlate what two rows of pictures add to their means; 0 where one of them hardly changes."""
    first, second = one - one.mean(axis=0), other - other.mean(axis=0)
    lengths = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    if min(lengths) < _LITTLE_CHANGE * np.sqrt(first.size):
        return 0.0
    return float((first * second).sum()) / (lengths[0] * lengths[1])
