"""Measure segments found in long videos: mean average precision by overlap in time.

    true     |------ jump ------|                 overlap (temporal IoU) = common seconds / seconds of either
    found        |------ jump -------|

Of each class, the segments found are taken from the surest on. One is right where it overlaps a true segment of its
class and video by the threshold or more, and no surer one has taken that; of several, it takes the one it overlaps
most. The average precision is the area under precision by recall, precision at each recall being the best one at that
recall or a higher one. Classes without a true segment do not count.

Source: the evaluation of ActivityNet 1.3 (Heilbron et al. 2015), `eval_detection.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from tubelet.errors import DataError

__all__ = ["OVERLAPS", "LabeledSpan", "SegmentMetrics", "measure_overlaps", "measure_segments"]

OVERLAPS = (0.3, 0.5, 0.7)
"""Thresholds that are reported."""
_ACTIVITYNET = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


class LabeledSpan(NamedTuple):
    """Name a part of a video."""

    video: str
    label: str
    start_s: float
    end_s: float
    score: float = 1.0
    """How sure it is; of no meaning in the truth."""


@dataclass(frozen=True)
class SegmentMetrics:
    """Hold how well segments were found."""

    mean_ap: dict[float, float]
    """Mean average precision at each threshold of overlap, 0..1."""
    average_map: float
    """The mean of those at 0.5, 0.55 .. 0.95: ActivityNet's figure."""
    per_class: dict[str, dict[float, float]]
    """The average precision of each class that has a true segment, at each threshold."""
    n_true: int
    n_found: int
    n_videos: int
    """Videos with a true segment or one that was found."""

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return {
            "mean_ap": {str(threshold): value for threshold, value in self.mean_ap.items()},
            "average_map": self.average_map,
            "per_class": {
                name: {str(threshold): value for threshold, value in values.items()}
                for name, values in self.per_class.items()
            },
            "true": self.n_true,
            "found": self.n_found,
            "videos": self.n_videos,
        }


def measure_segments(
    found: Sequence[LabeledSpan], true: Sequence[LabeledSpan], overlaps: Sequence[float] = OVERLAPS
) -> SegmentMetrics:
    """Measure segments of any number of videos against the true ones.

    Args:
        found: in any order; of equally sure ones the first counts as surer.
        true: in any order.
        overlaps: thresholds, 0 to 1.

    Raises:
        DataError: there is no true segment.

    Example:
        >>> true = [LabeledSpan("a", "jump", 0, 10), LabeledSpan("a", "jump", 20, 30)]
        >>> found = [LabeledSpan("a", "jump", 1, 11, 0.9), LabeledSpan("a", "jump", 25, 35, 0.8)]
        >>> measure_segments(found, true).mean_ap
        {0.3: 1.0, 0.5: 0.5, 0.7: 0.5}
    """
    if not true:
        raise DataError(
            "cannot measure segments - there is no true one - name the videos and classes as the truth does."
        )
    classes = sorted({span.label for span in true})
    wanted = (*overlaps, *_ACTIVITYNET)
    figures = {}
    for name in classes:
        figures[name] = _average_precisions(
            [span for span in found if span.label == name], [span for span in true if span.label == name], wanted
        )
    means = np.array([figures[name] for name in classes]).mean(axis=0)
    count = len(overlaps)
    return SegmentMetrics(
        mean_ap=dict(zip(overlaps, means[:count].tolist(), strict=True)),
        average_map=float(means[count:].mean()),
        per_class={name: dict(zip(overlaps, figures[name][:count].tolist(), strict=True)) for name in classes},
        n_true=len(true),
        n_found=len(found),
        n_videos=len({span.video for span in (*found, *true)}),
    )


def measure_overlaps(one: LabeledSpan, others: Sequence[LabeledSpan]) -> Float64[np.ndarray, " other"]:
    """Measure the temporal IoU of a segment with others of the same video, 0..1."""
    starts, ends = (np.array([getattr(span, name) for span in others]) for name in ("start_s", "end_s"))
    common = np.maximum(np.minimum(ends, one.end_s) - np.maximum(starts, one.start_s), 0.0)
    either = (ends - starts) + (one.end_s - one.start_s) - common
    overlaps: Float64[np.ndarray, " other"] = common / np.maximum(either, 1e-12)
    return overlaps


def _average_precisions(
    found: Sequence[LabeledSpan], true: Sequence[LabeledSpan], thresholds: Sequence[float]
) -> Float64[np.ndarray, " threshold"]:
    """Measure one class at every threshold."""
    by_video: dict[str, list[LabeledSpan]] = {}
    for span in true:
        by_video.setdefault(span.video, []).append(span)
    ranked = sorted(found, key=lambda span: -span.score)
    overlaps = [measure_overlaps(span, by_video.get(span.video, [])) for span in ranked]
    figures = []
    for threshold in thresholds:
        is_taken = {video: np.zeros(len(spans), bool) for video, spans in by_video.items()}
        is_right = [
            _take(each, is_taken.get(span.video, np.zeros(0, bool)), threshold)
            for span, each in zip(ranked, overlaps, strict=True)
        ]
        figures.append(_measure_area(np.array(is_right, bool), len(true)))
    return np.array(figures, np.float64)


def _take(overlaps: Float64[np.ndarray, " true"], is_taken: Bool[np.ndarray, " true"], threshold: float) -> bool:
    """Take the free true segment with the most overlap, if that suffices."""
    # The hair lets 3 of 10 seconds be 0.3 of them whatever the rounding.
    free = np.where(is_taken | (overlaps < threshold - 1e-9), -1.0, overlaps)
    if not len(free) or free.max() < 0:
        return False
    is_taken[int(free.argmax())] = True
    return True


def _measure_area(is_right: Bool[np.ndarray, " found"], count: int) -> float:
    hits = np.cumsum(is_right)
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[is_right].sum() / count)
