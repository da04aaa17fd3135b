"""Read the lists of clips that data sets and toolkits publish: a path and the index of a class on each line.

    trainlist01.txt                                 kinetics_train_list.txt
    Archery/v_Archery_g08_c01.avi 3                 abseiling/0wR5jVB-WPk.mp4 0
    testlist01.txt  (no index: the folder names the class)        rawframes_train.txt (frames of a folder, index)
    Archery/v_Archery_g01_c01.avi                   abseiling/0wR5jVB-WPk 250 0
    train.csv       (no line of column names; spaces or commas)
    /data/kinetics/0wR5jVB-WPk.mp4 0

- A list called `...train...` brings those beside it that are called `...val...` and `...test...` in its place.
- Indices count from 1 where `classInd.txt` (`3 Archery`) lies beside the list, else from 0; then `label_map.txt` or
  `classes.txt` (one name a line) names them, and without either they are their own names.
- Clips are looked for beside the list, then in folders that are usually called so; those that are not there are left
  out and reported, as long as one is.

Source: classInd.txt and trainlist01.txt of UCF101; MMAction2's annotation files of VideoDataset and RawframeDataset;
the train.csv of SlowFast and of VideoMAE.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tubelet.data.class_list import CLASS_LIST, read_classes
from tubelet.data.sample import Problem, Reading, Sample, check_problems, quote_some
from tubelet.errors import DataError

__all__ = ["ABSENT", "has_labels", "is_list", "read_list"]

ABSENT = "not_found"
"""Code of listed clips that are not there: trained without, and named; wrong in a check."""

_LABELLED = re.compile(r"(?P<name>.+?)(?:\s+|\s*,\s*)(?P<index>-?\d+)$")
_COUNTED = re.compile(r"(?P<name>.+?)(?:\s+|\s*,\s*)\d+$")
_INDEXED = re.compile(r"(?P<index>\d+)\s+(?P<name>.+)$")
_SPLIT_WORDS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}
_PLACES = ("", "UCF-101", "videos", "videos_{split}", "{split}")


class _Line(NamedTuple):
    number: int
    name: str
    class_index: int | None


@dataclass(frozen=True)
class _Classes:
    """Name classes by index; `first` is the index of the first."""

    names: tuple[str, ...]
    first: int = 0

    def find(self, line: _Line) -> str:
        """Return the class of a line.

        Raises:
            DataError: an index that no class has, or no index and no folder that is called like a class.
        """
        folder = Path(line.name).parent.name
        if line.class_index is None:
            if folder in self.names or (folder and not self.names):
                return folder
            raise DataError(
                f"'{line.name}' has no index behind it, and its folder is no class - add the index, or write a .csv "
                "with a first line 'path,label'."
            )
        place = line.class_index - self.first
        if place < 0 or (self.names and place >= len(self.names)):
            last = f" to {self.first + len(self.names) - 1}" if self.names else " and more"
            raise DataError(f"index {line.class_index} is no class, they are {self.first}{last} - mend it.")
        name = self.names[place] if self.names else str(line.class_index)
        if self.first and folder in self.names and folder != name:
            raise DataError(
                f"index {line.class_index} is '{name}', but the clip lies in '{folder}' - mend one of them."
            )
        return name


def is_list(path: Path) -> bool:
    """Tell a .csv file without a line of column names, a path and an index on each line, from a table with one."""
    first = next((line.strip() for line in _read_lines(path) if line.strip()), "")
    match = _LABELLED.match(first)
    return bool(match) and ("." in Path(match["name"]).name or os.sep in match["name"])  # type: ignore[index]


def has_labels(path: Path) -> bool:
    """Tell a list of clips with class indices from one of paths alone, by its first line."""
    first = next((line.strip() for line in _read_lines(path) if line.strip()), "")
    return bool(_LABELLED.match(first)) and not (path.parent / first).exists()


def read_list(path: Path) -> Reading:
    """Read a list of clips with the lists of the other splits beside it.

    Raises:
        DataError: no such list, indices that are no class, or not one clip where it could be.
    """
    classes = _find_classes(path.parent)
    problems: list[Problem] = []
    samples: list[Sample] = []
    absent: list[str] = []
    missing: list[Problem] = []
    others = []
    for split, place in _find_lists(path):
        lines = list(_parse(place))
        root = _find_root(place.parent, split, lines)
        others += [place.name] if place != path else []
        for line in lines:
            try:
                label = classes.find(line)
            except DataError as error:
                problems.append(Problem(f"{place.name}: {error}", line.number))
                continue
            source = _find_clip(root, line.name)
            if source is not None:
                samples.append(Sample(source, label, split, line=line.number if place == path else None))
            else:
                absent.append(line.name)
                text = f"the listed clip '{line.name}' is not there - restore it, or take it out of the list."
                missing.append(Problem(f"{place.name}: {text}", line.number, ABSENT, (line.name,)))
    check_problems(path, problems)
    if not samples:
        raise DataError(
            f"cannot use '{path}' - none of its {len(absent)} clips is there, such as {quote_some(absent, 1)} - "
            f"put them beside the list, or into {quote_some(_PLACES[1:3])} there."
        )
    notes = [f"{len(absent)} listed clips are not there and were left out: {quote_some(absent)}"] if absent else []
    notes += [f"read with it: {quote_some(others)}"] if others else []
    return Reading(tuple(samples), tuple(notes), classes.names or _number_classes(samples), tuple(missing))


def _number_classes(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Name classes by their indices up to the largest; sort them where folders named them."""
    labels = {sample.label for sample in samples}
    if all(label.isdigit() for label in labels):
        return tuple(str(index) for index in range(max(int(label) for label in labels) + 1))
    return tuple(sorted(labels))


