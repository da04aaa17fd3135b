"""Vary brightness, contrast and saturation of whole uint8 clips."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

__all__ = ["adjust_color", "measure_luminance"]

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue: ITU-R BT.601."""


def adjust_color(
    clip: UInt8[Tensor, "time height width channel"],
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
) -> UInt8[Tensor, "time height width channel"]:
    """Multiply saturation, then contrast, then brightness, the same for all frames, rounding and clipping once.

        saturated  = gray + saturation * (x - gray)           gray: this pixel's luminance
        contrasted = mean + contrast * (saturated - mean)     mean: the clip's mean luminance, so that nothing flickers
        bright     = brightness * contrasted

    Args:
        clip: uint8 (time, height, width, channel).
        brightness: factor; 1 changes nothing, 0 is black.
        contrast: factor; 1 changes nothing, 0 is one gray.
        saturation: factor; 1 changes nothing, 0 is gray; without effect unless there are three channels.

    Returns:
        A new clip, or the same one where all factors are 1.

    Cost: 1.5 ms for 16 frames of 224x224 RGB, 6 ms with saturation (one core).
    """
    saturates = saturation != 1 and clip.shape[-1] == 3
    if brightness == contrast == 1 and not saturates:
        return clip
    mean = measure_luminance(clip) if contrast != 1 else 0.0
    offset = brightness * (1 - contrast) * mean
    if not saturates:
        return _look_up(clip, np.arange(256) * (brightness * contrast) + offset)
    gain = brightness * contrast * saturation
    shared = torch.zeros(clip.shape[:3])
    for channel, weight in enumerate(LUMINANCE):
        shared.add_(clip[..., channel], alpha=weight * brightness * contrast * (1 - saturation))
    shared.add_(offset)
    output = torch.empty_like(clip, memory_format=torch.contiguous_format)
    for channel in range(3):
        output[..., channel] = torch.add(shared, clip[..., channel], alpha=gain).round_().clamp_(0, 255)
    return output


def measure_luminance(clip: UInt8[Tensor, "time height width channel"]) -> float:
    """Return the clip's mean luminance in 0..255: of RGB by BT.601, of anything else the plain mean."""
    channels = clip.shape[-1]
    # Summing long rows first is six times faster than summing pixels of three values.
    rows = clip.reshape(-1, clip.shape[2] * channels).sum(0, dtype=torch.int64)
    means = rows.reshape(-1, channels).sum(0).double() / (clip.numel() / channels)
    return float(means @ torch.tensor(LUMINANCE, dtype=torch.float64)) if channels == 3 else float(means.mean())


def _look_up(
    clip: UInt8[Tensor, "time height width channel"], table: np.ndarray
) -> UInt8[Tensor, "time height width channel"]:
    """Replace every value by its entry in a table of 256; `bytes.translate` does so faster than any array library."""
    entries = np.clip(np.rint(table), 0, 255).astype(np.uint8).tobytes()
    looked_up = bytearray(clip.numpy().data).translate(entries)
    return torch.frombuffer(looked_up, dtype=torch.uint8).reshape(clip.shape)
