"""Train a classifier from labelled clips: the whole road, step by step.

recipe -> manifest -> model -> [ train_epoch -> validate -> save ] x epochs -> evaluate on the held-out clips
"""

import math
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from tubelet.data.catalogue import open_data
from tubelet.data.features import check_kind, measure_features
from tubelet.data.manifest import Manifest
from tubelet.evaluation.evaluate import Report
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.resolution import resolve_recipe
from tubelet.training.opening import Asked, Place, hold_run, make_request, open_run
from tubelet.training.progress import QUIET, Listener
from tubelet.training.trainer import Trainer

__all__ = ["TrainResult", "open_clips", "settle_input", "train"]


@dataclass(frozen=True)
class TrainResult:
    """State where a run lies and what it reached."""

    folder: Path
    """The run folder; `tubelet.load` takes it."""
    best_epoch: int
    """The epoch whose weights were kept, from 1."""
    val_top1: float
    """Validation accuracy of that epoch; NaN where nothing was held out, and in multi-label training."""
    report: Report | None
    """The figures on the test clips, or on the validation clips where there are no test clips; None without either."""
    takes: Literal["pixels", "features"] = "pixels"
    """What the model takes."""
    val_mean_ap: float = math.nan
    """In multi-label training, the mean average precision of that epoch on validation clips; otherwise NaN, and where
    none of them has a class."""


def train(
    data: Manifest | str | os.PathLike[str] | None = None,
    *,
    recipe: Recipe | str | Path | None = None,
    name: str | None = None,
    runs: str | os.PathLike[str] = "runs",
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener = QUIET,
    **changes: object,
) -> TrainResult:
    """Train a classifier into the folder `runs/name`.

    Args:
        data: a folder of class folders, a table (CSV, TSV, JSONL), an .npz file, a catalogue name, or a `Manifest`,
            whose splits are taken as they are; instead of `recipe.data.source`.
        recipe: everything the run depends on, the name of a shipped one (`tubelet recipe list`), or a YAML file; where
            none is given, the data and what is named below decide.
        name: name of the run; made of data and model where none is given.
        runs: folder of all runs.
        resume: go on with the interrupted run of that name, bit by bit; `recipe` is then the one stored with it.
        overwrite: replace a run of that name.
        listener: told of every step; the command line shows progress with one.
        **changes: leaves of the recipe with `__` for the dot, such as `training__epochs=5`.

    Raises:
        DataError: clips or labels that do not fit together, before the first epoch.
        TrainingError: a run that cannot start or go on.

    Example:
        >>> result = tubelet.train("clips/", name="mine", training__epochs=5)  # doctest: +SKIP
    """
    wishes = {key.replace("__", "."): value for key, value in changes.items()}
    source = data.origin if isinstance(data, Manifest) else None if data is None else os.fspath(data)

    def read(recipe: Recipe) -> Manifest:
        return data if isinstance(data, Manifest) else open_clips(recipe, listener)

    asked = Asked(Recipe, source, Place(Path(runs), name, overwrite), recipe, wishes, resume)
    opened = open_run(asked, read, partial(resolve_recipe, on_choice=listener.on_remark), settle_input)
    with hold_run(opened, listener):
        trainer = Trainer(opened.run, opened.recipe, opened.manifest, listener, opened.ranks)
        trainer.execute(is_resumed=resume)
        report = opened.ranks.share(trainer.judge)
        if report is not None:
            trainer.listener.on_report(report)
    progress = trainer.progress
    best = progress.best if progress.best >= 0 else math.nan
    top1, mean_ap = best, math.nan
    if trainer.manifest.task == "multilabel":
        top1, mean_ap = math.nan, progress.history[progress.best_epoch]["val_mean_ap"]
    return TrainResult(opened.run.folder, progress.best_epoch + 1, top1, report, opened.recipe.input.kind, mean_ap)


def settle_input(recipe: Recipe, manifest: Manifest) -> Recipe:
    """State mean and deviation of features by the training clips where the recipe states none."""
    check_kind(manifest, recipe.input)
    if recipe.model.task != "auto":
        manifest.with_task(recipe.model.task)  # says before there is a run folder what does not fit
    if recipe.input.kind != "features" or recipe.input.mean:
        return recipe
    means, deviation = measure_features(manifest)
    return replace(recipe, input=replace(recipe.input, mean=means, std=(deviation,)))


def open_clips(recipe: Recipe, listener: Listener) -> Manifest:
    """Open the clips that a recipe names, in its splits, and tell the listener how getting them goes."""
    return open_data(
        recipe.data.source,
        group_by=recipe.data.group_by,
        val=recipe.data.val_fraction,
        test=recipe.data.test_fraction,
        seed=recipe.data.split_seed,
        request=make_request(recipe.data, listener),
    )
