"""Turn published V-JEPA 2 weights into ours: the official project's files and transformers' folders.

    ours                               official                            transformers
    encoder.embedding.project          patch_embed.proj                    ...embeddings.patch_embeddings.proj
    encoder.blocks.i.attention.norm    blocks.i.norm1                      vjepa2.encoder.layer.i.norm1
    encoder.blocks.i.attention.qkv     blocks.i.attn.qkv                   ...i.attention.query, key, value
    encoder.blocks.i.attention.out     blocks.i.attn.proj                  ...i.attention.proj
    encoder.blocks.i.mlp               blocks.i.norm2, mlp.fc1, mlp.fc2    ...i.norm2, mlp.fc1, mlp.fc2
    encoder.norm                       norm                                vjepa2.encoder.layernorm
    pooler.query                       pooler.query_tokens                 the same
    pooler.blocks.i                    pooler.blocks.i                     pooler.self_attention_layers.i
    pooler.cross, pooler.mlp           pooler.cross_attention_block        pooler.cross_attention_layer
    head                               linear                              classifier

The official project has encoder and probe in two files; translate each, or both together, and load what comes out of
one alone with `strict=False`. The predictor of pre-training is left out. The maps read nothing and change nothing.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Shaped
from torch import Tensor

from tubelet.errors import CheckpointError, ConfigError, name_nearest

__all__ = ["OFFICIAL", "TRANSFORMERS", "Pair", "from_official", "from_transformers", "plan_changes"]

Pair = tuple[str, str | tuple[str, ...]]
"""Our key and theirs, `{i}` for the number of the layer; several of theirs make one of ours, along its first axis."""

_Layers = Mapping[str, str | tuple[str, ...]]


def _join(stem: str, names: str | tuple[str, ...], ending: str) -> str | tuple[str, ...]:
    if isinstance(names, str):
        return f"{stem}{names}{ending}"
    return tuple(f"{stem}{name}{ending}" for name in names)


def _pair(layers: _Layers, ours: str = "", theirs: str = "") -> tuple[Pair, ...]:
    """Write out the keys of weights and biases of layers that lie under `ours` here, under `theirs` there."""
    return tuple(
        (f"{ours}{own}{ending}", _join(theirs, other, ending))
        for own, other in layers.items()
        for ending in (".weight", ".bias")
    )


_OFFICIAL_BLOCK: _Layers = {
    "attention.norm": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.out": "attn.proj",
    "mlp.norm": "norm2",
    "mlp.widen": "mlp.fc1",
    "mlp.narrow": "mlp.fc2",
}

OFFICIAL: tuple[Pair, ...] = (
    *_pair({"encoder.embedding.project": "patch_embed.proj", "encoder.norm": "norm", "head": "linear"}),
    *_pair(_OFFICIAL_BLOCK, "encoder.blocks.{i}.", "blocks.{i}."),
    *_pair(_OFFICIAL_BLOCK, "pooler.blocks.{i}.", "pooler.blocks.{i}."),
    *_pair(
        {
            "cross.norm": "norm1",
            "cross.query": "xattn.q",
            "cross.key_value": "xattn.kv",
            "mlp.norm": "norm2",
            "mlp.widen": "mlp.fc1",
            "mlp.narrow": "mlp.fc2",
        },
        "pooler.",
        "pooler.cross_attention_block.",
    ),
    ("pooler.query", "pooler.query_tokens"),
)

TRANSFORMERS: tuple[Pair, ...] = (
    *_pair(
        {
            "encoder.embedding.project": "vjepa2.encoder.embeddings.patch_embeddings.proj",
            "encoder.norm": "vjepa2.encoder.layernorm",
            "head": "classifier",
        }
    ),
    *_pair(
        {
            "attention.norm": "norm1",
            "attention.qkv": ("attention.query", "attention.key", "attention.value"),
            "attention.out": "attention.proj",
            "mlp.norm": "norm2",
            "mlp.widen": "mlp.fc1",
            "mlp.narrow": "mlp.fc2",
        },
        "encoder.blocks.{i}.",
        "vjepa2.encoder.layer.{i}.",
    ),
    *_pair(
        {
            "attention.norm": "layer_norm1",
            "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "attention.out": "self_attn.out_proj",
            "mlp.norm": "layer_norm2",
            "mlp.widen": "mlp.fc1",
            "mlp.narrow": "mlp.fc2",
        },
        "pooler.blocks.{i}.",
        "pooler.self_attention_layers.{i}.",
    ),
    *_pair(
        {
            "cross.norm": "layer_norm1",
            "cross.query": "cross_attn.q_proj",
            "cross.key_value": ("cross_attn.k_proj", "cross_attn.v_proj"),
            "mlp.norm": "layer_norm2",
            "mlp.widen": "mlp.fc1",
            "mlp.narrow": "mlp.fc2",
        },
        "pooler.",
        "pooler.cross_attention_layer.",
    ),
    ("pooler.query", "pooler.query_tokens"),
)

_SHAPES = {
    "encoder.embedding.project.weight": "dim channel kt kh kw -> dim (channel kt kh kw)",
    "pooler.query": "1 1 dim -> dim",
}


def from_official(state_dict: Mapping[str, Shaped[Tensor, "..."]]) -> dict[str, Tensor]:
    """Translate the weights of facebookresearch/vjepa2 into ours.

    Args:
        state_dict: what a file of an encoder holds under `target_encoder` or `encoder`, or one probe of the list that a
            file of probes holds under `classifiers`, or both in one; `module.` and `backbone.` before keys are taken.

    Returns:
        A state dict that `load_state_dict` of a model of the same size takes; of one file, with `strict=False`.

    Raises:
        CheckpointError: a key that the official code does not have.

    Source: github.com/facebookresearch/vjepa2, src/models/vision_transformer.py and attentive_pooler.py.
    """
    state = {re.sub(r"^(module\.)?(backbone\.)?", "", key): value for key, value in state_dict.items()}
    return _translate(state, OFFICIAL, "the official V-JEPA 2")


def from_transformers(state_dict: Mapping[str, Shaped[Tensor, "..."]]) -> dict[str, Tensor]:
    """Translate the weights of transformers' `VJEPA2ForVideoClassification` or `VJEPA2Model` into ours.

    Args:
        state_dict: the state dict of such a model, or what its file holds. The predictor is left out.

    Returns:
        A state dict that `load_state_dict` of a model of the same size takes; of a `VJEPA2Model`, which has no probe,
        with `strict=False`.

    Raises:
        CheckpointError: a key that transformers' model does not have, or a layer that lacks query, key or value.

    Source: transformers, models/vjepa2/modeling_vjepa2.py.
    """
    state = {re.sub(r"^(encoder|predictor)\.", r"vjepa2.\1.", key): value for key, value in state_dict.items()}
    kept = {key: value for key, value in state.items() if not key.startswith("vjepa2.predictor.")}
    return _translate(kept, TRANSFORMERS, "transformers' V-JEPA 2")


def plan_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the hyper-parameters out of the `config.json` of a transformers folder: what `create_model` is to change.

    Args:
        config: the file as a dictionary; what it leaves out has transformers' default.

    Raises:
        ConfigError: a setting that no model here has.
    """
    read = {**_DEFAULTS, **config}
    if read["hidden_act"] != "gelu":
        raise ConfigError(f"hidden_act must be gelu - found {read['hidden_act']} - other activations are not offered.")
    patch = read["patch_size"]
    height, width = (patch, patch) if isinstance(patch, int) else patch
    dim = read["hidden_size"]
    return {
        "frames": read["frames_per_clip"],
        "height": read["crop_size"],
        "width": read["crop_size"],
        "channels": read["in_chans"],
        "tubelet": (read["tubelet_size"], height, width),
        "dim": dim,
        "depth": read["num_hidden_layers"],
        "heads": read["num_attention_heads"],
        "mlp_dim": int(dim * read["mlp_ratio"]),
        "qkv_bias": read["qkv_bias"],
        "eps": read["layer_norm_eps"],
        "pooler_depth": read["num_pooler_layers"],
        "pooler_heads": read["num_attention_heads"],
        "pooler_mlp_dim": 4 * dim,
        "pooler_eps": read["layer_norm_eps"],
    }


