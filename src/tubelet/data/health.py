"""Examine a set of clips before hours are spent on it: labels first, then every file."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from tubelet.data.catalogue import Request, open_data
from tubelet.data.dataset import open_sample
from tubelet.data.features import read_features
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample
from tubelet.errors import TubeletError
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec

__all__ = ["Health", "Problem", "check_health", "examine_sample"]

FEW_CLIPS = 5
IMBALANCE = 10
_CHUNK_BYTES = 128 * 2**20
"""Pixels that are held at once while every frame is decoded."""


@dataclass(frozen=True)
class Problem:
    """State one thing that is wrong with a clip or with the set."""

    source: str
    code: str
    message: str


@dataclass(frozen=True)
class Health:
    """State what a set holds and what is wrong with it."""

    origin: str
    counts: dict[str, dict[str, int]]
    """Clips of each class in each split."""
    codecs: dict[str, int]
    sizes: dict[str, int]
    duration_s: tuple[float, float, float]
    """Shortest, middle and longest readable clip."""
    problems: tuple[Problem, ...]
    """What is wrong with single clips: they cannot be read, end too early, or differ in kind from the others."""
    remarks: tuple[str, ...]
    """What does not stop a training but may spoil it."""
    is_full: bool = False
    """Every frame of every clip was decoded; otherwise two of each, which misses damage elsewhere."""

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return asdict(self)


def check_health(
    data: str | os.PathLike[str],
    *,
    group_by: str | None = None,
    workers: int = 2,
    full: bool = False,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Health:
    """Check labels, splits and groups, then open every clip and decode two of its frames, or all.

    A clip is also a problem where its labelled part goes past its end, or where it has another number of channels than
    most.

    Args:
        data: a folder of class folders, a manifest, an .npz file, or a name of the catalogue.
        group_by: column whose values must not be spread over splits.
        workers: processes that open clips; 1 works in this one.
        full: decode every frame, or every image of a folder, in place of one in the middle and the last one.
        on_step: called with (done, total) after each clip.

    Raises:
        DataError: a manifest that contradicts itself, with file and line.

    Cost: some 20 ms a clip; with `full` as long as playing all clips at several hundred frames a second.
    """
    manifest = open_data(data, group_by=group_by, split_if_missing=False, request=Request(offline=True))
    findings: list[dict[str, Any] | Problem] = []
    for done, finding in enumerate(_examine_all(manifest.samples, workers, full), 1):
        findings.append(finding)
        on_step(done, len(manifest.samples))
    problems = [finding for finding in findings if isinstance(finding, Problem)]
    problems += _compare_channels(manifest.samples, findings)
    good = [finding for finding in findings if isinstance(finding, dict)]
    durations = sorted(finding["duration_s"] for finding in good) or [0.0]
    return Health(
        origin=manifest.origin,
        counts=manifest.counts(),
        codecs=dict(Counter(finding["codec"] for finding in good)),
        sizes=dict(Counter(finding["size"] for finding in good).most_common(10)),
        duration_s=(durations[0], durations[len(durations) // 2], durations[-1]),
        problems=tuple(problems),
        remarks=(*manifest.notes, *_remark(manifest)),
        is_full=full,
    )


def _examine_all(samples: tuple[Sample, ...], workers: int, full: bool) -> Iterable[dict[str, Any] | Problem]:
    examine = partial(examine_sample, full=full)
    if workers <= 1:
        yield from map(examine, samples)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(examine, samples, chunksize=4)


def examine_sample(sample: Sample, *, full: bool = False) -> dict[str, Any] | Problem:
    """Open one clip and decode a frame in its middle and its last one, where damage shows; or every frame."""
    try:
        if sample.features is not None:
            (rows,) = read_features(
                sample, InputSpec(frames=sample.features.frames), generator=np.random.default_rng(0)
            )
            return {
                "codec": "features",
                "size": f"{rows.shape[1]} a frame",
                "duration_s": 0.0,
                "channels": rows.shape[1],
            }
        with open_sample(sample) as video:
            info = video.info
            start_s, end_s = sample.span_s
            # The last frame's end is not always known to the frame: one more is no mistake of the table's.
            latest_s = info.duration_s + (1 / info.fps if info.fps > 0 else 0.0)
            if start_s >= info.duration_s or (sample.end_s is not None and end_s > latest_s):
                return Problem(
                    sample.name,
                    "span",
                    f"cannot use {sample.name!r} - it lasts {info.duration_s:.3f} s - mend start_s and end_s.",
                )
            first, last = _find_frames(video, start_s, end_s)
            _decode(video, first, last, full)
    except TubeletError as error:
        return Problem(sample.name, error.code, str(error))
    size = f"{info.width}x{info.height}"
    return {"codec": info.codec, "size": size, "duration_s": info.duration_s, "channels": info.channels}


def _find_frames(video: Video, start_s: float, end_s: float) -> tuple[int, int]:
    """Return the first and the last frame of a time span; at least one frame."""
    first, end = np.searchsorted(video.times_s, [start_s, end_s]).tolist()
    first = min(first, video.info.num_frames - 1)
    return first, max(end - 1, first)


def _decode(video: Video, first: int, last: int, full: bool) -> None:
    if not full:
        video.frames_at([(first + last + 1) // 2, last])
        return
    info = video.info
    step = max(_CHUNK_BYTES // (info.height * info.width * info.channels), 1)
    for start in range(first, last + 1, step):
        video.frames_at(range(start, min(start + step, last + 1)))


def _compare_channels(samples: Iterable[Sample], findings: Iterable[dict[str, Any] | Problem]) -> Iterable[Problem]:
    """Name the clips that no model could take together with most of the others."""
    found = [
        (sample, finding["channels"])
        for sample, finding in zip(samples, findings, strict=True)
        if isinstance(finding, dict)
    ]
    usual = Counter(channels for _, channels in found).most_common(1)
    for sample, channels in found:
        if channels != usual[0][0]:
            message = f"cannot use {sample.name!r} - it has {channels} channels, most clips have {usual[0][0]}"
            yield Problem(sample.name, "channels", f"{message} - convert it, or keep it in a set of its own.")


def _remark(manifest: Manifest) -> Iterable[str]:
    totals = Counter(sample.label for sample in manifest.samples)
    most, least = max(totals.values()), min(totals.values())
    if least < FEW_CLIPS:
        few = [name for name, count in totals.items() if count < FEW_CLIPS]
        yield f"{len(few)} classes have fewer than {FEW_CLIPS} clips, such as '{few[0]}': too few to learn or to judge."
    if most > IMBALANCE * least:
        yield f"the largest class has {most / least:.0f} times the clips of the smallest: read macro F1, not accuracy."
