"""State how others name VideoMAE's weights: the official project's files and transformers' folders.

    ours                               official                      transformers
    encoder.embedding.project          patch_embed.proj              videomae.embeddings.patch_embeddings.projection
    encoder.blocks.i.attention.norm    blocks.i.norm1                videomae.encoder.layer.i.layernorm_before
    encoder.blocks.i.attention.qkv     blocks.i.attn.qkv, q_bias,    ...i.attention.attention.query, key, value;
                                       v_bias                        query.bias, value.bias or q_bias, v_bias
    encoder.blocks.i.attention.out     blocks.i.attn.proj            ...i.attention.output.dense
    encoder.blocks.i.mlp.norm          blocks.i.norm2                ...i.layernorm_after
    encoder.blocks.i.mlp.widen         blocks.i.mlp.fc1              ...i.intermediate.dense
    encoder.blocks.i.mlp.narrow        blocks.i.mlp.fc2              ...i.output.dense
    norm                               fc_norm, norm                 fc_norm, videomae.layernorm
    head                               head                          classifier
    narrow, mask_token, decoder.*      encoder_to_decoder,           the same; decoder.decoder_layers.i
                                       mask_token, decoder.*

A classifier takes the encoder alone from a pre-training file. The norm at the end of that encoder is left behind: it
normalized tokens, the classifier's normalizes their mean, and the official fine-tuning starts it afresh.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from warnings import warn

from tubelet.errors import ConfigError
from tubelet.models.videomae_config import PretrainingConfig, VideoMAEConfig
from tubelet.models.weights.rules import Rule, Schema, carry, join, recast, same
from tubelet.models.weights.settings import HUB_KEY, choose_gelu, name_gelu, to_pair

__all__ = ["describe", "make_classifier_schema", "make_pretraining_schemas", "make_schemas", "plan_changes"]

_BLOCK_LAYERS = {
    "attention.norm": ("norm1", "layernorm_before"),
    "attention.out": ("attn.proj", "attention.output.dense"),
    "mlp.norm": ("norm2", "layernorm_after"),
    "mlp.widen": ("mlp.fc1", "intermediate.dense"),
    "mlp.narrow": ("mlp.fc2", "output.dense"),
}
"""Our name, then that of the official code and that of transformers."""

_BIASES = (("query_bias", "q_bias", "query.bias"), ("value_bias", "v_bias", "value.bias"))

_FILE_NAMES = (
    (r"^(embeddings|encoder\.layer|layernorm)\.", r"videomae.\1."),
    (r"\.attention\.attention\.q_bias$", ".attention.attention.query.bias"),
    (r"\.attention\.attention\.v_bias$", ".attention.attention.value.bias"),
)
"""What transformers' files call the biases, and what its models in memory call them since version 5; and the names of a
bare encoder, which lack the model's own."""

_OFFICIAL_PREFIX = ((r"^encoder\.(patch_embed|blocks)\.", r"\1."),)
"""Pre-training files of the official code hold the encoder under a name of its own."""

_TRANSFORMERS_EMBEDDING = "videomae.embeddings.patch_embeddings.projection"


def make_schemas(config: VideoMAEConfig) -> tuple[Schema, ...]:
    """List the schemas of files that a classifier of this configuration can be started from."""
    official, transformers = _name_encoder(config, 0), _name_encoder(config, 1)
    left_behind = r"encoder\.norm\..*|norm\..*|videomae\.layernorm\..*|encoder_to_decoder\..*|mask_token|decoder\..*"
    return (
        Schema(
            "a VideoMAE pre-training of tubelet",
            r"narrow\.weight",
            tuple(Rule((key,), (key,), carry) for key in _list_own_encoder(config)),
            ignored=r"norm\..*|narrow\..*|mask_token|decoder\..*",
            fresh=r"(norm|head)\..*",
        ),
        Schema(
            "transformers' VideoMAE pre-training",
            r"decoder\.decoder_layers\.0\.layernorm_before\.weight",
            transformers,
            aliases=_FILE_NAMES,
            ignored=left_behind,
            fresh=r"(norm|head)\..*",
        ),
        Schema(
            "transformers' VideoMAE encoder",
            r"videomae\.layernorm\.weight" if config.pooling == "mean" else "$^",
            transformers + same("head", "classifier"),
            aliases=_FILE_NAMES,
            ignored=left_behind,
            fresh=r"(norm|head)\..*",
        ),
        # An encoder without tokens' norm, which is made where the mean is pooled, has no norm at all.
        replace(make_classifier_schema(config), fresh=r"norm\..*"),
        Schema(
            "the official VideoMAE pre-training",
            r"encoder_to_decoder\.weight",
            official,
            aliases=_OFFICIAL_PREFIX,
            ignored=left_behind,
            fresh=r"(norm|head)\..*",
        ),
        Schema(
            "the official VideoMAE",
            r"blocks\.0\.attn\.q_bias|fc_norm\.weight",
            official + same("norm", "fc_norm") + same("head", "head"),
        ),
    )