_DEFAULTS: dict[str, Any] = {
    "patch_size": 16,
    "crop_size": 256,
    "frames_per_clip": 64,
    "tubelet_size": 2,
    "hidden_size": 1024,
    "in_chans": 3,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "mlp_ratio": 4.0,
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "num_pooler_layers": 3,
}


def _translate(state: Mapping[str, Tensor], pairs: Sequence[Pair], source: str) -> dict[str, Tensor]:
    """Give every weight our key and shape, and join those that are one here."""
    parts = {ours: (theirs,) if isinstance(theirs, str) else theirs for ours, theirs in pairs}
    owners = {theirs: ours for ours, several in parts.items() for theirs in several}
    translated: dict[str, Tensor] = {}
    for key in state:
        number = re.search(r"(?<=\.)\d+(?=\.)", key)
        index = number[0] if number else ""
        template = key.replace(f".{index}.", ".{i}.") if number else key
        if template not in owners:
            raise CheckpointError(
                f"weights of {source} were asked for - found the key '{key}', which they do not have"
                f"{name_nearest(template, owners)} - check which program wrote the file, and give its state dict alone."
            )
        ours = owners[template]
        wanted = [part.replace("{i}", index) for part in parts[ours]]
        missing = [part for part in wanted if part not in state]
        if missing:
            raise CheckpointError(
                f"{source} holds '{key}' together with {', '.join(wanted)} - found no '{missing[0]}' - "
                "the file is incomplete; fetch it again."
            )
        name = ours.replace("{i}", index)
        if name not in translated:
            translated[name] = torch.cat([state[part] for part in wanted]) if wanted[1:] else state[key]
    for ours, pattern in _SHAPES.items():
        if ours in translated:
            translated[ours] = rearrange(translated[ours], pattern)
    return translated
