"""Read exact frames with PyAV (FFmpeg inside): a table of frames first, then only what leads to the wanted ones.

    wanted frames -> packets -> grouped by the key packet before them -> seek, decode, drain -> RGB

Between a key packet and a wanted frame most frames serve nobody: the decoder is told to leave out those that no other
frame leans on (`skip_frame = NONREF`), packet by packet, which halves the work on B-frame video and costs no exactness.
"""

from collections.abc import Iterator

import av
import numpy as np
from av.stream import Discard
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from tubelet.errors import (
    Corrupt,
    NoVideoStream,
    TooLarge,
    Truncated,
    UnsupportedCodec,
)
from tubelet.shapes import Size
from tubelet.video.clip import Pixels, VideoInfo
from tubelet.video.decoders.failures import TIMEOUT_S, Budget, explain, explain_missing
from tubelet.video.decoders.packets import KEPT_BYTES, PacketLog, read_iso_table, read_packets
from tubelet.video.decoders.table_memory import TableMemory
from tubelet.video.frame_table import FrameTable
from tubelet.video.opening import DEMUXERS, MAX_PIXELS, Media
from tubelet.video.orientation import Orientation

__all__ = ["CODECS", "PyavReader"]

MAX_STREAMS = 16
_SKIPPING_CODECS = frozenset(["mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4"])
_SKIP_BYTES = 16
"""Packets up to this size may say that nothing changed, and show no frame."""
_UNSTATED_DEMUXERS = frozenset(["matroska", "mpegts", "h264", "hevc", "mpegvideo", "m4v", "mpeg"])
"""Formats whose first frame must be decoded to know its turn (matroska) or its size, which may change later."""
MAX_ANIMATION_PIXELS = 4_000_000_000
"""Pixels over all frames of an animation that lean on one another: kilobytes may stand for hours of decoding."""
_ANIMATION_CODECS = frozenset(["gif", "apng"])
"""Codecs whose every picture may lean on all before it, whatever the container calls a key frame."""
_DELTA_CODECS = frozenset(["png", "qtrle"])
"""Codecs that store next to nothing for a picture without change; after a key frame they begin anew."""
CODECS = frozenset(
    [
        "h264",
        "hevc",
        "av1",
        "libdav1d",
        "libaom-av1",
        "vp8",
        "vp9",
        "libvpx",
        "libvpx-vp9",
        "mpeg1video",
        "mpeg2video",
        "mpeg4",
        "msmpeg4v1",
        "msmpeg4v2",
        "msmpeg4",
        "mjpeg",
        "gif",
        "apng",
        "png",
        "h263",
        "flv",
        "wmv1",
        "wmv2",
        "wmv3",
        "vc1",
        "theora",
        "prores",
        "dnxhd",
        "rawvideo",
        "ffv1",
        "dvvideo",
        "huffyuv",
        "ffvhuff",
        "qtrle",
        "vp6",
        "vp6f",
        "svq1",
        "svq3",
        "cinepak",
        "msvideo1",
        "utvideo",
        "rv30",
        "rv40",
        "vvc",
    ]
)
"""What may be decoded: the codecs that real collections hold."""


_TABLES = TableMemory()


