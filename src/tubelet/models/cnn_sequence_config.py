"""Hold the hyper-parameters of the CNN hybrids and their registered sizes. No torch here."""

from dataclasses import dataclass
from typing import Literal

from tubelet.errors import ConfigError
from tubelet.models.backbones_config import check_backbone, check_width
from tubelet.models.card import ModelCard, ModelConfig, check_counts
from tubelet.video.spec import InputSpec

__all__ = [
    "CARDS",
    "RECURRENT_CARDS",
    "TRANSFORMER_CARDS",
    "Cell",
    "CnnRnnConfig",
    "CnnSequenceConfig",
    "CnnTransformerConfig",
    "Summary",
]

Cell = Literal["gru", "lstm", "rnn"]
Summary = Literal["last", "mean"]


@dataclass(frozen=True)
class CnnSequenceConfig(ModelConfig):
    """Hold what the CNN hybrids have in common: how frames become vectors."""

    backbone: str = "none"
    """`none` takes features that another network computed as channels of a clip of height and width 1 (maps are
    averaged over their places); `small` has a CNN of its own, trained along; `timm:NAME` has that model of timm, an
    extra, such as `timm:resnet18`."""
    backbone_pretrained: bool = False
    """Fetch the weights that timm publishes for its model, when this model is made; a trained one has its own."""
    backbone_width: int = 96
    """Channels of the last convolution of the small backbone; a multiple of 16."""
    frozen: bool = False
    """Leave the backbone's weights as they are; for one that has been trained before."""
    input_dropout: float = 0.0
    """Share of the numbers in each frame's vector dropped before the sequence model, 0 to below 1."""
    dropout: float = 0.0
    """Share of the clip's features dropped before the last layers, 0 to below 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_width("backbone_width", self.backbone_width)
        _check_share("dropout", self.dropout)
        _check_share("input_dropout", self.input_dropout)
        check_backbone(self.backbone, self.backbone_pretrained)
        if self.frozen and self.backbone == "none":
            raise ConfigError(
                "frozen=True needs a backbone to leave as it is - found backbone=none - leave frozen out: features "
                "computed before are never trained."
            )


@dataclass(frozen=True)
class CnnRnnConfig(CnnSequenceConfig):
    """Hold every hyper-parameter of a CNN-RNN; the defaults are those of the Keras example."""

    cell: Cell = "gru"
    """The recurrent cell: gated (gru), gated with a memory of its own (lstm), or plain tanh (rnn)."""
    vector: int = 96
    """Length of the vector that the small backbone gives for a frame."""
    units: tuple[int, int] = (16, 8)
    """Units of the first and of the second recurrent layer."""
    bidirectional: bool = False
    """Read each clip from its last frame to its first too, with cells of their own, and join the states of both."""
    summary: Summary = "last"
    """What is scored: the state after all frames (last), or the mean of the states after each of them (mean)."""
    head_dim: int = 8
    """Width of the hidden layer between the state that is scored and the logits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("vector", "head_dim"))
        if min(self.units) < 1:
            raise ConfigError(f"units must be positive - found {self.units} - give at least 1 for each layer.")


