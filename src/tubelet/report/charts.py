"""Draw charts inside a page: SVG that takes the page's colors and fits its width.

A chart in a page is read on phones and in dark rooms, so it is text and lines in the reader's own colors, not a
picture of them; figures for papers and slides are files, made by `tubelet.report.figures`.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from tubelet.report.page import Html

__all__ = ["Line", "draw_bar", "draw_lines", "draw_matrix"]

WIDTH, HEIGHT = 440.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 12.0, 44.0
COLORS = ("var(--first)", "var(--second)", "var(--third)", "var(--fourth)")
MAX_NUMBERED, MAX_NAMED = 12, 30
MAX_LETTERS = 60
"""Of what is written along an axis."""


@dataclass(frozen=True)
class Line:
    """Hold one line of a chart."""

    name: str
    """What the legend calls it."""
    x: Sequence[float]
    y: Sequence[float]
    """As many as there are in `x`; nan is left out."""
    dots: bool = False
    """Mark each point."""
    dashed: bool = False
    """For what is compared with: chance, the ideal."""


def draw_lines(
    lines: Sequence[Line],
    *,
    x_name: str,
    y_name: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    bars: Mapping[float, float] | None = None,
) -> Html:
    """Draw lines over one pair of axes.

    Args:
        lines: up to four that are not dashed.
        x_name: what is to the right, with its unit.
        y_name: what is above, with its unit.
        x_range: first and last value; those of the lines without it.
        y_range: lowest and highest value; 0 or the lowest, and the highest of the lines without it.
        bars: faint columns behind the lines, from 0 up: the left end of each and its height, evenly spaced.
    """
    columns = sorted(bars.items()) if bars else []
    low, high = x_range or _span([value for line in lines for value in line.x])
    bottom, top = y_range or _span([*(value for line in lines for value in line.y), 0.0])
    place = _Place(low, high, bottom, top)
    parts = [*_draw_axes(place, x_name, y_name)]
    if len(columns) > 1:
        step = columns[1][0] - columns[0][0]
        for left, value in columns:
            x, y = place.x(left), place.y(value)
            size = f'width="{place.x(left + step) - x - 1:.1f}" height="{place.y(0.0) - y:.1f}"'
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} class="soft"/>')
    colors = iter(COLORS)
    for line in lines:
        color = "var(--soft)" if line.dashed else next(colors)
        points = [
            f"{place.x(x):.1f},{place.y(y):.1f}"
            for x, y in zip(line.x, line.y, strict=True)
            if np.isfinite([x, y]).all()
        ]
        dash = ' stroke-dasharray="4 4"' if line.dashed else ""
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2"{dash} points="{" ".join(points)}"/>')
        for point in points if line.dots or len(points) == 1 else ():
            across, down = point.split(",")
            parts.append(f'<circle cx="{across}" cy="{down}" r="3" fill="{color}"/>')
    return Html(_frame("".join(parts), WIDTH, HEIGHT, f"{y_name} by {x_name}") + _explain(lines))


def draw_bar(value: float, low: float | None = None, high: float | None = None) -> Html:
    """Draw a share, 0..1, as a bar as wide as its cell, with its interval as a line where one is given."""
    parts = f'<rect width="{100 * value:.1f}" height="10" rx="1.5" fill="var(--first)"/>'
    if low is not None and high is not None:
        parts += f'<path d="M{100 * low:.1f} 5H{100 * high:.1f}" stroke="var(--text)" stroke-width="1.6"/>'
    rail = '<rect width="100" height="10" rx="1.5" class="soft"/>'
    return Html(
        f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{rail}{parts}</svg>'
    )


def draw_matrix(matrix: Int64[np.ndarray, "classes classes"], classes: Sequence[str]) -> Html:
    """Draw a confusion matrix: the shade is the share of a row, so that rare classes can be read, too.

    Args:
        matrix: clips by true class (row) and predicted class (column).
        classes: names in index order; up to 30 are written beside their rows, up to 12 rows carry their numbers.
    """
    count = len(classes)
    named = count <= MAX_NAMED
    left, head = (120.0, 22.0) if named else (22.0, 22.0)
    cell = min(44.0, (560.0 - left) / count)
    inner = max(cell - 1, 0.8 * cell)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    parts = [f'<text x="{left + cell * count / 2:.0f}" y="14" text-anchor="middle">predicted</text>']
    parts.append(
        f'<text transform="translate(12 {head + cell * count / 2:.0f}) rotate(-90)" text-anchor="middle">true</text>'
    )
    for row, column in zip(*np.nonzero(matrix), strict=True):
        x, y, share = left + column * cell, head + row * cell, float(shares[row, column])
        says = html.escape(f"{classes[row]} called {classes[column]}: {matrix[row, column]}", quote=True)
        color = "var(--first)" if row == column else "var(--second)"
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{inner:.2f}" height="{inner:.2f}" fill="{color}" '
            f'fill-opacity="{0.12 + 0.88 * share:.2f}"><title>{says}</title></rect>'
        )
        if count <= MAX_NUMBERED:
            kind = ' class="over"' if share > 0.5 else ""
            middle = f'x="{x + cell / 2:.1f}" y="{y + cell / 2 + 4:.1f}"'
            parts.append(f'<text {middle} text-anchor="middle"{kind}>{matrix[row, column]}</text>')
    for row, name in enumerate(classes if named else ()):
        short = html.escape(_cut_middle(name, 14))
        parts.append(
            f'<text x="{left - 6:.0f}" y="{head + (row + 0.5) * cell + 4:.1f}" text-anchor="end">{short}</text>'
        )
    size = cell * count
    parts.append(
        f'<rect x="{left}" y="{head}" width="{size:.1f}" height="{size:.1f}" fill="none" stroke="var(--line)"/>'
    )
    return Html(_frame("".join(parts), left + size + 8, head + size + 8, "confusion matrix"))


def _cut_middle(text: str, limit: int) -> str:
    """Shorten what is too long for its place, and keep both ends."""
    return text if len(text) <= limit else f"{text[: limit - limit // 2]}…{text[len(text) - limit // 2 + 1 :]}"


@dataclass(frozen=True)
class _Place:
    """Turn values into places in the drawing."""

    low: float
    high: float
    bottom: float
    top: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.bottom) / (self.top - self.bottom) * (HEIGHT - TOP - BOTTOM)


def _draw_axes(place: _Place, x_name: str, y_name: str) -> list[str]:
    parts = []
    for value in _choose_ticks(place.bottom, place.top):
        y = place.y(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="var(--line)"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts += [
        f'<text x="{place.x(value):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>'
        for value in _choose_ticks(place.low, place.high)
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    words = html.escape(_cut_middle(x_name, MAX_LETTERS))
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{words}</text>')
    turned = f'transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'
    return [*parts, f'<text {turned} text-anchor="middle">{html.escape(y_name)}</text>']


def _choose_ticks(low: float, high: float) -> list[float]:
    """Choose four to eight round values in a range."""
    step = 10.0 ** np.floor(np.log10(high - low))
    step *= next(part for part in (1.0, 0.5, 0.2, 0.1) if (high - low) / (step * part) >= 4)
    first = np.ceil(low / step - 1e-9)
    return [round(float(place * step), 10) + 0.0 for place in np.arange(first, high / step + 1e-9)]  # no -0


def _span(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if np.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _explain(lines: Sequence[Line]) -> Html:
    """Name the lines below the chart, where there are several."""
    if len(lines) < 2:
        return Html("")
    colors = iter(COLORS)
    keys = [("var(--soft)" if line.dashed else next(colors), line.name) for line in lines]
    spans = "".join(f'<span><i style="background:{color}"></i>{html.escape(name)}</span> ' for color, name in keys)
    return Html(f'<p class="legend">{spans}</p>')


def _frame(content: str, width: float, height: float, name: str) -> Html:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width * 1.25:.0f}px"'
    return Html(f'<svg class="chart" role="img" aria-label="{html.escape(name, quote=True)}" {size}>{content}</svg>')
