"""Recipes for the masked pre-training of VideoMAE, as its authors state them; none was run here."""

from dataclasses import dataclass
from functools import partial

from tubelet.recipes.finetuning import IMAGENET_MEAN, IMAGENET_STD, USUAL_SHAPE
from tubelet.recipes.listing import register_recipe
from tubelet.recipes.pretraining import (
    PretrainingData,
    PretrainingModel,
    PretrainingOptimizer,
    PretrainingRecipe,
    PretrainingSchedule,
)
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

__all__ = ["make_masked"]


@dataclass(frozen=True)
class Case:
    """State what differs from data set to data set."""

    data: str
    epochs: int
    batch: int = 1024
    lr: float = 1.5e-4
    mask_ratio: float = 0.9
    stride: int = 4


CASES = {
    "kinetics400/videomae_pretraining": Case("kinetics400", 1600),
    "something-v2/videomae_pretraining": Case("something-v2", 2400, stride=2),
    "ucf101/videomae_pretraining": Case("ucf101", 3200, 192, 3e-4, 0.75),
    "hmdb51/videomae_pretraining": Case("hmdb51", 4800, 192, 3e-4, 0.75, stride=2),
}
"""By name of the recipe."""


def make_masked(name: str) -> PretrainingRecipe:
    """Make the recipe by which VideoMAE was pre-trained.

    Args:
        name: in `CASES`.

    Differences: crops of four scales of the short side at 13 places, whose sides differ by one scale at most, are drawn
    as crops of that range of areas and ratios, anywhere; areas are shares of a picture of 4 by 3.

    Source: arXiv 2203.12602, table 9, and the official scripts, which never flip.
    """
    case = CASES[name]
    return PretrainingRecipe(
        data=PretrainingData(source=case.data, workers=8, val_fraction=0.0),
        model=PretrainingModel("videomae_base", mask_ratio=case.mask_ratio, decoder_depth=4),
        input=InputSpec(
            sampling="dense", stride=case.stride, convention="videomae", mean=IMAGENET_MEAN, std=IMAGENET_STD
        ),
        augmentation=Augmentation(
            horizontal_flip=0.0,
            crop_scale=(USUAL_SHAPE * 0.66**2, USUAL_SHAPE),
            crop_ratio=(0.75 / 0.875, 0.875 / 0.75),
        ),
        optimizer=PretrainingOptimizer(
            lr=case.lr, base_batch=256, clip_norm=0.0, warmup_epochs=40.0, warmup_lr=1e-6, min_lr=1e-5
        ),
        training=PretrainingSchedule(epochs=case.epochs, batch=case.batch),
    )


for _name, _case in CASES.items():
    register_recipe(_name, f"Pre-train VideoMAE on {_case.data} without labels, as its authors do.")(
        partial(make_masked, _name)
    )
