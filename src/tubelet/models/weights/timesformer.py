"""State how others name TimeSformer's weights: the official project's files and transformers' folders.

    ours                    official                     transformers
    class_token             cls_token                    timesformer.embeddings.cls_token
    places.token, .grid     pos_embed                    timesformer.embeddings.position_embeddings
    moments.grid            time_embed                   timesformer.embeddings.time_embeddings
    embedding.project       patch_embed.proj             timesformer.embeddings.patch_embeddings.projection
    blocks.i.time.norm      blocks.i.temporal_norm1      timesformer.encoder.layer.i.temporal_layernorm
    blocks.i.time.qkv       blocks.i.temporal_attn.qkv   ...i.temporal_attention.attention.qkv
    blocks.i.time.out       blocks.i.temporal_attn.proj  ...i.temporal_attention.output.dense
    blocks.i.time_project   blocks.i.temporal_fc         ...i.temporal_dense
    blocks.i.space.norm     blocks.i.norm1               ...i.layernorm_before
    blocks.i.space.qkv      blocks.i.attn.qkv            ...i.attention.attention.qkv
    blocks.i.space.out      blocks.i.attn.proj           ...i.attention.output.dense
    blocks.i.mlp.norm       blocks.i.norm2               ...i.layernorm_after
    blocks.i.mlp.widen      blocks.i.mlp.fc1             ...i.intermediate.dense
    blocks.i.mlp.narrow     blocks.i.mlp.fc2             ...i.output.dense
    norm, head              norm, head                   timesformer.layernorm, classifier

joint and space_only models have no `time`, and write `attention` for `space`. Nobody else has local_global and axial,
whose steps have other names: only files of tubelet and of image models start them.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from tubelet.errors import ConfigError
from tubelet.models.timesformer_config import Form, TimeSformerConfig
from tubelet.models.weights.rules import Rule, Schema, cut, recast, same
from tubelet.models.weights.settings import choose_gelu, name_gelu, to_pair

__all__ = ["describe", "make_official", "make_schemas", "make_transformers", "plan_changes"]

# Our name, then that of the official code and that of transformers.
_LAYERS = {
    "norm": ("norm", "timesformer.layernorm"),
    "head": ("head", "classifier"),
}
_BLOCK_LAYERS = {
    "time.norm": ("temporal_norm1", "temporal_layernorm"),
    "time.qkv": ("temporal_attn.qkv", "temporal_attention.attention.qkv"),
    "time.out": ("temporal_attn.proj", "temporal_attention.output.dense"),
    "time_project": ("temporal_fc", "temporal_dense"),
    "space.norm": ("norm1", "layernorm_before"),
    "space.qkv": ("attn.qkv", "attention.attention.qkv"),
    "space.out": ("attn.proj", "attention.output.dense"),
    "mlp.norm": ("norm2", "layernorm_after"),
    "mlp.widen": ("mlp.fc1", "intermediate.dense"),
    "mlp.narrow": ("mlp.fc2", "output.dense"),
}


def make_schemas(config: TimeSformerConfig) -> tuple[Schema, ...]:
    """List the schemas of files that a model of this configuration can start from; none for forms of ours alone."""
    return (make_transformers(config), make_official(config)) if config.form in _FORMS.values() else ()


def make_official(config: TimeSformerConfig) -> Schema:
    """State the official code's names.

    Source: github.com/facebookresearch/TimeSformer, timesformer/models/vit.py.
    """
    embeddings = ("cls_token", "pos_embed", "time_embed", "patch_embed.proj")
    rules = _make_rules(config, embeddings, "blocks.{i}", column=0)
    return Schema("the official TimeSformer", r"time_embed|blocks\.0\.temporal_fc\.weight", rules)


def make_transformers(config: TimeSformerConfig) -> Schema:
    """State transformers' names.

    Source: transformers, models/timesformer/modeling_timesformer.py.
    """
    names = ("cls_token", "position_embeddings", "time_embeddings", "patch_embeddings.projection")
    embeddings = tuple(f"timesformer.embeddings.{name}" for name in names)
    rules = _make_rules(config, embeddings, "timesformer.encoder.layer.{i}", column=1)
    return Schema("transformers' TimeSformer", r"timesformer\.embeddings\.cls_token", rules)


def _make_rules(config: TimeSformerConfig, embeddings: tuple[str, ...], block: str, column: int) -> tuple[Rule, ...]:
    class_token, places, moments, projection = embeddings
    patch = config.patch
    rules = [
        recast("class_token", class_token, "1 1 dim -> dim"),
        cut(["places.token", "places.grid"], places, _cut_square, _join_places),
        recast("moments.grid", moments, "1 t dim -> t 1 1 dim"),
        recast(
            "embedding.project.weight",
            f"{projection}.weight",
            "dim channel kh kw -> dim (channel kh kw)",
            kh=patch,
            kw=patch,
        ),
        *same("embedding.project", projection, ("bias",)),
    ]
    for ours, theirs in _LAYERS.items():
        rules += same(ours, theirs[column])
    for ours, theirs in _BLOCK_LAYERS.items():
        if ours.startswith("time") and config.form != "divided":
            continue
        own = ours if config.form == "divided" else ours.replace("space.", "attention.")
        rules += same(f"blocks.{{i}}.{own}", f"{block}.{theirs[column]}")
    return tuple(rules)


def _cut_square(positions: Tensor) -> tuple[Tensor, ...]:
    """Take the places of a square frame apart: the class token's position comes first, then row after row."""
    side = math.isqrt(positions.shape[1] - 1)
    return positions[0, 0], rearrange(positions[0, 1:], "(h w) dim -> 1 h w dim", h=side, w=side)


