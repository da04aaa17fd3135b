"""Draw one shape on one background, at every time of a clip: the brush that all worlds of moving pictures share.

A `Scene` is what the middle of a clip looks like and how fast things change; it is drawn from one distribution,
whatever the class. A `Course` says where the shape is at each time; that is the only thing the class decides.

    time   -1.5  -0.5   0.5   1.5        frames / 2 before and after the middle, so that playing a clip
             |     |  ^  |     |         backward is the same as negating the motion, to the last bit
                      middle: the Scene

The canvas is a torus: what leaves on the right enters on the left. Sizes wrap as well. So the distribution of every
single frame is the same in every class, not only that of the middle one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, UInt8

__all__ = [
    "SHAPES",
    "Canvas",
    "Course",
    "Difficulty",
    "Pixels",
    "Scene",
    "flip_scene",
    "paint",
    "rest",
    "reverse_scene",
    "set_scene",
]

Pixels = UInt8[np.ndarray, "time height width 3"]
Distance = Float32[np.ndarray, "time height width"]


class Canvas(NamedTuple):
    """Hold the extent of a clip: frames, and height and width in pixels."""

    frames: int
    height: int
    width: int

    def times(self) -> Float64[np.ndarray, " time"]:
        """Return the time of each frame in frames from the middle of the clip, symmetric about 0."""
        return np.arange(self.frames) - (self.frames - 1) / 2


@dataclass(frozen=True)
class Difficulty:
    """State how hard the pictures are: every range a clip is drawn from."""

    radius: tuple[float, float] = (0.2, 0.38)
    """Smallest and largest radius of a shape, as a share of the canvas' short side."""
    pan: tuple[float, float] = (0.03, 0.07)
    """Slowest and fastest movement, as a share of the short side a frame: 1.5 to 3.4 pixels of 48."""
    turn_deg: tuple[float, float] = (14.0, 34.0)
    """Slowest and fastest rotation, in degrees a frame."""
    zoom: tuple[float, float] = (0.08, 0.14)
    """Slowest and fastest change of size, as a share of the whole range of sizes (in octaves) a frame."""
    darkness: tuple[float, float] = (10.0, 60.0)
    """Levels (0 to 255) of the background's mean color, per channel."""
    brightness: tuple[float, float] = (150.0, 255.0)
    """Levels (0 to 255) of the shape's color, per channel."""
    texture: float = 5.0
    """Amplitude of the background's waves, in levels."""
    stripes: float = 0.15
    """Share of its color by which the pattern on the shape varies."""
    noise: float = 2.0
    """Standard deviation of the noise in every frame, in levels."""


@dataclass(frozen=True, eq=False)
class Scene:
    """Hold everything of a clip that its class does not decide."""

    canvas: Canvas
    shape: str
    """Key of `SHAPES`."""
    x_px: float
    """Distance of the shape's center to the right of the canvas' center, at the middle time."""
    y_px: float
    """The same downward."""
    angle: float
    """Radians clockwise."""
    level: float
    """Place of the size in its range, 0 (smallest) to 1 (largest)."""
    flip_x: int
    """-1 where the shape is drawn mirrored left to right, else 1."""
    flip_y: int
    """The same upside down."""
    pan_px: float
    """Speed of movement in pixels a frame; not negative."""
    turn: float
    """Speed of rotation in radians a frame; not negative."""
    zoom: float
    """Speed of growth in ranges a frame; not negative."""
    color: Float32[np.ndarray, " 3"]
    stripes: Float32[np.ndarray, " 3"]
    """Amplitude, waves a radius, and phase (in waves) of the pattern on it: triangle waves, which every processor
    computes to the same bit."""
    background: Float32[np.ndarray, "height width 3"]
    noise: Float32[np.ndarray, "time height width"]
    radius_px: tuple[float, float]
    """Smallest and largest radius."""


@dataclass(frozen=True, eq=False)
class Course:
    """Hold the shape's state at each time."""

    x_px: Float64[np.ndarray, " time"]
    y_px: Float64[np.ndarray, " time"]
    angle: Float64[np.ndarray, " time"]
    level: Float64[np.ndarray, " time"]
    color: Float32[np.ndarray, "time 3"]
    opacity: Float64[np.ndarray, " time"]


