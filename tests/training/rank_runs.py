"""Train a small run, alone or as one of the processes that torchrun starts, and write down which clips it saw.

rank_runs.py FOLDER NAME EPOCHS DROPOUT [poisoned] [sharded] [killed]

Poisoned, the loss of the second batch is no number in the second process, and one of its clips cannot be read.
Killed, the first process dies in its fifth checkpoint, when all shards are written. The last batch of each epoch and of
the validation clips has one clip: none for the second process.
"""

import itertools
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tubelet import train
from tubelet.data.dataset import Batch, ClipDataset
from tubelet.data.sample import Sample
from tubelet.errors import DataError
from tubelet.recipes.optimization import OptimizerRecipe
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from tubelet.training.checkpoints import Checkpoints
from tubelet.training.loop import Classification
from tubelet.training.run import Progress
from tubelet.training.sharding import gather_weights
from tubelet.training.step import Outcome, Stepper
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

LOST = 42
"""A clip of the second process in the first batch."""
CHANGES = {"depth": 2, "temporal_depth": 1, "dim": 32, "heads": 2, "mlp_dim": 64}


def make_recipe(data: str, epochs: int, dropout: float) -> Recipe:
    return Recipe(
        data=DataRecipe(source=data, workers=0),
        model=ModelRecipe("vivit_nano_factorized_encoder", {**CHANGES, "dropout": dropout}),
        input=InputSpec(frames=8, height=16, width=16, differences="append"),
        augmentation=Augmentation(horizontal_flip=0.5, shift=0.2),
        optimizer=OptimizerRecipe(lr=1e-3, ema=0.9),
        training=TrainingRecipe(epochs=epochs, batch=7, accumulate=2, save_every_steps=2, precision="fp32"),
    )


def main() -> None:
    torch.set_num_threads(1)
    folder, name = Path(sys.argv[1]), sys.argv[2]
    recipe = make_recipe(str(folder / "world" / "manifest.csv"), int(sys.argv[3]), float(sys.argv[4]))
    seen: list[str] = []
    weights: list[torch.Tensor] = []
    take = Stepper.take
    rank = os.environ.get("RANK", "0")
    recipe = replace(recipe, training=replace(recipe.training, sharded="sharded" in sys.argv))
    if "poisoned" in sys.argv:
        recipe = replace(recipe, training=replace(recipe.training, on_failure="skip", accumulate=1))
        _poison(rank)
    if "killed" in sys.argv:
        _kill()

    def note(self: Stepper, held: list[tuple[int, Batch]], epoch: int) -> Outcome | None:
        seen.extend(f"{epoch} {number}: {batch.indices.tolist()}" for number, batch in held)
        outcome = take(self, held, epoch)
        weights.append(torch.cat([value.flatten() for value in gather_weights(self.task.model).values()]).clone())
        return outcome

    Stepper.take = note
    train(recipe=recipe, name=name, runs=folder, resume=(folder / name / "config.yaml").exists())
    (folder / f"{name}-{rank}.txt").write_text("\n".join(seen))
    if weights:  # a run that had ended already takes no step
        torch.save(torch.stack(weights), folder / f"{name}-{rank}.pt")


def _poison(rank: str) -> None:
    learn, compute_loss, read = Stepper._learn, Classification.compute_loss, ClipDataset._read
    is_poisoned = False

    def fail(self: Stepper, batch: Batch, weight: int, epoch: int, number: int) -> tuple[float, int]:
        nonlocal is_poisoned
        is_poisoned = (rank, epoch, number) == ("1", 0, 1)
        return learn(self, batch, weight, epoch, number)

    def spoil(self: Classification, batch: Batch) -> tuple[torch.Tensor, int]:
        loss, correct = compute_loss(self, batch)
        return loss * (float("nan") if is_poisoned else 1.0), correct

    def refuse(self: ClipDataset, index: int, sample: Sample, generator: np.random.Generator) -> object:
        if self.is_training and rank == "1" and index == LOST:
            raise DataError(f"cannot read {sample.name!r} - it is lost - restore it.")
        return read(self, index, sample, generator)

    Stepper._learn, Classification.compute_loss, ClipDataset._read = fail, spoil, refuse


def _kill() -> None:
    save = Checkpoints._save
    saved = itertools.count(1)

    def die(self: Checkpoints, state: Mapping[str, Any], progress: Progress) -> None:
        if next(saved) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, state, progress)

    Checkpoints._save = die


if __name__ == "__main__":
    main()