def make_classifier_schema(config: VideoMAEConfig) -> Schema:
    """State how transformers names the weights of a classifier of this configuration.

    Its classifier normalizes the mean with `fc_norm`, and the tokens with `layernorm` where it takes the first one.
    """
    norm = "fc_norm" if config.pooling == "mean" else "videomae.layernorm"
    rules = _name_encoder(config, 1) + same("norm", norm) + same("head", "classifier")
    sign = r"videomae\.embeddings\.patch_embeddings\.projection\.weight"
    return Schema("transformers' VideoMAE", sign, rules, aliases=_FILE_NAMES)


def make_pretraining_schemas(config: PretrainingConfig) -> tuple[Schema, ...]:
    """List the schemas of files that a pre-training of this configuration can go on from."""
    shared = (
        *same("narrow", "encoder_to_decoder", ("weight",)),
        recast("mask_token", "mask_token", "1 1 dim -> dim"),
        *same("decoder.norm", "decoder.norm"),
        *same("decoder.head", "decoder.head"),
    )
    official = (
        *_name_encoder(config.encoder, 0),
        *_name_blocks(config.encoder, "decoder.blocks.{i}", "decoder.blocks.{i}", 0),
        *same("norm", "encoder.norm"),
        *shared,
    )
    transformers = (
        *_name_encoder(config.encoder, 1),
        *_name_blocks(config.encoder, "decoder.blocks.{i}", "decoder.decoder_layers.{i}", 1),
        *same("norm", "videomae.layernorm"),
        *shared,
    )
    return (
        Schema(
            "transformers' VideoMAE pre-training",
            r"decoder\.decoder_layers\.0\.layernorm_before\.weight",
            transformers,
            aliases=_FILE_NAMES,
        ),
        Schema(
            "the official VideoMAE pre-training",
            r"encoder_to_decoder\.weight",
            official,
            aliases=_OFFICIAL_PREFIX,
        ),
    )


