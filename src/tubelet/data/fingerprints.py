"""Recognize clips that show the same pictures, whatever their codec, size or name.

    clip --> 8 moments --> 16 x 16 gray --> [ what stays: the mean picture | what changes: each moment less the mean ]

Two clips are called near duplicates where both halves agree. The first alone would call every clip of a camera that
stands still a duplicate of the others; the second tells apart what happened before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

__all__ = ["MOMENTS", "SIDE", "Fingerprint", "find_near_duplicates", "make_fingerprint"]

MOMENTS = 8
"""Frames that are compared, spread evenly over the clip."""
SIDE = 16
"""Pixels of a side of the small pictures."""

SAME_PICTURE = 0.9
"""Least correlation of the mean pictures."""
SAME_CHANGE = 0.75
"""Least correlation of the changes."""
SAME_STILL = 0.999
"""Least correlation of the mean pictures where nothing moves that could be compared."""
_LITTLE_CHANGE = 1.0
"""Deviation of the changes, in gray levels of 255, below which coding noise is as large."""
_BLOCK = 1024


@dataclass(frozen=True)
class Fingerprint:
    """Hold what a clip looks like."""

    still: Float32[np.ndarray, " pixel"]
    """The mean picture, with mean 0 and length 1; all zeros for a plain one."""
    change: Float32[np.ndarray, " value"]
    """What each moment adds to it, with length 1; all zeros where nothing moves."""
    duration_s: float


def make_fingerprint(frames: UInt8[np.ndarray, "moment row column"], duration_s: float) -> Fingerprint:
    """Make the fingerprint of a clip from small gray pictures of its moments."""
    values = frames.astype(np.float32)
    mean = values.mean(axis=0)
    change = (values - mean).reshape(-1)
    moves = float(change.std()) > _LITTLE_CHANGE
    return Fingerprint(_normalize(mean.reshape(-1)), _normalize(change) if moves else np.zeros_like(change), duration_s)


def _normalize(values: Float32[np.ndarray, " value"]) -> Float32[np.ndarray, " value"]:
    centered = values - values.mean()
    length = float(np.linalg.norm(centered))
    normalized: Float32[np.ndarray, " value"] = centered / length if length > 1e-3 else np.zeros_like(centered)
    return normalized


def find_near_duplicates(prints: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """List the pairs of clips that show the same pictures, as (earlier, later) indices.

    Cost: a matrix product of 2,048 numbers a pair; 10,000 clips take seconds, in blocks that fit into memory.
    """
    if not prints:
        return []
    stills = np.stack([own.still for own in prints])
    changes = np.stack([own.change for own in prints])
    moves = np.array([bool(own.change.any()) for own in prints])
    plain = np.array([not own.still.any() for own in prints])
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(prints), _BLOCK):
        rows = slice(start, start + _BLOCK)
        still = stills[rows] @ stills.T
        both_move = moves[rows, None] & moves[None, :]
        alike = both_move & (still > SAME_PICTURE) & (changes[rows] @ changes.T > SAME_CHANGE)
        alike |= ~moves[rows, None] & ~moves[None, :] & (still > SAME_STILL) & _near(prints, start)
        alike &= ~plain[rows, None] & ~plain[None, :]
        pairs += [(start + int(a), int(b)) for a, b in zip(*np.nonzero(alike), strict=True) if start + a < b]
    return pairs


def _near(prints: Sequence[Fingerprint], start: int) -> Bool[np.ndarray, "row column"]:
    """Tell which clips last about as long: all that is left to compare where nothing moves."""
    durations = np.array([own.duration_s for own in prints])
    rows = durations[start : start + _BLOCK, None]
    near: Bool[np.ndarray, "row column"] = np.abs(rows - durations) <= 0.1 * np.maximum(rows, durations) + 0.05
    return near
