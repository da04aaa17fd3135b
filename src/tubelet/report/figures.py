"""Draw figures as files: curves, confusion, class distribution and contact sheets.

Every figure is drawn without matplotlib's global state, so that threads and notebooks are left alone, in colors that
color-blind readers can tell apart (Okabe and Ito), and appears under its name whole or not at all. The suffix of the
path chooses the format: `.png`, `.svg`, `.pdf`.
"""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from tubelet.errors import ConfigError, DataError
from tubelet.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:  # the test suite checks signatures at run time, where matplotlib is not loaded yet
    Axes = Figure = Any

__all__ = [
    "draw_class_distribution",
    "draw_confusion",
    "draw_contact_sheet",
    "draw_curves",
    "make_figure",
    "plain",
    "save_figure",
]

BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
SPLIT_COLORS = {"train": BLUE, "val": ORANGE, "test": GREEN}
DPI = 130
FORMATS = ("png", "svg", "pdf", "jpg", "webp")

MAX_CELLS_WITH_NUMBERS = 20
MAX_NAMED_CLASSES = 60
MAX_BARS = 40
MAX_FRAMES = 8
CURVES = {"loss": "loss", "top1": "top-1 accuracy", "mean_ap": "mean average precision", "accuracy": "accuracy"}

Path_ = str | os.PathLike[str]
Number = float | int


def draw_confusion(matrix: Int64[np.ndarray, "classes classes"], classes: Sequence[str], path: Path_) -> None:
    """Draw a confusion matrix: shade is the share of a row, so that rare classes can be read, too.

    Up to 20 classes carry their numbers, up to 60 their names; from 21 on, the pairs most often confused are listed
    beside the matrix. Rows of classes without a clip are gray.

    Args:
        matrix: clips by true class (row) and predicted class (column).
        classes: names in index order.
        path: the file to write.
    """
    count = len(classes)
    names = _name_classes(classes, 34)
    side = min(max(3.2, 0.42 * count if count <= MAX_CELLS_WITH_NUMBERS else 0.18 * count), 10.5)
    margin = 0.075 * max(map(len, names)) if count <= MAX_NAMED_CLASSES else 0.5
    is_listed = count > MAX_CELLS_WITH_NUMBERS
    figure = make_figure(side + margin + 1.2 + (4.6 if is_listed else 0.0), side + margin + 0.9)
    grid = figure.add_gridspec(1, 2, width_ratios=(side + margin, 4.0)) if is_listed else figure.add_gridspec(1, 1)
    axes = figure.add_subplot(grid[0, 0])
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    _shade_matrix(axes, np.where(matrix.sum(1, keepdims=True) > 0, shares, np.nan))
    _label_matrix(axes, names)
    right, total = int(matrix.trace()), int(matrix.sum())
    axes.set_title(f"{right:,} of {total:,} right ({right / max(total, 1):.1%})", loc="left", fontsize=11)
    if count <= MAX_CELLS_WITH_NUMBERS:
        _write_cells(axes, matrix, shares)
    if is_listed:
        _list_confusions(figure.add_subplot(grid[0, 1]), matrix, names)
    save_figure(figure, path)


def _shade_matrix(axes: Axes, shares: Float64[np.ndarray, "classes classes"]) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    colors = colormaps["Blues"].with_extremes(bad="#e4e4e4")
    # The square root makes a confusion of one in a hundred visible beside a diagonal of nine in ten.
    image = axes.imshow(shares, cmap=colors, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.02, 0, 0.03, 1)), ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "10 %", "25 %", "50 %", "100 %"], fontsize=8)
    bar.set_label("share of the true class", fontsize=9, color=GRAY)
    bar.outline.set_visible(False)
    axes.spines[:].set_visible(False)


def _label_matrix(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xlabel("predicted", color=GRAY)
    axes.set_ylabel("true", color=GRAY)
    axes.tick_params(length=0, labelsize=9 if len(names) <= 30 else 7)
    if len(names) > MAX_NAMED_CLASSES:
        step = 10 if len(names) <= 150 else 50
        axes.set_xticks(range(0, len(names), step))
        axes.set_yticks(range(0, len(names), step))
        return
    turn: dict[str, Any] = {}
    if len(names) > 30:
        turn = {"rotation": 90}
    elif len(names) > 4 or max(map(len, names)) > 10:
        turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, parse_math=False, **turn)
    axes.set_yticks(range(len(names)), names, parse_math=False)


