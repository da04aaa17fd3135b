"""Hold I3D's hyper-parameters, its plan of layers, its registered sizes and its cost in closed form. No torch here."""

from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Literal, NamedTuple

from tubelet.errors import ConfigError
from tubelet.models.card import ModelCard, ModelConfig
from tubelet.shapes import Size3
from tubelet.video.spec import InputSpec

__all__ = [
    "CARDS",
    "FINAL_POOL",
    "ConvolutionPlan",
    "I3DConfig",
    "LayerPlan",
    "MixedPlan",
    "PoolPlan",
    "count_macs",
    "count_parameters",
    "plan_final_pool",
    "plan_layers",
]

FINAL_POOL = Size3(2, 7, 7)
"""Window of the average pool before the head; smaller where the grid is."""

_POINT, _CUBE, _FLAT = Size3(1, 1, 1), Size3(3, 3, 3), Size3(1, 3, 3)
_HALVE, _HALVE_PICTURE = Size3(2, 2, 2), Size3(1, 2, 2)

_STEM = (64, 64, 192)

# Output channels of: branch 0 | branch 1, its two layers | branch 2, its two layers | branch 3.
_STAGES: tuple[dict[str, tuple[int, int, int, int, int, int]], ...] = (
    {
        "mixed_3b": (64, 96, 128, 16, 32, 32),
        "mixed_3c": (128, 128, 192, 32, 96, 64),
    },
    {
        "mixed_4b": (192, 96, 208, 16, 48, 64),
        "mixed_4c": (160, 112, 224, 24, 64, 64),
        "mixed_4d": (128, 128, 256, 24, 64, 64),
        "mixed_4e": (112, 144, 288, 32, 64, 64),
        "mixed_4f": (256, 160, 320, 32, 128, 128),
    },
    {
        "mixed_5b": (256, 160, 320, 32, 128, 128),
        "mixed_5c": (384, 192, 384, 48, 128, 128),
    },
)


@dataclass(frozen=True)
class I3DConfig(ModelConfig):
    """Hold every hyper-parameter of an I3D; the defaults are the published ones."""

    scale: float = 1.0
    """Multiplies the published number of channels of every layer; rounded to whole multiples of 4, at least 4."""
    blocks: tuple[int, int, int] = (2, 5, 2)
    """Inception blocks kept of the three stages, the last ones of each: 1 to 2, 1 to 5 and 1 to 2."""
    stem_kernel: tuple[int, int, int] = (7, 7, 7)
    """Frames, height and width that the first convolution sees."""
    stem_stride: tuple[int, int, int] = (2, 2, 2)
    """Steps of the first convolution in frames and pixels; 1 in time keeps every frame of short clips."""
    dropout: float = 0.5
    """Share of the pooled features dropped before the head, 0 to below 1."""
    statistics_momentum: float = 0.001
    """Share of each batch in the running mean and variance, above 0 to 1. The published value suits long trainings;
    take 0.1 where a training has fewer than some thousand steps, or evaluation sees the start's statistics."""
    statistics_eps: float = 1e-3
    """Added to the variance in batch norm; the official value, not torch's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale <= 0 or self.statistics_eps <= 0:
            raise ConfigError(
                f"scale and statistics_eps must be positive - found {self.scale} and {self.statistics_eps} - "
                "the published values are 1.0 and 0.001."
            )
        for kept, stage in zip(self.blocks, _STAGES, strict=True):
            if not 1 <= kept <= len(stage):
                raise ConfigError(
                    f"blocks must keep 1 to {len(stage)} of {', '.join(stage)} - found blocks={self.blocks} - "
                    f"{tuple(map(len, _STAGES))} keeps all."
                )
        if min(*self.stem_kernel, *self.stem_stride) < 1:
            raise ConfigError(
                f"stem_kernel and stem_stride must hold positive sizes - found {self.stem_kernel} and "
                f"{self.stem_stride} - give at least 1 each."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must lie in 0 to below 1 - found {self.dropout} - give a share.")
        if not 0 < self.statistics_momentum <= 1:
            raise ConfigError(
                f"statistics_momentum must lie above 0 to 1 - found {self.statistics_momentum} - 0.1 is usual."
            )

    @property
    def edges(self) -> Literal["pad"]:
        """Say what happens to frames and pixels that fill no stride: they are padded, so that every size fits."""
        return "pad"

    @property
    def dim(self) -> int:
        """Return the length of the feature vector that the head reads."""
        return _count_outputs(_scale_all(_STAGES[-1]["mixed_5c"], self.scale))

    @property
    def grid(self) -> Size3:
        """Return the places of one clip's last feature map along time, height and width, at the size of training."""
        return self.plan_grid(self.frames, self.height, self.width)

    def plan_grid(self, frames: int, height: int, width: int) -> Size3:
        """Return the places of the last feature map of a clip of another size; every size from 1 fits."""
        size = Size3(frames, height, width)
        for layer in plan_layers(self):
            size = layer.fit(size)
        return size


