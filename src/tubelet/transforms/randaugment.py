"""Draw a few operations of a fixed pool for each clip: RandAugment, and TrivialAugment with one of any strength.

    policy                  pool                                    strength
    randaugment             torchvision's 14 operations             magnitude of 30, as torchvision counts
    randaugment_increasing  timm's 15, each stronger with magnitude the same; timm counts to 10, so m7 is 21
    trivialaugment          torchvision's 14, over wide ranges      any of the 31

The strings of timm and of VideoMAE translate so: `rand-m7-n4-mstd0.5-inc1` is `randaugment_increasing` with
`policy_ops` 4, `policy_magnitude` 21, `policy_std` 1.5, `policy_chance` 0.5 (which timm does not write out). Resampling
is bilinear here, bilinear or bicubic by chance there; what enters is `fill`, there the mean of ImageNet.

Source: RandAugment, arXiv 1909.13719; TrivialAugment, arXiv 2103.10158; strengths of torchvision.transforms.v2 and of
timm's `auto_augment.py`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from tubelet.shapes import Size
from tubelet.transforms.affine import plan_affine, warp
from tubelet.transforms.color import adjust_color
from tubelet.transforms.filters import sharpen
from tubelet.transforms.policy import Augmentation
from tubelet.transforms.tone import autocontrast, equalize, invert, posterize, solarize, solarize_add

__all__ = ["OPERATIONS", "POOLS", "Operation", "Range", "apply_operation", "draw_operations", "scale_strength"]

BINS = 30
"""Steps from no strength to full strength: 31 magnitudes."""


@dataclass(frozen=True)
class Operation:
    """Name one operation, and how strong it is, in the unit of its function."""

    name: str
    """A key of `OPERATIONS`."""
    strength: float = 0.0
    """Degrees, pixels, a factor, bits or a threshold; see `OPERATIONS`."""


@dataclass(frozen=True)
class Range:
    """State how strong an operation gets: `start + reach * level`."""

    reach: float = 0.0
    """From level 0 to level 1."""
    start: float = 0.0
    """At level 0."""
    signed: bool = False
    """Draw the sign of the level."""
    least: float = -math.inf
    """What a strength is raised to."""
    most: float = math.inf
    """What a strength is lowered to."""
    unit: str = ""
    """`height` or `width`: the reach is a share of it. `bits`: the result is made a whole number."""


_ENHANCE = Range(0.9, 1.0, signed=True)
_TORCHVISION = {
    "identity": Range(),
    "shear_x": Range(0.3, signed=True),
    "shear_y": Range(0.3, signed=True),
    "translate_x": Range(150 / 331, signed=True, unit="width"),
    "translate_y": Range(150 / 331, signed=True, unit="height"),
    "rotate": Range(30.0, signed=True),
    "brightness": _ENHANCE,
    "color": _ENHANCE,
    "contrast": _ENHANCE,
    "sharpness": _ENHANCE,
    "posterize": Range(-4.0, 8.0, unit="bits"),
    "solarize": Range(-255.0, 255.0),
    "autocontrast": Range(),
    "equalize": Range(),
}
_WIDE = Range(0.99, 1.0, signed=True)
_TRIVIAL = _TORCHVISION | {
    "shear_x": Range(0.99, signed=True),
    "shear_y": Range(0.99, signed=True),
    "translate_x": Range(32.0, signed=True),
    "translate_y": Range(32.0, signed=True),
    "rotate": Range(135.0, signed=True),
    "brightness": _WIDE,
    "color": _WIDE,
    "contrast": _WIDE,
    "sharpness": _WIDE,
    "posterize": Range(-6.0, 8.0, unit="bits"),
}
_GROWING = Range(0.9, 1.0, signed=True, least=0.1)
_INCREASING = {
    "autocontrast": Range(),
    "equalize": Range(),
    "invert": Range(),
    "rotate": Range(30.0, signed=True),
    "posterize": Range(-4.0, 4.0, unit="bits, rounded up"),
    "solarize": Range(-256.0, 256.0),
    "solarize_add": Range(110.0, most=128.0),
    "color": _GROWING,
    "contrast": _GROWING,
    "brightness": _GROWING,
    "sharpness": _GROWING,
    "shear_x": Range(0.3, signed=True),
    "shear_y": Range(0.3, signed=True),
    "translate_x": Range(0.45, signed=True, unit="width"),
    "translate_y": Range(0.45, signed=True, unit="height"),
}
POOLS: Mapping[str, Mapping[str, Range]] = MappingProxyType(
    {"randaugment": _TORCHVISION, "randaugment_increasing": _INCREASING, "trivialaugment": _TRIVIAL}
)
"""For each policy, the operations that it draws from, and how strong they get."""


def draw_operations(augmentation: Augmentation, size: Size, generator: np.random.Generator) -> tuple[Operation, ...]:
    """Draw what a policy does to one clip.

    Args:
        augmentation: which policy, and how strong.
        size: of the picture that it is applied to, since moves are shares of it.
        generator: advanced.
    """
    if augmentation.policy == "none":
        return ()
    pool = POOLS[augmentation.policy]
    names = list(pool)
    if augmentation.policy == "trivialaugment":
        name = names[generator.integers(len(names))]
        return (Operation(name, _draw_strength(pool[name], generator.integers(BINS + 1) / BINS, size, generator)),)
    operations = []
    for _ in range(augmentation.policy_ops):
        name = names[generator.integers(len(names))]
        magnitude = augmentation.policy_magnitude + augmentation.policy_std * generator.standard_normal()
        strength = _draw_strength(pool[name], min(max(magnitude / BINS, 0.0), 1.0), size, generator)
        if generator.random() < augmentation.policy_chance:
            operations.append(Operation(name, strength))
    return tuple(operations)


def _draw_strength(kind: Range, level: float, size: Size, generator: np.random.Generator) -> float:
    is_turned = generator.random() < 0.5
    return scale_strength(kind, -level if kind.signed and is_turned else level, size)


def scale_strength(kind: Range, level: float, size: Size) -> float:
    """Return the strength of an operation at a level from -1, or from 0 where it has no sign, to 1."""
    reach = kind.reach * {"height": size.height, "width": size.width}.get(kind.unit, 1)
    strength = min(max(kind.start + reach * level, kind.least), kind.most)
    if kind.unit.startswith("bits"):
        return float(round(strength) if kind.unit == "bits" else math.ceil(strength))
    return strength


def apply_operation(
    clip: UInt8[Tensor, "time height width channel"], operation: Operation, fill: int = 0
) -> UInt8[Tensor, "time height width channel"]:
    """Carry out one operation, the same for all frames; `fill` enters where the picture moves away."""
    return OPERATIONS[operation.name](clip, operation.strength, fill)


def _keep(clip: Tensor, _strength: float, _fill: int) -> Tensor:
    return clip


def _rotate(clip: Tensor, degrees: float, fill: int) -> Tensor:
    size = Size(*clip.shape[1:3])
    return warp(clip, plan_affine(size, angle=-degrees), size, fill)


def _translate_x(clip: Tensor, pixels: float, fill: int) -> Tensor:
    size = Size(*clip.shape[1:3])
    return warp(clip, plan_affine(size, shift=(float(int(pixels)), 0.0)), size, fill)


def _translate_y(clip: Tensor, pixels: float, fill: int) -> Tensor:
    size = Size(*clip.shape[1:3])
    return warp(clip, plan_affine(size, shift=(0.0, float(int(pixels)))), size, fill)


def _shear_x(clip: Tensor, slope: float, fill: int) -> Tensor:
    size = Size(*clip.shape[1:3])
    return warp(clip, plan_affine(size, shear=(math.degrees(math.atan(slope)), 0.0), center=(0.0, 0.0)), size, fill)


def _shear_y(clip: Tensor, slope: float, fill: int) -> Tensor:
    size = Size(*clip.shape[1:3])
    return warp(clip, plan_affine(size, shear=(0.0, math.degrees(math.atan(slope))), center=(0.0, 0.0)), size, fill)


OPERATIONS: Mapping[str, Callable[[Tensor, float, int], Tensor]] = MappingProxyType(
    {
        "identity": _keep,
        "shear_x": _shear_x,
        "shear_y": _shear_y,
        "translate_x": _translate_x,
        "translate_y": _translate_y,
        "rotate": _rotate,
        "brightness": lambda clip, factor, _: adjust_color(clip, brightness=factor),
        "color": lambda clip, factor, _: adjust_color(clip, saturation=factor),
        "contrast": lambda clip, factor, _: adjust_color(clip, contrast=factor),
        "sharpness": lambda clip, factor, _: sharpen(clip, factor),
        "posterize": lambda clip, bits, _: posterize(clip, int(bits)),
        "solarize": lambda clip, threshold, _: solarize(clip, threshold),
        "solarize_add": lambda clip, addition, _: solarize_add(clip, int(addition)),
        "autocontrast": lambda clip, _strength, _fill: autocontrast(clip),
        "equalize": lambda clip, _strength, _fill: equalize(clip),
        "invert": lambda clip, _strength, _fill: invert(clip),
    }
)
"""What each operation does: slopes for shears, pixels for moves, counterclockwise degrees for turns, factors, bits,
thresholds; the last three have no strength."""
