"""Read exact frames with torchcodec (an extra; the way to GPU decoding), on bytes that passed the gate.

torchcodec opens whatever FFmpeg recognizes, so it never sees a path, only bytes whose format the gate has checked. The
frame table stays ours: both backends give the same frames for the same indices.

Each version of torchcodec fits some versions of PyTorch only, so any from 0.12 on is taken. Below 0.17 it may open
other files and hosts that the bytes name: such a version is for trusted files only, and `tubelet doctor` says so.
The time budget of `pyav` covers the opening here, not the decoding, which runs in torchcodec.
"""

import numpy as np

from tubelet.errors import Corrupt, MissingExtra
from tubelet.video.clip import Pixels, VideoInfo
from tubelet.video.decoders.pyav import PyavReader
from tubelet.video.opening import Media

__all__ = ["TorchcodecReader"]


class TorchcodecReader:
    """Decode the best picture stream with `torchcodec.decoders.VideoDecoder` in exact mode.

    Raises:
        MissingExtra: torchcodec, or the FFmpeg libraries it needs, cannot be loaded.
        VideoError: where the source cannot be decoded, with its name.
    """

    def __init__(self, media: Media, stream: int | None = None, threads: int = 1) -> None:
        try:
            from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined]
        except (ImportError, RuntimeError, OSError) as error:
            raise MissingExtra(
                f"cannot use the decoder 'torchcodec' - {str(error).splitlines()[0]} - "
                "pip install 'tubelet[torchcodec]', and FFmpeg's shared libraries; or choose '--decoder pyav'."
            ) from None
        self._guide = PyavReader(media, stream, threads)
        self.info: VideoInfo = self._guide.info
        self._name = media.name
        media.file.seek(0)
        try:
            self._decoder = VideoDecoder(
                media.file.read(),
                stream_index=self._guide.stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=threads,
                seek_mode="exact",
            )
        except (RuntimeError, ValueError) as error:
            self._guide.close()
            raise Corrupt(
                f"cannot decode {media.name!r} - torchcodec says: {str(error).splitlines()[0]} - try '--decoder pyav'."
            ) from None

    def times_s(self, indices: list[int]) -> list[float]:
        """Return when the frames are shown, in seconds from the first."""
        return self._guide.times_s(indices)

    def frames_at(self, indices: list[int]) -> Pixels:
        """Decode distinct ascending frames; uint8 (time, height, width, 3)."""
        if len(self._decoder) != self.info.num_frames:
            raise Corrupt(
                f"cannot decode {self._name!r} - torchcodec counts {len(self._decoder)} frames, "
                f"its index {self.info.num_frames} - use '--decoder pyav'."
            )
        try:
            pixels: Pixels = np.asarray(self._decoder.get_frames_at(indices).data)
        except (RuntimeError, ValueError, IndexError) as error:
            raise Corrupt(
                f"cannot decode {self._name!r} - torchcodec says: {str(error).splitlines()[0]} - try '--decoder pyav'."
            ) from None
        return pixels

    def close(self) -> None:
        """Give the decoders back."""
        self._guide.close()
