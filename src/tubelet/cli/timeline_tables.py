"""Print timelines and how good they are: tables for people, JSON for programs."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tubelet.errors import VideoError
from tubelet.metrics import SegmentMetrics
from tubelet.prediction.predict import PredictionError
from tubelet.prediction.timeline import Timeline

__all__ = ["print_timeline", "print_timeline_error", "print_timeline_metrics"]


def print_timeline(timeline: Timeline, written: Sequence[Path], *, as_json: bool) -> None:
    """Print the segments of a video, and the files that were made of it."""
    if as_json:
        _print_json({**timeline.to_dict(scores=False), "files": [str(path) for path in written]})
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{timeline.source}: {_write_time(timeline.duration_s)}", markup=False)
    table = Table("from", "to", "what", box=None, header_style="bold")
    table.add_column("score", justify="right")
    for one in timeline.segments:
        style = "dim" if one.label is None else None
        table.add_row(
            _write_time(one.start_s), _write_time(one.end_s), escape(one.name), f"{one.score:.1%}", style=style
        )
    console.print(table)
    for path in written:
        console.print(f"written to {path}", markup=False)


def print_timeline_error(source: str, error: VideoError, *, as_json: bool) -> None:
    """Print why a video has no timeline."""
    if as_json:
        _print_json(PredictionError(source, error.code, str(error)).to_dict())
    else:
        Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), style="red", markup=False)


def print_timeline_metrics(metrics: SegmentMetrics, *, as_json: bool) -> None:
    """Print mean average precision, and that of each class."""
    if as_json:
        _print_json(metrics.to_dict())
        return
    console = Console(highlight=False, soft_wrap=True)
    means = ", ".join(f"{value:.3f} at {overlap:g}" for overlap, value in metrics.mean_ap.items())
    counts = f"{metrics.n_found} found, {metrics.n_true} true, {metrics.n_videos} videos"
    console.print(f"segment mAP {means} of overlap, {metrics.average_map:.3f} on average ({counts})", markup=False)
    table = Table("class", box=None, header_style="bold")
    for overlap in metrics.mean_ap:
        table.add_column(f"AP at {overlap:g}", justify="right")
    for name, values in metrics.per_class.items():
        table.add_row(escape(name), *(f"{value:.3f}" for value in values.values()))
    console.print(table)


def _write_time(time_s: float) -> str:
    hundredths = round(time_s * 100)
    seconds, rest = divmod(hundredths, 100)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:02d}"


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)  # noqa: T201