class ConvolutionPlan(NamedTuple):
    """Plan a convolution without bias, batch norm and ReLU."""

    name: str
    inputs: int
    outputs: int
    kernel: Size3 = _POINT
    stride: Size3 = _POINT

    def fit(self, size: Size3) -> Size3:
        """Return the output size for an input size: the whole strides that cover it."""
        return _fit_stride(size, self.stride)

    def count_parameters(self) -> int:
        """Count the kernel, and the scale and offset of the batch norm."""
        return self.inputs * self.outputs * prod(self.kernel) + 2 * self.outputs

    def count_macs(self, size: Size3) -> int:
        """Count the multiply-accumulates for an input size, those on padding included."""
        return self.inputs * self.outputs * prod(self.kernel) * prod(self.fit(size))


class PoolPlan(NamedTuple):
    """Plan a max pool."""

    name: str
    kernel: Size3
    stride: Size3

    def fit(self, size: Size3) -> Size3:
        """Return the output size for an input size: the whole strides that cover it."""
        return _fit_stride(size, self.stride)

    def count_parameters(self) -> int:
        """Count none."""
        return 0

    def count_macs(self, size: Size3) -> int:  # noqa: ARG002
        """Count none."""
        return 0


class MixedPlan(NamedTuple):
    """Plan an Inception block: four branches side by side, concatenated."""

    name: str
    inputs: int
    widths: tuple[int, ...]
    """Outputs of branch 0; of the two layers of branch 1; of the two layers of branch 2; of branch 3."""

    @property
    def outputs(self) -> int:
        """Count the channels of the four branches together."""
        return _count_outputs(self.widths)

    def plan_branches(self) -> tuple[tuple[ConvolutionPlan | PoolPlan, ...], ...]:
        """Return the layers of the four branches."""
        first, narrow_1, wide_1, narrow_2, wide_2, last = self.widths
        pool = PoolPlan("pool", _CUBE, _POINT)
        return (
            (ConvolutionPlan("0", self.inputs, first),),
            (ConvolutionPlan("0", self.inputs, narrow_1), ConvolutionPlan("1", narrow_1, wide_1, _CUBE)),
            (ConvolutionPlan("0", self.inputs, narrow_2), ConvolutionPlan("1", narrow_2, wide_2, _CUBE)),
            (pool, ConvolutionPlan("1", self.inputs, last)),
        )

    def fit(self, size: Size3) -> Size3:
        """Return the output size: the input's."""
        return size

    def count_parameters(self) -> int:
        """Count the parameters of all branches."""
        return sum(layer.count_parameters() for layer in chain(*self.plan_branches()))

    def count_macs(self, size: Size3) -> int:
        """Count the multiply-accumulates of all branches for an input size."""
        return sum(layer.count_macs(size) for layer in chain(*self.plan_branches()))


LayerPlan = ConvolutionPlan | PoolPlan | MixedPlan


