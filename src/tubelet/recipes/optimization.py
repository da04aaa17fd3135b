"""State how weights move, what they are moved by, and which of them move at all."""

from dataclasses import dataclass
from typing import Literal

from tubelet.errors import ConfigError

__all__ = ["FinetuningRecipe", "LossRecipe", "OptimizerRecipe"]


@dataclass(frozen=True)
class OptimizerRecipe:
    """State how weights move, whatever is learned."""

    name: Literal["adamw", "sgd"] = "adamw"
    """The rule by which they move: AdamW, or SGD with momentum, as ViViT and TimeSformer were trained."""
    lr: float = 1e-3
    """Peak learning rate; for AdamW 1e-3 suits small models from scratch, 1e-4 fine-tuning; for SGD 0.005 to 0.5."""
    base_batch: int = 0
    """Clips a step that lr, warmup_lr and min_lr are stated for: all three are multiplied by the clips of a step,
    training.batch x training.accumulate, over this number; 256 is usual in papers. 0 takes them as they are."""
    weight_decay: float = 0.05
    """Decay of matrices; vectors (biases, norms, positions of rank 1) are never decayed."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's averaging of gradients and of their squares."""
    momentum: float = 0.9
    """SGD's averaging of gradients."""
    layer_decay: float = 1.0
    """Factor, above 0, by which each layer's rate is lower than that of the layer after it, from the head down to the
    embedding; 0.65 to 0.9 keep what pre-trained layers know, 1 moves all alike."""
    clip_norm: float = 1.0
    """Largest norm of the whole gradient; 0 leaves it as it is."""
    schedule: Literal["cosine", "step", "plateau", "constant"] = "cosine"
    """How the rate goes after its warm-up: down half a cosine to min_lr; down by gamma at each of `milestones`; down by
    gamma after `plateau_epochs` epochs without a lower validation loss; or not at all."""
    milestones: tuple[float, ...] = ()
    """Epochs after which the rate falls, for the schedule step; TimeSformer's are 11 and 14 of 15."""
    gamma: float = 0.1
    """What the rate is multiplied by when it falls, for step and plateau."""
    plateau_epochs: int = 5
    """Epochs without a lower validation loss after which the rate falls, for plateau."""
    warmup_epochs: float = 1.0
    """Epochs in which the learning rate rises linearly from warmup_lr."""
    warmup_lr: float = 0.0
    """Where the warm-up begins."""
    min_lr: float = 1e-6
    """Where the rate stops falling; at most lr."""
    ema: float = 0.0
    """Share of itself that a moving average of the weights keeps at each step, below 1: the average is what is
    validated and kept; 0.999 is usual, 0 is off."""

    def __post_init__(self) -> None:
        if not 0 < self.lr < float("inf"):
            raise ConfigError(f"optimizer.lr must be positive and finite - found {self.lr} - 1e-3 or 1e-4 are usual.")
        least = ("weight_decay", "clip_norm", "min_lr", "warmup_lr", "warmup_epochs", "base_batch")
        wrong = [name for name in least if getattr(self, name) < 0]
        if wrong:
            raise ConfigError(
                f"optimizer.{wrong[0]} cannot be negative - found {getattr(self, wrong[0])} - give 0 or more."
            )
        if not 0 <= self.ema < 1:
            raise ConfigError(f"optimizer.ema is a share below 1 - found {self.ema} - 0.999 is usual, 0 is off.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer.betas are shares - found {self.betas} - (0.9, 0.999) is usual.")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"optimizer.momentum is a share below 1 - found {self.momentum} - 0.9 is usual.")
        for name in ("layer_decay", "gamma"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(
                    f"optimizer.{name} is a factor above 0, at most 1 - found {getattr(self, name)} - 0.75 is usual "
                    "for layer_decay, 0.1 for gamma."
                )
        self._check_schedule()

    def _check_schedule(self) -> None:
        if self.min_lr > self.lr and self.schedule != "constant":
            raise ConfigError(
                f"optimizer.min_lr is where the rate stops falling from optimizer.lr - found {self.min_lr} with "
                f"optimizer.lr {self.lr} - lower optimizer.min_lr, to 0 say."
            )
        if list(self.milestones) != sorted(set(self.milestones)) or (self.milestones and self.milestones[0] <= 0):
            raise ConfigError(
                f"optimizer.milestones are epochs, each later than the one before - found {self.milestones} - give "
                "them in order, such as [11, 14]."
            )
        if (self.schedule == "step") != bool(self.milestones):
            raise ConfigError(
                "optimizer.milestones and the schedule step belong together - found "
                f"{self.milestones} with optimizer.schedule {self.schedule} - state both or neither."
            )
        if self.plateau_epochs < 1:
            raise ConfigError(
                f"optimizer.plateau_epochs must be at least 1 - found {self.plateau_epochs} - 5 is usual."
            )


@dataclass(frozen=True)
class LossRecipe:
    """State what wrong answers cost."""

    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes; 0.1 is usual for long trainings."""
    balance: Literal["none", "sampler", "loss"] = "none"
    """Where classes have different numbers of clips: each clip counts alike (none); each class comes equally often, by
    repeating clips of rare classes within an epoch and leaving out some of frequent ones (sampler); or clips of rare
    classes weigh more in the loss (loss). Accuracy falls and balanced accuracy rises."""
    teacher: str = ""
    """A run whose answers are learned beside the labels (distillation): another model for the same classes and the same
    clips; nothing for labels alone."""
    teacher_share: float = 0.5
    """Share of the loss that is the distance to the teacher's answers, 0..1; the labels have the rest."""
    temperature: float = 2.0
    """What logits are divided by before the distance to the teacher is taken: above 1, lesser answers count more."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"loss.label_smoothing is a share - found {self.label_smoothing} - give 0 to 0.99.")
        if not 0 <= self.teacher_share <= 1:
            raise ConfigError(f"loss.teacher_share is a share - found {self.teacher_share} - give 0 to 1.")
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"loss.temperature must be positive - found {self.temperature} - 1 to 4 are usual.")


@dataclass(frozen=True)
class FinetuningRecipe:
    """State which weights move, where they come from elsewhere."""

    frozen_layers: int = 0
    """Layers that never move, from the input on: 1 is the embedding, each block is one more; -1 is all but the head."""
    head_epochs: int = 0
    """Epochs at the beginning in which only the head moves, so that a fresh head does not spoil what the body knows."""
    adapter_rank: int = 0
    """Rank of low-rank adapters beside the matrices of every attention: they and the head move, all else does not; 8 is
    usual, 0 is none. They are added into the matrices where the model is kept."""
    adapter_scale: float = 2.0
    """What the adapters' contribution is multiplied by: alpha over rank in the paper."""

    def __post_init__(self) -> None:
        if self.frozen_layers < -1 or self.head_epochs < 0 or self.adapter_rank < 0:
            raise ConfigError(
                f"finetuning.frozen_layers, head_epochs and adapter_rank count things - found {self.frozen_layers}, "
                f"{self.head_epochs} and {self.adapter_rank} - give 0 or more; frozen_layers also takes -1."
            )
        if not 0 < self.adapter_scale < float("inf"):
            raise ConfigError(f"finetuning.adapter_scale must be positive - found {self.adapter_scale} - 2 is usual.")
        if self.adapter_rank and self.frozen_layers:
            raise ConfigError(
                "finetuning.adapter_rank keeps all layers as they are - found finetuning.frozen_layers "
                f"{self.frozen_layers} too - set one of them to 0."
            )
