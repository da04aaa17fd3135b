"""Draw measured values as bars with their intervals, so that nobody reads more into a difference than there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tubelet.errors import DataError
from tubelet.report.figures import BLUE, GRAY, ORANGE, Path_, make_figure, plain, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:  # the test suite checks signatures at run time, where matplotlib is not loaded yet
    Axes = Any

__all__ = ["Bar", "Panel", "draw_intervals"]

_ROW_IN, _PANEL_IN, _WIDTH_IN = 0.27, 0.62, 8.6
_INK = "#333333"


@dataclass(frozen=True)
class Bar:
    """State one value."""

    name: str
    value: float
    ends: tuple[float, float] | None
    """Its interval; None where nothing is known about that."""
    note: str
    """What stands beside it."""
    is_marked: bool = False
    """Draw it in orange, not in blue."""


@dataclass(frozen=True)
class Panel:
    """State values that share an axis."""

    title: str
    bars: tuple[Bar, ...]
    limits: tuple[float, float]
    """The least and the largest value there may be."""
    mark: tuple[float, str] | None = None
    """A value to compare the bars with, and its name."""


def draw_intervals(panels: Sequence[Panel], path: Path_) -> None:
    """Draw panels of horizontal bars, one below the other.

    Args:
        panels: each with its own axis.
        path: the file to write.

    Raises:
        DataError: no panel, or one without a bar.
    """
    if not panels or not all(panel.bars for panel in panels):
        raise DataError(
            f"bars are drawn of values - found {[len(panel.bars) for panel in panels]} in {len(panels)} panels - "
            "give one at least in each."
        )
    heights = [_PANEL_IN + _ROW_IN * len(panel.bars) for panel in panels]
    figure = make_figure(_WIDTH_IN, sum(heights), pad=0.08)
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for row, panel in enumerate(panels):
        _draw_panel(figure.add_subplot(grid[row, 0]), panel)
    save_figure(figure, path)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import PercentFormatter

    low, high = panel.limits
    # A third of the width is for what stands beside the bars.
    axes.set_xlim(low, high + 0.5 * (high - low))
    axes.set_ylim(len(panel.bars) - 0.4, -0.75)
    axes.set_title(plain(panel.title, 100), loc="left", fontsize=11, parse_math=False)
    axes.set_yticks(range(len(panel.bars)), [plain(bar.name, 30) for bar in panel.bars], parse_math=False)
    axes.set_xticks([tick / 4 for tick in range(-4, 5) if low <= tick / 4 <= high])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.tick_params(axis="both", length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.axvline(0, color=GRAY, linewidth=0.8)
    for place, bar in enumerate(panel.bars):
        axes.barh(place, bar.value, color=ORANGE if bar.is_marked else BLUE, height=0.62, alpha=0.75)
        if bar.ends is not None:
            axes.plot(bar.ends, (place, place), color=_INK, linewidth=1.4, solid_capstyle="butt")
        axes.text(high * 1.03, place, plain(bar.note, 60), va="center", fontsize=8.5, color=_INK, parse_math=False)
    if panel.mark is not None:
        value, name = panel.mark
        axes.axvline(value, color=GRAY, linewidth=1.2, linestyle="--")
        axes.text(value, -0.74, f" {name}", fontsize=8, color=GRAY, va="top", parse_math=False)