def _join_places(token: Tensor, grid: Tensor) -> tuple[Tensor, ...]:
    return (torch.cat([token[None], rearrange(grid, "1 h w dim -> (h w) dim")])[None],)


def plan_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the hyper-parameters out of a transformers `config.json`: what `create_model` is to change.

    Args:
        config: the file as a dictionary; what it leaves out has transformers' default.

    Raises:
        ConfigError: a setting that no model here has.
    """
    read = {**_DEFAULTS, **config}
    if read["attention_type"] not in _FORMS:
        raise ConfigError(
            f"attention_type must be {' or '.join(_FORMS)} - found {read['attention_type']} - others are not offered."
        )
    height, width = to_pair(read["image_size"])
    patch, other = to_pair(read["patch_size"])
    if patch != other:
        raise ConfigError(f"patch_size must be square - found {patch} x {other} - others are not offered.")
    return {
        "frames": read["num_frames"],
        "height": height,
        "width": width,
        "channels": read["num_channels"],
        "form": _FORMS[read["attention_type"]],
        "patch": patch,
        "dim": read["hidden_size"],
        "depth": read["num_hidden_layers"],
        "heads": read["num_attention_heads"],
        "mlp_dim": read["intermediate_size"],
        "qkv_bias": read["qkv_bias"],
        "gelu": choose_gelu(read["hidden_act"]),
        "eps": read["layer_norm_eps"],
        "dropout": float(read["hidden_dropout_prob"]),
        "attention_dropout": float(read["attention_probs_dropout_prob"]),
        "drop_path": float(read["drop_path_rate"]),
    }


def describe(config: TimeSformerConfig) -> dict[str, Any]:
    """State a model's hyper-parameters as transformers' `config.json` does.

    Raises:
        ConfigError: transformers has no such TimeSformer.
    """
    if config.form not in _FORMS.values():
        raise ConfigError(
            f"transformers' TimeSformer has no form {config.form} - found {config.name}; it has "
            f"{', '.join(_FORMS.values())} - keep this model in tubelet's own format."
        )
    if config.form == "space_only":
        raise ConfigError(
            "transformers' TimeSformer gives one row of logits for every frame where frames stand alone - found "
            "form=space_only, which averages them - keep this model in tubelet's own format."
        )
    if config.height != config.width:
        raise ConfigError(
            f"transformers' TimeSformer takes square frames - found {config.height} x {config.width} (height, width) - "
            "keep this model in tubelet's own format."
        )
    return {
        "attention_type": {form: name for name, form in _FORMS.items()}[config.form],
        "image_size": config.height,
        "num_frames": config.frames,
        "patch_size": config.patch,
        "num_channels": config.channels,
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": name_gelu(config.gelu),
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "drop_path_rate": 0,  # a whole number to transformers; it acts in training alone
        "layer_norm_eps": config.eps,
        "qkv_bias": config.qkv_bias,
    }


_FORMS: dict[str, Form] = {"divided_space_time": "divided", "joint_space_time": "joint", "space_only": "space_only"}
_DEFAULTS: dict[str, Any] = {
    "attention_type": "divided_space_time",
    "hidden_act": "gelu",
    "hidden_size": 768,
    "image_size": 224,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-6,
    "num_attention_heads": 12,
    "num_channels": 3,
    "num_frames": 8,
    "num_hidden_layers": 12,
    "patch_size": 16,
    "qkv_bias": True,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
}
