"""Turn and mirror decoded pictures the way a player would."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    import av

__all__ = ["Orientation"]


@dataclass(frozen=True)
class Orientation:
    """State how a stored picture must be turned, then mirrored, to stand upright."""

    rotation: int = 0
    """Degrees clockwise: 0, 90, 180 or 270."""
    is_mirrored: bool = False
    """Left and right are exchanged after the turn."""

    @classmethod
    def from_matrix(cls, matrix: Sequence[int]) -> "Orientation":
        """Read a 3x3 display matrix (a b u c d v x y w, 16.16 fixed point): x' = a x + c y, y' = b x + d y.

        Angles between quarter turns are rounded to the nearest one.
        """
        a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
        if a * d == b * c:
            return cls()
        is_mirrored = a * d - b * c < 0
        if is_mirrored:
            a, c = -a, -c
        angle = int(np.rint(np.degrees(np.arctan2(b, a)) / 90)) * 90 % 360
        return cls(angle, is_mirrored)

    @classmethod
    def from_frame(cls, frame: "av.VideoFrame") -> "Orientation":
        """Read the display matrix that travels with a decoded frame."""
        side = frame.side_data.get("DISPLAYMATRIX")
        if side is None:
            return cls()
        values = np.frombuffer(bytes(side), np.int32)  # type: ignore[call-overload]
        return cls.from_matrix([int(value) for value in values])

    def apply_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of an upright picture."""
        return (width, height) if self.rotation in (90, 270) else (height, width)

    def apply(self, picture: UInt8[np.ndarray, "height width channel"]) -> UInt8[np.ndarray, "height2 width2 channel"]:
        """Set one picture upright."""
        if self.rotation:
            picture = np.rot90(picture, k=-self.rotation // 90)
        return picture[:, ::-1] if self.is_mirrored else picture
