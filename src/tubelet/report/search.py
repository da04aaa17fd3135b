"""Draw how a search for a recipe went: what each trial reached, and which fields mattered."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tubelet.errors import DataError
from tubelet.report.figures import BLUE, GRAY, GREEN, ORANGE, Path_, make_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:  # the test suite checks signatures at run time, where matplotlib is not loaded yet
    Axes = Any

__all__ = ["draw_search"]

STATES = {"complete": (BLUE, "o"), "pruned": (GRAY, "x")}
"""Color and marker of trials by how they ended; failed ones have no figure, and stand below the axis."""


def draw_search(values: Sequence[float], states: Sequence[str], importances: Mapping[str, float], path: Path_) -> None:
    """Draw the figure of each trial with the best so far, and the importance of each field.

    Args:
        values: what each trial reached, between 0 and 1, in order; NaN where it failed.
        states: `complete`, `pruned` or `failed`, one for each trial.
        importances: shares by field; nothing leaves that panel out.
        path: the file to write.

    Raises:
        DataError: no trial, or another number of states.
    """
    if not values or len(values) != len(states):
        raise DataError(
            f"a search is drawn of trials - found {len(values)} values and {len(states)} states - give one of each."
        )
    height = max(3.4, 1.2 + 0.3 * len(importances))
    figure = make_figure(10.4 if importances else 6.0, height)
    panels = figure.subplots(1, 2 if importances else 1, squeeze=False, width_ratios=(6, 4) if importances else (1,))[0]
    _draw_history(panels[0], values, states)
    if importances:
        _draw_importances(panels[1], importances)
    save_figure(figure, path)


def _draw_history(axes: Axes, values: Sequence[float], states: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.set_title("validation figure of each trial", loc="left", fontsize=11)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("trial", color=GRAY)
    axes.set_xlim(-0.7, len(values) - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    best, steps = -math.inf, []
    for value, state in zip(values, states, strict=True):
        best = max(best, value if state == "complete" else -math.inf)
        steps.append(best if best > -math.inf else math.nan)
    if best > -math.inf:
        label = f"best so far: {best:.1%}"
        axes.plot(range(len(values)), steps, drawstyle="steps-post", color=ORANGE, linewidth=1.8, label=label)
    for state, (color, marker) in STATES.items():
        chosen = [index for index, one in enumerate(states) if one == state]
        if chosen:
            heights = [values[index] for index in chosen]
            axes.plot(chosen, heights, marker, color=color, markersize=6, label=f"{state} ({len(chosen)})")
    failed = [index for index, one in enumerate(states) if one == "failed"]
    if failed:
        style: dict[str, Any] = {"clip_on": False, "transform": axes.get_xaxis_transform(), "markersize": 6}
        axes.plot(failed, [0.0] * len(failed), "v", color="#333333", label=f"failed ({len(failed)})", **style)
    axes.legend(frameon=False, fontsize=9, ncols=4, loc="upper left", bbox_to_anchor=(-0.02, -0.16), columnspacing=1.2)


def _draw_importances(axes: Axes, importances: Mapping[str, float]) -> None:
    names = sorted(importances, key=lambda name: importances[name])
    axes.set_title("what the best trials depend on", loc="left", fontsize=11)
    axes.barh(range(len(names)), [importances[name] for name in names], color=GREEN, height=0.72)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_xlim(0, max(*importances.values(), 0.01) * 1.25)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xticks([])
    for row, name in enumerate(names):
        axes.text(importances[name], row, f" {importances[name]:.0%}", va="center", fontsize=8, color="#333333")
