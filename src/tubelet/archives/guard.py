"""Hold an archive to limits, and its names to one folder that every system can store.

entry --name--> inside, portable, once?   --bytes--> within the limits?   else ArchiveError
"""

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tubelet.errors import DataError

__all__ = ["CHUNK_BYTES", "ArchiveError", "Entry", "Guard", "Limits", "OnProgress", "shorten"]

OnProgress = Callable[[int, int], None]
"""Called with (bytes written, bytes promised; 0 where nobody knows)."""

CHUNK_BYTES = 1 << 20
_LONGEST_NAME_BYTES = 255
_LONGEST_PATH = 1024
_RESERVED = {
    *("con", "prn", "aux", "nul", "conin$", "conout$"),
    *(f"{name}{digit}" for name in ("com", "lpt") for digit in "123456789¹²³"),
}
"""Names that Windows gives to devices, whatever ending follows."""


class ArchiveError(DataError):
    """Report an archive that is damaged, or that tries something."""

    code = "archive"


@dataclass(frozen=True)
class Limits:
    """State how much may come out of an archive."""

    size_bytes: int = 2 << 40
    """Bytes of all files."""
    entries: int = 500_000
    """Files and folders, those that only a longer path names included."""
    ratio: int = 200
    """Bytes out for each byte of the archive; videos hardly shrink."""
    grace_bytes: int = 64 << 20
    """Bytes that may come out whatever the ratio."""


@dataclass(frozen=True)
class Entry:
    """Name one file or folder of an archive."""

    name: str
    """As the archive spells it: not to be trusted."""
    size_bytes: int
    """What the archive promises."""
    is_folder: bool
    read: Callable[[], Iterator[bytes]]
    """Makes the content, piece by piece; called once, before the next entry is asked for."""


class Guard:
    """Hold an archive to its limits, and its names to one folder; `deed` is what messages say is done with it."""

    def __init__(self, archive: Path, limits: Limits, *, deed: str = "unpack") -> None:
        self.archive = archive
        self.deed = deed
        self.limits = limits
        self.archive_bytes = archive.stat().st_size
        self.flow_bytes = self.archive_bytes * limits.ratio + limits.grace_bytes
        """How much any decompressor may give, headers and padding included."""
        self.allowed_bytes = min(limits.size_bytes, self.flow_bytes)
        self.written_bytes = 0
        self.promised_bytes = 0
        # Digests instead of paths: half a million long names must not fill the memory.
        self._seen: dict[bytes, tuple[bytes, bool]] = {}
        self._folders: set[bytes] = set()

    def refuse(
        self, found: str, remedy: str = "do not use it, or unpack it yourself where it can do no harm"
    ) -> ArchiveError:
        """Make the error that says why nothing is done with the archive."""
        return ArchiveError(f"cannot {self.deed} {str(self.archive)!r} - {found} - {remedy}.")

    def damaged(self, found: str) -> ArchiveError:
        """Make the error for an archive that contradicts itself."""
        return self.refuse(f"it is damaged: {found}", "fetch it again")

    def admit(self, name: str, *, is_folder: bool) -> str:
        """Return a name as a relative path that stays inside, the same on every system.

        Raises:
            ArchiveError: a name that leads elsewhere, that some system cannot store, that stands there twice, or one
                more than the limit allows.
        """
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if name.startswith(("/", "\\")) or ".." in parts or (parts and parts[0][1:2] == ":"):
            raise self.refuse(f"its entry {shorten(name)} would land outside of the folder")
        if not parts and not is_folder:
            raise self.refuse(f"its entry {shorten(name)} is a file without a name")
        if len(name) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME_BYTES for part in parts):
            raise self.refuse(f"its entry {shorten(name)} has a name of {len(name):,} characters")
        if any(_is_odd(part) for part in parts):
            raise self.refuse(f"its entry {shorten(name)} has a name that not every system can store")
        for depth in range(len(parts) - 1, 0, -1):
            parent = "/".join(parts[:depth])
            if _digest(parent) in self._folders:
                break
            self._register(parent, True)
        path = "/".join(parts)
        if path:
            self._register(path, is_folder)
        return path

    def _register(self, path: str, is_folder: bool) -> None:
        own = _digest(path)
        folded = _digest(unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold()))
        known = self._seen.get(folded)
        if known is None:
            self._seen[folded] = (own, is_folder)
        elif known != (own, is_folder):
            same = "a file and a folder" if known[0] == own else "one with another of its entries on some systems"
            raise self.refuse(f"its entry {shorten(path)} would be {same}")
        elif not is_folder:
            raise self.refuse(f"its entry {shorten(path)} stands there twice")
        if is_folder:
            self._folders.add(own)
        if len(self._seen) > self.limits.entries:
            raise self.refuse(f"it holds more than {self.limits.entries:,} entries")

    def promise(self, size_bytes: int) -> None:
        """Take note of what the archive says will come out.

        Raises:
            ArchiveError: more than the limits allow.
        """
        self.promised_bytes = size_bytes
        self._check(size_bytes)

    def count(self, size_bytes: int) -> None:
        """Add bytes that are about to be written.

        Raises:
            ArchiveError: more than the limits allow.
        """
        self._check(self.written_bytes + size_bytes)
        self.written_bytes += size_bytes

    def check_flow(self, size_bytes: int) -> None:
        """Compare what a decompressor gave so far with what one may give.

        Raises:
            ArchiveError: more than the limits allow.
        """
        if size_bytes > max(self.flow_bytes, self.archive_bytes):
            raise self._bomb(self.flow_bytes)

    def _check(self, size_bytes: int) -> None:
        if size_bytes > self.allowed_bytes:
            raise self._bomb(self.allowed_bytes)

    def _bomb(self, limit_bytes: int) -> ArchiveError:
        return self.refuse(f"more than {limit_bytes:,} bytes come out of its {self.archive_bytes:,}: a bomb")


def shorten(name: str) -> str:
    """Quote the start of a name, for a message."""
    return f"{name[:80]!r}{'...' if len(name) > 80 else ''}"


def _digest(path: str) -> bytes:
    return hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _is_odd(part: str) -> bool:
    """Tell whether some system cannot store a name, or stores it under another one."""
    return (
        part != part.rstrip(". ")
        or part.split(".")[0].rstrip().lower() in _RESERVED
        or any(ord(letter) < 32 or letter in ':*?"<>|' for letter in part)
    )
