"""Guard the gate: turn any source into bytes that a decoder may see.

FFmpeg guesses formats from names and contents, and some formats (playlists, session descriptions, numbered images) name
other files or hosts. So no string of the caller ever reaches it: the file is opened here, must be a regular file, is
recognized by its first bytes, and is handed on as a nameless object together with the one demuxer that may read it.

    path | part of a file | bytes  ->  regular file?  ->  size  ->  magic bytes  ->  ISO box check  ->  Media

Volumes (NIfTI, DICOM) pass the same gate; FFmpeg never sees them.
"""

import errno
import os
import stat
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from tubelet.errors import NotAVideo, SourceNotFound, TooLarge, Truncated, VideoError
from tubelet.video.iso import IsoLayout, read_layout

__all__ = [
    "DEMUXERS",
    "GZIP_MAGIC",
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "FileRange",
    "Media",
    "NamelessFile",
    "open_file",
    "open_media",
    "read_pieces",
    "sniff_demuxer",
]

MAX_FILE_BYTES = 64 << 30
MAX_PIXELS = 8192 * 4320
_HEAD_BYTES = 1024
_PIECE_BYTES = 1 << 20

DEMUXERS = (
    *("mov", "matroska", "avi", "gif", "apng", "flv", "asf", "mpegts", "mpeg", "mpegvideo", "m4v"),
    *("h264", "hevc", "ogg", "ivf", "yuv4mpegpipe", "dv", "mxf", "nut"),
)
"""Every demuxer that the gate can choose; the whitelist handed to FFmpeg."""

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class FileRange:
    """Name a file that lies within another one as it is, such as in a tar archive."""

    path: str
    """Of the file that holds it."""
    offset: int
    """Its first byte there."""
    size_bytes: int
    name: str
    """What messages call it."""


