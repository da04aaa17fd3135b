"""Measure timelines against a table of what really happens when."""

import os
from collections.abc import Sequence
from pathlib import Path

from tubelet.data.sample import check_problems
from tubelet.data.tables import read_table
from tubelet.errors import DataError
from tubelet.metrics import LabeledSpan, SegmentMetrics, measure_segments
from tubelet.prediction.timeline import Timeline

__all__ = ["evaluate_timelines", "read_truth"]


def read_truth(path: str | os.PathLike[str]) -> list[LabeledSpan]:
    """Read a table of true segments: path, start_s, end_s, label.

    Any table that `tubelet train` takes will do; a line with several labels stands for a segment of each.

    Raises:
        DataError: no such table, or wrong lines, which are all named.
    """
    reading = read_table(Path(path))
    check_problems(os.fspath(path), reading.problems)
    return [
        LabeledSpan(_resolve(sample.source), label, *sample.span_s)
        for sample in reading.samples
        for label in sample.labels
    ]


def evaluate_timelines(timelines: Sequence[Timeline], true: Sequence[LabeledSpan]) -> SegmentMetrics:
    """Measure how well timelines agree with the truth.

    Args:
        timelines: of different videos. One of which the truth says nothing counts as one in which nothing happens.
        true: of these videos, and perhaps of others, which do not count; `read_truth` reads it.

    Raises:
        DataError: the truth speaks of none of the videos.
    """
    videos = {_resolve(timeline.source): timeline for timeline in timelines}
    mine = [span for span in true if span.video in videos]
    if not mine:
        raise DataError(
            f"cannot measure timelines - the truth has no segment of {', '.join(map(repr, list(videos)[:3]))} - its "
            "paths start at the folder of the table: correct them, or name the videos that it speaks of."
        )
    return measure_segments(
        [
            LabeledSpan(video, one.name, one.start_s, one.end_s, one.score)
            for video, timeline in videos.items()
            for one in timeline.known
        ],
        [span._replace(end_s=min(span.end_s, videos[span.video].duration_s)) for span in mine],
    )


def _resolve(path: str) -> str:
    return os.path.realpath(path)