def _find_lists(path: Path) -> Iterator[tuple[str | None, Path]]:
    """Give the list with its split, by its name, and those of the other splits where it is the one of `train`."""
    name = path.name.lower()
    split = next((split for split in _SPLIT_WORDS if split in name), None)
    yield split, path
    if split != "train":
        return
    start = name.index("train")
    for other in ("val", "test"):
        for word in _SPLIT_WORDS[other]:
            place = path.with_name(path.name[:start] + word + path.name[start + len("train") :])
            if place.is_file():
                yield other, place
                break


def _parse(path: Path) -> Iterator[_Line]:
    for number, text in enumerate(_read_lines(path), start=1):
        line = text.strip()
        if line:
            match = _LABELLED.match(line)
            yield _Line(number, match["name"], int(match["index"])) if match else _Line(number, line, None)


def _find_clip(root: str, name: str) -> str | None:
    """Find the clip of a line: what is named, or what stands before a number of frames; None where neither is there."""
    counted = _COUNTED.match(name)
    for spelling in (name, counted["name"]) if counted else (name,):
        source = os.path.abspath(os.path.join(root, spelling))  # noqa: PTH100, PTH118 - a Path a line is slow
        if os.path.exists(source):  # noqa: PTH110
            return source
    return None


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DataError(f"cannot read '{path}' - {error.strerror} - check the path and its permissions.") from None


def _find_root(folder: Path, split: str | None, lines: Sequence[_Line]) -> str:
    """Find the folder that the paths of a list start at: the first in which a clip of it lies."""
    places = [place.format(split=split or "") for place in _PLACES]
    for root in (parent / place for parent in (folder, folder.parent) for place in dict.fromkeys(places)):
        if root.is_dir() and any(_find_clip(os.fspath(root), line.name) for line in lines):
            return os.fspath(root)
    return os.fspath(folder)


def _find_classes(folder: Path) -> _Classes:
    """Read the names of classes that lie beside a list."""
    indexed = folder / "classInd.txt"
    if indexed.is_file():
        return _Classes(_read_indexed(indexed), first=1)
    for name in ("label_map.txt", CLASS_LIST):
        if (folder / name).is_file():
            return _Classes(read_classes(folder / name))
    return _Classes(())


def _read_indexed(path: Path) -> tuple[str, ...]:
    """Read lines such as `3 Archery`, whose indices count from 1 without a gap."""
    names: Mapping[int, str] = {
        int(match["index"]): match["name"] for line in _read_lines(path) if (match := _INDEXED.match(line.strip()))
    }
    if sorted(names) != list(range(1, len(names) + 1)) or not names:
        raise DataError(f"cannot use '{path}' - its indices do not count from 1 without a gap - mend the list.")
    return tuple(names[index] for index in sorted(names))
