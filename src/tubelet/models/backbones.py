"""Turn each frame by itself into a vector: what comes before a model of sequences.

    clip (batch, channel, time, height, width)
        --one frame at a time--> [ flatten | conv | cnn | features ] --> rows (batch, time, dim)

Nothing here sees two frames at once, unless frame differences come in as channels.
"""

import torch.nn.functional as F  # noqa: N812
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from tubelet.models.backbones_config import GROUPS, check_width
from tubelet.shapes import Size

__all__ = ["ConvEmbedder", "FeaturePool", "FlattenEmbedder", "SmallCnn", "embed_frames"]


def embed_frames(
    embedder: nn.Module, clips: Float[Tensor, "batch channel time height width"]
) -> Float[Tensor, "batch time dim"]:
    """Run an embedder of pictures over every frame of every clip."""
    vectors: Tensor = embedder(rearrange(clips, "b c t h w -> (b t) c h w"))
    return rearrange(vectors, "(b t) d -> b t d", t=clips.shape[2])


class FeaturePool(nn.Module):
    """Take channels as features that another network computed, averaged over whatever places there are.

    Features of one vector a frame have height and width 1; a map of features before pooling is pooled here.
    """

    def forward(self, frames: Float[Tensor, "frame channel height width"]) -> Float[Tensor, "frame channel"]:
        """Return the mean feature vector of each frame."""
        return reduce(frames, "n c h w -> n c", "mean")


class FlattenEmbedder(nn.Module):
    """Lay out all values of a frame in one vector and run two dense layers over it: no notion of neighborhood.

    Choose it as the plainest baseline; nearly all weights of the model end up in the first layer.

    Args:
        channels: channels of a frame.
        size: height and width in pixels that the weights are made for; other frames are scaled to it.
        hidden: width of the layer between.
        dim: length of a frame's vector.
    """

    def __init__(self, channels: int, size: Size, hidden: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.widen = nn.Linear(channels * size.height * size.width, hidden)
        self.narrow = nn.Linear(hidden, dim)

    def forward(self, frames: Float[Tensor, "frame channel height width"]) -> Float[Tensor, "frame dim"]:
        """Return one vector per frame."""
        fitted = rearrange(_fit(frames, self.size), "n c h w -> n (c h w)")
        vectors: Tensor = self.narrow(F.gelu(self.widen(fitted)))
        return vectors


class ConvEmbedder(nn.Module):
    """Halve a frame three times by convolutions, and project what is left with its places kept apart.

    Args:
        channels: channels of a frame.
        size: height and width in pixels that the weights are made for; maps of other frames are scaled to theirs.
        hidden: channels of the last convolution; a multiple of 16.
        dim: length of a frame's vector.
    """

    def __init__(self, channels: int, size: Size, hidden: int, dim: int) -> None:
        super().__init__()
        self.stages = _make_stages(channels, hidden)
        self.size = Size(-(-size.height // 8), -(-size.width // 8))
        self.project = nn.Linear(hidden * self.size.height * self.size.width, dim)

    def forward(self, frames: Float[Tensor, "frame channel height width"]) -> Float[Tensor, "frame dim"]:
        """Return one vector per frame."""
        fitted = _fit(self.stages(frames), self.size)
        vectors: Tensor = self.project(rearrange(fitted, "n c h w -> n (c h w)"))
        return vectors


class SmallCnn(nn.Module):
    """Halve a frame three times by convolutions, average over all places, and project: what is seen, not where.

    Small enough to be trained from scratch on a CPU, together with what follows it. It normalizes within each frame
    (group norm), so that a clip is scored the same in any batch.

    Args:
        channels: channels of a frame; any height and width from 1 pixel on.
        hidden: channels of the last convolution; a multiple of 16.
        dim: length of a frame's vector.
    """

    def __init__(self, channels: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.stages = _make_stages(channels, hidden)
        self.project = nn.Linear(hidden, dim)

    def forward(self, frames: Float[Tensor, "frame channel height width"]) -> Float[Tensor, "frame dim"]:
        """Return one vector per frame."""
        vectors: Tensor = self.project(reduce(self.stages(frames), "n c h w -> n c", "mean"))
        return vectors


def _make_stages(channels: int, hidden: int) -> nn.Sequential:
    check_width("hidden", hidden)
    stages: list[nn.Module] = []
    for width in (hidden // 4, hidden // 2, hidden):
        convolution = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        stages += [convolution, nn.GroupNorm(GROUPS, width), nn.ReLU()]
        channels = width
    return nn.Sequential(*stages)


def _fit(planes: Float[Tensor, "frame channel height width"], size: Size) -> Float[Tensor, "frame channel h2 w2"]:
    """Scale to `size`, bilinear; nothing is computed where it is the size already."""
    if tuple(planes.shape[2:]) == tuple(size):
        return planes
    return F.interpolate(planes, size=tuple(size), mode="bilinear", antialias=True)
