"""Open the folder of a new run, or of one that goes on, together with its recipe and its clips."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from tubelet.config import flatten, override
from tubelet.data.assignments import apply_assignments, follow_move, read_assignments, write_assignments
from tubelet.data.catalogue.entry import Request
from tubelet.data.manifest import Manifest
from tubelet.errors import ConfigError, TrainingError, TubeletError
from tubelet.models.published import find_published
from tubelet.models.weights.source import find_weights
from tubelet.prediction.load import find_model, find_remote
from tubelet.recipes.pretraining import PretrainingRecipe
from tubelet.recipes.recipe import DataRecipe, Recipe
from tubelet.recipes.resolution import read_stated
from tubelet.training.checkpoints import FREE_FIELDS
from tubelet.training.progress import Listener, Silent
from tubelet.training.ranks import ALONE, Ranks, join_ranks
from tubelet.training.run import Run

__all__ = ["Asked", "Opened", "Place", "check_name", "fix_source", "hold_run", "make_request", "open_run"]

R = TypeVar("R", Recipe, PretrainingRecipe)


def check_name(name: str) -> None:
    """Make sure that a run of that name is a folder among the others.

    Raises:
        ConfigError: it leads elsewhere, or nowhere.
    """
    if not name.strip(". ") or any(mark in name for mark in "/\\\0"):
        raise ConfigError(
            f"a run's name is that of its folder - found {name!r} - give a name such as 'mine', and with --runs the "
            "folder of all runs."
        )


@dataclass(frozen=True)
class Place:
    """State where a run lies and what stands there already."""

    runs: Path
    """Folder of all runs."""
    name: str | None = None
    """Name of the run; made of data and model where none is given."""
    overwrite: bool = False
    """Replace a run of that name."""

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name)


def make_request(recipe: DataRecipe, listener: Listener) -> Request:
    """State what a recipe wants of a data set of the catalogue, and tell the listener how getting it goes."""
    return Request(
        fold=recipe.fold, offline=not recipe.download, on_progress=listener.on_data, on_remark=listener.on_remark
    )


@dataclass(frozen=True)
class Asked(Generic[R]):
    """State what a command was asked to do."""

    kind: type[R]
    """Of recipe that it trains by."""
    source: str | None
    """Where the clips lie; None leaves what the recipe says."""
    place: Place
    """Where the run goes, or lies."""
    recipe: R | Path | str | None
    """Everything the run depends on, the name of a shipped recipe, or a YAML file; None has it resolved."""
    wishes: Mapping[str, Any]
    """Leaves of the recipe that were asked for in particular."""
    resume: bool
    """Go on with the run that lies there."""


@dataclass(frozen=True)
class Opened(Generic[R]):
    """Hold what a training needs to begin."""

    run: Run
    recipe: R
    manifest: Manifest
    ranks: Ranks = ALONE
    """The processes that train together."""
    is_resumed: bool = False


Read = Callable[[R], Manifest]
"""Reads the clips that a recipe names."""


def open_run(
    asked: Asked[R],
    read: Read[R],
    resolve: Callable[[str | None, R | None, Mapping[str, Any]], R],
    settle: Callable[[R, Manifest], R] = lambda recipe, _: recipe,
) -> Opened[R]:
    """Open a new run, or one that goes on, in all its processes: rank 0 makes the folder, the others look at it.

    Args:
        asked: what the command was asked to do.
        read: reads the clips that a recipe names.
        resolve: makes the recipe of a new run of the source and the wishes, where none was given.
        settle: fills in what a recipe leaves to the clips, before it is written down.

    Raises:
        TubeletError: what went wrong in rank 0, everywhere.
    """
    stated = None if asked.recipe is None else read_stated(asked.recipe, asked.kind)
    ranks = join_ranks(str(asked.wishes.get("training.device", stated.training.device if stated else "auto")))
    opened: Opened[R] | None = None

    def make() -> tuple[Path, R]:
        nonlocal opened
        if asked.resume:
            opened = _go_on(asked, read)
        else:
            opened = _start_anew(resolve(asked.source, stated, asked.wishes), asked, read, settle)
        return opened.run.folder, opened.recipe

    folder, recipe = ranks.share(make)
    if opened is None:
        opened = Opened(Run(folder), recipe, _read_assigned(Run(folder), recipe, read))
    return replace(opened, ranks=ranks, is_resumed=asked.resume)


@contextmanager
def hold_run(opened: Opened[R], listener: Listener) -> Iterator[None]:
    """Train within this: as deterministic as the recipe wants, and without a trace of a run that did not begin.

    The folder of a new run that fails before its first checkpoint is removed: its name is free for the next attempt.
    However it ends, the listener is told.
    """
    listener = listener if opened.ranks.is_main else Silent()
    lock = opened.run.lock() if opened.ranks.is_main else nullcontext()
    with lock, _set_determinism(opened.recipe.training.deterministic):
        try:
            yield
        except BaseException as error:
            listener.on_close(error)
            is_new = opened.ranks.is_main and not opened.is_resumed and not opened.run.has_begun
            if is_new and isinstance(error, TubeletError):
                opened.run.remove()
            raise
        listener.on_close(None)


def _start_anew(recipe: R, asked: Asked[R], read: Read[R], settle: Callable[[R, Manifest], R]) -> Opened[R]:
    """Make the folder of a new run, and write down its recipe and its splits.

    Raises:
        TrainingError: there is a run of that name already, or it holds the weights to start from.
        CheckpointError: no weights where the recipe says; nothing was removed yet.
    """
    recipe = fix_source(recipe, asked.source)
    manifest = read(recipe)
    recipe = settle(recipe, manifest)
    folder = _choose_folder(asked.place, recipe)
    _check_weights(recipe, folder)
    run = Run.create(folder, recipe, overwrite=asked.place.overwrite)
    write_assignments(run.splits_path, manifest)
    return Opened(run, recipe, manifest)


def _go_on(asked: Asked[R], read: Read[R]) -> Opened[R]:
    """Open an interrupted run with the recipe and the splits that it was started with.

    Raises:
        TrainingError: no such run, one of another kind, or a wish that would make it another.
    """
    if asked.place.name is None:
        raise TrainingError("cannot resume - no run was named - say which one with --name.")
    if asked.place.overwrite:
        raise TrainingError("cannot resume a run that is to be replaced - found both wishes - leave --overwrite out.")
    run = Run.open(asked.place.runs / asked.place.name)
    with run.lock():
        run.recover()
    recipe = fix_source(_keep_recipe(run, asked.kind, asked.wishes), asked.source)
    manifest = _read_assigned(run, recipe, read)
    if not run.splits_path.exists():  # it was killed while its folder was made
        write_assignments(run.splits_path, manifest)
    return Opened(run, recipe, manifest)


def _read_assigned(run: Run, recipe: R, read: Read[R]) -> Manifest:
    """Read the clips of a run in the splits that it was started with.

    Raises:
        TrainingError: some of them are not there.
    """
    manifest = read(recipe)
    if not run.splits_path.exists():
        return manifest
    assigned = follow_move(manifest, read_assignments(run.splits_path))
    present = {sample.name for sample in manifest.samples}
    lost = [name for name in assigned if name not in present]
    if lost:
        raise TrainingError(
            f"cannot resume {str(run.folder)!r} - {len(lost)} of the {len(assigned)} clips it was started with are "
            f"not in {manifest.origin}, such as {lost[0]} - name the data that holds them, or start a new run."
        )
    return apply_assignments(manifest, assigned)


@contextmanager
def _set_determinism(wanted: bool) -> Iterator[None]:
    """Refuse operations that may differ between runs, for this run only."""
    if not wanted or torch.are_deterministic_algorithms_enabled():
        yield  # to say so anyway would have torch import its compiler: seconds of each start
        return
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def fix_source(recipe: R, source: str | None) -> R:
    """Store where clips, weights and a teacher lie in a way that holds from any folder."""
    data: Any = replace(recipe.data, source=_fix_place(source or recipe.data.source))
    model: Any = replace(recipe.model, weights=_fix_place(recipe.model.weights))
    fixed = replace(recipe, data=data, model=model)
    if isinstance(fixed, Recipe):
        fixed = replace(fixed, loss=replace(fixed.loss, teacher=_fix_place(fixed.loss.teacher)))
    return fixed


def _fix_place(place: str) -> str:
    return str(Path(place).absolute()) if place and Path(place).exists() else place


def _check_weights(recipe: Recipe | PretrainingRecipe, folder: Path) -> None:
    """Find the weights to start from while an earlier run of that name still stands: replacing it would remove them.

    Raises:
        TrainingError: they, or those of a teacher, lie in that run.
        CheckpointError: there are none.
    """
    teacher = recipe.loss.teacher if isinstance(recipe, Recipe) else ""
    if teacher and find_remote(teacher) is None and find_model(teacher).resolve().is_relative_to(folder.resolve()):
        raise TrainingError(
            f"cannot start run {str(folder)!r} with {teacher!r} for a teacher - it lies in the run that would be "
            "replaced - choose another --name."
        )
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
