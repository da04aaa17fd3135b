"""State everything that a training run depends on, in one tree of plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tubelet.errors import ConfigError
from tubelet.recipes.optimization import FinetuningRecipe, LossRecipe, OptimizerRecipe
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

__all__ = [
    "DataRecipe",
    "ModelRecipe",
    "Recipe",
    "ScheduleRecipe",
    "TrainingRecipe",
    "check_fixed_fields",
    "check_variations",
]


@dataclass(frozen=True)
class DataRecipe:
    """State which clips are used and how they are read."""

    source: str = ""
    """A folder of class folders, a CSV/TSV/JSONL manifest, an .npz file, a published list, or a known name such as
    `ucf101` or `moving-shapes`."""
    fold: int = 1
    """Which official split of a known data set is used, where it has several: UCF101 and HMDB51 have 3."""
    download: bool = True
    """Fetch a known data set that is not on this machine; without, the run stops and says what to put where."""
    group_by: str | None = None
    """Column whose values must not be spread over splits, such as the source video of each clip."""
    val_fraction: float = 0.15
    """Share of the clips held out for choosing the best epoch, where the data states no such split."""
    test_fraction: float = 0.15
    """Share of the clips held out for the final figure, where the data states no such split."""
    split_seed: int = 42
    """Seed of that split; apart from `training.seed`, so that repeated runs are judged on the same clips."""
    workers: int = 2
    """Processes that decode beside the training; 0 decodes in the training process."""
    decoder: str = "pyav"
    """Which backend reads video: pyav, torchcodec or decord."""
    cache_mb: int = 1024
    """Megabytes of decoded clips kept for the next epoch, shared by all workers; 0 decodes anew in every epoch."""
    cache_folder: str = ""
    """Folder on a fast disk that holds them, for sets larger than memory; nothing keeps them in memory."""
    timeout_s: int = 300
    """Seconds that a batch may take before the run stops and names the clip; at least 1."""

    def __post_init__(self) -> None:
        if self.val_fraction < 0 or self.test_fraction < 0 or self.val_fraction + self.test_fraction >= 1:
            raise ConfigError(
                f"data.val_fraction + data.test_fraction must stay below 1 - found {self.val_fraction} + "
                f"{self.test_fraction} - leave some clips to train on."
            )
        if self.workers < 0 or self.cache_mb < 0:
            raise ConfigError("data.workers and data.cache_mb count things - found a negative number - give 0 or more.")
        if self.timeout_s < 1:
            raise ConfigError(f"data.timeout_s must be at least 1 - found {self.timeout_s} - no wait is without end.")


@dataclass(frozen=True)
class ModelRecipe:
    """State which model is trained."""

    name: str = "vivit_nano_factorized_encoder"
    """A name that `tubelet models` lists."""
    changes: Mapping[str, int | float | str | bool | tuple[int, ...]] = field(default_factory=dict)
    """Fields of the model's configuration to change, such as `dropout: 0.1` or `depth: 6`."""
    weights: str = ""
    """What to start from: a run, a file, a folder of ours or of transformers, hf://owner/repo, `default` for the
    published weights of the model; nothing for fresh weights."""
    pretrained: bool = False
    """Start from the published weights of the model: the same as `weights: default`."""
    task: Literal["auto", "classification", "multilabel"] = "auto"
    """What the model says of a clip: its one class (classification, softmax), or for each class whether the clip has it
    (multilabel, sigmoid); auto is multilabel where the data has `labels` in place of `label`."""

    @property
    def source(self) -> str:
        """What to start from; an empty text for fresh weights."""
        return self.weights or ("default" if self.pretrained else "")

    def __post_init__(self) -> None:
        if self.pretrained and self.weights not in ("", "default"):
            raise ConfigError(
                f"model.pretrained takes the published weights - found model.weights {self.weights!r} too - state one "
                "of them."
            )
        check_fixed_fields(self.changes)


def check_fixed_fields(changes: Mapping[str, object]) -> None:
    """Refuse changes to what the data or the model's name decides.

    Raises:
        ConfigError: one of them is changed.
    """
    for name in ("name", "num_classes"):
        if name in changes:
            raise ConfigError(f"model.changes cannot change '{name}' - the data or model.name decides it - remove it.")


def check_variations(augmentation: Augmentation, spec: InputSpec) -> None:
    """Make sure that nothing is wished for that the model's clips cannot show.

    Raises:
        ConfigError: the hue of clips without color, or the speed of clips that show the whole video at any speed.
    """
    for name in ("hue", "grayscale"):
        if getattr(augmentation, name) and spec.channels != 3:
            raise ConfigError(
                f"augmentation.{name} needs clips of three channels - found {getattr(augmentation, name)} with "
                f"input.channels {spec.channels} - set it to 0."
            )
    if augmentation.speed != (1.0, 1.0) and spec.sampling not in ("dense", "first"):
        raise ConfigError(
            f"augmentation.speed cannot be seen in clips that spread over the whole video - found {augmentation.speed} "
            f"with input.sampling {spec.sampling} - set input.sampling to dense, or speed to (1, 1)."
        )


