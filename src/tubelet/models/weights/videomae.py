"""Turn published VideoMAE weights into ours: the official project's files and transformers' folders.

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

What comes out of a pre-training file fits `VideoMAEPretraining`, what comes out of a fine-tuned one fits `VideoMAE`;
load them strictly. The maps read nothing and change nothing.
"""

import re
from collections.abc import Mapping
from typing import Any
from warnings import warn

import torch
from jaxtyping import Shaped
from torch import Tensor

from tubelet.errors import CheckpointError, ConfigError
from tubelet.models.blocks import TubeletEmbedding

__all__ = ["from_official", "from_transformers", "plan_changes"]

_Rules = tuple[tuple[str, str], ...]

_OFFICIAL: _Rules = (
    (r"(?:encoder\.)?patch_embed\.proj\.(weight|bias)", r"encoder.embedding.project.\1"),
    (r"(decoder\.|)(?:encoder\.)?blocks\.(\d+)\.norm1\.(weight|bias)", r"\1|blocks.\2.attention.norm.\3"),
    (r"(decoder\.|)(?:encoder\.)?blocks\.(\d+)\.norm2\.(weight|bias)", r"\1|blocks.\2.mlp.norm.\3"),
    (r"(decoder\.|)(?:encoder\.)?blocks\.(\d+)\.attn\.qkv\.weight", r"\1|blocks.\2.attention.qkv.weight"),
    (r"(decoder\.|)(?:encoder\.)?blocks\.(\d+)\.attn\.q_bias", r"\1|blocks.\2.attention.qkv.query_bias"),
    (r"(decoder\.|)(?:encoder\.)?blocks\.(\d+)\.attn\.v_bias", r"\1|blocks.\2.attention.qkv.value_bias"),
    (r"(decoder\.|)(?:encoder\.)?blocks\.(\d+)\.attn\.proj\.(weight|bias)", r"\1|blocks.\2.attention.out.\3"),
    (r"(decoder\.|)(?:encoder\.)?blocks\.(\d+)\.mlp\.fc1\.(weight|bias)", r"\1|blocks.\2.mlp.widen.\3"),
    (r"(decoder\.|)(?:encoder\.)?blocks\.(\d+)\.mlp\.fc2\.(weight|bias)", r"\1|blocks.\2.mlp.narrow.\3"),
    (r"(?:encoder\.norm|fc_norm|norm)\.(weight|bias)", r"norm.\1"),
    (r"head\.(weight|bias)", r"head.\1"),
    (r"encoder_to_decoder\.weight", r"narrow.weight"),
    (r"mask_token", r"mask_token"),
    (r"decoder\.(norm|head)\.(weight|bias)", r"decoder.\1.\2"),
)

_LAYER = r"(?:videomae\.encoder\.layer|(decoder\.)decoder_layers)\.(\d+)"

_TRANSFORMERS: _Rules = (
    (r"videomae\.embeddings\.patch_embeddings\.projection\.(weight|bias)", r"encoder.embedding.project.\1"),
    (_LAYER + r"\.layernorm_before\.(weight|bias)", r"\1|blocks.\2.attention.norm.\3"),
    (_LAYER + r"\.layernorm_after\.(weight|bias)", r"\1|blocks.\2.mlp.norm.\3"),
    (_LAYER + r"\.attention\.attention\.(query|key|value)\.weight", r"\1|blocks.\2.attention.qkv.\3"),
    (_LAYER + r"\.attention\.attention\.(?:q_bias|query\.bias)", r"\1|blocks.\2.attention.qkv.query_bias"),
    (_LAYER + r"\.attention\.attention\.(?:v_bias|value\.bias)", r"\1|blocks.\2.attention.qkv.value_bias"),
    (_LAYER + r"\.attention\.output\.dense\.(weight|bias)", r"\1|blocks.\2.attention.out.\3"),
    (_LAYER + r"\.intermediate\.dense\.(weight|bias)", r"\1|blocks.\2.mlp.widen.\3"),
    (_LAYER + r"\.output\.dense\.(weight|bias)", r"\1|blocks.\2.mlp.narrow.\3"),
    (r"(?:fc_norm|videomae\.layernorm)\.(weight|bias)", r"norm.\1"),
    (r"classifier\.(weight|bias)", r"head.\1"),
    (r"encoder_to_decoder\.weight", r"narrow.weight"),
    (r"mask_token", r"mask_token"),
    (r"decoder\.(norm|head)\.(weight|bias)", r"decoder.\1.\2"),
)


