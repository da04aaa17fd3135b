"""Read tar archives front to back: old, ustar, pax and GNU ones, plain or packed by gzip, bzip2 or xz.

    header (512 bytes) | content, filled up to 512 | header | ... | zeros to the end

Why not `tarfile`: it takes an archive that was cut between two entries, or whose header was altered, for a whole one;
it holds extended headers of any size in memory; and its releases before 2025 never end on a negative size.

Source: POSIX.1-2024, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format".
"""

import bz2
import gzip
import lzma
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from tubelet.archives.guard import CHUNK_BYTES, Entry, Guard, Limits, shorten

__all__ = ["PACKED_MAGICS", "Member", "is_tar_header", "list_members", "read_tar"]

BLOCK_BYTES = 512
PACKED_MAGICS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_COMPRESSIONS = {**PACKED_MAGICS, b"\x28\xb5\x2f\xfd": "zstd"}
_MOST_EXTENDED_BYTES = 1 << 20
"""Longest extended header; they hold names and times, and are read into memory."""
_MOST_XZ_BYTES = 1 << 30
"""Memory for unpacking xz; its strongest setting needs 65 MiB."""
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


_Read = Callable[[int], bytes]
"""Returns up to so many bytes, none at the end."""


def read_tar(archive: Path, guard: Guard) -> Iterator[Entry]:
    """Yield the entries of an archive; the content of each is read before the next is asked for.

    Raises:
        ArchiveError: no tar inside, cut, altered, or an entry that is no plain file or folder.
    """
    with archive.open("rb") as raw:
        yield from _Tar(_open_packed(raw), guard).read_entries()


class Member(NamedTuple):
    """Say where a file lies within an archive that is not packed."""

    name: str
    """As the archive spells it: not to be trusted."""
    begin: int
    """First byte of its headers."""
    offset: int
    """First byte of its content."""
    size_bytes: int
    """Of its content."""

    @property
    def end(self) -> int:
        """The first byte behind it, where the headers of the next one begin."""
        return self.offset + self.size_bytes + -self.size_bytes % BLOCK_BYTES


def list_members(archive: Path, begin: int = 0, end: int | None = None) -> Iterator[Member]:
    """Go from header to header of an archive that is not packed: where each file lies, without reading any.

    Args:
        archive: where members end before the archive does: what lies behind is not looked at.
        begin: byte at which the headers of a member begin.
        end: byte at which a member ends; None goes on to the end of the archive, and looks for its mark.

    Raises:
        ArchiveError: packed, no tar, cut, altered, or an entry that is no plain file or folder.

    Cost: 10 us a file where the system holds the headers in memory.
    """
    guard = Guard(archive, Limits(), deed="read")
    with archive.open("rb") as raw:
        head = raw.read(6)
        packing = next((name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)), None)
        if packing:
            raise guard.refuse(f"it is packed by {packing}, so that nothing in it can be reached", "unpack that first")
        raw.seek(begin)
        tar = _SeekableTar(raw, guard)
        for entry in tar.read_entries():
            member = Member(entry.name, begin, tar.place, entry.size_bytes)
            begin = member.end
            if begin > guard.archive_bytes:
                raise guard.damaged("it ends too early")
            if not entry.is_folder:
                yield member
            if end is not None and begin >= end:
                return


