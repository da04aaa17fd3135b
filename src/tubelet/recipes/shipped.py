"""Choose a starting recipe from what is known before any clip is read: the data's name and the model's card."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from tubelet.config import override, read_config
from tubelet.errors import DataError
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
    "FEATURES",
    "MOTION",
    "MOVING_SHAPES",
    "SHIPPED",
    "SHIPPED_PRETRAINING",
    "VOLUMES",
    "make_features",
    "make_motion",
    "make_moving_shapes",
    "make_moving_shapes_pretraining",
    "make_volumes",
    "resolve_pretraining",
    "resolve_recipe",
]

R = TypeVar("R", Recipe, PretrainingRecipe)

_SHORT = MappingProxyType({"input.frames": 8, "input.sampling": "dense"})
"""Eight frames in a row, begun anywhere in training and in the middle otherwise: half the cost, the motion as slow."""

MOVING_SHAPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "vivit_nano_factorized_encoder": {},
        "vivit_nano_joint": {},
        "vivit_nano_factorized_attention": {},
        "vivit_nano_factorized_dot_product": {},
        "videomae_nano": {},
        "vjepa2_nano": {},
        "timesformer_nano_divided": _SHORT,
        "timesformer_nano_joint": _SHORT,
        "timesformer_nano_space_only": _SHORT,
        "timesformer_nano_local_global": _SHORT,
        "timesformer_nano_axial": _SHORT,
        "i3d_nano": {"training.epochs": 4},
        "frame_transformer_nano": {**_SHORT, "training.epochs": 14},
        "cnn_transformer_nano": {},
        "cnn_gru_nano": {**_SHORT, "training.epochs": 15},
        "cnn_lstm_nano": {**_SHORT, "training.epochs": 15},
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


FEATURES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"cnn_gru_small": MappingProxyType({"input.frames": 8, "training.epochs": 40})}
)
"""Where the recipe of a model of features differs. Eight frames, one drawn from each eighth of a clip in training: a
recurrent model sees a new choice in every epoch, and learns no clip by heart."""


def make_features(model: str = "cnn_transformer_small") -> Recipe:
    """Train a sequence model on features of frames that another network computed, on a CPU.

    Args:
        model: any model of features; those in `FEATURES` have a recipe that differs.
    """
    return override(_make_features(model), FEATURES.get(model, {}))


def _make_features(model: str) -> Recipe:
    return Recipe(
        data=DataRecipe(workers=0),
        model=ModelRecipe(model),
        input=InputSpec(kind="features", frames=20, height=1, width=1, channels=2048, mean=(), std=()),
        augmentation=Augmentation(horizontal_flip=0.0),
        optimizer=OptimizerRecipe(lr=1e-3, label_smoothing=0.1),
        training=TrainingRecipe(epochs=20, batch=32),
    )


VOLUMES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "i3d_nano": MappingProxyType(
            {
                "model.changes.stem_kernel": (5, 5, 5),
                "model.changes.stem_stride": (2, 2, 2),
                "training.epochs": 30,
            }
        ),
        "vivit_nano_joint": MappingProxyType(
            {
                "model.changes.tubelet": (8, 8, 8),
                "augmentation.stretch": (0.67, 1.5),
                "augmentation.shift": 0.15,
                "augmentation.time_shift": 0.15,
                "training.epochs": 90,
            }
        ),
    }
)
"""For each model that learns a small set of volumes from scratch in minutes, where its recipe differs."""


def make_volumes(model: str = "i3d_nano") -> Recipe:
    """Train a small model on some hundred gray volumes, from scratch, on a CPU.

    Result: I3D .695 (95 % interval over shapes .604 to .769) on 1,104 voxel volumes of ModelNet10, five folds by shape
    (seed 0), with vertical_flip and time_reversal 0.5 and 15 % of the training shapes set aside; one run each, about
    155 s of one thread of a Xeon with AVX-512 a fold, 2026-11-21, `python examples/results.py volumes`. The command
    sets nothing aside. The ViViT has no figure on all five folds yet; docs/log.md has those of single ones.

    Args:
        model: a name in `VOLUMES`.
    """
    recipe = Recipe(
        data=DataRecipe(val_fraction=0.0, workers=0),
        model=ModelRecipe(model),
        input=InputSpec(frames=32, height=32, width=32, channels=1),
        augmentation=Augmentation(horizontal_flip=0.0, stretch=(0.7, 1.42), shift=0.1, time_shift=0.1),
        optimizer=OptimizerRecipe(lr=1e-3, label_smoothing=0.1),
        training=TrainingRecipe(batch=32, keep="last"),
    )
    return override(recipe, VOLUMES[model])


MOTION: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "i3d_nano": MappingProxyType({}),
        "vivit_nano_factorized_encoder": MappingProxyType(
            {"input.height": 32, "input.width": 48, "optimizer.lr": 5e-4, "training.epochs": 20}
        ),
    }
)
"""For each model that learns motion from a few hundred clips, from scratch, where its recipe differs."""


def make_motion(model: str = "i3d_nano") -> Recipe:
    """Train a small model on a few hundred clips whose classes differ in motion, from scratch, on a CPU.

    It sees differences of frames only, so that it cannot learn the training clips by their background, and the average
    of its weights over the last steps is kept: so few clips are too few to choose an epoch by.

    Args:
        model: a name in `MOTION`.
    """
    recipe = Recipe(
        data=DataRecipe(val_fraction=0.0, workers=0),
        model=ModelRecipe(model),
        input=InputSpec(frames=16, height=48, width=64, differences="only"),
        augmentation=Augmentation(
            crop_scale=(0.3, 1.0),
            crop_ratio=(0.75, 1.333),
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            erasing=0.25,
            mixup=0.4,
        ),
        optimizer=OptimizerRecipe(lr=1e-3, warmup_epochs=2.0, ema=0.99),
        training=TrainingRecipe(epochs=24, batch=16, keep="last"),
    )
    return override(recipe, MOTION[model])


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


def _meet_features(recipe: Recipe, spec: InputSpec, source: str | None) -> Recipe:
    """Take features from the data, and frames too but where the model's recipe states them; else from its card."""
    from tubelet.data.features import find_shape
    from tubelet.data.manifest import read_manifest

    shape = find_shape(read_manifest(source)) if source and Path(source).is_file() else None
    if shape is not None:
        spec = replace(spec, frames=shape.frames, channels=shape.dim)
    return override(replace(recipe, input=spec), FEATURES.get(recipe.model.name, {}))


