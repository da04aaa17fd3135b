"""Train one small run as it is, compiled, and compiled with an interruption; print what came out of them.

    python compiled_runs.py FOLDER

Runs as a program of its own, with JAXTYPING_DISABLE=1: checks of shapes cannot be compiled.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from tubelet import train
from tubelet.data.catalogue import open_data
from tubelet.errors import Interrupted
from tubelet.recipes.optimization import OptimizerRecipe
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from tubelet.training.progress import Quiet
from tubelet.training.run import load_checkpoint
from tubelet.video.spec import InputSpec
from tubelet.video.synthetic import make_world


class Stopping(Quiet):
    """Ask the run to stop in the middle of its second epoch."""

    def on_step(self, epoch: int, done: int, *_: object) -> None:
        if (epoch, done) == (1, 2):
            os.kill(os.getpid(), signal.SIGTERM)


def read_run(folder: Path) -> dict:
    state = load_checkpoint(folder / "last.ckpt")
    weights = state["model"]
    digest = torch.cat([value.flatten() for value in weights.values()]).double()
    average = torch.cat([value.flatten() for value in state["average"]["values"].values()]).double()
    return {
        "names": sorted(weights),
        "weights": [float(digest.sum()), float(digest.square().sum())],
        "average": [float(average.sum()), float(average.square().sum())],
        "losses": [[row["train_loss"], row["val_loss"]] for row in state["progress"]["history"]],
    }


def main() -> None:
    folder = Path(sys.argv[1])
    # 27 clips in batches of 8: the last batch of an epoch is of another size, and compiled by itself.
    source = make_world("speed", folder / "world", clips={"train": 27, "val": 8}, frames=8, height=16, width=16)
    recipe = Recipe(
        data=DataRecipe(source=str(source), workers=0),
        model=ModelRecipe("vivit_nano_factorized_encoder", {"depth": 1, "temporal_depth": 1, "dim": 32, "heads": 2}),
        input=InputSpec(frames=8, height=16, width=16, differences="append"),
        optimizer=OptimizerRecipe(lr=1e-3, ema=0.9),
        training=TrainingRecipe(epochs=2, batch=8, save_every_steps=1, precision="fp32"),
    )
    compiled = replace(recipe, training=replace(recipe.training, compile=True))
    train(open_data(source), recipe=recipe, name="plain", runs=folder)
    train(open_data(source), recipe=compiled, name="compiled", runs=folder)
    try:
        train(open_data(source), recipe=compiled, name="resumed", runs=folder, listener=Stopping())
    except Interrupted:
        torch.compiler.reset()  # a new process knows nothing of what was compiled in the one before
        train(name="resumed", runs=folder, resume=True)
    print(json.dumps({name: read_run(folder / name) for name in ("plain", "compiled", "resumed")}))


if __name__ == "__main__":
    main()
