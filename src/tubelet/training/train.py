"""Train a classifier from labelled clips: the whole road, step by step.

recipe -> manifest -> model -> [ train_epoch -> validate -> save ] x epochs -> evaluate on the held-out clips
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from tubelet.config import flatten, override
from tubelet.data.assignments import apply_assignments, read_assignments, write_assignments
from tubelet.data.catalogue import open_data
from tubelet.data.features import check_kind, measure_features
from tubelet.data.manifest import Manifest
from tubelet.errors import TrainingError
from tubelet.evaluation.evaluate import Report
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.shipped import resolve_recipe
from tubelet.training.progress import QUIET, Listener
from tubelet.training.run import Run
from tubelet.training.trainer import FREE_FIELDS, Trainer

__all__ = ["TrainResult", "train"]


@dataclass(frozen=True)
class TrainResult:
    """State where a run lies and what it reached."""

    folder: Path
    """The run folder; `tubelet.load` takes it."""
    best_epoch: int
    """The epoch whose weights were kept, from 1."""
    val_top1: float
    """Validation accuracy of that epoch; NaN where nothing was held out."""
    report: Report | None
    """The figures on the test clips, or on the validation clips where there are no test clips; None without either."""
    takes: Literal["pixels", "features"] = "pixels"
    """What the model takes."""


def train(
    data: Manifest | str | os.PathLike[str] | None = None,
    *,
    recipe: Recipe | None = None,
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
        recipe: everything the run depends on; `Recipe()` suits small sets of short clips on any machine.
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
    if resume:
        run = Run.open(Path(runs) / _require_name(name))
        recipe = _keep_recipe(run, wishes)
        recipe = _fix_source(recipe, data)
        manifest = data if isinstance(data, Manifest) else _open(recipe, listener)
        if run.splits_path.exists():
            manifest = apply_assignments(manifest, read_assignments(run.splits_path))
    else:
        recipe = override(recipe, wishes) if recipe else resolve_recipe(_name_source(data), None, wishes)
        recipe = _fix_source(recipe, data)
        manifest = data if isinstance(data, Manifest) else _open(recipe, listener)
        check_kind(manifest, recipe.input)
        recipe = _fix_statistics(recipe, manifest)
        run = Run.create(_choose_folder(Path(runs), name, recipe), recipe, overwrite=overwrite)
        write_assignments(run.splits_path, manifest)
    trainer = Trainer(run, recipe, manifest, listener)
    with _set_determinism(recipe.training.deterministic):
        trainer.execute(is_resumed=resume)
        report = trainer.judge()
    progress = trainer.progress
    best = progress.best if progress.best >= 0 else float("nan")
    return TrainResult(run.folder, progress.best_epoch + 1, best, report, recipe.input.kind)


def _name_source(data: Manifest | str | os.PathLike[str] | None) -> str | None:
    return data.origin if isinstance(data, Manifest) else None if data is None else os.fspath(data)


def _fix_source(recipe: Recipe, data: Manifest | str | os.PathLike[str] | None) -> Recipe:
    """Store where clips and weights lie in a way that holds from any folder."""
    source = _name_source(data) or recipe.data.source
    if source and Path(source).exists():
        source = str(Path(source).absolute())
    weights = recipe.model.weights
    if weights and Path(weights).exists():
        weights = str(Path(weights).absolute())
    return replace(recipe, data=replace(recipe.data, source=source), model=replace(recipe.model, weights=weights))


def _fix_statistics(recipe: Recipe, manifest: Manifest) -> Recipe:
    """State mean and deviation of features by the training clips where the recipe states none."""
    if recipe.input.kind != "features" or recipe.input.mean:
        return recipe
    means, deviation = measure_features(manifest)
    return replace(recipe, input=replace(recipe.input, mean=means, std=(deviation,)))


def _keep_recipe(run: Run, wishes: Mapping[str, object]) -> Recipe:
    """Read the recipe a run was started with; only what cannot change its weights may be changed.

    Raises:
        TrainingError: a wish that would make it another run.
    """
    stored = run.read_recipe()
    wished = override(stored, wishes, "--resume")
    before, after = flatten(stored), flatten(wished)
    for key in before:
        if before[key] != after[key] and key not in FREE_FIELDS:
            raise TrainingError(
                f"cannot resume {str(run.folder)!r} with {key} = {after[key]} - it was started with {before[key]} - "
                "resume it without that option, or start a new run."
            )
    return wished


@contextmanager
def _set_determinism(wanted: bool) -> Iterator[None]:
    """Refuse operations that may differ between runs, for this run only."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _open(recipe: Recipe, listener: Listener) -> Manifest:
    return open_data(
        recipe.data.source,
        group_by=recipe.data.group_by,
        val=recipe.data.val_fraction,
        test=recipe.data.test_fraction,
        seed=recipe.data.split_seed,
        on_progress=listener.on_data,
    )


def _require_name(name: str | None) -> str:
    if name is None:
        raise TrainingError("cannot resume - no run was named - say which one with --name.")
    return name


def _choose_folder(runs: Path, name: str | None, recipe: Recipe) -> Path:
    if name is not None:
        return runs / name
    source = Path(recipe.data.source)
    stem = source.parent.name if source.stem in ("split", "manifest", "train", "data") else source.stem
    base = f"{stem or 'run'}-{recipe.model.name}"
    number = 1
    while (runs / base if number == 1 else runs / f"{base}-{number}").exists():
        number += 1
    return runs / (base if number == 1 else f"{base}-{number}")
