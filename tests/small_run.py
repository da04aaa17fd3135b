"""Train one tiny classifier, once a test process, for all tests that need a trained run."""

import os
from pathlib import Path

import av
import numpy as np

from tubelet.recipes.optimization import OptimizerRecipe
from tubelet.recipes.pretraining import (
    PretrainingData,
    PretrainingModel,
    PretrainingOptimizer,
    PretrainingRecipe,
    PretrainingSchedule,
)
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from tubelet.training.train import train
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec
from tubelet.video.synthetic import make_world

__all__ = ["make_small_run", "make_tiny_pretraining", "make_tiny_recipe", "write_clip"]


def make_tiny_recipe(source: str, **training) -> Recipe:
    changes = {"depth": 1, "temporal_depth": 1, "dim": 32, "heads": 2, "mlp_dim": 64}
    return Recipe(
        data=DataRecipe(source=source, workers=0),
        model=ModelRecipe("vivit_nano_factorized_encoder", changes),
        input=InputSpec(frames=8, height=16, width=16, differences="append"),
        augmentation=Augmentation(horizontal_flip=0.0),
        optimizer=OptimizerRecipe(lr=3e-3),
        training=TrainingRecipe(**{"epochs": 2, "batch": 8, **training}),
    )


def make_tiny_pretraining(source: str, **training) -> PretrainingRecipe:
    return PretrainingRecipe(
        data=PretrainingData(source=source, workers=0),
        model=PretrainingModel("videomae_nano", changes={"depth": 1, "dim": 32, "heads": 2, "mlp_dim": 64}),
        input=InputSpec(frames=8, height=16, width=16, differences="append"),
        optimizer=PretrainingOptimizer(lr=3e-3),
        training=PretrainingSchedule(**{"epochs": 2, "batch": 8, **training}),
    )


def make_small_run(folder: Path) -> Path:
    """Make the world `speed` with four broken relatives, train on it, and return the run folder."""
    manifest = make_world(
        "speed", folder / "world", clips={"train": 32, "val": 8, "test": 12}, frames=8, height=16, width=16
    )
    return train(recipe=make_tiny_recipe(os.fspath(manifest)), name="small", runs=folder / "runs").folder


def write_clip(path: Path, frames: int = 12, size: tuple[int, int] = (24, 32), seed: int = 0) -> Path:
    """Write a short H.264 clip of moving noise."""
    picture = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for number in range(frames):
            shifted = np.ascontiguousarray(np.roll(picture, number, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shifted, format="rgb24")))
        container.mux(stream.encode(None))
    return path
