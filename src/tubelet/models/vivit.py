"""Classify clips with ViViT, the video vision transformer, in its four forms.

    joint                    one encoder, every tubelet sees every other

        grid (t h w) --rows of t*h*w--> [ block x depth ] --> class token or mean --> head

    factorized_encoder       first each moment by itself, then time over moments

        moment 1 --rows of h*w--> [ block x depth ] --> vector --\\
        moment 2 --rows of h*w--> [ block x depth ] --> vector ---> [ block x temporal_depth ] --> head
        moment t --rows of h*w--> [ block x depth ] --> vector --/   (temporal_depth=0: the mean over moments)

    factorized_attention     each block mixes across the picture, then along time

        grid --> [ over "h w": attention | over "t": attention | MLP ] x depth --> mean --> head

    factorized_dot_product   each block mixes both at once, with half the heads each

                  /-- heads 1..k/2: over "t"   --\\
        grid --> [                                concat, project | MLP ] x depth --> mean --> head
                  \\-- heads k/2..k: over "h w" --/

Differences from the paper:
    - factorized_attention attends across the picture first, as the paper writes; the official code defaults to time
      first (`order="time_space"`).
    - Drop-path reaches its full rate at the last block and does not rescale, as in the official code; the paper's
      formula reaches it one block later. It works in factorized_attention too, where the official code leaves it out.
    - The tubelet embedding is drawn like every other linear layer (Xavier uniform); the official code draws it with
      the defaults of its convolution. Starting it from an image model is `load_weights`' business.
    - Clips of other lengths and sizes are accepted: learned positions are stretched linearly, with pixel centers kept
      in place, where the official code stretches them at load time with the corners kept in place.
    - Sinusoidal positions serve each encoder of the factorized encoder along its own axes only.
    - The nano size is ours: mean pooling, an MLP twice as wide as a token, made for training from scratch.

Source: arXiv 2103.15691; github.com/google-research/scenic, projects/vivit.
"""

from typing import cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tubelet.models.blocks import (
    Axes,
    Block,
    BlockShape,
    FactorizedAttentionBlock,
    FactorizedDotProductBlock,
    Stack,
    TubeletEmbedding,
    initialize,
    plan_drop_path,
    to_grid,
    to_rows,
)
from tubelet.models.budget import choose_tokens, pick, put_back
from tubelet.models.contract import VideoModel, register_model
from tubelet.models.positions import Positions
from tubelet.models.vivit_config import CARDS, ViViTConfig, count_macs
from tubelet.shapes import Size3

__all__ = ["GridEncoder", "RowEncoder", "ViViT", "plan_uniform_frames"]


def plan_uniform_frames(frames: int, count: int) -> list[int]:
    """Choose `count` of `frames` frames, evenly spread and away from both ends.

    Example:
        >>> plan_uniform_frames(32, 8)
        [4, 7, 11, 14, 18, 21, 25, 28]

    Source: the `temporal_sampling` tokenizer of the official ViViT; halves round to even.
    """
    if count >= frames:
        return list(range(frames))
    step = frames / (count + 1)
    return [min(round(step * index), frames - 1) for index in range(1, count + 1)]


class RowEncoder(nn.Module):
    """Encode a grid in rows along `axes`, and summarize each row.

    Args:
        config: the model's hyper-parameters.
        axes: the axes whose tokens share a row.
        size: the grid at training size; an axis of length 1 has no positions of its own.
        depth: blocks.
    """

    def __init__(self, config: ViViTConfig, axes: Axes, size: Size3, depth: int) -> None:
        super().__init__()
        with_token = config.pooling == "token"
        self.axes = axes
        self.positions = Positions(size, config.dim, config.position, token=with_token)
        self.class_token = nn.Parameter(torch.zeros(config.dim)) if with_token else None
        self.dropout = nn.Dropout(config.dropout)
        shape = _shape_blocks(config)
        self.blocks = Stack(*(Block(shape, rate) for rate in plan_drop_path(config.drop_path, depth)))
        self.norm = nn.LayerNorm(config.dim, eps=config.eps)

    def forward(
        self, grid: Float[Tensor, "batch t h w dim"], share: float = 1.0
    ) -> tuple[Float[Tensor, "batch t h w dim"], Float[Tensor, "row dim"]]:
        """Return the encoded grid, and one vector per row: its class token, or the mean of its tokens.

        Args:
            grid: embedded tubelets.
            share: of the tokens in a row to encode, those that change most; the grid has zeros for the others.
        """
        kept = choose_tokens(self.axes, grid, share)
        rows = to_rows(self.axes, self.positions(grid))
        count = rows.shape[1]
        rows = pick(rows, kept)
        if self.class_token is not None:
            token = self.positions.place_token(self.class_token)
            rows = torch.cat([token.expand(rows.shape[0], 1, -1), rows], dim=1)
        rows = self.norm(self.blocks(self.dropout(rows)))
        summary = rows.mean(dim=1) if self.class_token is None else rows[:, 0]
        rows = rows if self.class_token is None else rows[:, 1:]
        rows = put_back(rows, kept, count)
        return to_grid(self.axes, rows, Size3(*grid.shape[1:4])), summary


