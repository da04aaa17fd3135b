"""Read zip archives: entries stored or deflated, within bounded memory."""

import io
import stat
import zipfile
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from tubelet.archives.guard import CHUNK_BYTES, Entry, Guard, shorten

__all__ = ["read_zip"]

_MOST_DIRECTORY_BYTES = 256 << 20
_ENTRY_MAGIC = b"PK\x01\x02"
_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)
# zipfile unpacks other methods in one go, and 4 KB of bzip2 can hold gigabytes.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADER_BYTES = 30
_MOST_READ_TWICE = 2_000


def read_zip(archive: Path, guard: Guard) -> Iterator[Entry]:
    """Yield the entries of an archive.

    Raises:
        ArchiveError: too many entries or bytes, overlapping entries, or one that is encrypted, packed in an odd way, or
            no plain file or folder.
    """
    with archive.open("rb", buffering=0) as raw:
        watched = _Watched(raw, guard)
        with zipfile.ZipFile(io.BufferedReader(watched)) as opened:
            watched.has_opened = True
            for info in opened.infolist():
                _check(info, guard)
            _check_overlaps(opened.infolist(), guard)
            guard.promise(sum(info.file_size for info in opened.infolist()))
            for info in opened.infolist():
                is_folder = info.filename.endswith(("/", "\\"))
                yield Entry(info.filename, info.file_size, is_folder, partial(_read, opened, info))


def _read(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with opened.open(info) as stream:
        while piece := stream.read(CHUNK_BYTES):
            yield piece


class _Watched(io.RawIOBase):
    """Look at the list of entries while zipfile reads it, before it makes an object of each.

    What the archive says of their number binds zipfile to nothing, so the entries themselves are counted.
    """

    has_opened = False

    def __init__(self, raw: io.FileIO, guard: Guard) -> None:
        super().__init__()
        self._raw = raw
        self._guard = guard
        self._entries = 0
        self._bytes = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place."""
        return self._raw.seek(offset, whence)

    def readinto(self, buffer: Any, /) -> int:
        """Read, and count what begins an entry."""
        count = self._raw.readinto(buffer) or 0
        if not self.has_opened:
            self._look(bytes(buffer[:count]))
        return count

    def _look(self, piece: bytes) -> None:
        self._entries += piece.count(_ENTRY_MAGIC)
        self._bytes += len(piece)
        # The end of the list may be read twice; the guard counts exactly.
        if self._bytes > _MOST_DIRECTORY_BYTES or self._entries > self._guard.limits.entries + _MOST_READ_TWICE:
            raise self._guard.refuse(f"it holds more than {self._guard.limits.entries:,} entries")


def _check(info: zipfile.ZipInfo, guard: Guard) -> None:
    shown = shorten(info.filename)
    if "\0" in info.orig_filename:
        raise guard.refuse(f"its entry {shorten(info.orig_filename)} has a name with a zero byte")
    if stat.S_IFMT(info.external_attr >> 16) not in _KINDS:
        raise guard.refuse(f"its entry {shown} is a link or a device, no file")
    if info.flag_bits & 1:
        raise guard.refuse(f"its entry {shown} is encrypted", "decrypt it first")
    if info.compress_type not in _METHODS:
        raise guard.refuse(
            f"its entry {shown} is packed by method {info.compress_type}, neither stored nor deflated",
            "unpack it with 7-Zip",
        )


def _check_overlaps(infos: list[zipfile.ZipInfo], guard: Guard) -> None:
    """Refuse entries that share bytes, by which a small archive holds the same content many times."""
    for one, other in pairwise(sorted(infos, key=lambda info: info.header_offset)):
        end = one.header_offset + _HEADER_BYTES + len(one.orig_filename) + one.compress_size
        if end > other.header_offset:
            raise guard.refuse(f"its entries {shorten(one.filename)} and {shorten(other.filename)} share bytes: a bomb")
