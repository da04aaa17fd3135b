"""State how others name ViViT's weights: transformers' folders and the official JAX checkpoints.

    ours, under `encoder.`      transformers, under `vivit.`          official, under `Transformer/`, saved to .npz
    class_token                 embeddings.cls_token                  cls, at the top
    positions.token, .grid      embeddings.position_embeddings        posembed_input/pos_embedding
    embedding.project, at top   embeddings.patch_embeddings.projection  embedding, at the top
    blocks.i.attention.norm     encoder.layer.i.layernorm_before      encoderblock_i/LayerNorm_0
    blocks.i.attention.qkv      ...attention.attention.query, ...     ...MultiHeadDotProductAttention_0/query, ...
    blocks.i.attention.out      ...attention.output.dense             ...MultiHeadDotProductAttention_0/out
    blocks.i.mlp.norm           ...layernorm_after                    ...LayerNorm_1
    blocks.i.mlp.widen          ...intermediate.dense                 ...MlpBlock_0/Dense_0
    blocks.i.mlp.narrow         ...output.dense                       ...MlpBlock_0/Dense_1
    norm                        layernorm                             encoder_norm
    head, at the top            classifier, at the top                output_projection, at the top

transformers knows the joint form alone; since version 5 it has other names in memory than in its files, and both are
taken. The official checkpoints have all four forms: `SpatialTransformer` and `TemporalTransformer` in the factorized
encoder, `_space` and `_time` in factorized attention.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor

from tubelet.errors import CheckpointError, ConfigError
from tubelet.models.vivit_config import ViViTConfig
from tubelet.models.weights.rules import Rule, Schema, carry, cut, join, recast, same
from tubelet.models.weights.settings import MEMORY_NAMES, choose_gelu, name_gelu, to_pair
from tubelet.shapes import Size3

__all__ = ["describe", "infer_grid", "make_official", "make_schemas", "make_transformers", "plan_changes"]


def make_schemas(config: ViViTConfig) -> tuple[Schema, ...]:
    """List the schemas of files that a model of this configuration can be started from."""
    return (make_transformers(config), make_official(config))


def make_transformers(config: ViViTConfig) -> Schema:
    """State transformers' names.

    Source: transformers, models/vivit/modeling_vivit.py and conversion_mapping.py.
    """
    theirs, ours = "vivit.encoder.layer.{i}", "encoder.blocks.{i}"
    kt, kh, kw = config.tubelet
    rules = [
        recast("encoder.class_token", "vivit.embeddings.cls_token", "1 1 dim -> dim"),
        _place("encoder.positions", "vivit.embeddings.position_embeddings", config.grid, token=True),
        recast(
            "embedding.project.weight",
            "vivit.embeddings.patch_embeddings.projection.weight",
            "dim channel kt kh kw -> dim (channel kt kh kw)",
            kt=kt,
            kh=kh,
            kw=kw,
        ),
        *same("embedding.project", "vivit.embeddings.patch_embeddings.projection", ("bias",)),
        *same(f"{ours}.attention.norm", f"{theirs}.layernorm_before"),
        *same(f"{ours}.attention.out", f"{theirs}.attention.output.dense"),
        *same(f"{ours}.mlp.norm", f"{theirs}.layernorm_after"),
        *same(f"{ours}.mlp.widen", f"{theirs}.intermediate.dense"),
        *same(f"{ours}.mlp.narrow", f"{theirs}.output.dense"),
        *same("encoder.norm", "vivit.layernorm"),
        *same("head", "classifier"),
    ]
    for part in ("weight", "bias"):
        split = [f"{theirs}.attention.attention.{name}.{part}" for name in ("query", "key", "value")]
        rules.append(join(f"{ours}.attention.qkv.{part}", split))
    return Schema(
        "transformers' ViViT",
        r"vivit\.embeddings\.position_embeddings",
        tuple(rules),
        aliases=((r"^vivit\.layers\.", "vivit.encoder.layer."), *MEMORY_NAMES),
        ignored=r"vivit\.pooler\..*",
    )


def make_official(config: ViViTConfig) -> Schema:
    """State the names of the official JAX checkpoints, flattened with `/`, as in an .npz of them.

    Source: github.com/google-research/scenic, projects/vivit/model.py.
    """
    kt, kh, kw = config.tubelet
    rules: list[Rule] = [
        recast(
            "embedding.project.weight",
            "embedding/kernel",
            "kt kh kw channel dim -> dim (channel kt kh kw)" if config.tokenizer == "tubelet" else _FLAT_KERNEL,
            **({"kt": kt, "kh": kh, "kw": kw} if config.tokenizer == "tubelet" else {"kh": kh, "kw": kw}),
        ),
        Rule(("embedding.project.bias",), ("embedding/bias",), carry),
        recast("head.weight", "output_projection/kernel", "dim classes -> classes dim"),
        Rule(("head.bias",), ("output_projection/bias",), carry),
    ]
    t, h, w = config.grid
    token = config.pooling == "token"
    if config.form == "factorized_encoder":
        rules += _name_encoder("encoder", "SpatialTransformer", config, Size3(1, h, w), "cls_SpatialTransformer")
        rules += _name_encoder(
            "temporal_encoder", "TemporalTransformer", config, Size3(t, 1, 1), "cls_TemporalTransformer"
        )
    else:
        rules += _name_encoder("encoder", "Transformer", config, config.grid, "cls" if token else None)
    return Schema(
        "the official ViViT", r"(Spatial)?Transformer/encoder_norm/scale", tuple(rules), ignored=r"pre_logits/.*"
    )


_FLAT_KERNEL = "kh kw channel dim -> dim (channel kh kw)"


def _name_encoder(ours: str, theirs: str, config: ViViTConfig, size: Size3, class_token: str | None) -> list[Rule]:
    """Name the parts of one of their encoders."""
    block, their_block = f"{ours}.blocks.{{i}}", f"{theirs}/encoderblock_{{i}}"
    rules = [
        _place(f"{ours}.positions", f"{theirs}/posembed_input/pos_embedding", size, token=config.pooling == "token"),
        *_name_norm(f"{ours}.norm", f"{theirs}/encoder_norm"),
    ]
    if class_token is not None:
        rules.append(recast(f"{ours}.class_token", class_token, "1 1 dim -> dim"))
    divided = config.form == "factorized_attention"
    parts = {"space": "_space", "time": "_time"} if divided else {"attention": "_0"}
    for part, suffix in parts.items():
        rules += _name_norm(f"{block}.{part}.norm", f"{their_block}/LayerNorm{suffix}")
        rules += _name_attention(
            f"{block}.{part}", f"{their_block}/MultiHeadDotProductAttention{suffix}", config.heads, config.qkv_bias
        )
    mlp = "MlpBlock" if divided else "MlpBlock_0"
    rules += _name_norm(f"{block}.mlp.norm", f"{their_block}/LayerNorm{'_mlp' if divided else '_1'}")
    for layer, place in (("widen", 0), ("narrow", 1)):
        stem = f"{their_block}/{mlp}/Dense_{place}"
        rules.append(recast(f"{block}.mlp.{layer}.weight", f"{stem}/kernel", "inner outer -> outer inner"))
        rules.append(Rule((f"{block}.mlp.{layer}.bias",), (f"{stem}/bias",), carry))
    return rules


def _name_norm(ours: str, theirs: str) -> list[Rule]:
    return [
        Rule((f"{ours}.weight",), (f"{theirs}/scale",), carry),
        Rule((f"{ours}.bias",), (f"{theirs}/bias",), carry),
    ]


def _name_attention(ours: str, theirs: str, heads: int, has_bias: bool) -> list[Rule]:
    def fuse_kernels(*kernels: Tensor) -> tuple[Tensor, ...]:
        return (torch.cat([rearrange(kernel, "dim heads size -> (heads size) dim") for kernel in kernels]),)

    def fuse_biases(*biases: Tensor) -> tuple[Tensor, ...]:
        return (torch.cat([rearrange(bias, "heads size -> (heads size)") for bias in biases]),)

    names = [f"{theirs}/{part}" for part in ("query", "key", "value")]
    rules = [
        Rule((f"{ours}.qkv.weight",), tuple(f"{name}/kernel" for name in names), fuse_kernels),
        recast(f"{ours}.out.weight", f"{theirs}/out/kernel", "heads size dim -> dim (heads size)", heads=heads),
        Rule((f"{ours}.out.bias",), (f"{theirs}/out/bias",), carry),
    ]
    if has_bias:
        rules.append(Rule((f"{ours}.qkv.bias",), tuple(f"{name}/bias" for name in names), fuse_biases))
    return rules


def _place(ours: str, theirs: str, grid: Size3, *, token: bool) -> Rule:
    """State how one row of position vectors, (1, token + t*h*w, dim), becomes a grid and a token's own."""

    def into(row: Tensor) -> tuple[Tensor, ...]:
        first = 1 if token else 0
        size = infer_grid(row.shape[1] - first, grid)
        placed = rearrange(row[0, first:], "(t h w) dim -> t h w dim", t=size.t, h=size.h, w=size.w)
        return (row[0, 0], placed) if token else (placed,)

    def back(*values: Tensor) -> tuple[Tensor, ...]:
        placed = rearrange(values[-1], "t h w dim -> (t h w) dim")
        return ((torch.cat([values[0][None], placed]) if token else placed)[None],)

    return cut([f"{ours}.token", f"{ours}.grid"] if token else [f"{ours}.grid"], theirs, into, back)