class PyavReader:
    """Decode one picture stream of an opened source.

    Args:
        media: what the gate let through; stays the caller's to close.
        stream: index of the stream, or None for the best one.
        threads: decoder threads; 1 is exact, fast on short reads, and safe beside PyTorch's workers.

    Raises:
        VideoError: where the source cannot be decoded, with its name.
    """

    def __init__(self, media: Media, stream: int | None = None, threads: int = 1) -> None:
        self._media = media
        self._threads = threads
        self._reformatter = VideoReformatter()
        self._packets: list[av.Packet[av.VideoStream]] | None = None
        self._budget = Budget(media, 0, threads)
        with explain(media, "open"):
            self._open(stream)
            self._table = self._read_table()
            self.info = self._make_info()

    @property
    def table(self) -> FrameTable:
        """The frames of the stream."""
        return self._table

    @property
    def stream_index(self) -> int:
        """The chosen stream's index in the file."""
        return int(self._stream.index)

    @property
    def leans_on_open_groups(self) -> bool:
        """Some frame is decoded after a key packet but shown before it."""
        return self._table.has_open_groups

    def times_s(self, indices: list[int]) -> list[float]:
        """Return when the frames are shown, in seconds from the first."""
        return [float(self._table.times_s[index]) for index in indices]

    def frames_at(self, indices: list[int]) -> Pixels:
        """Decode distinct ascending frames; uint8 (time, height, width, 3)."""
        pixels = np.empty((len(indices), self.info.height, self.info.width, 3), np.uint8)
        for place, picture in self.iterate(indices):
            pixels[place] = picture
        return pixels

    def iterate(self, indices: list[int]) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        """Decode distinct ascending frames one after another; yield each with its place in `indices`."""
        self._budget = Budget(self._media, len(indices), self._threads)
        places = {int(self._table.ids[self._table.shown[index]]): place for place, index in enumerate(indices)}
        groups: dict[int, list[int]] = {}
        for packet in sorted(int(self._table.shown[index]) for index in indices):
            groups.setdefault(self._table.start_before(packet), []).append(packet)
        with explain(self._media, "decode"):
            for start, wanted in groups.items():
                for frame in self._decode_group(start, wanted):
                    place = places.pop(frame.pts, None) if frame.pts is not None else None
                    if place is not None:
                        picture = self._convert(frame)
                        with self._budget.paused():
                            yield place, picture
        if places:
            missing = sorted(indices[place] for place in places.values())
            raise explain_missing(self._media, missing, self.info.num_frames)

    def close(self) -> None:
        """Close the container; the file stays the caller's."""
        self._packets = None
        self._container.close()

    def _open(self, stream: int | None) -> None:
        self._media.file.seek(0)
        self._container: av.container.InputContainer = av.open(
            self._media.file,
            mode="r",
            format=self._media.demuxer,
            options={
                "protocol_whitelist": "none",
                "format_whitelist": ",".join(DEMUXERS),
                "max_streams": str(MAX_STREAMS),
                "probesize": "5000000",
                "max_pixels": str(MAX_PIXELS),
            },
            timeout=(TIMEOUT_S, TIMEOUT_S),
            metadata_errors="replace",
        )
        self._stream = self._choose_stream(stream)
        for other in self._container.streams:
            other.discard = Discard.default if other.index == self._stream.index else Discard.all
        context = self._stream.codec_context
        context.thread_count = self._threads
        context.thread_type = "SLICE" if self._threads == 1 else "AUTO"

    def _choose_stream(self, wanted: int | None) -> "av.VideoStream":
        streams = self._container.streams
        best = streams.best("video") if wanted is None else None
        index = best.index if best is not None else wanted
        chosen = next((s for s in streams.video if s.index == index), None)
        if chosen is None:
            what = "no picture stream" if wanted is None else f"no picture stream number {wanted}"
            kinds = ", ".join(f"{s.index} {s.type}" for s in streams) or "none"
            raise NoVideoStream(
                f"cannot read {self._media.name!r} - {what} among its streams ({kinds}) - give a video."
            )
        context = chosen.codec_context
        if context is None or context.codec.name not in CODECS:
            name = context.codec.name if context is not None else "unknown"
            raise UnsupportedCodec(
                f"cannot decode {self._media.name!r} - its picture codec is {name} - convert it, for example to H.264."
            )
        if not 0 < context.width * context.height <= MAX_PIXELS:
            raise (TooLarge if context.width else Corrupt)(
                f"cannot decode {self._media.name!r} - its picture is {context.width}x{context.height}, the limit is"
                f" {MAX_PIXELS} pixels - scale it down or copy it again."
            )
        return chosen

    def _read_table(self) -> FrameTable:
        known = _TABLES.find(self._media.identity, self.stream_index)
        if known is not None and self._media.file.size_bytes > KEPT_BYTES:
            return known
        table = read_iso_table(self._stream, self._media)
        log = None
        if table is None:
            log = read_packets(self._container, self._stream, self._media)
            table = log.make_table()
            self._packets = log.packets
            if self._packets is None:
                self._rewind()
        self._check_animation(table)
        if self._is_doubtful(table, log):
            # Never remembered: decoding from the beginning also tells the decoder what later packets do not repeat,
            # such as that two frames share a packet.
            table = self._scan(table, log)
        elif log is not None and log.packets is None:
            _TABLES.keep(self._media.identity, self.stream_index, table)
        if table.num_frames == 0:
            raise Truncated(f"cannot decode {self._media.name!r} - it holds no frame - copy or download it again.")
        return table

    def _check_animation(self, table: FrameTable) -> None:
        """Refuse an animation, in any container, of which one late frame costs the decoding of all before it."""
        context = self._stream.codec_context
        count = 0
        if context.codec.name in _ANIMATION_CODECS:
            count = len(table.ids)
        elif context.codec.name in _DELTA_CODECS:
            starts = np.flatnonzero(table.is_key)
            count = int(np.diff(starts, prepend=0, append=len(table.ids)).max())
        area = context.width * context.height
        if count * area > MAX_ANIMATION_PIXELS:
            raise TooLarge(
                f"cannot decode {self._media.name!r} - {count} frames of {area} pixels, which lean on one "
                f"another, are over {MAX_ANIMATION_PIXELS} - convert it to .mp4."
            )

    def _is_doubtful(self, table: FrameTable, log: PacketLog | None) -> bool:
        """Say whether only decoding can tell which packets are shown, or in which order.

        So it is for numbered packets of a codec that reorders, and for a stream that begins with pictures which lean
        on a group that was cut away.
        """
        context = self._stream.codec_context
        if log is not None and context.codec.name in _SKIPPING_CODECS and log.smallest_bytes <= _SKIP_BYTES:
            return True
        if not table.is_timed:
            return bool(context.has_b_frames)
        if not table.num_frames or not table.is_key.any():
            return False
        first_key = int(np.flatnonzero(table.is_key)[0])
        return bool(table.ids[table.shown[0]] < table.ids[first_key])

    def _scan(self, table: FrameTable, log: PacketLog | None) -> FrameTable:
        """Decode the stream once, converting nothing, to learn what is shown and when."""
        self._table = table
        outcome: list[int] = []
        numbers = range(len(table.ids))
        for frame in self._decode_group(0, list(numbers)):
            packet = table.packet_of(frame.pts) if frame.pts is not None else -1
            if packet >= 0:
                outcome.append(packet)
        shown = np.array(outcome, np.int64)
        if log is not None and not table.is_timed:
            return log.make_numbered_table(shown)
        return table.keep(shown)

    def _make_info(self) -> VideoInfo:
        codec = self._stream.codec_context.codec.name
        self._orientation, self._stored_size = self._read_geometry()
        height, width = self._orientation.apply_size(*self._stored_size)
        return VideoInfo(
            num_frames=self._table.num_frames,
            height=height,
            width=width,
            fps=self._table.fps or float(self._stream.average_rate or 0),
            duration_s=self._table.duration_s,
            codec=_CODEC_NAMES.get(codec, codec),
            rotation=self._orientation.rotation,
        )

    def _read_geometry(self) -> tuple[Orientation, Size]:
        """Return how the stored picture is turned, and its size before that."""
        context = self._stream.codec_context
        layout = self._media.layout
        track = layout.track(self._stream.id) if layout else None
        stated = Size(context.height, context.width)
        if track is not None:
            return Orientation.from_matrix(track.matrix), stated
        if self._media.demuxer not in _UNSTATED_DEMUXERS:
            return Orientation(), stated
        for _, packet in self._packets_from(max(int(np.argmax(self._table.is_key)), 0)):
            for frame in context.decode(packet):
                context.flush_buffers()
                return Orientation.from_frame(frame), Size(frame.height, frame.width)
        context.flush_buffers()
        return Orientation(), stated

    def _decode_group(self, start: int, wanted: list[int]) -> Iterator["av.VideoFrame"]:
        """Decode from key packet `start` to the last wanted packet, then drain what the decoder still holds."""
        context = self._stream.codec_context
        remaining = set(wanted)
        last = wanted[-1]
        can_skip = self._threads == 1
        is_skipping = False
        try:
            for number, packet in self._packets_from(start):
                if not self._table.is_timed:
                    packet.pts = number
                if can_skip and is_skipping == (number in remaining):
                    is_skipping = not is_skipping
                    context.skip_frame = "NONREF" if is_skipping else "DEFAULT"
                yield from context.decode(packet)
                if number >= last:
                    break
            context.skip_frame = "DEFAULT"
            yield from context.decode(None)
        finally:
            # Whatever ends a read, the next one begins with a decoder that holds nothing and leaves out nothing.
            context.skip_frame = "DEFAULT"
            context.flush_buffers()

    def _packets_from(self, start: int) -> Iterator[tuple[int, "av.Packet[av.VideoStream]"]]:
        """Yield (number, packet) from packet `start` on; the decoder may have to begin there."""
        if self._packets is not None:
            for number, packet in enumerate(self._packets[start:], start):
                self._budget.check()
                yield number, packet
            return
        number = self._seek(start) if self._table.is_timed else self._rewind()
        for packet in self._container.demux(self._stream):
            self._budget.check()
            if packet.size == 0:
                continue
            if self._table.is_timed:
                number = self._table.packet_of(packet.pts if packet.pts is not None else packet.dts or 0)
            if number >= start:
                yield number, packet
            number += 1

    def _seek(self, start: int) -> int:
        """Place the container at or before packet `start` of a stream whose packets carry times."""
        if start == 0 and self._media.demuxer != "mov":
            return self._rewind()
        try:
            self._container.seek(int(self._table.ids[start]), stream=self._stream, backward=True)
        except av.error.FFmpegError:
            return self._rewind()
        if self._media.demuxer != "mov" and not self._lands_before(start):
            return self._rewind()
        return 0

    def _lands_before(self, start: int) -> bool:
        """Check where a seek without a full index ended, then go there again."""
        stamp = int(self._table.ids[start])
        for packet in self._container.demux(self._stream):
            if packet.size and packet.pts is not None:
                number = self._table.packet_of(packet.pts)
                self._container.seek(stamp, stream=self._stream, backward=True)
                return 0 <= number <= start
        return False

    def _rewind(self) -> int:
        """Begin again at the first packet: opened anew, because not every format can seek."""
        index = self.stream_index  # a stream of a closed container is not to be asked any more
        self._container.close()
        self._open(index)
        return 0

    def _convert(self, frame: "av.VideoFrame") -> UInt8[np.ndarray, "height width 3"]:
        # A stream may change its size midway; every frame is brought to the first one's.
        height, width = self._stored_size
        picture = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1).to_ndarray()
        return self._orientation.apply(picture)


_CODEC_NAMES = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}