@dataclass(frozen=True)
class CnnTransformerConfig(CnnSequenceConfig):
    """Hold every hyper-parameter of a CNN-transformer; the defaults are those of the Keras example."""

    dim: int = 1024
    """Length of a frame's vector; a multiple of `heads`. Features of another length are projected to it."""
    depth: int = 1
    """Post-norm transformer blocks."""
    heads: int = 1
    """Attention heads."""
    mlp_dim: int = 4
    """Hidden width of each block's MLP; the Keras example really has 4."""
    attention_dropout: float = 0.0
    """Share of attention weights dropped, 0 to below 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("dim", "depth", "heads", "mlp_dim"))
        _check_share("attention_dropout", self.attention_dropout)
        if self.dim % self.heads:
            raise ConfigError(
                f"dim must be a multiple of heads - found dim={self.dim}, heads={self.heads} - "
                f"dim={max(round(self.dim / self.heads), 1) * self.heads} is one."
            )


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} must lie in 0 to below 1 - found {value} - give a share.")


_RNN_PAPER = (
    "Keras example 'Video Classification with a CNN-RNN Architecture' (keras.io/examples/vision/video_classification)"
)
_TRANSFORMER_PAPER = (
    "Keras example 'Video Classification with Transformers' (keras.io/examples/vision/video_transformers)"
)
_LICENSE = "Apache-2.0"
_FEATURES = "for features of 20 frames computed before"
_NANO = "a small CNN trained along; small enough to train from scratch on a CPU"


def _state_features(count: int) -> InputSpec:
    """Features have a range of their own, which training measures, and nothing to crop."""
    return InputSpec(kind="features", frames=20, height=1, width=1, channels=count, mean=(), std=())


def _make_nano_rnn(cell: Cell, parameters: int, macs: int, summary: str) -> ModelCard:
    name = f"cnn_{cell}_nano"
    return ModelCard(
        name=name,
        architecture=f"cnn_{cell}",
        config=CnnRnnConfig(
            name=name,
            num_classes=400,
            frames=16,
            height=48,
            width=48,
            channels=3,
            backbone="small",
            cell=cell,
            units=(96, 96),
            head_dim=96,
        ),
        parameters=parameters,
        macs=macs,
        input_spec=InputSpec(frames=16, height=48, width=48),
        summary=f"{summary}; {_NANO}",
        paper=_RNN_PAPER,
        license=_LICENSE,
    )


RECURRENT_CARDS: tuple[ModelCard, ...] = (
    ModelCard(
        name="cnn_gru",
        architecture="cnn_gru",
        config=CnnRnnConfig(name="cnn_gru", num_classes=5, frames=20, height=1, width=1, channels=2048, dropout=0.4),
        parameters=99_909,
        macs=1_993_064,
        input_spec=_state_features(2048),
        summary=f"two small GRUs {_FEATURES}, 2,048 a frame (InceptionV3's)",
        paper=_RNN_PAPER,
        license=_LICENSE,
    ),
    ModelCard(
        name="cnn_gru_small",
        architecture="cnn_gru",
        config=CnnRnnConfig(
            name="cnn_gru_small",
            num_classes=400,
            frames=20,
            height=1,
            width=1,
            channels=2048,
            input_dropout=0.3,
            dropout=0.4,
            units=(128, 128),
            bidirectional=True,
            summary="mean",
            head_dim=128,
        ),
        parameters=2_053_648,
        macs=39_405_568,
        input_spec=_state_features(2048),
        summary=f"two GRUs of 128 units that read from both sides {_FEATURES}, for more than a few classes",
        paper=_RNN_PAPER,
        license=_LICENSE,
    ),
    _make_nano_rnn("gru", 221_992, 55_712_256, "two GRUs over frames"),
    _make_nano_rnn("lstm", 258_472, 56_302_080, "two LSTMs over frames"),
)

TRANSFORMER_CARDS: tuple[ModelCard, ...] = (
    ModelCard(
        name="cnn_transformer",
        architecture="cnn_transformer",
        config=CnnTransformerConfig(
            name="cnn_transformer",
            num_classes=5,
            frames=20,
            height=1,
            width=1,
            channels=1024,
            dropout=0.5,
            attention_dropout=0.3,
        ),
        parameters=4_237_321,
        macs=84_874_240,
        input_spec=_state_features(1024),
        summary=f"one post-norm transformer block {_FEATURES}, 1,024 a frame (DenseNet121's)",
        paper=_TRANSFORMER_PAPER,
        license=_LICENSE,
    ),
    ModelCard(
        name="cnn_transformer_small",
        architecture="cnn_transformer",
        config=CnnTransformerConfig(
            name="cnn_transformer_small",
            num_classes=400,
            frames=20,
            height=1,
            width=1,
            channels=2048,
            input_dropout=0.3,
            dropout=0.3,
            attention_dropout=0.1,
            dim=192,
            heads=4,
            mlp_dim=384,
        ),
        parameters=771_472,
        macs=13_992_960,
        input_spec=_state_features(2048),
        summary=f"one post-norm transformer block of usual shape {_FEATURES}, projected to 192",
        paper=_TRANSFORMER_PAPER,
        license=_LICENSE,
    ),
    ModelCard(
        name="cnn_transformer_nano",
        architecture="cnn_transformer",
        config=CnnTransformerConfig(
            name="cnn_transformer_nano",
            num_classes=400,
            frames=16,
            height=48,
            width=48,
            channels=3,
            backbone="small",
            dim=96,
            depth=2,
            heads=4,
            mlp_dim=192,
        ),
        parameters=252_040,
        macs=56_391_168,
        input_spec=InputSpec(frames=16, height=48, width=48),
        summary=f"a post-norm transformer over frames; {_NANO}",
        paper=_TRANSFORMER_PAPER,
        license=_LICENSE,
    ),
)

CARDS: tuple[ModelCard, ...] = (*RECURRENT_CARDS, *TRANSFORMER_CARDS)
