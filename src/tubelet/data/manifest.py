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
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from tubelet.data.arrays import read_arrays
from tubelet.data.folders import read_folder
from tubelet.data.lists import read_list
from tubelet.data.sample import SPLITS, Problem, Reading, Sample, check_problems, normalize_split, quote_some
from tubelet.data.shards import SHARD_SUFFIX, list_shards, read_shards
from tubelet.data.tables import TABLE_SUFFIXES, read_table
from tubelet.errors import DataError, name_nearest
from tubelet.video.decoders.images import list_images

__all__ = [
    "UNSPLIT",
    "Manifest",
    "Sample",
    "check_manifest",
    "find_contradictions",
    "find_doubts",
    "group_samples",
    "read_manifest",
    "survey_manifest",
]

UNSPLIT = "unsplit"
"""What counts call the samples that have no split yet."""

_UCF101_NAME = re.compile(r"v_(?P<group>.+_g\d+)_c\d+$")


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
        try:
            return self._indices[sample.label]
        except KeyError:
            near = name_nearest(sample.label, self.classes) or "."
            raise DataError(
                f"unknown class '{sample.label}' of '{sample.name}'{near} There are {len(self.classes)} classes."
            ) from None

    def counts(self) -> dict[str, dict[str, int]]:
        """Count samples by split and class; every split that occurs lists every class, zeros included."""
        present = {sample.split for sample in self.samples}
        counts = {split or UNSPLIT: dict.fromkeys(self.classes, 0) for split in (*SPLITS, None) if split in present}
        for sample in self.samples:
            counts[sample.split or UNSPLIT][sample.label] += 1
        return counts

    def short_name(self, sample: Sample) -> str:
        """Name a sample by its path below the manifest's folder, so that the name is the same on every machine."""
        return sample.name.removeprefix(self._root).replace(os.sep, "/")

    def with_classes(self, classes: Sequence[str]) -> "Manifest":
        """Take the class list of a trained model in place of the manifest's own.

        Classes that the data lacks are fine; labels that the model does not know are not.

        Raises:
            DataError: labels outside the list, with those that they may be meant to be.
        """
        unknown = sorted(set(self.classes).difference(classes) & {sample.label for sample in self.samples})
        if unknown:
            absent = [name for name in classes if name not in self.classes]
            advice = "".join(name_nearest(name, absent) for name in unknown[:1])
            raise DataError(
                f"cannot use the {len(classes)} classes of the model for '{self.origin}' - the model lacks "
                f"{quote_some(unknown)}{advice or '.'} The data lacks {quote_some(absent) or 'none of its classes'} - "
                "rename the labels, or train the model on this data."
            )
        return replace(self, classes=tuple(classes))

    @cached_property
    def digest(self) -> str:
        """Hash what decides a figure: names, labels and splits, whatever their order and the machine (SHA-256, hex)."""
        rows = sorted(
            json.dumps([self.short_name(sample), sample.label, sample.split or ""]) for sample in self.samples
        )
        content = "\n".join([json.dumps(self.classes), *rows])
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
    check_problems(manifest.origin, problems or list(_compare_parts(manifest.samples)))
    return manifest


def survey_manifest(source: str | Path, *, group_by: str | None = None) -> tuple[Manifest, list[Problem]]:
    """Read what can be read, as `read_manifest` does, and return the lines that cannot beside it.

    Samples that contradict each other are kept: `find_contradictions` names them.

    Raises:
        DataError: nothing there, an unknown kind of file, no line that can be used, or a `group_by` column that does
            not exist.
    """
    path = Path(os.path.abspath(source))  # noqa: PTH100 - resolve() would replace links by what they point to
    reading = _read(path)
    samples = tuple(group_samples(path, reading.samples, group_by))
    classes = reading.classes or tuple(sorted({sample.label for sample in samples}))
    return Manifest(samples, classes, str(path), reading.notes), list(reading.problems)


def _read(path: Path) -> Reading:
    """Hand the source to the reader of its kind."""
    suffix = path.suffix.lower()
    if path.is_dir():
        shards = list_shards(path)
        return read_shards(shards) if shards else read_folder(path)
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = name_nearest(path.name, siblings) or "; give a folder, a .csv, .tsv or .jsonl table, or an .npz file."
        raise DataError(f"cannot read '{path}' - nothing is there{near}")
    if suffix == ".npz":
        return read_arrays(path)
    if suffix in TABLE_SUFFIXES:
        return read_table(path)
    if suffix == ".txt":
        return read_list(path)
    if suffix == SHARD_SUFFIX:
        return read_shards([path])
    advice = {
        ".json": "write one object a line and call it .jsonl",
        **dict.fromkeys(
            (".tgz", ".gz", ".zst", ".bz2", ".xz"), "unpack it to a .tar file, in which clips can be reached"
        ),
    }.get(suffix, "give a folder of class folders, a .csv, .tsv or .jsonl table, or an .npz file")
    raise DataError(f"cannot read '{path}' as labelled clips - the ending '{suffix}' is not known - {advice}.")


