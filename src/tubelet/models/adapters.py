"""Adapt a trained model with few weights: a product of two narrow matrices beside each matrix of its attention.

    tokens -+-> matrix (as trained) ----------------+
            `-> down (dim to rank) -> up (to dim) --+ -> sum

They lie beside the matrices for queries, keys and values, and the one behind them. `up` starts at zero: at first
nothing changes.
"""

from collections.abc import Iterator
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own name for it

from tubelet.errors import ConfigError

__all__ = ["AdaptedLinear", "add_adapters", "merge_adapters"]

PLACES = ("qkv", "out", "query", "key_value")
"""Names that the projections of an attention have in every architecture."""


class AdaptedLinear(nn.Module):
    """Add a product of two narrow matrices to a linear layer, which stays as it is.

    Args:
        base: the layer, with its weights; they get no gradient any more.
        rank: of the product.
        scale: what the product is multiplied by.

    Source: arXiv 2106.09685 (LoRA); `scale` is its alpha over rank.
    """

    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.base = base
        self.scale = scale
        weight = base.weight
        self.down = nn.Parameter(torch.empty(rank, base.in_features, dtype=weight.dtype, device=weight.device))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, dtype=weight.dtype, device=weight.device))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, tokens: Float[Tensor, "... given"]) -> Float[Tensor, "... made"]:
        """Project tokens."""
        plain: Tensor = self.base(tokens)
        return plain + self.scale * F.linear(F.linear(tokens, self.down), self.up)

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Add the product to the layer's matrix and return the layer."""
        self.base.weight += (self.scale * (self.up.double() @ self.down.double())).to(self.base.weight)
        return self.base


def add_adapters(model: nn.Module, rank: int, scale: float = 2.0) -> int:
    """Put adapters beside the projections of every attention of a model, in place.

    Args:
        model: with the weights to adapt; which of its parameters move is for the caller to say.
        rank: of the adapters, at least 1.
        scale: what they are multiplied by.

    Returns:
        How many were added.

    Raises:
        ConfigError: a model without attention, or a rank above that of its matrices.
    """
    found = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if name in PLACES and isinstance(child, nn.Linear)
    ]
    if not found:
        raise ConfigError(
            "adapters lie beside the matrices of attention - found none in this model - use finetuning.frozen_layers "
            "instead."
        )
    highest = min(min(child.in_features, child.out_features) for _, _, child in found)
    if rank > highest:
        raise ConfigError(
            f"finetuning.adapter_rank is at most the rank of the matrices of attention - found {rank}, theirs is "
            f"{highest} - lower it; 8 is usual."
        )
    for module, name, child in found:
        setattr(module, name, AdaptedLinear(child, rank, scale))
    return len(found)


M = TypeVar("M", bound=nn.Module)


def merge_adapters(model: M) -> M:
    """Turn adapters into plain weights, in place: the same answers, the same names as before."""
    for module, name, child in list(_list_adapted(model)):
        setattr(module, name, child.merge())
    return model


def _list_adapted(model: nn.Module) -> Iterator[tuple[nn.Module, str, AdaptedLinear]]:
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, AdaptedLinear):
                yield module, name, child
