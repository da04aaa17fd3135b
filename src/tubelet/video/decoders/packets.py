"""List a stream's frames without decoding where the container allows it.

ISO file (mp4, mov)      FFmpeg's index + the file's composition offsets: nothing but the header is read
matroska, ts, flv, ...   one pass over the packets: the file is read once, nothing is decoded
avi, raw codecs, ps      packets carry no trustworthy presentation time: they are numbered, and decoded once where the
                         codec may show them in another order
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from tubelet.errors import TooLarge
from tubelet.video.frame_table import FrameTable, make_table
from tubelet.video.iso import MAX_SAMPLES
from tubelet.video.opening import Media

if TYPE_CHECKING:
    import av

__all__ = ["KEPT_BYTES", "PacketLog", "read_iso_table", "read_packets"]

_UNTIMED_DEMUXERS = frozenset(["avi", "h264", "hevc", "mpegvideo", "m4v", "mpeg", "dv"])
KEPT_BYTES = 32 << 20
"""Packets are kept in memory up to this many bytes."""


def read_iso_table(stream: "av.VideoStream", media: Media) -> FrameTable | None:
    """Join FFmpeg's index (edit lists applied, decode times) with the file's composition offsets, by file position.

    Returns:
        None where the two do not fit together and the packets must be asked instead.
    """
    if media.layout is None or media.layout.is_fragmented:
        return None
    track = media.layout.track(stream.id)
    entries = list(stream.index_entries)
    if track is None or not entries:
        return None
    stamps = np.array([entry.timestamp for entry in entries], np.int64)
    durations = np.diff(stamps)
    if b"ctts" in track.tables:
        positions = np.array([entry.pos for entry in entries], np.int64)
        offsets = _match_offsets(positions, track.sample_positions(), track.composition_offsets())
        if offsets is None:
            return None
        stamps = stamps + offsets + track.decode_shift
    if len(np.unique(stamps)) < len(stamps):
        return None
    return make_table(
        stamps,
        np.array([entry.is_keyframe for entry in entries]),
        np.array([entry.size > 0 and not entry.is_discard for entry in entries]),
        time_base_s=float(stream.time_base or 0),
        last_duration=int(np.median(durations)) if len(durations) else 0,
    )


def _match_offsets(
    positions: Int64[np.ndarray, " entry"],
    sample_positions: Int64[np.ndarray, " sample"],
    sample_offsets: Int64[np.ndarray, " sample2"],
) -> Int64[np.ndarray, " entry"] | None:
    count = min(len(sample_positions), len(sample_offsets))
    order = np.argsort(sample_positions[:count], kind="stable")
    known = sample_positions[:count][order]
    places = np.searchsorted(known, positions)
    if not count or places.max() >= count or (known[places] != positions).any():
        return None
    matched: Int64[np.ndarray, " entry"] = sample_offsets[order][places]
    return matched


@dataclass
class PacketLog:
    """Hold what one pass over the packets of a stream showed, in decode order."""

    time_base_s: float
    frame_s: float
    """Nominal seconds a frame, for streams that carry no times."""
    is_trusted: bool
    """The container states presentation times worth believing."""
    stamps: list[int | None] = field(default_factory=list)
    decode_stamps: list[int | None] = field(default_factory=list)
    is_key: list[bool] = field(default_factory=list)
    is_shown: list[bool] = field(default_factory=list)
    last_duration: int = 0
    smallest_bytes: int = 1 << 30
    """Size of the smallest packet: MPEG-4 writes a few bytes for "as before", of which no frame comes."""
    packets: "list[av.Packet[av.VideoStream]] | None" = field(default_factory=list)
    """The packets themselves while they are few: a clip is then read from its file once."""

    @property
    def is_timed(self) -> bool:
        """Say whether every packet has a presentation time of its own."""
        known = {stamp for stamp in self.stamps if stamp is not None}
        return self.is_trusted and len(known) == len(self.stamps)

    def make_table(self) -> FrameTable:
        """Build the table under the assumption that every packet shows one frame, in the order of its stamps."""
        if not self.is_timed:
            return self.make_numbered_table(np.flatnonzero(self.is_shown))
        stamps = np.array(self.stamps, np.int64)
        shown = np.array(self.is_shown, bool)
        if True in self.is_key:
            shown[: self.is_key.index(True)] = False
        return make_table(
            stamps, self.is_key, shown, time_base_s=self.time_base_s, last_duration=self.last_duration
        )  # fmt: skip

    def make_numbered_table(self, shown: Int64[np.ndarray, " frame"]) -> FrameTable:
        """Build the table of a stream without presentation times, given the packets in the order they are shown."""
        decode_stamps = self.decode_stamps
        if decode_stamps and None not in decode_stamps:
            ticks = np.sort(np.array(decode_stamps, np.int64)[shown])
            times = (ticks - (ticks[0] if len(ticks) else 0)).astype(np.float64) * self.time_base_s
        else:
            times = np.arange(len(shown), dtype=np.float64) * self.frame_s
        numbers = np.arange(len(self.stamps), dtype=np.int64)
        is_key = np.array(self.is_key, bool)
        return FrameTable(numbers, is_key, shown.astype(np.int64), times, self.frame_s, False)


def read_packets(container: "av.container.InputContainer", stream: "av.VideoStream", media: Media) -> PacketLog:
    """Pass over all packets of a stream without decoding any.

    Raises:
        TooLarge: more packets than any film has.
    """
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    log = PacketLog(
        time_base_s=float(stream.time_base or 0),
        frame_s=1.0 / float(rate) if rate and 0 < rate <= 1000 else 1 / 25,
        is_trusted=media.demuxer not in _UNTIMED_DEMUXERS,
    )
    kept_bytes = 0
    is_vp8 = stream.codec_context.codec.name in ("vp8", "libvpx")
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        log.stamps.append(packet.pts)
        log.decode_stamps.append(packet.dts)
        log.is_key.append(packet.is_keyframe)
        # VP8 keeps pictures that are never shown in packets of their own: bit 4 of the frame tag (RFC 6386, 9.1).
        log.is_shown.append(not packet.is_discard and not (is_vp8 and not memoryview(packet)[0] & 0x10))
        log.smallest_bytes = min(log.smallest_bytes, packet.size)
        log.last_duration = packet.duration or log.last_duration
        kept_bytes += packet.size
        if kept_bytes > KEPT_BYTES:
            log.packets = None
        elif log.packets is not None:
            log.packets.append(packet)
        if len(log.stamps) > MAX_SAMPLES:
            raise TooLarge(f"cannot read {media.name!r} - more than {MAX_SAMPLES} packets - cut it into parts.")
    return log
