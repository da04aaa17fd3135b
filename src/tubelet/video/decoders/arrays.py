"""Serve frames from an array in memory: volumes, synthetic clips, frames from elsewhere."""

import numpy as np
from jaxtyping import Shaped

from tubelet.errors import NotAVideo
from tubelet.video.clip import Pixels, VideoInfo
from tubelet.video.volumes import Shape, VolumeView

__all__ = ["ArrayReader"]


class ArrayReader:
    """Serve frames of a uint8 array (time, height, width) or (time, height, width, channel).

    With a view, the array may hold any real numbers: they become pixels at once.

    Raises:
        NotAVideo: another dtype or shape.
        VideoError: where the view cannot be had of an array, which states no spacing.
    """

    def __init__(self, array: Shaped[np.ndarray, "..."], fps: float, view: VolumeView | None = None) -> None:
        is_readable = array.dtype == np.uint8 or (view is not None and array.dtype.kind in "buif")
        if not is_readable or array.ndim not in (3, 4) or 0 in array.shape:
            raise NotAVideo(
                f"cannot read <array> as a video - found {array.dtype} {array.shape} - "
                "give uint8 (time, height, width) or (time, height, width, channel), none of them empty; "
                "of other numbers with volume=VolumeView()."
            )
        pixels = array[..., None] if array.ndim == 3 else array
        if view is not None and (view != VolumeView() or pixels.dtype != np.uint8):
            view.plan_shape(Shape(*pixels.shape), None, "<array>")
            pixels = view.draw(pixels, None, "<array>")
        self._pixels = pixels
        num_frames, height, width, channels = self._pixels.shape
        self.info = VideoInfo(num_frames, height, width, fps, num_frames / fps, "raw", 0, channels)

    def times_s(self, indices: list[int]) -> list[float]:
        """Return when the frames are shown, in seconds from the first."""
        return [index / self.info.fps for index in indices]

    def frames_at(self, indices: list[int]) -> Pixels:
        """Return a copy of these frames."""
        return self._pixels[indices]

    def close(self) -> None:
        """Let the array be: it is the caller's."""
