"""Turn, shear, move and crop whole uint8 clips by one bilinear resampling.

A transform is stated by where each pixel of the result comes from: a 3x3 matrix that leads from a place (x, y, 1) in
the result to a place in the source, in pixels, the middle of the first pixel at (0.5, 0.5).
"""

import math

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float64, UInt8
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from tubelet.shapes import Box, Size
from tubelet.transforms.preparation import resize

__all__ = ["Matrix", "crop_turned", "plan_affine", "warp"]

Matrix = Float64[np.ndarray, "3 3"]


def plan_affine(
    size: Size,
    angle: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    shear: tuple[float, float] = (0.0, 0.0),
    center: tuple[float, float] | None = None,
) -> Matrix:
    """Make the matrix of a turn, a shear, a scaling and a move.

    Args:
        size: of the picture.
        angle: degrees, clockwise.
        shift: pixels to the right, and down.
        scale: factor on lengths.
        shear: degrees, of the columns (x) and of the rows (y).
        center: the place (x, y) that stays; the middle of the picture where none is given.

    Source: torchvision.transforms.v2.functional.affine, the same conventions.
    """
    x, y = center if center is not None else (size.width / 2, size.height / 2)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    shear_x, shear_y = (math.tan(math.radians(degrees)) for degrees in shear)
    turned = np.array([[cos, -sin], [sin, cos]]) @ [[1, 0], [-shear_y, 1]] @ [[1, -shear_x], [0, 1]] * scale
    forward = np.eye(3)
    forward[:2, :2] = turned
    forward[:2, 2] = np.array([x + shift[0], y + shift[1]]) - turned @ [x, y]
    matrix: Matrix = np.linalg.inv(forward)
    return matrix


def warp(
    clip: UInt8[Tensor, "time height width channel"], matrix: Matrix, size: Size, fill: int = 0
) -> UInt8[Tensor, "time height2 width2 channel"]:
    """Fill a picture of `size` from where the matrix leads, bilinear; what lies outside the source is `fill`.

    Cost: 6 ms for 16 frames of 224x224 RGB (one core).
    """
    time, height, width, _ = clip.shape
    # grid_sample counts from -1 to 1 from edge to edge, in the result and in the source.
    from_unit = np.array([[size.width / 2, 0, size.width / 2], [0, size.height / 2, size.height / 2], [0, 0, 1]])
    to_unit = np.array([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])
    theta = torch.from_numpy((to_unit @ matrix @ from_unit)[None, :2]).float()
    grid = affine_grid(theta, [1, 1, *size], align_corners=False).expand(time, -1, -1, -1)
    planes = rearrange(clip, "t h w c -> t c h w").float()  # its channels stay last in memory: three times faster
    found = grid_sample(planes.sub_(fill) if fill else planes, grid, mode="bilinear", align_corners=False)
    found = found.add_(fill) if fill else found
    return rearrange(found.round_().clamp_(0, 255).to(torch.uint8), "t c h w -> t h w c").contiguous()


def crop_turned(
    clip: UInt8[Tensor, "time height width channel"], box: Box, angle: float, size: Size, fill: int = 0
) -> UInt8[Tensor, "time height2 width2 channel"]:
    """Scale a part of the picture to `size` and turn it around its middle, as one step.

    What a turn brings in lies beside the box; `fill` enters only where the picture ends. Where the box shrinks, what is
    needed of the picture is scaled with antialiasing first.

    Args:
        clip: uint8 (time, height, width, channel).
        box: the part to show.
        angle: degrees, clockwise.
        size: of the result.
        fill: gray level, 0..255.
    """
    part = np.array([[box.width / size.width, 0, box.left], [0, box.height / size.height, box.top], [0, 0, 1]])
    matrix = part @ plan_affine(size, angle)
    corners = (matrix @ [[0, size.width, 0, size.width], [0, 0, size.height, size.height], [1, 1, 1, 1]])[:2]
    ends = np.array([clip.shape[2], clip.shape[1]])
    left, top = np.clip(np.floor(corners.min(1)).astype(int) - 1, 0, ends - 1).tolist()
    right, bottom = np.clip(np.ceil(corners.max(1)).astype(int) + 1, 1, ends).tolist()
    source = clip[:, top:bottom, left:right]
    shrunk = Size(
        max(1, round((bottom - top) * min(1.0, size.height / box.height))),
        max(1, round((right - left) * min(1.0, size.width / box.width))),
    )
    x, y = shrunk.width / (right - left), shrunk.height / (bottom - top)
    into_part = np.array([[x, 0, -left * x], [0, y, -top * y], [0, 0, 1]])
    return warp(resize(source, shrunk), into_part @ matrix, size, fill)
