"""Open the folder of a new run, or of one that goes on, together with its recipe and its clips."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from tubelet.config import flatten, override
from tubelet.data.assignments import apply_assignments, read_assignments, write_assignments
from tubelet.data.catalogue.entry import Request
from tubelet.data.manifest import Manifest
from tubelet.errors import TrainingError, TubeletError
from tubelet.models.published import find_published
from tubelet.models.weights.source import find_weights
from tubelet.recipes.pretraining import PretrainingRecipe
from tubelet.recipes.recipe import DataRecipe, Recipe
from tubelet.training.progress import Listener
from tubelet.training.ranks import Ranks
from tubelet.training.run import Run
from tubelet.training.session import FREE_FIELDS

__all__ = [
    "Opened",
    "Place",
    "go_on",
    "keep_if_begun",
    "make_request",
    "open_together",
    "set_determinism",
    "start_anew",
]

R = TypeVar("R", Recipe, PretrainingRecipe)


@dataclass(frozen=True)
class Place:
    """State where a run lies and what stands there already."""

    runs: Path
    """Folder of all runs."""
    name: str | None = None
    """Name of the run; made of data and model where none is given."""
    overwrite: bool = False
    """Replace a run of that name."""


def make_request(recipe: DataRecipe, listener: Listener) -> Request:
    """State what a recipe wants of a data set of the catalogue, and tell the listener how getting it goes."""
    return Request(
        fold=recipe.fold, offline=not recipe.download, on_progress=listener.on_data, on_remark=listener.on_remark
    )


@dataclass(frozen=True)
class Opened(Generic[R]):
    """Hold what a training needs to begin."""

    run: Run
    recipe: R
    manifest: Manifest


def start_anew(
    recipe: R,
    source: str | None,
    place: Place,
    read: Callable[[R], Manifest],
    settle: Callable[[R, Manifest], R] = lambda recipe, _: recipe,
) -> Opened[R]:
    """Make the folder of a new run, and write down its recipe and its splits.

    Args:
        recipe: everything the run depends on.
        source: where the clips lie; None leaves what the recipe says.
        place: where the run goes.
        read: reads the clips that a recipe names.
        settle: fills in what a recipe leaves to the clips, before it is written down.

    Raises:
        TrainingError: there is a run of that name already, or it holds the weights to start from.
        CheckpointError: no weights where the recipe says; nothing was removed yet.
    """
    recipe = _fix_source(recipe, source)
    manifest = read(recipe)
    recipe = settle(recipe, manifest)
    folder = _choose_folder(place, recipe)
    _check_weights(recipe, folder)
    run = Run.create(folder, recipe, overwrite=place.overwrite)
    write_assignments(run.splits_path, manifest)
    return Opened(run, recipe, manifest)


def go_on(
    kind: type[R], wishes: Mapping[str, Any], source: str | None, place: Place, read: Callable[[R], Manifest]
) -> Opened[R]:
    """Open an interrupted run with the recipe and the splits that it was started with.

    Args:
        kind: of recipe that it was started with.
        wishes: leaves of the recipe that were asked for; none may make it another run.
        source: where the clips lie now; None where they lay.
        place: where the run lies.
        read: reads the clips that a recipe names.

    Raises:
        TrainingError: no such run, one of another kind, or a wish that would make it another.
    """
    if place.name is None:
        raise TrainingError("cannot resume - no run was named - say which one with --name.")
    run = Run.open(place.runs / place.name)
    recipe = _fix_source(_keep_recipe(run, kind, wishes), source)
    manifest = read(recipe)
    if run.splits_path.exists():
        manifest = apply_assignments(manifest, read_assignments(run.splits_path))
    return Opened(run, recipe, manifest)


def open_together(ranks: Ranks, open_run: Callable[[], Opened[R]], read: Callable[[R], Manifest]) -> Opened[R]:
    """Open a run in all its processes: rank 0 makes the folder, the others look at it.

    Args:
        ranks: the processes.
        open_run: opens the run where it is to be written.
        read: reads the clips that a recipe names.

    Raises:
        TubeletError: what went wrong in rank 0, everywhere.
    """
    if ranks.size == 1:
        return open_run()
    opened: Opened[R] | None = None

    def make() -> tuple[Path, R]:
        nonlocal opened
        opened = open_run()
        return opened.run.folder, opened.recipe

    folder, recipe = ranks.share(make)
    if opened is not None:
        return opened
    run, manifest = Run(folder), read(recipe)
    if run.splits_path.exists():
        manifest = apply_assignments(manifest, read_assignments(run.splits_path))
    return Opened(run, recipe, manifest)


@contextmanager
def keep_if_begun(run: Run, *, is_resumed: bool) -> Iterator[None]:
    """Remove the folder of a new run that fails before its first checkpoint: its name is free for the next attempt."""
    try:
        yield
    except TubeletError:
        if not is_resumed and not run.has_begun:
            run.remove()
        raise


@contextmanager
def set_determinism(wanted: bool) -> Iterator[None]:
    """Refuse operations that may differ between runs, for this run only."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _fix_source(recipe: R, source: str | None) -> R:
    """Store where clips and weights lie in a way that holds from any folder."""
    source = source or recipe.data.source
    if source and Path(source).exists():
        source = str(Path(source).absolute())
    weights = recipe.model.weights
    if weights and Path(weights).exists():
        weights = str(Path(weights).absolute())
    data: Any = replace(recipe.data, source=source)
    model: Any = replace(recipe.model, weights=weights)
    return replace(recipe, data=data, model=model)


def _check_weights(recipe: Recipe | PretrainingRecipe, folder: Path) -> None:
    """Find the weights to start from while an earlier run of that name still stands: replacing it would remove them."""
    source = recipe.model.source
    if not source:
        return
    found = find_weights(find_published(recipe.model.name).source if source == "default" else source)
    if any(path.resolve().is_relative_to(folder.resolve()) for path in found.paths):
        raise TrainingError(
            f"cannot start run {str(folder)!r} from {source!r} - its weights lie in the run that would be replaced - "
            "choose another --name."
        )


def _keep_recipe(run: Run, kind: type[R], wishes: Mapping[str, Any]) -> R:
    """Read the recipe a run was started with; only what cannot change its weights may be changed.

    Raises:
        TrainingError: a wish that would make it another run.
    """
    stored = run.read_recipe(kind)
    wished = override(stored, wishes, "--resume")
    before, after = flatten(stored), flatten(wished)
    for key in before:
        if before[key] != after[key] and key not in FREE_FIELDS:
            raise TrainingError(
                f"cannot resume {str(run.folder)!r} with {key} = {after[key]} - it was started with {before[key]} - "
                "resume it without that option, or start a new run."
            )
    return wished


def _choose_folder(place: Place, recipe: R) -> Path:
    if place.name is not None:
        return place.runs / place.name
    source = Path(recipe.data.source)
    stem = source.parent.name if source.stem in ("split", "manifest", "train", "data") else source.stem
    base = f"{stem or 'run'}-{recipe.model.name}"
    number = 1
    while (place.runs / base if number == 1 else place.runs / f"{base}-{number}").exists():
        number += 1
    return place.runs / (base if number == 1 else f"{base}-{number}")
