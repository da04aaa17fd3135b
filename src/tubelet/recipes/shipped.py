"""Choose a starting recipe from what is known before any clip is read: the data's name and the model's card."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tubelet.config import override, read_config
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, OptimizerRecipe, Recipe, TrainingRecipe
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

__all__ = ["MOVING_SHAPES", "SHIPPED", "make_moving_shapes", "resolve_recipe"]

_SHORT = MappingProxyType({"input.frames": 8, "input.sampling": "dense"})
"""Eight frames in a row, begun anywhere in training and in the middle otherwise: half the cost, the motion as slow."""

MOVING_SHAPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "vivit_nano_factorized_encoder": {},
        "vivit_nano_joint": {},
        "vivit_nano_factorized_attention": {},
        "vivit_nano_factorized_dot_product": {},
        "videomae_nano": {},
        "timesformer_nano_divided": _SHORT,
        "timesformer_nano_joint": _SHORT,
        "timesformer_nano_space_only": _SHORT,
        "i3d_nano": {"training.epochs": 4},
        "frame_transformer_nano": {**_SHORT, "training.epochs": 14},
        "cnn_transformer_nano": {},
        "cnn_gru_nano": {**_SHORT, "training.epochs": 20},
        "cnn_lstm_nano": {**_SHORT, "training.epochs": 20},
    }
)
"""For each model that learns `moving-shapes` from scratch in a minute or two, where its recipe differs."""


def make_moving_shapes(model: str = "vivit_nano_factorized_encoder") -> Recipe:
    """Train a small model on the eight motions of `moving-shapes`, from scratch, on a CPU.

    Args:
        model: a name in `MOVING_SHAPES`.
    """
    recipe = Recipe(
        data=DataRecipe(source="moving-shapes", workers=0),
        model=ModelRecipe(model),
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
        optimizer=OptimizerRecipe(lr=1e-3, warmup_epochs=0.5),
        training=TrainingRecipe(epochs=5, batch=16),
    )
    return override(recipe, MOVING_SHAPES[model])


SHIPPED = {"moving-shapes": make_moving_shapes}
"""Recipes by the name of the data they are for."""


def resolve_recipe(data: str | None, config: Path | None, changes: Mapping[str, Any]) -> Recipe:
    """Decide everything a training depends on: shipped recipe or file first, then what was asked for in particular.

    Args:
        data: what is trained on; a name of the catalogue may bring a recipe of its own.
        config: a YAML file that states the recipe.
        changes: leaves by dotted name, which win. A model named here brings the frames and the size of its card, unless
            `input` is stated too.

    Raises:
        ConfigError: a wrong file, name or value, with the nearest right one.
        UnknownName: no such model.
    """
    if config is not None:
        return override(read_config(config, Recipe), changes, "command line")
    base = SHIPPED[data]() if data in SHIPPED else Recipe()
    model = changes.get("model.name", base.model.name)
    if data == "moving-shapes" and model in MOVING_SHAPES:
        base = make_moving_shapes(model)
    elif model != base.model.name:
        from tubelet.models import find_card

        base = replace(base, model=ModelRecipe(), input=find_card(model).input_spec)
    return override(base, changes, "command line")
