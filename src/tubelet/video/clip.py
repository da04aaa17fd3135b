"""Hold decoded pixels together with the times they were shown at."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

__all__ = ["Clip", "Pixels"]

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
