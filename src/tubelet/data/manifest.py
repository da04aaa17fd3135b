"""Hold every labelled sample of a data set, with one class list for all splits.

    class folders | table | .npz | shards | list   ->   Manifest   ->   check   ->   split   ->   train

Class lists are sorted by plain text comparison ('10' before '2', 'Zoo' before 'ant'), so that they depend on the names
alone; an .npz file and a list keep the order of their indices, and `classes.txt` beside a table fixes another. Groups
(what must stay in one split) come from the column asked for,
else from a column `group`, else from names of the UCF101 form `v_YoYo_g01_c03.avi`.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from tubelet.data.arrays import read_arrays
from tubelet.data.contradictions import compare_parts
from tubelet.data.folders import DONE_NAME, EDITION_HOME, read_folder
from tubelet.data.groups import find_ungrouped, group_samples
from tubelet.data.lists import ABSENT, is_list, read_list
from tubelet.data.sample import (
    SEPARATOR,
    SPLITS,
    Problem,
    Reading,
    Sample,
    check_problems,
    normalize_split,
    quote_some,
)
from tubelet.data.shards import SHARD_SUFFIX, list_shards, read_shards
from tubelet.data.tables import TABLE_SUFFIXES, read_table
from tubelet.errors import DataError, name_nearest
from tubelet.shapes import Label, Task
from tubelet.video.decoders.dicom import list_slices
from tubelet.video.decoders.images import list_images

__all__ = [
    "UNSPLIT",
    "Manifest",
    "Sample",
    "check_manifest",
    "find_contradictions",
    "find_doubts",
    "read_manifest",
    "survey_manifest",
]

UNSPLIT = "unsplit"
"""What counts call the samples that have no split yet."""


@dataclass(frozen=True)
class Manifest:
    """Hold samples and the class list that gives labels their indices."""

    samples: tuple[Sample, ...]
    """All samples, of all splits."""
    classes: tuple[str, ...]
    """Class names; a class's place is the index that models are trained with."""
    origin: str
    """Where the samples were read from: an absolute path."""
    notes: tuple[str, ...] = ()
    """What was passed over or looks wrong without making the data unusable: for people."""
    task: Task = "classification"
    """Whether each sample is of one class, or has any number of them."""

    def select(self, split: str) -> tuple[Sample, ...]:
        """Return the samples of a split, in order; none where the data has no such split.

        Raises:
            DataError: a name that is no split at all.
        """
        name = normalize_split(split)
        return tuple(sample for sample in self.samples if sample.split == name)

    def label_index(self, sample: Sample) -> int:
        """Return the index of a sample's class.

        Raises:
            DataError: a label that is not in the class list.
        """
        return self._find_index(sample, sample.label)

    def target(self, sample: Sample) -> Label:
        """Return what a model should say of a sample: the index of its class, or for each class whether it has it.

        Raises:
            DataError: a label that is not in the class list.
        """
        if self.task == "classification":
            return self.label_index(sample)
        has = np.zeros(len(self.classes), np.bool_)
        has[[self._find_index(sample, label) for label in sample.labels]] = True
        return has

    def _find_index(self, sample: Sample, label: str) -> int:
        try:
            return self._indices[label]
        except KeyError:
            near = name_nearest(label, self.classes) or "."
            raise DataError(
                f"unknown class '{label}' of '{sample.name}'{near} There are {len(self.classes)} classes."
            ) from None

    def counts(self) -> dict[str, dict[str, int]]:
        """Count samples by split and class; every split that occurs lists every class, zeros included.

        A sample of several classes counts in each of them, one of none in none.
        """
        present = {sample.split for sample in self.samples}
        counts = {split or UNSPLIT: dict.fromkeys(self.classes, 0) for split in (*SPLITS, None) if split in present}
        for sample in self.samples:
            for label in sample.labels:
                counts[sample.split or UNSPLIT][label] += 1
        return counts

    def split_sizes(self) -> dict[str, int]:
        """Count samples by split, in the order of `counts`."""
        found = Counter(sample.split or UNSPLIT for sample in self.samples)
        return {split: found[split] for split in (*SPLITS, UNSPLIT) if split in found}

    def short_name(self, sample: Sample) -> str:
        """Name a sample by its path below the manifest's folder, so that the name is the same on every machine."""
        return sample.name.removeprefix(self._root).replace(os.sep, "/")

    def with_classes(self, classes: Sequence[str]) -> "Manifest":
        """Take the class list of a trained model in place of the manifest's own.

        Classes that the data lacks are fine; labels that the model does not know are not.

        Raises:
            DataError: labels outside the list, with those that they may be meant to be.
        """
        present = {label for sample in self.samples for label in sample.labels}
        unknown = sorted(set(self.classes).difference(classes) & present)
        if unknown:
            absent = [name for name in classes if name not in self.classes]
            advice = "".join(name_nearest(name, absent) for name in unknown[:1])
            raise DataError(
                f"cannot use the {len(classes)} classes of the model for '{self.origin}' - the model lacks "
                f"{quote_some(unknown)}{advice or '.'} The data lacks {quote_some(absent) or 'none of its classes'} - "
                "rename the labels, or train the model on this data."
            )
        return replace(self, classes=tuple(classes))

    def with_task(self, task: Task) -> "Manifest":
        """Take labels as a model takes them; a class each is also a set of classes each, the other way does not hold.

        Raises:
            DataError: samples of several classes, or of none, where each must be of one.
        """
        others = [sample.name for sample in self.samples if len(sample.labels) != 1]
        if task == "classification" and others:
            raise DataError(
                f"cannot use '{self.origin}' for the task 'classification' - {len(others)} of {len(self.samples)} "
                f"clips have several labels or none, such as '{others[0]}' - give each clip one label, or train with "
                "--model.task multilabel."
            )
        return replace(self, task=task)

    @cached_property
    def digest(self) -> str:
        """Hash what decides a figure: names, labels and splits, whatever their order and the machine (SHA-256, hex)."""
        rows = sorted(
            json.dumps([self.short_name(sample), sample.label, sample.split or ""]) for sample in self.samples
        )
        content = "\n".join([json.dumps(self.classes), *rows, *["multilabel"] * (self.task == "multilabel")])
        return hashlib.sha256(content.encode("ascii")).hexdigest()

    @cached_property
    def _root(self) -> str:
        origin = Path(self.origin)
        return os.path.join(origin.parent if origin.is_file() else origin, "")  # noqa: PTH118 - with the separator

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}


