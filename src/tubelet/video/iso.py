"""Read the boxes of ISO files (mp4, mov): limits before FFmpeg sees a byte, and composition offsets of every sample.

FFmpeg's public index holds decode times; players show frames at composition times. The offsets between the two lie in
the `ctts` table, which is read here, so that a two-hour film gives up 16 frames without being read whole.

    moov -- trak -- tkhd                    track id, rotation
               `--- mdia -- minf -- stbl -- stsd  codec, size, encryption
                                        |-- stts, ctts  decode time steps, composition offsets (samples in decode order)
                                        |-- stsz, stsc, stco | co64   sample sizes, samples a chunk, chunk positions
                                        `-- stss        key samples
Source: ISO/IEC 14496-12, sections 8.1-8.7.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from tubelet.errors import Corrupt, Encrypted, NotAVideo, TooLarge, VideoError

__all__ = ["IsoLayout", "IsoTrack", "read_layout"]

MAX_INDEX_BYTES = 64 << 20
MAX_SAMPLES = 4_000_000
MAX_BOXES = 100_000
MAX_DEPTH = 12
MAX_SIDE_PX = 16_384
MAX_EDITS = 1_000
"""Rows of an edit list; FFmpeg walks the whole index for each."""
_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"moof", b"traf", b"mvex"}
_TABLES = {b"stts": 8, b"ctts": 8, b"stss": 4, b"stsc": 12, b"stco": 4, b"co64": 8}

ReadAt = Callable[[int, int], bytes]


@dataclass(eq=False)
class IsoTrack:
    """Hold what one `trak` box says."""

    track_id: int = 0
    matrix: tuple[int, ...] = (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    """The display matrix: 16.16 fixed point, row by row."""
    handler: bytes = b""
    """What the track holds: `vide`, `soun`, ..."""
    tables: dict[bytes, bytes] = field(default_factory=dict)
    """The raw entries of ctts, stsz, stsc, stco, co64."""
    num_samples: int = 0

    def sample_positions(self) -> Int64[np.ndarray, " sample"]:
        """Compute where each sample begins in the file, in decode order."""
        sizes = self._sizes()
        chunks = self._chunk_offsets()
        runs = np.frombuffer(self.tables.get(b"stsc", b""), ">u4").reshape(-1, 3).astype(np.int64)
        if not len(runs) or not len(chunks) or not len(sizes):
            return np.zeros(0, np.int64)
        bounds = np.minimum(np.append(runs[:, 0], len(chunks) + 1) - 1, len(chunks))
        per_chunk = np.repeat(runs[:, 1], np.diff(bounds))
        last = int(np.searchsorted(np.cumsum(per_chunk), len(sizes)))
        per_chunk = per_chunk[: last + 1]
        chunk_of = np.repeat(np.arange(len(per_chunk)), per_chunk)[: len(sizes)]
        sizes = sizes[: len(chunk_of)]
        before = np.cumsum(sizes) - sizes
        firsts = np.concatenate([[0], np.cumsum(per_chunk)[:-1]])
        origin = before[np.minimum(firsts, len(sizes) - 1)]
        positions: Int64[np.ndarray, " sample"] = chunks[chunk_of] + before - origin[chunk_of]
        return positions

    def composition_offsets(self) -> Int64[np.ndarray, " sample"]:
        """Expand `ctts`: composition time minus decode time of each sample, in units of the track's time scale."""
        raw = self.tables.get(b"ctts", b"")
        # Version 0 says unsigned, yet many writers put negative offsets there, and players read them so.
        entries = np.frombuffer(raw[: len(raw) // 8 * 8], ">u4").reshape(-1, 2)
        offsets = entries[:, 1].astype(np.uint32).view(np.int32).astype(np.int64)
        expanded = np.repeat(offsets, entries[:, 0].astype(np.int64))
        if len(expanded) < self.num_samples:
            expanded = np.concatenate([expanded, np.zeros(self.num_samples - len(expanded), np.int64)])
        return expanded[: self.num_samples]

    @property
    def decode_shift(self) -> int:
        """How far FFmpeg moves decode times back so that no frame is shown before it is decoded."""
        raw = self.tables.get(b"ctts", b"")
        entries = np.frombuffer(raw[: len(raw) // 8 * 8], ">u4").reshape(-1, 2)
        offsets = entries[:, 1].astype(np.uint32).view(np.int32)
        # FFmpeg leaves the last two entries out of its search (libavformat/mov.c, mov_read_ctts).
        return max(0, -int(offsets[:-2].min(initial=0)))

    def _sizes(self) -> Int64[np.ndarray, " sample"]:
        raw = self.tables.get(b"stsz", b"")
        if len(raw) < 8:
            return np.zeros(0, np.int64)
        uniform = int.from_bytes(raw[:4], "big")
        if uniform:
            return np.full(self.num_samples, uniform, np.int64)
        return np.frombuffer(raw[8 : 8 + 4 * self.num_samples], ">u4").astype(np.int64)

    def _chunk_offsets(self) -> Int64[np.ndarray, " chunk"]:
        if b"co64" in self.tables:
            return np.frombuffer(self.tables[b"co64"], ">u8").astype(np.int64)
        return np.frombuffer(self.tables.get(b"stco", b""), ">u4").astype(np.int64)


@dataclass(frozen=True, eq=False)
class IsoLayout:
    """Hold the tracks of an ISO file."""

    tracks: tuple[IsoTrack, ...]
    is_fragmented: bool
    """Samples are listed in `moof` boxes throughout the file, not in `moov`."""
    media_end: int
    """Where the last box should end; beyond the file's size means that the end is missing."""

    def track(self, track_id: int) -> IsoTrack | None:
        """Return the track with this id."""
        return next((track for track in self.tracks if track.track_id == track_id), None)


@dataclass(frozen=True)
class _Box:
    kind: bytes
    start: int
    """Where the payload begins."""
    end: int


class _Walk:
    """Walk boxes once, counting, so that no file can make the walk long or deep."""

    def __init__(self, read_at: ReadAt, size_bytes: int, name: str) -> None:
        self.read_at = read_at
        self.size_bytes = size_bytes
        self.name = name
        self.count = 0
        self.samples = 0
        self.tracks: list[IsoTrack] = []

    def fail(self, kind: type[VideoError], found: str, advice: str = "copy or convert the file again") -> VideoError:
        return kind(f"cannot read {self.name!r} - {found} - {advice}.")

    def boxes(self, start: int, end: int) -> Iterator[_Box]:
        while start + 8 <= end:
            self.count += 1
            if self.count > MAX_BOXES:
                raise self.fail(TooLarge, f"more than {MAX_BOXES} boxes")
            header = self.read_at(start, 16)
            size = int.from_bytes(header[:4], "big")
            payload = start + 8
            if size == 1:
                size, payload = int.from_bytes(header[8:16], "big"), start + 16
            stop = end if size == 0 else start + size
            if stop < payload:
                raise self.fail(Corrupt, f"the box at byte {start} says it is {size} bytes long")
            yield _Box(header[4:8], payload, stop)
            start = stop

    def descend(self, box: _Box, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self.fail(Corrupt, f"boxes nested more than {MAX_DEPTH} deep")
        if box.kind == b"trak":
            self.tracks.append(IsoTrack())
        for child in self.boxes(box.start, min(box.end, self.size_bytes)):
            if child.end > box.end and child.kind != b"mdat":
                raise self.fail(Corrupt, f"box {_spell(child.kind)} is longer than its parent")
            if child.kind in _CONTAINERS:
                self.descend(child, depth + 1)
            else:
                self.inspect(child)

    def inspect(self, box: _Box) -> None:
        if box.kind == b"cmov":
            raise self.fail(NotAVideo, "its index is compressed (cmov)", "rewrite it with a current tool")
        if box.kind == b"trun":
            self.add_samples(int.from_bytes(self.read_at(box.start + 4, 4), "big"))
        elif self.tracks:
            self.inspect_track(box, self.tracks[-1])

    def inspect_track(self, box: _Box, track: IsoTrack) -> None:
        if box.kind == b"hdlr" and not track.handler:
            track.handler = self.read_at(box.start + 8, 4)
        elif box.kind == b"elst" and int.from_bytes(self.read_at(box.start + 4, 4), "big") > MAX_EDITS:
            raise self.fail(TooLarge, f"an edit list of more than {MAX_EDITS} rows")
        elif box.kind == b"stsd" and track.handler == b"vide":
            self.check_descriptions(box)
        elif box.kind in _TABLES:
            self.read_table(box, _TABLES[box.kind])
        elif box.kind in _READERS:
            _READERS[box.kind](self, box)

    def add_samples(self, count: int) -> None:
        self.samples += count
        if self.samples > MAX_SAMPLES:
            raise self.fail(TooLarge, f"{self.samples} samples, the limit is {MAX_SAMPLES}", "cut it into parts")

    def read_header(self, box: _Box) -> None:
        data = self.read_at(box.start, 104)
        is_wide = data[:1] == b"\x01"
        id_at, matrix_at = (20, 52) if is_wide else (12, 40)
        if len(data) >= matrix_at + 36:
            track = self.tracks[-1]
            track.track_id = int.from_bytes(data[id_at : id_at + 4], "big")
            track.matrix = tuple(int(v) for v in np.frombuffer(data[matrix_at : matrix_at + 36], ">i4"))

    def check_descriptions(self, box: _Box) -> None:
        for entry in self.boxes(box.start + 8, box.end):
            if entry.kind in (b"encv", b"drmi"):
                raise self.fail(Encrypted, "its picture is encrypted", "use a copy without protection")
            size = self.read_at(entry.start + 24, 4)
            if max(int.from_bytes(size[:2], "big"), int.from_bytes(size[2:], "big")) > MAX_SIDE_PX:
                raise self.fail(TooLarge, f"a picture side above {MAX_SIDE_PX} px", "scale it down")

    def check_references(self, box: _Box) -> None:
        for entry in self.boxes(box.start + 8, box.end):
            is_inside = self.read_at(entry.start + 3, 1) == b"\x01"
            if not is_inside and entry.end - entry.start > 4:
                raise self.fail(NotAVideo, "it keeps its pictures in another file", "give a self-contained copy")

    def read_sizes(self, box: _Box) -> None:
        data = self.read_at(box.start + 4, min(box.end - box.start - 4, MAX_INDEX_BYTES))
        track = self.tracks[-1]
        track.num_samples = int.from_bytes(data[4:8], "big")
        self.add_samples(track.num_samples)
        is_uniform = data[:4] != b"\0\0\0\0"
        if not is_uniform and len(data) < 8 + 4 * track.num_samples:
            raise self.fail(Corrupt, f"its size table names {track.num_samples} samples and is {len(data)} bytes long")
        track.tables[b"stsz"] = data

    def read_table(self, box: _Box, entry_bytes: int) -> None:
        count = int.from_bytes(self.read_at(box.start + 4, 4), "big")
        length = count * entry_bytes
        if length > box.end - box.start - 8:
            raise self.fail(Corrupt, f"table {_spell(box.kind)} names {count} entries in {box.end - box.start} bytes")
        data = self.read_at(box.start + 8, length)
        if box.kind in (b"stts", b"ctts"):
            # Summed here, expanded later: four bytes may claim four billion samples.
            total = int(np.frombuffer(data, ">u4")[::2].astype(np.int64).sum())
            if total > MAX_SAMPLES:
                raise self.fail(TooLarge, f"{total} samples in {_spell(box.kind)}, the limit is {MAX_SAMPLES}")
        elif box.kind == b"stsc":
            self.check_chunk_runs(data)
        self.tracks[-1].tables[box.kind] = data

    def check_chunk_runs(self, data: bytes) -> None:
        runs = np.frombuffer(data, ">u4").reshape(-1, 3).astype(np.int64)
        if len(runs) and (runs[:, 1].max() > MAX_SAMPLES or (np.diff(runs[:, 0]) <= 0).any() or runs[0, 0] < 1):
            raise self.fail(Corrupt, "its chunk table is out of order")


_READERS = {b"tkhd": _Walk.read_header, b"dref": _Walk.check_references, b"stsz": _Walk.read_sizes}


def _spell(kind: bytes) -> str:
    return repr(kind.decode("latin-1"))


def read_layout(read_at: ReadAt, size_bytes: int, name: str) -> IsoLayout:
    """Read and check the boxes of an ISO file.

    Args:
        read_at: returns up to (offset, count) bytes of the file.
        size_bytes: the file's real size.
        name: what messages call the file.

    Raises:
        VideoError: `corrupt`, `too_large`, `encrypted`, `not_a_video`, with the reason.

    Cost: under a millisecond for a thousand boxes; nothing of `mdat` is read.
    """
    walk = _Walk(read_at, size_bytes, name)
    media_end = 0
    is_fragmented = False
    for box in walk.boxes(0, size_bytes):
        media_end = max(media_end, box.end)
        if box.kind in (b"moov", b"moof"):
            is_fragmented |= box.kind == b"moof"
            if box.end - box.start > MAX_INDEX_BYTES:
                raise walk.fail(TooLarge, f"an index of {box.end - box.start} bytes, the limit is {MAX_INDEX_BYTES}")
            walk.descend(box, 1)
        elif box.kind == b"cmov":
            walk.inspect(box)
    return IsoLayout(tuple(walk.tracks), is_fragmented, media_end)
