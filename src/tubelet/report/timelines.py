"""Draw what happens when in a video: a row for each class that occurs, with its scores, on one axis of time."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64

from tubelet.report.figures import BLUE, GRAY, GREEN, ORANGE, PURPLE, Path_, make_figure, plain, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:  # the test suite checks signatures at run time, where matplotlib is not loaded yet
    Axes = Any

__all__ = ["MAX_ROWS", "draw_timeline"]

MAX_ROWS = 24
"""Classes that get a row, those with the most seconds."""
_COLORS = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#E69F00")
_ROW_IN = 0.42
_POINTS = 2000
"""Scores drawn in a row; more would not be seen."""


def draw_timeline(
    path: Path_,
    spans: Sequence[tuple[str | None, float, float]],
    times_s: Float64[np.ndarray, " window"],
    scores: Mapping[str, Float32[np.ndarray, " window"]],
    duration_s: float,
) -> None:
    """Draw a bar for each segment in the row of its class, with the score of the class over it.

    Args:
        path: the file to write; its ending chooses the format.
        spans: (class, first second, last second); a class of None is unknown, in a gray row of its own.
        times_s: the middle of each window.
        scores: of each class at these times, 0 to 1.
        duration_s: of the video.
    """
    seconds: dict[str | None, float] = {}
    for label, start_s, end_s in spans:
        seconds[label] = seconds.get(label, 0.0) + end_s - start_s
    named = sorted((label for label in seconds if label is not None), key=lambda label: -seconds[label])[:MAX_ROWS]
    # In the order in which they appear, so that a video reads like a staircase.
    named = [label for label in dict.fromkeys(span[0] for span in spans) if label in named and label is not None]
    rows: list[str | None] = [*named, *([None] if None in seconds else [])]
    figure = make_figure(10.5, 1.0 + _ROW_IN * max(len(rows), 1))
    axes = figure.add_subplot(1, 1, 1)
    for row, label in enumerate(rows):
        color = GRAY if label is None else _COLORS[row % len(_COLORS)]
        bars = [(start_s, end_s - start_s) for name, start_s, end_s in spans if name == label]
        axes.broken_barh(bars, (row - 0.42, 0.84), facecolor=color, alpha=0.35 if label else 0.2, edgecolor="white")
        if label is not None:
            _draw_scores(axes, row, times_s, scores[label], color)
    _label_axes(axes, rows, duration_s)
    save_figure(figure, path)


def _draw_scores(
    axes: Axes, row: int, times_s: Float64[np.ndarray, " window"], scores: Float32[np.ndarray, " window"], color: str
) -> None:
    step = math.ceil(len(times_s) / _POINTS)
    axes.plot(times_s[::step], row + 0.42 - 0.84 * scores[::step], color=color, linewidth=1.1)


def _label_axes(axes: Axes, rows: Sequence[str | None], duration_s: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    names = ["unknown" if label is None else plain(label, 32) for label in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, max(duration_s, 1e-3))
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    # Minutes by sixties from two minutes on: ticks at 1:00, not at 1:40.
    steps = [1, 1.5, 2, 3, 6, 10] if duration_s >= 120 else [1, 2, 5, 10]
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _write_clock(value, duration_s)))
    axes.set_xlabel("time (curves: the score of the class, 0 to 1 from the bottom of its row)", color=GRAY, fontsize=9)


def _write_clock(time_s: float, duration_s: float) -> str:
    """Write seconds as they are in short videos, else as minutes and seconds, or with hours before."""
    if duration_s < 120:
        return f"{time_s:g} s"
    whole = round(time_s)
    minutes = f"{whole // 60 % 60:02d}:{whole % 60:02d}" if duration_s >= 3600 else f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{minutes}" if duration_s >= 3600 else minutes