def is_tar_header(block: bytes) -> bool:
    """Tell whether a block is the header of an entry, by its checksum."""
    if len(block) != BLOCK_BYTES or not any(block):
        return False
    try:
        stated = int(block[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    blank = block[:148] + b" " * 8 + block[156:]
    total = sum(blank)
    # Some old programs added signed bytes.
    return stated == total or stated == total - 256 * sum(byte > 127 for byte in blank)


@dataclass
class _Extended:
    """What extended headers say of the entry that follows."""

    path: str = ""
    size_bytes: int | None = None


class _Tar:
    def __init__(self, read: _Read, guard: Guard) -> None:
        self._source = read
        self._guard = guard
        self._flow_bytes = 0

    def read_entries(self) -> Iterator[Entry]:
        extended, first = _Extended(), True
        while any(block := self._read(BLOCK_BYTES)):
            if not is_tar_header(block):
                raise self._guard.damaged("a header is wrong" if not first else "what is packed in it is no tar")
            first = False
            kind, size_bytes = block[156:157], self._parse_size(block[124:136])
            if kind in (b"x", b"X", b"L", b"K", b"g"):
                self._extend(extended, kind, size_bytes)
                continue
            yield from self._read_entry(block, kind, size_bytes, extended)
            extended = _Extended()
        self._drain()

    def _read_entry(self, block: bytes, kind: bytes, size_bytes: int, extended: _Extended) -> Iterator[Entry]:
        name = extended.path or _parse_name(block)
        if kind not in (b"\0", b"0", b"5", b"7"):
            raise self._guard.refuse(f"its entry {shorten(name)} is {_KINDS.get(kind, 'of a special kind')}, no file")
        size_bytes = size_bytes if extended.size_bytes is None else extended.size_bytes
        is_folder = kind == b"5" or name.endswith("/")
        # Folders have no content; the size that some programs give them means something else.
        if kind == b"5":
            yield Entry(name, 0, True, lambda: iter(()))
            return
        content = self._read_content(size_bytes)
        yield Entry(name, size_bytes, is_folder, partial(iter, content))
        for _ in content:
            pass

    def _read_content(self, size_bytes: int) -> Iterator[bytes]:
        left = size_bytes
        while left:
            piece = self._read(min(left, CHUNK_BYTES))
            left -= len(piece)
            yield piece
        self._read(-size_bytes % BLOCK_BYTES)

    def _read(self, size_bytes: int) -> bytes:
        """Read exactly so many bytes."""
        pieces, left = [], size_bytes
        while left:
            piece = self._source(left)
            if not piece:
                raise self._guard.damaged("it ends too early")
            left -= len(piece)
            self._flow_bytes += len(piece)
            pieces.append(piece)
        self._guard.check_flow(self._flow_bytes)
        return b"".join(pieces)

    def _drain(self) -> None:
        """Read on to the end of the file, where a packed one proves its content."""
        while piece := self._source(CHUNK_BYTES):
            self._flow_bytes += len(piece)
            self._guard.check_flow(self._flow_bytes)
            if piece.strip(b"\0"):
                raise self._guard.damaged("something stands behind its end")

    def _parse_size(self, field: bytes) -> int:
        if field[0] == 0x80:
            return int.from_bytes(field[1:], "big")
        try:
            size_bytes = int(field.partition(b"\0")[0].strip() or b"0", 8)
        except ValueError:
            size_bytes = -1
        if size_bytes < 0:
            raise self._guard.damaged("a size is no number")
        return size_bytes

    def _extend(self, extended: _Extended, kind: bytes, size_bytes: int) -> None:
        if size_bytes > _MOST_EXTENDED_BYTES:
            raise self._guard.refuse(f"it has an extended header of {size_bytes:,} bytes")
        content = self._read(size_bytes + -size_bytes % BLOCK_BYTES)[:size_bytes]
        if kind == b"L":
            extended.path = _decode(content.partition(b"\0")[0])
        elif kind != b"K":
            self._take_records(extended, self._parse_records(content), is_global=kind == b"g")

    def _take_records(self, extended: _Extended, records: dict[bytes, bytes], *, is_global: bool) -> None:
        if any(key.startswith(b"GNU.sparse") for key in records) or (is_global and {b"path", b"size"} & set(records)):
            raise self._guard.refuse("it has sparse files, or one name for all of them")
        extended.path = _decode(records.get(b"path", b"")) or extended.path
        if size := records.get(b"size"):
            if not size.isdigit() or len(size) > 19:
                raise self._guard.damaged("a size is no number")
            extended.size_bytes = int(size)

    def _parse_records(self, content: bytes) -> dict[bytes, bytes]:
        """Parse lines of `LENGTH KEY=VALUE`, where the length counts the whole line."""
        records, place = {}, 0
        while place < len(content):
            blank = content.find(b" ", place, place + 9)
            length = content[place : max(blank, 0)]
            end = place + (int(length) if length.isdigit() else 0)
            key, equals, value = content[blank + 1 : max(end - 1, 0)].partition(b"=")
            if not (place < blank < end - 1 < len(content) and content[end - 1 : end] == b"\n" and equals):
                raise self._guard.damaged("an extended header is wrong")
            records[key] = value
            place = end
        return records


class _SeekableTar(_Tar):
    """Pass over contents instead of reading them."""

    def __init__(self, raw: IO[bytes], guard: Guard) -> None:
        super().__init__(raw.read, guard)
        self._raw = raw

    @property
    def place(self) -> int:
        """The byte that is read next."""
        return self._raw.tell()

    def _read_content(self, size_bytes: int) -> Iterator[bytes]:
        self._raw.seek(size_bytes + -size_bytes % BLOCK_BYTES, os.SEEK_CUR)
        yield from ()


def _parse_name(block: bytes) -> str:
    name = block[:100].partition(b"\0")[0]
    # GNU tar keeps times where ustar keeps the first part of a long path.
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return _decode(prefix + b"/" + name if prefix else name)


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _open_packed(raw: IO[bytes]) -> _Read:
    head = raw.read(6)
    raw.seek(0)
    packing = next((name for magic, name in PACKED_MAGICS.items() if head.startswith(magic)), "")
    if packing == "gzip":
        return gzip.GzipFile(fileobj=raw, mode="rb").read
    if packing == "bzip2":
        return bz2.BZ2File(raw).read
    return _Xz(raw).read if packing == "xz" else raw.read


class _Xz:
    """Unpack xz streams one behind the other, in bounded memory, which `lzma.open` does not promise."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._decoder = _make_decoder()

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end."""
        while True:
            packed = b""
            if self._decoder.eof:
                packed = (self._decoder.unused_data or self._raw.read(CHUNK_BYTES)).lstrip(b"\0")
                if not packed and not (packed := self._raw.read(CHUNK_BYTES).lstrip(b"\0")):
                    return b""
                self._decoder = _make_decoder()
            elif self._decoder.needs_input and not (packed := self._raw.read(CHUNK_BYTES)):
                raise EOFError("it ends too early")
            if piece := self._decoder.decompress(packed, size):
                return piece


def _make_decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_XZ_BYTES)
