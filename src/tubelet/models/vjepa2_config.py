"""Hold V-JEPA 2's hyper-parameters, its registered sizes and its cost in closed form. No torch here."""

from dataclasses import dataclass, replace
from typing import Literal

from tubelet.errors import ConfigError
from tubelet.models.card import ModelCard, ModelConfig, check_counts, plan_tubelets
from tubelet.shapes import Size3
from tubelet.video.spec import InputSpec

__all__ = [
    "CARDS",
    "VJEPA2Config",
    "count_encoder_macs",
    "count_encoder_parameters",
    "count_macs",
    "count_parameters",
    "count_pooler_parameters",
]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class VJEPA2Config(ModelConfig):
    """Hold every hyper-parameter of a V-JEPA 2 encoder with its attentive probe; defaults are the large size's."""

    tubelet: tuple[int, int, int] = (2, 16, 16)
    """Frames, height and width in pixels of one tubelet."""
    dim: int = 1024
    """Length of a token; a multiple of `heads` and of `pooler_heads`."""
    depth: int = 24
    """Blocks of the encoder."""
    heads: int = 16
    """Attention heads of the encoder; `dim` / `heads` is at least 6, so that each axis has numbers to turn."""
    mlp_dim: int = 4096
    """Hidden width of the encoder's MLP; 4 times `dim`, or 48/11 times in the giant size."""
    qkv_bias: bool = True
    """Give the encoder's queries, keys and values a bias, as every published model does."""
    gelu: Literal["tanh", "none"] = "none"
    """How GELU is computed in the encoder: exactly (`none`), as in the official code, or by its tanh approximation."""
    eps: float = 1e-6
    """Added to the variance in the layer norms of the encoder."""
    pooler_depth: int = 3
    """Self-attention blocks of the probe, before the query looks at the tokens; 0 leaves the query alone."""
    pooler_heads: int = 16
    """Attention heads of the probe: 16 in every official probe; transformers takes as many as the encoder has."""
    pooler_mlp_dim: int = 4096
    """Hidden width of the probe's MLPs; 4 times `dim` in every published model."""
    pooler_eps: float = 1e-5
    """Added to the variance in the layer norms of the probe; transformers uses the encoder's 1e-6."""
    attention_dropout: float = 0.0
    """Share of attention weights dropped, in encoder and probe, 0 to below 1."""
    drop_path: float = 0.0
    """Share of samples that skip the branches of the encoder's last block in training, 0 to below 1; earlier blocks in
    proportion."""
    init: Literal["normal", "xavier"] = "normal"
    """First weights: the official truncated normal (0.02), the deeper the smaller what a branch adds; or uniform ones,
    larger in narrow models, for training from scratch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("dim", "depth", "heads", "mlp_dim", "pooler_heads", "pooler_mlp_dim"))
        check_counts(self, ("pooler_depth",), at_least=0)
        if min(self.tubelet) < 1:
            raise ConfigError(f"tubelet must hold positive sizes - found {self.tubelet} - give at least 1 each.")
        for name in ("attention_dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in 0 to below 1 - found {getattr(self, name)} - give a share.")
        for name in ("eps", "pooler_eps"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive - found {getattr(self, name)} - 1e-6 is usual.")
        self._check_heads()
        self.plan_grid(self.frames, self.height, self.width)

    def _check_heads(self) -> None:
        for name in ("heads", "pooler_heads"):
            heads = getattr(self, name)
            if self.dim % heads:
                raise ConfigError(
                    f"dim must be a multiple of {name} - found dim={self.dim}, {name}={heads} - "
                    f"dim={max(round(self.dim / heads), 1) * heads} is one."
                )
        if self.dim < 6 * self.heads:
            raise ConfigError(
                f"a head needs at least 6 numbers, two for each axis - found dim={self.dim}, heads={self.heads}, "
                f"{self.dim // self.heads} for each head - dim={6 * self.heads} is the least for as many heads."
            )

    @property
    def grid(self) -> Size3:
        """Return the tubelets of one clip along time, height and width, at the size of training."""
        return self.plan_grid(self.frames, self.height, self.width)

    @property
    def voxels(self) -> int:
        """Count the numbers in one tubelet, channels included."""
        frames, height, width = self.tubelet
        return self.channels * frames * height * width

    def plan_grid(self, frames: int, height: int, width: int) -> Size3:
        """Return the tubelets of a clip of another size.

        Raises:
            ConfigError: a size that is no multiple of the tubelet's; names the nearest that fit.
        """
        return plan_tubelets(self.name, Size3(frames, height, width), Size3(*self.tubelet))


def count_parameters(config: VJEPA2Config) -> int:
    """Count the parameters of a classifier in closed form; tests hold it equal to the models themselves.

    Example:
        >>> count_parameters(CARDS[0].config)
        353631632
    """
    head = config.num_classes * (config.dim + 1)
    return count_encoder_parameters(config) + count_pooler_parameters(config) + head


def count_encoder_parameters(config: VJEPA2Config) -> int:
    """Count the parameters of the encoder, which is frozen where only the probe is trained.

    Example:
        >>> count_encoder_parameters(CARDS[0].config)
        303885312
    """
    dim = config.dim
    block = 4 * dim**2 + dim + (3 * dim if config.qkv_bias else 0) + _count_mlp(dim, config.mlp_dim) + 2 * dim
    return config.voxels * dim + dim + config.depth * block + 2 * dim


def count_pooler_parameters(config: VJEPA2Config) -> int:
    """Count the parameters of the attentive pooler: the probe without its linear layer.

    Example:
        >>> count_pooler_parameters(CARDS[0].config)
        49336320
    """
    dim, mlp = config.dim, _count_mlp(config.dim, config.pooler_mlp_dim)
    block = 4 * dim**2 + 4 * dim + mlp + 2 * dim
    cross = 3 * dim**2 + 3 * dim + mlp + 2 * dim
    return dim + config.pooler_depth * block + cross


def count_macs(config: VJEPA2Config) -> int:
    """Count the multiply-accumulates that one clip costs: encoder, probe and head.

    What the literature prints as "GFLOPs" is this figure, for the encoder alone: `count_encoder_macs`. Norms, softmax,
    activations and the turning of queries and keys are left out.

    Example:
        >>> round(count_macs(CARDS[0].config) / 1e9)
        6524
    """
    tokens, dim = _count_tokens(config), config.dim
    pooler = config.pooler_depth * _block_macs(tokens, dim, config.pooler_mlp_dim)
    query = dim**2 + 2 * dim * config.pooler_mlp_dim
    return count_encoder_macs(config) + pooler + query + 2 * tokens * (dim**2 + dim) + dim * config.num_classes


def count_encoder_macs(config: VJEPA2Config) -> int:
    """Count the multiply-accumulates that one clip costs in the encoder: the figure that is published.

    Example:
        >>> round(count_encoder_macs(CARDS[0].config) / 1e9)
        5785
    """
    tokens = _count_tokens(config)
    blocks = config.depth * _block_macs(tokens, config.dim, config.mlp_dim)
    return tokens * config.voxels * config.dim + blocks


def _count_tokens(config: VJEPA2Config) -> int:
    return config.grid.t * config.grid.h * config.grid.w


def _count_mlp(dim: int, hidden: int) -> int:
    return 2 * dim * hidden + hidden + dim + 2 * dim


def _block_macs(tokens: int, dim: int, hidden: int) -> int:
    return 4 * tokens * dim**2 + 2 * tokens * dim * hidden + 2 * tokens**2 * dim


_SUMMARIES = {
    "large": "an encoder made to learn from unlabelled video, and a probe that pools its tokens; the usual choice",
    "huge": "large at 1.8 times its cost, a little more accurate",
    "giant": "large at 2.6 times its cost; the most accurate at 256 pixels",
    "giant_384": "giant at 384 pixels: 3.6 times its cost; the most accurate of the family",
    "nano": "positions by rotation; small enough to train from scratch on a CPU",
}

# dim, depth, heads, mlp_dim, side in pixels
_SIZES = {
    "large": (1024, 24, 16, 4096, 256),
    "huge": (1280, 32, 16, 5120, 256),
    "giant": (1408, 40, 22, 6144, 256),
    "giant_384": (1408, 40, 22, 6144, 384),
}

_DOCUMENTED = {
    "vjepa2_large": 353_631_632,
    "vjepa2_huge": 709_231_760,
    "vjepa2_giant": 1_105_986_576,
    "vjepa2_giant_384": 1_105_986_576,
    "vjepa2_nano": 552_304,
}


def _make_config(size: str) -> VJEPA2Config:
    dim, depth, heads, mlp_dim, side = _SIZES[size]
    return VJEPA2Config(
        name=f"vjepa2_{size}",
        num_classes=400,
        frames=64,
        height=side,
        width=side,
        channels=3,
        dim=dim,
        depth=depth,
        heads=heads,
        mlp_dim=mlp_dim,
        pooler_mlp_dim=4 * dim,
    )


def _make_card(config: VJEPA2Config, spec: InputSpec) -> ModelCard:
    return ModelCard(
        name=config.name,
        architecture="vjepa2",
        config=config,
        parameters=_DOCUMENTED[config.name],
        macs=count_macs(config),
        input_spec=replace(spec, frames=config.frames, height=config.height, width=config.width),
        summary=_SUMMARIES[config.name.removeprefix("vjepa2_")],
        paper="Assran et al., V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning, "
        "arXiv 2506.09985",
        license="Apache-2.0",
    )


_IMAGENET = InputSpec(mean=_IMAGENET_MEAN, std=_IMAGENET_STD)
_PROBED = replace(_IMAGENET, sampling="dense", stride=2, convention="videomae")

_NANO = VJEPA2Config(
    name="vjepa2_nano",
    num_classes=400,
    frames=16,
    height=48,
    width=48,
    channels=3,
    tubelet=(4, 8, 8),
    dim=96,
    depth=4,
    heads=4,
    mlp_dim=192,
    pooler_depth=1,
    pooler_heads=4,
    pooler_mlp_dim=192,
    init="xavier",
)

CARDS: tuple[ModelCard, ...] = (
    *(_make_card(_make_config(size), _PROBED) for size in _SIZES),
    _make_card(_NANO, _IMAGENET),
)
