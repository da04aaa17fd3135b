"""Name the axes, once, for every signature in the package.

    pixels     batch channel time height width       what a model receives (float) and a clip holds (uint8, time first)
    tubelets   t h w                                 the grid of tubelets that one clip is cut into
    tokens     token dim heads classes views         inside a model, and after it

A tubelet is a small box of video: `tubelet = (frames, height_px, width_px)`.

           width
        +---------+        time 32 / 2  = t 16
       /  /  /  / |        height 224 / 16 = h 14
      +--+--+--+  |  ->    width  224 / 16 = w 14
      |  |  |  | /         16 * 14 * 14 = 3,136 tokens
      +--+--+--+ time
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool

__all__ = ["Box", "Label", "Size", "Size3", "Task"]

Task = Literal["classification", "multilabel"]
"""What labels mean: each clip is of one class, or each class is a question of its own, and a clip has any number."""

Label = int | Bool[np.ndarray, " classes"]
"""What a clip should be called: the index of its class, or for each class whether the clip has it."""


class Size(NamedTuple):
    """Hold a picture size: height before width, in pixels."""

    height: int
    width: int


class Size3(NamedTuple):
    """Hold an extent along time, height and width: of a clip, a tubelet or a token grid."""

    t: int
    h: int
    w: int


@dataclass(frozen=True)
class Box:
    """Hold a rectangle of a picture in pixels, half-open: rows top to top + height."""

    top: int
    """First row."""
    left: int
    """First column."""
    height: int
    """Rows."""
    width: int
    """Columns."""
