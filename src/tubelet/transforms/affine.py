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
from tubelet.transforms.portions import map_portions
from tubelet.transforms.preparation import resize

__all__ = ["Matrix", "crop_turned", "plan_affine", "warp"]

ALIASES_BELOW = 0.8
"""Scale below which a bilinear sample leaves out so much that it needs antialiasing."""

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

    Cost: 9 ms for 16 frames of 224x224 RGB (one core).
    """
    height, width = clip.shape[1:3]
    # grid_sample counts from -1 to 1 from edge to edge, in the result and in the source.
    from_unit = np.array([[size.width / 2, 0, size.width / 2], [0, size.height / 2, size.height / 2], [0, 0, 1]])
    to_unit = np.array([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])
    theta = torch.from_numpy((to_unit @ matrix @ from_unit)[None, :2]).float()
    grid = affine_grid(theta, [1, 1, *size], align_corners=False)

    def sample(portion: Tensor) -> Tensor:
        values = portion.to(torch.float32, memory_format=torch.contiguous_format)
        planes = rearrange(values.sub_(fill) if fill else values, "t h w c -> t c h w")
        found = grid_sample(planes, grid.expand(len(portion), -1, -1, -1), mode="bilinear", align_corners=False)
        found = (found.add_(fill) if fill else found).round_().to(torch.uint8)
        return torch.stack(found.unbind(1), dim=-1)  # three times faster than a copy of the rearranged view

    return map_portions(sample, clip)


def crop_turned(
    clip: UInt8[Tensor, "time height width channel"], box: Box, angle: float, size: Size, fill: int = 0
) -> UInt8[Tensor, "time height2 width2 channel"]:
    """Scale a part of the picture to `size` and turn it around its middle, as one step.

    What a turn brings in lies beside the box; `fill` enters only where the picture ends. Where the box shrinks by more
    than a fifth, what is needed of the picture is scaled with antialiasing first.

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
    rows, columns = size.height / box.height, size.width / box.width
    shrunk = Size(bottom - top, right - left)
    if min(rows, columns) < ALIASES_BELOW:
        shrunk = Size(max(1, round(shrunk.height * min(1.0, rows))), max(1, round(shrunk.width * min(1.0, columns))))
    x, y = shrunk.width / (right - left), shrunk.height / (bottom - top)
    into_part = np.array([[x, 0, -left * x], [0, y, -top * y], [0, 0, 1]])
    return warp(resize(source, shrunk), into_part @ matrix, size, fill)
