"""Move the weights: which parameters decay, which move how far, and how the learning rate goes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tubelet.errors import TrainingError
from tubelet.models.depth import count_layers, list_layers
from tubelet.recipes.optimization import OptimizerRecipe

__all__ = ["Schedule", "make_optimizer", "make_schedule", "scale_rate"]


def make_optimizer(model: nn.Module, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """Make AdamW, or SGD with momentum, over all trainable parameters, decaying matrices only.

    Biases, norms and other vectors are not decayed: pulling them to zero regularizes nothing. With `layer_decay` the
    parameters of each layer are a group of their own, whose `lr_scale` a `Schedule` multiplies its rate by. AdamW moves
    all in one pass (`fused`), in a third of the time of torch's default on a CPU. Checkpoints of runs that took the
    default say so, and those go on as they were.

    Raises:
        TrainingError: all parameters are frozen.

    Source: arXiv 1711.05101 (AdamW); the official BEiT for rates by layer.
    """
    groups = _group_parameters(model, recipe)
    if not groups:
        count = len(list(model.parameters()))
        raise TrainingError(
            f"cannot train the model - all of its {count} parameters are frozen - set requires_grad of those that are "
            "to move."
        )
    if recipe.name == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


def _group_parameters(model: nn.Module, recipe: OptimizerRecipe) -> list[dict[str, Any]]:
    """Put parameters together that decay alike and move alike, matrices first, from the input to the head."""
    is_even = recipe.layer_decay == 1
    layers = list_layers(model)
    last = 0 if is_even else count_layers(model) - 1
    groups: dict[tuple[bool, int], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((parameter.ndim <= 1, 0 if is_even else layers[name]), []).append(parameter)
    return [
        {
            "params": groups[is_vector, layer],
            "weight_decay": 0.0 if is_vector else recipe.weight_decay,
            "lr_scale": recipe.layer_decay ** (last - layer),
        }
        for is_vector, layer in sorted(groups)
    ]


def scale_rate(recipe: OptimizerRecipe, clips: int) -> float:
    """Compute what the rates of a recipe are multiplied by in steps of that many clips.

    Example:
        >>> scale_rate(OptimizerRecipe(lr=5e-4, base_batch=256), 128)
        0.5
    """
    return clips / recipe.base_batch if recipe.base_batch else 1.0


@dataclass
class Schedule:
    """Give the learning rate of every step: a linear rise, then what the recipe says.

    The rate depends on the step's number, and for `plateau` on the validation losses that `follow` was told: so there
    is no state of its own to save or restore.

    Example:
        >>> schedule = Schedule(OptimizerRecipe(lr=1.0, min_lr=0.0), warmup_steps=2, total_steps=10)
        >>> [round(schedule.lr_at(step), 2) for step in (0, 1, 2, 6, 10)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    recipe: OptimizerRecipe
    warmup_steps: int
    total_steps: int
    steps_per_epoch: int = 1
    scale: float = 1.0
    """What all rates of the recipe are multiplied by."""
    falls: int = 0
    """Times that the rate has fallen, for `plateau`."""

    @property
    def peak(self) -> float:
        """The highest rate."""
        return self.recipe.lr * self.scale

    def lr_at(self, step: int) -> float:
        """Compute the learning rate of step `step`, counted from 0."""
        recipe = self.recipe
        if step < self.warmup_steps:
            start = min(recipe.warmup_lr * self.scale, self.peak)
            return start + (self.peak - start) * (step + 1) / self.warmup_steps
        if recipe.schedule == "constant":
            return self.peak
        floor = recipe.min_lr * self.scale
        if recipe.schedule == "cosine":
            share = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
            return floor + (self.peak - floor) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        falls = self.falls
        if recipe.schedule == "step":
            falls = sum(step >= round(epoch * self.steps_per_epoch) for epoch in recipe.milestones)
        return max(self.peak * recipe.gamma**falls, floor)

    def follow(self, losses: Sequence[float]) -> None:
        """Take note of the validation loss of each epoch so far; epochs without one count as no better."""
        best, waited, self.falls = math.inf, 0, 0
        for loss in losses:
            if loss < best:
                best, waited = loss, 0
            else:
                waited += 1
            if waited >= self.recipe.plateau_epochs:
                waited, self.falls = 0, self.falls + 1

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the learning rate of step `step`, in each group by its `lr_scale`, and return it."""
        lr = self.lr_at(step)
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        return lr


def make_schedule(recipe: OptimizerRecipe, steps_per_epoch: int, epochs: int, clips: int = 0) -> Schedule:
    """Make the schedule of a run of `epochs` epochs.

    Args:
        recipe: rates and how they go.
        steps_per_epoch: moves of the weights in an epoch.
        epochs: of the whole run.
        clips: in a step, for `base_batch`; 0 where it does not matter.
    """
    total = steps_per_epoch * epochs
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), total)
    return Schedule(recipe, warmup, total, steps_per_epoch, scale_rate(recipe, clips) if clips else 1.0)