def read_manifest(source: str | Path, *, group_by: str | None = None) -> Manifest:
    """Read labelled samples from a folder of class folders or of shards, a table, an .npz file or a list.

    Args:
        source: a folder (see `tubelet.data.folders`), a .csv, .tsv or .jsonl file (see `tubelet.data.tables`), an .npz
            file (see `tubelet.data.arrays`), a .tar shard or a folder of them (see `tubelet.data.shards`), or a .txt
            list as data sets publish them (see `tubelet.data.lists`).
        group_by: a column whose values must not be spread over splits, such as `source_video`.

    Raises:
        DataError: nothing there, an unknown kind of file, lines that cannot be used, samples that contradict each
            other, or a `group_by` column that does not exist.

    Cost: one pass over the names; no video is opened. 10,000 lines take about 0.2 s.
    """
    manifest, problems = survey_manifest(source, group_by=group_by)
    problems = [problem for problem in problems if problem.code != ABSENT]
    check_problems(manifest.origin, problems or list(compare_parts(manifest.samples)))
    return manifest


def survey_manifest(source: str | Path, *, group_by: str | None = None) -> tuple[Manifest, list[Problem]]:
    """Read what can be read, as `read_manifest` does, and return the lines that cannot beside it.

    Samples that contradict each other are kept: `find_contradictions` names them.

    Raises:
        DataError: nothing there, an unknown kind of file, no line that can be used, or a `group_by` column that does
            not exist.
    """
    path = Path(os.path.abspath(source))  # noqa: PTH100 - resolve() would replace links by what they point to
    reading = _refuse_joined(path, _read(path))
    samples = tuple(group_samples(path, reading.samples, group_by))
    classes = reading.classes or tuple(sorted({label for sample in samples for label in sample.labels}))
    if not any(sample.label for sample in samples):
        raise DataError(f"cannot use '{path}' - none of its {len(samples)} clips has a label - write some.")
    problems = [*reading.problems, *find_ungrouped(samples, group_by)]
    return Manifest(samples, classes, str(path), reading.notes, reading.task), problems


def _check_whole(folder: Path) -> None:
    """Refuse a folder that is being prepared: of its clips some are not there yet."""
    home = folder / EDITION_HOME
    if home.is_dir() and not (home / DONE_NAME).exists():
        raise DataError(
            f"cannot use '{folder}' - 'tubelet data prepare' has not finished it - give the same command again, "
            "without --shard where parts were made."
        )


def _refuse_joined(path: Path, reading: Reading) -> Reading:
    """Leave out samples whose one label looks like several: as one class it would be learned without a word."""
    joined = [sample for sample in reading.samples if SEPARATOR in sample.label]
    if reading.task == "multilabel" or not joined:
        return reading
    advice = f"call the column 'labels' if '{SEPARATOR}' stands between several, else rename the class"
    problems = [
        Problem(f"the label '{sample.label}' holds '{SEPARATOR}' - {advice}.", sample.line) for sample in joined
    ]
    samples = tuple(sample for sample in reading.samples if SEPARATOR not in sample.label)
    if not samples:
        check_problems(path, problems)
    return reading._replace(samples=samples, problems=(*reading.problems, *problems))


