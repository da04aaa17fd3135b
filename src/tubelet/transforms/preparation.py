"""Lead pixels to model input on the one road that training, evaluation, prediction and serving share.

    decoded pixels          fit                       normalize
    uint8 t h w c    ->     uint8 t height width c    ->    float b c t height width
    any size                scaled and cropped              0..1, mean, std, differences

`fit` runs where the clips are read, on uint8, so that little memory travels; `normalize` runs on the batch's device.
Features of frames take the same two steps as float32 clips of height and width 1, `fit_features` and `normalize`.
"""

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from tubelet.errors import DataError, VideoError
from tubelet.shapes import Box, Size
from tubelet.video.clip import Pixels
from tubelet.video.spec import InputSpec

__all__ = ["DIFFERENCE_GAIN", "as_tensor", "fit", "fit_channels", "fit_features", "normalize", "resize"]

LUMINANCE = (19595, 38470, 7471)
"""Weights of red, green and blue in 65536ths: ITU-R BT.601, rounded as Pillow rounds them for its mode L."""

DIFFERENCE_GAIN = 2.0
"""Frame differences are multiplied by this, so that their spread is near that of the pixels.

Measured on real clips at 16 frames each, as shares of the range: pixels have a standard deviation of 0.22 to 0.25,
differences a root mean square of 0.05 (a surveillance camera, frames 0.13 s apart) to 0.18 (whole clips of UCF101). It
is part of the contract with every checkpoint that was trained on differences: a change would make them all wrong.
"""


def fit(pixels: Pixels, spec: InputSpec, *, crop: int | None = None) -> UInt8[Tensor, "time height2 width2 channel2"]:
    """Bring a clip to the height, width and channels that a model takes.

    `spec.fit == "crop"` scales until the picture covers (height, width), or until its short side is `spec.short_side`,
    keeping its shape, and cuts the middle out;
    `"stretch"` scales both sides on their own. Scaling is bilinear with antialiasing, on uint8. A gray clip is
    repeated for a model of RGB; an RGB clip becomes luminance for a model of one channel.

    Args:
        pixels: uint8 (time, height, width, channel) of any size.
        spec: the model's contract; `frames` is not looked at, since clips may be longer or shorter.
        crop: which of three crops along the longer side, 0 (left or top) to 2, where `spec.convention` has them; None
            cuts the middle out. Stretched clips have no other.

    Returns:
        uint8 (time, `spec.height`, `spec.width`, `spec.channels`). Where size and channels are right already, it
        shares memory with `pixels`, unless those are read-only.

    Raises:
        VideoError: the clip is empty, or has a number of channels that cannot be made into the model's.

    Example:
        >>> import numpy as np
        >>> fit(np.zeros((16, 240, 320, 3), np.uint8), InputSpec(height=112, width=112)).shape
        torch.Size([16, 112, 112, 3])

    Cost: 2 ms for 16 frames of 240x320 to 224x224 on one core.
    """
    clip = as_tensor(pixels)
    if clip.shape[-1] > spec.channels:
        clip = fit_channels(clip, spec.channels)  # first, so that fewer values are scaled
    target = Size(spec.height, spec.width)
    cover = Size(spec.short_side, spec.short_side) if spec.short_side else target
    scaled = _plan_cover(Size(*clip.shape[1:3]), cover) if spec.fit == "crop" else target
    corner = _find_middle(scaled, target) if crop is None else _find_crop(scaled, target, crop, spec.convention)
    part = resize(clip, scaled)[:, corner.top : corner.top + corner.height, corner.left : corner.left + corner.width]
    return fit_channels(part, spec.channels)


def fit_features(rows: Float32[np.ndarray, "time feature"], spec: InputSpec) -> Float32[Tensor, "time 1 1 feature"]:
    """Bring the features of a clip's frames to the form of a clip of height and width 1; nothing is scaled.

    Raises:
        DataError: no frame, or another number of features than the model takes.
    """
    if len(rows) == 0 or rows.shape[1] != spec.channels:
        raise DataError(
            f"the model takes {spec.channels} features a frame - found (time, feature) {rows.shape} - compute them "
            "with the network that the model was trained on."
        )
    return torch.from_numpy(rows.copy())[:, None, None]  # rows backward have strides that torch does not know


def as_tensor(pixels: Pixels) -> UInt8[Tensor, "time height width channel"]:
    """Hand a clip to torch, sharing its memory where that is safe: read-only and reversed arrays are copied.

    Raises:
        VideoError: the clip holds no pixel.
    """
    if pixels.size == 0:
        raise VideoError(
            f"a clip needs at least one frame and one pixel - found (time, height, width, channel) {pixels.shape} - "
            "check the source and the span that was asked for."
        )
    if not pixels.flags.writeable or min(pixels.strides) < 0:
        pixels = pixels.copy()
    return torch.from_numpy(pixels)


def fit_channels(
    clip: UInt8[Tensor, "time height width channel"], channels: int
) -> UInt8[Tensor, "time height width channel2"]:
    """Repeat gray for a model of many channels, or weigh RGB into luminance for a model of one.

    Raises:
        VideoError: any other difference, since nobody knows which channel is which.
    """
    found = clip.shape[-1]
    if found == channels:
        return clip
    if found == 1:
        return repeat(clip, "t h w 1 -> t h w channel", channel=channels)
    if (found, channels) == (3, 1):
        red, green, blue = LUMINANCE
        gray = clip[..., :1].to(torch.int32).mul_(red)
        gray.add_(clip[..., 1:2], alpha=green).add_(clip[..., 2:], alpha=blue)
        return gray.add_(1 << 15).bitwise_right_shift_(16).to(torch.uint8)
    raise VideoError(
        f"the model takes clips of {channels} channels - this one has {found} - gray can be repeated and RGB made "
        f"gray, nothing else: choose the channels yourself, or train a model with input.channels {found}."
    )


