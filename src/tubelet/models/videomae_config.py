"""Hold VideoMAE's hyper-parameters, its registered sizes and its cost in closed form. No torch here."""

from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any, Literal

from tubelet.errors import ConfigError, name_nearest
from tubelet.models.card import ModelCard, ModelConfig, check_counts, plan_tubelets
from tubelet.shapes import Size3
from tubelet.video.spec import InputSpec

__all__ = [
    "CARDS",
    "PretrainingConfig",
    "VideoMAEConfig",
    "count_decoded",
    "count_macs",
    "count_parameters",
    "count_pretraining_macs",
    "count_pretraining_parameters",
    "plan_pretraining",
]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class VideoMAEConfig(ModelConfig):
    """Hold every hyper-parameter of a VideoMAE classifier; the defaults are those of the base size."""

    tubelet: tuple[int, int, int] = (2, 16, 16)
    """Frames, height and width in pixels of one tubelet; the paper calls it a cube."""
    dim: int = 768
    """Length of a token; a multiple of `heads`."""
    depth: int = 12
    """Blocks of the encoder."""
    heads: int = 12
    """Attention heads."""
    mlp_dim: int = 3072
    """Hidden width of the MLP; 4 times `dim` in the paper."""
    qkv_bias: Literal["query_value", "none"] = "query_value"
    """Which of query, key and value have a bias; never the key."""
    pooling: Literal["mean", "first"] = "mean"
    """Classify from the mean of all tokens, or from the first one: a corner of the clip, as transformers' pre-trained
    folders say by oversight; use that only to reproduce them."""
    eps: float = 1e-6
    """Added to the variance in the layer norms of the blocks; the official value. transformers' folders state others,
    mostly 1e-12."""
    final_eps: float = 1e-6
    """The same for the norm before the head; transformers uses 1e-5 there when pooling by the mean."""
    gelu: Literal["tanh", "none"] = "none"
    """How GELU is computed: exactly (`none`), as in the official code, or by its tanh approximation."""
    attention_dropout: float = 0.0
    """Share of attention weights dropped, 0 to below 1."""
    drop_path: float = 0.0
    """Share of samples that skip the last block's branches in training, 0 to below 1; earlier blocks in proportion."""
    head_dropout: float = 0.0
    """Share of the features dropped before the head, 0 to below 1; 0.5 in the official training on UCF101."""
    init: Literal["normal", "xavier"] = "normal"
    """First weights: the official truncated normal (0.02), or uniform ones, larger in narrow models, for training from
    scratch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("dim", "depth", "heads", "mlp_dim"))
        if min(self.tubelet) < 1:
            raise ConfigError(f"tubelet must hold positive sizes - found {self.tubelet} - give at least 1 each.")
        for name in ("attention_dropout", "drop_path", "head_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in 0 to below 1 - found {getattr(self, name)} - give a share.")
        for name in ("eps", "final_eps"):
            if getattr(self, name) <= 0:
                raise ConfigError(
                    f"{name} must be positive - found {getattr(self, name)} - the official value is 1e-6."
                )
        _check_heads("", self.dim, self.heads)
        self.plan_grid(self.frames, self.height, self.width)

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


@dataclass(frozen=True)
class PretrainingConfig:
    """Hold every hyper-parameter of masked pre-training; `plan_pretraining` fills it in for an encoder."""

    encoder: VideoMAEConfig
    """The classifier to pre-train; its head, pooling and `final_eps` have no part in it."""
    decoder_dim: int = 384
    """Length of a token in the decoder; half the encoder's in the paper."""
    decoder_depth: int = 4
    """Blocks of the decoder: 4 for small and base, 12 for large and huge."""
    decoder_heads: int = 6
    """Attention heads of the decoder; half the encoder's in the paper."""
    decoder_mlp_dim: int = 1536
    """Hidden width of the decoder's MLP; 4 times `decoder_dim` in the paper."""
    mask_ratio: float = 0.9
    """Share of tubes hidden, above 0 and below 1: 0.9 on Kinetics and Something-Something, 0.75 on UCF101, HMDB51."""
    decoder_mask_ratio: float = 0.0
    """Share of tubelets that the decoder leaves out: 0.25, 0.5 (VideoMAE V2's) or 0.75; 0 predicts all hidden ones."""
    normalize_targets: bool = True
    """Predict each tubelet relative to its own mean and spread, per channel; better features than plain pixels."""
    decoder_eps: float = 1e-6
    """Added to the variance in the norm before the decoder's last layer; transformers uses 1e-5."""
    mean: tuple[float, ...] = _IMAGENET_MEAN
    """What was subtracted from pixels in 0..1; one number, or one per channel. Must be the input contract's."""
    std: tuple[float, ...] = _IMAGENET_STD
    """What pixels were divided by after that; one number, or one per channel."""

    def __post_init__(self) -> None:
        check_counts(self, ("decoder_dim", "decoder_depth", "decoder_heads", "decoder_mlp_dim"))
        _check_heads("decoder_", self.decoder_dim, self.decoder_heads)
        if not 0 < self.mask_ratio < 1:
            raise ConfigError(f"mask_ratio must lie between 0 and 1 - found {self.mask_ratio} - the paper's is 0.9.")
        if self.decoder_mask_ratio:
            count_decoded(self.encoder.grid, self.decoder_mask_ratio)
        if self.normalize_targets and self.encoder.voxels == self.encoder.channels:
            raise ConfigError(
                f"normalize_targets needs tubelets of more than one pixel - found tubelet={self.encoder.tubelet} - use "
                "a larger tubelet, or normalize_targets=False."
            )
        for name in ("mean", "std"):
            found = len(getattr(self, name))
            if found not in (1, self.encoder.channels):
                raise ConfigError(
                    f"{name} needs 1 or {self.encoder.channels} numbers - found {found} - give one, or one per channel."
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, those of the encoder among them, as plain values that JSON can hold."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "encoder"}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in own.items()}
        return {**self.encoder.to_dict(), **plain}


def plan_pretraining(encoder: VideoMAEConfig, **changes: Any) -> PretrainingConfig:
    """Choose a decoder for an encoder: half as wide, a third as deep (half from 24 blocks on), as in the paper.

    Pixels of 3 channels are taken to be normalized by ImageNet's mean and deviation, others not at all.

    Args:
        encoder: hyper-parameters of the classifier to pre-train.
        **changes: fields of `PretrainingConfig` that differ.

    Raises:
        ConfigError: a field that does not exist, or a value that does not fit.

    Example:
        >>> plan_pretraining(CARDS[1].config).decoder_dim
        384
    """
    deep = encoder.depth >= _DEEP
    heads = max(encoder.heads // 2, 1)
    dim = max(encoder.dim // 2 // heads, 1) * heads
    rgb = encoder.channels == len(_IMAGENET_MEAN)
    planned = PretrainingConfig(
        encoder=encoder,
        decoder_dim=dim,
        decoder_depth=12 if deep else max(encoder.depth // 3, 1),
        decoder_heads=heads,
        decoder_mlp_dim=4 * dim,
        mean=_IMAGENET_MEAN if rgb else (0.0,),
        std=_IMAGENET_STD if rgb else (1.0,),
    )
    return replace(planned, **{key: _check_change(planned, key, value) for key, value in changes.items()})


def _check_change(planned: PretrainingConfig, key: str, value: Any) -> Any:
    known = [field.name for field in fields(planned) if field.name != "encoder"]
    if key not in known:
        near = name_nearest(key, [*known, *planned.encoder.to_dict()]) or "."
        raise ConfigError(
            f"pre-training has no hyper-parameter '{key}'{near} It takes {', '.join(known)}, and the encoder's own."
        )
    default = getattr(planned, key)
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(float(number) for number in value)
    wanted = (int, float) if isinstance(default, float) else (type(default),)
    if not isinstance(value, wanted) or isinstance(value, bool) != isinstance(default, bool):
        raise ConfigError(f"{key} must be of type {type(default).__name__} - found {value!r} - give such a value.")
    return value


_DEEP = 24


def count_parameters(config: VideoMAEConfig) -> int:
    """Count the parameters of a classifier in closed form; tests hold it equal to the models themselves.

    Example:
        >>> count_parameters(CARDS[1].config)
        86534800
    """
    return _count_encoder(config) + 2 * config.dim + config.num_classes * (config.dim + 1)


def count_pretraining_parameters(config: PretrainingConfig) -> int:
    """Count the parameters of a pre-training model in closed form: encoder, decoder and what joins them.

    Example:
        >>> count_pretraining_parameters(plan_pretraining(CARDS[1].config))
        94210944
    """
    encoder, dim = config.encoder, config.decoder_dim
    join = 2 * encoder.dim + encoder.dim * dim + dim
    blocks = config.decoder_depth * _count_block(dim, config.decoder_mlp_dim, encoder.qkv_bias)
    return _count_encoder(encoder) + join + blocks + 2 * dim + encoder.voxels * (dim + 1)


def count_macs(config: VideoMAEConfig) -> int:
    """Count the multiply-accumulates that one clip costs: projections, attention, MLPs, embedding and head.

    What the literature prints as "GFLOPs" is this figure. Norms, softmax and activations are left out.

    Example:
        >>> round(count_macs(CARDS[1].config) / 1e9, 1)
        180.3
    """
    tokens = config.grid.t * config.grid.h * config.grid.w
    blocks = config.depth * _block_macs(tokens, config.dim, config.mlp_dim)
    return tokens * config.voxels * config.dim + blocks + config.dim * config.num_classes


def count_decoded(grid: Size3, ratio: float) -> int:
    """Count the tubelets that a running-cell mask leaves to the decoder; see `draw_running_cell_mask`.

    Raises:
        ConfigError: a ratio that is no quarter, or a grid that leaves more or fewer with another start of the cell.
    """
    if ratio not in (0.25, 0.5, 0.75):
        raise ConfigError(
            f"decoder_mask_ratio must be 0.25, 0.5 or 0.75, or 0 for none - found {ratio} - 0.5 is usual."
        )
    lengths = [((side + 1) // 2, side // 2) for side in (grid.h, grid.w)]
    counts = {
        sum(
            lengths[0][y] * lengths[1][x]
            for t, y, x in product(range(grid.t), (0, 1), (0, 1))
            if (start + t + 2 * y + x) % 4 >= 4 * ratio
        )
        for start in range(4)
    }
    if len(counts) > 1:
        raise ConfigError(
            f"decoder_mask_ratio={ratio} needs whole cells of 2 x 2 tubelets - found {grid.h} x {grid.w} tubelets at "
            f"{grid.t} moments - make height and width even, or decoder_mask_ratio=0."
        )
    return counts.pop()


def count_pretraining_macs(config: PretrainingConfig) -> int:
    """Count the multiply-accumulates of one clip's loss; a backward pass costs about twice as much again.

    Example:
        >>> round(count_pretraining_macs(plan_pretraining(CARDS[1].config)) / 1e9, 1)
        35.4
    """
    encoder, dim = config.encoder, config.decoder_dim
    t, h, w = encoder.grid
    tokens, hidden = t * h * w, t * int(config.mask_ratio * h * w)
    seen = tokens - hidden
    decoded = count_decoded(encoder.grid, config.decoder_mask_ratio) if config.decoder_mask_ratio else hidden
    total = tokens * encoder.voxels * encoder.dim + seen * encoder.dim * dim + decoded * dim * encoder.voxels
    total += encoder.depth * _block_macs(seen, encoder.dim, encoder.mlp_dim)
    return total + config.decoder_depth * _block_macs(seen + decoded, dim, config.decoder_mlp_dim)


def _check_heads(prefix: str, dim: int, heads: int) -> None:
    if dim % heads:
        raise ConfigError(
            f"{prefix}dim must be a multiple of {prefix}heads - found {prefix}dim={dim}, {prefix}heads={heads} - "
            f"{prefix}dim={max(round(dim / heads), 1) * heads} is one."
        )


def _count_encoder(config: VideoMAEConfig) -> int:
    embedding = config.voxels * config.dim + config.dim
    return embedding + config.depth * _count_block(config.dim, config.mlp_dim, config.qkv_bias)


def _count_block(dim: int, hidden: int, qkv_bias: str) -> int:
    biases = 2 * dim if qkv_bias == "query_value" else 0
    attention = 4 * dim * dim + dim + biases
    return attention + 2 * dim * hidden + hidden + dim + 4 * dim


def _block_macs(tokens: int, dim: int, hidden: int) -> int:
    return 4 * tokens * dim**2 + 2 * tokens * dim * hidden + 2 * tokens**2 * dim


_PAPER = "Tong et al., VideoMAE: Masked Autoencoders are Data-Efficient Learners, arXiv 2203.12602"

_SIZES = {
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}

_DOCUMENTED = {
    "videomae_small": 22_033_936,
    "videomae_base": 86_534_800,
    "videomae_large": 304_270_736,
    "videomae_huge": 632_119_440,
    "videomae_nano": 411_568,
}

_SUMMARIES = {
    "small": "every tubelet sees every other; a third of base's cost, for when time counts",
    "base": "every tubelet sees every other; the usual choice, with masked pre-training on your own clips",
    "large": "base with 3 times its cost; the most accurate that one ordinary GPU can fine-tune",
    "huge": "base with 7 times its cost; the most accurate of the family",
    "nano": "small enough to pre-train and to train from scratch on a CPU",
}


def _make_config(size: str) -> VideoMAEConfig:
    dim, depth, heads = _SIZES[size]
    return VideoMAEConfig(
        name=f"videomae_{size}",
        num_classes=400,
        frames=16,
        height=224,
        width=224,
        channels=3,
        dim=dim,
        depth=depth,
        heads=heads,
        mlp_dim=4 * dim,
    )


def _make_card(config: VideoMAEConfig, spec: InputSpec) -> ModelCard:
    return ModelCard(
        name=config.name,
        architecture="videomae",
        config=config,
        parameters=_DOCUMENTED[config.name],
        macs=count_macs(config),
        input_spec=spec,
        summary=_SUMMARIES[config.name.removeprefix("videomae_")],
        paper=_PAPER,
        license="Apache-2.0",
    )


_KINETICS = InputSpec(
    frames=16, sampling="dense", stride=4, convention="videomae", mean=_IMAGENET_MEAN, std=_IMAGENET_STD
)

_NANO = VideoMAEConfig(
    name="videomae_nano",
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
    init="xavier",
)

CARDS: tuple[ModelCard, ...] = (
    *(_make_card(_make_config(size), _KINETICS) for size in _SIZES),
    _make_card(_NANO, InputSpec(frames=16, height=48, width=48, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)),
)
