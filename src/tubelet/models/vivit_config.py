"""Hold ViViT's hyper-parameters, its registered sizes and its cost in closed form. No torch here."""

from dataclasses import dataclass
from typing import Literal

from tubelet.errors import ConfigError
from tubelet.models.card import ModelCard, ModelConfig, check_counts
from tubelet.shapes import Size3
from tubelet.video.spec import InputSpec

__all__ = ["CARDS", "FORMS", "Form", "ViViTConfig", "count_macs", "count_parameters"]

Form = Literal["joint", "factorized_encoder", "factorized_attention", "factorized_dot_product"]

FORMS: tuple[Form, ...] = ("joint", "factorized_encoder", "factorized_attention", "factorized_dot_product")

_TOKEN_FORMS = ("joint", "factorized_encoder")


@dataclass(frozen=True)
class ViViTConfig(ModelConfig):
    """Hold every hyper-parameter of a ViViT; the defaults are those of the base size."""

    form: Form
    """How space and time are mixed; see the drawing in `tubelet.models.vivit`."""
    tubelet: tuple[int, int, int] = (2, 16, 16)
    """Frames, height and width in pixels of one tubelet; smaller ones cost more and see more."""
    tokenizer: Literal["tubelet", "uniform_frames"] = "tubelet"
    """`tubelet` embeds whole boxes; `uniform_frames` patches of one frame in `tubelet[0]`, skipping the rest."""
    edges: Literal["strict", "crop"] = "strict"
    """What to do with frames and pixels that fill no tubelet: refuse the clip, or drop them at the far end."""
    dim: int = 768
    """Length of a token; a multiple of `heads`."""
    depth: int = 12
    """Blocks; of the encoder of moments in the factorized encoder."""
    heads: int = 12
    """Attention heads; an even number for factorized_dot_product."""
    mlp_dim: int = 3072
    """Hidden width of the MLP; 4 times `dim` in the paper."""
    temporal_depth: int = 0
    """Blocks of the factorized encoder's second encoder, over time; 0 averages over time instead."""
    pooling: Literal["token", "mean"] = "mean"
    """Classify from a class token (joint and factorized encoder only), or from the mean of all tokens."""
    position: Literal["learned", "sinusoidal_3d", "none"] = "learned"
    """How tokens know their place; `none` makes the model blind to order."""
    order: Literal["space_time", "time_space"] = "space_time"
    """Which axes a block of factorized_attention mixes first; the paper found no difference."""
    dropout: float = 0.0
    """Share of activations dropped after the positions, after attention and in the MLP, 0 to below 1."""
    attention_dropout: float = 0.0
    """Share of attention weights dropped, 0 to below 1."""
    drop_path: float = 0.0
    """Share of samples that skip the last block's branches in training, 0 to below 1; earlier blocks in proportion."""
    gelu: Literal["tanh", "none"] = "tanh"
    """How GELU is computed: by its tanh approximation, as in the official code, or exactly (`none`)."""
    gelu_twice: bool = False
    """Apply GELU after the second MLP layer too, as the Keras example does."""
    qkv_bias: bool = True
    """Give queries, keys and values a bias, as every published model does."""
    eps: float = 1e-6
    """Added to the variance in the layer norms; the official value."""
    init: Literal["xavier", "normal"] = "xavier"
    """First weights: the official uniform ones, larger in narrower models, or image models' truncated normal (0.02)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("dim", "depth", "heads", "mlp_dim"))
        check_counts(self, ("temporal_depth",), at_least=0)
        if min(self.tubelet) < 1:
            raise ConfigError(f"tubelet must hold positive sizes - found {self.tubelet} - give at least 1 each.")
        for name in ("dropout", "attention_dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in 0 to below 1 - found {getattr(self, name)} - give a share.")
        if self.eps <= 0:
            raise ConfigError(f"eps must be positive - found {self.eps} - the official value is 1e-6.")
        self._check_heads()
        self._check_form()
        self.plan_grid(self.frames, self.height, self.width)

    def _check_heads(self) -> None:
        if self.dim % self.heads:
            raise ConfigError(
                f"dim must be a multiple of heads - found dim={self.dim}, heads={self.heads} - "
                f"dim={max(round(self.dim / self.heads), 1) * self.heads} is one."
            )
        if self.form == "factorized_dot_product" and self.heads % 2:
            raise ConfigError(
                f"factorized_dot_product needs an even number of heads - found heads={self.heads} - "
                "half of them look along time, half across the picture."
            )
        if self.position == "sinusoidal_3d" and self.dim % 6:
            raise ConfigError(
                f"position=sinusoidal_3d needs dim divisible by 6 - found dim={self.dim} - "
                f"dim={max(self.dim // 6, 1) * 6} is."
            )

    def _check_form(self) -> None:
        if self.temporal_depth and self.form != "factorized_encoder":
            raise ConfigError(
                f"temporal_depth belongs to factorized_encoder - found temporal_depth={self.temporal_depth} with "
                f"form={self.form} - leave it out, or choose a factorized_encoder model."
            )
        if self.order != "space_time" and self.form != "factorized_attention":
            raise ConfigError(
                f"order belongs to factorized_attention - found order={self.order} with form={self.form} - "
                "leave it out, or choose a factorized_attention model."
            )
        if self.pooling == "token" and self.form not in _TOKEN_FORMS:
            raise ConfigError(
                f"pooling=token needs a class token, which form={self.form} has not - use pooling=mean, or one of the "
                f"forms {', '.join(_TOKEN_FORMS)}."
            )

    @property
    def grid(self) -> Size3:
        """Return the tubelets of one clip along time, height and width, at the size of training."""
        return self.plan_grid(self.frames, self.height, self.width)

    def plan_grid(self, frames: int, height: int, width: int) -> Size3:
        """Return the tubelets of a clip of another size.

        Raises:
            ConfigError: a size that is no multiple of the tubelet's (below one tubelet, where `edges` is `crop`); names
                the nearest good one.
        """
        counts = []
        for name, size, step in zip(("frames", "height", "width"), (frames, height, width), self.tubelet, strict=True):
            if size < step or (size % step and self.edges == "strict"):
                nearest = max(round(size / step), 1) * step
                raise ConfigError(
                    f"{self.name} cuts clips into tubelets of {self.tubelet} (frames, height, width) - found {name}="
                    f"{size}, no multiple of {step} - the nearest good size is {name}={nearest}."
                )
            counts.append(size // step)
        return Size3(*counts)


def count_parameters(config: ViViTConfig) -> int:
    """Count the parameters of a model in closed form; tests hold it equal to the models themselves.

    Example:
        >>> count_parameters(CARDS[12].config)
        88954000
    """
    dim, hidden, grid = config.dim, config.mlp_dim, config.grid
    token = 1 if config.pooling == "token" else 0
    attention = 4 * dim * dim + (6 if config.qkv_bias else 3) * dim
    block = attention + 2 * dim * hidden + hidden + 3 * dim
    if config.form == "factorized_attention":
        block += attention
    learned = 1 if config.position == "learned" else 0
    factorized = config.form == "factorized_encoder"
    first = grid.h * grid.w * (1 if factorized else grid.t)
    total = _voxels(config) * dim + dim + config.num_classes * (dim + 1)
    total += config.depth * block + 2 * dim + token * dim + learned * (first + token) * dim
    if factorized and config.temporal_depth:
        total += config.temporal_depth * block + 2 * dim + token * dim + learned * (grid.t + token) * dim
    return total


def count_macs(config: ViViTConfig) -> int:
    """Count the multiply-accumulates that one clip costs: projections, attention, MLPs, embedding and head.

    What the literature prints as "GFLOPs" is this figure. Norms, softmax and activations are left out.

    Example:
        >>> round(count_macs(CARDS[12].config) / 1e9, 1)
        451.5
    """
    dim, grid = config.dim, config.grid
    token = 1 if config.pooling == "token" else 0
    count, places = grid.t * grid.h * grid.w, grid.h * grid.w
    embedding_and_head = count * _voxels(config) * dim + dim * config.num_classes
    factorized_pairs = grid.t * places**2 + places * grid.t**2
    if config.form == "joint":
        return embedding_and_head + config.depth * _block_macs(config, count + token, (count + token) ** 2)
    if config.form == "factorized_encoder":
        space = _block_macs(config, grid.t * (places + token), grid.t * (places + token) ** 2)
        time = _block_macs(config, grid.t + token, (grid.t + token) ** 2)
        return embedding_and_head + config.depth * space + config.temporal_depth * time
    if config.form == "factorized_attention":
        second_attention = 4 * count * dim * dim
        return embedding_and_head + config.depth * (_block_macs(config, count, factorized_pairs) + second_attention)
    return embedding_and_head + config.depth * _block_macs(config, count, factorized_pairs // 2)


def _voxels(config: ViViTConfig) -> int:
    frames, height, width = config.tubelet
    return config.channels * (frames if config.tokenizer == "tubelet" else 1) * height * width


def _block_macs(config: ViViTConfig, tokens: int, pairs: int) -> int:
    return 4 * tokens * config.dim**2 + 2 * tokens * config.dim * config.mlp_dim + 2 * pairs * config.dim


_PAPER = "Arnab et al., ViViT: A Video Vision Transformer, arXiv 2103.15691"

_SUMMARIES: dict[Form, str] = {
    "joint": "every tubelet sees every other; the most accurate and the most expensive",
    "factorized_encoder": "each moment by itself, then time over moments; the usual choice: cheap and nearly as good",
    "factorized_attention": "each block looks across the picture, then along time",
    "factorized_dot_product": "half the heads look along time, half across the picture; cheapest in parameters",
}

_SIZES = {
    "nano": (96, 4, 4, 192),
    "tiny": (192, 12, 3, 768),
    "small": (384, 12, 6, 1536),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
}


def _make_config(size: str, form: Form) -> ViViTConfig:
    dim, depth, heads, mlp_dim = _SIZES[size]
    nano = size == "nano"
    side = 48 if nano else 224
    return ViViTConfig(
        name=f"vivit_{size}_{form}",
        num_classes=400,
        frames=16 if nano else 32,
        height=side,
        width=side,
        channels=3,
        form=form,
        tubelet=(4, 8, 8) if nano else (2, 16, 16),
        dim=dim,
        depth=depth,
        heads=heads + 1 if size == "tiny" and form == "factorized_dot_product" else heads,
        mlp_dim=mlp_dim,
        temporal_depth=(2 if nano else 4) if form == "factorized_encoder" else 0,
        pooling="token" if form in _TOKEN_FORMS and not nano else "mean",
    )


def _make_card(size: str, form: Form) -> ModelCard:
    config = _make_config(size, form)
    nano = size == "nano"
    spec = InputSpec(frames=16, height=48, width=48)
    if not nano:
        spec = InputSpec(frames=32, sampling="dense", stride=2, convention="dmvr", short="loop")
    return ModelCard(
        name=config.name,
        architecture="vivit",
        config=config,
        parameters=_DOCUMENTED[config.name],
        input_spec=spec,
        summary=_SUMMARIES[form] + ("; small enough to train from scratch on a CPU" if nano else ""),
        paper=_PAPER,
        license="Apache-2.0",
    )


_DOCUMENTED = {
    "vivit_nano_joint": 425_776,
    "vivit_nano_factorized_encoder": 565_552,
    "vivit_nano_factorized_attention": 575_536,
    "vivit_nano_factorized_dot_product": 425_776,
    "vivit_tiny_joint": 6_313_552,
    "vivit_tiny_factorized_encoder": 7_532_368,
    "vivit_tiny_factorized_attention": 8_096_464,
    "vivit_tiny_factorized_dot_product": 6_313_168,
    "vivit_small_joint": 23_243_536,
    "vivit_small_factorized_encoder": 29_220_112,
    "vivit_small_factorized_attention": 30_348_304,
    "vivit_small_factorized_dot_product": 23_242_768,
    "vivit_base_joint": 88_954_000,
    "vivit_base_factorized_encoder": 115_062_928,
    "vivit_base_factorized_attention": 117_319_312,
    "vivit_base_factorized_dot_product": 88_952_464,
    "vivit_large_joint": 307_508_624,
    "vivit_large_factorized_encoder": 354_903_440,
    "vivit_large_factorized_attention": 408_317_328,
    "vivit_large_factorized_dot_product": 307_506_576,
}

_ORGAN = ModelCard(
    name="vivit_organ",
    architecture="vivit",
    config=ViViTConfig(
        name="vivit_organ",
        num_classes=11,
        frames=28,
        height=28,
        width=28,
        channels=1,
        form="joint",
        tubelet=(8, 8, 8),
        edges="crop",
        dim=128,
        depth=8,
        heads=8,
        mlp_dim=512,
        attention_dropout=0.1,
        gelu_twice=True,
    ),
    parameters=1_656_971,
    input_spec=InputSpec(frames=28, height=28, width=28, channels=1, mean=(0.0,), std=(1.0,)),
    summary="the Keras example for OrganMNIST3D: 28 x 28 x 28 voxels, 27 tokens; mlp_dim=128 gives its first version",
    paper=f"{_PAPER}; Keras example 'Video Vision Transformer' (keras.io/examples/vision/vivit)",
    license="Apache-2.0",
)

CARDS: tuple[ModelCard, ...] = (*(_make_card(size, form) for size in _SIZES for form in FORMS), _ORGAN)
