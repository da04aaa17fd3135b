"""Keep decoded clips for the next epoch, in memory that all workers share: bounded, and never more than a shortcut.

    one file, mapped into every process      | entries, one a sample | room of worker 0 | room of worker 1 | ...

The file lies in memory (it has no name on any disk) or in a folder of the user's. A clip that a worker decodes goes
into its own room, so nothing needs a lock, and from there serves every worker: in a later epoch, because within one
each clip is read once. When a room is full, further clips are decoded anew each time: throwing one out for the other
would gain nothing where all are asked for in turn.
"""

import mmap
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from tubelet.errors import ConfigError
from tubelet.video.clip import Pixels, VideoInfo

__all__ = ["ClipCache"]

_SHAPE = ("num_frames", "height", "width", "channels")
_ENTRY = np.dtype(
    [
        *[(name, np.int64) for name in ("offset", *_SHAPE, "rotation")],
        *[(name, np.float64) for name in ("fps", "duration_s")],
        ("codec", "S32"),
    ]
)
"""What is known of a clip; offset 0, where the entries themselves lie, means that it is not kept."""


class ClipCache:
    """Keep pixels of clips by their index.

    Args:
        clips: number of samples there are.
        capacity_bytes: room for pixels, over all writers.
        writers: processes that may keep clips; each has an equal share of the room.
        folder: where the file goes, which disappears with the process; nothing keeps it in memory.

    Raises:
        ConfigError: the folder has no room for it, or cannot be written.

    Cost: memory or disk is taken as clips are kept in memory, all at once in a folder.
    """

    def __init__(self, clips: int, capacity_bytes: int, *, writers: int = 1, folder: str = "") -> None:
        self._clips = clips
        self._share = capacity_bytes // writers
        self._next = 0
        entries_bytes = max(clips * _ENTRY.itemsize, 1)
        self._first = -(-entries_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._size = self._first + self._share * writers
        descriptor, self._path = _open_unnamed(folder, self._size)
        weakref.finalize(self, _release, descriptor, self._path, os.getpid())
        self._map(descriptor)

    def find(self, index: int) -> tuple[VideoInfo, Pixels] | None:
        """Show a clip that is kept, as (info, pixels); the pixels are read-only and not copied."""
        entry = self._entries[index]
        offset = int(entry["offset"])
        if not offset:
            return None
        num_frames, height, width, channels = shape = tuple(int(entry[name]) for name in _SHAPE)
        info = VideoInfo(
            num_frames=num_frames,
            height=height,
            width=width,
            fps=float(entry["fps"]),
            duration_s=float(entry["duration_s"]),
            codec=entry["codec"].decode("ascii", "replace"),
            rotation=int(entry["rotation"]),
            channels=channels,
        )
        view = self._bytes[offset : offset + int(np.prod(shape))].reshape(shape)
        view.flags.writeable = False
        return info, view

    def has_room(self, size_bytes: int) -> bool:
        """Say whether this process may keep a clip of that many bytes."""
        return self._next + size_bytes <= self._share

    def keep(self, index: int, info: VideoInfo, pixels: Pixels, writer: int = 0) -> None:
        """Keep the pixels of a clip, for which there must be room; `info` describes them.

        Raises:
            ValueError: there is no room.
        """
        if not self.has_room(pixels.nbytes):
            raise ValueError(f"no room for {pixels.nbytes} bytes")
        offset = self._first + writer * self._share + self._next
        self._bytes[offset : offset + pixels.nbytes] = pixels.reshape(-1)
        self._next += pixels.nbytes
        entry = self._entries[index]
        for name, length in zip(_SHAPE, pixels.shape, strict=True):
            entry[name] = length
        entry["rotation"], entry["fps"], entry["duration_s"] = info.rotation, info.fps, info.duration_s
        entry["codec"] = info.codec.encode("ascii", "replace")
        entry["offset"] = offset  # last: from here on the clip can be found

    def _map(self, descriptor: int) -> None:
        mapped = mmap.mmap(descriptor, self._size)
        self._bytes: UInt8[np.ndarray, " byte"] = np.frombuffer(mapped, np.uint8)
        self._entries = np.frombuffer(mapped, _ENTRY, count=self._clips)

    def __getstate__(self) -> dict[str, Any]:
        """Hand over where the file is: for processes that do not inherit it."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_bytes", "_entries")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with Path(self._path).open("r+b") as file:
            self._map(file.fileno())  # which stays mapped when the file is closed


_IS_LINUX = hasattr(os, "memfd_create")


def _open_unnamed(folder: str, size: int) -> tuple[int, str]:
    """Open a file of that size that is gone when nobody uses it any more; return (descriptor, path to open it by).

    Memory comes from a file without a place on any disk: /dev/shm is too small for anything in most containers. On a
    disk the space is taken at once, because a process whose mapped file meets a full disk is killed.
    """
    try:
        if _IS_LINUX and not folder:
            descriptor = os.memfd_create("tubelet-clips")
            os.truncate(descriptor, size)
            return descriptor, f"/proc/{os.getpid()}/fd/{descriptor}"
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
        descriptor, path = tempfile.mkstemp(dir=folder or None, prefix="tubelet-clips-")
        try:
            if _IS_LINUX:
                # So that even a killed process leaves nothing behind.
                os.unlink(path)  # noqa: PTH108 - beside the other calls on descriptors
                path = f"/proc/{os.getpid()}/fd/{descriptor}"
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.truncate(descriptor, size)
        except OSError:
            _release(descriptor, path, os.getpid())
            raise
    except OSError as error:
        raise ConfigError(
            f"cannot keep {size / 1e6:.0f} MB of decoded clips in '{folder or 'memory'}' - {error.strerror} - "
            "lower data.cache_mb, or name another data.cache_folder."
        ) from None
    return descriptor, path


def _release(descriptor: int, path: str, owner: int) -> None:
    """Close the file, and remove it where it has a name; copies in worker processes leave it alone."""
    if os.getpid() == owner:
        os.close(descriptor)
        if not _IS_LINUX:
            Path(path).unlink(missing_ok=True)
