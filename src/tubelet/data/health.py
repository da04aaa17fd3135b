"""Examine a set of clips before hours are spent on it: labels first, then every file, then the set as a whole."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tubelet.data import sample as listing
from tubelet.data.catalogue import Request, find_data
from tubelet.data.comparison import compare_channels, compare_content, compare_groups, doubt_classes
from tubelet.data.examination import Examination, Examiner, Problem
from tubelet.data.manifest import Manifest, find_contradictions, find_doubts, survey_manifest
from tubelet.data.processes import map_in_processes
from tubelet.data.sample import Sample

__all__ = ["Checkup", "Health", "Problem", "check_health", "examine_all"]

Lint = Callable[[tuple[str, ...]], Sequence[str]]


@dataclass(frozen=True)
class Health:
    """State what a set holds and what is wrong with it."""

    origin: str
    splits: dict[str, int]
    """Clips by split."""
    counts: dict[str, dict[str, int]]
    """Clips of each class in each split."""
    codecs: dict[str, int]
    sizes: dict[str, int]
    duration_s: tuple[float, float, float]
    """Shortest, middle and longest readable clip."""
    problems: tuple[Problem, ...]
    """What makes clips or splits unusable as they are."""
    oddities: tuple[Problem, ...]
    """What is odd about single clips, and can be read all the same."""
    remarks: tuple[Problem, ...]
    """What does not stop a training but may spoil it; about no single clip."""
    is_full: bool = False
    """Every frame of every clip was decoded; otherwise 32 of each, which misses damage elsewhere."""

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Checkup:
    """Hold what a check found, clip by clip: for reports and clean lists."""

    health: Health
    manifest: Manifest
    examinations: tuple[Examination, ...]
    """In the order of the manifest's samples."""

    def list_clean(self) -> tuple[Sample, ...]:
        """List the samples without an error: of what is doubled or torn, the part that can stay."""
        problems = self.health.problems
        bad = {name for problem in problems for name in problem.dropped or (problem.source,)}
        # What is listed twice is left out but for the first.
        clean = {sample.name: sample for sample in reversed(self.manifest.samples) if sample.name not in bad}
        return tuple(sample for sample in self.manifest.samples if clean.get(sample.name) is sample)


def check_health(
    data: str | os.PathLike[str],
    *,
    group_by: str | None = None,
    workers: int = 2,
    full: bool = False,
    least_frames: int = 1,
    lint: Lint = lambda _classes: (),
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Checkup:
    """Check labels, splits and groups, then open every clip, decode 32 of its frames, and compare all with all.

    Args:
        data: a folder of class folders, a manifest, an .npz file, or a name of the catalogue.
        group_by: column whose values must not be spread over splits.
        workers: processes that open clips; 1 works in this one.
        full: decode every frame, or every image of a folder.
        least_frames: clips of fewer frames are called short.
        lint: says what is odd about class names.
        on_step: called with (done, total) after each clip.

    Raises:
        DataError: no such data, or a manifest of which nothing can be read.

    Cost: 25 ms a clip of 2 s and 128 pixels a side; with `full` as long as playing all clips at several hundred frames
    a second.
    """
    manifest, unread = survey_manifest(find_data(data, Request(offline=True)), group_by=group_by)
    examinations: list[Examination] = []
    for done, examination in enumerate(examine_all(manifest.samples, workers, Examiner(full, least_frames)), 1):
        examinations.append(examination)
        on_step(done, len(manifest.samples))
    found = [_adopt(manifest, problem) for problem in (*unread, *find_contradictions(manifest))]
    # A clip that is listed twice is examined twice, and wrong once.
    found += dict.fromkeys(problem for examination in examinations for problem in examination.problems)
    found += compare_channels(examinations)
    found += compare_content(manifest.samples, examinations)
    found += compare_groups(manifest)
    good = [examination.info for examination in examinations if examination.info is not None]
    durations = sorted(
        sample.measure_s(own.info.duration_s)
        for sample, own in zip(manifest.samples, examinations, strict=True)
        if own.info is not None
    ) or [0.0]
    health = Health(
        origin=manifest.origin,
        splits=manifest.split_sizes(),
        counts=manifest.counts(),
        codecs=dict(Counter(info.codec for info in good)),
        sizes=dict(Counter(f"{info.width}x{info.height}" for info in good).most_common(10)),
        duration_s=(durations[0], durations[len(durations) // 2], durations[-1]),
        problems=tuple(problem for problem in found if problem.is_error),
        oddities=tuple(problem for problem in found if not problem.is_error),
        remarks=tuple(_remark(manifest, lint)),
        is_full=full,
    )
    return Checkup(health, manifest, tuple(examinations))


def examine_all(samples: tuple[Sample, ...], workers: int, examine: Examiner) -> Iterator[Examination]:
    """Examine clips in order, in as many processes; 1 works in this one. A clip that ends its process is named."""
    return map_in_processes(examine, samples, workers, _give_up)


def _give_up(sample: Sample) -> Examination:
    message = f"cannot use {sample.name!r} - reading it ends the process (a fault, or no memory) - convert it."
    return Examination(sample.name, (Problem(sample.name, "crashed", message),))


def _adopt(manifest: Manifest, problem: listing.Problem) -> Problem:
    """Turn what is wrong with the list of clips into what is wrong with clips."""
    names = problem.names or (manifest.origin,)
    dropped = () if problem.code == "listed_twice" else names
    return Problem(names[0], problem.code, str(problem), True, names[1:2], dropped or (manifest.origin,))


def _remark(manifest: Manifest, lint: Lint) -> Iterator[Problem]:
    """Name what is about no single clip."""
    # What is torn over splits was named as an error, clip by clip.
    doubts = [doubt for doubt in find_doubts(manifest) if doubt[0] in ("absent_class", "one_class", "one_label")]
    doubts += doubt_classes(manifest)
    doubts += [("mirrored_names", text) for text in lint(manifest.classes)]
    yield from (Problem(manifest.origin, "note", text, is_error=False) for text in manifest.notes)
    yield from (Problem(manifest.origin, code, text, is_error=False) for code, text in doubts)
