"""Vary whole uint8 clips in training: mirror, reverse, crop, stretch, shift and color them, one draw for each clip."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from tubelet.shapes import Box, Label, Size
from tubelet.transforms.affine import crop_turned
from tubelet.transforms.color import adjust_color
from tubelet.transforms.erasing import Erasure, draw_erasure, erase
from tubelet.transforms.filters import blur
from tubelet.transforms.policy import Augmentation, swap_label
from tubelet.transforms.preparation import as_tensor, fit, fit_channels, resize
from tubelet.transforms.randaugment import Operation, apply_operation, draw_operations
from tubelet.video.clip import Pixels
from tubelet.video.spec import InputSpec

__all__ = ["Box", "Draw", "augment", "draw_augmentation", "plan_crop", "shift_clip", "stretch_clip", "vary"]

CROP_ATTEMPTS = 10


@dataclass(frozen=True)
class Draw:
    """Hold what was drawn for one clip; the same for all its frames."""

    horizontal_flip: bool = False
    """Mirror left and right."""
    vertical_flip: bool = False
    """Mirror up and down."""
    time_reversal: bool = False
    """Play backward."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Move down and to the right by these shares of height and width; negative is up and left."""
    time_shift: float = 0.0
    """Move to later frames by this share of the clip; negative is earlier."""
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors on time, height and width about the middle."""
    brightness: float = 1.0
    """Factor on all values."""
    contrast: float = 1.0
    """Factor on distances from the clip's mean luminance."""
    saturation: float = 1.0
    """Factor on distances from each pixel's luminance."""
    crop: Box | None = None
    """The part of the source that fills the model's picture; None takes what evaluation takes."""
    hue: float = 0.0
    """Part of a whole turn by which colors turn."""
    grayscale: bool = False
    """Show it in gray."""
    rotation: float = 0.0
    """Degrees, clockwise."""
    operations: tuple[Operation, ...] = ()
    """What RandAugment or TrivialAugment does, in this order."""
    blur_sigma: float = 0.0
    """Deviation of the blur in pixels; 0 leaves it sharp."""
    erasure: Erasure | None = None
    """What is hidden."""
    fill: int = 0
    """Gray level of what enters beyond the picture's end."""


def augment(
    pixels: Pixels,
    label: Label,
    augmentation: Augmentation,
    spec: InputSpec,
    classes: Sequence[str],
    generator: np.random.Generator,
) -> tuple[UInt8[Tensor, "time height2 width2 channel2"], Label]:
    """Vary a clip at random, bring it to the model's size, and say what it shows now.

    With an augmentation that does nothing this is `fit`, byte for byte: training and evaluation share the road.

    Args:
        pixels: uint8 (time, height, width, channel) as decoded; never written to.
        label: the index of the clip's class in `classes`, or for each of them whether the clip has it.
        augmentation: what is allowed.
        spec: the model's contract: the size and channels to reach.
        classes: names in index order, for the labels that flips swap.
        generator: source of everything random; advanced.

    Returns:
        uint8 (time, `spec.height`, `spec.width`, `spec.channels`), and the label after the flips.

    Raises:
        VideoError: the clip does not suit the model, as in `fit`.

    Example:
        >>> swap = Augmentation(horizontal_flip=1.0, horizontal_pairs=(("left", "right"),))
        >>> ramp = np.arange(32, dtype=np.uint8).reshape(2, 1, 16, 1)
        >>> spec = InputSpec(height=1, width=16, channels=1)
        >>> clip, label = augment(ramp, 0, swap, spec, ("left", "right"), np.random.default_rng(0))
        >>> clip[0, 0, :3, 0].tolist(), label
        ([15, 14, 13], 1)

    Cost: 5 ms from 16 frames of 256x256 to 224x224 with flips, crop, brightness and contrast; 10 ms with saturation
    and hue as well, 15 ms with rotation and erasing on top of that; 0.8 ms for crop and colors from
    64x64 to 48x48 (one core).
    """
    draw = draw_augmentation(augmentation, Size(*pixels.shape[1:3]), spec, generator)
    if draw.horizontal_flip:
        label = swap_label(label, augmentation.horizontal_pairs, classes)
    if draw.vertical_flip:
        label = swap_label(label, augmentation.vertical_pairs, classes)
    if draw.time_reversal:
        label = swap_label(label, augmentation.reversal_pairs, classes)
    return vary(pixels, draw, spec, wrap=augmentation.shift_fill == "wrap"), label


