"""Say how deep in a model each of its weights lies: what layer-wise learning rates and partial freezing go by."""

from torch import nn

from tubelet.models.blocks import Stack

__all__ = ["count_layers", "list_layers"]

HEAD = "head."


def list_layers(model: nn.Module) -> dict[str, int]:
    """Give the layer of each parameter by its name, counted from the input.

    The embedding, with positions and class tokens, is layer 0; the blocks of all stacks follow one by one; what comes
    after the last block, and the head, is the last layer. A model without blocks has two layers: its body and its head.

    Example:
        >>> from tubelet.models import create_model
        >>> layers = list_layers(create_model("vivit_nano_joint", num_classes=3))
        >>> layers["embedding.project.weight"], layers["encoder.blocks.0.mlp.widen.weight"], layers["head.weight"]
        (0, 1, 5)

    Source: BEiT's and VideoMAE's `get_num_layer_for_vit`.
    """
    blocks = _list_blocks(model)
    last = len(blocks) + 1
    layers: dict[str, int] = {}
    passed = 0
    for name, _ in model.named_parameters():
        if name.startswith(HEAD):
            layers[name] = last
            continue
        number = next((number for number, prefix in enumerate(blocks, 1) if name.startswith(prefix)), 0)
        passed = number or passed
        layers[name] = number or (last if passed == len(blocks) > 0 else passed)
    first = min(layers.values())  # where blocks begin at the pixels, the first of them is the embedding
    return {name: layer - first for name, layer in layers.items()}


def count_layers(model: nn.Module) -> int:
    """Count the layers that `list_layers` tells apart."""
    return max(list_layers(model).values()) + 1


def _list_blocks(model: nn.Module) -> list[str]:
    """List the prefixes of the blocks that hold weights, in the order of the forward pass."""
    return [
        f"{path}.{name}."
        for path, stack in model.named_modules()
        if isinstance(stack, Stack)
        for name, block in stack.named_children()
        if any(True for _ in block.parameters())
    ]
