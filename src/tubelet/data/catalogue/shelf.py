"""Keep one data set of the catalogue on this disk: take what is there, fetch what is not, and table the clips.

~/.cache/tubelet/data/ucf101/
  UCF101_videos.zip.part          while it is fetched; put the whole file here to spare the fetching
  files/                          what came out of the archive, or nothing where a folder of yours is used
  split1.csv split2.csv ...       the tables that `read_manifest` takes
  classes.txt                     the order of the classes
  missing.csv                     clips that the official lists name and that are not there, with the reason
"""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tubelet import files
from tubelet.archives import unpack
from tubelet.data.catalogue.entry import DATASETS, Request
from tubelet.data.class_list import CLASS_LIST, write_classes
from tubelet.data.sample import Sample, quote_some
from tubelet.data.tables import write_table
from tubelet.errors import DataError, name_nearest
from tubelet.fetching import FetchError, Remote, check_file, fetch

__all__ = [
    "CONTENT",
    "MISSING",
    "Forbidden",
    "Missing",
    "Shelf",
    "describe_missing",
    "describe_size",
    "index_files",
    "read_rows",
]

CONTENT = "files"
"""Folder of what came out of the archive."""
MISSING = "missing.csv"
"""Table of the clips that should be there."""


class Forbidden(DataError):
    """Report that a data set is not on this machine and may not be fetched, with what to put where."""

    code = "download_forbidden"


class Missing(NamedTuple):
    """Name a clip that the official lists name and that cannot be used."""

    clip: str
    label: str
    split: str
    reason: str
    """`absent`, `empty`, or what went wrong."""


