"""Start video models from image models: inflate what is new in a clip, so that at first it changes nothing.

    image ViT, timm's or transformers' names        ViViT                              TimeSformer
    patch embedding  (dim, channel, kh, kw)         inflated along time, see below     as it is
    positions        (1, 1 + h*w, dim)              repeated at every moment           places; moments start at zero
    attention, MLP, norms of every block            the same; of factorized attention  the same; time starts as a copy
                                                    across the picture; along time a   of it, its projection at zero
                                                    copy whose output starts at zero   (other steps alike)

    central    the middle frame of a tubelet gets the whole kernel, the others nothing
    average    every frame gets an equal share: a clip that stands still gives what its picture gave

Time starts as a copy with its *last* layer at zero, never with all layers at zero: there all gradients would be zero
for ever. The factorized encoder's second encoder has no counterpart in an image model, and stays fresh. A flat
Inception becomes an I3D by repeating every kernel along time and dividing it by the number of times.

In TimeSformer's forms local_global and axial no step sees a whole frame, as each of an image model does: a still clip
gives at first what the image model would give if patches saw every second patch alone, or their column.

Source: arXiv 2103.15691, section 3.4; arXiv 2102.05095; arXiv 1705.07750, section 2.
"""

from typing import Literal

import torch
from einops import rearrange, repeat
from torch import Tensor

from tubelet.models.i3d_config import I3DConfig
from tubelet.models.timesformer_config import STEPS, TimeSformerConfig
from tubelet.models.vivit_config import ViViTConfig
from tubelet.models.weights.i3d import COUNTER, list_units
from tubelet.models.weights.rules import Carry, Rule, Schema, carry, same
from tubelet.models.weights.settings import MEMORY_NAMES
from tubelet.models.weights.vivit import infer_grid
from tubelet.shapes import Size3

__all__ = ["Inflation", "inflate_i3d", "inflate_kernel", "inflate_timesformer", "inflate_vivit"]

Inflation = Literal["central", "average"]

_TIMM = {
    "class_token": "cls_token",
    "positions": "pos_embed",
    "embedding": "patch_embed.proj",
    "block": "blocks.{i}",
    "norm1": "norm1",
    "out": "attn.proj",
    "norm2": "norm2",
    "widen": "mlp.fc1",
    "narrow": "mlp.fc2",
    "norm": "norm",
    "head": "head",
}
_TRANSFORMERS = {
    "class_token": "vit.embeddings.cls_token",
    "positions": "vit.embeddings.position_embeddings",
    "embedding": "vit.embeddings.patch_embeddings.projection",
    "block": "vit.encoder.layer.{i}",
    "norm1": "layernorm_before",
    "out": "attention.output.dense",
    "norm2": "layernorm_after",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "norm": "vit.layernorm",
    "head": "classifier",
}
_TRANSFORMERS_ALIASES = (
    (r"^(embeddings|encoder|layers|layernorm)\.", r"vit.\1."),
    (r"^vit\.layers\.", "vit.encoder.layer."),
    *MEMORY_NAMES,
)
_IGNORED = r"(vit\.)?pooler\..*|pre_logits\..*|fc_norm\..*|head_dist\..*|dist_token"


