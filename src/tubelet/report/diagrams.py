"""Draw a model as a column of boxes, from the clip to the scores."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tubelet.report.figures import BLUE, GRAY, GREEN, Path_, make_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.patches import Patch
else:  # the test suite checks signatures at run time, where matplotlib is not loaded yet
    Patch = Any

__all__ = ["draw_parts"]

_ROW_IN = 0.62
_WIDTH_IN = 8.0
_BOX_LEFT, _BOX_WIDTH = 0.02, 0.60


def draw_parts(
    title: str, clip: str, parts: Sequence[tuple[str, str, int, tuple[int, ...]]], scores: str, path: Path_
) -> None:
    """Draw parts from top to bottom, with what each hands on and how much of the model it is.

    Args:
        title: name and totals of the model.
        clip: what goes in.
        parts: name, kind, parameters and output shape of each, in order.
        scores: what comes out.
        path: the file to write.
    """
    rows = len(parts) + 2
    figure = make_figure(_WIDTH_IN, _ROW_IN * rows + 0.7)
    axes = figure.add_subplot(1, 1, 1)
    axes.set_xlim(0, 1)
    axes.set_ylim(rows, -0.2)
    axes.axis("off")
    axes.set_title(title, loc="left", fontsize=11)
    total = max(sum(part[2] for part in parts), 1)
    axes.text(_BOX_LEFT, 0.45, clip, va="center", fontsize=10, color=GREEN)
    for row, (name, kind, parameters, shape) in enumerate(parts, 1):
        share = parameters / total
        axes.add_patch(_make_box(row, _BOX_WIDTH, face="#f2f6fa", edge=BLUE))
        if share > 0:
            axes.add_patch(_make_box(row, _BOX_WIDTH * max(share, 0.004), face="#cfe3f2", edge="none"))
        axes.text(_BOX_LEFT + 0.012, row + 0.28, name, va="center", fontsize=10)
        axes.text(_BOX_LEFT + 0.012, row + 0.58, kind, va="center", fontsize=8, color=GRAY)
        count = f"{parameters:,}" if parameters else "no parameters"
        axes.text(_BOX_LEFT + _BOX_WIDTH - 0.012, row + 0.28, count, va="center", ha="right", fontsize=9)
        if parameters:
            percent = f"{share:.1%}"
            axes.text(
                _BOX_LEFT + _BOX_WIDTH - 0.012, row + 0.58, percent, va="center", ha="right", fontsize=8, color=GRAY
            )
        if shape:
            sizes = " x ".join(map(str, shape))
            axes.text(_BOX_LEFT + _BOX_WIDTH + 0.03, row + 0.42, f"-> {sizes}", va="center", fontsize=9, color=GRAY)
    axes.text(_BOX_LEFT, rows - 0.55, scores, va="center", fontsize=10, color=GREEN)
    save_figure(figure, path)


def _make_box(row: int, width: float, *, face: str, edge: str) -> "Patch":
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0.0,rounding_size=0.01"
    return FancyBboxPatch((_BOX_LEFT, row + 0.04), width, 0.78, boxstyle=style, facecolor=face, edgecolor=edge)
