"""Train on real clips and write down what came out: the figures that the documentation states.

    make results                      everything below TUBELET_TEST_DATA; about two hours on two CPU cores
    python examples/results.py fight  any of: fight, fight-transformer, ucf101, volumes, volumes-vivit
    python examples/results.py --resume ...  go on: what was measured already is not measured again

Accuracy on a few hundred clips depends on who is in the test set as much as on the model, so the clips are dealt into
five folds by source, each fold is tested once, and the figures are pooled over all of them, with an interval that draws
whole sources anew. Where a task has several seeds, each fold is trained once with each, and a clip counts as right as
often as it was.
"""

import json
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import tubelet
from tubelet import files
from tubelet.classifier import Classifier
from tubelet.config import override
from tubelet.data.catalogue import open_data
from tubelet.data.manifest import Manifest
from tubelet.data.splits import choose_folds
from tubelet.evaluation.evaluate import Scored, score_samples
from tubelet.metrics import estimate_bootstrap
from tubelet.recipes.listing import RECIPES
from tubelet.recipes.recipe import Recipe, TrainingRecipe
from tubelet.recipes.shipped import SHIPPED as SHIPPED  # registers them
from tubelet.recipes.small import make_motion, make_moving_shapes, make_volumes

FOLDS = 5
HEADER = (
    "| data | model | clips tested | accuracy | 95 % interval, by source | each seed | s a run | processor s | MB |",
    "|---|---|---|---|---|---|---|---|---|",
)


def make_fight(data: Path, model: str, precision: str = "auto") -> tuple[Manifest, Recipe]:
    """Surveillance clips, fight or not; needs motion."""
    recipe = override(make_motion(model), {"training.precision": precision})
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
    seeds: tuple[int, ...] = (42,)
    """Each fold is trained once with each."""
    is_mirrored_and_nearer: bool = False
    """Average over mirrored clips too, and over a nearer picture."""
    learns_motion_first: bool = False
    """Begin with weights that learned the synthetic `moving-shapes`, once for all folds and seeds."""
    unknown: str | None = None
    """The group of clips that may come from any source: only trained on, since they might be of one that is tested."""


TASKS = {
    "fight": Task(
        # CPUs with AMX compute its convolutions faster so; others may be slower, and the recipe leaves it open.
        partial(make_fight, model="i3d_nano", precision="bf16"),
        views=4,
        seeds=(0, 1, 2),
        is_mirrored_and_nearer=True,
        unknown="unknown",
    ),
    "fight-transformer": Task(
        partial(make_fight, model="vivit_nano_factorized_encoder"),
        views=4,
        seeds=(0, 1, 2),
        is_mirrored_and_nearer=True,
        learns_motion_first=True,
        unknown="unknown",
    ),
    "ucf101": Task(make_ucf101),
    "volumes": Task(partial(make_shapes, model="i3d_nano"), views=1),
    "volumes-vivit": Task(partial(make_shapes, model="vivit_nano_joint"), views=1),
}


def deal(manifest: Manifest, fold: int, unknown: str | None) -> Manifest:
    """Test one part in `FOLDS` of the groups, and train on the rest.

    As `tubelet data split --folds 5 --fold K --seed 0 --val 0` writes it, but for clips of unknown group: no clip is
    held out to choose by.
    """
    known = [sample.group is None or sample.group != unknown for sample in manifest.samples]
    tested = tuple(sample for sample, is_known in zip(manifest.samples, known, strict=True) if is_known)
    folds = iter(choose_folds(replace(manifest, samples=tested), FOLDS, seed=0))
    samples = tuple(
        replace(sample, split="test" if is_known and next(folds) == fold else "train")
        for sample, is_known in zip(manifest.samples, known, strict=True)
    )
    return replace(manifest, samples=samples)


def learn_motion(recipe: Recipe, name: str, runs: Path) -> Recipe:
    """Train the recipe's model on moving shapes, under the same contract, and begin with its weights."""
    shapes, kept = replace(make_moving_shapes(recipe.model.name), input=recipe.input), runs / f"{name}-shapes"
    if "--resume" in sys.argv and (kept / "report.json").exists():
        return replace(recipe, model=replace(recipe.model, weights=str(kept)))
    begun = time.process_time()
    result = tubelet.train(recipe=shapes, name=f"{name}-shapes", runs=runs, overwrite=True)
    top1 = result.report.metrics.top1 if result.report else float("nan")
    print(f"{name} moving-shapes: {top1:.3f}; of one processor {time.process_time() - begun:.0f} s", flush=True)
    return replace(recipe, model=replace(recipe.model, weights=str(result.folder)))


class Mirrored(Classifier):
    """Score each clip as it is and mirrored, and take the mean."""

    def score(self, clips: Tensor, *given: Any, **named: Any) -> Tensor:
        """Return the mean of the probabilities of both."""
        width = 3
        return (super().score(clips, *given, **named) + super().score(clips.flip(width), *given, **named)) / 2


