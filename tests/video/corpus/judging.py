"""Judge how the opening of a file ended."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .entry import Entry, Frames
from .harness import WALL_S

HARNESS = [sys.executable, "-m", "video.corpus.harness"]
EXTRA_MB = 512
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="watches /proc, inotify and forks")


def environment() -> dict[str, str]:
    """Let the harness find the product as this process does, and the corpus."""
    paths = os.pathsep.join(path for path in (str(Path(__file__).parents[2]), *sys.path) if path)
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def complaints(entry: Entry, source: str, outcome: dict[str, Any], *, from_memory: bool = False) -> list[str]:
    """Say everything that is wrong with one outcome."""
    kind, detail = outcome["kind"], outcome["detail"]
    found = []
    ends = {
        "killed": f"did not end within {WALL_S:g} s",
        "nothing": f"died with wait status {outcome['status']}",
        "foreign": f"raised {detail.get('type')} instead of a TubeletError: {detail.get('text')}",
    }
    if kind in ends:
        found.append(ends[kind])
    elif kind == "error":
        found += _about_error(entry, source, detail, from_memory=from_memory)
    elif entry.frames is None:
        found.append(f"gave {detail['count']} frames {detail['shape']} where only an error is right")
    else:
        found += _about_frames(entry.frames, detail)
        if not entry.codes and not detail["same_backwards"]:  # how damage looks may depend on where reading began
            found.append("single frames, read backwards, have other pixels")
    if outcome["seconds"] > WALL_S:
        found.append(f"took {outcome['seconds']:.1f} s")
    if outcome["extra_mb"] > EXTRA_MB:
        found.append(f"took {outcome['extra_mb']:.0f} MB")
    if outcome["stderr"]:
        found.append(f"wrote to stderr: {outcome['stderr'][:300]!r}")
    return found + [f"held {outcome['sockets']} sockets"] * bool(outcome["sockets"])


def _about_error(entry: Entry, source: str, detail: dict[str, Any], *, from_memory: bool) -> list[str]:
    found = []
    if entry.frames is not None and not entry.codes:
        found.append(f"a right file was refused: {detail['code']}: {detail['text']}")
    elif detail["code"] not in entry.codes:
        found.append(f"code {detail['code']!r}, acceptable: {sorted(entry.codes)}: {detail['text']}")
    name = Path(source).name
    if not from_memory and not any(form in detail["text"] for form in (name, repr(name)[1:-1], ascii(name)[1:-1])):
        found.append(f"the text does not name {name!r}: {detail['text']}")
    if "\n" in detail["text"] or re.search(r"0x[0-9a-f]{6,}", detail["text"]):
        found.append(f"the text has lines or addresses: {detail['text']!r}")
    return found


def _about_frames(frames: Frames, detail: dict[str, Any]) -> list[str]:
    found = []
    shape = tuple(detail["shape"][1:3])
    if frames.height and shape != (frames.height, frames.width):
        found.append(f"frames are {shape}, not {(frames.height, frames.width)}")
    if detail["info"]["height"] != shape[0] or detail["info"]["width"] != shape[1]:
        found.append(f"info states {detail['info']['height']} x {detail['info']['width']}, frames are {shape}")
    times = np.array(detail["times_s"])
    if times.size and (times[0] != 0 or (np.diff(times) < 0).any() or not np.isfinite(times).all()):
        found.append(f"times do not rise from 0: {times.tolist()[:20]}")
    if not np.isfinite([detail["info"]["fps"], detail["info"]["duration_s"]]).all():
        found.append(f"info is not finite: {detail['info']}")
    if frames.numbers is not None and (
        tuple(detail["numbers"] or ()) != frames.numbers or detail["count"] != len(frames.numbers)
    ):
        found.append(f"shows {detail['numbers']} (count {detail['count']}), not {frames.numbers}")
    return found + _about_content(frames, detail, times)


def _about_content(frames: Frames, detail: dict[str, Any], times: np.ndarray) -> list[str]:
    found = []
    if frames.times_s is not None:
        wanted = np.array(frames.times_s)
        if times.shape != wanted.shape or np.abs(times - wanted).max() > 0.0021:
            found.append(f"times are {times.round(4).tolist()[:30]}, not {wanted.tolist()[:30]}")
    if frames.color and detail["colors"]:
        left, right = detail["colors"]
        if not (left[0] > left[2] + 80 and right[2] > right[0] + 80):
            found.append(f"the left half is {left}, not red, or the right half is {right}, not blue")
    return found
