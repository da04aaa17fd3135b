"""List the sources that folders, patterns and lists of paths stand for, one after the other, however many they are."""

import csv
import glob
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tubelet.data.folders import find_clip, is_clip_name
from tubelet.data.tables import TABLE_SUFFIXES
from tubelet.errors import DataError, name_nearest
from tubelet.video.decoders.images import IMAGE_SUFFIXES
from tubelet.video.opening import sniff_demuxer

__all__ = ["LIST_SUFFIXES", "list_sources"]

LIST_SUFFIXES = TABLE_SUFFIXES | {".txt"}
"""Endings of files that list sources: one path a line, or a table with a column `path`."""


def list_sources(sources: Iterable[str]) -> Iterator[str]:
    """List every single source that files, folders, patterns and lists stand for; what is not there stays.

    Folders come in the order of their paths, lists in their own. Relative paths in a list start at its folder.

    Raises:
        DataError: a list that cannot be read.

    Cost: memory for the names of one folder at a time; docs/log.md states seconds for a million names.
    """
    for source in sources:
        # Not pathlib's: it raises at names that the system refuses, which are to be reported like missing ones.
        if os.path.isdir(source):  # noqa: PTH112
            # A folder without videos is one clip of images, or will be reported.
            yield from _or_itself(source, _walk(source, set()))
        elif os.path.splitext(source)[1].lower() in LIST_SUFFIXES and os.path.isfile(source):  # noqa: PTH113, PTH122
            yield from _read_list(Path(source))
        elif glob.has_magic(source) and not os.path.exists(source):  # noqa: PTH110
            yield from _or_itself(source, sorted(glob.glob(source, recursive=True)))  # noqa: PTH207 - absolute patterns
        else:
            yield source


def _or_itself(source: str, found: Iterable[str]) -> Iterator[str]:
    count = 0
    for count, one in enumerate(found, start=1):  # noqa: B007
        yield one
    if not count:
        yield source


def _walk(folder: str, series: set[str]) -> Iterator[str]:
    """Find the clips below a folder in the order of their paths; a folder of slices comes once."""
    try:
        with os.scandir(folder) as scan:
            # With a separator at its end a folder sorts as its files do.
            entries = sorted((entry.name + os.sep * entry.is_dir(follow_symlinks=False), entry) for entry in scan)
    except OSError:
        return  # as if empty: other folders may well be read
    for name, entry in entries:
        if name.startswith("."):
            continue
        if name.endswith(os.sep):
            yield from _walk(entry.path, series)
        elif is_clip_name(name):
            # The kind of entry is known from the folder: no call to the system for each of a million files.
            if entry.is_file():
                yield entry.path
        else:
            found = _find_source(entry.path)
            if found is not None and found not in series:
                series.add(found)
                yield found


def _find_source(path: str) -> str | None:
    """Say which source a file without a clip's ending belongs to: by its first bytes."""
    place = Path(path)
    clip = find_clip(place)
    if clip is not None or place.suffix.lower() in IMAGE_SUFFIXES | LIST_SUFFIXES or not place.is_file():
        return None if clip is None else str(clip)
    try:
        with place.open("rb") as file:
            return path if sniff_demuxer(file.read(1024)) not in (None, "dicom") else None
    except OSError:
        return None


def _read_list(path: Path) -> Iterator[str]:
    """Read the paths of a list, each from the list's folder on."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            for line in _read_lines(path, lines):
                if line:
                    yield os.path.join(path.parent, line)  # noqa: PTH118 - a Path for each of many files is slow
    except OSError as error:
        raise DataError(f"cannot read '{path}' - {error.strerror} - check the path and its permissions.") from None


def _read_lines(path: Path, lines: Iterable[str]) -> Iterator[str]:
    suffix = path.suffix.lower()
    if suffix == ".txt":
        yield from (line.rstrip("\r\n") for line in lines)
    elif suffix in (".csv", ".tsv"):
        table = csv.DictReader(lines, delimiter="\t" if suffix == ".tsv" else ",")
        yield from (_take_path(path, table.line_num, row) for row in table)
    else:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _take_path(path, number, _parse(path, number, line))


def _parse(path: Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"cannot read '{path}', line {number} - it is no JSON: {error} - correct the line.") from None
    return row if isinstance(row, dict) else {}


def _take_path(path: Path, number: int, row: Mapping[str, Any]) -> str:
    """Take the path of a row.

    Raises:
        DataError: it has none, or means a part of a video, which is no source.
    """
    if not isinstance(row.get("path"), str):
        near = name_nearest("path", [str(name) for name in row]) or "."
        raise DataError(f"cannot read '{path}', line {number} - it has no column 'path'{near} Name one 'path'.")
    if any(row.get(name) not in (None, "") for name in ("start_s", "end_s")):
        raise DataError(
            f"cannot predict what '{path}' names, line {number} - it is a part of a video, from start_s to end_s - "
            "store the parts as files, or leave both columns out to classify whole videos."
        )
    return str(row["path"])
