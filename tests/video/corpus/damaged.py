"""Make files that nature broke, and files that were never videos: frames of the right size or one named error."""

import os
import random
import shutil
import socket
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from PIL import Image

from . import boxes
from .entry import DAMAGE, FOREIGN, ODD, Entry, Frames, Ground, written
from .pictures import HEIGHT, WIDTH, draw, encode, encoded

ANY = Frames(None, color=False)


@cache
def _seed_file(form: str) -> bytes:
    codec = {"webm": "libvpx", "avi": "mpeg4", "mpegts": "libx264", "gif": "gif", "flv": "flv"}.get(form, "libx264")
    pix_fmt = "rgb8" if form == "gif" else "yuv420p"
    return encoded(codec, form, pix_fmt=pix_fmt, options={"g": "8"}, numbers=range(60))


def _head(form: str, share: float) -> Callable[[Path, Ground], object]:
    return written(lambda: _seed_file(form)[: int(len(_seed_file(form)) * share)])


def _flipped(form: str, seed: int, share: float) -> Callable[[Path, Ground], object]:
    """Flip single bits all over a file, the same for the same number."""

    def make() -> bytes:
        data = bytearray(_seed_file(form))
        generator = random.Random(seed)
        for _ in range(max(1, int(len(data) * share))):
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        return bytes(data)

    return written(make)


def _zeroed(form: str) -> Callable[[Path, Ground], object]:
    def make() -> bytes:
        data = _seed_file(form)
        third = len(data) // 3
        return data[:third] + bytes(third) + data[2 * third :]

    return written(make)


def _truncations() -> list[Entry]:
    entries = []
    for form, suffix in (
        ("mp4", "mp4"),
        ("matroska", "mkv"),
        ("webm", "webm"),
        ("avi", "avi"),
        ("mpegts", "ts"),
        ("gif", "gif"),
        ("flv", "flv"),
    ):
        for share in (0.25, 0.5, 0.75):
            frames = None if form == "mp4" else ANY
            entries.append(
                Entry(
                    f"{suffix}_cut_at_{int(share * 100)}",
                    f"cut.{suffix}",
                    _head(form, share),
                    frames,
                    DAMAGE | {"no_video_stream"},
                )
            )

    def faststart(share: float) -> Callable[[Path, Ground], None]:
        def make(path: Path, ground: Ground) -> None:
            encode(path, options={"g": "8"}, mux={"movflags": "faststart"})
            os.truncate(path, int(path.stat().st_size * share))

        return make

    entries += [
        Entry(f"faststart_cut_at_{round(share * 100)}", "cut.mp4", faststart(share), ANY, DAMAGE)
        for share in (0.6, 0.8)
    ]
    return entries


def _flips() -> list[Entry]:
    forms = (("mp4", "mp4"), ("matroska", "mkv"), ("webm", "webm"), ("avi", "avi"), ("mpegts", "ts"), ("gif", "gif"))
    loose = Frames(None, 0, 0, color=False)  # a flipped bit may change the size itself
    codes = ODD | {"too_large", "encrypted", "timeout"}
    entries = [
        Entry(
            f"{suffix}_flipped_{round(share * 1000)}_{seed}",
            f"flipped.{suffix}",
            _flipped(form, seed, share),
            loose,
            codes,
        )
        for form, suffix in forms
        for seed, share in ((1, 0.001), (2, 0.01), (3, 0.03))
    ]
    entries += [Entry(f"{suffix}_middle_zeroed", f"zeroed.{suffix}", _zeroed(form), ANY, ODD) for form, suffix in forms]
    return entries


def _jpeg() -> bytes:
    buffer = BytesIO()
    Image.fromarray(draw(3)).save(buffer, "JPEG")
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("clip.mp4", _seed_file("mp4"))
    return buffer.getvalue()


