"""Recipes that papers and their code state: the fine-tuning of ViViT, TimeSformer and VideoMAE.

None of them was run here: they need many GPUs for days. The results are those that the authors report.
`--training.accumulate 8 --training.batch 8` takes the same steps of 64 clips in less memory.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from tubelet.recipes.listing import register_recipe
from tubelet.recipes.optimization import LossRecipe, OptimizerRecipe
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "USUAL_SHAPE", "make_timesformer", "make_videomae", "make_vivit"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
USUAL_SHAPE = 3 / 4
"""Height over width of a usual video: authors state square crops by the short side, recipes by the area."""


@dataclass(frozen=True)
class ViViTCase:
    """State what differs from data set to data set where ViViT is fine-tuned."""

    data: str
    result: str
    """What the authors report."""
    lr: float
    epochs: int
    stride: int = 2
    model: str = "vivit_base_factorized_encoder"
    size: tuple[int, int] = (256, 224)
    """Short side and crop."""
    temporal_depth: int = 4
    """Blocks over moments, where the model has any."""
    is_strong: bool = False
    """On motion: no colors, RandAugment, drop path, smoothing and MixUp instead."""


_LARGE = "vivit_large_factorized_encoder"
VIVIT = {
    "kinetics400/vivit": ViViTCase("kinetics400", "78.4 with 4x3 views", 0.05, 30),
    "kinetics400/vivit_joint": ViViTCase("kinetics400", "79.9 with 4x3 views", 0.1, 30, model="vivit_base_joint"),
    "kinetics400/vivit_large": ViViTCase(
        "kinetics400", "80.3 with 4x3 views", 0.1, 30, model=_LARGE, temporal_depth=24
    ),
    "kinetics600/vivit_large": ViViTCase(
        "kinetics600", "81.6 with 4x3 views", 0.05, 30, model=_LARGE, temporal_depth=24
    ),
    "something-v2/vivit": ViViTCase(
        "something-v2",
        "65.4 for a base model in the paper's ablation",
        0.4,
        35,
        stride=1,
        size=(288, 256),
        is_strong=True,
    ),
}
"""By name of the recipe."""
VIVIT_ON_MOTION = "Begin with a ViViT for Kinetics-400, such as a run of `kinetics400/vivit`: --weights RUN."


def make_vivit(name: str) -> Recipe:
    """Make the recipe by which ViViT was fine-tuned, from an image ViT that `--weights` names.

    Args:
        name: in `VIVIT`.

    Differences: the jitter of height and width, 0.9 to 1.33 each before a crop, is drawn as a crop of that range of
    areas, shares of a picture of 4 by 3, and ratios; RandAugment has torchvision's pool of operations.

    Source: arXiv 2103.15691, table 7, and the official configurations.
    """
    case = VIVIT[name]
    short, side = case.size
    jittered = Augmentation(
        crop_scale=(USUAL_SHAPE * (side / (1.33 * short)) ** 2, USUAL_SHAPE * (side / (0.9 * short)) ** 2),
        crop_ratio=(0.9 / 1.33, 1.33 / 0.9),
    )
    if case.is_strong:
        varied = replace(jittered, policy="randaugment", policy_ops=2, policy_magnitude=20.0, mixup=0.3)
    else:
        varied = replace(
            jittered, brightness=0.125, contrast=0.4, saturation=0.4, hue=0.2, color_chance=0.8, grayscale=0.1
        )
    changes: dict[str, int | float] = {"drop_path": 0.3} if case.is_strong else {}
    if case.temporal_depth != 4:
        changes["temporal_depth"] = case.temporal_depth
    return Recipe(
        data=DataRecipe(source=case.data, workers=8),
        model=ModelRecipe(case.model, changes=changes),
        input=InputSpec(
            frames=32,
            height=side,
            width=side,
            short_side=short,
            sampling="dense",
            stride=case.stride,
            convention="dmvr",
            short="loop",
        ),
        augmentation=varied,
        optimizer=OptimizerRecipe(
            name="sgd", lr=case.lr, weight_decay=0.0, momentum=0.9, clip_norm=1.0, warmup_epochs=2.5, min_lr=0.0
        ),
        loss=LossRecipe(label_smoothing=0.3 if case.is_strong else 0.0),
        training=TrainingRecipe(epochs=case.epochs, batch=64, keep="last"),
    )


@dataclass(frozen=True)
class TimeSformerCase:
    """State what differs from variant to variant where TimeSformer is fine-tuned."""

    data: str
    result: str
    """What the authors report."""
    model: str
    frames: int
    rate_fps: float
    """0: spread over the whole video."""
    side: int = 224
    short_sides: tuple[int, int] = (256, 320)
    """Least and greatest short side that a picture is scaled to before a crop."""


TIMESFORMER = {
    "kinetics400/timesformer": TimeSformerCase("kinetics400", "78.0 with 1x3 views", "base", 8, 0.9375),
    "kinetics400/timesformer_hr": TimeSformerCase(
        "kinetics400", "79.7 with 1x3 views", "hr", 16, 1.875, side=448, short_sides=(448, 512)
    ),
    "kinetics400/timesformer_large": TimeSformerCase("kinetics400", "80.7 with 1x3 views", "large", 96, 7.5),
    "kinetics600/timesformer": TimeSformerCase("kinetics600", "79.1 with 1x3 views", "base", 8, 0.9375),
    "something-v2/timesformer": TimeSformerCase("something-v2", "59.5 with 1x3 views", "base", 8, 0.0),
}
"""By name of the recipe."""


def make_timesformer(name: str) -> Recipe:
    """Make the recipe by which TimeSformer was fine-tuned, from an image ViT that `--weights` names.

    Args:
        name: in `TIMESFORMER`.

    Differences: vectors are not decayed; crops are drawn as shares of a picture of 4 by 3; on Something-Something
    frames are spread over the whole video and the channels keep their order.

    Source: arXiv 2102.05095, appendix A, and the official configurations.
    """
    case = TIMESFORMER[name]
    least, greatest = case.short_sides
    spec = InputSpec(frames=case.frames, height=case.side, width=case.side, mean=(0.45,), std=(0.225,))
    if case.rate_fps:
        spec = replace(spec, sampling="dense", rate_fps=case.rate_fps, convention="slowfast")
    return Recipe(
        data=DataRecipe(source=case.data, workers=8),
        model=ModelRecipe(f"timesformer_{case.model}_divided"),
        input=spec,
        augmentation=Augmentation(
            horizontal_flip=0.0 if case.data == "something-v2" else 0.5,
            crop_scale=(USUAL_SHAPE * (case.side / greatest) ** 2, USUAL_SHAPE * (case.side / least) ** 2),
        ),
        optimizer=OptimizerRecipe(
            name="sgd",
            lr=0.005,
            weight_decay=1e-4,
            momentum=0.9,
            clip_norm=0.0,
            schedule="step",
            milestones=(11.0, 14.0),
            warmup_epochs=0.0,
            min_lr=0.0,
        ),
        training=TrainingRecipe(epochs=15, batch=16, keep="last"),
    )


@dataclass(frozen=True)
class VideoMAECase:
    """State what differs from data set to data set where VideoMAE is fine-tuned."""

    data: str
    result: str
    """What the authors report."""
    epochs: int
    batch: int
    lr: float = 5e-4
    size: Literal["small", "base", "large"] = "base"
    layer_decay: float = 0.75
    drop_path: float = 0.1
    head_dropout: float = 0.0
    stride: int = 4
    """0: spread over the whole video."""
    floors: tuple[float, float] = (1e-6, 1e-6)
    """Rates that the warm-up begins at and the cosine ends at."""


VIDEOMAE = {
    "kinetics400/videomae_small": VideoMAECase(
        "kinetics400", "79.0 with 5x3 views", 150, 384, size="small", layer_decay=0.7
    ),
    "kinetics400/videomae": VideoMAECase("kinetics400", "81.5 with 5x3 views", 75, 384),
    "kinetics400/videomae_large": VideoMAECase(
        "kinetics400", "85.2 with 5x3 views", 35, 128, 2e-3, "large", drop_path=0.2, head_dropout=0.5
    ),
    "something-v2/videomae": VideoMAECase("something-v2", "70.8 with 2x3 views", 30, 384, stride=0),
    "ucf101/videomae_official": VideoMAECase(
        "ucf101",
        "91.3 with 5x3 views, without other clips",
        100,
        128,
        layer_decay=0.7,
        drop_path=0.2,
        head_dropout=0.5,
        floors=(1e-8, 1e-5),
    ),
    "hmdb51/videomae_official": VideoMAECase(
        "hmdb51", "62.6 with 10x3 views, without other clips", 50, 128, 1e-3, layer_decay=0.7, drop_path=0.2, stride=2
    ),
}
"""By name of the recipe."""


def make_videomae(name: str) -> Recipe:
    """Make the recipe by which VideoMAE was fine-tuned, from weights that were pre-trained on the same clips.

    Args:
        name: in `VIDEOMAE`.

    Differences: RandAugment turns bilinearly.

    Source: arXiv 2203.12602, table 10, and the official scripts.
    """
    case = VIDEOMAE[name]
    spec = InputSpec(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    if case.stride:
        spec = replace(spec, sampling="dense", stride=case.stride, convention="videomae")
    warmup_lr, min_lr = case.floors
    return Recipe(
        data=DataRecipe(source=case.data, workers=8),
        model=ModelRecipe(
            f"videomae_{case.size}", changes={"drop_path": case.drop_path, "head_dropout": case.head_dropout}
        ),
        input=spec,
        augmentation=Augmentation(
            horizontal_flip=0.0 if case.data == "something-v2" else 0.5,
            crop_scale=(0.08, 1.0),
            crop_ratio=(0.75, 1.333),
            policy="randaugment_increasing",
            policy_ops=4,
            policy_magnitude=21.0,
            policy_std=1.5,
            policy_chance=0.5,
            erasing=0.25,
            mixup=0.8,
            cutmix=1.0,
            repeats=2,
        ),
        optimizer=OptimizerRecipe(
            lr=case.lr,
            base_batch=256,
            layer_decay=case.layer_decay,
            clip_norm=0.0,
            warmup_epochs=5.0,
            warmup_lr=warmup_lr,
            min_lr=min_lr,
        ),
        loss=LossRecipe(label_smoothing=0.1),
        training=TrainingRecipe(epochs=case.epochs, batch=case.batch),
    )


def _register() -> None:
    begins = {
        make_vivit: ("ViViT", "Begin with an image ViT: --weights FILE."),
        make_timesformer: ("TimeSformer", "Begin with an image ViT: --weights FILE."),
        make_videomae: ("VideoMAE", "Begin with a pre-training on the same clips: --weights RUN."),
    }
    for make, cases in ((make_vivit, VIVIT), (make_timesformer, TIMESFORMER), (make_videomae, VIDEOMAE)):
        family, begin = begins[make]
        for name, case in cases.items():
            start = VIVIT_ON_MOTION if name == "something-v2/vivit" else begin
            text = f"Fine-tune {family} on {case.data} as its authors do.\n\nResult: {case.result} (theirs). {start}"
            register_recipe(name, text)(partial(make, name))


_register()