def infer_grid(count: int, grid: Size3) -> Size3:
    """Guess the grid of a row of positions that was made for another size than `grid`.

    Either the length of the clip changed, or the size of a square picture.

    Raises:
        CheckpointError: neither explains the count.
    """
    places = grid.h * grid.w
    side = round((count / grid.t) ** 0.5)
    if count == grid.t * places or (count % places == 0 and places > 1):
        return Size3(count // places, grid.h, grid.w)
    if grid.t * side * side == count and count > 0:
        return Size3(grid.t, side, side)
    if places == 1 and count > 0:
        return Size3(count, 1, 1)
    raise CheckpointError(
        f"cannot place {count} positions on a grid like {tuple(grid)} (t, h, w) - neither its length nor the side of a "
        "square picture explains the number - create the model with the frames and size that the weights were made for."
    )


def plan_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the hyper-parameters out of a transformers `config.json`: what `create_model` is to change.

    Args:
        config: the file as a dictionary; what it leaves out has transformers' default.

    Raises:
        ConfigError: a setting that no model here has.
    """
    read = {**_DEFAULTS, **config}
    height, width = to_pair(read["image_size"])
    tubelet = tuple(read["tubelet_size"])
    divides = all(size % step == 0 for size, step in zip((read["num_frames"], height, width), tubelet, strict=True))
    return {
        "form": "joint",
        "frames": read["num_frames"],
        "height": height,
        "width": width,
        "channels": read["num_channels"],
        "tubelet": tubelet,
        "edges": "strict" if divides else "crop",
        "dim": read["hidden_size"],
        "depth": read["num_hidden_layers"],
        "heads": read["num_attention_heads"],
        "mlp_dim": read["intermediate_size"],
        "pooling": "token",
        "gelu": choose_gelu(read["hidden_act"]),
        "qkv_bias": read["qkv_bias"],
        "eps": read["layer_norm_eps"],
        "dropout": float(read["hidden_dropout_prob"]),
        "attention_dropout": float(read["attention_probs_dropout_prob"]),
    }


def describe(config: ViViTConfig) -> dict[str, Any]:
    """State a model's hyper-parameters as transformers' `config.json` does.

    Raises:
        ConfigError: transformers has no such ViViT.
    """
    for name, needed in (
        ("form", "joint"),
        ("pooling", "token"),
        ("position", "learned"),
        ("tokenizer", "tubelet"),
        ("gelu_twice", False),
    ):
        if getattr(config, name) != needed:
            raise ConfigError(
                f"transformers has no ViViT with {name}={getattr(config, name)} - it knows {name}={needed} alone - "
                f"train it with --model.changes.{name} {needed}, or keep it in tubelet's own format."
            )
    return {
        "image_size": config.height if config.height == config.width else [config.height, config.width],
        "num_frames": config.frames,
        "tubelet_size": list(config.tubelet),
        "num_channels": config.channels,
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": name_gelu(config.gelu),
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "layer_norm_eps": config.eps,
        "qkv_bias": config.qkv_bias,
    }


_DEFAULTS: dict[str, Any] = cast(
    "dict[str, Any]",
    {
        "image_size": 224,
        "num_frames": 32,
        "tubelet_size": [2, 16, 16],
        "num_channels": 3,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu_fast",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
    },
)
