"""Choose a recipe from what is known before any clip is read: what was named, the data, a model's card, the weights."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from tubelet.config import override, read_config
from tubelet.errors import CheckpointError, ConfigError, DataError
from tubelet.recipes.listing import RECIPES
from tubelet.recipes.pretraining import PretrainingRecipe
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.shipped import SHIPPED as SHIPPED  # registers them
from tubelet.recipes.small import (
    FEATURES,
    MOVING_SHAPES,
    VOLUMES,
    make_features,
    make_few_clips,
    make_moving_shapes,
    make_moving_shapes_pretraining,
    make_volumes,
)
from tubelet.video.spec import InputSpec

if TYPE_CHECKING:
    from tubelet.data.catalogue.entry import Kind

__all__ = ["DEFAULTS", "read_stated", "resolve_pretraining", "resolve_recipe"]

R = TypeVar("R", Recipe, PretrainingRecipe)


def _ignore(_text: str) -> None:
    """Tell nobody."""


def read_stated(stated: R | Path | str, kind: type[R]) -> R:
    """Read a recipe that was named: a shipped one by its name, or a YAML file.

    Raises:
        UnknownName: no recipe of that name, and no such file; with the nearest.
        ConfigError: it is for the other command, or the file is wrong.
    """
    if not isinstance(stated, Path | str):
        return stated
    if isinstance(stated, Path) or stated.endswith((".yaml", ".yml")) or Path(stated).is_file():
        return read_config(stated, kind)
    listed = RECIPES[stated]
    recipe = listed.make()
    if not isinstance(recipe, kind):
        raise ConfigError(
            f"the recipe '{stated}' is for 'tubelet {listed.command}' - it was given to another command - use that one."
        )
    return recipe


def _meet_features(recipe: Recipe, spec: InputSpec, source: str | None) -> Recipe:
    """Take features from the data, and frames too but where the model's recipe states them; else from its card."""
    from tubelet.data.features import find_shape
    from tubelet.data.manifest import read_manifest

    shape = find_shape(read_manifest(source)) if source and Path(source).is_file() else None
    if shape is not None:
        spec = replace(spec, frames=shape.frames, channels=shape.dim)
    return override(replace(recipe, input=spec), FEATURES.get(recipe.model.name, {}))


def resolve_recipe(
    data: str | None,
    stated: Recipe | Path | str | None,
    changes: Mapping[str, Any],
    on_choice: Callable[[str], None] = _ignore,
) -> Recipe:
    """Decide everything a training depends on: shipped recipe or file first, then what was asked for in particular.

    Args:
        data: what is trained on; a name of the catalogue may bring a recipe of its own.
        stated: a recipe, the name of a shipped one, or a YAML file that states one; None leaves the choice to what
            follows.
        changes: leaves by dotted name, which win. A model named here brings the frames and the size of its card, unless
            `input` is stated too; weights without a model bring their own model and contract. A model of features
            brings a recipe of its own, `make_features`, and takes their number from the data, and the frames of the
            longest clip where that recipe does not say how many are chosen. Volumes, gray arrays as deep as high and
            wide, bring `make_volumes`, unless weights or a model that is not in `VOLUMES` are named. Where nothing of
            this is named, data in `DEFAULTS` bring a recipe of their own, and other videos `make_few_clips`, which
            begins with published weights, if they can be had.
        on_choice: told what was chosen where nothing was named, and why.

    Raises:
        ConfigError: a wrong file, name or value, with the nearest right one.
        UnknownName: no such model, or no such recipe.
    """
    if stated is not None:
        return override(read_stated(stated, Recipe), changes, "command line")
    model = str(changes.get("model.name", ""))
    if data == "moving-shapes" and model in MOVING_SHAPES:
        return override(make_moving_shapes(model), changes, "command line")
    source = changes.get("data.source", data)
    if model:
        from tubelet.models import find_card

        spec = find_card(model).input_spec
        if spec.kind == "features":
            met = _meet_features(make_features(model), spec, source)
            return override(met, changes, "command line")
    return _resolve(_choose(source, changes, on_choice), changes)