def from_official(state_dict: Mapping[str, Shaped[Tensor, "..."]]) -> dict[str, Tensor]:
    """Map the weights of an official file, pre-trained or fine-tuned, to ours.

    Args:
        state_dict: what the file holds under `model` or `module`.

    Raises:
        CheckpointError: a key that VideoMAE does not have, such as those of LayerScale or learned positions.

    Source: github.com/MCG-NJU/VideoMAE, modeling_finetune.py and modeling_pretrain.py.
    """
    return _finish(_rename(state_dict, _OFFICIAL, "the official VideoMAE"))


def from_transformers(state_dict: Mapping[str, Shaped[Tensor, "..."]]) -> dict[str, Tensor]:
    """Map the weights of a transformers folder, pre-trained or for classification, to ours.

    Both names of the biases are taken: `q_bias` and `v_bias`, as the folders hold them, and `query.bias` and
    `value.bias`, as transformers 5 has them in memory.

    Raises:
        CheckpointError: a key that VideoMAE does not have, or a block that lacks query, key or value.
    """
    named = _rename(state_dict, _TRANSFORMERS, "transformers' VideoMAE")
    for key in [key for key in named if key.endswith(".qkv.query")]:
        stem = key.removesuffix("query")
        parts = [named.pop(f"{stem}{part}", None) for part in ("query", "key", "value")]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            raise CheckpointError(
                f"{stem}weight needs query, key and value - found {len(found)} of them - "
                "the file is incomplete; fetch it again."
            )
        named[f"{stem}weight"] = torch.cat(found)
    return _finish(named)


def plan_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the hyper-parameters out of the `config.json` of a transformers folder: what `create_model` is to change.

    Two of its statements are not taken over. Of 16 heads in the small size, 6 are made, with a warning: the official
    model has 6, and tensors of both have the same shapes. And pre-trained folders ask for classification from the
    first token; the mean is used, unless the folder's `architectures` names a classifier that was trained so.

    Args:
        config: the file as a dictionary; what it leaves out has transformers' default.

    Raises:
        ConfigError: a setting that no model here has.
    """
    read = {**_DEFAULTS, **config}
    if read["hidden_act"] != "gelu":
        raise ConfigError(f"hidden_act must be gelu - found {read['hidden_act']} - other activations are not offered.")
    heads = read["num_attention_heads"]
    if (read["hidden_size"], heads) == (384, 16):
        warn("config.json states 16 heads for VideoMAE small; the official model has 6, which are used.", stacklevel=2)
        heads = 6
    height, width = _to_pair(read["image_size"])
    patch_height, patch_width = _to_pair(read["patch_size"])
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
        "eps": read["layer_norm_eps"],
        "final_eps": read["layer_norm_eps"] if first else 1e-5,
    }


_DEFAULTS: dict[str, Any] = {
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
    "layer_norm_eps": 1e-12,
    "qv_bias": True,
    "use_mean_pooling": True,
}


def _to_pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _rename(state: Mapping[str, Tensor], rules: _Rules, source: str) -> dict[str, Tensor]:
    """Rename every key by the one rule that it matches; a `|` stands for the encoder where nothing is before it."""
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, ours in rules:
            match = re.fullmatch(pattern, key)
            if match:
                stem, bar, rest = match.expand(ours).rpartition("|")
                named[(stem or "encoder.") + rest if bar else rest] = value
                break
        else:
            raise CheckpointError(
                f"{source} has no weight '{key}' - found it among {len(state)} keys - "
                "is this a file of another model, or are its keys still under a prefix?"
            )
    return named


def _finish(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring the kernel of the embedding and the mask token into our shapes."""
    kernel = named.get("encoder.embedding.project.weight")
    if kernel is not None:
        named["encoder.embedding.project.weight"] = TubeletEmbedding.flatten_kernel(kernel)
    if "mask_token" in named:
        named["mask_token"] = named["mask_token"].flatten()
    return named