class Shelf:
    """Hold the folder of one data set.

    Args:
        name: of the data set.
        folder: of all data sets.
        request: what is wanted of it.
    """

    def __init__(self, name: str, folder: Path, request: Request) -> None:
        self.entry = DATASETS[name]
        self.home = folder / name
        self.request = request
        self._is_announced = False

    def find(self, table: str) -> Path | None:
        """Find the table that was made before; None where there is none, or where it must be made anew."""
        wanted = self.request
        path = self.home / table
        is_stale = wanted.refresh or wanted.archive is not None or bool(wanted.classes)
        return path if path.is_file() and not is_stale else None

    def take(self, remote: Remote, *, below: str = "") -> Path:
        """Return a file of the data set: the user's own, the one that is there, or a fetched one.

        Args:
            remote: what and where it is.
            below: folder in that of the data set, and in that of the mirror, ending in `/`.

        Raises:
            FetchError: it cannot be fetched, or is another file than it should be.
            Forbidden: it is not there, and fetching is forbidden.
        """
        own = self.find_own(remote.name)
        if own is not None:
            check_file(own, remote)
            return own
        folder = self.home / below
        if not (folder / remote.name).is_file():
            self.check_permission(folder / remote.name, remote.url)
        mirror = self.request.mirror
        address = f"{mirror}{below}" if mirror and mirror.endswith("/") else mirror
        return fetch(remote, folder, mirror=address, on_progress=self.request.on_progress)

    def find_own(self, name: str) -> Path | None:
        """Find a file in what the user brought: the archive itself, or a file in the folder."""
        own = self.request.archive
        if own is None:
            return None
        place = own / name if own.is_dir() else own
        return place if place.name == name and place.is_file() else None

    def open(self, *remotes: Remote, advice: str = "") -> Path:
        """Return a folder that holds the data set: the user's, the one unpacked before, or one unpacked now.

        Args:
            remotes: archives that hold the same; the first is fetched where none is there. None: nobody may fetch it.
            advice: what to do where nobody may fetch it.

        Raises:
            DataError: nothing is there and nothing may be fetched, or the user's archive is not there.
        """
        own = self.request.archive
        if own is not None and not own.exists():
            raise DataError(f"cannot take '{self.entry.name}' from {str(own)!r} - nothing is there - check --archive.")
        packed = next((remote for remote in remotes if self.find_own(remote.name)), None)
        if own is not None and packed is None:
            return own if own.is_dir() else self._unpack(own)
        if packed is None and (self.home / CONTENT).is_dir():
            return self.home / CONTENT
        if not remotes:
            raise DataError(
                f"cannot fetch '{self.entry.name}' - its owners give it only to those who agree to their terms at "
                f"{self.entry.homepage} - {advice}"
            )
        put = packed or next((one for one in remotes if (self.home / one.name).is_file()), None)
        if put is not None:
            return self._unpack(self.take(put))
        archive = self._fetch_one(remotes)
        content = self._unpack(archive)
        archive.unlink()  # all of it is unpacked; a file that somebody put here stays
        return content

    def publish(
        self, tables: Mapping[str, Sequence[Sample]], classes: Sequence[str], missing: Iterable[Missing] = ()
    ) -> None:
        """Write the tables of the data set, its classes and what is missing, as far as the wanted classes go.

        Raises:
            DataError: a class that the data set does not have, or not one clip.
        """
        chosen = self.choose_classes(classes)
        known = set(chosen)
        kept = {name: [one for one in samples if one.label in known] for name, samples in tables.items()}
        lost = [one for one in missing if one.label in known]
        if not any(kept.values()):
            reasons = sorted({one.reason for one in lost})
            raise DataError(
                f"cannot use '{self.entry.name}' - not one of the {len(lost)} clips that its lists name is there "
                f"({quote_some(reasons, 3) or 'they name none'}; such as {quote_some([one.clip for one in lost], 2)}) "
                f"- name the folder that holds them with --archive, or put them into {str(self.home / CONTENT)!r}."
            )
        write_classes(self.home / CLASS_LIST, chosen)
        with files.write_whole(self.home / MISSING, "w") as table:
            writer = csv.writer(table, lineterminator="\n")
            writer.writerow(Missing._fields)
            writer.writerows(lost)
        for name, samples in kept.items():
            write_table(self.home / name, samples)

    def choose_classes(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Return the wanted classes in the order of the data set; all where none was named.

        Raises:
            DataError: one that it does not have, with the nearest.
        """
        unknown = [name for name in self.request.classes if name not in classes]
        if unknown:
            near = name_nearest(unknown[0], classes) or "."
            raise DataError(f"'{self.entry.name}' has no class '{unknown[0]}'{near} It has {len(classes)}.")
        return tuple(name for name in classes if name in self.request.classes or not self.request.classes)

    def check_permission(self, place: Path, address: str) -> None:
        """Refuse to fetch where that is forbidden; else say what begins, once.

        Args:
            place: where the file would go.
            address: where it comes from.

        Raises:
            Forbidden: with what to put where.
        """
        if self.request.offline:
            raise Forbidden(
                f"'{self.entry.name}' is not on this machine - and may not be fetched here - "
                f"'tubelet data download {self.entry.name}' fetches it, '--archive PATH' behind it takes an archive or "
                f"a folder that you have; or put {address} at {str(place.absolute())!r}."
            )
        if not self._is_announced:
            size = describe_size(self.entry.size_bytes) or "a size that nobody states"
            self.request.on_remark(
                f"fetching '{self.entry.name}' into {self.home}: {size}; license: {self.entry.license}; "
                f"terms: {self.entry.homepage}"
            )
        self._is_announced = True

    def _fetch_one(self, remotes: Sequence[Remote]) -> Path:
        """Fetch the first of several archives that hold the same and that can be fetched.

        Raises:
            FetchError: none can be, with the reason for each.
        """
        reasons = []
        for number, remote in enumerate(remotes):
            try:
                return self.take(remote)
            except FetchError as error:
                reasons.append(str(error))
                if number + 1 < len(remotes):
                    self.request.on_remark(f"{error} Trying {remotes[number + 1].name!r}.")
        raise FetchError("\n".join(reasons))

    def _unpack(self, archive: Path) -> Path:
        return unpack(archive, self.home / CONTENT, on_progress=self.request.on_progress)


def describe_size(size_bytes: int) -> str:
    """Write a size for people; an empty text for 0.

    Example:
        >>> describe_size(6_960_400_115)
        '7.0 GB'
    """
    if not size_bytes:
        return ""
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f} {name}"
    return f"{max(size_bytes // 1000, 1)} kB"


def describe_missing(table: Path) -> list[str]:
    """Say what the data set beside a table lacks, as it was found when the table was made."""
    place = table.with_name(MISSING)
    if not place.is_file():
        return []
    rows = read_rows(place)
    if not rows:
        return []
    some = quote_some([row["clip"] for row in rows], 3)
    return [f"{len(rows)} clips that the official lists name cannot be used: {some} ({place})"]


def read_rows(path: Path, *, delimiter: str = ",", columns: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Read a table with the names of its columns in the first line, or with those given.

    Raises:
        DataError: no such file, no text, or rows that are too long.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            rows = list(csv.DictReader(stream, columns, delimiter=delimiter, strict=True))
    except (OSError, csv.Error) as error:
        raise DataError(f"cannot read '{path}' - {error} - take an intact copy of it.") from None
    if any(None in row or None in row.values() for row in rows):
        raise DataError(f"cannot read '{path}' - its lines have different numbers of columns - take an intact copy.")
    return rows


def index_files(root: Path, suffixes: Iterable[str]) -> dict[str, Path]:
    """Find files by name, wherever below a folder they lie; hidden ones do not count, links are followed once.

    Returns:
        Names without the ending to places.

    Cost: about 0.1 s for 10,000 files.
    """
    wanted = frozenset(suffixes)
    found: dict[str, Path] = {}
    seen: set[str] = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        inner[:] = sorted(name for name in inner if not name.startswith(".") and real not in seen)
        if real in seen:
            continue
        seen.add(real)
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a Path for each of many files is slow
            if suffix.lower() in wanted and not name.startswith("."):
                found.setdefault(stem, Path(folder) / name)
    return found
