"""Hold decoded pixels together with the times they were shown at."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

__all__ = ["Clip", "Pixels", "VideoInfo"]

Pixels = UInt8[np.ndarray, "time height width channel"]


@dataclass(frozen=True, eq=False)
class Clip:
    """Hold some frames of one source: the value that flows from readers to models.

    Args:
        pixels: uint8, (time, height, width, channel); rotation already applied; RGB where there are three channels.
        times_s: when each frame is shown, in seconds from the source's first frame.
    """

    pixels: Pixels
    times_s: Float64[np.ndarray, " time"]

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class VideoInfo:
    """State what a source holds, known before any frame is decoded."""

    num_frames: int
    """Frames that a player would show: hidden, discarded and edited-out ones do not count."""
    height: int
    """Height in pixels, after rotation."""
    width: int
    """Width in pixels, after rotation."""
    fps: float
    """Average frames per second: (num_frames - 1) / (last time - first time); 0 where there is no time."""
    duration_s: float
    """Seconds from the first frame's start to the last frame's end."""
    codec: str
    """FFmpeg's name of the codec, such as `h264`; `raw` for arrays, `images`, `nifti` or `dicom`."""
    rotation: int
    """Degrees clockwise by which the stored picture was turned: 0, 90, 180 or 270."""
    channels: int = 3
    """Channels of a frame: 3 (RGB) for video, any number for arrays and volumes."""
    spacing_mm: tuple[float, float, float] | None = None
    """Distance of a volume's voxels in mm, (slice, row, column); None where the source states none."""