def _find_volumes_recipe(source: str | None, changes: Mapping[str, Any]) -> Recipe | None:
    """Return the recipe for volumes where the data is such, and neither weights nor another model are asked for."""
    from tubelet.data.manifest import read_manifest
    from tubelet.data.volumes import holds_volumes

    model = str(changes.get("model.name", "i3d_nano"))
    has_weights = bool(changes.get("model.weights") or changes.get("model.pretrained"))
    if has_weights or model not in VOLUMES or source is None or Path(source).suffix.lower() != ".npz":
        return None
    try:
        return make_volumes(model) if holds_volumes(read_manifest(source)) else None
    except DataError:
        return None  # the training opens the data next, and says what is wrong with it


def resolve_recipe(data: str | None, config: Path | None, changes: Mapping[str, Any]) -> Recipe:
    """Decide everything a training depends on: shipped recipe or file first, then what was asked for in particular.

    Args:
        data: what is trained on; a name of the catalogue may bring a recipe of its own.
        config: a YAML file that states the recipe.
        changes: leaves by dotted name, which win. A model named here brings the frames and the size of its card, unless
            `input` is stated too; weights without a model bring their own model and contract. A model of features
            brings a recipe of its own, `make_features`, and takes their number from the data, and the frames of the
            longest clip where that recipe does not say how many are chosen. Volumes, gray arrays as deep as high and
            wide, bring `make_volumes`, unless weights or a model that is not in `VOLUMES` are named.

    Raises:
        ConfigError: a wrong file, name or value, with the nearest right one.
        UnknownName: no such model.
    """
    if config is not None:
        return override(read_config(config, Recipe), changes, "command line")
    model = str(changes.get("model.name", ""))
    if data == "moving-shapes" and model in MOVING_SHAPES:
        return override(make_moving_shapes(model), changes, "command line")
    if model:
        from tubelet.models import find_card

        spec = find_card(model).input_spec
        if spec.kind == "features":
            met = _meet_features(make_features(model), spec, changes.get("data.source", data))
            return override(met, changes, "command line")
    volumes = _find_volumes_recipe(changes.get("data.source", data), changes)
    if volumes is not None:
        return override(volumes, changes, "command line")
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