@dataclass(frozen=True)
class ScheduleRecipe:
    """State how long, in which portions and on what a run goes."""

    epochs: int = 30
    """Passes over the training clips."""
    batch: int = 16
    """Clips in one step of the optimizer's forward pass."""
    accumulate: int = 1
    """Forward passes whose gradients are added up before the optimizer moves."""
    patience: int = 0
    """Stop after this many epochs without a better validation result; 0 never stops early."""
    seed: int = 42
    """Seed of the weights, the order of clips and every augmentation."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps; auto takes the fastest there is."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the forward pass; auto is bf16 on devices built for it (GPUs since 2020, CPUs with AMX), fp32
    elsewhere; fp16 scales the loss, for older GPUs."""
    auto_microbatch: bool = False
    """Where memory runs out, take a batch in smaller parts from then on; the gradient stays the same."""
    on_failure: Literal["raise", "skip", "rollback"] = "raise"
    """What happens when a loss or gradient is no number: end the run; leave the step out; or go back to the weights of
    the last checkpoint and leave the step out. Five in a row end the run in any case."""
    deterministic: bool = False
    """Refuse operations whose result may change between runs; CPU runs repeat exactly either way."""
    checkpointing: bool = False
    """Save memory: forget what happens inside a model's blocks and compute it again for the gradient, which stays the
    same; a step costs one more forward pass. For transformers and I3D."""
    compile: bool = False
    """Translate the model with `torch.compile` first: minutes at the start, then shorter steps, above all on GPUs. A
    C++ compiler is needed; on GPUs Triton, too. Results differ by rounding. For clips of one size, not for features."""
    sharded: bool = False
    """Share weights, gradients and optimizer state out over the processes (FSDP2), for models that do not fit into one
    GPU; each step exchanges more. Needs several processes (`--devices 4`), and machines that share a disk."""
    save_every_steps: int = 200
    """Optimizer steps between checkpoints within an epoch; each epoch ends with one anyway."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "save_every_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name} must be at least 1 - found {getattr(self, name)} - give 1 or more.")
        if self.seed < 0 or self.patience < 0:
            raise ConfigError(
                f"training.seed and patience cannot be negative - found {self.seed}, {self.patience} - give 0 or more."
            )
        if self.sharded and self.auto_microbatch:
            raise ConfigError(
                "training.auto_microbatch cannot be combined with training.sharded - all processes take batches in as "
                "many parts as each other - set auto_microbatch to false, and a smaller batch with accumulate."
            )


@dataclass(frozen=True)
class TrainingRecipe(ScheduleRecipe):
    """State how long, in which portions and on what a training goes, and what of it is kept."""

    keep: Literal["best", "last"] = "best"
    """Which epoch's weights are kept: that of the best validation result, or the last. Take the last where so few clips
    are held out that the best is a matter of luck."""
    calibrate: bool = True
    """Measure on the validation clips, at the end, how far the model's answers can be trusted: its temperature, label
    sets, and how far from all it knows a clip may lie. A last pass over them and at most a thousand training clips."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep == "last" and self.patience:
            raise ConfigError(
                f"training.patience waits for a better epoch - found {self.patience} with training.keep last - set "
                "patience to 0, or keep to best."
            )


SMALL_DATA = Augmentation(crop_scale=(0.5, 1.0), crop_ratio=(0.75, 1.333), brightness=0.3, contrast=0.3, saturation=0.3)
"""How clips are varied unless the recipe says otherwise: without it, a few hundred clips are soon learned by heart."""


@dataclass(frozen=True)
class Recipe:
    """Hold all that a run depends on: stored in the run folder, and compared with every checkpoint on resume."""

    data: DataRecipe = field(default_factory=DataRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    input: InputSpec = field(default_factory=lambda: InputSpec(frames=16, height=64, width=64, differences="append"))
    augmentation: Augmentation = field(default_factory=lambda: SMALL_DATA)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    finetuning: FinetuningRecipe = field(default_factory=FinetuningRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)

    def __post_init__(self) -> None:
        wished = self.augmentation.list_active()
        if self.input.kind == "features" and wished:
            raise ConfigError(
                f"features cannot be varied as pixels are - found augmentation.{', augmentation.'.join(wished)} with "
                "input.kind features - leave them out (0, or 1 to 1 for crop_scale and crop_ratio); "
                "input_dropout of the model varies features."
            )
        check_variations(self.augmentation, self.input)