def draw_augmentation(augmentation: Augmentation, size: Size, spec: InputSpec, generator: np.random.Generator) -> Draw:
    """Draw what happens to one clip of a picture of `size`.

    The same number of values is drawn whatever is switched on, the crop last: switching one variation on or off leaves
    the others as they were for the same generator. What needs more values, or fewer, draws from children of it.
    """
    chances = generator.random(3)
    shifts = generator.uniform(-1, 1, 2) * augmentation.shift
    strengths = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    uniform = generator.random(3)
    factors = [
        max(0.0, 1 - strength) + float(value) * (1 + strength - max(0.0, 1 - strength))
        for strength, value in zip(strengths, uniform, strict=True)
    ]
    later = float(generator.uniform(-1, 1)) * augmentation.time_shift
    least, greatest = (log(factor) for factor in augmentation.stretch)
    in_time, in_height, in_width = (exp(least + float(value) * (greatest - least)) for value in generator.random(3))
    draw = Draw(
        horizontal_flip=bool(chances[0] < augmentation.horizontal_flip),
        vertical_flip=bool(chances[1] < augmentation.vertical_flip),
        time_reversal=bool(chances[2] < augmentation.time_reversal),
        shift=(float(shifts[0]), float(shifts[1])),
        time_shift=later,
        stretch=(in_time, in_height, in_width),
        brightness=factors[0],
        contrast=factors[1],
        saturation=factors[2],
        crop=plan_crop(augmentation, size, spec, generator) if augmentation.crops else None,
    )
    return _draw_looks(draw, augmentation, spec, generator)


def _draw_looks(draw: Draw, augmentation: Augmentation, spec: InputSpec, generator: np.random.Generator) -> Draw:
    looks, operations, erasing = generator.spawn(3)
    hue, rotation, grayscale, blurs, sigma, colors = looks.random(6).tolist()
    low, high = augmentation.blur_sigma
    if colors >= augmentation.color_chance:
        draw, hue = replace(draw, brightness=1.0, contrast=1.0, saturation=1.0), 0.5
    return replace(
        draw,
        hue=(2 * hue - 1) * augmentation.hue,
        rotation=(2 * rotation - 1) * augmentation.rotation,
        grayscale=grayscale < augmentation.grayscale,
        operations=draw_operations(augmentation, Size(spec.height, spec.width), operations),
        blur_sigma=low + sigma * (high - low) if blurs < augmentation.blur else 0.0,
        erasure=draw_erasure(augmentation, spec, erasing),
        fill=augmentation.fill,
    )


