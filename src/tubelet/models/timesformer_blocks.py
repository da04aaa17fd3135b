"""Run TimeSformer's blocks of several steps: which patches share a row in each, and how the class token takes part.

    divided        "time": attend, project | "space": attend | MLP
    axial          "time": attend, project | "width": attend, project | "height": attend | MLP
    local_global   "local": attend, project | "strided": attend | MLP

    local: windows at all times         strided: every second patch along each axis

        A A A B B                           0 1 0 1 0
        A A A B B                           2 3 2 3 2
        A A A B B                           0 1 0 1 0       at even times; at odd ones 4 to 7
        C C C D D                           2 3 2 3 2
        C C C D D                           0 1 0 1 0

Patches of one letter or one number share a row. Every step but the last sees patches alone, and has a projection of its
own that can start at zero. In the last the class token is lent to every row; what the rows tell it is averaged.
"""

from collections.abc import Callable, Sequence
from itertools import groupby, product
from typing import cast

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from tubelet.models.blocks import Attention, Axes, BlockShape, DropPath, Mlp, to_grid, to_rows
from tubelet.shapes import Size3

__all__ = ["Piece", "SteppedBlock", "cut_strided", "cut_windows", "over_axes", "over_pieces"]

Piece = tuple[slice, slice, slice]
"""Which times, heights and widths of a grid share a row."""
Attend = Callable[[Tensor], Tensor]

_AXES: dict[str, Axes] = {"time": "t", "space": "h w", "width": "w", "height": "h"}