def _list_own_encoder(config: VideoMAEConfig) -> list[str]:
    """List the templates of our own encoder's weights, to take them from a pre-training of our own."""
    layers = ["attention.norm", "attention.out", "mlp.norm", "mlp.widen", "mlp.narrow"]
    keys = [f"encoder.blocks.{{i}}.{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    qkv = ["weight", "query_bias", "value_bias"] if config.qkv_bias == "query_value" else ["weight"]
    keys += [f"encoder.blocks.{{i}}.attention.qkv.{part}" for part in qkv]
    return [*keys, "encoder.embedding.project.weight", "encoder.embedding.project.bias"]


def _name_encoder(config: VideoMAEConfig, column: int) -> tuple[Rule, ...]:
    kt, kh, kw = config.tubelet
    embedding = ("patch_embed.proj", _TRANSFORMERS_EMBEDDING)[column]
    pattern = "dim channel kt kh kw -> dim (channel kt kh kw)"
    return (
        recast("encoder.embedding.project.weight", f"{embedding}.weight", pattern, kt=kt, kh=kh, kw=kw),
        *same("encoder.embedding.project", embedding, ("bias",)),
        *_name_blocks(config, "encoder.blocks.{i}", ("blocks.{i}", "videomae.encoder.layer.{i}")[column], column),
    )


def _name_blocks(config: VideoMAEConfig, ours: str, theirs: str, column: int) -> tuple[Rule, ...]:
    """Name the layers of a stack of blocks, the encoder's or the decoder's."""
    rules = [
        rule for own, names in _BLOCK_LAYERS.items() for rule in same(f"{ours}.{own}", f"{theirs}.{names[column]}")
    ]
    stem = f"{theirs}.{('attn', 'attention.attention')[column]}"
    if column:
        rules.append(join(f"{ours}.attention.qkv.weight", [f"{stem}.{part}.weight" for part in _QKV]))
    else:
        rules += same(f"{ours}.attention.qkv", f"{stem}.qkv", ("weight",))
    if config.qkv_bias == "query_value":
        for own, *names in _BIASES:
            rules.append(Rule((f"{ours}.attention.qkv.{own}",), (f"{stem}.{names[column]}",), carry, carry))
    return tuple(rules)


_QKV = ("query", "key", "value")


def plan_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the hyper-parameters out of a transformers `config.json`: what `create_model` is to change.

    Two of its statements are not taken over. Where MCG-NJU's own small models state 16 heads, 6 are made, with a
    warning: the official model has 6, and tensors of both have the same shapes. And pre-trained folders ask for
    classification from the first token; the mean is used, unless the folder's `architectures` names a classifier that
    was trained so.

    Args:
        config: the file as a dictionary; what it leaves out has transformers' default. `_hub_id` is the hub id
            that the folder is known by.

    Raises:
        ConfigError: a setting that no model here has.
    """
    read = {**_DEFAULTS, **config}
    heads = read["num_attention_heads"]
    if str(read[HUB_KEY]).startswith(_WRONG_HEADS) and heads == 16:
        warn("config.json states 16 heads for VideoMAE small; the official model has 6, which are used.", stacklevel=2)
        heads = 6
    height, width = to_pair(read["image_size"])
    patch_height, patch_width = to_pair(read["patch_size"])
    classifier = "VideoMAEForVideoClassification" in (read["architectures"] or ())
    first = classifier and not read["use_mean_pooling"]
    return {
        "frames": read["num_frames"],
        "height": height,
        "width": width,
        "channels": read["num_channels"],
        "tubelet": (read["tubelet_size"], patch_height, patch_width),
        "dim": read["hidden_size"],
        "depth": read["num_hidden_layers"],
        "heads": heads,
        "mlp_dim": read["intermediate_size"],
        "qkv_bias": "query_value" if read.get("qkv_bias", read["qv_bias"]) else "none",
        "pooling": "first" if first else "mean",
        "gelu": choose_gelu(read["hidden_act"]),
        "eps": read["layer_norm_eps"],
        "final_eps": read["layer_norm_eps"] if first else 1e-5,
        "attention_dropout": float(read["attention_probs_dropout_prob"]),
    }


def describe(config: VideoMAEConfig) -> dict[str, Any]:
    """State a model's hyper-parameters as transformers' `config.json` does.

    Raises:
        ConfigError: transformers has no such VideoMAE.
    """
    needed = config.eps if config.pooling == "first" else 1e-5
    if config.final_eps != needed:
        raise ConfigError(
            f"transformers' VideoMAE has final_eps={needed} - found {config.final_eps} - train it with "
            f"--model.changes.final_eps {needed:g}, or keep it in tubelet's own format."
        )
    pair = [config.tubelet[1], config.tubelet[2]]
    return {
        "image_size": config.height if config.height == config.width else [config.height, config.width],
        "patch_size": pair[0] if pair[0] == pair[1] else pair,
        "num_channels": config.channels,
        "num_frames": config.frames,
        "tubelet_size": config.tubelet[0],
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": name_gelu(config.gelu),
        "attention_probs_dropout_prob": config.attention_dropout,
        "layer_norm_eps": config.eps,
        "qkv_bias": config.qkv_bias == "query_value",
        "use_mean_pooling": config.pooling == "mean",
    }


_WRONG_HEADS = "MCG-NJU/videomae-small"

_DEFAULTS: dict[str, Any] = {
    HUB_KEY: "",
    "architectures": None,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "num_frames": 16,
    "tubelet_size": 2,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "attention_probs_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
    "qv_bias": True,
    "use_mean_pooling": True,
}