def set_scene(canvas: Canvas, generator: np.random.Generator, difficulty: Difficulty) -> Scene:
    """Draw a scene; takes the same numbers from the generator whatever the class will be."""
    uniform = generator.uniform
    short = min(canvas.height, canvas.width)
    return Scene(
        canvas=canvas,
        shape=list(SHAPES)[int(generator.integers(len(SHAPES)))],
        x_px=float(uniform(-0.5, 0.5)) * canvas.width,
        y_px=float(uniform(-0.5, 0.5)) * canvas.height,
        angle=float(uniform(-np.pi, np.pi)),
        level=float(uniform()),
        flip_x=int(generator.choice([-1, 1])),
        flip_y=int(generator.choice([-1, 1])),
        pan_px=float(uniform(*difficulty.pan)) * short,
        turn=float(np.deg2rad(uniform(*difficulty.turn_deg))),
        zoom=float(uniform(*difficulty.zoom)),
        color=uniform(*difficulty.brightness, size=3).astype(np.float32),
        stripes=np.array([difficulty.stripes, uniform(0.25, 1.25), uniform()], np.float32),
        background=_weave(canvas, generator, difficulty),
        noise=generator.standard_normal((canvas.frames, canvas.height, canvas.width), np.float32)
        * np.float32(difficulty.noise),
        radius_px=(difficulty.radius[0] * short, difficulty.radius[1] * short),
    )


def rest(scene: Scene) -> Course:
    """Return the course of a shape that stays as the scene has it."""
    still = np.ones(scene.canvas.frames)
    return Course(
        x_px=scene.x_px * still,
        y_px=scene.y_px * still,
        angle=scene.angle * still,
        level=scene.level * still,
        color=np.repeat(scene.color[None], scene.canvas.frames, axis=0),
        opacity=still,
    )


def reverse_scene(scene: Scene) -> Scene:
    """Return the scene whose clips are this one's played backward."""
    return replace(scene, noise=scene.noise[::-1])


def flip_scene(scene: Scene, *, horizontally: bool) -> Scene:
    """Return the scene whose clips are this one's seen in a mirror: left-right, or else up-down."""
    if horizontally:
        moved = replace(scene, x_px=-scene.x_px, flip_x=-scene.flip_x)
    else:
        moved = replace(scene, y_px=-scene.y_px, flip_y=-scene.flip_y)
    axis = 2 if horizontally else 1
    background, noise = np.flip(scene.background, axis - 1), np.flip(scene.noise, axis)
    return replace(moved, angle=-scene.angle, background=background, noise=noise)


def paint(scene: Scene, course: Course) -> Pixels:
    """Draw every frame of a clip, with smooth edges.

    Cost: about 2 ms for 16 frames of 48x48 on one core.
    """
    smallest, largest = scene.radius_px
    radius = (smallest * (largest / smallest) ** course.level).astype(np.float32)[:, None, None]
    u, v = _place(scene, course)
    u, v = u / radius, v / radius
    edge = SHAPES[scene.shape](u, v) * radius
    cover = np.clip(0.5 - edge, 0, 1) * course.opacity.astype(np.float32)[:, None, None]
    amplitude, waves, phase = scene.stripes
    stripe = waves * v + phase
    shade = 1 - amplitude * np.abs(2 * (stripe - np.floor(stripe)) - 1)
    ink = course.color[:, None, None, :] * shade[..., None] - scene.background
    frames = scene.background + cover[..., None] * ink + scene.noise[..., None]
    pixels: Pixels = np.clip(np.rint(frames), 0, 255).astype(np.uint8)
    return pixels


def _place(scene: Scene, course: Course) -> tuple[Distance, Distance]:
    """Return each pixel's place in the shape's own axes (right, down), in pixels from its center."""
    canvas = scene.canvas
    x = _wrap(np.arange(canvas.width) - (canvas.width - 1) / 2 - course.x_px[:, None], canvas.width)
    y = _wrap(np.arange(canvas.height) - (canvas.height - 1) / 2 - course.y_px[:, None], canvas.height)
    cos, sin = np.cos(course.angle)[:, None], np.sin(course.angle)[:, None]
    flat = np.float32
    u = (cos * x).astype(flat)[:, None, :] + (sin * y).astype(flat)[:, :, None]
    v = (-sin * x).astype(flat)[:, None, :] + (cos * y).astype(flat)[:, :, None]
    return u * flat(scene.flip_x), v * flat(scene.flip_y)


