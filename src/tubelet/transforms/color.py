"""Vary the colors of whole uint8 clips: by one matrix for each clip, or by a table of what becomes of each value."""

import numpy as np
import torch
from jaxtyping import Float64, Num, UInt8
from torch import Tensor

from tubelet.transforms.portions import map_portions

__all__ = ["adjust_color", "look_up", "measure_luminance"]

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue: ITU-R BT.601."""

TO_YIQ = np.array([LUMINANCE, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
"""Luminance, and two axes of color around which hues turn: NTSC's YIQ."""


def adjust_color(
    clip: UInt8[Tensor, "time height width channel"],
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
) -> UInt8[Tensor, "time height width channel"]:
    """Turn the hue, multiply saturation, contrast and brightness, the same for all frames, rounding and clipping once.

        turned     = x with its colors turned around the gray axis
        saturated  = gray + saturation * (turned - gray)      gray: this pixel's luminance
        contrasted = mean + contrast * (saturated - mean)     mean: the clip's mean luminance, so that nothing flickers
        bright     = brightness * contrasted

    All of it is one 3x4 matrix. The turn is one of YIQ's color plane: it keeps the luminance, which the usual turn in
    HSV does not.

    Args:
        clip: uint8 (time, height, width, channel).
        brightness: factor; 1 changes nothing, 0 is black.
        contrast: factor; 1 changes nothing, 0 is one gray.
        saturation: factor; 1 changes nothing, 0 is gray; without effect unless there are three channels.
        hue: part of a whole turn, from red over yellow to green; without effect unless there are three channels.

    Returns:
        A new clip, or the same one where nothing changes.

    Cost: 1.5 ms for 16 frames of 224x224 RGB, 6 ms with saturation or hue (one core).
    """
    has_matrix = (saturation != 1 or hue != 0) and clip.shape[-1] == 3
    if brightness == contrast == 1 and not has_matrix:
        return clip
    mean = measure_luminance(clip) if contrast != 1 else 0.0
    offset = brightness * (1 - contrast) * mean
    if not has_matrix:
        return look_up(clip, np.arange(256) * (brightness * contrast) + offset)
    matrix = saturation * np.eye(3) + (1 - saturation) * np.tile(LUMINANCE, (3, 1))
    matrix = brightness * contrast * matrix @ _turn_hue(hue)
    weights = torch.from_numpy(matrix.T).float()

    def adjust(portion: Tensor) -> Tensor:
        values = portion.to(torch.float32, memory_format=torch.contiguous_format) @ weights
        return values.add_(offset).round_().clamp_(0, 255).to(torch.uint8)

    return map_portions(adjust, clip)


def _turn_hue(hue: float) -> Float64[np.ndarray, "3 3"]:
    angle = -2 * np.pi * hue
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix: Float64[np.ndarray, "3 3"] = np.linalg.solve(TO_YIQ, turn @ TO_YIQ)
    return matrix


def measure_luminance(clip: UInt8[Tensor, "time height width channel"]) -> float:
    """Return the clip's mean luminance in 0..255: of RGB by BT.601, of anything else the plain mean."""
    channels = clip.shape[-1]
    # Summing long rows first is many times faster than summing pixels of three values, and NumPy than torch.
    rows = clip.numpy().reshape(-1, clip.shape[2] * channels).sum(0, dtype=np.uint32)
    means = rows.reshape(-1, channels).sum(0, dtype=np.float64) / (clip.numel() / channels)
    return float(means @ LUMINANCE) if channels == 3 else float(means.mean())


def look_up(
    clip: UInt8[Tensor, "time height width channel"], table: Num[np.ndarray, " 256"] | Num[np.ndarray, "channel 256"]
) -> UInt8[Tensor, "time height width channel"]:
    """Replace every value by its entry in a table of 256, one for all channels or one for each; entries are rounded.

    `bytes.translate` does so faster than any array library.
    """
    entries = np.clip(np.rint(table), 0, 255).astype(np.uint8)
    if table.ndim == 1:
        found = bytearray(clip.numpy().data).translate(entries.tobytes())
        return torch.frombuffer(found, dtype=torch.uint8).reshape(clip.shape)
    output = torch.empty_like(clip, memory_format=torch.contiguous_format)
    for channel, row in enumerate(entries):
        found = bytearray(clip[..., channel].contiguous().numpy().data).translate(row.tobytes())
        output[..., channel] = torch.frombuffer(found, dtype=torch.uint8).reshape(clip.shape[:3])
    return output
