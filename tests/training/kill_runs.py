"""Train one small run to its end, and the same run killed again and again; print what came out of both.

    python kill_runs.py FOLDER KILLS SEED WORKERS train|pretrain

Runs as a program of its own: the parent imports everything once and forks a child for each attempt, which it kills with
SIGKILL at a random moment; what the child had not written is gone, as when the power fails.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import tubelet.cli.progress
import tubelet.training.pretraining
import tubelet.training.train  # noqa: F401 - imported before the fork, so that attempts start at once
from tubelet import pretrain, train
from tubelet.recipes.pretraining import (
    AnyRecipe,
    PretrainingData,
    PretrainingModel,
    PretrainingRecipe,
    PretrainingSchedule,
)
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from tubelet.training.pace import PACE
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec
from tubelet.video.synthetic import make_world


def make_recipe(data: str, workers: int) -> Recipe:
    changes = {"depth": 2, "temporal_depth": 1, "dim": 32, "heads": 2, "mlp_dim": 64, "dropout": 0.1}
    return Recipe(
        data=DataRecipe(source=data, workers=workers, cache_mb=50),
        model=ModelRecipe("vivit_nano_factorized_encoder", changes),
        input=InputSpec(frames=8, height=16, width=16, differences="append"),
        augmentation=Augmentation(
            shift=0.2, hue=0.1, rotation=10.0, policy="randaugment", erasing=0.3, repeats=2, mixup=0.8, cutmix=1.0
        ),
        training=TrainingRecipe(epochs=4, batch=4, accumulate=2, save_every_steps=3),
    )


def make_pretraining(data: str, workers: int) -> PretrainingRecipe:
    changes = {"depth": 2, "dim": 32, "heads": 2, "mlp_dim": 64, "drop_path": 0.1}
    return PretrainingRecipe(
        data=PretrainingData(source=data, workers=workers, cache_mb=50),
        model=PretrainingModel("videomae_nano", changes=changes),
        input=InputSpec(frames=8, height=16, width=16, differences="append"),
        augmentation=Augmentation(horizontal_flip=0.5, shift=0.2),
        training=PretrainingSchedule(epochs=4, batch=4, accumulate=2, save_every_steps=3),
    )


def attempt(begin: Callable[[], object], kill_after_s: float | None) -> int:
    """Do something in a child; return its exit status (negative: killed)."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            begin()
            status = 0
        finally:
            os._exit(status)
    started = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if kill_after_s is not None and time.monotonic() - started > kill_after_s:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -signal.SIGKILL
        time.sleep(0.002)


def begin(recipe: AnyRecipe, folder: Path, name: str) -> None:
    """Train or go on."""
    is_begun = (folder / name / "config.yaml").exists()
    command = train if isinstance(recipe, Recipe) else pretrain
    command(recipe=recipe, name=name, runs=folder, resume=is_begun)


def describe(folder: Path) -> dict[str, object]:
    """Hash the final weights and optimizer, and list the rows of metrics without their times."""
    from tubelet.training.run import load_checkpoint

    state = load_checkpoint(folder / "last.ckpt")
    digest = hashlib.sha256()
    for name, tensor in sorted(state["model"].items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    for _, values in sorted(state["optimizer"]["state"].items()):
        for key, tensor in sorted(values.items()):
            digest.update(key.encode() + tensor.numpy().tobytes())
    rows = (folder / "metrics.csv").read_text().splitlines()
    return {
        "state": digest.hexdigest(),
        "best": hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest(),
        "metrics": [row.split(",")[: -len(PACE)] for row in rows],
        "leftovers": sorted(path.name for path in folder.iterdir() if path.name.startswith(".")),
    }


def main() -> None:
    torch.set_num_threads(1)
    folder, kills, seed, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    manifest = make_world("speed", folder / "world", clips={"train": 44, "val": 8}, frames=8, height=16, width=16)
    make = {"train": make_recipe, "pretrain": make_pretraining}[sys.argv[5]]
    recipe = make(os.fspath(manifest), workers)
    started = time.monotonic()
    assert attempt(partial(begin, recipe, folder, "whole"), None) == 0
    whole_s = time.monotonic() - started
    chance = random.Random(seed)
    killed = 0
    name = "killed-0"
    finished = 0
    while killed < kills:
        status = attempt(partial(begin, recipe, folder, name), chance.uniform(0.0, 0.6 * whole_s))
        if status == 0:
            finished += 1
            name = f"killed-{finished}"
        else:
            assert status == -signal.SIGKILL, status
            killed += 1
    assert attempt(partial(begin, recipe, folder, name), None) == 0
    outcomes = [describe(folder / f"killed-{number}") for number in range(finished + 1)]
    print(json.dumps({"kills": killed, "seconds": whole_s, "whole": describe(folder / "whole"), "killed": outcomes}))


if __name__ == "__main__":
    main()
