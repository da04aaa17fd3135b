"""Make files that are unusual and right: every one must decode, to these frames at these times."""

import struct
import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from . import boxes
from .entry import FFMPEG, Entry, Frames, Ground, written
from .pictures import HEIGHT, NUMBERS, RATE, WIDTH, draw, encode, encoded, remux

STEADY = tuple(i / RATE for i in NUMBERS)
MS = Fraction(1, 1000)


def _clip(key: str, name: str, codec: str = "libx264", frames: Frames | None = None, **settings: Any) -> Entry:
    """State one plainly encoded file."""
    return Entry(key, name, lambda path, ground: encode(path, codec, **settings), frames or Frames(times_s=STEADY))


def _cut(key: str, name: str, data: Callable[[], bytes], frames: Frames) -> Entry:
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

            entries.append(_cut(f"rotated_{90 * quarters}{'_mirrored' * mirrored}", "turned.mp4", make, frames))
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


def _two_streams(path: Path, ground: Ground) -> None:
    with av.open(str(path), "w") as container:
        sizes = ((HEIGHT, WIDTH), (24, 32))
        streams: list[Any] = [container.add_stream("libx264", rate=RATE) for _ in sizes]
        for stream, (height, width) in zip(streams, sizes, strict=True):
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in NUMBERS:
            for stream, size in zip(streams, sizes, strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(number, *size), format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))


def _covered(path: Path, ground: Ground) -> None:
    """Put a cover picture before the video."""
    with av.open(str(path), "w", format="matroska") as container:
        stream: Any = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        picture = BytesIO()
        Image.fromarray(draw(255, 200, 200)).save(picture, "JPEG")
        container.add_attachment("cover.jpg", "image/jpeg", picture.getvalue())
        for number in NUMBERS:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(number), format="rgb24")))
        container.mux(stream.encode(None))