class GridEncoder(nn.Module):
    """Encode a grid with blocks that mix space and time by turns or by heads, and summarize it by its mean."""

    def __init__(self, config: ViViTConfig) -> None:
        super().__init__()
        self.positions = Positions(config.grid, config.dim, config.position)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = Stack(
            *(_make_grid_block(config, rate) for rate in plan_drop_path(config.drop_path, config.depth))
        )
        self.norm = nn.LayerNorm(config.dim, eps=config.eps)

    def forward(
        self, grid: Float[Tensor, "batch t h w dim"]
    ) -> tuple[Float[Tensor, "batch t h w dim"], Float[Tensor, "batch dim"]]:
        """Return the encoded grid, and the mean of its tokens."""
        grid = self.norm(self.blocks(self.dropout(self.positions(grid))))
        return grid, grid.mean(dim=(1, 2, 3))


@register_model(*CARDS)
class ViViT(VideoModel):
    """Cut a clip into tubelets, mix them across space and time, and score the classes.

    Build it with `create_model`. `forward`, `features` and `tokens` take clips of any length and size that tubelets
    fill; positions are stretched to fit.

    Args:
        config: the resolved hyper-parameters.
    """

    config: ViViTConfig

    def __init__(self, config: ViViTConfig) -> None:
        super().__init__(config, config.dim)
        self.embedding = TubeletEmbedding(config.channels, _plan_kernel(config), config.dim)
        self.encoder: RowEncoder | GridEncoder
        self.temporal_encoder: RowEncoder | None = None
        grid = config.grid
        if config.form == "joint":
            self.encoder = RowEncoder(config, "t h w", grid, config.depth)
        elif config.form == "factorized_encoder":
            self.encoder = RowEncoder(config, "h w", Size3(1, grid.h, grid.w), config.depth)
            if config.temporal_depth:
                self.temporal_encoder = RowEncoder(config, "t h w", Size3(grid.t, 1, 1), config.temporal_depth)
        else:
            self.encoder = GridEncoder(config)
        self.drops_tokens = isinstance(self.encoder, RowEncoder)
        initialize(self, config.init)
        self.reset_head(config.num_classes)

    def features(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch dim"]:
        """Return the class token or the mean token of each clip, normalized: what the head reads."""
        _, summary = self._encode(clips)
        if self.config.form != "factorized_encoder":
            return summary
        return self.fuse_steps(rearrange(summary, "(batch t) dim -> batch t dim", batch=clips.shape[0]))

    @property
    def step_frames(self) -> int | None:
        """Count the frames of a tubelet where the first encoder sees each moment by itself, whole; else None."""
        is_stepped = self.config.form == "factorized_encoder" and self.config.tokenizer == "tubelet"
        return self.config.tubelet[0] if is_stepped and self.token_share == 1 else None

    def encode_steps(
        self, clips: Float[Tensor, "batch channel time height width"]
    ) -> Float[Tensor, "batch step vector"]:
        """Return what the first encoder of the factorized encoder makes of each moment."""
        if self.step_frames is None:
            return super().encode_steps(clips)
        _, summary = self._encode(clips)
        return rearrange(summary, "(batch t) dim -> batch t dim", batch=clips.shape[0])

    def fuse_steps(self, steps: Float[Tensor, "batch step vector"]) -> Float[Tensor, "batch dim"]:
        """Run the second encoder of the factorized encoder, over time, or take the mean."""
        if self.config.form != "factorized_encoder":
            return super().fuse_steps(steps)
        if self.temporal_encoder is None:
            return steps.mean(dim=1)
        return cast(Tensor, self.temporal_encoder(rearrange(steps, "batch t dim -> batch t 1 1 dim"))[1])

    def tokens(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch t h w dim"]:
        """Return one normalized vector per tubelet; of the factorized encoder, those that its first encoder gives."""
        return self._encode(clips)[0]

    def _encode(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        share = (self.token_share,) if self.drops_tokens else ()
        encoded: tuple[Tensor, Tensor] = self.encoder(self.embed(clips), *share)
        return encoded

    def embed(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch t h w dim"]:
        """Turn pixels into tokens on the grid of tubelets, before positions."""
        self.check_channels(clips)
        frames, height, width = clips.shape[2:]
        t, h, w = self.config.plan_grid(frames, height, width)
        _, step_h, step_w = self.config.tubelet
        if self.config.tokenizer == "uniform_frames":
            clips = clips[:, :, plan_uniform_frames(frames, t)]
        kept = clips[:, :, : t * self.embedding.tubelet.t, : h * step_h, : w * step_w]
        return cast(Tensor, self.embedding(kept))

    def count_macs(self) -> int:
        """Count the multiply-accumulates that one clip of the training size costs."""
        return count_macs(self.config)


def _plan_kernel(config: ViViTConfig) -> Size3:
    frames, height, width = config.tubelet
    return Size3(frames if config.tokenizer == "tubelet" else 1, height, width)


def _shape_blocks(config: ViViTConfig) -> BlockShape:
    return BlockShape(
        dim=config.dim,
        heads=config.heads,
        mlp_dim=config.mlp_dim,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        gelu=config.gelu,
        gelu_twice=config.gelu_twice,
        eps=config.eps,
        qkv_bias="all" if config.qkv_bias else "none",
    )


def _make_grid_block(config: ViViTConfig, drop_path: float) -> nn.Module:
    shape = _shape_blocks(config)
    if config.form == "factorized_dot_product":
        return FactorizedDotProductBlock(shape, drop_path)
    return FactorizedAttentionBlock(shape, drop_path, ("h w", "t") if config.order == "space_time" else ("t", "h w"))
