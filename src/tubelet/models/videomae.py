"""Classify clips with VideoMAE: a plain transformer over all tubelets, made to be pre-trained without labels.

    clip --> tubelets + fixed sine positions --rows of t*h*w--> [ block x depth ] --> mean --> norm --> head

The network is ViViT's joint form with three differences: positions are fixed, so that it runs at any length and size
with the same weights; keys have no bias; and the norm comes after the mean. What makes it strong is the start: see
`tubelet.models.videomae_pretraining`.

Differences from the paper:
    - The head starts at zero; the official one starts at a thousandth of the usual size.
    - The tubelet embedding is drawn like every other linear layer; the official code leaves it at its convolution's
      defaults. Both hold only where no pre-trained weights are loaded.
    - Clips of other lengths and sizes are accepted: their positions are computed anew by the same formula.
    - The small size has 6 heads, as in the official code; transformers' folder of it says 16, of the same shapes.
    - The nano size is ours: tubelets of 4 x 8 x 8, an MLP twice as wide as a token, larger first weights.

Source: arXiv 2203.12602; github.com/MCG-NJU/VideoMAE, modeling_finetune.py.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tubelet.errors import CheckpointError
from tubelet.models.blocks import Block, BlockShape, TubeletEmbedding, initialize, plan_drop_path, to_grid, to_rows
from tubelet.models.contract import VideoModel, register_model
from tubelet.models.videomae_config import CARDS, VideoMAEConfig, count_macs
from tubelet.shapes import Size3

__all__ = ["Encoder", "VideoMAE", "make_index_sinusoids", "pick", "shape_blocks"]


def make_index_sinusoids(count: int, dim: int, like: Tensor) -> Float[Tensor, "{count} {dim}"]:
    """Return fixed position vectors of `count` tokens in a row: sines on even channels, cosines on odd ones.

    Tokens are counted along width first, then height, then time.

    Args:
        count: tokens in a row.
        dim: length of a token.
        like: a tensor whose device and precision the vectors get.

    Example:
        >>> make_index_sinusoids(2, 4, torch.zeros(()))
        tensor([[0.0000, 1.0000, 0.0000, 1.0000],
                [0.8415, 0.5403, 0.0100, 0.9999]])

    Cost: computed at each call, in double precision; far below one block.

    Source: `get_sinusoid_encoding_table` of the official VideoMAE; arXiv 1706.03762, section 3.5.
    """
    device = "cpu" if like.device.type == "mps" else like.device  # Apple's GPUs have no double precision
    channel = torch.arange(dim, dtype=torch.float64, device=device)
    odd = channel % 2
    index = torch.arange(count, dtype=torch.float64, device=device)
    angles = index[:, None] / 10_000 ** ((channel - odd) / dim)
    return torch.sin(angles + odd * (math.pi / 2)).to(like)


def pick(rows: Float[Tensor, "batch token dim"], index: Int[Tensor, "batch some"]) -> Float[Tensor, "batch some dim"]:
    """Take the tokens of each row that `index` names, in its order."""
    return rows.gather(1, index[..., None].expand(-1, -1, rows.shape[-1]))


def shape_blocks(config: VideoMAEConfig, dim: int, heads: int, mlp_dim: int) -> BlockShape:
    """State what the blocks of a stack of that width have in common; encoder and decoder differ in nothing else."""
    return BlockShape(
        dim=dim,
        heads=heads,
        mlp_dim=mlp_dim,
        attention_dropout=config.attention_dropout,
        gelu=config.gelu,
        eps=config.eps,
        qkv_bias=config.qkv_bias,
        rescale_paths=True,
    )


class Encoder(nn.Module):
    """Embed clips and mix their tokens: what a classifier and its pre-training share."""

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        self.embedding = TubeletEmbedding(config.channels, Size3(*config.tubelet), config.dim)
        shape = shape_blocks(config, config.dim, config.heads, config.mlp_dim)
        self.blocks = nn.Sequential(*(Block(shape, rate) for rate in plan_drop_path(config.drop_path, config.depth)))

    def forward(
        self,
        clips: Float[Tensor, "batch channel time height width"],
        seen: Int[Tensor, "batch some"] | None = None,
    ) -> Float[Tensor, "batch token dim"]:
        """Return one vector per tubelet, in the order time, height, width.

        Args:
            clips: pixels, normalized; sizes are multiples of the tubelet's.
            seen: the tubelets to encode, by their place in that order; all where None. The others cost nothing.
        """
        rows = to_rows("t h w", self.embedding(clips))
        rows = rows + make_index_sinusoids(rows.shape[1], rows.shape[2], rows)
        mixed: Tensor = self.blocks(rows if seen is None else pick(rows, seen))
        return mixed


@register_model(*CARDS)
class VideoMAE(VideoModel):
    """Let every tubelet of a clip see every other, and score the classes from their mean.

    Build it with `create_model`; start it from `VideoMAEPretraining.encoder_state` with `load_encoder`. `forward`,
    `features` and `tokens` take clips of any length and size that tubelets fill.

    Args:
        config: the resolved hyper-parameters.
    """

    config: VideoMAEConfig

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__(config, config.dim)
        self.encoder = Encoder(config)
        self.norm = nn.LayerNorm(config.dim, eps=config.final_eps)
        self.dropout = nn.Dropout(config.head_dropout)
        initialize(self, config.init)
        self.reset_head(config.num_classes)

    def features(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch dim"]:
        """Return the normalized mean of each clip's tokens: what the head reads."""
        grid = self.tokens(clips)
        summary = grid.mean(dim=(1, 2, 3)) if self.config.pooling == "mean" else grid[:, 0, 0, 0]
        normalized: Tensor = self.dropout(self.norm(summary))
        return normalized

    def tokens(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch t h w dim"]:
        """Return one vector per tubelet, as the last block gives it, before any norm."""
        self.check_channels(clips)
        size = self.config.plan_grid(*clips.shape[2:])
        return to_grid("t h w", self.encoder(clips), size)

    def load_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a pre-trained encoder; the norm after it and the head stay as they are.

        Args:
            state: what `VideoMAEPretraining.encoder_state` returns. Clips of another length or size, and another
                number of classes, are no hindrance.

        Raises:
            CheckpointError: a weight that is missing, superfluous, or of another shape: the sizes differ.
        """
        own = self.encoder.state_dict()
        given = {key.removeprefix("encoder."): value for key, value in state.items()}
        wrong = sorted(
            key
            for key in own.keys() | given.keys()
            if key not in own or key not in given or own[key].shape != given[key].shape
        )
        if wrong:
            key = wrong[0]
            shapes = [tuple(side[key].shape) if key in side else "nothing" for side in (own, given)]
            raise CheckpointError(
                f"{self.config.name} was given an encoder of another size - {len(wrong)} weights differ, such as "
                f"{key}: {shapes[0]} here, {shapes[1]} given - create the model with the hyper-parameters it had."
            )
        self.encoder.load_state_dict(given)

    def count_macs(self) -> int:
        """Count the multiply-accumulates that one clip of the training size costs."""
        return count_macs(self.config)
