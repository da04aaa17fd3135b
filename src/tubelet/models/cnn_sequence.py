"""Classify clips with a CNN on each frame and a sequence model after it: recurrent cells, or a transformer.

    frame 1 --[ CNN ]--> vector --\\      cnn_gru, cnn_lstm     [ cell ] --> [ cell ] --> last, mean --> dense --> head
    frame 2 --[ CNN ]--> vector ---->
    frame t --[ CNN ]--> vector --/      cnn_transformer       + positions, [ post-norm block x depth ] --> max --> head

The CNN is a small one of our own (`backbone="small"`), one of timm's (`backbone="timm:resnet18"`, an extra), or ran
before (`backbone="none"`): then the clips are features, (batch, features, time, 1, 1). Short clips are padded at the
end, with anything finite, and say so by `lengths`; what stands in the padding, and how much of it there is, changes no
logit. A clip shorter than `frames` stands at the first positions; a longer one is squeezed onto all of them.

Choose `cnn_gru` as the strong cheap baseline that every video transformer should be measured against.

Differences from the Keras examples:
    - They use the first 20 frames of a video; the cards here state 20 frames spread over all of it.
      `InputSpec(sampling="first")` gives theirs.
    - Their CNN-transformer takes the maximum over padded positions too; here padding takes no part.
    - They tell padding from features that are all zero; here `lengths` says it.
    - The models give logits; the softmax is the loss's.

Source: keras.io/examples/vision/video_classification and keras.io/examples/vision/video_transformers.
"""

from abc import abstractmethod
from dataclasses import replace
from typing import Literal, TypeVar, cast

import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tubelet.errors import ConfigError
from tubelet.models.backbones import FeaturePool, SmallCnn, embed_frames
from tubelet.models.blocks import Stack, initialize
from tubelet.models.cnn_sequence_config import (
    RECURRENT_CARDS,
    TRANSFORMER_CARDS,
    CnnRnnConfig,
    CnnSequenceConfig,
    CnnTransformerConfig,
)
from tubelet.models.contract import VideoModel, register_model
from tubelet.models.recurrence import Recurrence, TwoWayRecurrence
from tubelet.models.timm_backbone import TimmCnn

__all__ = ["CnnRnn", "CnnSequence", "CnnTransformer", "FramePositions", "PostNormBlock"]

S = TypeVar("S", bound="CnnSequence")

KERAS_NORM_EPS = 1e-3
"""Added to the variance in Keras' layer norm."""


