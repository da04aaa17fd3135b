"""Translate a model to faster code for its device, in place."""

import torch
from torch import nn

from tubelet.errors import TrainingError

__all__ = ["compile_model"]


def compile_model(model: nn.Module, takes: str = "pixels") -> None:
    """Have `torch.compile` translate the model at its first step; names of weights and checkpoints stay as they are.

    Each size of a batch gets code of its own, and keeps it: what a run computes then does not depend on what it has
    seen before, and a run that goes on repeats itself bit by bit.

    Args:
        model: translated in place.
        takes: `pixels`, or `features`, of whose batches nearly each has a size of its own.

    Raises:
        TrainingError: the compiler is missing or broken; found by compiling a sum, before any clip is read.
    """
    if takes == "features":
        raise TrainingError(
            "cannot compile a model of features - nearly every batch of them has another length, and would be compiled "
            "anew - leave training.compile off."
        )
    device = next(model.parameters()).device
    try:
        torch.compile(torch.add)(torch.zeros(8, device=device), 1)
    except RuntimeError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        wanted = "a C++ compiler (g++ or clang)" + (" and Triton" if device.type == "cuda" else "")
        raise TrainingError(
            f"cannot compile the model - PyTorch says: {reason} - install {wanted}, or leave training.compile off."
        ) from None
    model.compile(dynamic=False)
