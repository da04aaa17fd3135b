"""Examine a set of clips before hours are spent on it: labels first, then every file."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any

from tubelet.data.catalogue import open_data
from tubelet.data.dataset import open_sample
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample
from tubelet.errors import TubeletError

__all__ = ["Health", "Problem", "check_health"]

FEW_CLIPS = 5
IMBALANCE = 10


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
    """Clips that cannot be used."""
    remarks: tuple[str, ...]
    """What does not stop a training but may spoil it."""

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return asdict(self)


def check_health(
    data: str | os.PathLike[str],
    *,
    group_by: str | None = None,
    workers: int = 2,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Health:
    """Check labels, splits and groups, then decode one frame in the middle and one at the end of every clip.

    Raises:
        DataError: a manifest that contradicts itself, with file and line.
    """
    manifest = open_data(data, group_by=group_by, split_if_missing=False)
    findings = []
    for done, finding in enumerate(_examine_all(manifest.samples, workers), 1):
        findings.append(finding)
        on_step(done, len(manifest.samples))
    problems = tuple(finding for finding in findings if isinstance(finding, Problem))
    good = [finding for finding in findings if isinstance(finding, dict)]
    durations = sorted(finding["duration_s"] for finding in good) or [0.0]
    return Health(
        origin=manifest.origin,
        counts=manifest.counts(),
        codecs=dict(Counter(finding["codec"] for finding in good)),
        sizes=dict(Counter(finding["size"] for finding in good).most_common(10)),
        duration_s=(durations[0], durations[len(durations) // 2], durations[-1]),
        problems=problems,
        remarks=(*manifest.notes, *_remark(manifest)),
    )


def _examine_all(samples: tuple[Sample, ...], workers: int) -> Iterable[dict[str, Any] | Problem]:
    if workers <= 1:
        yield from map(examine_sample, samples)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(examine_sample, samples, chunksize=4)


def examine_sample(sample: Sample) -> dict[str, Any] | Problem:
    """Open one clip and decode a frame in its middle and its last one, where damage shows."""
    try:
        with open_sample(sample) as video:
            info = video.info
            video.frames_at([info.num_frames // 2, info.num_frames - 1])
    except TubeletError as error:
        return Problem(sample.name, error.code, str(error))
    return {"codec": info.codec, "size": f"{info.width}x{info.height}", "duration_s": info.duration_s}


def _remark(manifest: Manifest) -> Iterable[str]:
    totals = Counter(sample.label for sample in manifest.samples)
    most, least = max(totals.values()), min(totals.values())
    if least < FEW_CLIPS:
        few = [name for name, count in totals.items() if count < FEW_CLIPS]
        yield f"{len(few)} classes have fewer than {FEW_CLIPS} clips, such as '{few[0]}': too few to learn or to judge."
    if most > IMBALANCE * least:
        yield f"the largest class has {most / least:.0f} times the clips of the smallest: read macro F1, not accuracy."
