"""Examine this machine: versions, device, decoders, and whether they meet what tubelet needs."""

import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tubelet.errors import TubeletError

__all__ = ["Finding", "examine"]

FLOORS = {"torch": (2, 10), "av": (18, 0), "numpy": (1, 26), "safetensors": (0, 4, 5)}
"""Lowest versions: older ones load pickles unsafely (torch) or bundle an FFmpeg with known holes (av)."""
SAFE_TORCHCODEC = (0, 17)
SAFE_FFMPEG = (62, 28)


@dataclass(frozen=True)
class Finding:
    """State one fact, and whether it is as it should be."""

    subject: str
    found: str
    is_ok: bool = True
    advice: str = ""


def examine() -> list[Finding]:
    """Examine versions, device and decoders; nothing is changed."""
    from tubelet import __version__

    findings = [
        Finding("tubelet", __version__),
        Finding("python", f"{platform.python_version()} on {platform.platform(terse=True)}"),
    ]
    for examine_part in (_examine_versions, _examine_device, _examine_ffmpeg, _examine_decoders):
        findings += examine_part()
    return findings


def _examine_versions() -> Iterator[Finding]:
    for package, floor in FLOORS.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            yield Finding(package, "not installed", False, f"pip install {package}")
            continue
        needed = ".".join(map(str, floor))
        is_ok = _parse(found) >= floor
        yield Finding(package, found, is_ok, "" if is_ok else f"pip install '{package}>={needed}'")


def _examine_device() -> Iterator[Finding]:
    import os

    import torch

    yield Finding("cpu", f"{os.cpu_count()} cores, PyTorch uses {torch.get_num_threads()}")
    if torch.cuda.is_available():
        native = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
        yield Finding("gpu", f"{torch.cuda.get_device_name()} ({native}), CUDA {torch.version.cuda}")
    elif torch.backends.mps.is_available():
        yield Finding("gpu", "Apple GPU (mps)")
    else:
        yield Finding("gpu", "none: training runs on the CPU")


def _examine_ffmpeg() -> Iterator[Finding]:
    import av

    libraries = av.library_versions
    found = libraries["libavcodec"][:2]
    is_ok = tuple(found) >= SAFE_FFMPEG
    yield Finding(
        "ffmpeg in av",
        "libavcodec " + ".".join(map(str, libraries["libavcodec"])),
        is_ok,
        "" if is_ok else "pip install -U av: older FFmpeg has known holes",
    )
    wanted = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mjpeg", "gif")
    missing = [name for name in wanted if name not in av.codecs_available and f"lib{name}" not in av.codecs_available]
    yield Finding("codecs", ", ".join(name for name in wanted if name not in missing), not missing, _name(missing))


def _name(missing: list[str]) -> str:
    return f"missing: {', '.join(missing)}; reinstall av from its wheel" if missing else ""


def _examine_decoders() -> Iterator[Finding]:
    from tubelet.video.decoders import DECODERS

    clip = _make_clip()
    for name in DECODERS:
        yield _try_decoder(name, clip, _parse_or_none("torchcodec") if name == "torchcodec" else None)
    program = shutil.which("ffmpeg")
    yield Finding("ffmpeg program", program or "not on PATH (not needed)")


def _try_decoder(name: str, clip: bytes, found: tuple[int, ...] | None) -> Finding:
    """Decode a clip made on the spot: the one test that counts."""
    from tubelet.video.source import Video

    try:
        with Video(clip, decoder=name) as video:
            count = len(video.frames_at([0, 5]))
    except TubeletError as error:
        return Finding(f"decoder {name}", str(error), name != "pyav")
    advice = ""
    if found is not None and found < SAFE_TORCHCODEC:
        advice = "below 0.17: for trusted files only"
    return Finding(f"decoder {name}", f"works ({count} frames read)", True, advice)


def _make_clip() -> bytes:
    import numpy as np

    from tubelet.video.synthetic import write_video

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, np.zeros((8, 64, 64, 3), np.uint8), fps=8)
        return path.read_bytes()


def _parse(text: str) -> tuple[int, ...]:
    numbers = []
    for part in text.split("+")[0].split("."):
        digits = "".join(character for character in part if character.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


def _parse_or_none(package: str) -> tuple[int, ...] | None:
    try:
        return _parse(version(package))
    except PackageNotFoundError:
        return None
