"""Hold TimeSformer's hyper-parameters, its registered sizes and its cost in closed form. No torch here."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from tubelet.errors import ConfigError
from tubelet.models.card import ModelCard, ModelConfig, check_counts, plan_tubelets
from tubelet.shapes import Size3
from tubelet.video.spec import InputSpec

__all__ = ["CARDS", "FORMS", "STEPS", "Form", "TimeSformerConfig", "count_macs", "count_parameters"]

Form = Literal["divided", "joint", "space_only", "local_global", "axial"]

FORMS: tuple[Form, ...] = ("divided", "joint", "space_only", "local_global", "axial")

STEPS: dict[Form, tuple[str, ...]] = {
    "divided": ("time", "space"),
    "local_global": ("local", "strided"),
    "axial": ("time", "width", "height"),
}
"""The attentions of one block, in order, of the forms that have several; see `tubelet.models.timesformer_blocks`."""


@dataclass(frozen=True)
class TimeSformerConfig(ModelConfig):
    """Hold every hyper-parameter of a TimeSformer; the defaults are those of the base size."""

    form: Form
    """How space and time are mixed; see the drawing in `tubelet.models.timesformer`."""
    patch: int = 16
    """Side of a patch in pixels; every frame is cut into such squares."""
    dim: int = 768
    """Length of a token; a multiple of `heads`."""
    depth: int = 12
    """Blocks."""
    heads: int = 12
    """Attention heads."""
    mlp_dim: int = 3072
    """Hidden width of the MLP; 4 times `dim` in the paper."""
    qkv_bias: bool = True
    """Give queries, keys and values a bias, as every published model does."""
    gelu: Literal["tanh", "none"] = "none"
    """How GELU is computed: exactly (`none`), as in the official code, or by its tanh approximation."""
    eps: float = 1e-6
    """Added to the variance in the layer norms; the official value."""
    dropout: float = 0.0
    """Share of activations dropped after the positions, after attention and in the MLP, 0 to below 1."""
    attention_dropout: float = 0.0
    """Share of attention weights dropped, 0 to below 1."""
    drop_path: float = 0.0
    """Share of rows that skip the last block's branches in training, 0 to below 1; earlier blocks in proportion."""
    stretch: Literal["linear", "nearest"] = "linear"
    """How positions are fitted to clips of another size; the official code repeats the nearest one."""
    init: Literal["image", "scratch"] = "image"
    """First weights: the official ones, with time at zero, to start from an image model; or larger ones, time's too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("patch", "dim", "depth", "heads", "mlp_dim"))
        for name in ("dropout", "attention_dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in 0 to below 1 - found {getattr(self, name)} - give a share.")
        if self.eps <= 0:
            raise ConfigError(f"eps must be positive - found {self.eps} - the official value is 1e-6.")
        if self.dim % self.heads:
            raise ConfigError(
                f"dim must be a multiple of heads - found dim={self.dim}, heads={self.heads} - "
                f"dim={max(round(self.dim / self.heads), 1) * self.heads} is one."
            )
        self.plan_grid(self.frames, self.height, self.width)

    @property
    def grid(self) -> Size3:
        """Return the patches of one clip along time, height and width, at the size of training."""
        return self.plan_grid(self.frames, self.height, self.width)

    def plan_grid(self, frames: int, height: int, width: int) -> Size3:
        """Return the patches of a clip of another size.

        Raises:
            ConfigError: no frame, or a height or width that is no multiple of the patch's; names the nearest that are.
        """
        return plan_tubelets(self.name, Size3(frames, height, width), Size3(1, self.patch, self.patch))


def count_parameters(config: TimeSformerConfig) -> int:
    """Count the parameters of a model in closed form; tests hold it equal to the models themselves.

    Example:
        >>> count_parameters(CARDS[5].config)
        121566352
    """
    dim, hidden, grid = config.dim, config.mlp_dim, config.grid
    attention = 4 * dim * dim + 3 * dim + (3 * dim if config.qkv_bias else 0)
    block = attention + 2 * dim * hidden + hidden + 3 * dim
    block += (len(_list_steps(config.form)) - 1) * (attention + dim * dim + dim)
    places = 1 + grid.h * grid.w + (0 if config.form == "space_only" else grid.t)
    embedding_and_head = config.channels * config.patch**2 * dim + dim + config.num_classes * (dim + 1)
    return embedding_and_head + places * dim + dim + config.depth * block + 2 * dim


def count_macs(config: TimeSformerConfig) -> int:
    """Count the multiply-accumulates that one clip costs: projections, attention, MLPs, embedding and head.

    What the literature prints as "GFLOPs" is this figure. Norms, softmax and activations are left out.

    Example:
        >>> round(count_macs(CARDS[5].config) / 1e9, 1)
        195.8
    """
    dim, (t, h, w) = config.dim, config.grid
    patches = t * h * w
    *early, last = _list_steps(config.form)
    block = sum(_attention_macs(config, 1, length + 1) for length in _list_rows(last, config.grid))
    for step in early:
        block += sum(_attention_macs(config, 1, length) for length in _list_rows(step, config.grid))
        block += patches * dim * dim
    tokens = patches + (t if config.form == "space_only" else 1)
    block += 2 * tokens * dim * config.mlp_dim
    return patches * config.channels * config.patch**2 * dim + dim * config.num_classes + config.depth * block


def _list_steps(form: Form) -> tuple[str, ...]:
    return STEPS.get(form, ("clip" if form == "joint" else "space",))


def _list_rows(step: str, grid: Size3) -> list[int]:
    """List how many patches share a row in each row of a step."""
    t, h, w = grid
    rows = {"clip": (1, t * h * w), "time": (h * w, t), "space": (t, h * w), "width": (t * h, w), "height": (t * w, h)}
    if step in rows:
        count, length = rows[step]
        return [length] * count
    times, heights, widths = ([(side + 1) // 2, side // 2][: min(side, 2)] for side in grid)
    return [a * b * c for a, b, c in product([t] if step == "local" else times, heights, widths)]


def _attention_macs(config: TimeSformerConfig, rows: int, tokens: int) -> int:
    return rows * (4 * tokens * config.dim**2 + 2 * tokens**2 * config.dim)


_SUMMARIES: dict[Form, str] = {
    "divided": "each patch looks along time, then across its frame; the usual choice: cheap at many frames",
    "joint": "every patch sees every other of the clip; needs memory for the square of their number",
    "space_only": "an image transformer averaged over frames, blind to their order: the baseline for telling time",
    "local_global": "each patch looks at its quarter of the picture, then at every second patch; joint, made sparse",
    "axial": "each patch looks along time, along its row, then along its column; cost grows least with the clip",
}

# Frames, side in pixels, frames per second at which dense clips are taken: every 32nd, 16th or 4th of 30.
_SIZES: dict[str, tuple[int, int, float | None]] = {
    "nano": (8, 48, None),
    "base": (8, 224, 30 / 32),
    "hr": (16, 448, 30 / 16),
    "large": (96, 224, 30 / 4),
}

_DOCUMENTED = {
    "timesformer_nano_divided": 548_080,
    "timesformer_nano_joint": 361_072,
    "timesformer_nano_space_only": 360_304,
    "timesformer_nano_local_global": 548_080,
    "timesformer_nano_axial": 735_088,
    "timesformer_base_divided": 121_566_352,
    "timesformer_base_joint": 86_112_400,
    "timesformer_base_space_only": 86_106_256,
    "timesformer_base_local_global": 121_566_352,
    "timesformer_base_axial": 157_020_304,
    "timesformer_hr_divided": 122_024_080,
    "timesformer_hr_joint": 86_570_128,
    "timesformer_hr_space_only": 86_557_840,
    "timesformer_hr_local_global": 122_024_080,
    "timesformer_hr_axial": 157_478_032,
    "timesformer_large_divided": 121_633_936,
    "timesformer_large_joint": 86_179_984,
    "timesformer_large_space_only": 86_106_256,
    "timesformer_large_local_global": 121_633_936,
    "timesformer_large_axial": 157_087_888,
}


def _make_config(size: str, form: Form) -> TimeSformerConfig:
    frames, side, _ = _SIZES[size]
    config = TimeSformerConfig(
        name=f"timesformer_{size}_{form}",
        num_classes=400,
        frames=frames,
        height=side,
        width=side,
        channels=3,
        form=form,
        drop_path=0.1,
    )
    if size == "nano":
        return replace(config, patch=8, dim=96, depth=4, heads=4, mlp_dim=192, drop_path=0.0, init="scratch")
    return config


def _make_card(size: str, form: Form) -> ModelCard:
    config = _make_config(size, form)
    frames, side, rate_fps = _SIZES[size]
    spec = InputSpec(frames=frames, height=side, width=side)
    if rate_fps is not None:
        spec = InputSpec(
            frames=frames,
            height=side,
            width=side,
            sampling="dense",
            rate_fps=rate_fps,
            convention="slowfast",
            mean=(0.45,),
            std=(0.225,),
        )
    return ModelCard(
        name=config.name,
        architecture="timesformer",
        config=config,
        parameters=_DOCUMENTED[config.name],
        macs=count_macs(config),
        input_spec=spec,
        summary=_SUMMARIES[form] + ("; small enough to train from scratch on a CPU" if size == "nano" else ""),
        paper="Bertasius et al., Is Space-Time Attention All You Need for Video Understanding?, arXiv 2102.05095",
        license="Apache-2.0",
    )


CARDS: tuple[ModelCard, ...] = tuple(_make_card(size, form) for size in _SIZES for form in FORMS)