def _write_cells(
    axes: Axes, matrix: Int64[np.ndarray, "classes classes"], shares: Float64[np.ndarray, "classes classes"]
) -> None:
    size = 8.0 if len(matrix) > 4 else 11.0
    for (row, column), clips in np.ndenumerate(matrix):
        if clips == 0:
            continue
        share = shares[row, column]
        text = f"{clips:,}\n{share:.0%}" if len(matrix) <= 8 else f"{clips}"
        color = "white" if share > 0.4 else "#222222"
        axes.text(
            column, row, text, ha="center", va="center", color=color, fontsize=size if clips < 1000 else size - 1.5
        )


def _list_confusions(axes: Axes, matrix: Int64[np.ndarray, "classes classes"], names: Sequence[str]) -> None:
    """List the pairs most often confused, the most frequent first."""
    axes.axis("off")
    axes.set_title("most often confused", loc="left", fontsize=11)
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:16]
    pairs = [(int(cell) // len(names), int(cell) % len(names)) for cell in order]
    pairs = [(row, column) for row, column in pairs if wrong[row, column]]
    if not pairs:
        axes.text(0, 0.97, "none", va="top", fontsize=9, color=GRAY, transform=axes.transAxes)
    for line, (row, column) in enumerate(pairs):
        height = 0.985 - line / 16
        share = wrong[row, column] / matrix[row].sum()
        style: dict[str, Any] = {"va": "top", "transform": axes.transAxes, "fontsize": 8.5, "parse_math": False}
        axes.text(0, height, f"{names[row]}  [{row}]", **style)
        axes.text(0, height - 0.022, f"as {names[column]}  [{column}]", **{**style, "color": ORANGE})
        axes.text(1, height, f"{wrong[row, column]:,}  ({share:.0%})", **style, ha="right")


def draw_curves(rows: Sequence[Mapping[str, Number]], path: Path_) -> None:
    """Draw how a training went: loss and accuracy of training and validation, and the learning rate.

    Args:
        rows: one mapping for each epoch, with `epoch` and any of `train_loss`, `val_loss`, `train_top1`, `val_top1`,
            `val_mean_ap`, `train_accuracy`, `val_accuracy`, and `lr` or `learning_rate`; other keys are ignored, nan
            and absent values leave gaps.
        path: the file to write.

    Raises:
        DataError: there is no epoch.
    """
    if not rows:
        raise DataError("curves need at least one epoch - found none - draw them after the first epoch has ended.")
    epochs = [row.get("epoch", index + 1) for index, row in enumerate(rows)]
    panels = [stem for stem in CURVES if any(f"{side}_{stem}" in row for row in rows for side in ("train", "val"))]
    rate = next((key for key in ("lr", "learning_rate") if any(key in row for row in rows)), None)
    count = max(1, len(panels) + (rate is not None))
    figure = make_figure(4.1 * count, 3.4)
    all_axes = figure.subplots(1, count, squeeze=False)[0]
    for axes in all_axes:
        _style_curves(axes, epochs)
    for axes, stem in zip(all_axes, panels, strict=False):
        axes.set_title(CURVES[stem], loc="left", fontsize=11)
        for side, color in (("train", BLUE), ("val", ORANGE)):
            _draw_curve(axes, epochs, _collect(rows, f"{side}_{stem}"), color, side)
        if stem != "loss":
            _finish_accuracy(axes, epochs, _collect(rows, f"val_{stem}"))
        _start_at_zero(axes)
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
    if rate is not None:
        all_axes[-1].set_title("learning rate", loc="left", fontsize=11)
        _draw_curve(all_axes[-1], epochs, _collect(rows, rate), GREEN, "rate")
        _start_at_zero(all_axes[-1])
        all_axes[-1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    save_figure(figure, path)


def _collect(rows: Sequence[Mapping[str, Number]], key: str) -> list[Number]:
    values = [row.get(key, math.nan) for row in rows]
    return [value if math.isfinite(value) else math.nan for value in values]


def _style_curves(axes: Axes, epochs: Sequence[Number]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("epoch", color=GRAY)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
    if min(epochs) == max(epochs):
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)


def _start_at_zero(axes: Axes) -> None:
    """Start the axis at zero unless all values are so near each other that their differences would be lost."""
    drawn = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    values = [value for line in drawn for value in line.tolist() if not math.isnan(value)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    if 0 <= low < 0.6 * high or low == high >= 0 or (low >= 0 and len(values) <= 3):
        axes.set_ylim(0, 1.08 * high or 1)


def _draw_curve(axes: Axes, epochs: Sequence[Number], values: Sequence[Number], color: str, label: str) -> None:
    if not all(map(math.isnan, values)):
        marker = "o" if len(epochs) <= 12 else None
        axes.plot(epochs, values, color=color, label=label, linewidth=1.8, marker=marker, markersize=4)


def _finish_accuracy(axes: Axes, epochs: Sequence[Number], held_out: Sequence[Number]) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    known = [index for index, value in enumerate(held_out) if not math.isnan(value)]
    if known:
        best = max(known, key=lambda index: held_out[index])
        label = f"best {held_out[best]:.1%} at {epochs[best]:g}"
        axes.plot(epochs[best], held_out[best], "o", color=ORANGE, markersize=9, fillstyle="none", label=label)


def draw_class_distribution(counts: Mapping[str, Mapping[str, int]], path: Path_) -> None:
    """Draw how many clips each class has in each split.

    Up to 40 classes are named bars, one panel for each split, in index order. More are one curve for each split, the
    largest class first, with the largest, the smallest and the empty ones told.

    Args:
        counts: for each split, clips by class name.
        path: the file to write.

    Raises:
        DataError: there is no split or no class.
    """
    classes = list(dict.fromkeys(name for by_class in counts.values() for name in by_class))
    if not classes:
        raise DataError("a distribution needs at least one split with one class - found none - check the manifest.")
    tables = {split: [by_class.get(name, 0) for name in classes] for split, by_class in counts.items()}
    names = _name_classes(classes, 32)
    if len(classes) <= MAX_BARS:
        figure = make_figure(1.2 + 0.07 * max(map(len, names)) + 3.0 * len(tables), 1.1 + 0.26 * len(classes))
        all_axes = figure.subplots(1, len(tables), squeeze=False, sharey=True)[0]
        draw = _draw_bars
    else:
        figure = make_figure(10.0, 0.4 + 2.0 * len(tables))
        all_axes = figure.subplots(len(tables), 1, squeeze=False)[:, 0]
        draw = _draw_ranks
    spare = iter([PURPLE, GRAY, *SPLIT_COLORS.values()])
    for axes, (split, values) in zip(all_axes, tables.items(), strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"{plain(split)}: {sum(values):,} clips", loc="left", fontsize=11, parse_math=False)
        draw(axes, values, names, SPLIT_COLORS.get(split) or next(spare, GRAY))
    save_figure(figure, path)


def _draw_bars(axes: Axes, values: Sequence[int], names: Sequence[str], color: str) -> None:
    axes.barh(range(len(values)), values, color=color, height=0.72)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, max(*values, 1) * 1.18)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    for row, value in enumerate(values):
        text, tint = (f" {value:,}", "#333333") if value else (" none", ORANGE)
        axes.text(value, row, text, va="center", fontsize=8, color=tint)


def _draw_ranks(axes: Axes, values: Sequence[int], names: Sequence[str], color: str) -> None:
    order = sorted(range(len(values)), key=lambda index: -values[index])
    axes.fill_between(
        range(len(values) + 1), [values[i] for i in (*order, order[-1])], step="post", color=color, alpha=0.85
    )
    axes.set_xlim(0, len(values))
    axes.set_ylim(0, max(*values, 1) * 1.3)
    axes.set_xlabel("classes, largest first", color=GRAY, fontsize=9)
    empty = sum(value == 0 for value in values)
    least = f"smallest {names[order[-1]]} ({values[order[-1]]:,})"
    if empty:
        least = f"{empty} without a clip, such as {names[order[-1]]}"
    told = f"largest {names[order[0]]} ({values[order[0]]:,})   median {values[order[len(order) // 2]]:,}   {least}"
    style: dict[str, Any] = {"fontsize": 8.5, "ha": "right", "va": "top", "color": "#333333"}
    axes.text(0.995, 0.97, told, transform=axes.transAxes, parse_math=False, **style)


def draw_contact_sheet(
    clips: Sequence[UInt8[np.ndarray, "_ _ _ _"]], captions: Sequence[str], path: Path_, *, stacked: int = 1
) -> None:
    """Draw frames of each clip side by side, one clip a row, to see what a model was shown.

    Args:
        clips: uint8 (time, height, width, channel), of any sizes; at most eight frames of each are shown, evenly
            spread. Three channels are RGB; of any other number the first one is shown in gray.
        captions: one line for each clip.
        path: the file to write.
        stacked: pictures that stand one below the other in each frame; so much taller it may become.

    Raises:
        DataError: no clip, an empty clip, or another number of captions.
    """
    if not clips or len(clips) != len(captions) or min(clip.size for clip in clips) == 0:
        raise DataError(
            f"a contact sheet needs clips with pixels and a caption for each - found {len(clips)} clips, "
            f"{sum(clip.size == 0 for clip in clips)} of them empty, and {len(captions)} captions - pass as many."
        )
    columns = max(min(len(clip), MAX_FRAMES) for clip in clips)
    cell = 1.45
    heights = [min(cell * clip.shape[1] / clip.shape[2], 2 * cell * stacked) + 0.34 for clip in clips]
    figure = make_figure(max(cell * columns, 4.0) + 0.2, sum(heights) + 0.1, pad=0.03)
    grid = figure.add_gridspec(len(clips), 1, height_ratios=heights)
    for row, (clip, caption) in enumerate(zip(clips, captions, strict=True)):
        axes = figure.add_subplot(grid[row, 0])
        axes.set_title(plain(caption, 110), loc="left", fontsize=9, pad=3, parse_math=False)
        chosen = np.linspace(0, len(clip) - 1, min(len(clip), MAX_FRAMES)).round().astype(int)
        strip = _join_frames(clip[chosen])
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, aspect="equal")
        axes.set_xlim(-0.5, strip.shape[1] / len(chosen) * columns - 0.5)
        axes.set_anchor("NW")
        axes.axis("off")
    save_figure(figure, path)


def _join_frames(frames: UInt8[np.ndarray, "time height width channel"]) -> UInt8[np.ndarray, "..."]:
    """Set frames side by side with a white gap: RGB as (height, width, 3), anything else as (height, width)."""
    shown = frames if frames.shape[-1] == 3 else frames[..., 0]
    gap = np.full((shown.shape[1], max(1, shown.shape[2] // 40), *shown.shape[3:]), 255, np.uint8)
    return np.concatenate([part for frame in shown for part in (frame, gap)], axis=1)


def make_figure(width: float, height: float, pad: float = 0.06) -> Figure:
    """Make an empty figure of a size in inches, with `pad` inches between its rows."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=pad, hspace=0.0, wspace=0.02)
    return Figure(figsize=(width, height), layout=layout, facecolor="white")


def save_figure(figure: Figure, path: Path_) -> None:
    """Write a figure in the format of the path's suffix, whole or not at all."""
    suffix = Path(path).suffix.lstrip(".").lower() or "png"
    if suffix not in FORMATS or Path(path).is_dir():
        raise ConfigError(
            f"cannot draw {str(path)!r} - it should be a file that ends in {', '.join(FORMATS)} - choose such a name."
        )
    with write_whole(path) as stream:
        figure.savefig(stream, format=suffix, dpi=DPI)


def _name_classes(classes: Sequence[str], limit: int) -> list[str]:
    """Make names that can be drawn and told apart, with the index where the letters do not suffice for that."""
    names = [plain(name, limit) for name in classes]
    counts = Counter(names)
    for index, name in enumerate(names):
        if all(letter in "? " for letter in name):
            names[index] = f"class {index}"
        elif counts[name] > 1:
            names[index] = f"{plain(name, limit - 5)} [{index}]"
    return names


def plain(text: str, limit: int = 60) -> str:
    """Replace what the font cannot draw, and cut the middle out of what is too long."""
    drawable = _list_drawable()
    plain = "".join(letter if ord(letter) in drawable else "?" for letter in " ".join(text.split()))
    half = (limit - 1) // 2
    return plain if len(plain) <= limit else f"{plain[:half].rstrip()}…{plain[-half:].lstrip()}"


@lru_cache(maxsize=1)
def _list_drawable() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
