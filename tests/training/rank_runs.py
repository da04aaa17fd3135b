"""Train a small run, alone or as one of the processes that torchrun starts, and write down which clips it saw.

rank_runs.py FOLDER NAME EPOCHS DROPOUT [poisoned]

Poisoned, the loss of the second batch is no number in the second process, and one of its clips cannot be read.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tubelet import train
from tubelet.data.dataset import Batch, ClipDataset
from tubelet.data.sample import Sample
from tubelet.errors import DataError
from tubelet.recipes.optimization import OptimizerRecipe
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from tubelet.training.step import Failure, Outcome, Stepper
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

LOST = 41
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
    if len(sys.argv) > 5:
        recipe = replace(recipe, training=replace(recipe.training, on_failure="skip", accumulate=1))
        _poison(rank)

    def note(self: Stepper, held: list[tuple[int, Batch]], epoch: int) -> Outcome | None:
        seen.extend(f"{epoch} {number}: {batch.indices.tolist()}" for number, batch in held)
        outcome = take(self, held, epoch)
        weights.append(torch.cat([value.detach().flatten() for value in self.task.model.parameters()]))
        return outcome

    Stepper.take = note
    train(recipe=recipe, name=name, runs=folder, resume=(folder / name / "config.yaml").exists())
    (folder / f"{name}-{rank}.txt").write_text("\n".join(seen))
    if weights:  # a run that had ended already takes no step
        torch.save(torch.stack(weights), folder / f"{name}-{rank}.pt")


def _poison(rank: str) -> None:
    backward, read = Stepper._backward, ClipDataset._read

    def fail(self: Stepper, number: int, batch: Batch, epoch: int) -> Outcome:
        if (rank, epoch, number) == ("1", 0, 1):
            raise Failure("loss", float("nan"), epoch, number)
        return backward(self, number, batch, epoch)

    def refuse(self: ClipDataset, index: int, sample: Sample, generator: np.random.Generator) -> object:
        if self.is_training and rank == "1" and index == LOST:
            raise DataError(f"cannot read {sample.name!r} - it is lost - restore it.")
        return read(self, index, sample, generator)

    Stepper._backward, ClipDataset._read = fail, refuse


if __name__ == "__main__":
    main()
