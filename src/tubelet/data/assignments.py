"""Remember which clip was in which split, so that no clip a model was trained on is ever tested by mistake."""

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tubelet import files
from tubelet.data.manifest import Manifest
from tubelet.data.sample import SEPARATOR, normalize_split
from tubelet.errors import DataError

__all__ = [
    "apply_assignments",
    "count_assignments",
    "find_trained",
    "follow_move",
    "read_assignments",
    "write_assignments",
]

_COLUMNS = ("source", "label", "split")


def write_assignments(path: str | os.PathLike[str], manifest: Manifest) -> None:
    """Write every sample's name, label and split as a table."""
    with files.write_whole(path, "w") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows((sample.name, sample.label, sample.split or "") for sample in manifest.samples)


def read_assignments(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read which split each sample was in, by its name.

    Raises:
        DataError: no such table, or not one that `write_assignments` wrote.
    """
    return {name: split for name, _, split in _read_rows(path)}


def count_assignments(path: str | os.PathLike[str]) -> dict[str, Counter[str]]:
    """Count the samples of each class in each split; one of several classes counts for each of them.

    Raises:
        DataError: as `read_assignments` does.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for _, label, split in _read_rows(path):
        for name in label.split(SEPARATOR):
            counts[name][split] += 1
    return dict(counts)


def _read_rows(path: str | os.PathLike[str]) -> list[list[str]]:
    try:
        with Path(path).open(encoding="utf-8", errors="surrogateescape", newline="") as table:
            rows = list(csv.reader(table))
    except OSError as error:
        raise DataError(f"cannot read the splits in {str(path)!r} - {error.strerror} - start the run anew.") from None
    if not rows or tuple(rows[0]) != _COLUMNS:
        raise DataError(f"cannot read the splits in {str(path)!r} - it has other columns - take an intact copy.")
    return [row for row in rows[1:] if len(row) == len(_COLUMNS)]


def apply_assignments(manifest: Manifest, assigned: Mapping[str, str]) -> Manifest:
    """Give every sample the split it had; samples nobody knew then have none."""
    samples = tuple(replace(sample, split=assigned.get(sample.name) or None) for sample in manifest.samples)
    return replace(manifest, samples=samples)


def follow_move(manifest: Manifest, assigned: Mapping[str, str]) -> Mapping[str, str]:
    """Call the samples of a table as they are called now, where the same ones lie together in another folder.

    Names are compared without what all of them begin with. Other samples leave the table as it is.
    """
    names = [sample.name for sample in manifest.samples]
    before, after = (len(os.path.commonprefix(list(group))) for group in (assigned, names))  # noqa: RUF071 - meant
    moved = {name[before:]: split for name, split in assigned.items()}
    if moved.keys() != {name[after:] for name in names}:
        return assigned
    return {name: moved[name[after:]] for name in names}


def find_trained(manifest: Manifest, assigned: Mapping[str, str], split: str) -> list[str]:
    """Name the samples of a split that a model was trained or chosen on; in `val`, those it was trained on."""
    earlier = {"test": ("train", "val"), "val": ("train",)}.get(normalize_split(split), ())
    return [sample.name for sample in manifest.select(split) if assigned.get(sample.name) in earlier]
