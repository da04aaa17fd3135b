"""Remember the frame tables that took a pass over a whole file for the next time it is opened.

An untrimmed film in Matroska is opened once for every labelled part, in every epoch: without this each opening would
read all of it. Headers that are read at once (mp4, mov) are not worth remembering: they take 0.3 ms (docs/log.md).
"""

import threading
from collections import OrderedDict

from tubelet.video.frame_table import FrameTable

__all__ = ["FileIdentity", "TableMemory"]

FileIdentity = tuple[int, ...]
"""Device, number, size and time of change of a file: another content is another identity."""


class TableMemory:
    """Keep the tables asked for last, up to a number of bytes; one for each process.

    Args:
        capacity_bytes: room for all tables; an hour at 30 frames a second takes 3 MB.
    """

    def __init__(self, capacity_bytes: int = 64_000_000) -> None:
        self._capacity = capacity_bytes
        self._held_bytes = 0
        self._tables: OrderedDict[tuple[int, ...], FrameTable] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, file: FileIdentity | None, stream: int) -> FrameTable | None:
        """Return the table of a stream, if it is remembered."""
        if file is None:
            return None
        with self._lock:
            table = self._tables.get((*file, stream))
            if table is not None:
                self._tables.move_to_end((*file, stream))
            return table

    def keep(self, file: FileIdentity | None, stream: int, table: FrameTable) -> None:
        """Remember a table; the ones not asked for the longest are forgotten when there is no room."""
        if file is None or table.nbytes > self._capacity:
            return
        with self._lock:
            if (*file, stream) not in self._tables:
                self._tables[(*file, stream)] = table
                self._held_bytes += table.nbytes
            while self._held_bytes > self._capacity:
                self._held_bytes -= self._tables.popitem(last=False)[1].nbytes
