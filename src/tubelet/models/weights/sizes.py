"""Compare what a configuration asks for with the weights beside it, before anything of that size is made."""

from collections.abc import Mapping
from dataclasses import asdict
from math import prod

import torch
from torch import Tensor

from tubelet.errors import CheckpointError, TubeletError
from tubelet.models.card import ModelConfig
from tubelet.models.contract import build_model

__all__ = ["check_sizes"]

_SPARE = 2**24
"""Parameters that a model may have beyond twice those of its file: a fresh head, a norm."""
_LARGEST_CLIP = 2**31
"""Values of one clip that a model may take: 1,000 times those of the largest here."""


def check_sizes(config: ModelConfig, tensors: Mapping[str, Tensor], title: str) -> None:
    """Raise `CheckpointError` where a configuration asks for much more than its weights can be of.

    Args:
        config: of the model that is to be built.
        tensors: its weights.
        title: what messages call the source.

    Cost: the model is built once without memory.
    """
    values = asdict(config)
    deepest = max((value for name, value in values.items() if "depth" in name and isinstance(value, int)), default=0)
    if deepest > len(tensors):
        raise _refuse(title, f"{deepest:,} blocks", f"{len(tensors):,} tensors")
    clip = prod(values[name] for name in ("channels", "frames", "height", "width"))
    if clip > _LARGEST_CLIP:
        raise _refuse(title, f"clips of {clip:,} values", f"at most {_LARGEST_CLIP:,} are taken")
    try:
        with torch.device("meta"):
            wanted = sum(parameter.numel() for parameter in build_model(config).parameters())
    except TubeletError:
        raise
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _refuse(title, "sizes that no model has", reason) from None
    given = sum(value.numel() for value in tensors.values())
    if wanted > 2 * given + _SPARE:
        raise _refuse(title, f"{wanted:,} parameters", f"{given:,} in the weights")


def _refuse(title: str, wanted: str, found: str) -> CheckpointError:
    return CheckpointError(
        f"cannot load {title!r} - its config.json asks for {wanted}, found {found} - they do not belong together; take "
        "an intact copy."
    )
