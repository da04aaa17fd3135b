"""Search to the end, and again killed at random moments; print what came out of both.

    python kill_searches.py FOLDER KILLS SEED

A program of its own, which forks a child for each attempt, as kill_runs.py does.
"""

import csv
import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

import optuna  # noqa: F401 - imported before the fork, so that attempts start at once
import torch
from kill_runs import attempt

from small_run import make_tiny_recipe
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.search import Search
from tubelet.training.pace import PACE
from tubelet.training.tuning import tune
from tubelet.video.synthetic import make_world

TRIALS = 6


def begin(recipe: Recipe, folder: Path, name: str) -> None:
    """Search or go on."""
    is_begun = (folder / name / "search.yaml").exists()
    tune(recipe=recipe, search=Search(trials=TRIALS), name=name, runs=folder, resume=is_begun)


def describe(folder: Path) -> dict[str, object]:
    """List the trials and their epochs without times, and the best recipe."""
    with (folder / "trials.csv").open(newline="") as table:
        trials = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(table)]
    epochs = [
        [row.split(",")[: -len(PACE)] for row in (folder / f"trial-{number:04d}" / "metrics.csv").read_text().split()]
        for number in range(len(trials))
    ]
    models = sorted(path.parent.name for path in folder.glob("trial-*/model"))
    return {"trials": trials, "epochs": epochs, "best": (folder / "best.yaml").read_text(), "models": models}


def main() -> None:
    torch.set_num_threads(1)
    folder, kills, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    table = make_world("speed", folder / "world", clips={"train": 16, "val": 8}, frames=8, height=16, width=16)
    recipe = make_tiny_recipe(os.fspath(table), epochs=2, save_every_steps=1)
    started = time.monotonic()
    assert attempt(partial(begin, recipe, folder, "whole"), None) == 0
    whole_s = time.monotonic() - started
    killed = 0
    while killed < kills:
        status = attempt(partial(begin, recipe, folder, "killed"), chance.uniform(0.0, 1.2 * whole_s / kills))
        if status == 0:
            break
        assert status == -signal.SIGKILL, status
        killed += 1
    assert attempt(partial(begin, recipe, folder, "killed"), None) == 0
    print(json.dumps({"kills": killed, "whole": describe(folder / "whole"), "killed": describe(folder / "killed")}))


if __name__ == "__main__":
    main()
