"""Recipes for small models and small sets, that train on a CPU in minutes."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import getdoc
from types import MappingProxyType
from typing import Any

from tubelet.config import override
from tubelet.recipes.finetuning import IMAGENET_MEAN, IMAGENET_STD
from tubelet.recipes.listing import register_recipe
from tubelet.recipes.optimization import FinetuningRecipe, LossRecipe, OptimizerRecipe
from tubelet.recipes.pretraining import (
    PretrainingData,
    PretrainingModel,
    PretrainingRecipe,
    PretrainingSchedule,
)
from tubelet.recipes.recipe import SMALL_DATA, DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

__all__ = [
    "FEATURES",
    "MOTION",
    "MOVING_SHAPES",
    "VOLUMES",
    "make_features",
    "make_few_clips",
    "make_motion",
    "make_moving_shapes",
    "make_moving_shapes_pretraining",
    "make_volumes",
]

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
        optimizer=OptimizerRecipe(lr=1e-3),
        loss=LossRecipe(label_smoothing=0.1),
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
        optimizer=OptimizerRecipe(lr=1e-3),
        loss=LossRecipe(label_smoothing=0.1),
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

    Result: on 272 surveillance clips (fight or not), five folds by source, clips of unknown source in training only,
    mean of three seeds, four moments, mirrored and in two sizes: I3D .795 (95 % interval over sources .745 to .844;
    seeds .801, .787, .798), bf16, 99 s a run; ViViT .725 (.668 to .777; .728, .721, .728), begun with weights that
    learned moving-shapes, 47 s a run. One thread of a Xeon with AMX, 2026-11-21, `python examples/results.py fight
    fight-transformer`.

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


@register_recipe("few-clips/videomae_small")
def make_few_clips() -> Recipe:
    """Fine-tune VideoMAE on some hundred clips from its weights for Kinetics-400: the default where nothing is named.

    The head moves alone for two epochs, then every layer at a rate of its own, least near the input. Clips are chosen
    as they were for the weights, 16 frames four apart.

    Result: not measured here. The model is made for a GPU: on a Xeon with AMX (bf16) a clip of a step takes 1.4 s with
    one thread, .75 s with two, by `python benchmarks/training_step.py`.

    Source: the settings of arXiv 2203.12602 for small sets, with gentler variations and fewer epochs.
    """
    return Recipe(
        model=ModelRecipe("videomae_small", changes={"drop_path": 0.1}, weights="default"),
        input=InputSpec(sampling="dense", stride=4, convention="videomae", mean=IMAGENET_MEAN, std=IMAGENET_STD),
        augmentation=SMALL_DATA,
        optimizer=OptimizerRecipe(lr=5e-4, layer_decay=0.75, warmup_epochs=2.0),
        loss=LossRecipe(label_smoothing=0.1),
        finetuning=FinetuningRecipe(head_epochs=2),
        training=TrainingRecipe(epochs=20, batch=8, accumulate=2),
    )


@register_recipe("moving-shapes/pretraining")
def make_moving_shapes_pretraining() -> PretrainingRecipe:
    """Pre-train a small VideoMAE on the clips of `moving-shapes`, without their labels, on a CPU."""
    return PretrainingRecipe(
        data=PretrainingData(source="moving-shapes", workers=0),
        model=PretrainingModel("videomae_nano"),
        input=InputSpec(frames=16, height=32, width=32, differences="append"),
        augmentation=Augmentation(horizontal_flip=0.0, shift=0.5, shift_fill="wrap"),
        training=PretrainingSchedule(epochs=10, batch=32),
    )


def _register() -> None:
    cases: tuple[tuple[str, Callable[[str], Recipe], Iterable[str]], ...] = (
        ("moving-shapes", make_moving_shapes, MOVING_SHAPES),
        ("volumes", make_volumes, VOLUMES),
        ("motion", make_motion, MOTION),
        ("features", make_features, ("cnn_transformer_small", *FEATURES)),
    )
    for data, make, models in cases:
        for model in models:
            register_recipe(f"{data}/{model}", getdoc(make) or "")(partial(make, model))


_register()
