"""Classify clips with a transformer whose tokens are whole frames.

    frame 1 --[ embedder ]--> vector --\\
    frame 2 --[ embedder ]--> vector ---> + positions, [ block x depth ], norm --> fuse --> dense, GELU --> head
    frame t --[ embedder ]--> vector --/

    embedder   flatten   every pixel into two dense layers       fuse   flatten   all vectors end to end
               conv      convolutions, places kept apart                mean      their mean
               cnn       convolutions, averaged over places             token     a class token that looks at them

Choose it where clips are long and what changes from frame to frame is coarse: attention costs frames squared, not
pixels. Motion finer than a frame's vector is lost to it; frame differences as extra channels bring it back.

The model gives logits. Two classes under a softmax are one class under a sigmoid: softmax(a, b) = sigmoid(a - b), so
a binary task needs no other head; `num_classes=1` with a binary loss works too.

Clips of other sizes are scaled to what the weights were made for, where the embedder or the fusion depends on it;
`fuse="flatten"` stretches the row of frames to its own length in the same way.
"""

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tubelet.models.backbones import ConvEmbedder, FlattenEmbedder, SmallCnn, embed_frames
from tubelet.models.blocks import LAYER_NORM_EPS, Block, BlockShape, Stack, initialize, plan_drop_path
from tubelet.models.contract import VideoModel, register_model
from tubelet.models.frame_transformer_config import CARDS, FrameTransformerConfig
from tubelet.models.positions import Positions
from tubelet.shapes import Size, Size3

__all__ = ["FrameTransformer"]


@register_model(*CARDS)
class FrameTransformer(VideoModel):
    """Embed every frame by itself, let the frames look at each other, and score the classes.

    Build it with `create_model`. `forward`, `features` and `tokens` take clips of any length and size.

    Args:
        config: the resolved hyper-parameters.
    """

    config: FrameTransformerConfig

    def __init__(self, config: FrameTransformerConfig) -> None:
        super().__init__(config, config.head_dim)
        self.embedder = _make_embedder(config)
        with_token = config.fuse == "token"
        self.positions = Positions(Size3(config.frames, 1, 1), config.dim, config.position, token=with_token)
        self.class_token = nn.Parameter(torch.zeros(config.dim)) if with_token else None
        self.dropout = nn.Dropout(config.dropout)
        shape = BlockShape(config.dim, config.heads, config.mlp_dim, config.dropout, config.attention_dropout)
        rates = plan_drop_path(config.drop_path, config.depth)
        self.blocks = Stack(*(Block(shape, rate) for rate in rates))
        self.norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.fuse = nn.Linear(config.dim * (config.frames if config.fuse == "flatten" else 1), config.head_dim)
        initialize(self, "xavier")
        self.reset_head(config.num_classes)

    def features(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch dim"]:
        """Return what the head reads: the fused clip after one dense layer and GELU."""
        return self.fuse_steps(self.encode_steps(clips))

    @property
    def step_frames(self) -> int:
        """Say 1: each frame is embedded by itself."""
        return 1

    def encode_steps(
        self, clips: Float[Tensor, "batch channel time height width"]
    ) -> Float[Tensor, "batch step vector"]:
        """Embed every frame by itself."""
        self.check_channels(clips)
        return embed_frames(self.embedder, clips)

    def fuse_steps(self, steps: Float[Tensor, "batch step vector"]) -> Float[Tensor, "batch dim"]:
        """Let embedded frames look at each other, and fuse them."""
        rows = self.mix(steps)
        if self.config.fuse == "token":
            fused = rows[:, 0]
        elif self.config.fuse == "mean":
            fused = rows.mean(dim=1)
        else:
            fused = rearrange(_stretch(rows, self.config.frames), "b t d -> b (t d)")
        return cast(Tensor, self.dropout(F.gelu(self.fuse(fused))))

    def tokens(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch t 1 1 dim"]:
        """Return one normalized vector per frame, after the blocks."""
        rows = self.mix(self.encode_steps(clips))
        return rearrange(rows[:, 0 if self.class_token is None else 1 :], "b t d -> b t 1 1 d")

    def mix(self, steps: Float[Tensor, "batch step dim"]) -> Float[Tensor, "batch token dim"]:
        """Let embedded frames look at each other; the class token comes first where there is one."""
        grid = rearrange(steps, "b t d -> b t 1 1 d")
        rows = rearrange(self.positions(grid), "b t 1 1 d -> b t d")
        if self.class_token is not None:
            token = self.positions.place_token(self.class_token)
            rows = torch.cat([token.expand(rows.shape[0], 1, -1), rows], dim=1)
        return cast(Tensor, self.norm(self.blocks(self.dropout(rows))))


def _make_embedder(config: FrameTransformerConfig) -> nn.Module:
    size = Size(config.height, config.width)
    if config.embedder == "flatten":
        return FlattenEmbedder(config.channels, size, config.hidden, config.dim)
    if config.embedder == "conv":
        return ConvEmbedder(config.channels, size, config.hidden, config.dim)
    return SmallCnn(config.channels, config.hidden, config.dim)


def _stretch(rows: Float[Tensor, "batch time dim"], length: int) -> Float[Tensor, "batch {length} dim"]:
    """Bring a row of frames to `length`, linearly along time."""
    if rows.shape[1] == length:
        return rows
    planes = rearrange(rows, "b t d -> b d t")
    return rearrange(F.interpolate(planes, size=length, mode="linear"), "b d t -> b t d")
