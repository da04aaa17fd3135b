"""Classify clips with I3D, the inflated Inception network: 3-D convolutions all the way.

    clip 64 x 224 x 224
      conv_1a 7x7x7 /2 -> pool_2a -> conv_2b 1x1x1 -> conv_2c 3x3x3 -> pool_3a          32 x 28 x 28
      mixed_3b, 3c     -> pool_4a                                                       16 x 14 x 14
      mixed_4b .. 4f   -> pool_5a                                                        8 x  7 x  7
      mixed_5b, 5c                                    = tokens                           8 x  7 x  7
      average pool 2x7x7, one vector per moment       = moments                          7
      dropout, mean over moments                      = features -> head

    mixed:   /-- 1x1x1 -----------------\\
            |--- 1x1x1 -> 3x3x3 ----------|
         -->|--- 1x1x1 -> 3x3x3 ----------|--> concatenate
             \\-- max pool 3x3x3 -> 1x1x1 -/

Every convolution is followed by batch norm and ReLU. Everything but the last pool is padded as TensorFlow's `SAME`
does: ceil(size / stride) outputs, the odd pixel of padding at the far end, computed from the size at hand. So any
number of frames and any size from 1 is taken.

Choose it as the convolutional model to compare transformers with, or where there are few clips: the nano size learned
eight motions from 640 clips in 100 steps, from scratch, where a transformer of its cost needs many more. Batch norm
makes the clips of a training batch depend on each other: take batches of 8 or more.

Differences from the paper:
    - The head is a linear layer on the mean of the pooled moments, in place of a 1x1x1 convolution whose logits are
      averaged: the same numbers, as both are linear. `score_moments` gives the logits of every moment.
    - Batch norm has a trained scale, 1 at the start, as in the PyTorch ports; the official one has an offset only. Its
      running variance is torch's unbiased one; the official one divides by the count itself.
    - Where the last feature map is smaller than the final pool (2, 7, 7), the pool shrinks to it, and where it is wider
      the mean over the windows is taken; the official code takes 224 x 224 pixels and 9 frames or more only.
    - Padding never wins in a max pool, whatever comes in; the ports pad with zeros, which is the same behind a ReLU.
    - Kernels are drawn from He's normal distribution; the official one has a variance half of that, which batch norm
      undoes.
    - The nano size is ours: fewer blocks, a fifth of the channels, every frame kept by the first layer, a quicker
      running mean of the statistics, made for training from scratch.

Source: arXiv 1705.07750, section 2.4 and figure 3; github.com/google-deepmind/kinetics-i3d, i3d.py.
"""

from collections import OrderedDict
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from tubelet.models.blocks import Stack
from tubelet.models.contract import VideoModel, register_model
from tubelet.models.i3d_config import (
    CARDS,
    ConvolutionPlan,
    I3DConfig,
    LayerPlan,
    MixedPlan,
    PoolPlan,
    count_macs,
    plan_final_pool,
    plan_layers,
)
from tubelet.shapes import Size3

__all__ = ["I3D", "Mixed", "SameConvolution", "SamePool", "Unit", "plan_same_padding"]


def plan_same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after an axis that gives ceil(size / stride) outputs, the odd one after.

    Example:
        >>> plan_same_padding(224, kernel=7, stride=2), plan_same_padding(79, kernel=7, stride=2)
        ((2, 3), (3, 3))

    Source: padding `SAME` in TensorFlow's documentation of `tf.nn`.
    """
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


class SameConvolution(nn.Conv3d):
    """Convolve without bias, padding with zeros as TensorFlow's `SAME` does."""

    def __init__(self, inputs: int, outputs: int, kernel: Size3, stride: Size3) -> None:
        super().__init__(inputs, outputs, kernel, stride, bias=False)

    def forward(self, volume: Float[Tensor, "batch channel t h w"]) -> Float[Tensor, "batch channel2 t2 h2 w2"]:
        """Return ceil(size / stride) places along every axis."""
        pads = [plan_same_padding(*axis) for axis in zip(volume.shape[2:], self.kernel_size, self.stride, strict=True)]
        if all(before == after for before, after in pads):
            return F.conv3d(volume, self.weight, None, self.stride, [before for before, _ in pads])
        (t0, t1), (h0, h1), (w0, w1) = pads
        return F.conv3d(F.pad(volume, (w0, w1, h0, h1, t0, t1)), self.weight, None, self.stride)


