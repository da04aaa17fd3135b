"""Choose a starting recipe from what is known before any clip is read: the data's name and the model's card."""

from collections.abc import Mapping
from dataclasses import replace

from tubelet.recipes.recipe import DataRecipe, ModelRecipe, OptimizerRecipe, Recipe, TrainingRecipe
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

__all__ = ["SHIPPED", "recipe_for"]


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


SHIPPED = {"moving-shapes": make_moving_shapes}
"""Recipes by the name of the data they are for."""


def recipe_for(data: str | None, model: str | None, changes: Mapping[str, object]) -> Recipe:
    """Choose the recipe that a training starts from.

    Args:
        data: what is trained on; a name of the catalogue may bring a recipe of its own.
        model: the model asked for, if any; its card then brings the frames and the size it was designed for.
        changes: leaves that will be overridden anyway; an input stated there is left alone.

    Raises:
        UnknownName: no such model.
    """
    if data in SHIPPED and model is None:
        return SHIPPED[data]()
    recipe = SHIPPED[data]() if data in SHIPPED else Recipe()
    if model is None or any(key.startswith("input.") for key in changes):
        return recipe
    from tubelet.models import find_card

    spec = find_card(model).input_spec
    if "nano" in model:
        spec = recipe.input
    return replace(recipe, input=spec, model=ModelRecipe(model))
