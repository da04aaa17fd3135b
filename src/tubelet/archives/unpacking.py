"""Turn an archive into a folder that appears when everything is in it.

    set.zip, .tar, .tar.gz, .tgz, .tar.xz, .tar.bz2, .rar --> FOLDER (complete) or nothing

Names are checked before a byte is written, sizes while it is: a promise in a header binds nobody. Only plain files and
folders come out; links, devices and the like are refused, and permissions are those that every new file here gets.
"""

import errno
import gzip
import lzma
import struct
import zipfile
import zlib
from pathlib import Path

from tubelet.archives.guard import ArchiveError, Entry, Guard, Limits, OnProgress, shorten
from tubelet.archives.rar import RAR_TYPES, unpack_rar
from tubelet.archives.tar import PACKED_MAGICS, is_tar_header, read_tar
from tubelet.archives.zip import read_zip
from tubelet.files import replace_folder

__all__ = ["unpack"]

_LIMITS = Limits()
_MAGICS = ((b"PK\x03\x04", "zip"), (b"PK\x05\x06", "zip"), *((magic, kind) for kind, magic in RAR_TYPES.items()))
_DAMAGES = (zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError, UnicodeError, struct.error)


def unpack(
    archive: str | Path,
    folder: str | Path,
    *,
    limits: Limits = _LIMITS,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Path:
    """Unpack an archive into a folder that appears complete, or not at all.

    Archives inside of the archive stay packed.

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

    Example:
        >>> import tempfile, zipfile
        >>> with tempfile.TemporaryDirectory() as here:
        ...     with zipfile.ZipFile(f"{here}/set.zip", "w") as opened:
        ...         opened.writestr("walk/1.avi", b"...")
        ...     [path.name for path in unpack(f"{here}/set.zip", f"{here}/set").iterdir()]
        ['walk']
    """
    archive, folder = Path(archive), Path(folder)
    kind = _find_kind(archive)
    guard = Guard(archive, limits)
    if folder.resolve() in archive.resolve().parents and folder.exists():
        raise guard.refuse(f"it lies in {str(folder)!r}, which would be replaced", "unpack it into another folder")
    try:
        with replace_folder(folder) as temporary:
            _fill(temporary, archive, kind, guard, on_progress)
    except _DAMAGES as error:
        raise guard.damaged(str(error) or type(error).__name__) from None
    except (NotImplementedError, RuntimeError) as error:
        raise guard.refuse(f"it cannot be read: {error}", "unpack it with 7-Zip") from None
    except OSError as error:
        # So bz2 reports damage, and zipfile a place before the start.
        if error.errno is None or (error.errno == errno.EINVAL and error.filename is None):
            raise guard.damaged(str(error)) from None
        raise guard.refuse(str(error), "check the disk and the permissions") from error
    return folder


def _fill(folder: Path, archive: Path, kind: str, guard: Guard, on_progress: OnProgress) -> None:
    if kind in RAR_TYPES:
        unpack_rar(archive, folder, kind, guard, on_progress)
    else:
        for entry in read_zip(archive, guard) if kind == "zip" else read_tar(archive, guard):
            _write(entry, folder, guard, on_progress)
    if not any(folder.iterdir()):
        raise guard.refuse("it holds nothing", "fetch it again")


def _find_kind(archive: Path) -> str:
    """Tell by the first bytes what an archive is: `zip`, `tar`, or what 7-Zip calls a kind of rar."""
    try:
        # Opening a pipe would wait for somebody to write into it.
        if archive.exists() and not archive.is_file():
            raise _refuse(archive, "it is no file", "give the path of an archive")
        with archive.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise _refuse(archive, str(error.strerror), "check the path") from None
    for magic, kind in (*_MAGICS, *((magic, "tar") for magic in PACKED_MAGICS)):
        if head.startswith(magic):
            return kind
    if is_tar_header(head):
        return "tar"
    raise _refuse(archive, f"its first bytes {head[:8]!r} are those of no zip, tar or rar", "fetch it again")


def _refuse(archive: Path, found: str, remedy: str) -> ArchiveError:
    return ArchiveError(f"cannot unpack {str(archive)!r} - {found} - {remedy}.")


def _write(entry: Entry, folder: Path, guard: Guard, on_progress: OnProgress) -> None:
    target = folder / guard.admit(entry.name, is_folder=entry.is_folder)
    if entry.is_folder:
        if entry.size_bytes:
            raise guard.damaged(f"its folder {shorten(entry.name)} has content")
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    before_bytes = guard.written_bytes
    with target.open("xb") as stream:
        for piece in entry.read():
            guard.count(len(piece))
            stream.write(piece)
            on_progress(guard.written_bytes, guard.promised_bytes)
    found_bytes = guard.written_bytes - before_bytes
    if found_bytes != entry.size_bytes:
        raise guard.damaged(f"{shorten(entry.name)} should have {entry.size_bytes:,} bytes, found {found_bytes:,}")
