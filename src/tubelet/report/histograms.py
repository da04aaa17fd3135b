"""Draw how often quantities have which value."""

from collections.abc import Mapping, Sequence

import numpy as np

from tubelet.errors import DataError
from tubelet.report.figures import BLUE, ORANGE, Path_, make_figure, save_figure

__all__ = ["draw_histograms"]


def draw_histograms(values: Mapping[str, Sequence[float]], path: Path_) -> None:
    """Draw how often each of several quantities has which value, one below the other, with its median.

    Args:
        values: numbers by the name and unit of the quantity.
        path: the file to write.

    Raises:
        DataError: nothing to draw.
    """
    shown = {name: numbers for name, numbers in values.items() if len(numbers)}
    if not shown:
        raise DataError("histograms need numbers - found none - read some clips first.")
    figure = make_figure(7.0, 1.75 * len(shown) + 0.2)
    for row, (name, numbers) in enumerate(shown.items()):
        axes = figure.add_subplot(len(shown), 1, row + 1)
        least, most = min(numbers), max(numbers)
        # Rates that differ in the last digit are one rate, and no bins fit between them.
        is_one = most - least <= 1e-6 * max(abs(most), 1.0)
        around = 0.1 * max(abs(most), 1.0)
        spread = (least - around, most + around) if is_one else (least, most)
        axes.hist(numbers, bins=5 if is_one else min(40, max(len(set(numbers)), 5)), range=spread, color=BLUE)
        median = float(np.median(numbers))
        axes.axvline(median, color=ORANGE, linewidth=1.5)
        told = f"all {median:.4g}" if is_one else f"median {median:.4g}, {least:.4g} to {most:.4g}"
        axes.set_title(f"{name}: {told}", loc="left", fontsize=10)
        axes.set_ylabel("clips", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    save_figure(figure, path)
