"""Recipes for UCF101 and two classes of Kinetics: the usual settings for one GPU."""

from dataclasses import replace

from tubelet.recipes.finetuning import IMAGENET_MEAN, IMAGENET_STD
from tubelet.recipes.listing import register_recipe
from tubelet.recipes.optimization import LossRecipe, OptimizerRecipe
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

__all__ = [
    "make_dunking",
    "make_ucf101_cnn_gru",
    "make_ucf101_cnn_transformer",
    "make_ucf101_i3d",
    "make_ucf101_timesformer",
    "make_ucf101_videomae",
    "make_ucf101_vivit",
]

VARIED = Augmentation(
    crop_scale=(0.5, 1.0), crop_ratio=(0.75, 1.333), brightness=0.2, contrast=0.2, saturation=0.2, rotation=15.0
)
"""Crop, flip, colors, turns up to 15 degrees."""


def _make_ucf101(model: ModelRecipe, spec: InputSpec) -> Recipe:
    return Recipe(
        data=DataRecipe(source="ucf101"),
        model=model,
        input=spec,
        augmentation=VARIED,
        optimizer=OptimizerRecipe(lr=1e-4, warmup_epochs=5.0, min_lr=1e-6),
        loss=LossRecipe(label_smoothing=0.1),
        training=TrainingRecipe(epochs=100, batch=8, patience=15),
    )


@register_recipe("ucf101/vivit")
def make_ucf101_vivit() -> Recipe:
    """Fine-tune ViViT on UCF101 from its weights for Kinetics-400.

    Result: not measured here. Take `--weights` with an image ViT to begin as the paper does.

    Source of the weights: arXiv 2103.15691.
    """
    spec = InputSpec(frames=32, sampling="dense", stride=2, convention="dmvr", short="loop")
    return _make_ucf101(ModelRecipe("vivit_base_joint", weights="default"), spec)


@register_recipe("ucf101/videomae")
def make_ucf101_videomae() -> Recipe:
    """Fine-tune VideoMAE on UCF101 from its weights for Kinetics-400.

    Result: not measured here; the paper has 96.1 % top-1 with other settings, those of `ucf101/videomae_official`.
    """
    spec = InputSpec(sampling="dense", stride=4, convention="videomae", mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return _make_ucf101(ModelRecipe("videomae_base", weights="default"), spec)


@register_recipe("ucf101/timesformer")
def make_ucf101_timesformer() -> Recipe:
    """Fine-tune TimeSformer on UCF101 from its weights for Kinetics-400.

    Result: not measured here.
    """
    spec = InputSpec(frames=8, sampling="dense", rate_fps=0.9375, convention="slowfast", mean=(0.45,), std=(0.225,))
    return _make_ucf101(ModelRecipe("timesformer_base_divided", weights="default"), spec)


@register_recipe("ucf101/i3d")
def make_ucf101_i3d() -> Recipe:
    """Fine-tune I3D on UCF101 from its weights for Kinetics-400.

    Result: not measured here; the paper has 95.1 % top-1 on split 1 with other settings.
    """
    spec = InputSpec(frames=64, sampling="dense", rate_fps=25.0, short="loop")
    return _make_ucf101(ModelRecipe("i3d_rgb", weights="default"), spec)


@register_recipe("ucf101/cnn_gru")
def make_ucf101_cnn_gru() -> Recipe:
    """Train two GRUs on UCF101 over a small CNN that learns along, from scratch.

    Result: not measured here. The model `cnn_gru` takes features of a large CNN that were computed before, and learns
    from far fewer clips: `tubelet train FEATURES.npz --model cnn_gru`.
    """
    return _make_small("cnn_gru_nano")


@register_recipe("ucf101/cnn_transformer")
def make_ucf101_cnn_transformer() -> Recipe:
    """Train a transformer on UCF101 over the frames of a small CNN that learns along, from scratch.

    Result: not measured here. `cnn_transformer` takes features, as `cnn_gru` does.
    """
    return _make_small("cnn_transformer_nano")


def _make_small(model: str) -> Recipe:
    recipe = _make_ucf101(ModelRecipe(model), InputSpec(height=112, width=112))
    return replace(recipe, optimizer=replace(recipe.optimizer, lr=1e-3), training=replace(recipe.training, batch=32))


@register_recipe("kinetics2/frame_transformer")
def make_dunking() -> Recipe:
    """Tell dribbling from dunking with one transformer block over 32 flattened frames of 128 x 128.

    The clips are a folder with two class folders, or those that are still on YouTube:

        tubelet data download kinetics400 --classes "dribbling basketball" --classes "dunking basketball"
        tubelet train kinetics400 --no-download --recipe kinetics2/frame_transformer

    There is about one of the one for two of the other, so rare clips weigh more.

    Result: not measured here; two epochs of another implementation had 71.6 % accuracy and an F1 of .66.

    Differences: two logits and a softmax, which is the sigmoid of their difference.
    """
    return Recipe(
        model=ModelRecipe("frame_transformer"),
        input=InputSpec(frames=32, height=128, width=128),
        augmentation=Augmentation(horizontal_flip=0.5),
        optimizer=OptimizerRecipe(lr=1e-4),
        loss=LossRecipe(balance="loss"),
        training=TrainingRecipe(epochs=30, batch=8, patience=8),
    )