def plan_crop(augmentation: Augmentation, size: Size, spec: InputSpec, generator: np.random.Generator) -> Box:
    """Draw a part of the picture: its area uniform in `crop_scale`, the logarithm of its shape uniform in `crop_ratio`.

    A ratio of 1 is the shape that evaluation shows undistorted: width over height of the model's picture where it
    crops, of the source where it stretches. For a square model this is torchvision's RandomResizedCrop, with the same
    ten attempts and the same middle crop when none of them fits.

    Source: Inception crops, arXiv 1409.4842, section 6; rounding of torchvision.transforms.v2.RandomResizedCrop.
    """
    shape = spec.width / spec.height if spec.fit == "crop" else size.width / size.height
    least, greatest = (ratio * shape for ratio in augmentation.crop_ratio)
    for _ in range(CROP_ATTEMPTS):
        area = size.height * size.width * generator.uniform(*augmentation.crop_scale)
        ratio = exp(generator.uniform(log(least), log(greatest)))
        height, width = round(sqrt(area / ratio)), round(sqrt(area * ratio))
        if 0 < height <= size.height and 0 < width <= size.width:
            top = int(generator.integers(size.height - height + 1))
            left = int(generator.integers(size.width - width + 1))
            return Box(top, left, height, width)
    height, width = size
    if width / height < least:
        height = max(1, round(width / least))
    elif width / height > greatest:
        width = max(1, round(height * greatest))
    return Box((size.height - height) // 2, (size.width - width) // 2, height, width)


def vary(pixels: Pixels, draw: Draw, spec: InputSpec, *, wrap: bool = False) -> UInt8[Tensor, "time h w channel2"]:
    """Carry out a draw: crop, turn and fit, mirror, reverse, stretch, shift, adjust colors, what a policy drew; hide.

    One draw varies several clips alike.

    Args:
        pixels: uint8 (time, height, width, channel); never written to.
        draw: what to do; its crop must lie inside the picture.
        spec: the size and channels to reach.
        wrap: shift on a torus instead of repeating the edge.
    """
    clip = _show_part(pixels, draw, spec)
    axes = [axis for axis, flips in enumerate((draw.time_reversal, draw.vertical_flip, draw.horizontal_flip)) if flips]
    if axes:
        clip = torch.flip(clip, axes)
    clip = stretch_clip(clip, draw.stretch)
    shares = (draw.time_shift, *draw.shift)
    later, down, right = (round(share * length) for share, length in zip(shares, clip.shape, strict=False))
    clip = shift_clip(clip, down, right, later=later, wrap=wrap)
    saturation = 0.0 if draw.grayscale else draw.saturation
    clip = adjust_color(clip, draw.brightness, draw.contrast, saturation, draw.hue)
    for operation in draw.operations:
        clip = apply_operation(clip, operation, draw.fill)
    if draw.blur_sigma:
        clip = blur(clip, draw.blur_sigma)
    return clip if draw.erasure is None else erase(clip, draw.erasure)


def _show_part(pixels: Pixels, draw: Draw, spec: InputSpec) -> UInt8[Tensor, "time h w channel2"]:
    """Fill the model's picture with the part that was drawn, turned as was drawn."""
    size, box = Size(spec.height, spec.width), draw.crop
    if box is None:
        clip, box = fit(pixels, spec), Box(0, 0, *size)
    else:
        clip = as_tensor(pixels)
    if draw.rotation:
        clip = crop_turned(clip, box, draw.rotation, size, draw.fill)
    else:
        clip = resize(clip[:, box.top : box.top + box.height, box.left : box.left + box.width], size)
    return fit_channels(clip, spec.channels)


def stretch_clip(
    clip: UInt8[Tensor, "time height width channel"], factors: tuple[float, float, float]
) -> UInt8[Tensor, "time height width channel"]:
    """Stretch a clip about its middle by a factor for time, height and width; sizes stay as they are.

    The nearest voxel is taken, so that voxels which are there or not stay so. Above 1 what reaches beyond the edge is
    lost; below 1 the edge is repeated.

    Example:
        >>> row = torch.tensor([0, 0, 7, 7, 0, 0], dtype=torch.uint8).reshape(1, 1, 6, 1)
        >>> stretch_clip(row, (1.0, 1.0, 2.0)).flatten().tolist()
        [0, 7, 7, 7, 7, 0]
    """
    for axis, factor in enumerate(factors):
        if factor != 1:
            length = clip.shape[axis]
            middle = (length - 1) / 2
            sources = ((torch.arange(length) - middle) / factor + middle).round_().to(torch.int64)
            clip = clip.index_select(axis, sources.clamp_(0, length - 1))
    return clip


def shift_clip(
    clip: UInt8[Tensor, "time height width channel"], down: int, right: int, *, later: int = 0, wrap: bool = False
) -> UInt8[Tensor, "time height width channel"]:
    """Move every frame by whole pixels, and the frames by whole places in time.

    What enters repeats the edge, or with `wrap` is what left at the other side.

    Example:
        >>> row = torch.tensor([[[[1], [2], [3]]]], dtype=torch.uint8)
        >>> shift_clip(row, 0, 1).flatten().tolist(), shift_clip(row, 0, 1, wrap=True).flatten().tolist()
        ([1, 1, 2], [3, 1, 2])
    """
    for axis, step in enumerate((later, down, right)):
        if step and wrap:
            clip = torch.roll(clip, step, axis)
        elif step:
            length = clip.shape[axis]
            clip = clip.index_select(axis, (torch.arange(length) - step).clamp_(0, length - 1))
    return clip
