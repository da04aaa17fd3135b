"""Examine a set of clips before hours are spent on it: labels first, then every file, then the set as a whole."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from multiprocessing import get_context
from typing import Any

from tubelet.data.catalogue import open_data
from tubelet.data.examination import Examination, Examiner, Problem
from tubelet.data.fingerprints import find_near_duplicates
from tubelet.data.manifest import UNSPLIT, Manifest
from tubelet.data.sample import Sample

__all__ = ["Checkup", "Health", "Problem", "check_health", "examine_all"]

FEW_CLIPS = 5
IMBALANCE = 10
_ALIKE = 0.8
"""Least likeness of two class names, from 0 to 1, for the rarer one to be called a misspelling."""
_TYPO_CLIPS = 3
"""Most clips of a class whose name may be a misspelling."""

Lint = Callable[[tuple[str, ...]], Sequence[str]]


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
    """What makes clips or splits unusable as they are."""
    oddities: tuple[Problem, ...]
    """What is odd about single clips, and can be read all the same."""
    remarks: tuple[str, ...]
    """What does not stop a training but may spoil it."""
    is_full: bool = False
    """Every frame of every clip was decoded; otherwise eight of each, which misses damage elsewhere."""

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
        """List the samples that have no error, neither of their own nor together with others."""
        bad = {problem.source for problem in self.health.problems}
        return tuple(sample for sample in self.manifest.samples if sample.name not in bad)


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
    """Check labels, splits and groups, then open every clip, decode eight of its frames, and compare all with all.

    Args:
        data: a folder of class folders, a manifest, an .npz file, or a name of the catalogue.
        group_by: column whose values must not be spread over splits.
        workers: processes that open clips; 1 works in this one.
        full: decode every frame, or every image of a folder.
        least_frames: clips of fewer frames are called short.
        lint: says what is odd about class names.
        on_step: called with (done, total) after each clip.

    Raises:
        DataError: a manifest that contradicts itself, with file and line.

    Cost: some 30 ms a clip; with `full` as long as playing all clips at several hundred frames a second.
    """
    manifest = open_data(data, group_by=group_by, split_if_missing=False)
    examinations: list[Examination] = []
    for done, examination in enumerate(examine_all(manifest.samples, workers, Examiner(full, least_frames)), 1):
        examinations.append(examination)
        on_step(done, len(manifest.samples))
    found = [problem for examination in examinations for problem in examination.problems]
    found += _compare_channels(examinations)
    found += _compare_content(manifest.samples, examinations)
    found += _compare_groups(manifest.samples)
    good = [examination.info for examination in examinations if examination.info is not None]
    durations = sorted(info.duration_s for info in good) or [0.0]
    health = Health(
        origin=manifest.origin,
        counts=manifest.counts(),
        codecs=dict(Counter(info.codec for info in good)),
        sizes=dict(Counter(f"{info.width}x{info.height}" for info in good).most_common(10)),
        duration_s=(durations[0], durations[len(durations) // 2], durations[-1]),
        problems=tuple(problem for problem in found if problem.is_error),
        oddities=tuple(problem for problem in found if not problem.is_error),
        remarks=(*manifest.notes, *_remark(manifest), *lint(manifest.classes)),
        is_full=full,
    )
    return Checkup(health, manifest, tuple(examinations))


def examine_all(samples: tuple[Sample, ...], workers: int, examine: Examiner) -> Iterable[Examination]:
    """Examine clips in order, in as many processes; 1 works in this one."""
    if workers <= 1:
        yield from map(examine, samples)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(examine, samples, chunksize=4)


def _compare_channels(examinations: Sequence[Examination]) -> Iterator[Problem]:
    """Name the clips that no model could take together with most of the others."""
    found = [(own.source, own.info.channels) for own in examinations if own.info is not None]
    usual = Counter(channels for _, channels in found).most_common(1)
    for source, channels in found:
        if channels != usual[0][0]:
            message = f"cannot use {source!r} - it has {channels} channels, most clips have {usual[0][0]}"
            yield Problem(source, "channels", f"{message} - convert it, or keep it in a set of its own.")


def _compare_content(samples: Sequence[Sample], examinations: Sequence[Examination]) -> Iterator[Problem]:
    """Name clips that show the same: an error where they are in different splits or classes, else odd."""
    first: dict[str, int] = {}
    exact = set()
    for index, examination in enumerate(examinations):
        if examination.digest and first.setdefault(examination.digest, index) != index:
            exact.add(index)
            yield _compare_pair(samples[first[examination.digest]], samples[index], "duplicate", "is the same file as")
    known = [index for index, own in enumerate(examinations) if own.fingerprint is not None and index not in exact]
    prints = [own.fingerprint for own in (examinations[index] for index in known) if own.fingerprint is not None]
    told = set()
    for a, b in find_near_duplicates(prints):
        earlier, later = samples[known[a]], samples[known[b]]
        if later.name not in told and not (earlier.source == later.source and earlier.member == later.member):
            told.add(later.name)
            yield _compare_pair(earlier, later, "near_duplicate", "shows the same pictures as")


def _compare_pair(earlier: Sample, later: Sample, code: str, what: str) -> Problem:
    apart = earlier.split != later.split
    relabelled = earlier.label != later.label
    where = f" ({earlier.split or UNSPLIT})" if apart else f" of class '{earlier.label}'" if relabelled else ""
    own = f" ({later.split or UNSPLIT})" if apart else f" of class '{later.label}'" if relabelled else ""
    reason = "what is tested was learned" if apart else "one label must be wrong" if relabelled else "it counts twice"
    message = f"{later.name!r}{own} {what} {earlier.name!r}{where}: {reason} - keep one of them."
    ending = "_across_splits" if apart else "_with_other_label" if relabelled else ""
    return Problem(later.name, f"{code}{ending}", message, is_error=apart or relabelled)


def _compare_groups(samples: Sequence[Sample]) -> Iterator[Problem]:
    """Name the groups that are torn over splits."""
    splits: dict[str, dict[str | None, Sample]] = {}
    for sample in samples:
        if sample.group is not None:
            splits.setdefault(sample.group, {}).setdefault(sample.split, sample)
    for group, members in splits.items():
        if len(members) > 1:
            names = ", ".join(sorted(str(split or UNSPLIT) for split in members))
            sample = next(reversed(members.values()))
            message = f"group '{group}' is in {names}, such as {sample.name!r}: what is tested was learned"
            yield Problem(sample.name, "group_leak", f"{message} - split by group: 'tubelet data split'.")


def _remark(manifest: Manifest) -> Iterator[str]:
    totals = Counter(sample.label for sample in manifest.samples)
    most, least = max(totals.values()), min(totals.values())
    if least < FEW_CLIPS:
        few = [name for name, count in totals.items() if count < FEW_CLIPS]
        yield f"{len(few)} classes have fewer than {FEW_CLIPS} clips, such as '{few[0]}': too few to learn from."
    if most > IMBALANCE * least:
        yield f"the largest class has {most / least:.0f} times the clips of the smallest: read macro F1, not accuracy."
    yield from _find_typos(totals)


def _find_typos(totals: "Counter[str]") -> Iterator[str]:
    """Name rare classes whose names are nearly those of others."""
    names = sorted(totals, key=lambda name: (-totals[name], name))
    for place, name in enumerate(names):
        for usual in names[:place]:
            if _squeeze(name) == _squeeze(usual) or (
                totals[name] <= _TYPO_CLIPS
                and totals[usual] >= 3 * totals[name]
                and re.sub(r"\d", "", name) != re.sub(r"\d", "", usual)
                and SequenceMatcher(None, _squeeze(name), _squeeze(usual)).ratio() > _ALIKE
            ):
                yield f"class '{name}' ({totals[name]} clips) may be a misspelling of '{usual}' ({totals[usual]})."
                break


def _squeeze(name: str) -> str:
    """Take from a name what people leave out or change without meaning another class."""
    return re.sub(r"[^\w]|_", "", unicodedata.normalize("NFKC", name).casefold())
