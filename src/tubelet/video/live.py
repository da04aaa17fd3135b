"""Read frames while they come: from a camera, a network stream, a pipe, or a file that is still being written.

    0, camera:NAME         a camera of this machine          frames that are waited for are lost if nobody takes them
    rtsp://, http://       a stream of the network           the same; with `listen` the sender comes to us
    clip.mp4               a file, from its beginning        the same, and more, with `follow_s`: it is being written
    -                      standard input                    a container, a raw codec, or bare RGB frames (`raw`)

Here a name does lead to devices, hosts and waiting, which the gate of `Video` exists to prevent. So nothing that was
sent, uploaded or listed in a table may get here: only the operator's command and the user's own code open a
`LiveSource`. FFmpeg is told which one format or which formats to expect, and may use the protocols of the address it
was given and no other. Playlists (HLS, DASH, concat) are refused, since they name other places.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from tubelet.errors import (
    Corrupt,
    DecodeTimeout,
    NoVideoStream,
    SourceNotFound,
    TooLarge,
    UnsupportedCodec,
    VideoError,
)
from tubelet.shapes import Size
from tubelet.video.addresses import Asked, find_place
from tubelet.video.arrival import ArrivingBytes
from tubelet.video.decoders.pyav import CODECS, MAX_STREAMS
from tubelet.video.opening import MAX_PIXELS
from tubelet.video.orientation import Orientation

__all__ = ["FrameFeed", "FrameSource", "LiveFrame", "LiveSource"]

Picture = UInt8[np.ndarray, "height width channel"]

MAX_BAD_PACKETS = 300
"""Packets on end that do not decode before a stream is given up: some ten seconds."""


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """Hold one frame that came; its colors are computed when they are asked for."""

    time_s: float
    """When it is shown, in seconds from the source's first frame; never less than that of the frame before."""
    arrived_s: float
    """When it came, by `time.monotonic`."""
    show: Callable[[], Picture] = field(repr=False)
    """Compute uint8 (height, width, channel), RGB, upright."""


@runtime_checkable
class FrameSource(Protocol):
    """Give frames as they come: what `stream` needs of a source."""

    name: str
    """What messages call it, without passwords."""
    fps: float | None
    """Frames per second, as stated; None where nothing is stated."""
    is_live: bool
    """Frames come at their own time, whether they are taken or not."""
    num_damaged: int
    """Packets so far that did not decode and were passed over."""

    def frames(self) -> Iterator[LiveFrame]:
        """Give every frame, once, in order; waits for the next."""

    def close(self) -> None:
        """Give the source back; from any thread, and more than once."""


class FrameFeed:
    """Make a source of any frames that a program has: of another library's camera, of a simulation.

    Args:
        frames: pairs of a time in seconds and uint8 (height, width, channel); taken one at a time.
        name: what messages call it.
        fps: frames per second; needed by models whose clips count frames, not seconds.
        is_live: frames come at their own time; those that nobody takes in time are dropped.
    """

    num_damaged = 0

    def __init__(
        self, frames: Iterable[tuple[float, Picture]], *, name: str = "<frames>", fps: float | None, is_live: bool
    ) -> None:
        self.name, self.fps, self.is_live = name, fps, is_live
        self._frames = frames
        self._closing = threading.Event()

    def frames(self) -> Iterator[LiveFrame]:
        """Give every frame, once, in order."""
        first_s = None
        for time_s, picture in self._frames:
            first_s = time_s if first_s is None else first_s
            yield LiveFrame(time_s - first_s, time.monotonic(), partial(np.asarray, picture))
            if self._closing.is_set():
                return

    def close(self) -> None:
        """Take no more frames."""
        self._closing.set()


