"""Turn scores over time into segments: which class holds from when to when, and where none does.

    windows     one row of scores each; a window stands for the time nearer to its middle than to any other's
    median      of each class over the windows around: what lasts longer than half of them stays, and its ends stay
                where they are, while a mean would wash them out
    segments    neighbors of the same best class are one; where its median is below the threshold: unknown
    cuts        windows across a cut see two things at once and may be sure of neither: what is unknown for less than
                the length of a window between two classes is shared between them

In a multi-label task each class is a question of its own, answered yes or no at each moment.
"""

import itertools
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy.lib.stride_tricks import sliding_window_view

from tubelet.shapes import Task

__all__ = ["Segment", "find_segments"]

_PART = 4096
"""Windows smoothed at a time: their neighbors are copied for it."""
_LEAST_SUM = 0.5
"""Medians of one row are brought back to a sum of 1 from here on; where classes take turns, none of them is sure."""

Scores = Float32[np.ndarray, "window classes"]


@dataclass(frozen=True)
class Segment:
    """Name what holds in one part of a video."""

    label: str | None
    """The class; None where no class is sure enough."""
    start_s: float
    """In seconds from the first frame."""
    end_s: float
    """In seconds, excluded."""
    score: float
    """Mean smoothed probability of the class in the segment; of "unknown", that of the best class at each moment."""

    @property
    def name(self) -> str:
        """Say how people are told of it."""
        return self.label or "unknown"

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return asdict(self)


def find_segments(
    scores: Scores,
    edges_s: Float64[np.ndarray, " edge"],
    classes: tuple[str, ...],
    *,
    task: Task,
    threshold: float,
    radius: int,
    window_s: float,
) -> tuple[Segment, ...]:
    """Find the segments of a video, in order of time.

    Args:
        scores: the probabilities of each window.
        edges_s: where the part that each window stands for begins, and where the last one ends: one more than windows.
        classes: names in index order.
        task: in a multi-label task, segments of several classes may overlap, and there is no "unknown".
        threshold: the probability below which no class holds, 0 to 1.
        radius: windows before and after each one that the median is taken over; 0 smooths nothing.
        window_s: length of a window.
    """
    smooth = _smooth(scores, radius)
    found: list[Segment] = []
    if task == "multilabel":
        for index in range(len(classes)):
            path = np.where(smooth[:, index] > threshold, index, -1)
            found += [segment for segment in _merge(path, smooth, edges_s, classes) if segment.label is not None]
    else:
        smooth /= np.maximum(smooth.sum(axis=1, keepdims=True), _LEAST_SUM)
        path = np.where(smooth.max(axis=1) < threshold, -1, smooth.argmax(axis=1))
        found = _share_gaps(_merge(path, smooth, edges_s, classes), window_s)
    return tuple(sorted(found, key=lambda segment: (segment.start_s, segment.end_s, segment.name)))


def _smooth(scores: Scores, radius: int) -> Scores:
    """Take the median of each class over 2 `radius` + 1 windows; both ends are mirrored."""
    if radius == 0:
        return scores.copy()
    padded = np.pad(scores, ((radius, radius), (0, 0)), mode="symmetric")
    around = sliding_window_view(padded, 2 * radius + 1, axis=0)
    parts = [np.median(around[first : first + _PART], axis=-1) for first in range(0, len(scores), _PART)]
    return np.concatenate(parts).astype(np.float32)


def _merge(
    path: Int64[np.ndarray, " window"], scores: Scores, edges_s: Float64[np.ndarray, " edge"], classes: tuple[str, ...]
) -> list[Segment]:
    """Make a segment of each run of equal states; below 0 stands for no class."""
    cuts = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    segments = []
    for first, last in itertools.pairwise(cuts):
        index, part = int(path[first]), scores[first:last]
        label = classes[index] if index >= 0 else None
        score = float((part[:, index] if index >= 0 else part.max(axis=1)).mean())
        segments.append(Segment(label, float(edges_s[first]), float(edges_s[last]), score))
    return segments


def _share_gaps(segments: list[Segment], window_s: float) -> list[Segment]:
    """Let each of two classes have half of what is unknown between them, where that is shorter than a window."""
    kept = segments[:1]
    for index in range(1, len(segments)):
        one, after = segments[index], segments[min(index + 1, len(segments) - 1)]
        is_gap = one.label is None and after is not one and kept[-1].label != after.label
        if is_gap and one.end_s - one.start_s < window_s:
            middle_s = (one.start_s + one.end_s) / 2
            kept[-1] = replace(kept[-1], end_s=middle_s)
            segments[index + 1] = replace(after, start_s=middle_s)
        else:
            kept.append(one)
    return kept
