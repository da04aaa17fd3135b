"""Take a step that failed once more, and say where the first number that is none came from.

failure.ckpt  ->  weights, clips, seeds  ->  forward, watched module by module  ->  backward  ->  `Replay`
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tubelet import files
from tubelet.config import read_config
from tubelet.data.dataset import Batch
from tubelet.errors import ConfigError, TrainingError
from tubelet.prediction.devices import choose_device
from tubelet.recipes.pretraining import AnyRecipe, PretrainingRecipe
from tubelet.recipes.recipe import Recipe
from tubelet.training.failures import FAILURE_NAME
from tubelet.training.finetuning import Freezing
from tubelet.training.pretraining import make_pretraining_task
from tubelet.training.run import Run
from tubelet.training.step import Task, seed_step
from tubelet.training.trainer import make_classification

__all__ = ["Replay", "replay"]


@dataclass(frozen=True)
class Replay:
    """Hold what a step showed when it was taken again."""

    epoch: int
    """Counted from 1, as in messages."""
    batches: tuple[int, ...]
    """Numbers in the epoch, counted from 1."""
    clips: tuple[str, ...]
    """Names of the clips of the step."""
    losses: tuple[float, ...]
    """Average loss of each batch."""
    bad_weights: tuple[str, ...]
    """Parameters and buffers that were no finite numbers before the step."""
    first_bad_module: str | None
    """The first module, in the order of the forward pass, whose output is not finite though its input is."""
    largest_output: tuple[str, float]
    """The module with the greatest output in absolute value, of those that are finite."""
    bad_gradients: tuple[str, ...]
    """Parameters whose gradient is not finite."""

    @property
    def is_healthy(self) -> bool:
        """Tell whether nothing went wrong this time."""
        return not (self.bad_weights or self.first_bad_module or self.bad_gradients)


def replay(run: str | os.PathLike[str], *, precision: str | None = None, device: str = "auto") -> Replay:
    """Take the step that a run failed at again, with the same weights, clips and seeds; nothing is written.

    Args:
        run: folder of the run.
        precision: `fp32`, `bf16` or `fp16` in place of the recipe's: is it the number format?
        device: where to.

    Raises:
        TrainingError: no such run, or no step of it failed.
        CheckpointError: its record of the failure is damaged.
    """
    folder = Path(run)
    recipe = _read_recipe(folder)
    if precision is not None:
        from tubelet.config import override

        recipe = override(recipe, {"training.precision": precision})
    path = folder / FAILURE_NAME
    if not path.exists():
        raise TrainingError(f"cannot replay {str(folder)!r} - no step of it failed - there is nothing to look into.")
    evidence = torch.load(io.BytesIO(files.read_sealed(path)), map_location="cpu", weights_only=True)
    task = _make_task(recipe, evidence, choose_device(device))
    task.model.load_state_dict(evidence["model"])
    return _watch_step(task, recipe, evidence)


def _read_recipe(folder: Path) -> AnyRecipe:
    path = Run.open(folder).config_path
    try:
        return read_config(path, Recipe)
    except ConfigError:
        return read_config(path, PretrainingRecipe)


def _make_task(recipe: AnyRecipe, evidence: dict[str, Any], device: torch.device) -> Task:
    if isinstance(recipe, PretrainingRecipe):
        return make_pretraining_task(recipe, device)
    task = make_classification(recipe, evidence["counts"], evidence["clips"], evidence["task"], device)
    Freezing(task.model, recipe.finetuning).start_epoch(evidence["epoch"])
    return task


def _watch_step(task: Task, recipe: AnyRecipe, evidence: dict[str, Any]) -> Replay:
    """Take the step with an eye on every module; the weights do not move."""
    model = task.model
    if isinstance(recipe, PretrainingRecipe):
        model.train()
    bad_weights = tuple(name for name, value in model.state_dict().items() if not _is_finite(value))
    losses = []
    watch = _Watch()
    with watch.over(model):
        for row in evidence["batches"]:
            batch = Batch(row["clips"], row["labels"], row["indices"], (), row["lengths"])
            seed_step(recipe.training.seed, evidence["epoch"], row["number"], evidence["rank"])
            loss, _ = task.compute_loss(batch)
            losses.append(float(loss.detach()))
            (loss * len(batch.labels)).backward()  # type: ignore[no-untyped-call]
    return Replay(
        epoch=evidence["epoch"] + 1,
        batches=tuple(row["number"] + 1 for row in evidence["batches"]),
        clips=tuple(name for row in evidence["batches"] for name in row["names"]),
        losses=tuple(losses),
        bad_weights=bad_weights,
        first_bad_module=watch.first_bad,
        largest_output=watch.largest,
        bad_gradients=tuple(
            name
            for name, parameter in model.named_parameters()
            if parameter.grad is not None and not _is_finite(parameter.grad)
        ),
    )


class _Watch:
    """Look at what goes into and comes out of every module that has none below it."""

    def __init__(self) -> None:
        self.first_bad: str | None = None
        self.largest: tuple[str, float] = ("", 0.0)

    @contextmanager
    def over(self, model: nn.Module) -> Iterator[None]:
        handles = [
            module.register_forward_hook(self._make_hook(name))
            for name, module in model.named_modules()
            if not list(module.children())
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _make_hook(self, name: str) -> Any:
        def look(_module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            inputs = [value for value in given if isinstance(value, Tensor)]
            for value in (value for value in _list_tensors(output) if value.is_floating_point() and value.numel()):
                if not _is_finite(value):
                    if self.first_bad is None and all(_is_finite(one) for one in inputs):
                        self.first_bad = name
                elif float(value.detach().abs().max()) > self.largest[1]:
                    self.largest = (name, float(value.detach().abs().max()))

        return look


def _list_tensors(output: Any) -> list[Tensor]:
    return [value for value in (output if isinstance(output, tuple | list) else [output]) if isinstance(value, Tensor)]


def _is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
