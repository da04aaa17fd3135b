"""Spend fewer tokens on a clip: keep the tubelets that change most, leave the others out of the blocks.

    grid --rate by change--> rows --take the most changing--> [ blocks ] --put back--> grid, zeros where left out

Neighboring frames are alike, and what stands still says little that one moment has not said already. The rest costs
nothing in the blocks, whose cost is nearly all of the model's. No training is needed: attention and means take rows of
any length.

Choose it where clips are many and the camera stands; where the camera moves everything changes, and what is kept says
little about what matters. On synthetic motions a joint nano model lost nothing at half of its tokens, and merging
tokens between blocks (arXiv 2210.09461) was as accurate at equal speed, if better at equal numbers of tokens. Tubelets
kept by lot lost most. The comparison is `benchmarks/token_budget.py`. Where rows are single moments (`"h w"`) each
moment keeps the same share, which loses more at small shares.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from tubelet.models.blocks import Axes, to_rows

__all__ = ["choose_tokens", "pick", "put_back", "rate_change"]


def rate_change(grid: Float[Tensor, "batch t h w dim"]) -> Float[Tensor, "batch t h w"]:
    """Rate each embedded tubelet by its squared distance from the one before it in time.

    Those of the first moment are rated like those of the second; where there is one moment only, by their distance from
    the mean of the picture.

    Args:
        grid: tokens before positions are added.
    """
    exact = grid.detach().float()
    if grid.shape[1] == 1:
        return (exact - exact.mean(dim=(2, 3), keepdim=True)).square().mean(dim=-1)
    change = (exact[:, 1:] - exact[:, :-1]).square().mean(dim=-1)
    return torch.cat([change[:, :1], change], dim=1)


def choose_tokens(axes: Axes, grid: Float[Tensor, "batch t h w dim"], share: float) -> Int[Tensor, "row kept"] | None:
    """Choose the tokens of each row along `axes` that change most, in the order of the row; at least one.

    Args:
        axes: the axes whose tokens share a row.
        grid: tokens before positions are added.
        share: of the tokens in a row; None is returned for 1, which `pick` and `put_back` take for all.

    Example:
        >>> grid = torch.tensor([0.0, 0.0, 5.0, 1.0]).reshape(1, 2, 1, 2, 1)
        >>> choose_tokens("t h w", grid, 0.5)
        tensor([[0, 2]])
    """
    if share == 1:
        return None
    rates = rearrange(to_rows(axes, rate_change(grid)[..., None]), "row token 1 -> row token")
    count = max(round(share * rates.shape[1]), 1)
    return rates.topk(count, dim=1).indices.sort(dim=1).values


def pick(rows: Float[Tensor, "row token dim"], index: Int[Tensor, "row some"] | None) -> Float[Tensor, "row some dim"]:
    """Take the tokens of each row that `index` names, in its order; all where None."""
    return rows if index is None else rows.gather(1, index[..., None].expand(-1, -1, rows.shape[2]))


def put_back(
    rows: Float[Tensor, "row some dim"], index: Int[Tensor, "row some"] | None, count: int
) -> Float[Tensor, "row {count} dim"]:
    """Put picked tokens back to their places in rows of `count`, with zeros in the others."""
    if index is None:
        return rows
    empty = rows.new_zeros(rows.shape[0], count, rows.shape[2])
    return empty.scatter(1, index[..., None].expand(-1, -1, rows.shape[2]), rows)