def resolve_pretraining(
    data: str | None, stated: PretrainingRecipe | Path | str | None, changes: Mapping[str, Any]
) -> PretrainingRecipe:
    """Decide everything a pre-training depends on, as `resolve_recipe` does for a training."""
    if stated is not None:
        return override(read_stated(stated, PretrainingRecipe), changes, "command line")
    return _resolve(make_moving_shapes_pretraining() if data == "moving-shapes" else PretrainingRecipe(), changes)


def _choose(source: str | None, changes: Mapping[str, Any], on_choice: Callable[[str], None]) -> Recipe:
    """Begin with the recipe that suits the data, as far as what was named leaves the choice."""
    if not source:
        return Recipe()
    is_free = not any(key.startswith(NAMED) for key in changes)
    if is_free and source in DEFAULTS:
        name = DEFAULTS[source]
        on_choice(f"training by the recipe {name}, because nothing else was named; --recipe takes another.")
        return read_stated(name, Recipe)
    model = str(changes.get("model.name", "i3d_nano"))
    may_be_volumes = model in VOLUMES and not (changes.get("model.weights") or changes.get("model.pretrained"))
    kind = _find_kind(source) if is_free or may_be_volumes else None
    if kind == "volumes" and may_be_volumes:
        return make_volumes(model)
    if source == "moving-shapes":
        return make_moving_shapes()
    return _choose_for_videos(on_choice) if is_free and kind == "videos" else Recipe()


def _choose_for_videos(on_choice: Callable[[str], None]) -> Recipe:
    """Begin with published weights where they can be had; else from scratch."""
    from tubelet.models.published import find_published
    from tubelet.models.weights.description import describe_source
    from tubelet.models.weights.hub import check_connection

    recipe = make_few_clips()
    published = find_published(recipe.model.name)
    try:
        check_connection(published.source)
        found = describe_source(published.source)
    except CheckpointError as error:
        on_choice(
            f"training {Recipe().model.name} from scratch, because the weights of {recipe.model.name} cannot be had: "
            f"{error} Few clips teach more where a model begins with weights: --weights SOURCE."
        )
        return Recipe()
    on_choice(
        f"fine-tuning {recipe.model.name} from its weights for {published.dataset} ({published.license}), because "
        f"nothing else was named: with few clips that is worth most. --model {Recipe().model.name} trains from "
        "scratch, in minutes on a CPU."
    )
    return replace(recipe, input=found.input_spec)


NAMED = ("model.", "input.", "finetuning.")
"""Whoever says something about these has a model in mind."""


DEFAULTS: Mapping[str, str] = MappingProxyType({"organmnist3d": "organmnist3d/vivit"})
"""For each data set with a shipped recipe that trains from scratch, that recipe."""


def _find_kind(source: str) -> "Kind | None":
    """Tell videos of things in the world from volumes; None is anything else, or what cannot be read."""
    from tubelet.data.catalogue import DATASETS
    from tubelet.data.manifest import read_manifest
    from tubelet.data.volumes import holds_volumes

    if source in DATASETS and not Path(source).exists():
        return DATASETS[source].kind
    try:
        manifest = read_manifest(source)
    except DataError:
        return None  # the training opens the data next, and says what is wrong with it
    if Path(source).suffix.lower() == ".npz":
        return "volumes" if holds_volumes(manifest) else None
    first = next(iter(manifest.samples), None)
    is_other = first is None or Path(first.source).suffix.lower() in (".npz", ".npy", ".nii", ".gz", ".dcm")
    return None if is_other else "videos"


def _resolve(base: R, changes: Mapping[str, Any]) -> R:
    model = changes.get("model.name", base.model.name)
    weights = str(changes.get("model.weights", ""))
    if weights not in ("", "default") and "model.name" not in changes:
        from tubelet.models.weights.description import describe_source

        found = describe_source(weights)
        base = replace(base, model=type(base.model)(found.name, changes=found.changes), input=found.input_spec)
    elif model != base.model.name:
        from tubelet.models import find_card

        base = replace(base, model=type(base.model)(), input=find_card(model).input_spec)
    return override(base, changes, "command line")
