"""Write files and folders whole or not at all, and know when what was written has changed.

    write:   .writing-1f0c (new)  --fsync-->  rename over the final name  --fsync-->  the folder

A reader sees the old content or the new one, never a part: the bytes go to a temporary name beside the final one, reach
the disk, and take the final name in one step. A crash leaves at most a `.writing-*` name behind, which
`remove_leftovers` clears.
"""

import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from tubelet.errors import CheckpointError, ConfigError, TubeletError

__all__ = [
    "DiskFull",
    "check_apart",
    "check_folder",
    "check_replaceable",
    "hash_bytes",
    "hash_file",
    "hash_pieces",
    "read_sealed",
    "recover_folder",
    "remove_leftovers",
    "replace_folder",
    "sync_tree",
    "write_json",
    "write_sealed",
    "write_text",
    "write_whole",
]

_PREFIX = ".writing-"
_MAGIC = b"TUBELET\x01"
_SEAL = struct.Struct("<8s32sQ")
_NAME_ERRORS = "surrogateescape"
"""How names that are no UTF-8 travel through text: as `os.fsdecode` takes them in."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(TubeletError):
    """Report that a file did not fit; what stood under its name before is untouched."""

    code = "disk_full"


@contextmanager
def write_whole(
    path: str | os.PathLike[str], mode: Literal["w", "wb"] = "wb", *, size_bytes: int | None = None
) -> Iterator[IO[Any]]:
    """Write a file that appears under its name complete, or not at all.

    Use it for everything that must survive a crash in the middle: checkpoints, tables, reports.

    Args:
        path: the final name; missing folders are made.
        mode: `"wb"` for bytes, `"w"` for UTF-8 text (line ends are written as given). File names that are no UTF-8
            come out as the bytes they are; read such text with `errors="surrogateescape"`.
        size_bytes: how much will be written, where it is known; only for the message when the disk is full.

    Raises:
        DiskFull: no room, a quota, or a limit on file sizes; the text gives path, needed and free bytes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with write_whole(Path(folder) / "table.csv", "w") as table:
        ...         _ = table.write("clip,score")
        ...     (Path(folder) / "table.csv").read_text()
        'clip,score'

    Cost: two fsyncs a file (1.7 ms measured on a cloud disk, more on a busy or spinning one), and room for the old and
    the new file at the same time.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f"{_PREFIX}{secrets.token_hex(8)}")
    binary = temporary.open("xb")
    written_bytes = 0
    try:
        with binary:
            stream: IO[Any] = binary if mode == "wb" else _wrap_text(binary)
            try:
                yield stream
            finally:
                written_bytes = binary.tell()
            stream.flush()
            written_bytes = binary.tell()
            os.fsync(binary.fileno())
        # A file handed over read-only or private stays so.
        with suppress(FileNotFoundError):
            temporary.chmod(final.stat().st_mode & 0o777)
        temporary.replace(final)
        _sync_folder(final.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        # Write errors carry no file name; one that does belongs to a file of the caller's.
        if isinstance(error, OSError) and error.errno in _NO_ROOM and error.filename is None:
            raise DiskFull(_explain_full(final, max(written_bytes, size_bytes or 0), error)) from error
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as `write_whole` writes text, whole or not at all."""
    _write_bytes(path, text.encode(errors=_NAME_ERRORS))


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write `value` as JSON, whole or not at all.

    File names that are no UTF-8 come back from `json.loads` as they were: what has no UTF-8 form is escaped.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot say and other programs refuse to read.
        TypeError: something in `value` is no JSON type.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Python's escape of a lone surrogate is also that of JSON.
    _write_bytes(path, text.encode(errors="backslashreplace"))


def hash_bytes(content: bytes) -> str:
    """Compute the sha256 of bytes, as 64 hexadecimal digits; for content that was read already."""
    return hashlib.sha256(content).hexdigest()


def hash_file(path: str | os.PathLike[str]) -> str:
    """Compute the sha256 of a file's content, as 64 hexadecimal digits.

    Cost: 0.7 s a GB measured on a CPU with SHA instructions, in constant memory.
    """
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_pieces(pieces: Iterable[bytes]) -> str:
    """Compute the sha256 of content that comes in pieces, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def write_sealed(path: str | os.PathLike[str], payload: bytes) -> None:
    """Write bytes together with their sha256, whole or not at all; `read_sealed` notices every later change.

    The file is `TUBELET` + version (8 bytes), sha256 (32), length (8, little-endian), payload. Neither `torch.save` nor
    safetensors notices a flipped bit when it loads; this does.
    """
    size_bytes = _SEAL.size + len(payload)
    with write_whole(path, size_bytes=size_bytes) as stream:
        stream.write(_SEAL.pack(_MAGIC, bytes.fromhex(hash_bytes(payload)), len(payload)))
        stream.write(payload)


def read_sealed(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes that `write_sealed` wrote, and prove that they are the same.

    Raises:
        CheckpointError: the file is absent, not sealed, shorter or longer than stated, or altered by a bit or more.
    """
    try:
        with Path(path).open("rb") as stream:
            head, payload = stream.read(_SEAL.size), stream.read()
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(
            f"cannot read '{path}' - there is no such file - give the path of a checkpoint."
        ) from None
    if len(head) < _SEAL.size:
        raise _damaged(path, f"a header of {_SEAL.size} bytes", f"{len(head)} bytes")
    magic, digest, length = _SEAL.unpack(head)
    if magic != _MAGIC:
        raise _damaged(path, f"the first bytes {_MAGIC!r}", f"{magic!r}")
    if len(payload) != length:
        raise _damaged(path, f"{length:,} bytes of content", f"{len(payload):,}")
    found = hash_bytes(payload)
    if found != digest.hex():
        raise _damaged(path, f"sha256 {digest.hex()}", found)
    return payload


@contextmanager
def replace_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder that appears under its name complete, or not at all; a folder of that name is replaced.

    One process at a time may write a given folder. Two renames are needed where an old folder stands; a crash exactly
    between them leaves the name empty, and `recover_folder` (or the next `replace_folder`) finishes the move.

    Args:
        path: the final name. **Everything in a folder that stands there is lost**, once the new one is whole.

    Returns:
        A context that yields the temporary folder to fill.

    Raises:
        ConfigError: a file stands under the name.
        DiskFull: there was no room; the old folder is untouched.
    """
    final = Path(path)
    recover_folder(final)
    if final.exists() and not final.is_dir():
        raise ConfigError(
            f"cannot write the folder '{final}' - a file stands there - choose another name or remove it."
        )
    new, old = _side_names(final)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        needed_bytes = sync_tree(new)
    except BaseException as error:
        needed_bytes = sum(file.stat().st_size for file in new.rglob("*") if file.is_file())
        shutil.rmtree(new, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise DiskFull(_explain_full(final, needed_bytes, error)) from error
        raise
    if final.exists():
        final.rename(old)
        recover_folder(final)
    else:
        new.rename(final)
    _sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def check_apart(path: str | os.PathLike[str], sources: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse to write over a file that is read, before anything is lost.

    Args:
        path: what is to be written; absent is fine.
        sources: what is read; names that are no files are passed over.

    Raises:
        ConfigError: the file is one of the sources.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - names that the system refuses are no files
        return
    for source in sources:
        if os.path.isfile(source) and os.path.samefile(path, source):  # noqa: PTH113, PTH121
            raise ConfigError(
                f"cannot write to {os.fspath(path)!r} - it is read as well, and would be lost - choose another name."
            )


def check_folder(path: str | os.PathLike[str]) -> None:
    """Refuse to write into what is no folder, before anything is computed for it.

    Args:
        path: where files are to be written; absent is fine.

    Raises:
        ConfigError: a file lies there, or in the way.
    """
    folder = Path(path)
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise ConfigError(f"cannot write to {os.fspath(path)!r} - {str(nearest)!r} is a file - give a folder.")


def check_replaceable(path: str | os.PathLike[str], own: Iterable[str]) -> None:
    """Refuse a folder that holds anything but files of ours, before it is replaced.

    Args:
        path: what is to be written; absent or empty is fine.
        own: names of the files that such a folder has.

    Raises:
        ConfigError: something else lies there.
    """
    folder = Path(path)
    known = set(own)
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in known) if folder.is_dir() else []
    if foreign:
        raise ConfigError(
            f"cannot write the folder '{folder}' - it holds {foreign[0]!r}"
            f"{f' and {len(foreign) - 1} more' if len(foreign) > 1 else ''}, which would be lost - choose another name."
        )


def recover_folder(path: str | os.PathLike[str]) -> bool:
    """Finish a `replace_folder` that a crash cut between its two renames; do nothing otherwise.

    Readers call it before they open such a folder. It never touches a folder that is still being filled.

    Returns:
        Whether the folder had to be put in place.
    """
    final = Path(path)
    new, old = _side_names(final)
    # The old folder is moved aside only after the new one is whole; without it, `new` may be half written.
    if final.exists() or not old.exists():
        return False
    for candidate in (new, old):
        # Another process may finish the same move first.
        with suppress(FileNotFoundError):
            candidate.rename(final)
            _sync_folder(final.parent)
            return True
    return False


def remove_leftovers(folder: str | os.PathLike[str]) -> list[str]:
    """Remove the temporary files that killed writers left directly inside `folder`, and list their names.

    Call it only where nobody else writes at the moment, such as at the start of a resumed run.
    """
    leftovers = sorted(file for file in Path(folder).glob(f"{_PREFIX}*") if file.is_file())
    for file in leftovers:
        file.unlink(missing_ok=True)
    return [file.name for file in leftovers]


def _wrap_text(binary: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(binary, encoding="utf-8", errors=_NAME_ERRORS, newline="")


def _write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    with write_whole(path, size_bytes=len(content)) as stream:
        stream.write(content)


def _side_names(final: Path) -> tuple[Path, Path]:
    return final.with_name(f".{final.name}.new"), final.with_name(f".{final.name}.old")


def sync_tree(folder: Path) -> int:
    """Force everything below `folder` to the disk, and count its bytes."""
    total_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with (Path(parent) / name).open("rb") as stream:
                os.fsync(stream.fileno())
                total_bytes += os.fstat(stream.fileno()).st_size
        _sync_folder(Path(parent))
    return total_bytes


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows opens no folders; its renames are journaled.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain_full(final: Path, needed_bytes: int, error: OSError) -> str:
    free_bytes = shutil.disk_usage(final.parent).free
    return (
        f"cannot write '{final}' - it needs at least {needed_bytes:,} bytes, {free_bytes:,} are free there "
        f"({error.strerror}) - free some room or choose another folder; what stood there before is untouched."
    )


def _damaged(path: str | os.PathLike[str], expected: str, found: str) -> CheckpointError:
    return CheckpointError(f"'{path}' is damaged - expected {expected}, found {found} - use an older copy.")
