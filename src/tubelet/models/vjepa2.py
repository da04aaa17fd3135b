"""Classify clips with V-JEPA 2: a plain transformer over all tubelets, and a probe that pools its tokens.

    clip --> tubelets --rows of t*h*w--> [ block, queries and keys rotated x depth ] --> norm = tokens
    tokens --> [ block x pooler_depth ] --> one learned query looks at all --> MLP --> head

Nothing is added to tokens to say where they are. In every block of the encoder queries and keys are turned by angles
that grow with their place, a third of each head's numbers for each axis, so that scores depend on distances. Positions
are computed for the grid at hand: any length, height and width run with the same weights. The published encoders were
trained without labels and stay frozen while the probe learns: train `pooler` and `head` alone.

Differences from the paper and the official code:
    - Short sides are fitted to the crop itself; the official evaluation scales the short side to 256/224 of the crop
      first (256 to 292) and so sees a little less of the picture. The input contract cannot state that.
    - Clips are chosen by VideoMAE's rules, every 2nd frame, as the official probes of 64 frames take them; how they
      round starts of clips differs by some frames.
    - The head starts at zero; the official one like other layers.
    - Angles are computed in single precision at least; the official code computes them in the model's, coarse in
      bfloat16.
    - The official probes on Diving-48 read four layers of the encoder; that is not offered.
    - The nano size is ours: tubelets of 4 x 8 x 8, MLPs twice as wide as a token, one block in the probe, larger first
      weights.

Differences of transformers from both:
    - It takes places from the configured crop, so that clips of another height or width get places of another grid;
      ours are those of the official code, at square, other and non-square sizes.
    - Its probe has as many heads as the encoder (22 in the giant size, where official ones have 16) and 1e-6 in its
      norms (1e-5). `tubelet.models.weights.vjepa2.plan_changes` takes over what it states.
    - It repeats clips of fewer frames than a tubelet; here they are refused.

Source: arXiv 2506.09985; github.com/facebookresearch/vjepa2, src/models/vision_transformer.py, attentive_pooler.py.
"""

import math
from collections.abc import Iterable
from typing import cast

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from tubelet.models.attention import attend
from tubelet.models.blocks import (
    Attention,
    Block,
    BlockShape,
    DropPath,
    Mlp,
    Stack,
    TubeletEmbedding,
    initialize,
    plan_drop_path,
    to_grid,
    to_rows,
)
from tubelet.models.contract import VideoModel, register_model
from tubelet.models.vjepa2_config import CARDS, VJEPA2Config, count_macs
from tubelet.shapes import Size3

__all__ = ["VJEPA2", "AttentivePooler", "CrossAttention", "Encoder", "RotaryBlock", "make_rotation", "rotate"]


def make_rotation(size: Size3, head_dim: int, like: Tensor) -> Float[Tensor, "two token turned"]:
    """Return the cosines and sines by which `rotate` turns the tokens of a grid, in the order time, height, width.

    Each axis has the same share of a head's numbers, the largest even one that fits three times: 20 of 64. Of the
    share of one axis, numbers j and j + share/2 have the angle place / 10000^(2j / share).

    Args:
        size: tokens along time, height and width.
        head_dim: numbers in one head; at least 6.
        like: a tensor whose device the tables get; their precision is single, or its own if that is finer.

    Cost: computed at each call, for all blocks together; far below one block.

    Source: `rotate_queries_or_keys` of the official V-JEPA 2.
    """
    pairs = head_dim // 3 // 2
    precision = torch.promote_types(like.dtype, torch.float32)
    frequencies = 10_000.0 ** (-torch.arange(pairs, dtype=precision, device=like.device) / pairs)
    patterns = ("t n -> (t h w) n", "h n -> (t h w) n", "w n -> (t h w) n")
    lengths = size._asdict()
    parts = []
    for axis, pattern in zip("thw", patterns, strict=True):
        angles = torch.arange(lengths[axis], dtype=precision, device=like.device)[:, None] * frequencies
        # The two halves get the same angles although `rotate` pairs neighbors: an oversight of the official code that
        # its weights have learned to live with.
        others = {other: length for other, length in lengths.items() if other != axis}
        parts.append(repeat(angles.repeat(1, 2), pattern, **others))
    turned = torch.cat(parts, dim=-1)
    return torch.stack([turned.cos(), turned.sin()])


def rotate(
    vectors: Float[Tensor, "*rows token dim"], rotation: Float[Tensor, "two token turned"]
) -> Float[Tensor, "*rows token dim"]:
    """Turn each pair of neighboring numbers by its token's angles; numbers beyond the turned ones stay.

    The two of a pair have angles of their own, so that this is a rotation only where those agree.
    """
    cosines, sines = rotation.to(vectors).unbind(0)
    count = cosines.shape[-1]
    turned, rest = vectors[..., :count], vectors[..., count:]
    first, second = rearrange(turned, "... (pair two) -> two ... pair", two=2).unbind(0)
    across = rearrange(torch.stack([-second, first]), "two ... pair -> ... (pair two)")
    return torch.cat([turned * cosines + across * sines, rest], dim=-1)


