"""Work through a clip a few frames at a time."""

from collections.abc import Callable

import torch
from jaxtyping import UInt8
from torch import Tensor

__all__ = ["map_portions"]

PORTION = 200_000
"""Values at a time: one frame of 256x256 RGB.

As floats they stay in the processor's cache and in memory that the process already has. A whole clip of floats is given
back to the system after each step and asked for again, which takes up to half of the time.
"""


def map_portions(
    function: Callable[[Tensor], Tensor], clip: UInt8[Tensor, "time height width channel"]
) -> UInt8[Tensor, "time height2 width2 channel"]:
    """Apply a function of frames, in which no frame depends on another, to a few frames at a time."""
    frames = max(1, PORTION // clip[0].numel())
    if frames >= len(clip):
        result: Tensor = function(clip)
        return result
    return torch.cat([function(portion) for portion in torch.split(clip, frames)])
