"""Train on real clips and write down what came out: the figures that the documentation states.

    make results                      everything below TUBELET_TEST_DATA; about an hour on two CPU cores
    python examples/results.py fight  any of: fight, ucf101, volumes, volumes-vivit

Accuracy on a few hundred clips depends on who is in the test set as much as on the model, so the clips are dealt into
five folds by source, each fold is tested once, and the figures are pooled over all of them, with an interval that draws
whole sources anew.
"""

import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

import tubelet
from tubelet.config import override
from tubelet.data.catalogue import open_data
from tubelet.data.manifest import Manifest
from tubelet.data.splits import fold_manifest
from tubelet.evaluation.evaluate import score_samples
from tubelet.metrics import estimate_bootstrap
from tubelet.recipes.recipe import Recipe, TrainingRecipe
from tubelet.recipes.small import make_volumes

FOLDS = 5


def make_fight(data: Path) -> tuple[Manifest, Recipe]:
    """Surveillance clips, fight or not; needs motion. Only differences are shown to the model."""
    recipe = Recipe()
    recipe = replace(recipe, input=replace(recipe.input, differences="only"))
    return open_data(data / "fight128" / "split.csv", group_by="source_video"), recipe


def make_ucf101(data: Path) -> tuple[Manifest, Recipe]:
    """Two classes of UCF101; one frame tells them apart, so the figure says that the road works, no more."""
    return open_data(data / "ucf101_mini" / "split.csv"), replace(Recipe(), training=TrainingRecipe(epochs=15))


def make_shapes(data: Path, model: str) -> tuple[Manifest, Recipe]:
    """Voxel shapes of ten objects in twelve turns; all turns of one object stay in one fold.

    A chair's mirror image is a chair; upright is along the width of these arrays.
    """
    mirrors = {"augmentation.vertical_flip": 0.5, "augmentation.time_reversal": 0.5}
    return open_data(data / "volumes" / "modelnet10_few_32.npz"), override(make_volumes(model), mirrors)


@dataclass(frozen=True)
class Task:
    """State what is trained and tested."""

    make: Callable[[Path], tuple[Manifest, Recipe]]
    views: int = 2
    """Clips spread over each video, averaged; a volume is seen whole at once."""


TASKS = {
    "fight": Task(make_fight),
    "ucf101": Task(make_ucf101),
    "volumes": Task(partial(make_shapes, model="i3d_nano"), views=1),
    "volumes-vivit": Task(partial(make_shapes, model="vivit_nano_joint"), views=1),
}


def measure(name: str, task: Task, data: Path, runs: Path) -> str:
    """Train and test each fold; return one row of the table."""
    manifest, recipe = task.make(data)
    started = time.perf_counter()
    right: list[float] = []
    groups: list[str] = []
    for fold in range(FOLDS):
        begun, used = time.perf_counter(), time.process_time()
        # As `tubelet data split --folds 5 --fold K --seed 0 --val 0` writes it: no clip is held out to choose by.
        dealt = fold_manifest(manifest, FOLDS, fold, seed=0)
        result = tubelet.train(dealt, recipe=recipe, name=f"{name}-{fold}", runs=runs, overwrite=True)
        classifier = tubelet.load(result.folder)
        scored = score_samples(classifier, dealt.select("test"), dealt, views=task.views)
        correct = (scored.scores.argmax(1) == scored.labels).astype(float)
        right += correct.tolist()
        groups += [sample.group or sample.source for sample in scored.samples]
        print(
            f"{name} fold {fold}: {correct.mean():.3f}, {np.mean(right):.3f} so far; "
            f"{time.perf_counter() - begun:.0f} s, of one processor {time.process_time() - used:.0f} s",
            flush=True,
        )
    values, members = np.array(right), np.unique(groups, return_inverse=True)[1]
    interval = estimate_bootstrap(
        lambda rows: float(values[rows].mean()), len(values), np.random.default_rng(0), groups=members.astype(np.int64)
    )
    spread = f"{interval.low:.3f} to {interval.high:.3f}" if interval else "-"
    minutes = (time.perf_counter() - started) / 60
    return f"| {name} | {recipe.model.name} | {len(values)} | {values.mean():.3f} | {spread} | {minutes:.0f} |"


def main() -> None:
    """Run the named tasks, or all, and print a table in Markdown."""
    data = Path(os.environ["TUBELET_TEST_DATA"])
    names = sys.argv[1:] or list(TASKS)
    rows = [measure(name, TASKS[name], data, Path("runs") / "results") for name in names]
    print(f"\ntubelet {tubelet.__version__}, {platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    print("| data | model | clips tested | accuracy | 95 % interval, by source | minutes |\n|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
