"""Define the worlds: classes, what each kind of observer can reach, and how a clip is drawn.

A world is a test of one ability with the answer known in advance, because the clips are made for it:

    moving-shapes    eight motions                direction of time     (shuffled frames: half)
    order            red then blue, or reverse    order of two events   (shuffled frames: chance)
    speed            one lap, or several          rate of change        (shuffled frames: chance)
    color-shortcut   four motions, colored        not being fooled      (color alone: nearly all right in training,
                                                                         chance in the test)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import gcd
from types import MappingProxyType

import numpy as np

from tubelet.errors import ConfigError, UnknownName, name_nearest
from tubelet.registry import Registry
from tubelet.video.synthetic.scenes import Canvas, Course, Difficulty, Pixels, Scene, paint, rest, set_scene

__all__ = ["COLORS", "EASY", "MOTIONS", "WORLDS", "World", "draw_clip", "flash", "lap", "move"]

EASY = Difficulty()
"""Dark, nearly plain background, bright shape, clear motion: a small transformer learns it from scratch."""

MOTIONS: Mapping[str, tuple[int, int, int, int]] = MappingProxyType(
    {
        "up": (0, -1, 0, 0),
        "down": (0, 1, 0, 0),
        "left": (-1, 0, 0, 0),
        "right": (1, 0, 0, 0),
        "rotate_clockwise": (0, 0, 1, 0),
        "rotate_counterclockwise": (0, 0, -1, 0),
        "zoom_in": (0, 0, 0, 1),
        "zoom_out": (0, 0, 0, -1),
    }
)
"""For each motion, the signs of movement to the right, movement downward, clockwise rotation and growth."""

COLORS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "up": (235.0, 60.0, 60.0),
        "down": (70.0, 220.0, 70.0),
        "left": (80.0, 110.0, 245.0),
        "right": (235.0, 220.0, 60.0),
    }
)
"""The color (RGB levels) that goes with each motion of `color-shortcut` in train and val; elsewhere it says nothing."""

SHORTCUT = 0.95
"""Share of the training clips of `color-shortcut` whose color is the one of their class."""

RED, BLUE = (235.0, 50.0, 50.0), (60.0, 90.0, 245.0)
MIN_FRAMES = 8


@dataclass(frozen=True)
class World:
    """State what a world shows and what is known about it before anything is trained."""

    name: str
    """The name that `make_world` knows it by."""
    classes: tuple[str, ...]
    """Labels, in index order."""
    partners: Mapping[str, str]
    """For each class, the class that its clips belong to when they are played backward."""
    mirrors_horizontal: Mapping[str, str]
    """For each class, the class of its clips seen in a left-right mirror."""
    mirrors_vertical: Mapping[str, str]
    """For each class, the class of its clips seen in an up-down mirror."""
    expected: Mapping[str, float]
    """For each kind of observer, the best accuracy it can reach on the test split: `ordered` sees all frames in order,
    `shuffled` all frames in no order, `middle_frame` one frame; `reversed_partner` sees clips played backward and is
    right when it names the partner. A model that scores clearly more than its kind allows has found a leak."""
    draw: Callable[[str, Canvas, np.random.Generator, str], Pixels]
    """Draw a clip from a label, a canvas, a generator and the name of a split."""


WORLDS: Registry[World] = Registry("world", "tubelet.video.synthetic.WORLDS")
"""Every world by name."""


def draw_clip(
    world: str,
    label: str,
    *,
    frames: int = 16,
    height: int = 48,
    width: int = 48,
    generator: np.random.Generator,
    split: str = "test",
) -> Pixels:
    """Draw one clip of one class of a world.

    Everything but the motion is taken from the generator in the same way for every class: equal generators give equal
    middles.

    Args:
        world: a name in `WORLDS`.
        label: one of the world's classes.
        frames: at least 8.
        height: pixels, at least 16.
        width: pixels, at least 16.
        generator: source of everything random; advanced.
        split: matters only in worlds whose training clips differ from their test clips (`color-shortcut`).

    Returns:
        uint8 (time, height, width, 3).

    Raises:
        UnknownName: no such world or class.
        ConfigError: a canvas too small to tell the classes apart.

    Example:
        >>> draw_clip("moving-shapes", "zoom_in", generator=np.random.default_rng(0)).shape
        (16, 48, 48, 3)

    Cost: about 3 ms for 16 frames of 48x48 on one core.
    """
    here = WORLDS[world]
    if label not in here.classes:
        near = name_nearest(label, here.classes) or "."
        raise UnknownName(f"unknown class '{label}' of world '{world}'{near} It has {', '.join(here.classes)}.")
    if frames < MIN_FRAMES or min(height, width) < 16:
        raise ConfigError(
            f"a clip of {frames} frames of {height}x{width} pixels was asked for - the classes of '{world}' can be "
            f"told apart from {MIN_FRAMES} frames of 16x16 pixels on - ask for more frames or pixels."
        )
    return here.draw(label, Canvas(frames, height, width), generator, split)


def move(scene: Scene, motion: str) -> Course:
    """Return the course of a shape under one of the `MOTIONS`, outward from the middle of the clip."""
    right, down, clockwise, growth = MOTIONS[motion]
    times = scene.canvas.times()
    return replace(
        rest(scene),
        x_px=scene.x_px + right * scene.pan_px * times,
        y_px=scene.y_px + down * scene.pan_px * times,
        angle=scene.angle + clockwise * scene.turn * times,
        level=np.mod(scene.level + growth * scene.zoom * times, 1.0),
    )


def lap(scene: Scene, laps: int, direction: tuple[int, int]) -> Course:
    """Return the course of a shape that goes around the torus `laps` times in a clip, toward (right, down)."""
    canvas = scene.canvas
    right, down = direction
    share = laps * canvas.times() / canvas.frames
    return replace(
        rest(scene),
        x_px=scene.x_px + right * canvas.width * share,
        y_px=scene.y_px + down * canvas.height * share,
    )


def flash(scene: Scene, first_is_red: bool, gaps: tuple[float, float]) -> Course:
    """Return the course of a shape that shows twice at one place: red and blue, each `gaps` frames off the middle."""
    times = scene.canvas.times()
    sign = 1 if first_is_red else -1
    length = 0.15 * scene.canvas.frames
    red, blue = (
        np.clip(1.5 * (1 - np.abs(times - moment) / length), 0, 1) for moment in (-sign * gaps[0], sign * gaps[1])
    )
    color = np.where((red > blue)[:, None], np.array(RED, np.float32), np.array(BLUE, np.float32))
    return replace(rest(scene), color=color, opacity=np.maximum(red, blue))


def _draw_moving(label: str, canvas: Canvas, generator: np.random.Generator, split: str) -> Pixels:  # noqa: ARG001
    scene = set_scene(canvas, generator, EASY)
    return paint(scene, move(scene, label))


def _draw_order(label: str, canvas: Canvas, generator: np.random.Generator, split: str) -> Pixels:  # noqa: ARG001
    scene = set_scene(canvas, generator, EASY)
    red, blue = generator.uniform(0.22, 0.30, size=2) * canvas.frames
    return paint(scene, flash(scene, label == "red_then_blue", (float(red), float(blue))))


def _draw_speed(label: str, canvas: Canvas, generator: np.random.Generator, split: str) -> Pixels:  # noqa: ARG001
    scene = set_scene(canvas, generator, EASY)
    direction = ((1, 0), (-1, 0), (0, 1), (0, -1))[int(generator.integers(4))]
    return paint(scene, lap(scene, 1 if label == "slow" else count_fast_laps(canvas.frames), direction))


def count_fast_laps(frames: int) -> int:
    """Count the laps of a fast clip: from 3, without a common divisor with `frames`.

    Then a slow and a fast clip visit the same places, in another order: only the order tells them apart.

    Example:
        >>> [count_fast_laps(frames) for frames in (8, 16, 24, 30)]
        [3, 3, 5, 7]
    """
    return next(laps for laps in range(3, frames) if gcd(laps, frames) == 1)


def _draw_colored(label: str, canvas: Canvas, generator: np.random.Generator, split: str) -> Pixels:
    scene = set_scene(canvas, generator, EASY)
    names = list(COLORS)
    others = [name for name in names if name != label]
    # All three are drawn whatever the split, so that the clips of one number differ in nothing else.
    follows = generator.uniform() < SHORTCUT
    other, fair = generator.integers(len(others)), generator.integers(len(names))
    hint = label if follows else others[int(other)]
    ink = COLORS[hint if split in ("train", "val") else names[int(fair)]]
    color = np.clip(np.array(ink) + generator.uniform(-20, 20, size=3), 0, 255).astype(np.float32)
    colored = replace(scene, color=color)
    return paint(colored, move(colored, label))


def _pair(*pairs: tuple[str, str], of: tuple[str, ...]) -> Mapping[str, str]:
    """Exchange the two classes of each pair, and leave every other class as it is."""
    swaps = {name: name for name in of}
    for one, other in pairs:
        swaps[one], swaps[other] = other, one
    return MappingProxyType(swaps)


_UP_DOWN, _LEFT_RIGHT = ("up", "down"), ("left", "right")
_TURNS, _ZOOMS = ("rotate_clockwise", "rotate_counterclockwise"), ("zoom_in", "zoom_out")
_EIGHT, _FOUR, _TWO, _RATES = tuple(MOTIONS), tuple(COLORS), ("red_then_blue", "blue_then_red"), ("slow", "fast")

WORLDS.add(
    "moving-shapes",
    World(
        name="moving-shapes",
        classes=_EIGHT,
        partners=_pair(_UP_DOWN, _LEFT_RIGHT, _TURNS, _ZOOMS, of=_EIGHT),
        mirrors_horizontal=_pair(_LEFT_RIGHT, _TURNS, of=_EIGHT),
        mirrors_vertical=_pair(_UP_DOWN, _TURNS, of=_EIGHT),
        expected=MappingProxyType({"ordered": 1.0, "reversed_partner": 1.0, "shuffled": 0.5, "middle_frame": 0.125}),
        draw=_draw_moving,
    ),
)
WORLDS.add(
    "order",
    World(
        name="order",
        classes=_TWO,
        partners=_pair(_TWO, of=_TWO),
        mirrors_horizontal=_pair(of=_TWO),
        mirrors_vertical=_pair(of=_TWO),
        expected=MappingProxyType({"ordered": 1.0, "reversed_partner": 1.0, "shuffled": 0.5, "middle_frame": 0.5}),
        draw=_draw_order,
    ),
)
WORLDS.add(
    "speed",
    World(
        name="speed",
        classes=_RATES,
        partners=_pair(of=_RATES),
        mirrors_horizontal=_pair(of=_RATES),
        mirrors_vertical=_pair(of=_RATES),
        expected=MappingProxyType({"ordered": 1.0, "reversed_partner": 1.0, "shuffled": 0.5, "middle_frame": 0.5}),
        draw=_draw_speed,
    ),
)
WORLDS.add(
    "color-shortcut",
    World(
        name="color-shortcut",
        classes=_FOUR,
        partners=_pair(_UP_DOWN, _LEFT_RIGHT, of=_FOUR),
        mirrors_horizontal=_pair(_LEFT_RIGHT, of=_FOUR),
        mirrors_vertical=_pair(_UP_DOWN, of=_FOUR),
        expected=MappingProxyType(
            {
                "ordered": 1.0,
                "reversed_partner": 1.0,
                "shuffled": 0.5,
                "middle_frame": 0.25,
                "color": 0.25,
                "color_in_training": SHORTCUT,
            }
        ),
        draw=_draw_colored,
    ),
)