def plan_layers(config: I3DConfig) -> list[LayerPlan]:
    """List the layers from the pixels to the last feature map, named after the published endpoints.

    Example:
        >>> [layer.name for layer in plan_layers(CARDS[0].config)][:5]
        ['conv_1a', 'pool_2a', 'conv_2b', 'conv_2c', 'pool_3a']
    """
    first, second, third = _scale_all(_STEM, config.scale)
    layers: list[LayerPlan] = [
        ConvolutionPlan("conv_1a", config.channels, first, Size3(*config.stem_kernel), Size3(*config.stem_stride)),
        PoolPlan("pool_2a", _FLAT, _HALVE_PICTURE),
        ConvolutionPlan("conv_2b", first, second),
        ConvolutionPlan("conv_2c", second, third, _CUBE),
    ]
    pools = (
        PoolPlan("pool_3a", _FLAT, _HALVE_PICTURE),
        PoolPlan("pool_4a", _CUBE, _HALVE),
        PoolPlan("pool_5a", _HALVE, _HALVE),
    )
    channels = third
    for pool, stage, kept in zip(pools, _STAGES, config.blocks, strict=True):
        layers.append(pool)
        for name, widths in list(stage.items())[-kept:]:
            block = MixedPlan(name, channels, _scale_all(widths, config.scale))
            layers.append(block)
            channels = block.outputs
    return layers


def plan_final_pool(grid: Size3) -> Size3:
    """Return the window of the average pool before the head: the published one, or the whole of a smaller grid."""
    return Size3(*(min(window, places) for window, places in zip(FINAL_POOL, grid, strict=True)))


def count_parameters(config: I3DConfig) -> int:
    """Count the parameters of a model in closed form; tests hold it equal to the models themselves.

    Example:
        >>> count_parameters(CARDS[0].config)
        12697264
    """
    body = sum(layer.count_parameters() for layer in plan_layers(config))
    return body + config.num_classes * (config.dim + 1)


def count_macs(config: I3DConfig) -> int:
    """Count the multiply-accumulates that one clip costs: all convolutions and the head.

    What the literature prints as "GFLOPs" is this figure. Norms, pools and activations are left out.

    Example:
        >>> round(count_macs(CARDS[0].config) / 1e9, 1)
        111.2
    """
    size = Size3(config.frames, config.height, config.width)
    total = config.dim * config.num_classes
    for layer in plan_layers(config):
        total += layer.count_macs(size)
        size = layer.fit(size)
    return total


def _scale_all(widths: tuple[int, ...], scale: float) -> tuple[int, ...]:
    if scale == 1:
        return widths
    return tuple(max(4 * round(width * scale / 4), 4) for width in widths)


def _count_outputs(widths: tuple[int, ...]) -> int:
    first, _, wide_1, _, wide_2, last = widths
    return first + wide_1 + wide_2 + last


def _fit_stride(size: Size3, stride: Size3) -> Size3:
    return Size3(*(-(-places // step) for places, step in zip(size, stride, strict=True)))


_PAPER = "Carreira and Zisserman, Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset, arXiv 1705.07750"


def _make_published_card(stream: str, channels: int, parameters: int, summary: str) -> ModelCard:
    name = f"i3d_{stream}"
    config = I3DConfig(name=name, num_classes=400, frames=64, height=224, width=224, channels=channels)
    return ModelCard(
        name=name,
        architecture="i3d",
        config=config,
        parameters=parameters,
        macs=count_macs(config),
        input_spec=InputSpec(frames=64, channels=channels, sampling="dense", rate_fps=25.0, short="loop"),
        summary=summary,
        paper=_PAPER,
        license="Apache-2.0",
    )


_NANO_CONFIG = I3DConfig(
    name="i3d_nano",
    num_classes=400,
    frames=16,
    height=48,
    width=48,
    channels=3,
    scale=0.1875,
    blocks=(1, 2, 1),
    stem_kernel=(3, 5, 5),
    stem_stride=(1, 2, 2),
    dropout=0.2,
    statistics_momentum=0.1,
)

_NANO = ModelCard(
    name="i3d_nano",
    architecture="i3d",
    config=_NANO_CONFIG,
    parameters=338_580,
    macs=count_macs(_NANO_CONFIG),
    input_spec=InputSpec(frames=16, height=48, width=48),
    summary="the convolutional baseline, small enough to train from scratch on a CPU",
    paper=_PAPER,
    license="Apache-2.0",
)

CARDS: tuple[ModelCard, ...] = (
    _make_published_card("rgb", 3, 12_697_264, "the convolutional model that transformers were first compared with"),
    _make_published_card(
        "flow", 2, 12_675_312, "I3D on optical flow, clipped to -20 to 20 pixels; add its logits to those of i3d_rgb"
    ),
    _NANO,
)
