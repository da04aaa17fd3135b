"""Make files that are unusual and right: every one must decode, to these frames at these times."""

import struct
import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import boxes
from .entry import FFMPEG, Entry, Frames, Ground
from .pictures import HEIGHT, NUMBERS, RATE, WIDTH, draw, encode, encoded

STEADY = tuple(i / RATE for i in NUMBERS)
MS = Fraction(1, 1000)


def clip(key: str, name: str, codec: str = "libx264", frames: Frames | None = None, **settings: Any) -> Entry:
    """State one plainly encoded file."""
    return Entry(key, name, lambda path, ground: encode(path, codec, **settings), frames or Frames(times_s=STEADY))


def cut(key: str, name: str, data: Callable[[], bytes], frames: Frames) -> Entry:
    """State one file made by byte surgery."""
    return Entry(key, name, lambda path, ground: path.write_bytes(data()), frames)


def _rotations() -> list[Entry]:
    entries = []
    for quarters in range(4):
        for mirrored in (False, True):
            size = (WIDTH, HEIGHT) if quarters % 2 else (HEIGHT, WIDTH)
            frames = Frames(height=size[0], width=size[1], times_s=STEADY, turn=(quarters, mirrored))

            def make(quarters: int = quarters, mirrored: bool = mirrored) -> bytes:
                return boxes.turned(encoded(), quarters, mirrored, HEIGHT, WIDTH)

            entries.append(cut(f"rotated_{90 * quarters}{'_mirrored' * mirrored}", "turned.mp4", make, frames))
    return entries


def _set(**values: Any) -> Callable[[Any], None]:
    def prepare(context: Any) -> None:
        for name, value in values.items():
            setattr(context, name, value)

    return prepare


def _edited(edits: Sequence[tuple[int, int]]) -> bytes:
    """Cut 40 pictures (a key frame every 5, no B-frames) by an edit list in tenths of a second; -1 is a pause."""
    data = encoded(numbers=range(40), options={"g": "5", "keyint_min": "5", "sc_threshold": "0", "bf": "0"})
    ticks = boxes.media_scale(data) // RATE
    return boxes.with_edits(data, [(tenths * 100, first * ticks if first >= 0 else -1) for tenths, first in edits])


def _copied(path: Path, ground: Ground) -> None:
    """Trim in the way everybody does: `ffmpeg -ss T -c copy`, the cut inside a group of pictures."""
    whole = path.with_name("whole.mp4")
    encode(whole, numbers=range(40), options={"g": "20", "bf": "2", "sc_threshold": "0"})
    command = [str(FFMPEG), "-v", "error", "-y", "-ss", "1.3", "-i", str(whole), "-c", "copy", str(path)]
    subprocess.run(command, check=True, capture_output=True)


def _pillow(form: str, transparent: bool) -> Callable[[Path, Ground], None]:
    """Write GIF or APNG with Pillow; transparent corners must not matter to the rest."""

    def make(path: Path, ground: Ground) -> None:
        pictures = []
        for number in NUMBERS:
            picture = draw(number)
            alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
            if transparent:
                alpha[-4:, -4:] = 0
            pictures.append(Image.fromarray(np.concatenate([picture, alpha], -1) if transparent else picture))
        pictures[0].save(
            path,
            form,
            save_all=True,
            append_images=pictures[1:],
            duration=1000 // RATE,
            loop=0,
            disposal=2 if form == "GIF" and transparent else 0,
            blend=0,
        )

    return make


def _huge(path: Path, ground: Ground) -> None:
    encode(path, numbers=(5,), size=(4320, 7680), options={"preset": "ultrafast", "crf": "40"})


def _unindexed_start() -> bytes:
    """Start a track 8 seconds late, without an edit list."""
    return encoded(pts=[80 + i for i in NUMBERS], mux={"use_editlist": "0"}, options={"bf": "2"})


