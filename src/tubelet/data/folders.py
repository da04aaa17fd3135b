"""Read a folder of class folders: the names of the folders are the labels.

    clips/                        clips/
      archery/                      train/
        a.mp4                         archery/a.mp4
        b c.avi                       bowling/..
      bowling/                      val/..
        person1/d.webm              test/..
        e/ 0001.jpg 0002.jpg

- The folder right below the top (or below `train`, `val`, `test`) is the class; deeper folders only sort its clips, and
  their path is kept as metadata `folder`, so that `--group-by folder` keeps the clips of `person1` together.
- A folder below a class that holds images, no videos and no folders is one clip, its images the frames.
- Hidden files and folders do not count; other files are passed over and reported.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tubelet.data.sample import Reading, Sample, normalize_split, quote_some
from tubelet.errors import DataError
from tubelet.video.decoders.images import IMAGE_SUFFIXES

__all__ = ["VIDEO_SUFFIXES", "read_folder"]

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".apng", ".asf", ".avi", ".dv", ".flv", ".gif", ".h264", ".hevc", ".ivf", ".m2ts", ".m2v", ".m4v", ".mkv"}
    | {".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogg", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)
"""Endings by which a file in a class folder counts as a clip; a manifest may name files with any ending."""

_TABLE_SUFFIXES = frozenset([".csv", ".tsv", ".jsonl", ".ndjson"])


class _Listing(NamedTuple):
    """Hold the visible entries of a folder, each sorted by name."""

    folders: list[str]
    videos: list[str]
    images: list[str]
    others: list[str]


def read_folder(root: Path) -> Reading:
    """Read all clips below a folder of class folders, in the order of their paths.

    Raises:
        DataError: no class folder, no clip, or split folders beside other folders.
    """
    top = _list(root)
    splits = _find_splits(root, top)
    notes = _report_loose(root, top)
    samples: list[Sample] = []
    for split, base in splits:
        listing = top if base == root else _list(base)
        if base != root:
            notes += _report_loose(base, listing)
        for name in listing.folders:
            found = _Scan(base / name, unicodedata.normalize("NFC", name), split)
            samples += found.samples
            notes += found.notes
    if not samples:
        details = f"; {notes[0]}" if notes else ""
        raise DataError(
            f"cannot find a clip in '{root}' - it holds {len(top.folders)} folders and no video in them{details} - "
            "give a folder that holds one folder of clips for each class."
        )
    return Reading(tuple(samples), tuple(notes))


def _list(folder: Path) -> _Listing:
    """Sort the visible entries of a folder into kinds."""
    listing = _Listing([], [], [], [])
    try:
        with os.scandir(folder) as scan:
            entries = sorted((entry.name, entry.is_dir()) for entry in scan if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot list '{folder}' - {error.strerror} - check its permissions.") from None
    for name, is_folder in entries:
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of many files is slow
        if is_folder:
            listing.folders.append(name)
        elif suffix in VIDEO_SUFFIXES:
            listing.videos.append(name)
        elif suffix in IMAGE_SUFFIXES:
            listing.images.append(name)
        else:
            listing.others.append(name)
    return listing


def _find_splits(root: Path, top: _Listing) -> list[tuple[str | None, Path]]:
    """Say where class folders lie, and in which split: one place, or one for each split folder.

    A single folder called like a split, beside others, is taken for a class: there are trains to be recognized.
    """
    named = {name: _as_split(name) for name in top.folders}
    strangers = [name for name, split in named.items() if split is None]
    if len(named) - len(strangers) == 0 or (strangers and len(named) - len(strangers) == 1):
        return [(None, root)]
    if strangers:
        raise DataError(
            f"cannot tell classes from splits in '{root}' - split folders lie beside {quote_some(strangers)} - "
            "leave only train, val and test at the top, or only classes."
        )
    places: dict[str | None, Path] = {}
    for name, split in named.items():
        if split in places:
            raise DataError(
                f"cannot use '{root}' - '{places[split].name}' and '{name}' both mean the split '{split}' - join them."
            )
        places[split] = root / name
    return list(places.items())


def _as_split(name: str) -> str | None:
    try:
        return normalize_split(name)
    except DataError:
        return None


def _report_loose(folder: Path, listing: _Listing) -> list[str]:
    """Report files that lie beside the class folders."""
    notes = []
    tables = [name for name in listing.others if Path(name).suffix.lower() in _TABLE_SUFFIXES]
    if tables:
        notes.append(
            f"{quote_some(tables)} beside the class folders was not read; give '{folder / tables[0]}' itself to use "
            "what it states (labels, splits, groups)"
        )
    loose = [*listing.videos, *listing.images]
    if loose:
        notes.append(f"{len(loose)} clips or images lie in '{folder}' outside any class folder: {quote_some(loose)}")
    return notes


class _Scan:
    """Collect the clips of one class folder; links are followed, loops of links are not."""

    def __init__(self, folder: Path, label: str, split: str | None) -> None:
        self._folder = folder
        self._label = label
        self._split = split
        self._others: list[str] = []
        self._loops: list[str] = []
        self.samples: list[Sample] = list(self._walk(folder, "", frozenset()))
        self.notes: list[str] = self._report()

    def _walk(self, folder: Path, inner: str, above: frozenset[str]) -> Iterator[Sample]:
        real = os.path.realpath(folder)
        if real in above:
            self._loops.append(inner)
            return
        listing = _list(folder)
        if inner and listing.images and not (listing.videos or listing.folders):
            self._others += [os.path.join(inner, name) for name in listing.others]  # noqa: PTH118
            yield self._make(folder, str(Path(inner).parent))
            return
        self._others += [os.path.join(inner, name) for name in (*listing.images, *listing.others)]  # noqa: PTH118
        for name in listing.videos:
            yield self._make(folder / name, inner)
        for name in listing.folders:
            yield from self._walk(folder / name, str(Path(inner) / name), above | {real})

    def _make(self, source: Path, inner: str) -> Sample:
        metadata = {"folder": Path(inner).as_posix()} if inner not in ("", ".") else {}
        return Sample(str(source), self._label, self._split, metadata=metadata)

    def _report(self) -> list[str]:
        notes = []
        if self._others:
            kinds = Counter(Path(name).suffix.lower() or "no ending" for name in self._others)
            counts = ", ".join(f"{count} {suffix}" for suffix, count in kinds.most_common(5))
            notes.append(f"passed over in '{self._folder}': {counts}; such as {quote_some(self._others, 3)}")
        if any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in self._others) and not self.samples:
            notes.append(f"'{self._folder}' holds images; put the frames of each clip into a folder of their own")
        if self._loops:
            notes.append(f"links in '{self._folder}' lead back to a folder above: {quote_some(self._loops)}")
        if not self.samples:
            notes.append(f"class folder '{self._folder}' holds no clip")
        return notes
