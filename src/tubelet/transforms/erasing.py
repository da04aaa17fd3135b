"""Hide a rectangle of whole uint8 clips: the same one in every frame."""

from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from tubelet.shapes import Box, Size
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

__all__ = ["Erasure", "draw_erasure", "erase"]

ERASING_ATTEMPTS = 10
NORMAL = np.array([NormalDist().inv_cdf((rank + 0.5) / 256) for rank in range(256)])
"""The middles of 256 equally likely parts of a normal distribution, of which random bytes choose: 20 times faster."""


@dataclass(frozen=True)
class Erasure:
    """Hold what is hidden, and by what."""

    box: Box
    """The part of the model's picture."""
    levels: tuple[float, ...]
    """Gray level of each channel."""
    spread: tuple[float, ...] = ()
    """Standard deviation of noise around it, of each channel; none at all for an even color."""
    seed: int = 0
    """Of the noise."""


def draw_erasure(augmentation: Augmentation, spec: InputSpec, generator: np.random.Generator) -> Erasure | None:
    """Draw whether, where and how a rectangle is hidden; a rectangle that never fits leaves the clip alone.

    Source: Random Erasing, arXiv 1708.04896; rounding and attempts of torchvision.transforms.v2.RandomErasing.
    """
    if generator.random() >= augmentation.erasing:
        return None
    box = _draw_box(augmentation, Size(spec.height, spec.width), generator)
    if box is None:
        return None
    means = tuple(255 * mean for mean in spec.mean * (spec.channels // len(spec.mean)))
    if augmentation.erasing_fill == "value":
        return Erasure(box, (float(augmentation.fill),) * spec.channels)
    if augmentation.erasing_fill == "mean":
        return Erasure(box, means)
    spread = tuple(255 * std for std in spec.std * (spec.channels // len(spec.std)))
    return Erasure(box, means, spread, int(generator.integers(2**31)))


def _draw_box(augmentation: Augmentation, size: Size, generator: np.random.Generator) -> Box | None:
    least, greatest = augmentation.erasing_ratio
    for _ in range(ERASING_ATTEMPTS):
        area = size.height * size.width * generator.uniform(*augmentation.erasing_scale)
        ratio = exp(generator.uniform(log(least), log(greatest)))
        height, width = round(sqrt(area * ratio)), round(sqrt(area / ratio))
        if 0 < height < size.height and 0 < width < size.width:
            top = int(generator.integers(size.height - height + 1))
            left = int(generator.integers(size.width - width + 1))
            return Box(top, left, height, width)
    return None


def erase(
    clip: UInt8[Tensor, "time height width channel"], erasure: Erasure
) -> UInt8[Tensor, "time height width channel"]:
    """Hide the rectangle in every frame: by its color, or by noise that is another in each frame."""
    box = erasure.box
    output = clip.clone(memory_format=torch.contiguous_format)
    hidden = output[:, box.top : box.top + box.height, box.left : box.left + box.width]
    if not erasure.spread:
        hidden[:] = torch.tensor(erasure.levels).round().clamp(0, 255).to(torch.uint8)
        return output
    generator = np.random.default_rng(erasure.seed)
    for channel, (level, spread) in enumerate(zip(erasure.levels, erasure.spread, strict=True)):
        table = np.clip(np.rint(level + spread * NORMAL), 0, 255).astype(np.uint8).tobytes()
        noise = bytearray(generator.bytes(hidden[..., channel].numel())).translate(table)
        hidden[..., channel] = torch.frombuffer(noise, dtype=torch.uint8).reshape(hidden.shape[:3])
    return output
