"""Be a decode worker: `python -m tubelet.video.worker`, started by `tubelet.video.isolation`.

It reads what is wanted from its standard input and writes frames to its standard output, one source after the other,
until that input ends. It imports no PyTorch, so that it starts fast and has little that could be attacked.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from io import BytesIO
from itertools import pairwise
from typing import IO, Any

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from tubelet.config import build
from tubelet.errors import Corrupt, TooLarge, VideoError
from tubelet.video.clip import Clip, Pixels, VideoInfo
from tubelet.video.confinement import confine
from tubelet.video.decoders import DECODERS
from tubelet.video.isolation import DecodeLimits, Reading, Wanted, check_result, read_message, write_message
from tubelet.video.opening import MAX_PIXELS
from tubelet.video.sampling import plan
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec

__all__ = ["read_picture", "read_wanted"]

REDUCED_BYTES = 64 << 20
"""Frames that take more together are reduced."""
_GROUP_BYTES = 256 << 20
"""Decoded frames held at a time before they are reduced."""


def read_wanted(data: bytes, wanted: Wanted, name: str) -> Reading:
    """Read the wanted frames of a video.

    Raises:
        VideoError: it cannot be read.
    """
    with Video(data, volume=wanted.spec.volume, name=name) as video:
        rows, spans = _plan_all(video.info, wanted)
        places, inverse = np.unique(rows, return_inverse=True)
        clip = _read_reduced(video, places.tolist(), wanted.spec)
        ends_s = np.append(video.times_s, video.info.duration_s)
        return Reading(name, video.info, clip.pixels, clip.times_s, inverse.reshape(rows.shape), ends_s[spans])


def _plan_all(info: VideoInfo, wanted: Wanted) -> tuple[Int64[np.ndarray, "clip frames"], Int64[np.ndarray, "clip 2"]]:
    """Choose the frames of every view, then of every segment; beside them the frames that each stands for."""
    rows = plan(info, wanted.spec, views=wanted.views)
    spans = [(0, info.num_frames)] * wanted.views
    # Half of a segment's frames may be shown twice before it is too short to be told from its neighbors.
    count = min(wanted.segments, max(2 * info.num_frames // wanted.spec.frames, 1))
    edges = np.linspace(0, info.num_frames, count + 1).round().astype(np.int64).tolist() if count else []
    for start, end in pairwise(edges):
        part = replace(info, num_frames=end - start, duration_s=info.duration_s * (end - start) / info.num_frames)
        rows = np.concatenate([rows, plan(part, wanted.spec) + start])
        spans.append((start, end))
    return rows, np.array(spans, np.int64)


def _read_reduced(video: Video, places: list[int], spec: InputSpec) -> Clip:
    """Decode frames, a few at a time where they are large, and reduce them where they are together too large."""
    info = video.info
    frame_bytes = info.height * info.width * info.channels
    factor = _choose_factor(info, frame_bytes * len(places), spec)
    step = max(_GROUP_BYTES // frame_bytes, 1)
    clips = []
    for start in range(0, len(places), step):
        large = video.frames_at(places[start : start + step])
        clips.append(Clip(_reduce(large.pixels, factor), large.times_s))
        del large
    return Clip(np.concatenate([clip.pixels for clip in clips]), np.concatenate([clip.times_s for clip in clips]))


def _choose_factor(info: VideoInfo, size: int, spec: InputSpec) -> int:
    """Choose the least whole number by which frames become small enough, but not smaller than the model's input."""
    wanted = math.ceil(math.sqrt(size / REDUCED_BYTES))
    least = max(spec.height, spec.width, spec.short_side or 0)
    return max(min(wanted, info.height // least, info.width // least), 1)


def _reduce(pixels: Pixels, factor: int) -> UInt8[np.ndarray, "time height2 width2 channel"]:
    """Replace squares of pixels by their mean."""
    if factor == 1:
        return pixels
    planes = [
        [np.asarray(Image.fromarray(np.ascontiguousarray(plane)).reduce(factor)) for plane in np.moveaxis(frame, -1, 0)]
        for frame in pixels
    ]
    return np.ascontiguousarray(np.moveaxis(np.array(planes), 1, -1))


def read_picture(data: bytes, wanted: Wanted, name: str) -> Reading:
    """Read one JPEG picture.

    Raises:
        VideoError: it is none, or too large.
    """
    try:
        with Image.open(BytesIO(data), formats=("JPEG",)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise TooLarge(f"cannot read {name!r} - it is {picture.width}x{picture.height} pixels - scale it down.")
            least = max(wanted.spec.height, wanted.spec.width, wanted.spec.short_side or 0)
            picture.draft("RGB", (least, least))
            pixels = np.asarray(picture.convert("RGB"))[None]
    except VideoError:
        raise
    except Exception as error:  # Pillow's own kinds are many
        raise Corrupt(f"cannot read {name!r} - it is no JPEG picture ({type(error).__name__}) - send one.") from None
    info = VideoInfo(1, pixels.shape[1], pixels.shape[2], 0.0, 0.0, "images", 0)
    return Reading(name, info, pixels, np.zeros(1), np.zeros((1, 1), np.int64), np.zeros((1, 2)))


def _answer(pipe: IO[bytes], said: Mapping[str, Any], data: bytes, limits: DecodeLimits) -> None:
    """Do one request, and write what became of it."""
    name = str(said["name"])
    try:
        wanted = Wanted(**{**said["wanted"], "spec": build(InputSpec, said["wanted"]["spec"])})
        reading = (read_picture if wanted.is_picture else read_wanted)(data, wanted, name)
        check_result(reading.pixels.nbytes, limits.result_bytes, name)
    except VideoError as error:
        write_message(pipe, {"code": error.code, "message": str(error)}, BytesIO(), 0)
        return
    except MemoryError:
        text = f"cannot read {name!r} - it takes too much memory - scale it down, or cut it up."
        write_message(pipe, {"code": TooLarge.code, "message": text}, BytesIO(), 0)
        return
    described = {
        "info": asdict(reading.info),
        "shape": reading.pixels.shape,
        "rows": reading.rows.tolist(),
        "times_s": reading.times_s.tolist(),
        "spans_s": reading.spans_s.tolist(),
    }
    pixels = np.ascontiguousarray(reading.pixels)
    write_message(pipe, described, BytesIO(pixels.data.cast("B")), pixels.nbytes)


def _limit(limits: DecodeLimits) -> None:
    """Take from this process what decoding does not need, where the system can."""
    with contextlib.suppress(ImportError):
        import resource

        wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0}
        if sys.platform == "linux":
            wanted[resource.RLIMIT_AS] = limits.memory_bytes
        for kind, value in wanted.items():
            given = resource.getrlimit(kind)[1]  # which nobody may raise
            lower = value if given == resource.RLIM_INFINITY else min(value, given)
            resource.setrlimit(kind, (lower, lower))


def _limit_processor_time(seconds: float) -> None:
    """Let the system end this process after so much more work; the next request sets another end."""
    with contextlib.suppress(ImportError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds) + 1, most))


def work(limits: DecodeLimits) -> None:
    """Answer requests until nobody asks any more."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # Whatever a library prints must not become part of an answer.
    os.dup2(2, 1)
    DECODERS["pyav"]()  # now, so that the first request need not wait for it
    _limit(limits)
    write_message(answers, {"given_up": confine()}, BytesIO(), 0)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            said, data = read_message(requests, sys.maxsize)
            _limit_processor_time(limits.seconds)
            _answer(answers, said, data, limits)
            del data


if __name__ == "__main__":
    work(DecodeLimits(**json.loads(sys.argv[1])))
