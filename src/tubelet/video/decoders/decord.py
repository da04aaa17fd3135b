"""Read frames with decord (an extra; `decord2` provides it), on bytes that passed the gate.

decord counts and orders some files differently (open groups of pictures, edit lists); where its count differs from the
frame table the file is refused rather than read wrongly. For trusted files only: it runs its own FFmpeg.
"""

import io

import numpy as np

from tubelet.errors import Corrupt, MissingExtra
from tubelet.video.clip import Pixels, VideoInfo
from tubelet.video.decoders.pyav import PyavReader
from tubelet.video.opening import Media

__all__ = ["DecordReader"]


class DecordReader:
    """Decode the best picture stream with `decord.VideoReader`.

    Raises:
        MissingExtra: decord is not installed.
        VideoError: where the source cannot be decoded, or decord would give other frames.
    """

    def __init__(self, media: Media, stream: int | None = None, threads: int = 1) -> None:
        try:
            import decord
        except (ImportError, RuntimeError, OSError) as error:
            raise MissingExtra(
                f"cannot use the decoder 'decord' - {error} - pip install 'tubelet[decord]', or use '--decoder pyav'."
            ) from None
        self._guide = PyavReader(media, stream, threads)
        self.info: VideoInfo = self._guide.info
        self._name = media.name
        media.file.seek(0)
        try:
            self._reader = decord.VideoReader(io.BytesIO(media.file.read()), ctx=decord.cpu(0), num_threads=threads)
        except (decord.DECORDError, RuntimeError) as error:
            self._guide.close()
            raise self._complain(error) from None
        if len(self._reader) != self.info.num_frames or self._guide.leans_on_open_groups:
            self._guide.close()
            raise self._complain("it would count or order the frames of this file otherwise")

    def times_s(self, indices: list[int]) -> list[float]:
        """Return when the frames are shown, in seconds from the first."""
        return self._guide.times_s(indices)

    def frames_at(self, indices: list[int]) -> Pixels:
        """Decode distinct ascending frames; uint8 (time, height, width, 3)."""
        import decord

        try:
            pixels: Pixels = np.asarray(self._reader.get_batch(indices).asnumpy())
        except (decord.DECORDError, RuntimeError, IndexError) as error:
            raise self._complain(error) from None
        if pixels.shape[1:] != (self.info.height, self.info.width, 3):
            raise self._complain(f"it gives frames of shape {pixels.shape[1:]}")
        return pixels

    def close(self) -> None:
        """Give the decoders back."""
        self._guide.close()

    def _complain(self, what: object) -> Corrupt:
        reason = str(what).strip().splitlines()[0] if str(what).strip() else "nothing"
        return Corrupt(f"cannot decode {self._name!r} - decord says: {reason} - use '--decoder pyav'.")