def score_all_views(classifier: Classifier, dealt: Manifest, views: int) -> Scored:
    """Score the test clips by the mean of several moments, mirrored or not, in the whole picture and nearer."""
    spec = classifier.input_spec
    nearer = replace(spec, short_side=max(spec.height, spec.width))
    both = [
        score_samples(Mirrored(classifier.model, size, classifier.classes), dealt.select("test"), dealt, views=views)
        for size in (spec, nearer)
    ]
    return replace(both[0], scores=(both[0].scores + both[1].scores) / 2)


def train_fold(recipe: Recipe, task: Task, dealt: Manifest, name: str, runs: Path) -> Scored:
    """Train one fold with one seed, and score its test clips."""
    classifier = tubelet.load(tubelet.train(dealt, recipe=recipe, name=name, runs=runs, overwrite=True).folder)
    if task.is_mirrored_and_nearer:
        return score_all_views(classifier, dealt, task.views)
    return score_samples(classifier, dealt.select("test"), dealt, views=task.views)


@dataclass(frozen=True)
class Outcome:
    """State what one training reached on the clips of its fold."""

    hits: list[float]
    """For each clip, 1.0 where it was named right."""
    groups: list[str]
    """Its source."""
    wall_s: float
    cpu_s: float
    peak_mb: float


def train_and_test(recipe: Recipe, task: Task, dealt: Manifest, name: str, runs: Path) -> Outcome:
    """Train and test one fold with one seed, unless it lies there already, and write down what came out."""
    kept = runs / f"{name}.json"
    if "--resume" in sys.argv and kept.exists():
        return Outcome(**json.loads(kept.read_text(encoding="utf-8")))
    begun, before = time.perf_counter(), time.process_time()
    scored = train_fold(recipe, task, dealt, name, runs)
    outcome = Outcome(
        (scored.scores.argmax(1) == scored.labels).astype(float).tolist(),
        [sample.group or sample.source for sample in scored.samples],
        time.perf_counter() - begun,
        time.process_time() - before,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    files.write_json(kept, asdict(outcome))
    return outcome


def measure(name: str, task: Task, data: Path, runs: Path) -> str:
    """Train and test each fold with each seed; return one row of the table."""
    manifest, recipe = task.make(data)
    if task.learns_motion_first:
        recipe = learn_motion(recipe, name, runs)
    outcomes: dict[int, list[Outcome]] = {seed: [] for seed in task.seeds}
    for seed, own in outcomes.items():
        seeded = override(recipe, {"training.seed": seed})
        for fold in range(FOLDS):
            dealt = deal(manifest, fold, task.unknown)
            last = train_and_test(seeded, task, dealt, f"{name}-{fold}-{seed}", runs)
            own.append(last)
            print(
                f"{name} seed {seed} fold {fold}: {np.mean(last.hits):.3f}, "
                f"{np.mean([hit for one in own for hit in one.hits]):.3f} so far; "
                f"{last.wall_s:.0f} s, of one processor {last.cpu_s:.0f} s",
                flush=True,
            )
    right = [[hit for one in own for hit in one.hits] for own in outcomes.values()]
    groups = [group for one in next(iter(outcomes.values())) for group in one.groups]
    values, members = np.mean(right, axis=0), np.unique(groups, return_inverse=True)[1]
    interval = estimate_bootstrap(
        lambda rows: float(values[rows].mean()), len(values), np.random.default_rng(0), groups=members.astype(np.int64)
    )
    spread = f"{interval.low:.3f} to {interval.high:.3f}" if interval else "-"
    every = [one for own in outcomes.values() for one in own]
    wall_s, cpu_s, peak_mb = (np.mean([getattr(one, key) for one in every]) for key in ("wall_s", "cpu_s", "peak_mb"))
    return (
        f"| {name} | {recipe.model.name} | {len(values)} | {values.mean():.3f} | {spread} | "
        f"{', '.join(f'{np.mean(hits):.3f}' for hits in right)} | {wall_s:.0f} | {cpu_s:.0f} | {peak_mb:.0f} |"
    )


def write_page(path: Path, rows: list[str]) -> None:
    """Write what was measured here, and what others report of recipes that were not run here."""
    where = f"tubelet {tubelet.__version__}, torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores"
    theirs = [
        f"| `{name}` | {found[1]} |"
        for name in sorted(RECIPES)
        if (found := re.search(r"Result: (.*) \(theirs\)", RECIPES[name].text)) is not None
    ]
    lines = [
        "# Results",
        "",
        f"Measured with `python examples/results.py`: {where}, {time.strftime('%Y-%m-%d')}.",
        "",
        *HEADER,
        *rows,
        "",
        "Not reproduced here: what the authors of these recipes report, top-1 in percent.",
        "",
        "| recipe | theirs |",
        "|---|---|",
        *theirs,
    ]
    files.write_text(path, "\n".join(lines) + "\n")


def main() -> None:
    """Run the named tasks, or all, print a table in Markdown, and write it as a page."""
    data, runs = Path(os.environ["TUBELET_TEST_DATA"]), Path("runs") / "results"
    names = [name for name in sys.argv[1:] if name != "--resume"] or list(TASKS)
    rows = [measure(name, TASKS[name], data, runs) for name in names]
    print("\n".join(["", *HEADER, *rows]))
    write_page(runs / "results.md", rows)
    print(f"\n{runs / 'results.md'}")


if __name__ == "__main__":
    main()
