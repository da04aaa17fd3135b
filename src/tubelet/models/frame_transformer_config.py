"""Hold the frame transformer's hyper-parameters and its registered sizes. No torch here."""

from dataclasses import dataclass
from typing import Literal

from tubelet.errors import ConfigError
from tubelet.models.backbones_config import Embedder, check_width
from tubelet.models.card import ModelCard, ModelConfig, check_counts
from tubelet.video.spec import InputSpec

__all__ = ["CARDS", "FrameTransformerConfig"]


@dataclass(frozen=True)
class FrameTransformerConfig(ModelConfig):
    """Hold every hyper-parameter of a frame transformer; the defaults are those of the preset."""

    embedder: Embedder = "flatten"
    """How a frame becomes a vector: dense layers on all its pixels; convolutions with places kept; or averaged over."""
    hidden: int = 512
    """Widest layer of the embedder; a multiple of 16 for conv and cnn."""
    dim: int = 128
    """Length of a frame's vector; a multiple of `heads`."""
    depth: int = 1
    """Transformer blocks over the frames."""
    heads: int = 4
    """Attention heads."""
    mlp_dim: int = 512
    """Hidden width of each block's MLP."""
    fuse: Literal["flatten", "mean", "token"] = "flatten"
    """How frames become one clip: all vectors end to end, their mean, or a class token that looks at them."""
    head_dim: int = 256
    """Width of the hidden layer between the fused clip and the logits."""
    position: Literal["learned", "none"] = "learned"
    """How frames know their place; with `none`, only fuse=flatten sees order."""
    dropout: float = 0.1
    """Share of activations dropped after the positions, in the blocks and before the logits, 0 to below 1."""
    attention_dropout: float = 0.0
    """Share of attention weights dropped, 0 to below 1."""
    drop_path: float = 0.0
    """Share of clips that skip the last block's branches in training, 0 to below 1; earlier blocks in proportion."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("hidden", "dim", "depth", "heads", "mlp_dim", "head_dim"))
        if self.embedder != "flatten":
            check_width("hidden", self.hidden)
        for name in ("dropout", "attention_dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in 0 to below 1 - found {getattr(self, name)} - give a share.")
        if self.dim % self.heads:
            raise ConfigError(
                f"dim must be a multiple of heads - found dim={self.dim}, heads={self.heads} - "
                f"dim={max(round(self.dim / self.heads), 1) * self.heads} is one."
            )


_IDEA = "Vaswani et al., Attention Is All You Need, arXiv 1706.03762; here over vectors of whole frames"

CARDS: tuple[ModelCard, ...] = (
    ModelCard(
        name="frame_transformer",
        architecture="frame_transformer",
        config=FrameTransformerConfig(
            name="frame_transformer", num_classes=2, frames=32, height=128, width=128, channels=3
        ),
        parameters=26_483_970,
        macs=815_006_208,
        input_spec=InputSpec(frames=32, height=128, width=128),
        summary="each frame flattened to one vector, one block over 32 frames; the plainest video transformer",
        paper=_IDEA,
        license="Apache-2.0",
    ),
    ModelCard(
        name="frame_transformer_nano",
        architecture="frame_transformer",
        config=FrameTransformerConfig(
            name="frame_transformer_nano",
            num_classes=400,
            frames=16,
            height=48,
            width=48,
            channels=3,
            embedder="cnn",
            hidden=96,
            dim=96,
            depth=2,
            mlp_dim=192,
            fuse="mean",
            head_dim=96,
            dropout=0.0,
        ),
        parameters=261_544,
        macs=56_400_384,
        input_spec=InputSpec(frames=16, height=48, width=48),
        summary="a small CNN on each frame, a transformer over 16 frames; small enough to train from scratch on a CPU",
        paper=_IDEA,
        license="Apache-2.0",
    ),
)
