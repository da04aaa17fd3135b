"""Classify clips with TimeSformer, an image transformer that was taught to look along time.

Every frame is cut into patches; one class token stands for the whole clip (space_only: one for each frame).

    divided       each patch sees its own place at all times, then its whole frame

        patches --> [ over "t": attention, project | over "h w", with the class token: attention | MLP ] x depth

        The class token is lent to every frame, and what the frames tell it is averaged. `project` starts at zero: a
        fresh model, or one that starts from an image model's weights, sees each frame by itself, and learns time.

    local_global  each patch sees its quarter of the picture at all times, then every second patch of the clip

        patches --> [ windows: attention, project | every second, with the class token: attention | MLP ] x depth

    axial         each patch sees its own place at all times, then its row of its frame, then its column

        patches --> [ over "t": attention, project | over "w": the same
                    | over "h", with the class token: attention | MLP ] x depth

    joint         every patch of the clip sees every other

        class token + patches --rows of t*h*w--> [ block x depth ]

    space_only    each frame by itself; the mean over frames is blind to their order

        class token + patches --rows of h*w--> [ block x depth ] --> mean over frames

    all           class token --> layer norm --> head

Differences from the paper:
    - The paper adds one learned position for every patch of the clip; as in the official code there is one for every
      place in a frame and one for every frame, which joint and divided add to each other.
    - Of local_global and axial the paper says what each step sees and how many parameters there are; nobody released
      code. Decided here: every step is built as in the divided form, the last as its attention across a frame (with
      the class token, whose answers from all rows are averaged), those before as its attention along time (patches
      alone, and a projection of their own). That gives the paper's 121.4M and 156.8M parameters.
    - local_global: the neighborhood of F x H/2 x W/2 patches is one of four windows at all times, the same for all
      patches in it, not a window around each: those would take all of joint attention under a mask, or many copies of
      the keys. The global step with a stride of 2 along all three axes goes over eight rows: each patch sees those
      whose distance from it is even along every axis. Where an axis is odd the first window, and every second patch
      from the first, have one patch more; an axis of one patch is not cut. Where frames have four patches a side or
      more one block connects all patches.
    - Models of these two forms that start from an image model do not give its logits at first, as those of the divided
      form do on still clips: no step of theirs sees a whole frame.
    - In the paper patches see the class token when they look along time too; in the official code, and here, only
      when they look across their frame. How frames share the class token, and the projection after attention along
      time, are the official code's; the paper mentions neither.

Differences from the official code:
    - Clips of other lengths and sizes are accepted: positions are stretched linearly and along each axis by itself;
      the official code takes the nearest (`stretch="nearest"`), and takes a grid of places for one line of them
      when it loads weights of another size.
    - The head starts at zero. Activations are dropped once after all positions, not after each kind (all official
      models drop none).
    - The nano size is ours: an MLP twice as wide as a token, and a start (`init="scratch"`) that has time in it, made
      for training from scratch.

Source: arXiv 2102.05095; github.com/facebookresearch/TimeSformer, timesformer/models/vit.py.
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
from tubelet.models.timesformer_blocks import SteppedBlock
from tubelet.models.timesformer_config import CARDS, STEPS, TimeSformerConfig, count_macs
from tubelet.shapes import Size3

__all__ = ["TimeSformer"]

_SMALL = 0.02  # deviation of fresh class tokens and of positions in space

# Deviation of fresh positions in time where a model starts from scratch. Measured on moving squares: within 240 steps
# the divided nano model told their directions apart with 0.5 (three runs of three), and only the axes with 0.02 or 0.2.
_LARGE = 0.5


@register_model(*CARDS)
class TimeSformer(VideoModel):
    """Cut every frame into patches, mix them across space and time, and score the classes from a class token.

    Build it with `create_model`. `forward`, `features` and `tokens` take clips of any length, and of any size that
    patches fill; positions are stretched to fit.

    Args:
        config: the resolved hyper-parameters.
    """

    config: TimeSformerConfig

    def __init__(self, config: TimeSformerConfig) -> None:
        super().__init__(config, config.dim)
        t, h, w = config.grid
        steps = STEPS.get(config.form)
        self.embedding = TubeletEmbedding(config.channels, Size3(1, config.patch, config.patch), config.dim)
        self.class_token = nn.Parameter(torch.randn(config.dim) * _SMALL)
        self.places = Positions(Size3(1, h, w), config.dim, token=True, stretch=config.stretch)
        self.moments: Positions | None = None
        if config.form != "space_only":
            self.moments = Positions(Size3(t, 1, 1), config.dim, stretch=config.stretch)
        self.dropout = nn.Dropout(config.dropout)
        shape, rates = _shape_blocks(config), plan_drop_path(config.drop_path, config.depth)
        self.blocks = Stack(*(SteppedBlock(shape, steps, rate) if steps else Block(shape, rate) for rate in rates))
        self.drops_tokens = not steps
        self.norm = nn.LayerNorm(config.dim, eps=config.eps)
        self._start()
        self.reset_head(config.num_classes)

    def _start(self) -> None:
        image = self.config.init == "image"
        initialize(self, "normal" if image else "xavier")
        for name, parameter in self.named_parameters():
            if name == "moments.grid":
                nn.init.normal_(parameter, std=0.0 if image else _LARGE)
            elif image and name.endswith("_project.weight"):
                nn.init.zeros_(parameter)

    def features(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch dim"]:
        """Return the class token of each clip, normalized: what the head reads."""
        token, _ = self.encode(self.embed(clips))
        return self.fuse_steps(token) if self.config.form == "space_only" else cast(Tensor, self.norm(token[:, 0]))

    @property
    def step_frames(self) -> int | None:
        """Say 1 where each frame is encoded by itself, whole; else None."""
        return 1 if self.config.form == "space_only" and self.token_share == 1 else None

    def encode_steps(
        self, clips: Float[Tensor, "batch channel time height width"]
    ) -> Float[Tensor, "batch step vector"]:
        """Return the class token of each frame, of the space_only form."""
        return super().encode_steps(clips) if self.step_frames is None else self.encode(self.embed(clips))[0]

    def fuse_steps(self, steps: Float[Tensor, "batch step vector"]) -> Float[Tensor, "batch dim"]:
        """Return the normalized mean over frames, of the space_only form."""
        if self.config.form != "space_only":
            return super().fuse_steps(steps)
        return cast(Tensor, self.norm(steps.mean(dim=1)))

    def tokens(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch t h w dim"]:
        """Return one normalized vector per patch of every frame."""
        _, grid = self.encode(self.embed(clips))
        return cast(Tensor, self.norm(grid))

    def embed(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch t h w dim"]:
        """Turn pixels into one token per patch of every frame, before positions."""
        self.check_channels(clips)
        self.config.plan_grid(*clips.shape[2:])
        return cast(Tensor, self.embedding(clips))

    def encode(
        self, grid: Float[Tensor, "batch t h w dim"]
    ) -> tuple[Float[Tensor, "batch token dim"], Float[Tensor, "batch t h w dim"]]:
        """Return the class token of each clip, or frame for space_only, and the patches: not normalized."""
        axes: Axes = "h w" if self.config.form == "space_only" else "t h w"
        size = Size3(*grid.shape[1:4])
        kept = choose_tokens(axes, grid, self.token_share)
        grid = self.places(grid)
        if self.moments is not None:
            grid = self.moments(grid)
        rows = to_rows(axes, grid)
        places = rows.shape[1]
        rows = pick(rows, kept)
        token = self.places.place_token(self.class_token)
        rows = self.dropout(torch.cat([token.expand(rows.shape[0], 1, -1), rows], dim=1))
        rows = self.blocks(rows, size) if self.config.form in STEPS else self.blocks(rows)
        summary, rows = rows[:, 0], rows[:, 1:]
        count = size.t if self.config.form == "space_only" else 1
        tokens = rearrange(summary, "(batch token) dim -> batch token dim", token=count)
        return tokens, to_grid(axes, put_back(rows, kept, places), size)

    def count_macs(self) -> int:
        """Count the multiply-accumulates that one clip of the training size costs."""
        return count_macs(self.config)


def _shape_blocks(config: TimeSformerConfig) -> BlockShape:
    return BlockShape(
        dim=config.dim,
        heads=config.heads,
        mlp_dim=config.mlp_dim,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        gelu=config.gelu,
        eps=config.eps,
        qkv_bias="all" if config.qkv_bias else "none",
        rescale_paths=True,
    )