def inflate_kernel(kernel: Tensor, frames: int, inflation: Inflation) -> Tensor:
    """Make a kernel for pictures, (dim, channel, kh, kw), one for tubelets, (dim, channel, frames, kh, kw)."""
    if inflation == "average":
        return repeat(kernel, "dim channel kh kw -> dim channel kt kh kw", kt=frames) / frames
    inflated = kernel.new_zeros(*kernel.shape[:2], frames, *kernel.shape[2:])
    inflated[:, :, frames // 2] = kernel
    return inflated


def inflate_vivit(config: ViViTConfig, inflation: Inflation) -> tuple[Schema, ...]:
    """List the schemas of image transformers that a ViViT of this configuration can be started from."""
    frames = config.tubelet[0] if config.tokenizer == "tubelet" else 1

    def embed(kernel: Tensor) -> tuple[Tensor, ...]:
        inflated = inflate_kernel(kernel, frames, inflation)
        return (rearrange(inflated, "dim channel kt kh kw -> dim (channel kt kh kw)"),)

    moments = 1 if config.form == "factorized_encoder" else config.grid.t
    token = config.pooling == "token"
    parts, zero = (("space", "time"), ("time.out",)) if config.form == "factorized_attention" else (("attention",), ())
    fresh = r"temporal_encoder\..*|head\..*" if config.form == "factorized_encoder" else r"head\..*"
    schemas = []
    for names, title in ((_TRANSFORMERS, "transformers' ViT"), (_TIMM, "timm's ViT")):
        rules = [
            _place(["encoder.positions.token", "encoder.positions.grid"], names, config.grid, moments, token=token),
            Rule(("embedding.project.weight",), (f"{names['embedding']}.weight",), embed),
            *same("embedding.project", names["embedding"], ("bias",)),
            *_name_blocks(names, "encoder.blocks.{i}", parts, zero),
            *same("encoder.norm", names["norm"]),
            *same("head", names["head"]),
        ]
        if token:
            rules.append(Rule(("encoder.class_token",), (names["class_token"],), _flatten))
        schemas.append(_make_schema(title, names, rules, fresh, token=token))
    return tuple(schemas)


def inflate_timesformer(config: TimeSformerConfig, _inflation: Inflation) -> tuple[Schema, ...]:
    """List the schemas of image transformers that a TimeSformer of this configuration can be started from."""

    def embed(kernel: Tensor) -> tuple[Tensor, ...]:
        return (rearrange(kernel, "dim channel kh kw -> dim (channel kh kw)"),)

    def start(token: Tensor) -> tuple[Tensor, ...]:
        flat = token.flatten()
        return (flat, flat.new_zeros(config.grid.t, 1, 1, flat.shape[0]))

    blind = config.form == "space_only"
    parts = STEPS.get(config.form, ("attention",))
    zero = tuple(f"{step}_project" for step in parts[:-1])
    schemas = []
    for names, title in ((_TRANSFORMERS, "transformers' ViT"), (_TIMM, "timm's ViT")):
        token_key = (names["class_token"],)
        rules = [
            Rule(("class_token",), token_key, _flatten)
            if blind
            else Rule(("class_token", "moments.grid"), token_key, start),
            _place(["places.token", "places.grid"], names, Size3(1, *config.grid[1:]), 1, token=True),
            Rule(("embedding.project.weight",), (f"{names['embedding']}.weight",), embed),
            *same("embedding.project", names["embedding"], ("bias",)),
            *_name_blocks(names, "blocks.{i}", parts, zero),
            *same("norm", names["norm"]),
            *same("head", names["head"]),
        ]
        schemas.append(_make_schema(title, names, rules, r"head\..*", token=True))
    return tuple(schemas)


def inflate_i3d(_config: I3DConfig, _inflation: Inflation) -> tuple[Schema, ...]:
    """List the schemas of two-dimensional Inceptions that an I3D can be started from: torchvision's GoogLeNet.

    Its kernels are those of the network that I3D inflates, 3 x 3 where the paper's first version has 5 x 5. Its
    convolutions pad both sides alike, I3D's as TensorFlow does: at even sizes features are half a stride apart.

    Source: github.com/pytorch/vision, torchvision/models/googlenet.py.
    """
    branches = {"branch1": "0.0", "branch2.0": "1.0", "branch2.1": "1.1", "branch3.0": "2.0", "branch3.1": "2.1"}
    rules = [Rule(("head.weight",), ("fc.weight",), carry), Rule(("head.bias",), ("fc.bias",), carry)]
    stem = {"1a_7x7": "conv1", "2b_1x1": "conv2", "2c_3x3": "conv3"}
    blocks = dict(zip(("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"), _GOOGLENET_BLOCKS, strict=True))
    for name, ours in list_units("", "", {**branches, "branch4.1": "3.1"}).items():
        block, _, branch = name.partition(".")
        theirs = f"{blocks[block]}.{branch}" if branch else stem[name]
        rules.append(Rule((f"{ours}.conv.weight",), (f"{theirs}.conv.weight",), _inflate_cube))
        rules += same(f"{ours}.norm", f"{theirs}.bn", ("weight", "bias", "running_mean", "running_var", COUNTER))
    return (
        Schema(
            "torchvision's GoogLeNet",
            r"inception3a\.branch1\.conv\.weight",
            tuple(rules),
            ignored=r"aux[12]\..*",
            fresh=rf"head\..*|.*\.{COUNTER}",
        ),
    )


_GOOGLENET_BLOCKS = tuple(f"inception{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"))