class RotaryBlock(nn.Module):
    """Mix the tokens of a row by what they are and where they are, then transform each."""

    def __init__(self, shape: BlockShape, drop_path: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(shape)
        self.mlp = Mlp(shape)
        self.drop_path = DropPath(drop_path, rescale=shape.rescale_paths)

    def forward(
        self, rows: Float[Tensor, "row token dim"], rotation: Float[Tensor, "two token turned"]
    ) -> Float[Tensor, "row token dim"]:
        """Return rows of the same shape."""
        mixed: Tensor = rows + self.drop_path(self.attend(rows, rotation))
        transformed: Tensor = mixed + self.drop_path(self.mlp(mixed))
        return transformed

    def attend(
        self, rows: Float[Tensor, "row token dim"], rotation: Float[Tensor, "two token turned"]
    ) -> Float[Tensor, "row token dim"]:
        """Return the residual branch of attention among queries and keys that were turned."""
        attention = self.attention
        qkv = attention.qkv(attention.norm(rows))
        qkv = rearrange(qkv, "r n (three heads d) -> three r heads n d", three=3, heads=attention.heads)
        query, key = rotate(qkv[:2], rotation).unbind(0)
        return attention.finish(rearrange(attention.mix(query, key, qkv[2]), "r heads n d -> r n (heads d)"))


class Encoder(nn.Module):
    """Embed clips and mix their tokens: what is trained without labels."""

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.head_dim = config.dim // config.heads
        self.embedding = TubeletEmbedding(config.channels, Size3(*config.tubelet), config.dim)
        shape = BlockShape(
            dim=config.dim,
            heads=config.heads,
            mlp_dim=config.mlp_dim,
            attention_dropout=config.attention_dropout,
            gelu=config.gelu,
            eps=config.eps,
            qkv_bias="all" if config.qkv_bias else "none",
            rescale_paths=True,
        )
        rates = plan_drop_path(config.drop_path, config.depth)
        self.blocks = Stack(*(RotaryBlock(shape, rate) for rate in rates))
        self.norm = nn.LayerNorm(config.dim, eps=config.eps)

    def forward(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch t h w dim"]:
        """Return one normalized vector per tubelet, on their grid."""
        grid = self.embedding(clips)
        size = Size3(*grid.shape[1:4])
        rotation = make_rotation(size, self.head_dim, grid)
        rows = self.blocks(to_rows("t h w", grid), rotation)
        return to_grid("t h w", self.norm(rows), size)


class CrossAttention(nn.Module):
    """Let one query see the tokens of a row: layer norm of the tokens alone, attention, no projection after it."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attention_dropout = shape.attention_dropout
        self.norm = nn.LayerNorm(shape.dim, eps=shape.eps)
        self.query = nn.Linear(shape.dim, shape.dim)
        self.key_value = nn.Linear(shape.dim, 2 * shape.dim)

    def forward(
        self, query: Float[Tensor, "row one dim"], rows: Float[Tensor, "row token dim"]
    ) -> Float[Tensor, "row one dim"]:
        """Return the residual branch of the query; the caller adds it."""
        split = "r n (heads d) -> r heads n d"
        key, value = self.key_value(self.norm(rows)).chunk(2, dim=-1)
        query, key, value = (rearrange(part, split, heads=self.heads) for part in (self.query(query), key, value))
        dropout = self.attention_dropout if self.training else 0.0
        return rearrange(attend(query, key, value, dropout), "r heads n d -> r n (heads d)")


class AttentivePooler(nn.Module):
    """Sum the tokens of a clip up in one vector: some blocks without positions, then a learned query that looks at all.

    Source: arXiv 2506.09985, section 4; `AttentivePooler` of the official code.
    """

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        shape = BlockShape(
            dim=config.dim,
            heads=config.pooler_heads,
            mlp_dim=config.pooler_mlp_dim,
            attention_dropout=config.attention_dropout,
            gelu="none",
            eps=config.pooler_eps,
        )
        self.query = nn.Parameter(torch.zeros(config.dim))
        self.blocks = Stack(*(Block(shape) for _ in range(config.pooler_depth)))
        self.cross = CrossAttention(shape)
        self.mlp = Mlp(shape)

    def forward(self, rows: Float[Tensor, "row token dim"]) -> Float[Tensor, "row dim"]:
        """Return one vector per row of tokens."""
        query = self.query.repeat(rows.shape[0], 1, 1)
        found = query + self.cross(query, self.blocks(rows))
        pooled: Tensor = found + self.mlp(found)
        return pooled[:, 0]


@register_model(*CARDS)
class VJEPA2(VideoModel):
    """Let every tubelet of a clip see every other, and score the classes from what a learned query finds in them.

    Build it with `create_model`. `forward`, `features` and `tokens` take clips of any length and size that tubelets
    fill.

    Args:
        config: the resolved hyper-parameters.
    """

    config: VJEPA2Config

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__(config, config.dim)
        self.encoder = Encoder(config)
        self.pooler = AttentivePooler(config)
        self._start()
        self.reset_head(config.num_classes)

    def _start(self) -> None:
        initialize(self, self.config.init)
        nn.init.trunc_normal_(self.pooler.query, std=0.02)
        if self.config.init == "xavier":
            return
        for blocks in (self.encoder.blocks, self.pooler.blocks):
            for depth, block in enumerate(cast("Iterable[Block]", blocks), start=1):
                _shrink(block.attention.out, depth)
                _shrink(block.mlp.narrow, depth)
        _shrink(self.pooler.mlp.narrow, max(self.config.pooler_depth, 1))

    def features(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch dim"]:
        """Return what the probe's query found in each clip: what the head reads."""
        return cast(Tensor, self.pooler(to_rows("t h w", self.tokens(clips))))

    def tokens(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch t h w dim"]:
        """Return one vector per tubelet, as the encoder's last norm gives it, before the probe."""
        self.check_channels(clips)
        self.config.plan_grid(*clips.shape[2:])
        return cast(Tensor, self.encoder(clips))

    def count_macs(self) -> int:
        """Count the multiply-accumulates that one clip of the training size costs."""
        return count_macs(self.config)


def _shrink(layer: nn.Linear, depth: int) -> None:
    """Make what the `depth`-th block of a stack adds the smaller, the deeper it is."""
    with torch.no_grad():
        layer.weight.div_(math.sqrt(2 * depth))
