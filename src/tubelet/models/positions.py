"""Tell tokens where they are on the grid of tubelets, at the size of training and at any other."""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tubelet.errors import ConfigError
from tubelet.shapes import Size3

__all__ = ["PositionStyle", "Positions", "Stretch", "fit_positions", "make_sinusoids"]

PositionStyle = Literal["learned", "sinusoidal_3d", "none"]
Stretch = Literal["linear", "nearest"]


def fit_positions(
    positions: Float[Tensor, "t h w dim"], size: Size3, stretch: Stretch = "linear"
) -> Float[Tensor, "t2 h2 w2 dim"]:
    """Stretch a grid of position vectors to another size, linearly along time, height and width.

    A constant grid stays constant; the same size gives the same numbers. Use it to run a model at another length or
    resolution, or to load weights of one into another.

    Args:
        positions: one vector per place of the old grid.
        size: places of the new grid along time, height and width.
        stretch: `linear`, or `nearest` to repeat or leave out vectors.
    """
    if tuple(positions.shape[:3]) == tuple(size):
        return positions
    volume = rearrange(positions, "t h w dim -> 1 dim t h w")
    mode = "trilinear" if stretch == "linear" else "nearest"
    return rearrange(F.interpolate(volume, size=tuple(size), mode=mode), "1 dim t h w -> t h w dim")


def make_sinusoids(size: Size3, dim: int) -> Float[Tensor, "t h w {dim}"]:
    """Return fixed position vectors: a third of the channels each for time, height and width, half sine, half cosine.

    Source: the `sinusoidal_3d` positions of the official ViViT; frequencies as in arXiv 1706.03762, section 3.5.
    """
    if dim % 6:
        raise ConfigError(f"position=sinusoidal_3d needs dim divisible by 6 - found {dim} - {dim // 6 * 6 or 6} is.")
    count = dim // 6
    frequencies = 10_000.0 ** (-torch.arange(count) / max(count - 1, 1))
    parts = []
    for axis, length in enumerate(size):
        angles = torch.arange(length)[:, None] * frequencies
        vectors = torch.cat([angles.sin(), angles.cos()], dim=1)
        place = [1, 1, 1, 2 * count]
        place[axis] = length
        parts.append(vectors.reshape(place).expand(*size, -1))
    return torch.cat(parts, dim=-1)


class Positions(nn.Module):
    """Add a vector to each token of a grid that says where the token is.

    An axis of length 1 is shared: positions of (1, h, w) say nothing about time.

    Args:
        size: places along time, height and width at training size.
        dim: length of a token.
        style: `learned`, fitted to other sizes by interpolation; `sinusoidal_3d`, computed for any size; `none`.
        token: hold a learned vector for a class token too; it is never stretched.
        stretch: how learned positions are fitted to other sizes.
    """

    grid: nn.Parameter | None
    token: nn.Parameter | None

    def __init__(
        self,
        size: Size3,
        dim: int,
        style: PositionStyle = "learned",
        *,
        token: bool = False,
        stretch: Stretch = "linear",
    ) -> None:
        super().__init__()
        self.stretch = stretch
        self.size = size
        self.dim = dim
        self.style = style
        learned = style == "learned"
        self.register_parameter("grid", nn.Parameter(torch.randn(*size, dim) * 0.02) if learned else None)
        self.register_parameter("token", nn.Parameter(torch.randn(dim) * 0.02) if learned and token else None)

    def forward(self, grid: Float[Tensor, "batch t h w dim"]) -> Float[Tensor, "batch t h w dim"]:
        """Add the positions, fitted to the grid at hand."""
        if self.style == "none":
            return grid
        t, h, w = (1 if own == 1 else found for own, found in zip(self.size, grid.shape[1:4], strict=True))
        size = Size3(t, h, w)
        if self.grid is None:
            return grid + make_sinusoids(size, self.dim).to(grid)
        return grid + fit_positions(self.grid, size, self.stretch)

    def place_token(self, token: Float[Tensor, " dim"]) -> Float[Tensor, " dim"]:
        """Add the class token's own position to it, where there is one."""
        return token if self.token is None else token + self.token