def cut_windows(size: Size3) -> list[Piece]:
    """Cut a grid into four windows at all times, each half as high and half as wide.

    Where a side is odd the first half is the longer; a side of one patch is not cut.

    Example:
        >>> [height for _, height, _ in cut_windows(Size3(8, 3, 1))]
        [slice(0, 2, None), slice(2, 3, None)]
    """
    halves = [[slice(0, (side + 1) // 2), slice((side + 1) // 2, side)][: min(side, 2)] for side in (size.h, size.w)]
    return [(slice(0, size.t), height, width) for height, width in product(*halves)]


def cut_strided(size: Size3) -> list[Piece]:
    """Cut a grid into eight of every second patch along time, height and width, from the first or from the second.

    Where an axis is odd those from its first patch are one longer; an axis of one patch is not cut.

    Example:
        >>> [time for time, _, _ in cut_strided(Size3(5, 1, 1))]
        [slice(0, 5, 2), slice(1, 5, 2)]
    """
    times, heights, widths = ([slice(first, side, 2) for first in range(min(side, 2))] for side in size)
    return list(product(times, heights, widths))


def over_axes(
    axes: Axes, attend: Attend, grid: Float[Tensor, "batch t h w dim"], token: Float[Tensor, "batch 1 dim"] | None
) -> tuple[Float[Tensor, "batch 1 dim"] | None, Float[Tensor, "batch t h w dim"]]:
    """Run attention over rows of patches along `axes`, each with the clip's token before it where there is one.

    Returns:
        The mean over rows of what they give for the token, and the grid of what they give for the patches.
    """
    rows, size = to_rows(axes, grid), Size3(*grid.shape[1:4])
    if token is None:
        return None, to_grid(axes, attend(rows), size)
    count = size.t * size.h * size.w // rows.shape[1]
    rows = attend(torch.cat([repeat(token, "b 1 dim -> (b row) 1 dim", row=count), rows], dim=1))
    told = reduce(rows[:, :1], "(b row) 1 dim -> b 1 dim", "mean", row=count)
    return told, to_grid(axes, rows[:, 1:], size)


def over_pieces(
    pieces: Sequence[Piece],
    attend: Attend,
    grid: Float[Tensor, "batch t h w dim"],
    token: Float[Tensor, "batch 1 dim"] | None,
) -> tuple[Float[Tensor, "batch 1 dim"] | None, Float[Tensor, "batch t h w dim"]]:
    """Run attention over rows that are pieces of a grid, each with the clip's token before it where there is one.

    Pieces of one size run together: one call where all axes are even.

    Args:
        pieces: each patch in exactly one of them.
        attend: from rows to rows of the same shape.
        grid: the patches.
        token: lent to each piece; the mean of what they give for it counts each piece alike, whatever its size.

    Returns:
        What the pieces give for the token, and for the patches, each in its place.
    """
    found: list[tuple[Piece, Tensor]] = []
    told: list[Tensor] = []
    for size, group in groupby(sorted(pieces, key=_measure), _measure):
        alike = list(group)
        rows = rearrange(torch.stack([grid[:, t, h, w] for t, h, w in alike]), "p b t h w d -> (p b) (t h w) d")
        if token is not None:
            rows = torch.cat([repeat(token, "b 1 d -> (p b) 1 d", p=len(alike)), rows], dim=1)
        rows = attend(rows)
        if token is not None:
            told.append(rearrange(rows[:, 0], "(p b) d -> p b d", p=len(alike)))
            rows = rows[:, 1:]
        parts = rearrange(rows, "(p b) (t h w) d -> p b t h w d", p=len(alike), **size._asdict())
        found += zip(alike, parts.unbind(0), strict=True)
    mixed = found[0][1].new_empty(grid.shape)
    for (t, h, w), part in found:
        mixed[:, t, h, w] = part
    return (reduce(torch.cat(told), "p b d -> b 1 d", "mean") if told else None), mixed


def _measure(piece: Piece) -> Size3:
    """Count the patches of a piece along each axis."""
    t, h, w = (len(range(part.start, part.stop, part.step or 1)) for part in piece)
    return Size3(t, h, w)


class SteppedBlock(nn.Module):
    """Attend step by step, each among other patches, then transform each token.

    While training, drop-path leaves out what single rows of a step (places, moments, pieces) or whole clips (MLP)
    learn; the branches of all steps but the last are dropped before their projection, whose bias stays.

    Args:
        shape: sizes of the block.
        steps: which patches share a row: `time`, `space`, `width`, `height`, `local` or `strided`; each has attention
            of its own under that name, and all but the last a `<step>_project`.
        drop_path: share of rows that skip each residual branch while training.

    Source: arXiv 2102.05095, section 3: divided space-time, sparse local global, and axial attention.
    """

    def __init__(self, shape: BlockShape, steps: Sequence[str], drop_path: float = 0.0) -> None:
        super().__init__()
        *self.early, self.last = steps
        for step in self.early:
            self.add_module(step, Attention(shape))
            self.add_module(f"{step}_project", nn.Linear(shape.dim, shape.dim))
        self.add_module(self.last, Attention(shape))
        self.mlp = Mlp(shape)
        self.drop_path = DropPath(drop_path, rescale=shape.rescale_paths)

    def forward(self, rows: Float[Tensor, "batch token dim"], size: Size3) -> Float[Tensor, "batch token dim"]:
        """Return rows of the same shape: the class token, then the patches of a grid of `size`."""
        token, grid = rows[:, :1], to_grid("t h w", rows[:, 1:], size)
        for step in self.early:
            _, branch = self._attend(step, grid, None)
            grid = grid + self.get_submodule(f"{step}_project")(branch)
        told, branch = self._attend(self.last, grid, token)
        mixed = torch.cat([token + cast(Tensor, told), to_rows("t h w", grid + branch)], dim=1)
        transformed: Tensor = mixed + self.drop_path(self.mlp(mixed))
        return transformed

    def _attend(self, step: str, grid: Tensor, token: Tensor | None) -> tuple[Tensor | None, Tensor]:
        attention, size = self.get_submodule(step), Size3(*grid.shape[1:4])

        def attend(rows: Tensor) -> Tensor:
            branch: Tensor = self.drop_path(attention(rows))
            return branch

        if step in _AXES:
            return over_axes(_AXES[step], attend, grid, token)
        return over_pieces(cut_windows(size) if step == "local" else cut_strided(size), attend, grid, token)