def group_samples(path: Path, samples: Sequence[Sample], group_by: str | None) -> Iterator[Sample]:
    """Give each sample its group: from the column asked for, its own, or a name as in UCF101."""
    if group_by is None or group_by == "group":
        if group_by and not any(sample.group for sample in samples):
            raise DataError(f"cannot group '{path}' by 'group' - no sample has one - name another column.")
        for sample in samples:
            match = None if sample.group else _UCF101_NAME.match(Path(sample.member or sample.source).stem)
            yield replace(sample, group=match["group"]) if match else sample
        return
    columns = {name: None for sample in samples for name in sample.metadata}
    if group_by not in columns:
        near = name_nearest(group_by, columns) or f"; there are {quote_some(list(columns)) or 'no further columns'}."
        raise DataError(f"cannot group '{path}' by '{group_by}' - there is no such column{near}")
    problems = [
        Problem(f"'{group_by}' of '{sample.name}' is empty - fill it in to group by it.", sample.line)
        for sample in samples
        if not sample.metadata.get(group_by)
    ]
    check_problems(path, problems)
    for sample in samples:
        yield replace(sample, group=sample.metadata[group_by])


def find_contradictions(manifest: Manifest) -> list[Problem]:
    """Name the samples that contradict each other or the class list, and a split that is stated for some only."""
    problems = list(_compare_parts(manifest.samples))
    known = set(manifest.classes)
    problems += [
        Problem(
            f"'{sample.name}' has the label '{sample.label}', which is no class.",
            sample.line,
            "unknown_label",
            (sample.name,),
        )
        for sample in manifest.samples
        if sample.label not in known
    ]
    undecided = [sample for sample in manifest.samples if sample.split is None]
    if undecided and len(undecided) < len(manifest.samples):
        problems.append(_describe_undecided(manifest, undecided))
    return problems


def _compare_parts(samples: Sequence[Sample]) -> Iterator[Problem]:
    """Name samples that share pixels and differ in label or split."""
    by_pixels: dict[str, list[Sample]] = {}
    for sample in samples:
        by_pixels.setdefault(sample.video, []).append(sample)
    for parts in by_pixels.values():
        if len(parts) == 1:
            continue
        # In order of their beginnings, only a part that ends late can reach into those after it: keep the latest.
        ordered = sorted(parts, key=lambda sample: (sample.span_s, sample.line or 0))
        latest = ordered[0]
        for sample in ordered[1:]:
            if sample.span_s[0] < latest.span_s[1]:
                yield from _compare(latest, sample)
            if sample.span_s[1] > latest.span_s[1]:
                latest = sample


def _compare(one: Sample, other: Sample) -> Iterator[Problem]:
    first, second = sorted((one, other), key=lambda sample: sample.line or 0)
    where = f" (line {first.line})" if first.line else ""
    names = (second.name, first.name)
    if first.label != second.label:
        yield Problem(
            f"'{second.name}' is '{second.label}' and also '{first.label}'{where} - keep one label.",
            second.line,
            "other_label",
            names,
        )
    if first.split != second.split:
        yield Problem(
            f"'{second.name}' is in split '{second.split}' and also in '{first.split}'{where} - keep one split, "
            "or the model is judged on what it was trained on.",
            second.line,
            "other_split",
            names,
        )
    if (first.label, first.split, first.span_s) == (second.label, second.split, second.span_s):
        yield Problem(f"'{second.name}' is listed twice{where} - remove one.", second.line, "listed_twice", names)


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
            is_empty = not list_images(path) if path.is_dir() else path.stat().st_size == 0
        except FileNotFoundError:
            advice = "relative paths start at the manifest's folder" if sample.line else "read the folder again"
            yield Problem(f"no such file: '{path}' - {advice}.", sample.line)
        except OSError as error:
            yield Problem(f"cannot look at '{path}': {error.strerror} - mend or remove it.", sample.line)
        else:
            if is_empty:
                kind = "a folder without images" if path.is_dir() else "an empty file"
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
    if len(manifest.classes) == 1:
        yield "one_class", f"there is one class only, '{manifest.classes[0]}': nothing can be learned from it"
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
