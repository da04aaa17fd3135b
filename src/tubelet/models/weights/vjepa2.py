"""State how others name V-JEPA 2's weights: the official project's files and transformers' folders.

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

The official project has encoder and probe in two files: load one after the other. The predictor of pre-training is left
out.
"""

from collections.abc import Mapping
from typing import Any

from tubelet.errors import ConfigError
from tubelet.models.vjepa2_config import VJEPA2Config
from tubelet.models.weights.rules import Rule, Schema, join, recast, same
from tubelet.models.weights.settings import choose_gelu, name_gelu, to_pair

__all__ = ["describe", "make_schemas", "make_transformers", "plan_changes"]

_OFFICIAL_BLOCK = {
    "attention.norm": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.out": "attn.proj",
    "mlp.norm": "norm2",
    "mlp.widen": "mlp.fc1",
    "mlp.narrow": "mlp.fc2",
}
_OFFICIAL_CROSS = {
    "cross.norm": "norm1",
    "cross.query": "xattn.q",
    "cross.key_value": "xattn.kv",
    "mlp.norm": "norm2",
    "mlp.widen": "mlp.fc1",
    "mlp.narrow": "mlp.fc2",
}
_BLOCK: dict[str, str | tuple[str, ...]] = {
    "attention.norm": "norm1",
    "attention.qkv": ("attention.query", "attention.key", "attention.value"),
    "attention.out": "attention.proj",
    "mlp.norm": "norm2",
    "mlp.widen": "mlp.fc1",
    "mlp.narrow": "mlp.fc2",
}
_POOLER_BLOCK: dict[str, str | tuple[str, ...]] = {
    "attention.norm": "layer_norm1",
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": "self_attn.out_proj",
    "mlp.norm": "layer_norm2",
    "mlp.widen": "mlp.fc1",
    "mlp.narrow": "mlp.fc2",
}
_CROSS: dict[str, str | tuple[str, ...]] = {
    "cross.norm": "layer_norm1",
    "cross.query": "cross_attn.q_proj",
    "cross.key_value": ("cross_attn.k_proj", "cross_attn.v_proj"),
    "mlp.norm": "layer_norm2",
    "mlp.widen": "mlp.fc1",
    "mlp.narrow": "mlp.fc2",
}

_PREFIXES = ((r"^(module\.)?(backbone\.)?", ""),)
_BARE = ((r"^(encoder|predictor)\.", r"vjepa2.\1."),)
_ENCODER_SIGN = r"vjepa2\.encoder\.embeddings\.patch_embeddings\.proj\.weight"
_PREDICTOR = r"vjepa2\.predictor\..*"


def make_schemas(config: VJEPA2Config) -> tuple[Schema, ...]:
    """List the schemas of files that a model of this configuration can be started from.

    Source: github.com/facebookresearch/vjepa2, src/models/vision_transformer.py and attentive_pooler.py.
    """
    encoder = (
        _embed(config, "patch_embed.proj"),
        *same("encoder.embedding.project", "patch_embed.proj", ("bias",)),
        *same("encoder.norm", "norm"),
        *_pair(_OFFICIAL_BLOCK, "encoder.blocks.{i}", "blocks.{i}"),
    )
    probe = (
        *_pair(_OFFICIAL_BLOCK, "pooler.blocks.{i}", "pooler.blocks.{i}"),
        *_pair(_OFFICIAL_CROSS, "pooler", "pooler.cross_attention_block"),
        recast("pooler.query", "pooler.query_tokens", "1 1 dim -> dim"),
        *same("head", "linear"),
    )
    return (
        make_transformers(config),
        Schema(
            "transformers' V-JEPA 2 encoder",
            _ENCODER_SIGN,
            _name_encoder(config),
            aliases=_BARE,
            ignored=_PREDICTOR,
            fresh=r"(pooler|head)\..*",
        ),
        Schema(
            "the official V-JEPA 2 probe",
            r"pooler\.cross_attention_block\.xattn\.q\.weight",
            probe,
            aliases=_PREFIXES,
            fresh=r"encoder\..*",
        ),
        Schema(
            "the official V-JEPA 2 encoder",
            r"blocks\.0\.attn\.qkv\.weight",
            encoder,
            aliases=_PREFIXES,
            fresh=r"(pooler|head)\..*",
        ),
    )


