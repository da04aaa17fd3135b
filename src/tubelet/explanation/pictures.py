"""Draw explanations: heat over gray pictures, as a moving picture and as a sheet with importance over seconds.

The picture underneath is gray and the heat alone is colored, by a map that is even to the eye and read by color-blind
people too (plasma: blue, magenta, yellow); nothing is colored where nothing was found.
"""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from tubelet.files import write_whole
from tubelet.report.animation import encode_gif
from tubelet.report.figures import BLUE, GRAY, make_figure, save_figure
from tubelet.video.encoding import Encoding, encode_frames
from tubelet.video.source import Video

__all__ = ["draw_heat", "draw_sheet", "write_gif", "write_mp4"]

FPS = 5.0
"""Frames shown a second, whatever the clip's own pace: slow enough to be looked at."""
LEAST_SIDE = 240
"""Pixels: smaller pictures are enlarged by a whole number."""
MOST_FRAMES = 8
"""Frames on a sheet."""
_OPACITY = 0.85

Frames = UInt8[np.ndarray, "time height2 width2 3"]
Path_ = str | os.PathLike[str]


def draw_heat(
    pixels: UInt8[np.ndarray, "time height width channel"], heat: Float32[np.ndarray, "time height width"]
) -> Frames:
    """Lay heat over the gray frames of a clip, the more opaque the hotter, enlarged where they are small.

    Args:
        pixels: three channels are RGB; of any other number the first one is shown.
        heat: 0 to 1.
    """
    from matplotlib import colormaps

    gray = pixels @ np.array([0.299, 0.587, 0.114], np.float32) if pixels.shape[-1] == 3 else pixels[..., 0]
    shades = colormaps["plasma"](heat)[..., :3] * 255
    cover = (_OPACITY * np.sqrt(np.clip(heat, 0, 1)))[..., None]
    mixed = gray[..., None] * (1 - cover) + shades * cover
    return _enlarge(np.rint(mixed).astype(np.uint8))


def _enlarge(frames: UInt8[np.ndarray, "time height width 3"]) -> Frames:
    times = math.ceil(LEAST_SIDE / min(frames.shape[1:3])) if min(frames.shape[1:3]) < LEAST_SIDE else 1
    return frames.repeat(times, axis=1).repeat(times, axis=2)


def write_gif(path: Path_, frames: Frames) -> None:
    """Write frames as a GIF that begins anew at its end."""
    with write_whole(path) as stream:
        stream.write(encode_gif(frames, fps=FPS, longest_px=max(frames.shape[1:3]), colors=256))


def write_mp4(path: Path_, frames: Frames) -> None:
    """Write frames as an H.264 video."""
    with write_whole(path) as stream, Video(frames, fps=FPS) as video:
        encode_frames(video, stream, 0, len(frames), Encoding())


def draw_sheet(
    path: Path_,
    frames: Frames,
    times_s: Float64[np.ndarray, " time"],
    curve: Float32[np.ndarray, " time"],
    words: Sequence[str],
) -> None:
    """Draw up to eight frames side by side, and below them how important each moment is.

    Args:
        path: the file to write; its ending chooses the format.
        frames: with heat on them.
        times_s: when each frame is shown.
        curve: the share of all importance that each frame has.
        words: a title, and lines for below the curve.
    """
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), MOST_FRAMES)).round().astype(int)
    width, aspect = 10.5, frames.shape[1] / frames.shape[2]
    strip_in = min(width / len(chosen) * aspect, 4.0)
    title, *notes = words
    figure = make_figure(width, strip_in + 2.3 + 0.2 * len(notes))
    rows = figure.add_gridspec(2, len(chosen), height_ratios=(strip_in, 1.9))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, parse_math=False)
    for column, index in enumerate(chosen):
        axes = figure.add_subplot(rows[0, column])
        axes.imshow(frames[index])
        axes.set_title(f"{times_s[index]:.2f} s", fontsize=8, color=GRAY, pad=2)
        axes.axis("off")
    _draw_curve(figure.add_subplot(rows[1, :]), times_s, curve, chosen)
    figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=8.5, color=GRAY, parse_math=False)
    save_figure(figure, path)


def _draw_curve(
    axes: Any,
    times_s: Float64[np.ndarray, " time"],
    curve: Float32[np.ndarray, " time"],
    chosen: Int64[np.ndarray, " shown"],
) -> None:
    axes.plot(times_s, curve, color=BLUE, linewidth=1.8)
    axes.fill_between(times_s, curve, color=BLUE, alpha=0.15)
    axes.plot(times_s[chosen], curve[chosen], "o", color=BLUE, markersize=5)
    axes.set_ylim(bottom=0, top=max(float(curve.max()), 1e-6) * 1.12)
    axes.margins(x=0.02)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("seconds (dots: the frames above)", color=GRAY, fontsize=9)
    axes.set_ylabel("share of importance", color=GRAY, fontsize=9)
