"""Make right files of every container and codec, and with every kind of name: each must decode."""

from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from .entry import Entry, Frames, Ground, written
from .odd import STEADY, clip, cut
from .pictures import HEIGHT, NUMBERS, RATE, WIDTH, draw, encode, encoded, remux


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


def _packed_xvid() -> bytes:
    """Pack each B-picture behind its reference into one AVI chunk with a stand-in after it, as DivX did."""
    source = encoded("mpeg4", "avi", options={"bf": "1", "g": "11", "sc_threshold": "1000000000"}, numbers=range(21))
    with av.open(BytesIO(source)) as container:
        stream = container.streams.video[0]
        chunks = [bytes(packet) for packet in container.demux(stream) if packet.size]
        header = bytes(stream.codec_context.extradata or b"")

    def kind(chunk: bytes) -> int:
        return chunk[chunk.rindex(b"\0\0\1\xb6") + 4] >> 6

    def wait(chunk: bytes) -> bytes:
        # A picture that is not coded: type P, marker, time increment as in the chunk, marker, not coded.
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
            packet = av.Packet(
                header + user + chunk
                if index == 0 and header not in chunk
                else chunk[:start] + user * (index == 0) + chunk[start:]
            )
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
    return written(
        lambda: encoded(form=form, numbers=NUMBERS[:10]) + encoded(form=form, numbers=later, pts=later, size=(96, 128))
    )


def _forms() -> list[Entry]:
    hidden = {"auto-alt-ref": "1", "lag-in-frames": "16", "b:v": "200k", "deadline": "good", "cpu-used": "5"}
    pal = {
        "time_base": Fraction(1, 25),
        "options": {"b:v": "2M"},
        "frames": Frames(times_s=tuple(i / 25 for i in NUMBERS)),
    }
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
        clip("raw_h264", "raw.h264", form="h264", frames=raw),
        clip("raw_h264_bframes", "raw.264", form="h264", options={"bf": "2"}, frames=raw),
        clip("raw_hevc", "raw.hevc", "libx265", form="hevc", options={"x265-params": "log-level=none"}, frames=raw),
        clip("hevc_mp4", "clip.mp4", "libx265", options={"x265-params": "log-level=none:keyint=7"}),
        clip("xvid_avi", "clip.avi", "mpeg4", options={"b:v": "1M"}),
        clip("xvid_avi_bframes", "b.avi", "mpeg4", options={"bf": "2", "b:v": "1M"}),
        cut("xvid_avi_packed", "packed.avi", _packed_xvid, Frames(tuple(range(21)))),
        clip("mpeg1_ps", "clip.mpg", "mpeg1video", **pal),
        clip("mpeg2_ps", "clip.vob", "mpeg2video", form="vob", **pal),
        clip("mpeg2_ts", "clip.ts", "mpeg2video", **pal),
        clip("h264_ts", "clip.m2ts"),
        clip("flv", "clip.flv", "flv"),
        clip("flv_h264", "h264.flv", options={"bf": "2"}),
        clip("wmv", "clip.wmv", "wmv2", options={"b:v": "1M"}),
        clip("mjpeg_avi", "clip.avi", "mjpeg", pix_fmt="yuvj420p"),
        clip("mjpeg_mov", "clip.mov", "mjpeg", pix_fmt="yuvj420p"),
        clip("vp8", "clip.webm", "libvpx", options={"b:v": "1M"}),
        clip("vp8_hidden", "hidden.webm", "libvpx", numbers=long, options=hidden, frames=steady),
        clip("vp9_hidden", "hidden.webm", "libvpx-vp9", numbers=long, options=hidden, frames=steady),
        clip(
            "av1",
            "clip.mkv",
            "libsvtav1",
            size=(64, 64),
            options={"preset": "12"},
            frames=Frames(height=64, width=64, times_s=STEADY),
        ),
        clip(
            "av1_mp4",
            "clip.mp4",
            "libsvtav1",
            size=(64, 64),
            options={"preset": "12"},
            frames=Frames(height=64, width=64, times_s=STEADY),
        ),
        clip("prores", "clip.mov", "prores_ks", pix_fmt="yuv422p10le"),
        clip(
            "fragmented", "fragmented.mp4", mux={"movflags": "frag_keyframe+empty_moov"}, options={"g": "6", "bf": "2"}
        ),
        clip("faststart", "fast.mp4", mux={"movflags": "faststart"}),
        clip("mkv", "clip.mkv", options={"bf": "2"}),
        clip("three_gp", "clip.3gp", "mpeg4", form="3gp"),
        clip("ten_thousandths", "ticks.mp4", time_base=Fraction(1, 90000), pts=[i * 9000 for i in NUMBERS]),
    ]


def _names() -> list[Entry]:
    long = "n" * 251 + ".mp4"
    names = {
        "newline": "two\nlines.mp4",
        "unicode": "vidéo 舞蹈 🎬.mp4",
        "longest": long,
        "dash": "-i.mp4",
        "quotes": "a'b\"c`$(d).mp4",
        "percent": "100%d %s {x}.mp4",
        "no_suffix": "clip",
        "wrong_suffix": "clip.txt",
        "playlist_suffix": "clip.m3u8",
        "colon": "a:b|c,d.mp4",
        "markup": "[bold]<b>x.mp4",
    }
    entries = [
        Entry(f"name_{key}", name, lambda path, ground: path.write_bytes(ground.clip), Frames())
        for key, name in names.items()
    ]

    def deep(path: Path, ground: Ground) -> None:
        path.parent.mkdir(parents=True)
        path.write_bytes(ground.clip)

    entries.append(Entry("name_four_kilobytes", "/".join(["d" * 200] * 18 + ["deep.mp4"]), deep, Frames()))
    return entries


def _keep_from(first: int) -> Callable[[Path, Ground], None]:
    """Drop the packets before the first, the key picture among them."""
    return lambda path, ground: remux(
        encoded(numbers=range(40), options={"g": "20", "bf": "0", "sc_threshold": "0"}),
        path,
        "mpegts",
        lambda index, packet: index >= first,
    )


ENTRIES = [
    *_forms(),
    *_names(),
    Entry("headless_ts", "headless.ts", _keep_from(7), Frames(None), frozenset({"corrupt", "truncated"})),
]