def _wrap(distance: Float64[np.ndarray, "time place"], period: int) -> Float64[np.ndarray, "time place"]:
    """Return the way around the torus that is shortest; odd, so that mirrored clips are equal to the last bit."""
    wrapped: Float64[np.ndarray, "time place"] = distance - period * np.rint(distance / period)
    return wrapped


def _weave(
    canvas: Canvas, generator: np.random.Generator, difficulty: Difficulty
) -> Float32[np.ndarray, "height width 3"]:
    """Draw a background: one color, and four waves that are seamless on the torus."""
    y = 2 * np.pi * np.arange(canvas.height)[:, None] / canvas.height
    x = 2 * np.pi * np.arange(canvas.width) / canvas.width
    waves = generator.integers(-4, 5, size=(4, 2))
    phases = generator.uniform(0, 2 * np.pi, size=4)
    tints = generator.uniform(-1, 1, size=(4, 3)) * difficulty.texture
    plain = generator.uniform(*difficulty.darkness, size=3)
    pattern = np.sin(waves[:, :1, None] * y + waves[:, 1:, None] * x + phases[:, None, None])
    woven: Float32[np.ndarray, "height width 3"] = (plain + np.einsum("khw,kc->hwc", pattern, tints)).astype(np.float32)
    return woven


def _box(u: Distance, v: Distance, middle: tuple[float, float], half: tuple[float, float]) -> Distance:
    across, along = np.abs(u - np.float32(middle[0])) - half[0], np.abs(v - np.float32(middle[1])) - half[1]
    distance: Distance = np.maximum(across, along)
    return distance


def _dot(u: Distance, v: Distance, middle: tuple[float, float], radius: float) -> Distance:
    distance: Distance = np.hypot(u - np.float32(middle[0]), v - np.float32(middle[1])) - np.float32(radius)
    return distance


def _tip(u: Distance, v: Distance, top: float, bottom: float, half: float) -> Distance:
    """Draw an upright triangle from its tip at `top` to its base at `bottom`, `half` as wide as its base."""
    height = bottom - top
    slope = float(np.hypot(height, half))
    side = (np.abs(u) * np.float32(height) - (v - np.float32(top)) * np.float32(half)) / np.float32(slope)
    distance: Distance = np.maximum(side, v - np.float32(bottom))
    return distance


def _join(one: Distance, other: Distance) -> Distance:
    nearer: Distance = np.minimum(one, other)
    return nearer


def _draw_wedge(u: Distance, v: Distance) -> Distance:
    return _tip(u, v, -1.0, 0.6, 0.6)


def _draw_arrow(u: Distance, v: Distance) -> Distance:
    return _join(_tip(u, v, -1.0, -0.05, 0.7), _box(u, v, (0.0, 0.4), (0.22, 0.55)))


def _draw_corner(u: Distance, v: Distance) -> Distance:
    return _join(_box(u, v, (-0.4, 0.0), (0.25, 0.9)), _box(u, v, (0.1, 0.65), (0.6, 0.25)))


def _draw_tee(u: Distance, v: Distance) -> Distance:
    return _join(_box(u, v, (0.0, -0.55), (0.75, 0.25)), _box(u, v, (0.0, 0.2), (0.25, 0.75)))


def _draw_pin(u: Distance, v: Distance) -> Distance:
    return _join(_dot(u, v, (0.0, -0.5), 0.45), _box(u, v, (0.0, 0.4), (0.2, 0.6)))


def _draw_flag(u: Distance, v: Distance) -> Distance:
    return _join(_box(u, v, (-0.35, 0.0), (0.15, 0.95)), _box(u, v, (0.2, -0.5), (0.5, 0.4)))


SHAPES: Mapping[str, Callable[[Distance, Distance], Distance]] = MappingProxyType(
    {
        "wedge": _draw_wedge,
        "arrow": _draw_arrow,
        "corner": _draw_corner,
        "tee": _draw_tee,
        "pin": _draw_pin,
        "flag": _draw_flag,
    }
)
"""Signed distances to the shapes, in units of their radius: none looks the same after less than a whole turn."""