class LiveSource:
    """Open a camera, a network stream, a pipe or a file that grows, and give its frames as they come.

    Never hand it a name that somebody else chose: it connects, listens and reads devices. `Video` is for those.

    Args:
        source: the number of a camera, `camera:NAME`, `rtsp://`, `rtsps://`, `http://` or `https://` and what follows,
            the path of a video file, or `-` for standard input.
        fps: frames per second, where the source states none or another; asked of a camera; needed with `raw`.
        raw: height and width of bare RGB frames of three bytes a pixel on standard input.
        follow_s: treat a file as one that is being written: wait for more, until none came for this many seconds. It
            must be of a format that can be read so: mpegts, mkv, fragmented mp4.
        listen: wait for somebody who sends to this rtsp address, rather than connect to it.
        timeout_s: longest wait for a connection, and for the next bytes of a network stream.

    Raises:
        VideoError: what cannot be opened; `.code` says why, the text names the source without its password.
        ConfigError: options that do not fit the source.
    """

    def __init__(
        self,
        source: str | int | os.PathLike[str],
        *,
        fps: float | None = None,
        raw: Size | None = None,
        follow_s: float | None = None,
        listen: bool = False,
        timeout_s: float = 10.0,
    ) -> None:
        asked = Asked(
            str(source) if isinstance(source, int) else os.fspath(source), fps, raw, follow_s, listen, timeout_s
        )
        self._closing = threading.Event()
        self._timeout_s = timeout_s
        self._raw = raw
        self._is_reading = False
        self.num_damaged = 0
        self._place = find_place(asked, self._closing)
        self.name, self.is_live = self._place.name, self._place.is_live
        self.fps = fps
        if raw is None:
            with self._explain("open"):
                self._open()

    def _open(self) -> None:
        place = self._place
        self._container: av.container.InputContainer = av.open(
            place.target,
            mode="r",
            format=place.demuxer,
            options={
                "protocol_whitelist": place.protocols,
                "format_whitelist": place.formats,
                "max_streams": str(MAX_STREAMS),
                "probesize": "2000000",
                "max_pixels": str(MAX_PIXELS),
                **place.options,
            },
            timeout=(self._timeout_s, self._timeout_s),
            metadata_errors="replace",
        )
        best = self._container.streams.best("video")
        stream = next((one for one in self._container.streams.video if best and one.index == best.index), None)
        if stream is None:
            raise NoVideoStream(f"cannot stream {self.name!r} - it holds no picture stream - give a video.")
        context = stream.codec_context
        if context is None or context.codec.name not in CODECS:
            found = context.codec.name if context else "unknown"
            raise UnsupportedCodec(f"cannot stream {self.name!r} - its picture codec is {found} - send H.264.")
        if context.width * context.height > MAX_PIXELS:
            raise TooLarge(f"cannot stream {self.name!r} - over {MAX_PIXELS} pixels - send smaller pictures.")
        context.thread_type = "SLICE"  # threads by frames would each hold one back
        self._stream = stream
        rate = stream.average_rate or stream.guessed_rate
        self.fps = self.fps or (float(rate) if rate else None)

    def frames(self) -> Iterator[LiveFrame]:
        """Give every frame, once, in order; waits for the next. A packet that does not decode is passed over.

        Raises:
            VideoError: nothing came within the time-out, or nothing that decodes.
        """
        self._is_reading = True
        clock = _Clock(self.fps)
        try:
            with self._explain("read"):
                for pts_s, show in self._read_raw() if self._raw else self._decode():
                    if self._closing.is_set():
                        return
                    yield LiveFrame(clock.place(pts_s), time.monotonic(), show)
        finally:
            self._is_reading = False
            self._release()

    def _decode(self) -> Iterator[tuple[float | None, Callable[[], Picture]]]:
        reformatter = VideoReformatter()
        bad = 0
        for packet in self._container.demux(self._stream):
            if self._closing.is_set():
                return
            try:
                frames = self._stream.codec_context.decode(packet)
                bad = 0
            except av.error.InvalidDataError:
                # A stream that is met midway begins with pictures that lean on what nobody has.
                self.num_damaged, bad, frames = self.num_damaged + 1, bad + 1, []
                if bad >= MAX_BAD_PACKETS:
                    raise
            for frame in frames:
                yield frame.time, partial(_convert, frame, reformatter)

    def _read_raw(self) -> Iterator[tuple[float | None, Callable[[], Picture]]]:
        assert self._raw is not None
        assert isinstance(self._place.target, ArrivingBytes)
        height, width = self._raw
        while len(data := self._place.target.read_whole(height * width * 3)) == height * width * 3:
            picture = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            yield None, partial(np.asarray, picture)

    def close(self) -> None:
        """Give the source back; a thread that reads meanwhile ends at its next frame, or at its time-out."""
        self._closing.set()
        if not self._is_reading:
            self._release()

    def _release(self) -> None:
        if hasattr(self, "_container"):
            self._container.close()
        if not isinstance(self._place.target, str):
            self._place.target.close()

    @contextmanager
    def _explain(self, verb: str) -> Iterator[None]:
        """Replace every exception of the library by one of ours, with the source's name."""
        try:
            yield
        except VideoError:
            raise
        except (av.error.TimeoutError, av.error.ExitError) as error:
            raise DecodeTimeout(
                f"cannot {verb} {self.name!r} - nothing came within {self._timeout_s:g} s - check that it sends, or "
                "wait longer (--timeout)."
            ) from error
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if verb == "open" and isinstance(self._place.target, str):
                raise SourceNotFound(
                    f"cannot open {self.name!r} - FFmpeg says: {reason} - {self._place.advice}."
                ) from error
            raise Corrupt(
                f"cannot {verb} {self.name!r} - FFmpeg says: {reason} - what is still being written must be mpegts, "
                "mkv or fragmented mp4; copy or convert anything else again."
            ) from error


class _Clock:
    """Count the seconds from the first frame, whatever a source says of its times."""

    def __init__(self, fps: float | None) -> None:
        self._interval_s = 1 / fps if fps else 0.0
        self._offset_s: float | None = None
        self._last_s = -self._interval_s

    def place(self, pts_s: float | None) -> float:
        """Return when a frame is shown; one without a time comes an interval after the last, and so does a restart."""
        expected_s = max(self._last_s + self._interval_s, 0.0)
        if pts_s is not None:
            if self._offset_s is None or pts_s - self._offset_s < self._last_s:
                self._offset_s = pts_s - expected_s
            expected_s = pts_s - self._offset_s
        self._last_s = expected_s
        return expected_s


def _convert(frame: "av.VideoFrame", reformatter: VideoReformatter) -> Picture:
    picture = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    return Orientation.from_frame(frame).apply(picture)
