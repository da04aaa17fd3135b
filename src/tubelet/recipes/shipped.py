"""Choose a starting recipe from what is known before any clip is read: the data's name and the model's card."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from tubelet.config import override, read_config
from tubelet.recipes.pretraining import (
    PretrainingData,
    PretrainingModel,
    PretrainingRecipe,
    PretrainingSchedule,
)
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, OptimizerRecipe, Recipe, TrainingRecipe
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

__all__ = [
    "SHIPPED",
    "SHIPPED_PRETRAINING",
    "make_moving_shapes",
    "make_moving_shapes_pretraining",
    "resolve_pretraining",
    "resolve_recipe",
]

R = TypeVar("R", Recipe, PretrainingRecipe)


def make_moving_shapes() -> Recipe:
    """Train a small ViViT on the eight motions of `moving-shapes`, from scratch, on a CPU."""
    return Recipe(
        data=DataRecipe(source="moving-shapes", workers=0),
        model=ModelRecipe("vivit_nano_factorized_encoder"),
        input=InputSpec(frames=16, height=32, width=32, differences="append"),
        augmentation=Augmentation(
            horizontal_flip=0.5,
            horizontal_pairs=(("left", "right"), ("rotate_clockwise", "rotate_counterclockwise")),
            vertical_flip=0.5,
            vertical_pairs=(("up", "down"), ("rotate_clockwise", "rotate_counterclockwise")),
            time_reversal=0.5,
            reversal_pairs=(
                ("left", "right"),
                ("up", "down"),
                ("rotate_clockwise", "rotate_counterclockwise"),
                ("zoom_in", "zoom_out"),
            ),
            shift=0.5,
            shift_fill="wrap",
        ),
        optimizer=OptimizerRecipe(lr=1e-3),
        training=TrainingRecipe(epochs=10, batch=32),
    )


def make_moving_shapes_pretraining() -> PretrainingRecipe:
    """Pre-train a small VideoMAE on the clips of `moving-shapes`, without their labels, on a CPU."""
    return PretrainingRecipe(
        data=PretrainingData(source="moving-shapes", workers=0),
        model=PretrainingModel("videomae_nano"),
        input=InputSpec(frames=16, height=32, width=32, differences="append"),
        augmentation=Augmentation(horizontal_flip=0.0, shift=0.5, shift_fill="wrap"),
        training=PretrainingSchedule(epochs=10, batch=32),
    )


SHIPPED = {"moving-shapes": make_moving_shapes}
"""Recipes by the name of the data they are for."""
SHIPPED_PRETRAINING = {"moving-shapes": make_moving_shapes_pretraining}
"""The same for pre-training."""


def resolve_recipe(data: str | None, config: Path | None, changes: Mapping[str, Any]) -> Recipe:
    """Decide everything a training depends on: shipped recipe or file first, then what was asked for in particular.

    Args:
        data: what is trained on; a name of the catalogue may bring a recipe of its own.
        config: a YAML file that states the recipe.
        changes: leaves by dotted name, which win. A model named here brings the frames and the size of its card, unless
            `input` is stated too; weights without a model bring their own model and contract.

    Raises:
        ConfigError: a wrong file, name or value, with the nearest right one.
        UnknownName: no such model.
    """
    if config is not None:
        return override(read_config(config, Recipe), changes, "command line")
    return _resolve(SHIPPED[data]() if data in SHIPPED else Recipe(), changes)


def resolve_pretraining(data: str | None, config: Path | None, changes: Mapping[str, Any]) -> PretrainingRecipe:
    """Decide everything a pre-training depends on, as `resolve_recipe` does for a training."""
    if config is not None:
        return override(read_config(config, PretrainingRecipe), changes, "command line")
    return _resolve(SHIPPED_PRETRAINING[data]() if data in SHIPPED_PRETRAINING else PretrainingRecipe(), changes)


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
