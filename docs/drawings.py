"""Draw the pictures of docs/concepts.md: python docs/drawings.py

Plain SVG on a light card of its own, so that it reads the same on a light and on a dark page, and no wider than a phone
can show with letters that can be read. The frames in `sampling.svg` are chosen by the package itself.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tubelet.video.clip import VideoInfo
from tubelet.video.sampling import plan
from tubelet.video.spec import InputSpec

FOLDER = Path(__file__).parent / "images"
WIDTH = 480
CARD, INK, FAINT, LINE = "#fdfcf9", "#24292f", "#e4e7eb", "#8a939c"
ASKING, FIRST, SECOND = "#d55e00", "#56b4e9", "#009e73"  # colors that color-blind people tell apart (Okabe and Ito)
SIDE = 3
"""Tubelets along each axis of the clip in the drawings."""


def make_svg(height: int, title: str, parts: Iterator[str]) -> str:
    """Put parts on a card; `title` is what a screen reader says."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="15" fill="{INK}">\n<title>{title}</title>\n'
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="{CARD}" stroke="{FAINT}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def write(x: float, y: float, text: str, look: str = "") -> str:
    """Return a line of text."""
    return f'<text x="{x:g}" y="{y:g}" {look}>{text}</text>'.replace(" >", ">")


def box(x: float, y: float, width: float, height: float, fill: str) -> str:
    """Return a filled box with an outline."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="2" fill="{fill}" '
        f'stroke="{LINE}" stroke-width="1"/>'
    )


def draw_tubelets() -> str:
    """Show a clip, the boxes it is cut into, and the row of vectors they become."""

    def parts() -> Iterator[str]:
        yield write(20, 30, "a clip: 4 frames", 'font-weight="600"')
        for frame in reversed(range(4)):
            x, y = 20 + 26 * frame, 100 - 17 * frame
            yield box(x, y, 120, 120, FAINT if frame > 1 else "#ffffff")
            for line in range(1, SIDE):
                yield f'<path d="M{x + 40 * line} {y}v120M{x} {y + 40 * line}h120" stroke="{LINE}"/>'
        # One tubelet: the same place in the first two frames.
        yield f'<path d="M60 140h40l26 -17h-40z" fill="{FIRST}" stroke="{INK}"/>'
        yield f'<path d="M100 140l26 -17v40l-26 17z" fill="{SECOND}" stroke="{INK}"/>'
        yield f'<rect x="60" y="140" width="40" height="40" fill="{ASKING}" stroke="{INK}"/>'
        yield write(258, 66, "one tubelet:")
        yield write(258, 88, "2 frames x 16 x 16 pixels")
        yield write(258, 124, "flattened, multiplied by")
        yield write(258, 146, "one matrix: a token")
        yield f'<path d="M128 146C190 180 220 118 250 112" fill="none" stroke="{INK}"/>'
        yield write(20, 262, "tokens, each with its position added")
        for index in range(18):
            x = 20 + 22 * index + (26 if index > 8 else 0)
            yield box(x, 276, 18, 30, ASKING if index == 4 else FAINT)
        yield write(20, 328, "moment 1", f'fill="{INK}"')
        yield write(244, 328, "moment 2", f'fill="{INK}"')

    return make_svg(346, "A clip is cut into tubelets, and each becomes a token", parts())


def grid(x: float, y: float, colors: dict[tuple[int, int, int], str]) -> Iterator[str]:
    """Draw the tokens of three moments side by side, each three by three; (moment, row, column) has its color."""
    for moment in range(SIDE):
        for row in range(SIDE):
            for column in range(SIDE):
                fill = colors.get((moment, row, column), FAINT)
                yield box(x + 72 * moment + 18 * column, y + 18 * row, 16, 16, fill)


ASKS = (1, 1, 1)
PICTURE = {(1, row, column): FIRST for row in range(SIDE) for column in range(SIDE)}
INSTANTS = {(moment, 1, 1): SECOND for moment in range(SIDE)}
ALL = {(moment, row, column): FIRST for moment in range(SIDE) for row in range(SIDE) for column in range(SIDE)}
FORMS = (
    ("ViViT, joint", "everything, at once", ALL),
    ("ViViT, factorized encoder", "its picture; at the end moments", PICTURE),
    ("ViViT, factorized attention", "its picture, then its place in time", {**INSTANTS, **PICTURE}),
    ("ViViT, factorized dot product", "half of the heads each, at once", {**INSTANTS, **PICTURE}),
    ("TimeSformer, divided", "its place in time, then its picture", {**PICTURE, **INSTANTS}),
)


def draw_attention() -> str:
    """Show whom one token sees in each form: three moments of three by three tokens."""

    def parts() -> Iterator[str]:
        yield write(20, 30, "whom does the orange token see?", 'font-weight="600"')
        for number, (name, whom, colors) in enumerate(FORMS):
            y = 50 + 92 * number
            yield from grid(20, y, {**colors, ASKS: ASKING})
            yield write(244, y + 20, name, 'font-weight="600" font-size="14"')
            yield write(244, y + 40, whom, 'font-size="14"')
            if "encoder" in name:
                for moment in range(SIDE):
                    yield box(20 + 72 * moment, y + 58, 52, 14, SECOND)
                yield write(244, y + 70, "(green: one vector a moment)", 'font-size="13"')
        yield box(20, 516, 16, 16, FIRST)
        yield write(42, 529, "across the picture")
        yield box(200, 516, 16, 16, SECOND)
        yield write(222, 529, "along time")
        yield write(320, 529, "3 moments of 3 x 3", 'font-size="13"')

    return make_svg(548, "Which tokens one token attends to, in the four forms of ViViT and in TimeSformer", parts())


def draw_views() -> str:
    """Show four clips spread over a video, three crops of each, and one mean."""

    def parts() -> Iterator[str]:
        yield write(20, 30, "4 clips x 3 crops = 12 views", 'font-weight="600"')
        yield box(20, 48, 440, 26, FAINT)
        for clip in range(4):
            yield box(46 + 106 * clip, 48, 70, 26, FIRST)
            yield write(64 + 106 * clip, 66, f"clip {clip + 1}", 'font-size="13"')
        yield write(20, 96, "the whole video, from its first to its last second", 'font-size="13"')
        for crop, (name, x) in enumerate((("left", 0), ("middle", 31), ("right", 62))):
            left = 20 + 152 * crop
            yield box(left, 116, 132, 70, FAINT)
            yield box(left + x, 116, 70, 70, FIRST)
            yield write(left, 206, name, 'font-size="13"')
        yield f'<path d="M240 216v22m-6 -8l6 8l6 -8" fill="none" stroke="{INK}"/>'
        yield write(20, 262, "12 rows of scores, their mean: one answer for the video")

    return make_svg(280, "Views: clips spread over the video, crops across the picture", parts())


NOTES = {"dense": ", stride 3", "random": ", in training"}
SAMPLINGS = ("uniform", "linspace", "dense", "random", "first")
VIDEO = VideoInfo(num_frames=48, height=240, width=320, fps=24.0, duration_s=2.0, codec="h264", rotation=0)


def draw_sampling() -> str:
    """Show which of 48 frames a clip of 8 takes by each sampling, as the package plans it."""

    def parts() -> Iterator[str]:
        yield write(20, 30, "8 of 48 frames", 'font-weight="600"')
        for number, name in enumerate(SAMPLINGS):
            y = 48 + 58 * number
            spec = InputSpec(frames=8, sampling=name, stride=3)
            # In evaluation `random` takes what `uniform` does.
            is_drawn = name == "random"
            draws = np.random.default_rng(7) if is_drawn else None
            chosen = set(plan(VIDEO, spec, training=is_drawn, generator=draws)[0].tolist())
            yield write(20, y + 16, name + NOTES.get(name, ""))
            for frame in range(VIDEO.num_frames):
                yield box(20 + 9 * frame, y + 24, 7, 18, ASKING if frame in chosen else FAINT)

    return make_svg(342, "Which frames each sampling takes", parts())


DRAWINGS = {
    "tubelets.svg": draw_tubelets,
    "attention.svg": draw_attention,
    "views.svg": draw_views,
    "sampling.svg": draw_sampling,
}
"""What makes each file of docs/images."""

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        (FOLDER / name).write_text(draw(), encoding="utf-8")