@runtime_checkable
class ByteStore(Protocol):
    """Read bytes at a position."""

    size_bytes: int
    identity: tuple[int, ...] | None
    """What tells a file, and its content, from others; None for bytes."""

    def read_at(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`."""

    def close(self) -> None:
        """Give the bytes back."""


class _FileStore:
    """Hold a file descriptor of our own, and show a part of the file."""

    def __init__(self, descriptor: int, identity: tuple[int, ...], start: int = 0) -> None:
        self.descriptor = descriptor
        self.identity: tuple[int, ...] | None = identity
        self.size_bytes = identity[2]
        self.start = start
        self.lock = threading.Lock()

    def read_at(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`."""
        count = max(0, min(count, self.size_bytes - offset))
        if hasattr(os, "pread"):
            return os.pread(self.descriptor, count, self.start + offset)
        # Windows has no such call, and one place for all who read.
        with self.lock:
            os.lseek(self.descriptor, self.start + offset, os.SEEK_SET)
            return os.read(self.descriptor, count)

    def close(self) -> None:
        """Close the descriptor; closing twice is harmless."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class _MemoryStore:
    """Hold bytes that the caller already has."""

    identity: tuple[int, ...] | None = None

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.view = memoryview(data).cast("B")
        self.size_bytes = len(self.view)

    def read_at(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`."""
        return bytes(self.view[offset : offset + count])

    def close(self) -> None:
        """Let the bytes go."""


class NamelessFile:
    """Offer `read`, `seek`, `tell` and nothing else: a decoder learns neither name nor folder nor descriptor.

    `bytes_read` counts what was really fetched, so that reading 16 frames of a long film can be seen to be cheap.
    """

    def __init__(self, store: ByteStore) -> None:
        self._store = store
        self._offset = 0
        self.bytes_read = 0
        self.size_bytes = store.size_bytes

    def read(self, count: int = -1) -> bytes:
        """Return up to `count` bytes from the current position."""
        if count < 0:
            count = self.size_bytes - self._offset
        data = self._store.read_at(self._offset, count)
        self._offset += len(data)
        self.bytes_read += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position as `io.IOBase.seek` does."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self.size_bytes}[whence]
        self._offset = max(0, start + offset)
        return self._offset

    def tell(self) -> int:
        """Return the position."""
        return self._offset

    def close(self) -> None:
        """Close what lies below."""
        self._store.close()


@dataclass(frozen=True, eq=False)
class Media:
    """Hold an opened source that passed the gate."""

    name: str
    """What messages call it: the path as given, or `<bytes>`."""
    file: NamelessFile
    demuxer: str
    layout: IsoLayout | None
    """The box structure of ISO files (mp4, mov); None for other formats."""
    identity: tuple[int, ...] | None = None
    """What tells a file, and its content, from others; None for bytes."""

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def open_media(
    source: str | os.PathLike[str] | FileRange | bytes | bytearray | memoryview, name: str | None = None
) -> Media:
    """Open a file or bytes through the gate.

    Args:
        source: a path of a regular file (symbolic links are followed), a part of one, or the bytes of one.
        name: what messages call it; None: its path, or `<bytes>`.

    Raises:
        VideoError: `not_found`, `not_a_video`, `truncated` (empty), `too_large`, `encrypted`, `corrupt`; never anything
            else, and always with the source's name.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return _inspect(name or "<bytes>", _MemoryStore(source))
    if isinstance(source, FileRange):
        return _inspect(name or source.name, open_file(source))
    path = os.fspath(source)
    return _inspect(name or path, open_file(path))


def open_file(source: str | FileRange) -> ByteStore:
    """Open a regular file, or a part of one, and nothing else, without waiting.

    For readers of formats that FFmpeg does not see.

    Raises:
        VideoError: `not_found`, `not_a_video` (a folder, pipe, socket or device; no permission), `too_large`,
            `truncated` (a file that ends before the part does).
    """
    if not isinstance(source, FileRange):
        return _open_whole(source)
    store = _open_whole(source.path)
    if not 0 <= source.offset <= source.offset + source.size_bytes <= store.size_bytes:
        store.close()
        raise Truncated(
            f"cannot read {source.name!r} - its bytes {source.offset} to {source.offset + source.size_bytes} lie "
            f"outside of a file of {store.size_bytes} - copy or download that again."
        )
    store.start, store.size_bytes = source.offset, source.size_bytes
    store.identity = (*(store.identity or ()), source.offset, source.size_bytes)
    return store


def read_pieces(source: str | FileRange) -> Iterator[bytes]:
    """Read a file, or a part of one, from its beginning to its end.

    Raises:
        VideoError: as `open_file`; `truncated` where it becomes shorter meanwhile.
    """
    store = open_file(source)
    try:
        for offset in range(0, store.size_bytes, _PIECE_BYTES):
            piece = store.read_at(offset, _PIECE_BYTES)
            if len(piece) < min(_PIECE_BYTES, store.size_bytes - offset):
                name = source.name if isinstance(source, FileRange) else source
                raise Truncated(f"cannot read {name!r} - it was shortened meanwhile - leave it as it is.")
            yield piece
    finally:
        store.close()


def _open_whole(name: str) -> _FileStore:
    # O_NONBLOCK: opening a pipe nobody writes to must not wait for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(name, flags)
    except (OSError, ValueError) as error:
        raise _explain_open_error(name, error) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
            raise NotAVideo(f"cannot open {name!r} as a video - found {kind} - give a regular file.")
        if status.st_size > MAX_FILE_BYTES:
            raise TooLarge(
                f"cannot open {name!r} - found {status.st_size} bytes, the limit is {MAX_FILE_BYTES} - cut it up."
            )
    except BaseException:
        os.close(descriptor)
        raise
    return _FileStore(descriptor, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def _explain_open_error(name: str, error: OSError | ValueError) -> VideoError:
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOENT, errno.ENOTDIR):
        return SourceNotFound(f"cannot open {name!r} - no such file - check the path (now in {Path.cwd().name!r}).")
    if code == errno.ENXIO:
        return NotAVideo(f"cannot open {name!r} as a video - found a socket or device - give a regular file.")
    reason = os.strerror(code) if code else str(error)
    return NotAVideo(f"cannot open {name!r} - the system says: {reason} - check the path and its permissions.")


def _inspect(name: str, store: ByteStore) -> Media:
    try:
        file = NamelessFile(store)
        if store.size_bytes == 0:
            raise Truncated(f"cannot read {name!r} - the file is empty - copy or download it again.")
        demuxer = sniff_demuxer(store.read_at(0, _HEAD_BYTES))
        if demuxer is None:
            head = store.read_at(0, 8).hex(" ")
            raise NotAVideo(
                f"cannot read {name!r} as a video - its first bytes ({head}) are of no known video format - "
                "convert it, for example to .mp4."
            )
        if demuxer == "gif":
            _check_gif(name, store.read_at(6, 4))
        layout = read_layout(store.read_at, store.size_bytes, name) if demuxer == "mov" else None
        return Media(name, file, demuxer, layout, store.identity)
    except BaseException:
        store.close()
        raise


def _check_gif(name: str, size: bytes) -> None:
    """Refuse a picture that FFmpeg's GIF reader would shrink to nothing and report as empty."""
    width, height = int.from_bytes(size[:2], "little"), int.from_bytes(size[2:], "little")
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"cannot read {name!r} - its picture is {width}x{height}, over {MAX_PIXELS} pixels - scale it down."
        )


_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"uuid")
_PREFIXES: tuple[tuple[bytes, str], ...] = (
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"FLV\x01", "flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"OggS", "ogg"),
    (b"DKIF", "ivf"),
    (b"YUV4MPEG2 ", "yuv4mpegpipe"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x00\x00\x01\xb3", "mpegvideo"),
    (b"\x00\x00\x01\xb0", "m4v"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "mxf"),
    (b"\x1f\x07\x00", "dv"),
    (b"nut/multimedia container\x00", "nut"),
)


def sniff_demuxer(head: bytes) -> str | None:
    """Name the one demuxer that may read a file which begins with `head`; or the format of a volume, `nifti`, `dicom`.

    Example:
        >>> sniff_demuxer(b"GIF89a" + bytes(20))
        'gif'
        >>> sniff_demuxer(b"#EXTM3U") is None
        True
    """
    for prefix, demuxer in _PREFIXES:
        if head.startswith(prefix):
            return demuxer
    if head[4:8] in _ISO_BOXES:
        return "mov"
    if head.startswith(b"RIFF") and head[8:12] in (b"AVI ", b"AVIX"):
        return "avi"
    if head.startswith(b"\x89PNG\r\n\x1a\n") and b"acTL" in head:
        return "apng"
    return _sniff_volume(head) or _sniff_stream(head)


def _sniff_volume(head: bytes) -> str | None:
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(GZIP_MAGIC):
        try:
            head = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, 348)
        except zlib.error:
            return None
    return "nifti" if head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0" else None


def _sniff_stream(head: bytes) -> str | None:
    """Recognize formats without a header: transport streams by their sync bytes, raw codecs by their first unit."""
    for start, step in ((0, 188), (4, 192)):
        if len(head) > start + 2 * step and all(head[start + k * step] == 0x47 for k in range(3)):
            return "mpegts"
    start = 4 if head.startswith(b"\x00\x00\x00\x01") else 3 if head.startswith(b"\x00\x00\x01") else 0
    if not start or len(head) <= start + 1:
        return None
    unit, following = head[start], head[start + 1]
    if unit in (0x67, 0x27, 0x47, 0x06) or (unit == 0x09 and following & 0x1F == 0x10):
        return "h264"
    if unit in (0x40, 0x42, 0x46, 0x4E) and following == 0x01:
        return "hevc"
    return None
