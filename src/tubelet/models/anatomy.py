"""Take a model apart: which parts a clip goes through, in which order, how large they are, what they hand on.

The model is built without memory (torch's meta device) and run once on a clip without values, so that even the largest
takes a moment and no room.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tubelet.models.card import ModelConfig
from tubelet.models.contract import VideoModel, build_model

__all__ = ["Part", "count_macs", "list_parts"]

_OPENED = ("encoder", "temporal_encoder", "body", "recurrence", "pooler")
"""Parts that are shown by their own parts."""


class Part(NamedTuple):
    """Describe one part of a model."""

    name: str
    """Its path in the model, such as `encoder.blocks`."""
    kind: str
    """Its class, and how often it is repeated."""
    parameters: int
    output: tuple[int, ...]
    """Shape of what it hands on for one clip."""


def list_parts(model: VideoModel) -> list[Part]:
    """List the parts of a model in the order in which a clip of its training size meets them.

    Repeated blocks are one part. Parameters that belong to no layer, such as class tokens, are listed last.

    Args:
        model: built under `torch.device("meta")`.
    """
    parts: dict[str, Part] = {}
    handles = [
        module.register_forward_hook(_make_recorder(parts, name)) for name, module in _choose_parts(model, "").items()
    ]
    try:
        _run(model)
    finally:
        for handle in handles:
            handle.remove()
    counted = sum(part.parameters for part in parts.values())
    rest = sum(parameter.numel() for parameter in model.parameters()) - counted
    if rest:
        parts["..."] = Part("tokens and others", "outside of the parts", rest, ())
    return list(parts.values())


def count_macs(config: ModelConfig) -> int | None:
    """Count the multiply-accumulates of one clip by running a model: products, convolutions, attention.

    The model is one of its own, on the meta device: the fused attention of CPUs would not be counted.

    Returns:
        None for a model whose way depends on values, as one of the user's own may.
    """
    counter = FlopCounterMode(display=False)
    try:
        with torch.device("meta"):
            model = build_model(config)
        with counter:
            _run(model)
    except (NotImplementedError, RuntimeError):
        return None
    return int(counter.get_total_flops()) // 2


def _run(model: VideoModel) -> None:
    config = model.config
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(torch.empty(1, config.channels, config.frames, config.height, config.width, device=device))
    model.train(was_training)


def _choose_parts(module: nn.Module, path: str) -> dict[str, nn.Module]:
    """Choose the parts to show: children, and the children of those that only hold others together."""
    chosen: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if name in _OPENED or (isinstance(child, nn.ModuleDict) and path == ""):
            chosen.update(_choose_parts(child, inner))
        elif isinstance(child, nn.ModuleList):
            chosen.update({f"{inner}.{index}": block for index, block in enumerate(child)})
        elif not isinstance(child, nn.Dropout | nn.Identity):
            chosen[inner] = child
    return chosen


def _make_recorder(parts: dict[str, Part], name: str) -> Callable[[nn.Module, Any, Any], None]:
    """Return a hook that writes a part down; blocks of a list are added up under the list's name."""

    def record(module: nn.Module, _inputs: Any, output: Any) -> None:
        stem, _, last = name.rpartition(".")
        key = stem if last.isdigit() else name
        parameters = sum(parameter.numel() for parameter in module.parameters())
        shape = tuple((output[0] if isinstance(output, tuple) else output).shape)
        kind, count = type(module).__name__, 1
        if isinstance(module, nn.Sequential) and len(module):
            kind, count = type(module[0]).__name__, len(module)
        before = parts.get(key)
        if before is not None:
            parameters += before.parameters
            count = int(before.kind.partition(" x ")[2] or 1) + 1
        parts[key] = Part(key, f"{kind} x {count}" if count > 1 else kind, parameters, shape)

    return record
