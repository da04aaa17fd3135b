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
- In the same way a folder of DICOM slices is one clip. A DICOM file is a clip by itself where it holds many frames.
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
from tubelet.video.decoders.dicom import SLICE_SUFFIXES, has_many_frames, is_slice
from tubelet.video.decoders.images import IMAGE_SUFFIXES

EDITION_HOME = ".prepare"
"""Where 'tubelet data prepare' keeps what it needs to go on."""
DONE_NAME = "done.json"
"""What it writes there at the end."""

__all__ = ["DONE_NAME", "EDITION_HOME", "VIDEO_SUFFIXES", "find_clip", "is_clip_name", "read_folder"]

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".apng", ".asf", ".avi", ".dv", ".flv", ".gif", ".h264", ".hevc", ".ivf", ".m2ts", ".m2v", ".m4v", ".mkv"}
    | {".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogg", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)
"""Endings by which a file in a class folder counts as a clip; a manifest may name files with any ending."""

_VOLUME_SUFFIXES = (".nii", ".nii.gz")
_TABLE_SUFFIXES = frozenset([".csv", ".tsv", ".jsonl", ".ndjson"])


class _Listing(NamedTuple):
    """Hold the visible entries of a folder, each sorted by name."""

    folders: list[str]
    videos: list[str]
    """Videos and volumes."""
    images: list[str]
    slices: list[str]
    """Files with an ending of DICOM."""
    others: list[str]


def is_clip_name(name: str) -> bool:
    """Say whether a file is a clip by its ending: a video, or a NIfTI volume.

    Example:
        >>> is_clip_name("CT.NII.GZ"), is_clip_name("notes.gz")
        (True, False)
    """
    lower = name.lower()
    return lower.endswith(_VOLUME_SUFFIXES) or os.path.splitext(lower)[1] in VIDEO_SUFFIXES  # noqa: PTH122 - many files


def find_clip(path: Path) -> Path | None:
    """Say which clip a file met in a folder belongs to: itself, or the folder where it is one DICOM slice of many.

    Returns:
        None where it is neither a video nor a volume.
    """
    if path.name.startswith(".") or not path.is_file():
        return None
    if is_clip_name(path.name):
        return path
    if path.suffix.lower() in IMAGE_SUFFIXES or not is_slice(path):
        return None
    return path.parent if has_many_frames(path) is False else path


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
    listing = _Listing([], [], [], [], [])
    try:
        with os.scandir(folder) as scan:
            entries = sorted((entry.name, entry.is_dir()) for entry in scan if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot list '{folder}' - {error.strerror} - check its permissions.") from None
    for name, is_folder in entries:
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of many files is slow
        if is_folder:
            listing.folders.append(name)
        elif is_clip_name(name):
            listing.videos.append(name)
        elif suffix in SLICE_SUFFIXES:
            listing.slices.append(name)
        elif suffix in IMAGE_SUFFIXES:
            listing.images.append(name)
        else:
            listing.others.append(name)
    return listing


def _sort_slices(folder: Path, listing: _Listing) -> _Listing:
    """Count DICOM files as clips where they hold many frames: the first one that can be read tells for its folder.

    Slices without an ending are looked for where there is nothing else, since each file is opened for it.
    """
    if listing.slices:
        known = (has_many_frames(folder / name) for name in listing.slices)
        if next((many for many in known if many is not None), False):
            return listing._replace(videos=sorted([*listing.videos, *listing.slices]), slices=[])
    elif not (listing.videos or listing.images or listing.folders):
        slices = [name for name in listing.others if is_slice(folder / name)]
        return listing._replace(slices=slices, others=sorted({*listing.others} - {*slices}))
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
    loose = [*listing.videos, *listing.images, *listing.slices]
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
        listing = _sort_slices(folder, listing)
        if inner and (listing.images or listing.slices) and not (listing.videos or listing.folders):
            self._others += [os.path.join(inner, name) for name in listing.others]  # noqa: PTH118
            yield self._make(folder, str(Path(inner).parent))
            return
        passed = (*listing.images, *listing.slices, *listing.others)
        self._others += [os.path.join(inner, name) for name in passed]  # noqa: PTH118
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
        if any(Path(name).suffix.lower() in SLICE_SUFFIXES for name in self._others) and not self.samples:
            notes.append(f"'{self._folder}' holds DICOM slices; put those of each series into a folder of their own")
        if self._loops:
            notes.append(f"links in '{self._folder}' lead back to a folder above: {quote_some(self._loops)}")
        if not self.samples:
            notes.append(f"class folder '{self._folder}' holds no clip")
        return notes
