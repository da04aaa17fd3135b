"""The parts that transformers for video are made of, and the one way in which they are combined.

    grid (batch, t, h, w, dim)      over("t h w", block, grid)   one row of t*h*w tokens per clip
                                    over("h w",   block, grid)   one row of h*w tokens per moment
                                    over("t",     block, grid)   one row of t tokens per place
                                    over("w",     block, grid)   one row of w tokens per moment and height; "h" alike

A block maps rows of tokens to rows of tokens; `over` says which tokens share a row and so can see each other.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tubelet.models.attention import attend
from tubelet.shapes import Size3

__all__ = [
    "LAYER_NORM_EPS",
    "Attention",
    "Axes",
    "Block",
    "BlockShape",
    "DropPath",
    "FactorizedAttentionBlock",
    "FactorizedDotProductAttention",
    "FactorizedDotProductBlock",
    "Mlp",
    "QueryValueLinear",
    "Stack",
    "TubeletEmbedding",
    "initialize",
    "over",
    "plan_drop_path",
    "to_grid",
    "to_rows",
]

LAYER_NORM_EPS = 1e-6
"""Added to the variance in every layer norm; the official models' value, not torch's."""

Axes = Literal["t", "h", "w", "h w", "t h w"]

_REST: dict[Axes, str] = {"t": "b h w", "h": "b t w", "w": "b t h", "h w": "b t", "t h w": "b"}


def to_rows(axes: Axes, grid: Float[Tensor, "batch t h w dim"]) -> Float[Tensor, "row token dim"]:
    """Lay a grid out in rows of the tokens that lie along `axes`."""
    return rearrange(grid, f"b t h w d -> ({_REST[axes]}) ({axes}) d")


def to_grid(axes: Axes, rows: Float[Tensor, "row token dim"], size: Size3) -> Float[Tensor, "batch t h w dim"]:
    """Put rows that `to_rows` made back on the grid of `size`."""
    return rearrange(rows, f"({_REST[axes]}) ({axes}) d -> b t h w d", **_sizes(size))


def over(
    axes: Axes, block: Callable[[Tensor], Tensor], grid: Float[Tensor, "batch t h w dim"]
) -> Float[Tensor, "batch t h w dim"]:
    """Run a block over rows of the tokens that lie along `axes` of a grid.

    Example:
        >>> grid = torch.arange(8.0).reshape(1, 2, 2, 2, 1)
        >>> over("t", lambda rows: rows.cumsum(1), grid)[0, 1, 0, 0]
        tensor([4.])
    """
    return to_grid(axes, block(to_rows(axes, grid)), Size3(*grid.shape[1:4]))


def _sizes(size: Size3) -> dict[str, int]:
    return {"t": size.t, "h": size.h, "w": size.w}


@dataclass(frozen=True)
class BlockShape:
    """Hold what the blocks of one stack have in common."""

    dim: int
    """Length of a token."""
    heads: int
    """Attention heads; divides `dim`."""
    mlp_dim: int
    """Hidden width of the MLP."""
    dropout: float = 0.0
    """Share of activations dropped after attention and inside the MLP."""
    attention_dropout: float = 0.0
    """Share of attention weights dropped."""
    gelu_twice: bool = False
    """Apply GELU after the second MLP layer too."""
    gelu: Literal["tanh", "none"] = "tanh"
    """How GELU is computed: by its tanh approximation, or exactly (`none` approximates nothing; torch's word)."""
    eps: float = LAYER_NORM_EPS
    """Added to the variance in the layer norms."""
    qkv_bias: Literal["all", "query_value", "none"] = "all"
    """Which of query, key and value have a bias; a key's changes nothing, since softmax ignores what all keys share."""
    rescale_paths: bool = False
    """Scale what drop-path keeps by 1 / (1 - rate) while training, as timm does."""


class TubeletEmbedding(nn.Module):
    """Cut clips into tubelets and project each to a token: a Conv3d whose stride is its kernel, as a matrix product.

    A product exports everywhere. `flatten_kernel` turns the weight of such a Conv3d into the weight of `project`.

    Args:
        channels: channels of the clip.
        tubelet: frames, height and width of a tubelet; the clip's sizes must be multiples of them.
        dim: length of a token.

    Source: arXiv 2103.15691, section 3.2.
    """

    def __init__(self, channels: int, tubelet: Size3, dim: int) -> None:
        super().__init__()
        self.tubelet = tubelet
        self.project = nn.Linear(channels * tubelet.t * tubelet.h * tubelet.w, dim)

    def forward(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch t h w dim"]:
        """Return one token per tubelet, on their grid."""
        kt, kh, kw = self.tubelet
        voxels = rearrange(clips, "b c (t kt) (h kh) (w kw) -> b t h w (c kt kh kw)", kt=kt, kh=kh, kw=kw)
        tokens: Tensor = self.project(voxels)
        return tokens

    @staticmethod
    def flatten_kernel(kernel: Float[Tensor, "dim channel kt kh kw"]) -> Float[Tensor, "dim voxel"]:
        """Turn the weight of a Conv3d into the weight of `project`."""
        return rearrange(kernel, "dim channel kt kh kw -> dim (channel kt kh kw)")


class DropPath(nn.Module):
    """Leave a residual branch out for a random share of the samples while training.

    What stays is not scaled up, as in the official ViViT; with `rescale` it is, by 1 / (1 - rate), as in timm.

    Source: arXiv 1603.09382.
    """

    def __init__(self, rate: float, *, rescale: bool = False) -> None:
        super().__init__()
        self.rate = rate
        self.kept_scale = 1 / (1 - rate) if rescale else 1.0

    def forward(self, branch: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Zero whole samples of the branch; return it untouched when evaluating."""
        if not self.training or self.rate == 0:
            return branch
        keep = torch.rand(branch.shape[0], *[1] * (branch.ndim - 1), device=branch.device) >= self.rate
        return branch * (keep.to(branch.dtype) * self.kept_scale)


def plan_drop_path(rate: float, depth: int) -> list[float]:
    """Return the drop-path rate of each of `depth` blocks, rising linearly from 0 to `rate`."""
    return [rate * index / max(depth - 1, 1) for index in range(depth)]


class QueryValueLinear(nn.Linear):
    """Project tokens to queries, keys and values at once, with biases for queries and values alone."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 3 * dim, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(dim))
        self.value_bias = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens: Float[Tensor, "... dim"]) -> Float[Tensor, "... qkv"]:
        """Return queries, keys and values, one after the other."""
        bias = torch.cat([self.query_bias, torch.zeros_like(self.query_bias), self.value_bias])
        return F.linear(tokens, self.weight, bias)


class Attention(nn.Module):
    """Let the tokens of a row see each other: layer norm, then multi-head self-attention.

    Cost: linear in memory: the matrix of weights is never kept (fused scaled-dot-product attention). Two exceptions, on
    a CPU while training: torch has no fused attention with `attention_dropout` there; and see `SHORT_ROW`.
    """

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attention_dropout = shape.attention_dropout
        self.norm = nn.LayerNorm(shape.dim, eps=shape.eps)
        self.qkv = (
            QueryValueLinear(shape.dim)
            if shape.qkv_bias == "query_value"
            else nn.Linear(shape.dim, 3 * shape.dim, bias=shape.qkv_bias == "all")
        )
        self.out = nn.Linear(shape.dim, shape.dim)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, rows: Float[Tensor, "row token dim"]) -> Float[Tensor, "row token dim"]:
        """Return the residual branch; the caller adds it."""
        # Parts first: their gradients are then put together once, in the order in which they are needed.
        parts = self.qkv(self.norm(rows)).chunk(3, dim=-1)
        query, key, value = (rearrange(part, "r n (heads d) -> r heads n d", heads=self.heads) for part in parts)
        return self.finish(rearrange(self.mix(query, key, value), "r heads n d -> r n (heads d)"))

    def mix(
        self,
        query: Float[Tensor, "row heads token d"],
        key: Float[Tensor, "row heads token d"],
        value: Float[Tensor, "row heads token d"],
    ) -> Float[Tensor, "row heads token d"]:
        """Average values by the agreement of queries and keys, in every row and head."""
        return attend(query, key, value, self.attention_dropout if self.training else 0.0)

    def finish(self, mixed: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
        """Project what the heads found."""
        branch: Tensor = self.dropout(self.out(mixed))
        return branch


class FactorizedDotProductAttention(Attention):
    """Let half the heads look along time and half across the picture, at the cost in parameters of plain attention.

    Source: arXiv 2103.15691, section 3.3, model 4; the first half of the heads takes time, as in the official code.
    """

    def forward(self, grid: Float[Tensor, "batch t h w dim"]) -> Float[Tensor, "batch t h w dim"]:
        """Return the residual branch; the caller adds it."""
        split = "b t h w (three part heads d)"
        parts = {"three": 3, "part": 2, "heads": self.heads // 2}
        qkv = self.qkv(self.norm(grid))
        sizes = _sizes(Size3(*grid.shape[1:4]))
        time, space = rearrange(qkv, f"{split} -> part three b t h w heads d", **parts).unbind(0)
        time = self.mix(*rearrange(time, "three b t h w heads d -> three (b h w) heads t d"))
        space = self.mix(*rearrange(space, "three b t h w heads d -> three (b t) heads (h w) d"))
        time = rearrange(time, "(b h w) heads t d -> b t h w (heads d)", h=sizes["h"], w=sizes["w"])
        space = rearrange(space, "(b t) heads (h w) d -> b t h w (heads d)", **sizes)
        return self.finish(torch.cat([time, space], dim=-1))


class Mlp(nn.Module):
    """Transform each token by itself: layer norm, a wide layer, GELU (tanh form by default), a layer back."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.dim, eps=shape.eps)
        self.widen = nn.Linear(shape.dim, shape.mlp_dim)
        self.narrow = nn.Linear(shape.mlp_dim, shape.dim)
        self.dropout = nn.Dropout(shape.dropout)
        self.gelu = shape.gelu
        self.gelu_twice = shape.gelu_twice

    def forward(self, tokens: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
        """Return the residual branch; the caller adds it."""
        hidden = self.dropout(F.gelu(self.widen(self.norm(tokens)), approximate=self.gelu))
        branch: Tensor = self.narrow(hidden)
        if self.gelu_twice:
            branch = F.gelu(branch, approximate=self.gelu)
        dropped: Tensor = self.dropout(branch)
        return dropped


class Block(nn.Module):
    """Mix the tokens of a row, then transform each: the pre-norm transformer block."""

    def __init__(self, shape: BlockShape, drop_path: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(shape)
        self.mlp = Mlp(shape)
        self.drop_path = DropPath(drop_path, rescale=shape.rescale_paths)

    def forward(self, rows: Float[Tensor, "row token dim"]) -> Float[Tensor, "row token dim"]:
        """Return rows of the same shape."""
        mixed: Tensor = rows + self.drop_path(self.attention(rows))
        transformed: Tensor = mixed + self.drop_path(self.mlp(mixed))
        return transformed


class FactorizedAttentionBlock(nn.Module):
    """Attend along one kind of axes, then along the other, then transform each token.

    Args:
        shape: sizes of the block.
        drop_path: share of clips that skip each residual branch while training.
        order: the axes of the first and of the second attention.

    Source: arXiv 2103.15691, section 3.3, model 3.
    """

    def __init__(self, shape: BlockShape, drop_path: float, order: Sequence[Axes] = ("h w", "t")) -> None:
        super().__init__()
        self.order = tuple(order)
        self.space = Attention(shape)
        self.time = Attention(shape)
        self.mlp = Mlp(shape)
        self.drop_path = DropPath(drop_path, rescale=shape.rescale_paths)

    def forward(self, grid: Float[Tensor, "batch t h w dim"]) -> Float[Tensor, "batch t h w dim"]:
        """Return a grid of the same shape."""
        for axes in self.order:
            grid = grid + self.drop_path(over(axes, self.time if axes == "t" else self.space, grid))
        transformed: Tensor = grid + self.drop_path(self.mlp(grid))
        return transformed


class FactorizedDotProductBlock(nn.Module):
    """Attend along time with half the heads and across the picture with the others, then transform each token."""

    def __init__(self, shape: BlockShape, drop_path: float = 0.0) -> None:
        super().__init__()
        self.attention = FactorizedDotProductAttention(shape)
        self.mlp = Mlp(shape)
        self.drop_path = DropPath(drop_path, rescale=shape.rescale_paths)

    def forward(self, grid: Float[Tensor, "batch t h w dim"]) -> Float[Tensor, "batch t h w dim"]:
        """Return a grid of the same shape."""
        mixed: Tensor = grid + self.drop_path(self.attention(grid))
        transformed: Tensor = mixed + self.drop_path(self.mlp(mixed))
        return transformed


class Stack(nn.Sequential):
    """Run blocks one after another; while training, on wish, remember only what goes in between them.

    With `is_checkpointed` what happened inside a block is computed once more for its gradient, with the same random
    numbers and without counting running statistics twice. Weights have the names they have in `nn.Sequential`.

    Cost: checkpointed, memory for one block at a time, and one more forward pass a step.

    Source: arXiv 1604.06174.
    """

    is_checkpointed = False

    def forward(self, tokens: Tensor, *given: Any) -> Tensor:
        """Return what the last block returns; every block gets what is `given` besides, too."""
        is_remembering = not (self.is_checkpointed and self.training and torch.is_grad_enabled())
        for block in self:
            if is_remembering:
                tokens = block(tokens, *given)
            else:
                again = partial(_plan_recomputation, block)
                tokens = checkpoint(block, tokens, *given, use_reentrant=False, context_fn=again)
        return tokens


def _plan_recomputation(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _keep_statistics(block)


@contextmanager
def _keep_statistics(block: nn.Module) -> Iterator[None]:
    """Put running statistics, such as batch norm's, back to what they were before."""
    before = [(buffer, buffer.clone()) for buffer in block.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def initialize(model: nn.Module, style: Literal["xavier", "normal"]) -> None:
    """Draw fresh weights for every linear layer.

    `xavier` is the official ViViT's: uniform by fan-in and fan-out for each of query, key and value by itself, zero
    biases, those of the MLP normal with deviation 1e-6. `normal` is the truncated normal with deviation 0.02 and zero
    biases of most image transformers. At a width of 768 the two are near each other (0.036 and 0.02); at 96 the first
    is five times larger, and learned a small task from scratch several times faster.
    """

    def draw(weight: Tensor) -> None:
        if style == "xavier":
            nn.init.xavier_uniform_(weight)
        else:
            nn.init.trunc_normal_(weight, std=0.02)

    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        for part in module.weight.detach().chunk(3 if name.endswith("qkv") else 1):
            draw(part)
        for bias in [value for key, value in module.named_parameters(recurse=False) if key != "weight"]:
            if style == "xavier" and name.endswith(("widen", "narrow")):
                nn.init.normal_(bias, std=1e-6)
            else:
                nn.init.zeros_(bias)