def _read(path: Path) -> Reading:
    """Hand the source to the reader of its kind."""
    suffix = path.suffix.lower()
    if path.is_dir():
        _check_whole(path)
        shards = list_shards(path)
        return read_shards(shards) if shards else read_folder(path)
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = name_nearest(path.name, siblings) or "; give a folder, a .csv, .tsv or .jsonl table, or an .npz file."
        raise DataError(f"cannot read '{path}' - nothing is there{near}")
    if suffix == ".npz":
        return read_arrays(path)
    if suffix == ".txt" or (suffix == ".csv" and is_list(path)):
        return read_list(path)
    if suffix in TABLE_SUFFIXES:
        return read_table(path)
    if suffix == SHARD_SUFFIX:
        return read_shards([path])
    advice = {
        ".json": "write one object a line and call it .jsonl",
        **dict.fromkeys(
            (".tgz", ".gz", ".zst", ".bz2", ".xz"), "unpack it to a .tar file, in which clips can be reached"
        ),
    }.get(suffix, "give a folder of class folders, a .csv, .tsv or .jsonl table, or an .npz file")
    raise DataError(f"cannot read '{path}' as labelled clips - the ending '{suffix}' is not known - {advice}.")


def find_contradictions(manifest: Manifest) -> list[Problem]:
    """Name the samples that contradict each other or the class list, and a split that is stated for some only."""
    problems = list(compare_parts(manifest.samples))
    known = set(manifest.classes)
    problems += [
        Problem(
            f"'{sample.name}' has the label '{label}', which is no class.",
            sample.line,
            "unknown_label",
            (sample.name,),
        )
        for sample in manifest.samples
        for label in sample.labels
        if label not in known
    ]
    undecided = [sample for sample in manifest.samples if sample.split is None]
    if undecided and len(undecided) < len(manifest.samples):
        problems.append(_describe_undecided(manifest, undecided))
    return problems


def check_manifest(manifest: Manifest) -> tuple[str, ...]:
    """Check before the first epoch that everything is there and fits together.

    Returns:
        What is usable and yet suspicious, such as a class without training clips: the manifest's notes first.

    Raises:
        DataError: all missing or empty files, labels outside the class list, and contradictions, with their lines.

    Cost: one look at each file's entry (about 10 us on a local disk); no video is opened.
    """
    check_problems(manifest.origin, [*find_contradictions(manifest), *_find_absent(manifest.samples)])
    return (*manifest.notes, *(text for _, text in find_doubts(manifest)))


def _describe_undecided(manifest: Manifest, undecided: Sequence[Sample]) -> Problem:
    return Problem(
        f"{len(undecided)} of {len(manifest.samples)} samples have no split, the others do - "
        "state it for all, or for none to have it chosen.",
        undecided[0].line,
        "no_split",
        tuple(sample.name for sample in undecided),
    )


def _find_absent(samples: Sequence[Sample]) -> Iterator[Problem]:
    """Name the sources that are not there or hold nothing; each once."""
    seen: set[str] = set()
    for sample in samples:
        if sample.source in seen:
            continue
        seen.add(sample.source)
        path = Path(sample.source)
        try:
            is_empty = not (list_images(path) or list_slices(path)) if path.is_dir() else path.stat().st_size == 0
        except FileNotFoundError:
            advice = "relative paths start at the manifest's folder" if sample.line else "read the folder again"
            yield Problem(f"no such file: '{path}' - {advice}.", sample.line)
        except OSError as error:
            yield Problem(f"cannot look at '{path}': {error.strerror} - mend or remove it.", sample.line)
        else:
            if is_empty:
                kind = "a folder without images or slices" if path.is_dir() else "an empty file"
                yield Problem(f"'{path}' is {kind} - restore or remove it.", sample.line)


def find_doubts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Name what would make a figure doubtful, as (code, text)."""
    for split, counts in manifest.counts().items():
        empty = [name for name, count in counts.items() if count == 0]
        if empty:
            yield (
                "absent_class",
                f"{len(empty)} of {len(counts)} classes have no sample in '{split}': {quote_some(empty)}",
            )
    yield from _doubt_task(manifest)
    ordered = sorted(manifest.classes, key=lambda name: (name.casefold(), name))
    for one, other in pairwise(ordered):
        if one.casefold() == other.casefold():
            yield "label_typo", f"classes '{one}' and '{other}' differ in upper and lower case only"
    for kind, members in (("group", _splits_of_groups(manifest)), ("video", _splits_of_videos(manifest))):
        torn = [name for name, splits in members.items() if len(splits) > 1]
        if torn:
            text = (
                f"{len(torn)} of {len(members)} {kind}s lie in several splits ({quote_some(torn)}): accuracy flatters"
            )
            yield f"{kind}_leak", text


def _doubt_task(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if manifest.task == "multilabel":
        if all(len(sample.labels) == 1 for sample in manifest.samples):
            advice = "if none can have two, state it as one: 'label' in a table, an index in arrays"
            yield "one_label", f"every clip has one label - {advice}"
    elif len(manifest.classes) == 1:
        yield "one_class", f"there is one class only, '{manifest.classes[0]}': nothing can be learned from it"


def _splits_of_groups(manifest: Manifest) -> dict[str, set[str | None]]:
    splits: dict[str, set[str | None]] = {}
    for sample in manifest.samples:
        if sample.group is not None:
            splits.setdefault(sample.group, set()).add(sample.split)
    return splits


def _splits_of_videos(manifest: Manifest) -> dict[str, set[str | None]]:
    splits: dict[str, set[str | None]] = {}
    for sample in manifest.samples:
        if sample.row is None:
            splits.setdefault(sample.video, set()).add(sample.split)
    return splits