_HOLE = tuple(i * 40 if i < 10 else 3_600_000 + i * 40 for i in NUMBERS)
_UNEVEN = tuple(sum(17 + 31 * (k * k % 7) for k in range(i)) for i in NUMBERS)


def _times() -> list[Entry]:
    hole = Frames(times_s=tuple(p / 1000 for p in _HOLE))
    uneven = Frames(times_s=tuple(p / 1000 for p in _UNEVEN))
    late = [p + 8333 for p in _UNEVEN]
    return [
        clip("vfr_hole_mp4", "hole.mp4", pts=_HOLE, time_base=MS, frames=hole),
        clip("vfr_hole_mkv", "hole.mkv", pts=_HOLE, time_base=MS, frames=hole),
        clip("vfr_mp4", "vfr.mp4", pts=_UNEVEN, time_base=MS, frames=uneven),
        clip("vfr_bframes_mkv", "vfr.mkv", pts=_UNEVEN, time_base=MS, options={"bf": "3", "g": "7"}, frames=uneven),
        clip("late_mp4", "late.mp4", pts=late, time_base=MS, frames=uneven),
        clip("late_mkv", "late.mkv", pts=late, time_base=MS, frames=uneven),
        clip("late_ts", "late.ts", pts=late, time_base=MS, frames=uneven),
        cut("late_no_edit_list", "late.mp4", _unindexed_start, Frames(times_s=STEADY)),
        clip(
            "negative_mp4",
            "negative.mp4",
            pts=[i - 5 for i in NUMBERS],
            options={"bf": "2"},
            mux={"use_editlist": "0", "movflags": "negative_cts_offsets", "avoid_negative_ts": "disabled"},
        ),
        clip("bframes_mp4", "b.mp4", options={"bf": "3", "g": "8", "b_strategy": "0"}),
        clip("bframes_ts", "b.ts", options={"bf": "3", "g": "8", "b_strategy": "0"}),
        clip("open_gop_mp4", "open.mp4", options={"x264-params": "open-gop=1:keyint=6:bframes=3:b-adapt=0:scenecut=0"}),
        clip("open_gop_ts", "open.ts", options={"x264-params": "open-gop=1:keyint=6:bframes=3:b-adapt=0:scenecut=0"}),
        clip(
            "open_gop_mpeg2",
            "open.mpg",
            "mpeg2video",
            options={"bf": "2", "g": "6", "b:v": "2M"},
            time_base=Fraction(1, 25),
            frames=Frames(times_s=tuple(i / 25 for i in NUMBERS)),
        ),
        cut(
            "edit_cut",
            "edited.mp4",
            lambda: _edited([(13, 10)]),
            Frames(tuple(range(10, 23)), times_s=tuple(i / 10 for i in range(13))),
        ),
        cut(
            "edit_inside_group",
            "edited.mp4",
            lambda: _edited([(27, 13)]),
            Frames(tuple(range(13, 40)), times_s=tuple(i / 10 for i in range(27))),
        ),
        cut(
            "edit_two",
            "edited.mp4",
            lambda: _edited([(5, 5), (10, 25)]),
            Frames((*range(5, 10), *range(25, 35)), times_s=tuple(i / 10 for i in range(15))),
        ),
        cut(
            "edit_pause",
            "edited.mp4",
            lambda: _edited([(7, -1), (40, 0)]),
            Frames(tuple(range(40)), times_s=tuple(i / 10 for i in range(40))),
        ),
        Entry(
            "copy_cut",
            "cut.mp4",
            _copied,
            Frames(numbers=tuple(range(13, 40)), times_s=tuple(i / 10 for i in range(27))),
            needs_ffmpeg=True,
        ),
    ]