class FramePositions(nn.Module):
    """Add a learned vector to each frame that says which one it is.

    Clips of up to `frames` frames take the first vectors; longer ones are squeezed onto all of them. Where a frame
    stands depends on its own clip's length, not on the padding.
    """

    def __init__(self, frames: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(frames, dim).uniform_(-0.05, 0.05))

    def forward(
        self, rows: Float[Tensor, "batch time dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch time dim"]:
        """Add the positions."""
        frames, time = self.table.shape[0], rows.shape[1]
        if time <= frames:
            return rows + self.table[:time]
        index = torch.arange(time, device=rows.device)
        scale = frames / lengths.clamp(min=frames).float()
        places = ((index + 0.5) * scale[:, None] - 0.5).clamp(0, frames - 1)
        before = places.floor().long()
        share = (places - before)[:, :, None].to(rows.dtype)
        after = (before + 1).clamp(max=frames - 1)
        return rows + self.table[before] * (1 - share) + self.table[after] * share


class PostNormBlock(nn.Module):
    """Mix the tokens of a row, then transform each, with a layer norm after each residual sum, as Keras' example does.

    Source: arXiv 1706.03762, figure 1 (the encoder's layer); exact GELU in the MLP.
    """

    def __init__(self, config: CnnTransformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.attention_dropout = config.attention_dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=KERAS_NORM_EPS)
        self.widen = nn.Linear(dim, config.mlp_dim)
        self.narrow = nn.Linear(config.mlp_dim, dim)
        self.mlp_norm = nn.LayerNorm(dim, eps=KERAS_NORM_EPS)

    def forward(
        self, rows: Float[Tensor, "row token dim"], real: Bool[Tensor, "row token"] | None
    ) -> Float[Tensor, "row token dim"]:
        """Return rows of the same shape; only real tokens are looked at, all of them where `real` is None."""
        query, key, value = rearrange(self.qkv(rows), "r n (three h d) -> three r h n d", three=3, h=self.heads)
        mask = None if real is None else rearrange(real, "r n -> r 1 1 n")
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        rows = self.attention_norm(rows + self.out(rearrange(mixed, "r h n d -> r n (h d)")))
        transformed: Tensor = self.mlp_norm(rows + self.narrow(F.gelu(self.widen(rows))))
        return transformed


class CnnSequence(VideoModel):
    """Hold what the CNN hybrids share: frames to vectors, and clips that end early.

    Args:
        config: the resolved hyper-parameters.
        vector: length of a frame's vector where the model's own backbone makes it.
        dim: length of the feature vector that the head reads.
    """

    config: CnnSequenceConfig

    def __init__(self, config: CnnSequenceConfig, vector: int, dim: int) -> None:
        super().__init__(config, dim)
        self.backbone: nn.Module = FeaturePool()
        self.vector = config.channels
        if config.backbone == "small":
            self.backbone = SmallCnn(config.channels, config.backbone_width, vector)
            self.vector = vector
        elif config.backbone != "none":
            self.backbone = TimmCnn(config.backbone, config.channels, pretrained=config.backbone_pretrained)
            self.vector = self.backbone.dim
            # The weights are this model's from here on: who rebuilds it brings them along, and fetches none.
            self.config = replace(config, backbone_pretrained=False)

    @property
    def takes(self) -> Literal["pixels", "features"]:
        """Say whether the clips are pixels for a backbone, or features of one that ran before."""
        return "features" if self.config.backbone == "none" else "pixels"

    def train(self: S, mode: bool = True) -> S:
        """Switch to training; a frozen backbone stays as in evaluation, its running statistics too."""
        super().train(mode)
        if self.config.frozen:
            self.backbone.eval()
        return self

    def forward(
        self, clips: Float[Tensor, "batch channel time height width"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch {self.num_classes}"]:
        """Score clips: one logit per class.

        Args:
            clips: pixels, or features as channels; all clips of a batch padded at the end to the longest.
            lengths: frames of each clip that are real, at least 1; all of them without it.
        """
        logits: Tensor = self.head(self.features(clips, lengths))
        return logits

    def features(
        self, clips: Float[Tensor, "batch channel time height width"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """Return the vector of each clip that the head reads; `lengths` as in `forward`."""
        if lengths is None:
            return self.summarize(self.encode(clips, None), None)
        _check_lengths(lengths, clips)
        return self.summarize(self.encode(clips, lengths), lengths)

    def tokens(
        self, clips: Float[Tensor, "batch channel time height width"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch t 1 1 dim"]:
        """Return one vector per frame, after the sequence model; what stands at padded frames means nothing."""
        if lengths is not None:
            _check_lengths(lengths, clips)
        return rearrange(self.encode(clips, lengths), "b t d -> b t 1 1 d")

    @property
    def step_frames(self) -> int:
        """Say 1: the backbone sees each frame by itself."""
        return 1

    def encode_steps(
        self, clips: Float[Tensor, "batch channel time height width"]
    ) -> Float[Tensor, "batch step vector"]:
        """Turn every frame into a vector by itself."""
        return self.embed(clips)

    def fuse_steps(self, steps: Float[Tensor, "batch step vector"]) -> Float[Tensor, "batch dim"]:
        """Run the sequence model over the vectors of whole clips, none of which ends early."""
        return self.summarize(self.mix(steps, None), None)

    def encode(
        self, clips: Float[Tensor, "batch channel time height width"], lengths: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch time dim"]:
        """Turn frames into vectors, and run the sequence model over these."""
        return self.mix(self.embed(clips), lengths)

    @abstractmethod
    def mix(
        self, rows: Float[Tensor, "batch time vector"], lengths: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch time dim"]:
        """Run the sequence model over the vectors of the frames."""

    @abstractmethod
    def summarize(
        self, rows: Float[Tensor, "batch time dim"], lengths: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch dim2"]:
        """Make one vector of a clip's."""

    def embed(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch time dim"]:
        """Turn every frame into a vector by itself."""
        self.check_channels(clips)
        vectors = embed_frames(self.backbone, clips)
        return F.dropout(vectors, self.config.input_dropout, self.training)

    def draw_weights(self) -> None:
        """Draw fresh weights for all but a backbone of timm's, which brings its own."""
        backbone = self.backbone
        if isinstance(backbone, TimmCnn):
            self.backbone = nn.Identity()
        initialize(self, "xavier")
        self.backbone = backbone

    def freeze(self) -> None:
        """Leave the backbone's weights out of training where the configuration says so."""
        if self.config.frozen:
            self.backbone.requires_grad_(False)


@register_model(*RECURRENT_CARDS)
class CnnRnn(CnnSequence):
    """Read the frames of a clip one after another with two recurrent layers, and score the last state or their mean.

    Build it with `create_model`; `cell` chooses GRU, LSTM or the plain cell. `bidirectional` reads each clip from its
    last real frame too, and `summary="mean"` scores what the states of all real frames have in common: choose both for
    a few hundred clips of given features, where the last state alone learns the clips by heart. Trained from scratch
    it needs about three times the clips that the transformers here need; in batches of 16, a learning rate of 1e-3 did
    as well as 3e-3.

    Args:
        config: the resolved hyper-parameters.
    """

    config: CnnRnnConfig

    def __init__(self, config: CnnRnnConfig) -> None:
        super().__init__(config, config.vector, config.head_dim)
        layer, ways = (TwoWayRecurrence, 2) if config.bidirectional else (Recurrence, 1)
        first, second = config.units
        self.recurrence = nn.ModuleList(
            [layer(config.cell, self.vector, first), layer(config.cell, ways * first, second)]
        )
        self.dropout = nn.Dropout(config.dropout)
        self.dense = nn.Linear(ways * second, config.head_dim)
        self.draw_weights()
        for part in self.recurrence.modules():
            if isinstance(part, Recurrence):
                part.reset()
        self.freeze()
        self.reset_head(config.num_classes)

    def mix(
        self, rows: Float[Tensor, "batch time vector"], lengths: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch time dim"]:
        """Return the second layer's state after every frame; from both sides where it reads from both."""
        for layer in self.recurrence:
            rows = layer(rows, lengths)
        return rows

    def summarize(
        self, rows: Float[Tensor, "batch time dim"], lengths: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch dim2"]:
        """Return the dense layer's reading of the state after the last real frame, or of the mean of the states.

        The last state from both sides is the last of each reading: after the last frame, and after the first.
        """
        return F.relu(self.dense(self.dropout(self._pool(rows, lengths))))

    def _pool(
        self, rows: Float[Tensor, "batch time dim"], lengths: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch dim"]:
        if self.config.summary == "mean":
            if lengths is None:
                return rows.mean(dim=1)
            total = rows.masked_fill(~_mark_real(rows, lengths)[:, :, None], 0.0).sum(dim=1)
            return total / lengths.to(rows)[:, None]
        last = rows[:, -1]
        if lengths is not None:
            last = rows[torch.arange(rows.shape[0], device=rows.device), lengths.to(rows.device).long() - 1]
        if not self.config.bidirectional:
            return last
        units = self.config.units[1]
        return torch.cat([last[:, :units], rows[:, 0, units:]], dim=1)


@register_model(*TRANSFORMER_CARDS)
class CnnTransformer(CnnSequence):
    """Let the frames of a clip look at each other, and score the largest value of each feature.

    Args:
        config: the resolved hyper-parameters.
    """

    config: CnnTransformerConfig

    def __init__(self, config: CnnTransformerConfig) -> None:
        super().__init__(config, config.dim, config.dim)
        self.project = nn.Identity() if self.vector == config.dim else nn.Linear(self.vector, config.dim)
        self.positions = FramePositions(config.frames, config.dim)
        self.blocks = Stack(*(PostNormBlock(config) for _ in range(config.depth)))
        self.dropout = nn.Dropout(config.dropout)
        self.draw_weights()
        self.freeze()
        self.reset_head(config.num_classes)

    def mix(
        self, rows: Float[Tensor, "batch time vector"], lengths: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch time dim"]:
        """Return the vectors of the frames after the blocks."""
        rows = self.project(rows)
        full = torch.full((rows.shape[0],), rows.shape[1], device=rows.device)
        rows = self.positions(rows, full if lengths is None else lengths.to(rows.device))
        real = None if lengths is None else _mark_real(rows, lengths)
        return cast(Tensor, self.blocks(rows, real))

    def summarize(
        self, rows: Float[Tensor, "batch time dim"], lengths: Int[Tensor, " batch"] | None
    ) -> Float[Tensor, "batch dim2"]:
        """Return the largest value of each feature over the real frames."""
        if lengths is not None:
            rows = rows.masked_fill(~_mark_real(rows, lengths)[:, :, None], float("-inf"))
        return cast(Tensor, self.dropout(rows.amax(dim=1)))


def _mark_real(rows: Float[Tensor, "batch time dim"], lengths: Int[Tensor, " batch"]) -> Bool[Tensor, "batch time"]:
    return torch.arange(rows.shape[1], device=rows.device) < lengths.to(rows.device)[:, None]


def _check_lengths(lengths: Int[Tensor, " batch"], clips: Float[Tensor, "batch channel time height width"]) -> None:
    """Raise `ConfigError` where a length cannot be; a compiled graph, which cannot look at values, goes unchecked."""
    if torch.compiler.is_compiling():
        return
    least, most, time = int(lengths.min()), int(lengths.max()), clips.shape[2]
    if least < 1 or most > time:
        raise ConfigError(
            f"lengths must lie in 1 to {time}, the frames of the batch - found {least} to {most} - "
            "pad clips at the end, and leave out those without a frame."
        )
