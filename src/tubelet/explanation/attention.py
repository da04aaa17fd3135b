"""Follow attention from the tubelets of a clip to what the head reads, whatever order a model mixes them in.

    clip --> tubelets --[ sees w1 ]--[ sees w2 ]-- ... --> summary --> head
                 ^                                            |
                 '------------ how much of each? -------------'

Every attention in the model is taken as the matrix of who sees whom, every residual sum as what it is, and everything
else is left out; the product of all those matrices says how much of each tubelet is in the summary. The product is not
written down for each form: the model itself is run, with attention replaced by its matrix, norms and projections by
nothing, and MLPs by zero. It is then linear, and the derivative of its summary is a row of the product. So rows across
a picture, along time, of pieces, with class tokens that are lent and averaged, one encoder after another: all are
composed as the model composes them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from tubelet.errors import ConfigError
from tubelet.explanation.question import Question
from tubelet.models.blocks import (
    Attention,
    FactorizedDotProductAttention,
    Mlp,
    TubeletEmbedding,
    over,
)
from tubelet.models.contract import VideoModel
from tubelet.models.timesformer import TimeSformer
from tubelet.models.timesformer_blocks import SteppedBlock
from tubelet.models.videomae import VideoMAE
from tubelet.models.vivit import ViViT

__all__ = ["attribute_attention", "propagate", "record", "roll_out"]

FAMILIES = (ViViT, TimeSformer, VideoMAE)
"""Architectures between whose tubelets and summary there is nothing but these blocks."""

Matrix = Float[Tensor, "_ _ _"]
Clip = Float[Tensor, "1 channel time height width"]


def roll_out(question: Question) -> Float32[Tensor, "t h w"]:
    """Rate each tubelet by how much of it reaches the summary, by the mean weights of all heads, whatever the class.

    Half of a token after attention is itself and half is what it saw. It says what the model gathers, not what that
    speaks for: every class has the same map.

    Cost: two forward passes and one backward pass; the weights of all attentions are kept: 5.7 GB for a joint encoder
    of 12 blocks with 12 heads over 3,137 tokens.

    Source: arXiv 2005.00928, section 3 (attention rollout).
    """
    model = _check_family(question.classifier.model)
    inputs = question.prepare()
    with torch.no_grad():
        _, weights = record(model, inputs)
    matrices = [each.mean(dim=1) for each in weights]
    return _finish(propagate(model, inputs, matrices, lambda seen, rows: (seen - rows) / 2))


def attribute_attention(question: Question) -> Float32[Tensor, "t h w"]:
    """Rate each tubelet by the attention paid to it that speaks for the class.

    Weights count by the gradient of the class's log-odds, where that is positive; so each class has a map of its own.

    Cost: two forward passes and two backward passes; the weights of all attentions and their gradients are kept.

    Source: arXiv 2103.15679, equations 5 and 6, for self-attention.
    """
    model = _check_family(question.classifier.model)
    inputs = question.prepare()
    logits, weights = record(model, inputs.clone().requires_grad_())  # a model may be frozen
    gradients = torch.autograd.grad(question.measure(logits).sum(), weights)
    matrices = [
        (gradient * each.detach()).clamp(min=0).mean(dim=1) for gradient, each in zip(gradients, weights, strict=True)
    ]
    return _finish(propagate(model, inputs, matrices, lambda seen, _: seen))


def _check_family(model: VideoModel) -> VideoModel:
    if isinstance(model, FAMILIES):
        return model
    names = ", ".join(family.__name__ for family in FAMILIES)
    raise ConfigError(
        f"maps of attention can be made of {names} - this is a {type(model).__name__} - use method 'occlusion', which "
        "works for every model, or 'auto'."
    )


def _finish(relevance: Float[Tensor, "1 t h w"]) -> Float32[Tensor, "t h w"]:
    """Take what all tubelets share off: each is part of a mean by itself, seen or not."""
    return (relevance[0] - relevance.min()).float().cpu()


def record(model: VideoModel, inputs: Clip) -> tuple[Float[Tensor, "1 classes"], list[Tensor]]:
    """Run a model, and keep the weights of all its attentions, in the order in which they are used.

    Args:
        model: in evaluation mode.
        inputs: one normalized clip.

    Returns:
        The logits, and for each attention (row, heads, token, token), each row of the last axis summing to 1.
    """
    kept: list[Tensor] = []

    def mix(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(dim=-1)
        kept.append(weights)
        return torch.matmul(weights, value)

    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    try:
        for attention in attentions:
            vars(attention)["mix"] = mix  # of this instance alone: other models, and this one afterwards, stay fast
        logits: Tensor = model(inputs)
    finally:
        for attention in attentions:
            vars(attention).pop("mix", None)
    return logits, kept


def propagate(
    model: VideoModel,
    inputs: Clip,
    matrices: Sequence[Matrix],
    branch: Callable[[Tensor, Tensor], Tensor],
) -> Float[Tensor, "1 t h w"]:
    """Return how much of each tubelet is in the summary of a clip, by matrices in place of attention.

    Args:
        model: in evaluation mode.
        inputs: one normalized clip.
        matrices: one for each attention, in the order in which they are used: who (row) sees whom (column).
        branch: from what a token saw and the token itself to what is added to it.
    """
    queue = iter(matrices)
    leaves: list[Tensor] = []

    def start(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    def attend(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        (tokens,) = args
        if isinstance(module, FactorizedDotProductAttention):
            time, space = next(queue), next(queue)
            seen = (over("t", lambda rows: time @ rows, tokens) + over("h w", lambda rows: space @ rows, tokens)) / 2
        else:
            seen = next(queue) @ tokens
        return _pretend(output, branch(seen, tokens))

    with _hooked(model, {TubeletEmbedding: start, Attention: attend, Mlp: _stop, nn.LayerNorm: _pass}):
        summary = model.features(inputs)
    (relevance,) = torch.autograd.grad(summary.mean(dim=-1).sum(), leaves)
    return relevance.sum(dim=-1)


def _pretend(value: Tensor, road: Tensor) -> Tensor:
    """Return a value whose gradient is that of `road`."""
    return value.detach() + road - road.detach()


def _pass(_module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
    return _pretend(output, args[0])


def _stop(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
    return output.detach()


@contextmanager
def _hooked(model: nn.Module, hooks: dict[type[nn.Module], Callable[..., Tensor]]) -> Iterator[None]:
    """Let hooks replace what modules of each kind return; the projections of a stepped block are passed by."""
    handles = []
    for module in model.modules():
        handles += [module.register_forward_hook(hook) for kind, hook in hooks.items() if isinstance(module, kind)]
        if isinstance(module, SteppedBlock):
            projections = [module.get_submodule(f"{step}_project") for step in module.early]
            handles += [projection.register_forward_hook(_pass) for projection in projections]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