def _pixels() -> list[Entry]:
    gray = Frames(times_s=STEADY, color=False)
    return [
        clip("plain", "plain.mp4"),
        clip("sar", "sar.mp4", prepare=_set(sample_aspect_ratio=Fraction(4, 3))),
        clip("ten_bit", "ten.mp4", pix_fmt="yuv420p10le"),
        clip("ten_bit_hevc", "ten.mkv", "libx265", pix_fmt="yuv420p10le", options={"x265-params": "log-level=none"}),
        clip("chroma_444", "full.mp4", pix_fmt="yuv444p"),
        clip("chroma_422", "half.mp4", pix_fmt="yuv422p"),
        clip("gray", "gray.mp4", pix_fmt="gray", frames=gray),
        clip("full_range", "full.mp4", pix_fmt="yuvj420p", prepare=_set(color_range=2)),
        clip("rgb_h264", "rgb.mp4", "libx264rgb", pix_fmt="rgb24"),
        clip(
            "interlaced_mpeg2",
            "interlaced.ts",
            "mpeg2video",
            options={"flags": "+ilme+ildct", "top": "1", "b:v": "2M"},
            time_base=Fraction(1, 25),
            frames=Frames(times_s=tuple(i / 25 for i in NUMBERS)),
        ),
        clip("interlaced_h264", "interlaced.mp4", options={"x264-params": "interlaced=1:tff=1"}),
        clip(
            "one_pixel", "one.mkv", "ffv1", size=(1, 1), pix_fmt="bgr0", frames=Frames(None, 1, 1, STEADY, color=False)
        ),
        clip("one_pixel_h264", "one.mp4", size=(2, 2), frames=Frames(None, 2, 2, STEADY, color=False)),
        clip(
            "odd_444", "odd.mp4", size=(49, 67), pix_fmt="yuv444p", frames=Frames(height=49, width=67, times_s=STEADY)
        ),
        clip(
            "odd_420",
            "odd.webm",
            "libvpx-vp9",
            size=(49, 67),
            options={"b:v": "1M"},
            frames=Frames(height=49, width=67, times_s=STEADY),
        ),
        clip(
            "narrow",
            "narrow.mkv",
            "ffv1",
            size=(48, 3),
            pix_fmt="bgr0",
            frames=Frames(None, 48, 3, STEADY, color=False),
        ),
        Entry("huge_single", "eight_k.mp4", _huge, Frames((5,), 4320, 7680, (0.0,))),
        clip("single", "single.mp4", numbers=(9,), frames=Frames((9,), times_s=(0.0,))),
        Entry("gif", "pictures.gif", _pillow("GIF", False), Frames(times_s=STEADY)),
        Entry("gif_alpha", "alpha.gif", _pillow("GIF", True), Frames(times_s=STEADY)),
        Entry("apng", "pictures.png", _pillow("PNG", False), Frames(times_s=STEADY)),
        Entry("apng_alpha", "alpha.apng", _pillow("PNG", True), Frames(times_s=STEADY)),
        clip("webm_alpha", "alpha.webm", "libvpx-vp9", pix_fmt="yuva420p", options={"auto-alt-ref": "0", "b:v": "1M"}),
    ]


def _lies() -> list[Entry]:
    """Lengths that the header states wrongly: what is in the file counts."""

    def lying(field: str, offset: int, value: int) -> Callable[[], bytes]:
        return lambda: boxes.put(encoded(), field, offset, ">I", value)

    return [
        cut("duration_zero", "zero.mp4", lying("moov/mvhd", 16, 0), Frames(times_s=STEADY)),
        cut("duration_huge", "long.mp4", lying("moov/trak/mdia/mdhd", 16, 0xFFFFFFF0), Frames(times_s=STEADY)),
        cut(
            "trailing_junk",
            "junk.mp4",
            lambda: encoded() + struct.pack(">I4s", 4096, b"free") + bytes(4088),
            Frames(times_s=STEADY),
        ),
        cut("leading_free", "free.mkv", lambda: encoded(form="matroska"), Frames(times_s=STEADY)),
    ]


ENTRIES = [*_rotations(), *_times(), *_pixels(), *_lies()]