def make_transformers(config: VJEPA2Config) -> Schema:
    """State transformers' names of encoder and probe.

    Source: transformers, models/vjepa2/modeling_vjepa2.py.
    """
    rules = (
        *_name_encoder(config),
        *_pair(_POOLER_BLOCK, "pooler.blocks.{i}", "pooler.self_attention_layers.{i}"),
        *_pair(_CROSS, "pooler", "pooler.cross_attention_layer"),
        recast("pooler.query", "pooler.query_tokens", "1 1 dim -> dim"),
        *same("head", "classifier"),
    )
    return Schema(
        "transformers' V-JEPA 2",
        r"pooler\.cross_attention_layer\.cross_attn\.q_proj\.weight",
        rules,
        ignored=_PREDICTOR,
    )


def _name_encoder(config: VJEPA2Config) -> tuple[Rule, ...]:
    projection = "vjepa2.encoder.embeddings.patch_embeddings.proj"
    return (
        _embed(config, projection),
        *same("encoder.embedding.project", projection, ("bias",)),
        *same("encoder.norm", "vjepa2.encoder.layernorm"),
        *_pair(_BLOCK, "encoder.blocks.{i}", "vjepa2.encoder.layer.{i}"),
    )


def _embed(config: VJEPA2Config, theirs: str) -> Rule:
    kt, kh, kw = config.tubelet
    pattern = "dim channel kt kh kw -> dim (channel kt kh kw)"
    return recast("encoder.embedding.project.weight", f"{theirs}.weight", pattern, kt=kt, kh=kh, kw=kw)


def _pair(layers: Mapping[str, str | tuple[str, ...]], ours: str, theirs: str) -> tuple[Rule, ...]:
    """Name weights and biases of the layers that lie under `ours` here, under `theirs` there."""
    rules: list[Rule] = []
    for own, other in layers.items():
        if isinstance(other, str):
            rules += same(f"{ours}.{own}", f"{theirs}.{other}")
        else:
            for part in ("weight", "bias"):
                rules.append(join(f"{ours}.{own}.{part}", [f"{theirs}.{name}.{part}" for name in other]))
    return tuple(rules)


def plan_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the hyper-parameters out of a transformers `config.json`: what `create_model` is to change.

    Args:
        config: the file as a dictionary; what it leaves out has transformers' default.

    Raises:
        ConfigError: a setting that no model here has.
    """
    read = {**_DEFAULTS, **config}
    height, width = to_pair(read["patch_size"])
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
        "gelu": choose_gelu(read["hidden_act"]),
        "eps": read["layer_norm_eps"],
        "pooler_depth": read["num_pooler_layers"],
        "pooler_heads": read["num_attention_heads"],
        "pooler_mlp_dim": 4 * dim,
        "pooler_eps": read["layer_norm_eps"],
    }


def describe(config: VJEPA2Config) -> dict[str, Any]:
    """State a model's hyper-parameters as transformers' `config.json` does.

    Raises:
        ConfigError: transformers has no such V-JEPA 2.
    """
    for name, found, needed in (
        ("width", config.width, config.height),
        ("pooler_heads", config.pooler_heads, config.heads),
        ("pooler_eps", config.pooler_eps, config.eps),
        ("pooler_mlp_dim", config.pooler_mlp_dim, 4 * config.dim),
        ("tubelet", config.tubelet[2], config.tubelet[1]),
    ):
        if found != needed:
            raise ConfigError(
                f"transformers has no V-JEPA 2 with {name} {found} beside {needed} - train it with "
                f"--model.changes.{name} {needed}, or keep it in tubelet's own format."
            )
    return {
        "patch_size": config.tubelet[1],
        "crop_size": config.height,
        "frames_per_clip": config.frames,
        "tubelet_size": config.tubelet[0],
        "in_chans": config.channels,
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        # As a quotient it may be a fraction; half a unit more keeps the product from falling below the whole number.
        "mlp_ratio": config.mlp_dim / config.dim + 0.5 / config.dim,
        "hidden_act": name_gelu(config.gelu),
        "layer_norm_eps": config.eps,
        "qkv_bias": config.qkv_bias,
        "num_pooler_layers": config.pooler_depth,
        "attention_probs_dropout_prob": config.attention_dropout,
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
