"""Say what every model can do, and find models by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tubelet.errors import ConfigError
from tubelet.models.blocks import Stack
from tubelet.models.card import ModelCard, ModelConfig
from tubelet.registry import Registry

__all__ = ["VideoModel", "build_model", "find_card", "list_models", "register_model"]


class VideoModel(nn.Module, ABC):
    """Score clips; the base of every architecture.

    A subclass makes its body in `__init__`, calls `reset_head` at the end, and gives `features` and `tokens`.

    Args:
        config: the resolved hyper-parameters; kept as `model.config`.
        dim: length of the feature vector that the head reads.
    """

    head: nn.Linear
    drops_tokens: bool = False
    token_share: float = 1.0

    def __init__(self, config: ModelConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Linear(dim, config.num_classes)

    @property
    def num_classes(self) -> int:
        """Count the classes that the head scores."""
        return self.config.num_classes

    @property
    def takes(self) -> Literal["pixels", "features"]:
        """Say what the channels of a clip are: of pixels, or features that another network made of each frame."""
        return "pixels"

    @property
    def card(self) -> ModelCard:
        """Return the card of the name that this model was made from."""
        return find_card(self.config.name)

    @property
    def uses_batch_statistics(self) -> bool:
        """Tell whether training normalizes each clip by its whole batch, as batch norm does.

        Such a model scores a clip otherwise in training than in evaluation even without dropout, needs batches of
        several clips, and keeps running statistics that are no parameters and that averaged weights must bring along.
        """
        return any(isinstance(module, _BatchNorm) for module in self.modules())

    def forward(
        self, clips: Float[Tensor, "batch channel time height width"]
    ) -> Float[Tensor, "batch {self.num_classes}"]:
        """Score clips: one logit per class."""
        logits: Tensor = self.head(self.features(clips))
        return logits

    @abstractmethod
    def features(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch dim"]:
        """Return the vector of each clip that the head reads."""

    @property
    def step_frames(self) -> int | None:
        """Count the frames of a step, where a first stage encodes a clip step by step and none sees another; else None.

        A step is a tubelet or a frame. Who slides a window over a stream then encodes each step once: with
        `encode_steps` at any place of the clip, and `fuse_steps` for each window.
        """
        return None

    def encode_steps(
        self, clips: Float[Tensor, "batch channel time height width"]
    ) -> Float[Tensor, "batch step vector"]:
        """Encode every step of clips by itself, without its place in time: the first stage.

        Raises:
            ConfigError: a model without such a stage; `step_frames` says it beforehand.
        """
        raise ConfigError(
            f"encode_steps needs a first stage that sees one tubelet or frame at a time - {self.config.name} mixes "
            f"moments from the beginning, or leaves tokens out - score whole clips of shape {tuple(clips.shape)}."
        )

    def fuse_steps(self, steps: Float[Tensor, "batch step vector"]) -> Float[Tensor, "batch dim"]:
        """Make of the encoded steps of whole clips what `features` makes of the clips: the second stage.

        Raises:
            ConfigError: as `encode_steps`.
        """
        raise ConfigError(
            f"fuse_steps needs what encode_steps gives - {self.config.name} has no such stage; found steps of shape "
            f"{tuple(steps.shape)} - score whole clips."
        )

    @abstractmethod
    def tokens(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch t h w dim"]:
        """Return one vector per tubelet, on the grid of tubelets, without class tokens."""

    def reset_head(self, num_classes: int | None = None) -> None:
        """Put a fresh head for `num_classes` classes, by default the configuration's, on the same body, all zeros.

        With zero weights every class starts equally likely, and the first step moves the head alone.
        """
        num_classes = self.config.num_classes if num_classes is None else num_classes
        if num_classes < 1:
            raise ConfigError(f"num_classes must be at least 1 - found {num_classes} - give the number of classes.")
        weight = self.head.weight
        self.head = nn.Linear(weight.shape[1], num_classes, device=weight.device, dtype=weight.dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.config = replace(self.config, num_classes=num_classes)

    def checkpoint_activations(self, on: bool = True) -> None:
        """Save memory in training: forget what happens inside blocks, and compute it again for the gradient.

        Gradients, dropout and running statistics stay the same. It is no property of the weights and not stored with
        them; evaluation and export never do it.

        Args:
            on: False to remember everything again.

        Raises:
            ConfigError: a model without blocks.

        Cost: one more forward pass a step.
        """
        stacks = [module for module in self.modules() if isinstance(module, Stack)]
        if not stacks:
            raise ConfigError(
                f"checkpointing computes blocks again - {self.config.name} has none - leave it off; a smaller batch "
                "with more accumulation saves memory too."
            )
        for stack in stacks:
            stack.is_checkpointed = on

    def keep_tokens(self, share: float) -> None:
        """Save time: let only the tubelets through the blocks that change most from one moment to the next.

        It works with weights that were trained with all tokens, and in training too; it is not stored with them.
        `tokens` gives zeros for what was left out. See `tubelet.models.budget`.

        Args:
            share: of the tokens in each row, above 0; 1 keeps all.

        Raises:
            ConfigError: no such share, or a model whose blocks need the whole grid.
        """
        if not 0 < share <= 1:
            raise ConfigError(f"keep_tokens needs a share above 0, at most 1 - found {share} - 0.5 keeps half.")
        if share < 1 and not self.drops_tokens:
            raise ConfigError(
                f"keep_tokens leaves tokens out of rows - {self.config.name} needs them all: it has no rows of places, "
                "or reads one by its place - use a joint, factorized_encoder, space_only or videomae model."
            )
        self.token_share = share

    def check_channels(self, clips: Float[Tensor, "batch channel time height width"]) -> None:
        """Raise `ConfigError` where clips do not have the channels that this model was made for."""
        if clips.shape[1] != self.config.channels:
            raise ConfigError(
                f"{self.config.name} takes {self.config.channels} channels - found clips of shape "
                f"{tuple(clips.shape)} (batch, channel, time, height, width) - create_model(..., "
                f"channels={clips.shape[1]}) makes one that fits."
            )


class _Entry(NamedTuple):
    card: ModelCard
    build: Callable[[Any], VideoModel]


_MODELS = Registry[_Entry]("model", "tubelet models")

B = TypeVar("B", bound=Callable[[Any], VideoModel])


def register_model(*cards: ModelCard) -> Callable[[B], B]:
    """Return a decorator that registers a model class, or a function `config -> model`, under each card's name."""

    def decorate(build: B) -> B:
        for card in cards:
            _MODELS.add(card.name, _Entry(card, build))
        return build

    return decorate


def build_model(config: ModelConfig) -> VideoModel:
    """Build the model that a configuration describes, with fresh weights.

    Raises:
        UnknownName: nobody registered `config.name`.
    """
    return _MODELS[config.name].build(config)


def list_models(pattern: str = "*") -> list[str]:
    """List the registered names that match a glob.

    Example:
        >>> list_models("vivit_nano_factorized_*")
        ['vivit_nano_factorized_encoder', 'vivit_nano_factorized_attention', 'vivit_nano_factorized_dot_product']
    """
    return _MODELS.match(pattern)


def find_card(name: str) -> ModelCard:
    """Return the card of a registered model without building it."""
    return _MODELS[name].card
