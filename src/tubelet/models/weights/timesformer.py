"""Turn published TimeSformer weights into ours: the official project's files and transformers' folders.

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

joint and space_only models have no `time`, and write `attention` for `space`. The maps read nothing and change nothing.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from einops import rearrange
from torch import Tensor

from tubelet.errors import CheckpointError, ConfigError, name_nearest

__all__ = ["from_official", "from_transformers", "plan_changes"]

# Our name, then that of the official code and that of transformers.
_SINGLE = {
    "class_token": ("cls_token", "timesformer.embeddings.cls_token"),
    "places": ("pos_embed", "timesformer.embeddings.position_embeddings"),
    "moments.grid": ("time_embed", "timesformer.embeddings.time_embeddings"),
}
_LAYERS = {
    "embedding.project": ("patch_embed.proj", "timesformer.embeddings.patch_embeddings.projection"),
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

_SHAPES = {
    "class_token": "1 1 dim -> dim",
    "moments.grid": "1 t dim -> t 1 1 dim",
    "embedding.project.weight": "dim channel kh kw -> dim (channel kh kw)",
}


def from_official(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the weights of facebookresearch/TimeSformer into ours.

    Args:
        state_dict: what the file holds under `model_state`, with or without `model.` before each key.

    Returns:
        A state dict that `load_state_dict` of a TimeSformer of the same form and size takes.

    Raises:
        CheckpointError: a key that the official code does not have, or places that fill no square.

    Source: github.com/facebookresearch/TimeSformer, timesformer/models/vit.py.
    """
    state = {key.removeprefix("model."): value for key, value in state_dict.items()}
    return _translate(state, _name_keys(state, column=0, blocks="blocks"), "the official TimeSformer")


def from_transformers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the weights of transformers' `TimesformerForVideoClassification` into ours.

    Args:
        state_dict: the state dict of such a model, or what its file holds.

    Returns:
        A state dict that `load_state_dict` of a TimeSformer of the same form and size takes.

    Raises:
        CheckpointError: a key that transformers' model does not have, or places that fill no square.

    Source: transformers, models/timesformer/modeling_timesformer.py.
    """
    return _translate(state_dict, _name_keys(state_dict, column=1, blocks="timesformer.encoder.layer"), "transformers")


def plan_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the hyper-parameters out of the `config.json` of a transformers folder: what `create_model` is to change.

    Args:
        config: the file as a dictionary; what it leaves out has transformers' default.

    Raises:
        ConfigError: a setting that no model here has.
    """
    read = {**_DEFAULTS, **config}
    for key, offered in (("hidden_act", ("gelu",)), ("layer_norm_eps", (1e-6,)), ("attention_type", tuple(_FORMS))):
        if read[key] not in offered:
            raise ConfigError(
                f"{key} must be {' or '.join(map(str, offered))} - found {read[key]} - others are not offered."
            )
    return {
        "frames": read["num_frames"],
        "height": read["image_size"],
        "width": read["image_size"],
        "channels": read["num_channels"],
        "form": _FORMS[read["attention_type"]],
        "patch": read["patch_size"],
        "dim": read["hidden_size"],
        "depth": read["num_hidden_layers"],
        "heads": read["num_attention_heads"],
        "mlp_dim": read["intermediate_size"],
        "qkv_bias": read["qkv_bias"],
    }


_FORMS = {"divided_space_time": "divided", "joint_space_time": "joint", "space_only": "space_only"}
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
}


def _name_keys(state: Mapping[str, Tensor], column: int, blocks: str) -> dict[str, str]:
    """Map every key that a model of as many blocks may have to ours."""
    divided = any(f".{_BLOCK_LAYERS['time_project'][column]}." in key for key in state)
    found = [re.match(rf"{re.escape(blocks)}\.(\d+)\.", key) for key in state]
    depth = 1 + max((int(match[1]) for match in found if match), default=-1)
    layers = {theirs[column]: ours for ours, theirs in _LAYERS.items()}
    for index in range(depth):
        for ours, theirs in _BLOCK_LAYERS.items():
            layer = ours if divided else re.sub(r"^space\.", "attention.", ours)
            layers[f"{blocks}.{index}.{theirs[column]}"] = f"blocks.{index}.{layer}"
    keys = {theirs[column]: ours for ours, theirs in _SINGLE.items()}
    return keys | {
        f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in layers.items() for part in ("weight", "bias")
    }


def _translate(state: Mapping[str, Tensor], keys: Mapping[str, str], source: str) -> dict[str, Tensor]:
    translated = {}
    for key, value in state.items():
        if key not in keys:
            raise CheckpointError(
                f"TimeSformer weights of {source} were asked for - found the key '{key}', which they do not have"
                f"{name_nearest(key, keys)} - check which program wrote the file, and give its state dict alone."
            )
        translated[keys[key]] = value
    _shape_embeddings(translated)
    return translated


def _shape_embeddings(translated: dict[str, Tensor]) -> None:
    """Give the embeddings our shapes, in place."""
    for key, pattern in _SHAPES.items():
        if key in translated:
            translated[key] = rearrange(translated[key], pattern)
    if "places" not in translated:
        return
    positions = translated.pop("places")[0]
    side = math.isqrt(positions.shape[0] - 1)
    if side * side != positions.shape[0] - 1:
        raise CheckpointError(
            f"positions of the places of a square frame were asked for - found {positions.shape[0] - 1} places - "
            "only models made for square frames can be translated; give the file of one."
        )
    translated["places.token"] = positions[0]
    translated["places.grid"] = rearrange(positions[1:], "(h w) dim -> 1 h w dim", h=side)
