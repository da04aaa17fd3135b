"""Read bytes that are still arriving: through standard input, or in a file that another program writes.

A decoder takes them as a file that has no end yet and cannot be sought in; `read` waits.
"""

import os
import sys
import threading
import time
from io import BufferedIOBase, RawIOBase
from typing import Any

from tubelet.errors import NotAVideo
from tubelet.video.opening import DEMUXERS, open_file, sniff_demuxer

__all__ = ["ArrivingBytes", "follow_file", "read_standard_input"]

STANDARD_INPUT = "<standard input>"
_HEAD_BYTES = 1024
_PAUSE_S = 0.02


class ArrivingBytes:
    """Offer `read` and nothing else, and wait in it for bytes that are not there yet.

    Args:
        file: unbuffered, or with `read1`; closed with this unless it is standard input.
        name: what messages call it.
        closing: ends every wait.
        idle_s: how long to wait at the end of a file for more; None where the end is the end.
    """

    def __init__(
        self, file: BufferedIOBase | RawIOBase, name: str, closing: threading.Event, idle_s: float | None = None
    ) -> None:
        self.name = name
        self._file = file
        self._closing = closing
        self._idle_s = idle_s
        self._is_standard = name == STANDARD_INPUT
        self._head = b""

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes as soon as there are some; none at the end."""
        if self._head:
            head, self._head = self._head[:count], self._head[count:]
            return head
        since_s = time.monotonic()
        while not self._closing.is_set():
            data = self._file.read1(count) if isinstance(self._file, BufferedIOBase) else self._file.read(count)
            if data or self._idle_s is None or time.monotonic() - since_s > self._idle_s:
                return bytes(data or b"")
            self._closing.wait(_PAUSE_S)
        return b""

    def read_whole(self, count: int) -> bytes:
        """Return `count` bytes, fewer at the end."""
        data = bytearray()
        while len(data) < count and (piece := self.read(count - len(data))):
            data += piece
        return bytes(data)

    def sniff(self) -> str:
        """Name the format by the first bytes, which stay to be read.

        Raises:
            NotAVideo: they are of none that can be read while it comes.
        """
        head = self.read_whole(_HEAD_BYTES)
        self._head = head
        demuxer = sniff_demuxer(head)
        if demuxer not in DEMUXERS:
            self.close()
            raise NotAVideo(
                f"cannot stream {self.name!r} - its first bytes ({head[:8].hex(' ') or 'none came'}) are of no known "
                "video format - send mpegts, mkv or raw H.264, or state the size of bare frames (--raw)."
            )
        return demuxer

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if not self._is_standard:
            self._file.close()


def read_standard_input(closing: threading.Event) -> ArrivingBytes:
    """Take the bytes that are piped into this program.

    Raises:
        NotAVideo: a terminal, where nobody would type a video.
    """
    if sys.stdin.isatty():
        raise NotAVideo("cannot stream standard input - it is a terminal - pipe a video into this command.")
    # Below the buffer, whose lock a thread that waits in it would hold when the program ends.
    raw: Any = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    return ArrivingBytes(raw, STANDARD_INPUT, closing)


def follow_file(path: str, idle_s: float, closing: threading.Event) -> ArrivingBytes:
    """Open a regular file that another program may still be writing.

    Args:
        path: the file; it must exist.
        idle_s: seconds without a new byte after which it counts as finished.
        closing: ends every wait.

    Raises:
        VideoError: as `open_file`.
    """
    open_file(path).close()
    return ArrivingBytes(
        os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb", 0), path, closing, idle_s
    )