def resize(
    clip: UInt8[Tensor, "time height width channel"], size: Size
) -> UInt8[Tensor, "time height2 width2 channel"]:
    """Scale every frame to `size` in pixels, bilinear with antialiasing; a clip of that size comes back as it is."""
    if Size(*clip.shape[1:3]) == size:
        return clip
    # The view with channels second has the memory layout for which torch interpolates uint8 directly.
    planes = rearrange(clip, "t h w c -> t c h w")
    scaled = interpolate(planes, size=tuple(size), mode="bilinear", antialias=True)
    return rearrange(scaled, "t c h w -> t h w c")


def normalize(
    batch: UInt8[Tensor, "batch time height width channel"] | Float32[Tensor, "batch time height width channel"],
    spec: InputSpec,
) -> Float[Tensor, "batch channel2 time height width"]:
    """Scale values to 0..1, subtract the mean, divide by the deviation, and put channels before time.

    With `spec.differences`, each frame's change from the frame before is given beside the pixels (`append`) or instead
    of them (`only`): d[t] = `DIFFERENCE_GAIN` * (x[t] - x[t-1]) of normalized frames, d[0] = 0. The mean cancels in it,
    the deviation stays.

    Args:
        batch: uint8 clips, as `fit` returns them, or float32 ones of `fit_features`, stacked; on any device.
        spec: the model's contract.

    Returns:
        float32 (batch, `spec.input_channels`, time, height, width), contiguous, on the batch's device.

    Raises:
        VideoError: the batch does not have `spec.channels` channels, or is not of `spec.kind`.

    Example:
        >>> normalize(torch.full((1, 2, 4, 4, 3), 255, dtype=torch.uint8), InputSpec()).unique()
        tensor([1.])

    Cost: 5 ms for each clip of 16 frames at 224x224, 12 ms with differences appended (one core).
    """
    channels = batch.shape[-1]
    if channels != spec.channels:
        raise VideoError(
            f"the model takes clips of {spec.channels} channels - the batch has {channels} - call fit first."
        )
    found = "features" if batch.is_floating_point() else "pixels"
    if found != spec.kind:
        raise VideoError(f"the model takes {spec.kind} - the batch holds {found} - give {spec.kind}.")
    if spec.kind == "features":
        return _standardize(batch, spec)
    shape = (len(batch), spec.input_channels, *batch.shape[1:4])
    output = torch.empty(shape, dtype=torch.float32, device=batch.device)
    means, stds = spec.mean * (channels // len(spec.mean)), spec.std * (channels // len(spec.std))
    for channel, (mean, std) in enumerate(zip(means, stds, strict=True)):
        plane = batch[..., channel]
        if spec.differences != "only":
            torch.mul(plane, 1 / (255 * std), out=output[:, channel]).sub_(mean / std)
        if spec.differences != "none":
            _subtract_frames(plane, DIFFERENCE_GAIN / (255 * std), output[:, channel - channels])
    return output


def _standardize(
    batch: Float32[Tensor, "batch time height width channel"], spec: InputSpec
) -> Float32[Tensor, "batch channel time height width"]:
    """Subtract the mean of features and divide by their deviation, in their own unit."""
    if spec.mean:
        batch = (batch - batch.new_tensor(spec.mean)) / batch.new_tensor(spec.std)
    return rearrange(batch, "b t h w c -> b c t h w").contiguous()


def _subtract_frames(
    plane: UInt8[Tensor, "batch time height width"], scale: float, output: Float[Tensor, "batch time height width"]
) -> None:
    """Write `scale` times each frame's change from the one before into `output`, and 0 for the first frame."""
    output[:, 0] = 0
    later = plane[:, 1:].to(torch.int16)
    torch.mul(later.sub_(plane[:, :-1]), scale, out=output[:, 1:])


def _plan_cover(size: Size, target: Size) -> Size:
    """Return the least size of the same shape that covers `target`; the longer side is cut to whole pixels."""
    if target.height * size.width >= target.width * size.height:
        return Size(target.height, size.width * target.height // size.height)
    return Size(size.height * target.width // size.width, target.width)


def _find_middle(size: Size, target: Size) -> Box:
    """Find the middle; halves are rounded to even, as torchvision's CenterCrop does."""
    return Box(round((size.height - target.height) / 2), round((size.width - target.width) / 2), *target)


def _find_crop(size: Size, target: Size, crop: int, convention: str) -> Box:
    """Find one of three crops along the side that is longer by more; across it, the crop lies in the middle.

    Source: the offsets of SlowFast (scenic's and TimeSformer's, too), of VideoMAE, and of MMAction2, whose last crop
    ends a pixel early where an odd number is left over.
    """
    spare = Size(size.height - target.height, size.width - target.width)
    top, left = (_place_crops(gap, convention) for gap in spare)
    return Box(top[crop], left[1], *target) if spare.height > spare.width else Box(top[1], left[crop], *target)


def _place_crops(gap: int, convention: str) -> tuple[int, int, int]:
    if convention in ("slowfast", "dmvr"):
        return 0, -(-gap // 2), gap
    return 0, gap // 2, gap if convention == "videomae" else gap // 2 * 2