class SamePool(nn.Module):
    """Take the largest value of each window, at the places of TensorFlow's `SAME`; padding never wins.

    Nothing is copied: the near side of the padding is torch's own, which counts as minus infinity, and the far side is
    the last window reaching beyond the edge (`ceil_mode`). This gives `SAME` where a kernel is odd or strides at least
    by 2 and no stride is longer than its kernel, as all are here.
    """

    def __init__(self, kernel: Size3, stride: Size3) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, volume: Float[Tensor, "batch channel t h w"]) -> Float[Tensor, "batch channel t2 h2 w2"]:
        """Return ceil(size / stride) places along every axis."""
        axes = zip(volume.shape[2:], self.kernel, self.stride, strict=True)
        near = [plan_same_padding(*axis)[0] for axis in axes]
        pooled: Tensor = F.max_pool3d(volume, list(self.kernel), list(self.stride), near, ceil_mode=True)
        return pooled


class Unit(nn.Module):
    """Convolve, normalize by the statistics of the batch, cut off below zero."""

    def __init__(self, plan: ConvolutionPlan, config: I3DConfig) -> None:
        super().__init__()
        self.conv = SameConvolution(plan.inputs, plan.outputs, plan.kernel, plan.stride)
        self.norm = nn.BatchNorm3d(plan.outputs, eps=config.statistics_eps, momentum=config.statistics_momentum)

    def forward(self, volume: Float[Tensor, "batch channel t h w"]) -> Float[Tensor, "batch channel2 t2 h2 w2"]:
        """Return ceil(size / stride) places along every axis, none below zero."""
        return F.relu(self.norm(self.conv(volume)), inplace=True)


class Mixed(nn.Module):
    """Look at each place in four ways side by side, and concatenate what was seen: the Inception block."""

    def __init__(self, plan: MixedPlan, config: I3DConfig) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(_make_layer(layer, config) for layer in branch)) for branch in plan.plan_branches()
        )

    def forward(self, volume: Float[Tensor, "batch channel t h w"]) -> Float[Tensor, "batch channel2 t h w"]:
        """Return as many places, with the channels of all branches."""
        return torch.cat([branch(volume) for branch in self.branches], dim=1)


@register_model(*CARDS)
class I3D(VideoModel):
    """Look at a clip with 3-D convolutions, and score the classes.

    Build it with `create_model`. `forward`, `features` and `tokens` take clips of any length and size.

    Args:
        config: the resolved hyper-parameters.
    """

    config: I3DConfig

    def __init__(self, config: I3DConfig) -> None:
        super().__init__(config, config.dim)
        self.body = Stack(OrderedDict((plan.name, _make_layer(plan, config)) for plan in plan_layers(config)))
        self.dropout = nn.Dropout(config.dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.reset_head(config.num_classes)

    def features(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch dim"]:
        """Return the mean of the pooled moments of each clip: what the head reads."""
        dropped: Tensor = self.dropout(self.moments(clips))
        return dropped.mean(dim=1)

    def tokens(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch t h w dim"]:
        """Return one vector per place of the last feature map, before the final pool."""
        return rearrange(self._map(clips), "b d t h w -> b t h w d")

    def moments(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch moment dim"]:
        """Return one pooled vector per moment: per pair of neighbors in time of the last feature map."""
        volume = self._map(clips)
        window = plan_final_pool(Size3(*volume.shape[2:]))
        # Torch has no average pool of half precision on CPUs; the mean is better taken in full precision anyway.
        exact = volume.to(torch.promote_types(volume.dtype, torch.float32))
        pooled = F.avg_pool3d(exact, tuple(window), stride=1).to(volume.dtype)
        return reduce(pooled, "b d t h w -> b t d", "mean")

    def score_moments(
        self, clips: Float[Tensor, "batch channel time height width"]
    ) -> Float[Tensor, "batch moment {self.num_classes}"]:
        """Score every moment by itself; `forward` returns the mean of these, up to dropout.

        Use it to see when in a long clip something happens: 79 frames give 9 moments, 8 frames apart.
        """
        return cast(Tensor, self.head(self.dropout(self.moments(clips))))

    def count_macs(self) -> int:
        """Count the multiply-accumulates that one clip of the training size costs."""
        return count_macs(self.config)

    def _map(self, clips: Float[Tensor, "batch channel time height width"]) -> Float[Tensor, "batch dim t h w"]:
        self.check_channels(clips)
        # With channels innermost convolutions need no reordering: half as much again as fast on a CPU.
        return cast(Tensor, self.body(clips.contiguous(memory_format=torch.channels_last_3d)))


def _make_layer(plan: LayerPlan, config: I3DConfig) -> nn.Module:
    if isinstance(plan, ConvolutionPlan):
        return Unit(plan, config)
    if isinstance(plan, PoolPlan):
        return SamePool(plan.kernel, plan.stride)
    return Mixed(plan, config)