def _sound(path: Path, ground: Ground) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac" if path.suffix == ".mp4" else "pcm_s16le", rate=44100)
        form = "fltp" if path.suffix == ".mp4" else "s16"
        tone = np.zeros((1, 1024), np.float32 if form == "fltp" else np.int16)
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(tone, format=form, layout="mono")
            frame.rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _encrypted() -> bytes:
    key = "0123456789abcdef0123456789abcdef"
    return encoded(mux={"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key})


def _fourcc(new: bytes) -> bytes:
    return boxes.rewrite(encoded(), f"{boxes.STBL}/stsd", lambda body: body.replace(b"avc1", new))


def _dropped(path: str) -> bytes:
    return boxes.rewrite(encoded(), path, lambda body: None)


def _no_frames() -> bytes:
    data = encoded()
    for table, offset in (("stts", 4), ("stsc", 4), ("stsz", 8), ("stco", 4), ("ctts", 4)):
        try:
            data = boxes.put(data, f"{boxes.STBL}/{table}", offset, ">I", 0)
        except LookupError:
            continue
    return data


def _strange_files() -> list[Entry]:
    """What is no regular file, or not there at all."""

    def bind(path: Path, ground: Ground) -> None:
        short = Path("/tmp") / f"tubelet-corpus-{os.getpid()}.sock"  # a socket's path may not exceed 107 bytes
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(short))
        shutil.move(short, path)

    def loop(path: Path, ground: Ground) -> None:
        path.symlink_to(path.with_name("other.mp4"))
        path.with_name("other.mp4").symlink_to(path)

    def forbid(path: Path, ground: Ground) -> None:
        path.write_bytes(ground.clip)
        path.chmod(0)

    def absent(path: Path, ground: Ground) -> None:
        """Leave nothing there."""

    def folder(path: Path, ground: Ground) -> None:
        path.mkdir()

    def folder_of_text(path: Path, ground: Ground) -> None:
        path.mkdir()
        (path / "000.png").write_text("no picture\n")

    gone = frozenset({"not_found", "not_a_video"})
    root = os.geteuid() == 0
    return [
        Entry("fifo", "pipe.mp4", lambda path, ground: os.mkfifo(path), None, FOREIGN),
        Entry("folder_empty", "folder.mp4", folder, None, FOREIGN | {"no_video_stream"}),
        Entry("folder_of_text", "folder", folder_of_text, None, ODD),
        Entry("symlink_loop", "loop.mp4", loop, None, gone),
        Entry("symlink_dangling", "dangling.mp4", lambda path, ground: path.symlink_to("nowhere.mp4"), None, gone),
        Entry("missing", "missing.mp4", absent, None, frozenset({"not_found"})),
        Entry("missing_name_too_long", "n" * 5000 + ".mp4", absent, None, gone),
        Entry(
            "unreadable", "secret.mp4", forbid, Frames() if root else None, frozenset() if root else gone | {"video"}
        ),
        Entry("device_zero", "zero.mp4", lambda path, ground: path.symlink_to("/dev/zero"), None, gone),
        Entry("device_null", "null.mp4", lambda path, ground: path.symlink_to("/dev/null"), None, gone),
        Entry("socket", "socket.mp4", bind, None, gone),
        Entry("null_byte", "a.mp4", absent, None, gone, literal=lambda ground: "a\0b.mp4"),
        Entry("empty_name", "a.mp4", absent, None, gone, literal=lambda ground: ""),
    ]


def _rates() -> list[Entry]:
    """State rates that no clock has; a reader may use them or refuse them, not fall for them."""

    def flv(value: float) -> bytes:
        data = _seed_file("flv")
        at = data.index(b"framerate") + len(b"framerate") + 1
        return data[:at] + struct.pack(">d", value) + data[at + 8 :]

    def avi(scale: int, rate: int) -> bytes:
        data = _seed_file("avi")
        at = data.index(b"strh") + 8 + 20
        return data[:at] + struct.pack("<II", scale, rate) + data[at + 8 :]

    still = {"bf": "0"}
    files = {
        "flv_nan": ("flv", lambda: flv(float("nan"))),
        "flv_huge": ("flv", lambda: flv(1e308)),
        "flv_negative": ("flv", lambda: flv(-25.0)),
        "avi_zero_scale": ("avi", lambda: avi(0, 1)),
        "avi_zero_rate": ("avi", lambda: avi(1, 0)),
        "avi_huge": ("avi", lambda: avi(1, 0xFFFFFFFF)),
        "mp4_no_clock": ("mp4", lambda: boxes.put(encoded(), "moov/trak/mdia/mdhd", 12, ">I", 0)),
        "mp4_fast_clock": ("mp4", lambda: boxes.put(encoded(), "moov/trak/mdia/mdhd", 12, ">I", 0xFFFFFFFF)),
        "mp4_equal_times": ("mp4", lambda: boxes.put(encoded(options=still), f"{boxes.STBL}/stts", 12, ">I", 0)),
        "mp4_endless_frame": (
            "mp4",
            lambda: boxes.put(encoded(options=still), f"{boxes.STBL}/stts", 12, ">I", 0x7FFFFFFF),
        ),
    }
    return [
        Entry(f"rate_{key}", f"rate.{suffix}", written(data), ANY, DAMAGE | {"not_a_video", "too_large"})
        for key, (suffix, data) in files.items()
    ]


def _not_videos() -> list[Entry]:
    noise = random.Random(5).randbytes(20_000)
    none = frozenset({"no_video_stream"})
    still = Frames(None, HEIGHT, WIDTH, color=False)
    return [
        Entry("zero_bytes", "empty.mp4", written(b""), None, FOREIGN | DAMAGE),
        Entry("header_only", "header.mp4", written(lambda: encoded()[:32]), None, ODD),
        Entry("two_bytes", "two.mp4", written(b"\0\0"), None, FOREIGN | DAMAGE),
        Entry("text", "text.mp4", written("This is a text about a video.\n" * 40), None, FOREIGN),
        Entry("html", "page.mp4", written("<!doctype html><video src=x.mp4></video>"), None, FOREIGN),
        Entry("noise", "noise.mp4", written(noise), None, FOREIGN),
        Entry("noise_after_ftyp", "noise.mp4", written(lambda: encoded()[:28] + noise), None, ODD),
        Entry("jpeg", "photo.mp4", written(_jpeg), still, FOREIGN),
        Entry("zip", "archive.mp4", written(_zip), None, FOREIGN),
        Entry("pickle", "clip.mp4", written(b"\x80\x04cos\nsystem\n(S'true'\ntR."), None, FOREIGN),
        Entry("sound_mp4", "sound.mp4", _sound, None, none),
        Entry("sound_wav", "sound.wav", _sound, None, none | FOREIGN),
        Entry("encrypted", "protected.mp4", written(_encrypted), None, frozenset({"encrypted"})),
        Entry("encrypted_bare", "encv.mp4", written(lambda: _fourcc(b"encv")), None, frozenset({"encrypted"})),
        Entry("unknown_codec", "codec.mp4", written(lambda: _fourcc(b"zz9q")), None, frozenset({"unsupported_codec"})),
        Entry("moov_missing", "moov.mp4", written(lambda: _dropped("moov")), None, DAMAGE),
        Entry("mdat_missing", "mdat.mp4", written(lambda: _dropped("mdat")), None, DAMAGE),
        Entry("zero_frames", "none.mp4", written(_no_frames), None, DAMAGE | {"no_video_stream"}),
        Entry("stbl_missing", "stbl.mp4", written(lambda: _dropped(boxes.STBL)), None, ODD),
    ]


def _raw_uncompressed() -> Entry:
    """A codec outside the allow-list of a careful reader: it may decode or be refused, by name."""
    return Entry("rare_codec", "rare.avi", written(lambda: encoded("cinepak", "avi", pix_fmt="rgb24")), ANY,
                 frozenset({"unsupported_codec"}))  # fmt: skip


ENTRIES = [*_truncations(), *_flips(), *_strange_files(), *_rates(), *_not_videos(), _raw_uncompressed()]