def _with_sound(path: Path, ground: Ground) -> None:
    with av.open(str(path), "w") as container:
        sound: Any = container.add_stream("aac", rate=44100)
        stream: Any = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number in NUMBERS:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(number), format="rgb24")))
        container.mux(stream.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.rate = 44100
        for _ in range(80):
            container.mux(sound.encode(silence))
        container.mux(sound.encode(None))


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
        pictures[0].save(path, form, save_all=True, append_images=pictures[1:], duration=1000 // RATE, loop=0, disposal=2 if form == "GIF" and transparent else 0, blend=0)

    return make


def _packed_xvid() -> bytes:
    """Pack each B-picture behind its reference into one AVI chunk, as DivX and old XviD did, with a stand-in chunk after it."""
    source = encoded("mpeg4", "avi", options={"bf": "1", "g": "11", "sc_threshold": "1000000000"}, numbers=range(21))
    with av.open(BytesIO(source)) as container:
        stream = container.streams.video[0]
        chunks = [bytes(packet) for packet in container.demux(stream) if packet.size]
        header = bytes(stream.codec_context.extradata or b"")

    def kind(chunk: bytes) -> int:
        return chunk[chunk.rindex(b"\0\0\1\xb6") + 4] >> 6

    def wait(chunk: bytes) -> bytes:
        # A picture that is not coded: type P, no whole second, marker, time increment as in the chunk, marker, not coded.
        return b"\0\0\1\xb6" + bytes([0x40 | chunk[chunk.rindex(b"\0\0\1\xb6") + 4] & 0x3F, 0x50]) + b"\x7f" * 6

    out: list[bytes] = []
    for chunk in chunks:
        if kind(chunk) == 2 and out:
            out[-1] += chunk
            out.append(wait(chunk))
        else:
            out.append(chunk)
    user = b"\0\0\1\xb2DivX503b1393p"
    buffer = BytesIO()
    with av.open(BytesIO(source)) as template, av.open(buffer, "w", format="avi") as container:
        stream = container.add_stream_from_template(template.streams.video[0])
        for index, chunk in enumerate(out):
            start = chunk.find(b"\0\0\1\xb6")
            packet = av.Packet(header + user + chunk if index == 0 and header not in chunk else chunk[:start] + user * (index == 0) + chunk[start:])
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, index, index, Fraction(1, RATE)
            packet.is_keyframe = kind(chunk) == 0
            container.mux(packet)
    return buffer.getvalue()


def _live(form: str, codec: str) -> Callable[[Path, Ground], None]:
    """Write to a pipe, as a live recorder does: no duration, no index, unknown sizes."""

    class Pipe:
        def __init__(self) -> None:
            self.parts: list[bytes] = []

        def write(self, data: bytes) -> int:
            self.parts.append(bytes(data))
            return len(data)

    def make(path: Path, ground: Ground) -> None:
        pipe = Pipe()
        encode(pipe, codec, form=form, mux={"live": "1"})  # type: ignore[arg-type]
        path.write_bytes(b"".join(pipe.parts))

    return make


def _resized(form: str) -> Callable[[Path, Ground], object]:
    later = tuple(range(10, 20))
    return written(lambda: encoded(form=form, numbers=NUMBERS[:10]) + encoded(form=form, numbers=later, pts=later, size=(96, 128)))


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
        _clip("vfr_hole_mp4", "hole.mp4", pts=_HOLE, time_base=MS, frames=hole),
        _clip("vfr_hole_mkv", "hole.mkv", pts=_HOLE, time_base=MS, frames=hole),
        _clip("vfr_mp4", "vfr.mp4", pts=_UNEVEN, time_base=MS, frames=uneven),
        _clip("vfr_bframes_mkv", "vfr.mkv", pts=_UNEVEN, time_base=MS, options={"bf": "3", "g": "7"}, frames=uneven),
        _clip("late_mp4", "late.mp4", pts=late, time_base=MS, frames=uneven),
        _clip("late_mkv", "late.mkv", pts=late, time_base=MS, frames=uneven),
        _clip("late_ts", "late.ts", pts=late, time_base=MS, frames=uneven),
        _cut("late_no_edit_list", "late.mp4", _unindexed_start, Frames(times_s=STEADY)),
        _clip("negative_mp4", "negative.mp4", pts=[i - 5 for i in NUMBERS], options={"bf": "2"},
              mux={"use_editlist": "0", "movflags": "negative_cts_offsets", "avoid_negative_ts": "disabled"}),
        _clip("bframes_mp4", "b.mp4", options={"bf": "3", "g": "8", "b_strategy": "0"}),
        _clip("bframes_ts", "b.ts", options={"bf": "3", "g": "8", "b_strategy": "0"}),
        _clip("open_gop_mp4", "open.mp4", options={"x264-params": "open-gop=1:keyint=6:bframes=3:b-adapt=0:scenecut=0"}),
        _clip("open_gop_ts", "open.ts", options={"x264-params": "open-gop=1:keyint=6:bframes=3:b-adapt=0:scenecut=0"}),
        _clip("open_gop_mpeg2", "open.mpg", "mpeg2video", options={"bf": "2", "g": "6", "b:v": "2M"},
              time_base=Fraction(1, 25), frames=Frames(times_s=tuple(i / 25 for i in NUMBERS))),
        _cut("edit_cut", "edited.mp4", lambda: _edited([(13, 10)]), Frames(tuple(range(10, 23)), times_s=tuple(i / 10 for i in range(13)))),
        _cut("edit_inside_group", "edited.mp4", lambda: _edited([(27, 13)]), Frames(tuple(range(13, 40)), times_s=tuple(i / 10 for i in range(27)))),
        _cut("edit_two", "edited.mp4", lambda: _edited([(5, 5), (10, 25)]),
             Frames((*range(5, 10), *range(25, 35)), times_s=tuple(i / 10 for i in range(15)))),
        _cut("edit_pause", "edited.mp4", lambda: _edited([(7, -1), (40, 0)]), Frames(tuple(range(40)), times_s=tuple(i / 10 for i in range(40)))),
        Entry("copy_cut", "cut.mp4", _copied, Frames(numbers=tuple(range(13, 40)), times_s=tuple(i / 10 for i in range(27))), needs_ffmpeg=True),
    ]


def _pixels() -> list[Entry]:
    gray = Frames(times_s=STEADY, color=False)
    rows = [
        _clip("plain", "plain.mp4"),
        _clip("sar", "sar.mp4", prepare=_set(sample_aspect_ratio=Fraction(4, 3))),
        _clip("ten_bit", "ten.mp4", pix_fmt="yuv420p10le"),
        _clip("ten_bit_hevc", "ten.mkv", "libx265", pix_fmt="yuv420p10le", options={"x265-params": "log-level=none"}),
        _clip("chroma_444", "full.mp4", pix_fmt="yuv444p"),
        _clip("chroma_422", "half.mp4", pix_fmt="yuv422p"),
        _clip("gray", "gray.mp4", pix_fmt="gray", frames=gray),
        _clip("full_range", "full.mp4", pix_fmt="yuvj420p", prepare=_set(color_range=2)),
        _clip("rgb_h264", "rgb.mp4", "libx264rgb", pix_fmt="rgb24"),
        _clip("interlaced_mpeg2", "interlaced.ts", "mpeg2video", options={"flags": "+ilme+ildct", "top": "1", "b:v": "2M"},
              time_base=Fraction(1, 25), frames=Frames(times_s=tuple(i / 25 for i in NUMBERS))),
        _clip("interlaced_h264", "interlaced.mp4", options={"x264-params": "interlaced=1:tff=1"}),
        _clip("one_pixel", "one.mkv", "ffv1", size=(1, 1), pix_fmt="bgr0", frames=Frames(None, 1, 1, STEADY, color=False)),
        _clip("one_pixel_h264", "one.mp4", size=(2, 2), frames=Frames(None, 2, 2, STEADY, color=False)),
        _clip("odd_444", "odd.mp4", size=(49, 67), pix_fmt="yuv444p", frames=Frames(height=49, width=67, times_s=STEADY)),
        _clip("odd_420", "odd.webm", "libvpx-vp9", size=(49, 67), options={"b:v": "1M"}, frames=Frames(height=49, width=67, times_s=STEADY)),
        _clip("narrow", "narrow.mkv", "ffv1", size=(48, 3), pix_fmt="bgr0", frames=Frames(None, 48, 3, STEADY, color=False)),
        Entry("huge_single", "eight_k.mp4", _huge, Frames((5,), 4320, 7680, (0.0,))),
        _clip("single", "single.mp4", numbers=(9,), frames=Frames((9,), times_s=(0.0,))),
        Entry("gif", "pictures.gif", _pillow("GIF", False), Frames(times_s=STEADY)),
        Entry("gif_alpha", "alpha.gif", _pillow("GIF", True), Frames(times_s=STEADY)),
        Entry("apng", "pictures.png", _pillow("PNG", False), Frames(times_s=STEADY)),
        Entry("apng_alpha", "alpha.apng", _pillow("PNG", True), Frames(times_s=STEADY)),
        _clip("webm_alpha", "alpha.webm", "libvpx-vp9", pix_fmt="yuva420p", options={"auto-alt-ref": "0", "b:v": "1M"}),
    ]
    return rows


def _forms() -> list[Entry]:
    hidden = {"auto-alt-ref": "1", "lag-in-frames": "16", "b:v": "200k", "deadline": "good", "cpu-used": "5"}
    pal = {"time_base": Fraction(1, 25), "options": {"b:v": "2M"}, "frames": Frames(times_s=tuple(i / 25 for i in NUMBERS))}
    raw = Frames()
    long = tuple(range(60))
    steady = Frames(long, times_s=tuple(i / 10 for i in long))
    return [
        Entry("two_streams", "two.mp4", _two_streams, Frames(times_s=STEADY)),
        Entry("cover_art", "cover.mkv", _covered, Frames(times_s=STEADY)),
        Entry("with_sound", "sound.mp4", _with_sound, Frames(times_s=STEADY)),
        Entry("live_mkv", "live.mkv", _live("matroska", "libx264"), Frames(times_s=STEADY)),
        Entry("live_webm", "live.webm", _live("webm", "libvpx"), Frames(times_s=STEADY)),
        Entry("resized_h264", "resized.h264", _resized("h264"), Frames()),
        Entry("resized_ts", "resized.ts", _resized("mpegts"), Frames(), frozenset({"corrupt", "unsupported_codec"})),
        _clip("raw_h264", "raw.h264", form="h264", frames=raw),
        _clip("raw_h264_bframes", "raw.264", form="h264", options={"bf": "2"}, frames=raw),
        _clip("raw_hevc", "raw.hevc", "libx265", form="hevc", options={"x265-params": "log-level=none"}, frames=raw),
        _clip("hevc_mp4", "clip.mp4", "libx265", options={"x265-params": "log-level=none:keyint=7"}),
        _clip("xvid_avi", "clip.avi", "mpeg4", options={"b:v": "1M"}),
        _clip("xvid_avi_bframes", "b.avi", "mpeg4", options={"bf": "2", "b:v": "1M"}),
        _cut("xvid_avi_packed", "packed.avi", _packed_xvid, Frames(tuple(range(21)))),
        _clip("mpeg1_ps", "clip.mpg", "mpeg1video", **pal),
        _clip("mpeg2_ps", "clip.vob", "mpeg2video", form="vob", **pal),
        _clip("mpeg2_ts", "clip.ts", "mpeg2video", **pal),
        _clip("h264_ts", "clip.m2ts"),
        _clip("flv", "clip.flv", "flv"),
        _clip("flv_h264", "h264.flv", options={"bf": "2"}),
        _clip("wmv", "clip.wmv", "wmv2", options={"b:v": "1M"}),
        _clip("mjpeg_avi", "clip.avi", "mjpeg", pix_fmt="yuvj420p"),
        _clip("mjpeg_mov", "clip.mov", "mjpeg", pix_fmt="yuvj420p"),
        _clip("vp8", "clip.webm", "libvpx", options={"b:v": "1M"}),
        _clip("vp8_hidden", "hidden.webm", "libvpx", numbers=long, options=hidden, frames=steady),
        _clip("vp9_hidden", "hidden.webm", "libvpx-vp9", numbers=long, options=hidden, frames=steady),
        _clip("av1", "clip.mkv", "libsvtav1", size=(64, 64), options={"preset": "12"}, frames=Frames(height=64, width=64, times_s=STEADY)),
        _clip("av1_mp4", "clip.mp4", "libsvtav1", size=(64, 64), options={"preset": "12"}, frames=Frames(height=64, width=64, times_s=STEADY)),
        _clip("prores", "clip.mov", "prores_ks", pix_fmt="yuv422p10le"),
        _clip("fragmented", "fragmented.mp4", mux={"movflags": "frag_keyframe+empty_moov"}, options={"g": "6", "bf": "2"}),
        _clip("faststart", "fast.mp4", mux={"movflags": "faststart"}),
        _clip("mkv", "clip.mkv", options={"bf": "2"}),
        _clip("three_gp", "clip.3gp", "mpeg4", form="3gp"),
        _clip("ten_thousandths", "ticks.mp4", time_base=Fraction(1, 90000), pts=[i * 9000 for i in NUMBERS]),
    ]


def _names() -> list[Entry]:
    long = "n" * 251 + ".mp4"
    names = {
        "newline": "two\nlines.mp4", "unicode": "vidéo 舞蹈 🎬.mp4", "longest": long, "dash": "-i.mp4", "quotes": "a'b\"c`$(d).mp4",
        "percent": "100%d %s {x}.mp4", "no_suffix": "clip", "wrong_suffix": "clip.txt", "playlist_suffix": "clip.m3u8", "colon": "a:b|c,d.mp4",
        "markup": "[bold]<b>x.mp4",
    }  # fmt: skip
    entries = [Entry(f"name_{key}", name, lambda path, ground: path.write_bytes(ground.clip), Frames()) for key, name in names.items()]

    def deep(path: Path, ground: Ground) -> None:
        path.parent.mkdir(parents=True)
        path.write_bytes(ground.clip)

    entries.append(Entry("name_four_kilobytes", "/".join(["d" * 200] * 18 + ["deep.mp4"]), deep, Frames()))
    return entries


def _old_time() -> list[Entry]:
    """Lengths that the header states wrongly: what is in the file counts."""

    def lying(field: str, offset: int, value: int) -> Callable[[], bytes]:
        return lambda: boxes.put(encoded(), field, offset, ">I", value)

    return [
        _cut("duration_zero", "zero.mp4", lying("moov/mvhd", 16, 0), Frames(times_s=STEADY)),
        _cut("duration_huge", "long.mp4", lying("moov/trak/mdia/mdhd", 16, 0xFFFFFFF0), Frames(times_s=STEADY)),
        _cut("trailing_junk", "junk.mp4", lambda: encoded() + struct.pack(">I4s", 4096, b"free") + bytes(4088), Frames(times_s=STEADY)),
        _cut("leading_free", "free.mkv", lambda: encoded(form="matroska"), Frames(times_s=STEADY)),
    ]


def _keep_from(first: int) -> Callable[[Path, Ground], None]:
    """Drop the packets before the first, the key picture among them."""
    return lambda path, ground: remux(
        encoded(numbers=range(40), options={"g": "20", "bf": "0", "sc_threshold": "0"}), path, "mpegts", lambda index, packet: index >= first
    )


ENTRIES = [*_rotations(), *_times(), *_pixels(), *_forms(), *_names(), *_old_time()]
ENTRIES.append(Entry("headless_ts", "headless.ts", _keep_from(7), Frames(None), frozenset({"corrupt", "truncated"})))
