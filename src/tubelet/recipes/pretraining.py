"""State everything that a pre-training without labels depends on, in one tree of plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tubelet.config.fields import list_types
from tubelet.errors import ConfigError
from tubelet.recipes.optimization import OptimizerRecipe
from tubelet.recipes.recipe import (
    DataRecipe,
    Recipe,
    ScheduleRecipe,
    check_fixed_fields,
    check_variations,
)
from tubelet.transforms.policy import FLIPS, Augmentation
from tubelet.video.spec import InputSpec

__all__ = [
    "AnyRecipe",
    "PretrainingData",
    "PretrainingModel",
    "PretrainingOptimizer",
    "PretrainingRecipe",
    "PretrainingSchedule",
]


@dataclass(frozen=True)
class PretrainingData(DataRecipe):
    """State which clips are used and how they are read; labels are ignored where there are any."""

    source: str = ""
    """What `tubelet train` takes, or a folder of videos without class folders, or a .txt file with one path a line."""
    val_fraction: float = 0.15
    """Share of the clips held out for measuring the loss, where the data states no such split."""
    test_fraction: float = 0.15
    """Share of labelled clips that are never looked at, so that a training that follows can be judged on them; the same
    clips as in that training. Clips without labels are not spared."""


@dataclass(frozen=True)
class PretrainingModel:
    """State which encoder is pre-trained, what is hidden from it, and with which decoder."""

    name: str = "videomae_nano"
    """A VideoMAE that `tubelet models` lists."""
    mask_ratio: float = 0.75
    """Share of the places of the picture hidden, above 0 and below 1; 0.9 on large sets of clips with much motion."""
    decoder_mask_ratio: float = 0.0
    """Share of tubelets that the decoder leaves out: 0.25, 0.5 or 0.75, for cheaper steps; 0 leaves out none."""
    normalize_targets: bool = True
    """Predict each tubelet relative to its own mean and spread, per channel; better features than plain pixels."""
    decoder_dim: int | None = None
    """Length of a token in the decoder; half the encoder's where none is given."""
    decoder_depth: int | None = None
    """Blocks of the decoder; a third of the encoder's where none is given, half for 24 blocks and more."""
    decoder_heads: int | None = None
    """Attention heads of the decoder; half the encoder's where none is given."""
    decoder_mlp_dim: int | None = None
    """Hidden width of the decoder's MLP; 4 times the planned `decoder_dim` where none is given."""
    changes: Mapping[str, int | float | str | bool | tuple[int, ...]] = field(default_factory=dict)
    """Fields of the encoder's configuration to change, such as `depth: 6`."""
    weights: str = ""
    """What to start from: a pre-training run, a file, a folder, or hf://owner/repo; nothing for fresh weights."""

    def __post_init__(self) -> None:
        check_fixed_fields(self.changes)
        for name in self.changes:
            if name in ("mean", "std") or (name in list_types(PretrainingModel) and name != "changes"):
                owner = "input" if name in ("mean", "std") else "model"
                raise ConfigError(f"model.changes cannot change '{name}' - {owner}.{name} states it - change that.")
        if not 0 < self.mask_ratio < 1:
            raise ConfigError(
                f"model.mask_ratio must lie between 0 and 1 - found {self.mask_ratio} - 0.75 and 0.9 are usual."
            )
        if self.decoder_mask_ratio not in (0, 0.25, 0.5, 0.75):
            raise ConfigError(
                "model.decoder_mask_ratio must be 0.25, 0.5 or 0.75, or 0 for none - found "
                f"{self.decoder_mask_ratio} - 0.5 is usual."
            )
        wrong = [name for name, value in self.decoder.items() if value < 1]
        if wrong:
            raise ConfigError(f"model.{wrong[0]} counts things - found {self.decoder[wrong[0]]} - give 1 or more.")

    @property
    def source(self) -> str:
        """What to start from; an empty text for fresh weights."""
        return self.weights

    @property
    def decoder(self) -> dict[str, int]:
        """Return the sizes of the decoder that were given."""
        names = ("decoder_dim", "decoder_depth", "decoder_heads", "decoder_mlp_dim")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True)
class PretrainingOptimizer(OptimizerRecipe):
    """State how weights move in pre-training."""

    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's averaging of gradients and of their squares; shorter than usual, as in the paper."""
    warmup_epochs: float = 2.0
    """Epochs in which the learning rate rises linearly from zero; 40 of 800 in the paper."""


@dataclass(frozen=True)
class PretrainingSchedule(ScheduleRecipe):
    """State how long, in which portions and on what a pre-training goes."""

    epochs: int = 100
    """Passes over the clips; hundreds to thousands in the paper, and more are better for long."""
    batch: int = 32
    """Clips in one step of the optimizer's forward pass."""
    patience: int = 0
    """Stop after this many epochs without a lower loss on the held-out clips; 0 never stops early."""


GENTLE = Augmentation(horizontal_flip=0.5, crop_scale=(0.5, 1.0), crop_ratio=(0.75, 1.333))
"""How clips are varied unless the recipe says otherwise; masks vary them more than anything else does."""


@dataclass(frozen=True)
class PretrainingRecipe:
    """Hold all that a pre-training depends on: stored in the run folder, and compared with every checkpoint."""

    data: PretrainingData = field(default_factory=PretrainingData)
    model: PretrainingModel = field(default_factory=PretrainingModel)
    input: InputSpec = field(default_factory=lambda: InputSpec(frames=16, height=48, width=48, differences="append"))
    augmentation: Augmentation = field(default_factory=lambda: GENTLE)
    optimizer: PretrainingOptimizer = field(default_factory=PretrainingOptimizer)
    training: PretrainingSchedule = field(default_factory=PretrainingSchedule)

    def __post_init__(self) -> None:
        named = [field for field in FLIPS.values() if getattr(self.augmentation, field)]
        if named:
            raise ConfigError(
                f"augmentation.{named[0]} swaps labels - pre-training looks at none - remove it; flips work without."
            )
        if self.augmentation.mixes:
            raise ConfigError(
                f"augmentation.mixup and cutmix blend clips with their labels - found {self.augmentation.mixup} and "
                f"{self.augmentation.cutmix}, and pre-training looks at no label - set both to 0."
            )
        check_variations(self.augmentation, self.input)


AnyRecipe = Recipe | PretrainingRecipe
"""What a run may be started from."""
