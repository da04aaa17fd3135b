"""Train a small run, alone or as one of the processes that torchrun starts, and write down which clips it saw.

rank_runs.py FOLDER NAME EPOCHS DROPOUT
"""

import os
import sys
from pathlib import Path

import torch

from tubelet import train
from tubelet.data.dataset import Batch
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, OptimizerRecipe, Recipe, TrainingRecipe
from tubelet.training.step import Outcome, Stepper
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

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

    def note(self: Stepper, held: list[tuple[int, Batch]], epoch: int) -> Outcome | None:
        seen.extend(f"{epoch} {number}: {batch.indices.tolist()}" for number, batch in held)
        outcome = take(self, held, epoch)
        weights.append(torch.cat([value.detach().flatten() for value in self.task.model.parameters()]))
        return outcome

    Stepper.take = note
    train(recipe=recipe, name=name, runs=folder, resume=(folder / name / "config.yaml").exists())
    rank = os.environ.get("RANK", "0")
    (folder / f"{name}-{rank}.txt").write_text("\n".join(seen))
    if weights:  # a run that had ended already takes no step
        torch.save(torch.stack(weights), folder / f"{name}-{rank}.pt")


if __name__ == "__main__":
    main()
