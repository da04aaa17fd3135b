"""Open anything that holds moving pictures, and give exact frames of it."""

import itertools
import math
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from jaxtyping import Float64, Shaped, UInt8

from tubelet.errors import ConfigError, FrameOutOfRange, NotAVideo, NotAVolume, VideoError
from tubelet.video.clip import Clip, VideoInfo
from tubelet.video.opening import FileRange, open_media
from tubelet.video.volumes import VolumeView

if TYPE_CHECKING:
    from tubelet.video.decoders import Reader
    from tubelet.video.opening import Media

__all__ = ["Source", "Video"]

File = str | os.PathLike[str] | FileRange | bytes | bytearray | memoryview
"""A path of a file, a file that lies within a larger one, or the bytes of a file."""

Source = File | Sequence[FileRange] | Shaped[np.ndarray, "..."]
"""A file, a path of a folder, images that lie within a larger file, or an array (time, height, width[, channel])."""

MAX_THREADS = 64
"""More decoder threads than this take memory and give no speed."""


class Video:
    """Open a video and read exact frames from it.

    Args:
        source: a path of a video or GIF file or of a folder of images, the bytes of a video file, or a uint8 array
            (time, height, width) or (time, height, width, channel), such as a volume; a NIfTI file, a DICOM file, a
            folder of DICOM slices; a `FileRange` for a video that lies within a larger file, or a list of them for its
            images.
        decoder: `pyav` (default), `torchcodec` or `decord`; all give the same frames.
        stream: which stream of the file; None takes the best picture stream.
        threads: decoder threads, 1 to 64.
        fps: rate assumed for sources that carry no times (arrays, images), in frames per second; above 0.
        volume: how the numbers of a volume become pixels; with it, arrays may hold any real numbers. None: by the
            volume's own percentiles, on its own grid.
        name: what messages call it; None: its path, or what it is.

    Raises:
        VideoError: where the source cannot be opened; `.code` says why, the text holds the source's name.
        ConfigError: `fps` or `threads` out of range.

    Example:
        >>> video = Video(np.zeros((8, 4, 6, 3), np.uint8), fps=4.0)
        >>> video.info.num_frames, video.info.duration_s
        (8, 2.0)
        >>> video.frames_at([7, 0, 0]).times_s.tolist()
        [1.75, 0.0, 0.0]
        >>> video.times_s[-1].item()
        1.75
    """

    def __init__(
        self,
        source: Source,
        *,
        decoder: str = "pyav",
        stream: int | None = None,
        threads: int = 1,
        fps: float = 25.0,
        volume: VolumeView | None = None,
        name: str | None = None,
    ) -> None:
        _check_options(fps, threads)
        self._media: Media | None = None
        self._reader: Reader
        self._is_closed = False
        self._times_s: Float64[np.ndarray, " frame"] | None = None
        if isinstance(source, np.ndarray):
            from tubelet.video.decoders.arrays import ArrayReader

            self.name = name or f"<array {'x'.join(map(str, source.shape))}>"
            self._reader = ArrayReader(source, fps, volume)
        elif isinstance(source, list | tuple) and source and all(isinstance(one, FileRange) for one in source):
            from tubelet.video.decoders.images import ImageReader

            self.name = name or source[0].name
            _refuse_view(self.name, volume)
            self._reader = ImageReader(source, fps)
        elif not isinstance(source, str | os.PathLike | FileRange | bytes | bytearray | memoryview):
            raise NotAVideo(
                f"cannot read a {type(source).__name__} as a video - found {str(source)[:80]!r} - give the path of a "
                "file or of a folder of images, the bytes of a file, or a uint8 array (time, height, width[, channel])."
            )
        elif isinstance(source, str | os.PathLike) and os.path.isdir(source):  # noqa: PTH112
            self.name = name or os.fspath(source)
            self._reader = self._open_folder(Path(source), fps, volume)
        else:
            media = open_media(source, name)
            self.name = media.name
            self._open_file(media, decoder, (stream, threads), fps, volume)

    def _open_folder(self, folder: Path, fps: float, volume: VolumeView | None) -> "Reader":
        from tubelet.video.decoders.dicom import list_slices, open_series
        from tubelet.video.decoders.images import open_folder
        from tubelet.video.decoders.volumes import VolumeReader

        slices = list_slices(folder)
        if slices:
            return VolumeReader(open_series(folder, slices), volume or VolumeView(), fps)
        _refuse_view(self.name, volume)
        return open_folder(folder, fps)

    def _open_file(
        self, media: "Media", decoder: str, options: tuple[int | None, int], fps: float, volume: VolumeView | None
    ) -> None:
        from tubelet.video.decoders import DECODERS, VOLUMES

        try:
            make_reader = DECODERS[decoder]()
            if media.demuxer in VOLUMES:
                self._reader = VOLUMES[media.demuxer](media, volume or VolumeView(), fps)
            else:
                _refuse_view(self.name, volume)
                self._reader = make_reader(media, *options)
        except BaseException:
            media.close()
            raise
        self._media = media

    @property
    def info(self) -> VideoInfo:
        """Number of frames, size, rate, duration, codec and rotation."""
        return self._reader.info

    @property
    def container(self) -> str | None:
        """FFmpeg's name of the kind of file, such as `mov`; None for images and arrays."""
        return self._media.demuxer if self._media else None

    @property
    def times_s(self) -> Float64[np.ndarray, " frame"]:
        """Return when each frame is shown, in seconds from the first: of all frames, and without decoding any."""
        if self._times_s is None:
            times_s = np.array(self._reader.times_s(list(range(self.info.num_frames))), np.float64)
            times_s.flags.writeable = False
            self._times_s = times_s
        return self._times_s

    @property
    def bytes_read(self) -> int:
        """Count the bytes fetched from the file so far; 0 for arrays and folders."""
        return self._media.file.bytes_read if self._media else 0

    def frames_at(self, indices: Iterable[SupportsIndex]) -> Clip:
        """Decode the frames with these indices.

        Args:
            indices: whole numbers in [0, num_frames), in any order, repeats allowed.

        Returns:
            A `Clip` in the order asked for: pixels uint8 (time, height, width, channel), times in seconds from the
            first frame.

        Raises:
            FrameOutOfRange: an index that the video does not have.
            VideoError: a frame that does not decode, or a video that was closed.
        """
        wanted = self._check_indices(indices)
        distinct = sorted(set(wanted))
        if not distinct:
            info = self.info
            empty = np.zeros((0, info.height, info.width, info.channels), np.uint8)
            return Clip(empty, np.zeros(0, np.float64))
        pixels = self._reader.frames_at(distinct)
        times_s = np.array(self._reader.times_s(distinct), np.float64)
        if wanted == distinct:
            return Clip(pixels, times_s)
        places = np.searchsorted(distinct, wanted)
        return Clip(pixels[places], times_s[places])

    def iterate(self, indices: Iterable[SupportsIndex]) -> Iterator[UInt8[np.ndarray, "height width channel"]]:
        """Decode frames one after another, each once, and keep none: the way through a video of any length.

        `frames_at` holds all that it returns, and begins again at a key frame with every call. Until the last frame has
        come, nothing else is to be read from this `Video`.

        Args:
            indices: whole numbers in [0, num_frames), each above the one before.

        Returns:
            An iterator of uint8 (height, width, channel), in that order.

        Raises:
            FrameOutOfRange: an index that the video does not have, or one out of order.
            VideoError: a frame that does not decode.
        """
        from tubelet.video.decoders import SequentialReader

        wanted = self._check_indices(indices)
        unordered = next((later for earlier, later in itertools.pairwise(wanted) if later <= earlier), None)
        if unordered is not None:
            raise FrameOutOfRange(
                f"cannot go through {self.name!r} - frame {unordered} was asked for out of order - give ascending "
                "indices, or ask frames_at."
            )
        if isinstance(self._reader, SequentialReader):
            return (picture for _, picture in self._reader.iterate(wanted))
        return (self._reader.frames_at([index])[0] for index in wanted)

    def frames(self) -> Clip:
        """Decode every frame."""
        return self.frames_at(range(self.info.num_frames))

    def close(self) -> None:
        """Give the file and the decoder back; `info` and `times_s` stay. Closing twice is harmless."""
        self._is_closed = True
        self._reader.close()
        if self._media is not None:
            self._media.close()

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        info = self.info
        return f"Video({self.name!r}, {info.num_frames} frames, {info.width}x{info.height}, {info.fps:.3g} fps)"

    def _check_indices(self, indices: Iterable[SupportsIndex]) -> list[int]:
        if self._is_closed:
            raise VideoError(f"cannot read frames of {self.name!r} - it is closed - open it again with Video(...).")
        return [self._check_index(index) for index in indices]

    def _check_index(self, index: object) -> int:
        num_frames = self.info.num_frames
        try:
            number = operator.index(index)  # type: ignore[arg-type]
        except TypeError:
            raise FrameOutOfRange(
                f"cannot read frame {index!r} of {self.name!r} - an index is a whole number - give integers."
            ) from None
        if not 0 <= number < num_frames:
            raise FrameOutOfRange(
                f"cannot read frame {number} of {self.name!r} - it has {num_frames} frames - "
                f"give indices from 0 to {num_frames - 1}."
            )
        return number


def _refuse_view(name: str, volume: VolumeView | None) -> None:
    """Refuse what nobody can do with pictures, rather than leave it undone."""
    if volume is not None and volume != VolumeView():
        raise NotAVolume(
            f"cannot show {name!r} by window {volume.window} and spacing {volume.spacing_mm} mm - it holds pictures, "
            "which state no unit and no spacing - give a volume (NIfTI, DICOM, array), or leave out input.window and "
            "input.spacing_mm."
        )


def _check_options(fps: float, threads: int) -> None:
    if not (math.isfinite(fps) and fps > 0):
        raise ConfigError(f"cannot open a video at fps={fps} - found no rate - give frames per second above 0.")
    if not 1 <= threads <= MAX_THREADS:
        raise ConfigError(
            f"cannot open a video with threads={threads} - out of range - give 1 to {MAX_THREADS} decoder threads."
        )