def _inflate_cube(kernel: Tensor) -> tuple[Tensor, ...]:
    """Make a square kernel a cube: as long in time as it is wide."""
    return (inflate_kernel(kernel, kernel.shape[-1], "average"),)


def _flatten(token: Tensor) -> tuple[Tensor, ...]:
    return (token.flatten(),)


def _make_schema(title: str, names: dict[str, str], rules: list[Rule], fresh: str, *, token: bool) -> Schema:
    ignored = _IGNORED if token else rf"{_IGNORED}|{names['class_token']}"
    sign = rf"{names['positions']}"
    aliases = _TRANSFORMERS_ALIASES if names is _TRANSFORMERS else ()
    return Schema(title, sign.replace(".", r"\."), tuple(rules), aliases, ignored, fresh)


def _name_blocks(names: dict[str, str], ours: str, parts: tuple[str, ...], zero: tuple[str, ...]) -> list[Rule]:
    """Name the layers of a stack of blocks: all attentions are copies of the image model's; `zero` layers are zero."""
    block = names["block"]
    rules = [
        *same(f"{ours}.mlp.norm", f"{block}.{names['norm2']}"),
        *same(f"{ours}.mlp.widen", f"{block}.{names['widen']}"),
        *same(f"{ours}.mlp.narrow", f"{block}.{names['narrow']}"),
    ]
    separate = names is _TRANSFORMERS
    for kind in ("weight", "bias"):
        qkv = [f"{block}.attn.qkv.{kind}"]
        if separate:
            qkv = [f"{block}.attention.attention.{name}.{kind}" for name in ("query", "key", "value")]
        copies = tuple(f"{ours}.{name}.qkv.{kind}" for name in parts)
        rules.append(Rule(copies, tuple(qkv), _join_copies(len(parts))))
        norms = tuple(f"{ours}.{name}.norm.{kind}" for name in parts)
        rules.append(Rule(norms, (f"{block}.{names['norm1']}.{kind}",), _join_copies(len(parts))))
        copied = [f"{name}.out" for name in parts if f"{name}.out" not in zero]
        outs = tuple(f"{ours}.{name}.{kind}" for name in (*copied, *zero))
        rules.append(Rule(outs, (f"{block}.{names['out']}.{kind}",), _copy_or_zero(len(copied), len(zero))))
    return rules


def _join_copies(count: int) -> Carry:
    def into(*values: Tensor) -> tuple[Tensor, ...]:
        joined = torch.cat(values)
        return tuple(joined.clone() for _ in range(count))

    return into


def _copy_or_zero(copies: int, zeros: int) -> Carry:
    def into(value: Tensor) -> tuple[Tensor, ...]:
        return (*(value.clone() for _ in range(copies)), *(torch.zeros_like(value) for _ in range(zeros)))

    return into


def _place(ours: list[str], names: dict[str, str], grid: Size3, moments: int, *, token: bool) -> Rule:
    """State how the positions of a picture become those of a clip: the same at each of `moments` moments."""

    def into(row: Tensor) -> tuple[Tensor, ...]:
        size = infer_grid(row.shape[1] - 1, Size3(1, grid.h, grid.w))
        placed = rearrange(row[0, 1:], "(h w) dim -> 1 h w dim", h=size.h, w=size.w)
        placed = repeat(placed, "1 h w dim -> t h w dim", t=moments).clone()
        return (row[0, 0], placed) if token else (placed,)

    return Rule(tuple(ours if token else ours[1:]), (names["positions"],), into)
