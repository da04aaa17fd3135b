"""Map the values of whole uint8 clips through tables: solarize, posterize, invert, autocontrast, equalize.

What torchvision measures in each picture (least and greatest value, histogram) is measured over the whole clip here, so
that nothing flickers; for a clip of one frame the results are torchvision's.
"""

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from tubelet.transforms.color import look_up

__all__ = ["autocontrast", "equalize", "invert", "posterize", "solarize", "solarize_add"]

LEVELS = np.arange(256)


def invert(clip: UInt8[Tensor, "time height width channel"]) -> UInt8[Tensor, "time height width channel"]:
    """Turn every value v into 255 - v."""
    return clip.bitwise_not()


def posterize(
    clip: UInt8[Tensor, "time height width channel"], bits: int
) -> UInt8[Tensor, "time height width channel"]:
    """Keep the highest `bits` bits of every value, 0 to 8; 0 is black."""
    return clip & (256 - (1 << (8 - bits)))


def solarize(
    clip: UInt8[Tensor, "time height width channel"], threshold: float
) -> UInt8[Tensor, "time height width channel"]:
    """Invert the values from `threshold` on, in 0..255."""
    return look_up(clip, np.where(threshold <= LEVELS, 255 - LEVELS, LEVELS))


def solarize_add(
    clip: UInt8[Tensor, "time height width channel"], addition: int
) -> UInt8[Tensor, "time height width channel"]:
    """Add `addition` to the values below 128.

    Source: arXiv 1909.13719, code of its authors (AutoAugment's `SolarizeAdd`).
    """
    return look_up(clip, np.where(LEVELS < 128, np.minimum(LEVELS + addition, 255), LEVELS))


def autocontrast(clip: UInt8[Tensor, "time height width channel"]) -> UInt8[Tensor, "time height width channel"]:
    """Stretch each channel so that the clip's least value becomes 0 and its greatest 255; one value stays as it is."""
    channels = clip.shape[-1]
    rows = clip.reshape(-1, clip.shape[2] * channels)  # long rows first: much faster than pixels of three values
    least, greatest = (edge.reshape(-1, channels) for edge in (rows.amin(0), rows.amax(0)))
    low, high = least.amin(0).double().numpy()[:, None], greatest.amax(0).double().numpy()[:, None]
    stretched = np.floor((LEVELS - low) * 255 / np.maximum(high - low, 1) + 1e-9)
    return look_up(clip, np.where(high > low, stretched, LEVELS[None].repeat(channels, 0)))


def equalize(clip: UInt8[Tensor, "time height width channel"]) -> UInt8[Tensor, "time height width channel"]:
    """Map each channel so that its values are spread as evenly over 0..255 as they go.

    Source: Pillow's `ImageOps.equalize`, which torchvision follows.
    """
    return look_up(clip, np.stack([_level(clip[..., channel]) for channel in range(clip.shape[-1])]))


def _level(plane: UInt8[Tensor, "time height width"]) -> Float64[np.ndarray, " 256"]:
    counts: Int64[np.ndarray, " 256"] = torch.bincount(plane.flatten(), minlength=256).numpy()
    occupied = counts[counts > 0]
    step = (int(occupied.sum()) - int(occupied[-1])) // 255
    if step == 0:
        return LEVELS.astype(np.float64)
    below = np.concatenate([[0], np.cumsum(counts)[:-1]])
    table: Float64[np.ndarray, " 256"] = ((below + step // 2) // step).astype(np.float64)
    table[0] = 0.0
    return table
