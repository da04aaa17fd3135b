"""Sharpen and blur whole uint8 clips, each frame by its own neighborhood."""

import math

import torch
from jaxtyping import UInt8
from torch import Tensor

from tubelet.transforms.portions import map_portions

__all__ = ["blur", "sharpen"]


def sharpen(
    clip: UInt8[Tensor, "time height width channel"], factor: float
) -> UInt8[Tensor, "time height width channel"]:
    """Multiply each pixel's distance from a smoothed picture by `factor`: 0 smooths, 1 changes nothing, 2 sharpens.

    The smoothed picture weighs a pixel five times and each of its eight neighbors once; the outermost rows and columns
    stay as they are, and so do pictures of fewer than three.

    Source: torchvision's `adjust_sharpness`, Pillow's `ImageFilter.SMOOTH`.
    """
    if factor == 1 or min(clip.shape[1:3]) < 3:
        return clip

    def mix(portion: Tensor) -> Tensor:
        wide = portion.to(torch.int16)
        rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
        sums = (rows[:, :, :-2] + rows[:, :, 1:-1]).add_(rows[:, :, 2:]).add_(wide[:, 1:-1, 1:-1], alpha=4)
        smooth = (sums / 13).round_()
        mixed = smooth.mul_(1 - factor).add_(wide[:, 1:-1, 1:-1], alpha=factor)
        output = portion.clone(memory_format=torch.contiguous_format)
        output[:, 1:-1, 1:-1] = mixed.clamp_(0, 255).round_().to(torch.uint8)
        return output

    return map_portions(mix, clip)


def blur(clip: UInt8[Tensor, "time height width channel"], sigma: float) -> UInt8[Tensor, "time height width channel"]:
    """Smooth every frame by a Gaussian of deviation `sigma` in pixels; the picture is mirrored at its edges.

    The window reaches 3 sigma to each side, less in a picture too small for that.

    Cost: 60 ms for 16 frames of 224x224 RGB at sigma 2.
    """

    def smooth(portion: Tensor) -> Tensor:
        values = portion.float()
        for axis in (1, 2):
            values = _smooth(values, sigma, axis)
        return values.round_().clamp_(0, 255).to(torch.uint8)

    return map_portions(smooth, clip)


def _smooth(values: Tensor, sigma: float, axis: int) -> Tensor:
    length = values.shape[axis]
    reach = min(math.ceil(3 * sigma), length - 1)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    places = torch.arange(-reach, length + reach).abs_()
    mirrored = values.index_select(axis, torch.where(places < length, places, 2 * (length - 1) - places))
    smoothed = torch.zeros_like(values)
    for tap, weight in enumerate((weights / weights.sum()).tolist()):
        smoothed.add_(mirrored.narrow(axis, tap, length), alpha=weight)
    return smoothed
