"""Start a model from weights: find the file, tell whose it is, rename, fit, and report what did not match.

    source --find--> files --read--> their tensors --translate--> our names --fit--> the model's sizes --> loaded

Nothing is left out in silence: what the file has and the model does not, what the model has and the file does not, and
what was stretched are in the report; everything else that does not match is an error.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from warnings import warn

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from tubelet.errors import CheckpointError
from tubelet.models.blocks import TubeletEmbedding
from tubelet.models.contract import VideoModel
from tubelet.models.positions import Positions, fit_positions
from tubelet.models.published import find_published
from tubelet.models.weights.archive import check_tensors, read_tensors, strip_wrappers
from tubelet.models.weights.families import FAMILIES, list_schemas, name_origin, plan_config
from tubelet.models.weights.images import Inflation
from tubelet.models.weights.rules import translate
from tubelet.models.weights.source import WeightFiles, find_weights

__all__ = ["WeightReport", "load_found", "load_weights"]

_HEAD = ("head.weight", "head.bias")
_BARE = re.compile(r"(embeddings|encoder|layers|layernorm|pooler)\.(?!(embedding|blocks|norm)\.)")
"""What the keys of a body of transformers begin with; ours follow an encoder's name with their own."""


@dataclass(frozen=True)
class WeightReport:
    """State what loading weights did."""

    source: str
    """What was loaded."""
    origin: str
    """Whose names the file has."""
    loaded: int
    """Tensors that were taken."""
    fresh: tuple[str, ...] = ()
    """Tensors of the model that the file has nothing for; they keep their first values."""
    unused: tuple[str, ...] = ()
    """Tensors of the file that the model has no place for."""
    resized: tuple[str, ...] = ()
    """Tensors that were made for another size, with both shapes."""

    def __str__(self) -> str:
        lines = [f"{self.loaded} tensors from {self.source} ({self.origin})"]
        for name in ("fresh", "unused", "resized"):
            entries = getattr(self, name)
            if entries:
                more = f" and {len(entries) - 4} more" if len(entries) > 4 else ""
                lines.append(f"{name}: {', '.join(entries[:4])}{more}")
        return "; ".join(lines)


def load_weights(
    model: nn.Module,
    source: str | os.PathLike[str] | Mapping[str, Tensor] = "default",
    *,
    classes: Sequence[str] | None = None,
    inflation: Inflation = "central",
) -> WeightReport:
    """Start a model from weights of our own or of another program.

    Weights for another number of frames or another size are fitted: positions are stretched, an embedding of other
    channels is adapted. Those of an image model are inflated. A head for other classes stays as it is.

    Args:
        model: what `create_model` or `create_pretraining` returned; changed in place.
        source: a file (safetensors, .pth, .npz), a run, a model folder, a folder of transformers, `hf://owner/repo`,
            `default` for the source that the model's card names, or a state dict.
        classes: the class names that the model is to have; where the source states others, its head is not taken.
        inflation: how the kernel of an image model becomes one for tubelets: `central` gives it to their middle frame,
            `average` to all frames in equal shares.

    Returns:
        What was loaded, what was not, and what was stretched.

    Raises:
        CheckpointError: a file that is missing, damaged, of another architecture or size, or that would have to be
            executed; names the key, what it should be and what it is. The model is then unchanged.
        ConfigError: `default` for a model that nobody published weights for.

    Example:
        >>> load_weights(model, "hf://MCG-NJU/videomae-base")  # doctest: +SKIP
    """
    if isinstance(source, Mapping):
        return _load(model, dict(source), WeightFiles("a state dict", ()), classes, inflation)
    if os.fspath(source) == "default":
        source = _find_default(model)
    return load_found(model, find_weights(source), classes, inflation)


def load_found(
    model: nn.Module,
    found: WeightFiles,
    classes: Sequence[str] | None = None,
    inflation: Inflation = "central",
    *,
    tensors: dict[str, Tensor] | None = None,
) -> WeightReport:
    """Start a model from files that were found already, and perhaps read; see `load_weights`."""
    return _load(model, read_tensors(found.paths) if tensors is None else tensors, found, classes, inflation)


def _load(
    model: nn.Module,
    given: dict[str, Tensor],
    found: WeightFiles,
    classes: Sequence[str] | None,
    inflation: Inflation,
) -> WeightReport:
    check_tensors(given, found.title)
    given = strip_wrappers(given)
    own = model.state_dict()
    unused: list[str] = []
    origin, may_lack = "tubelet", "$^"
    config = _read_source_config(model, found)
    _warn_of_differences(model, config, found)
    given = _name_bare(given, found)
    schema = next((schema for schema in list_schemas(model, config, inflation) if schema.recognizes(given)), None)
    if schema is not None:
        given, unused = translate(given, schema)
        origin, may_lack = schema.title, schema.fresh
    elif given.keys() != own.keys() and (not any(key in own for key in given) or name_origin(list(given))):
        raise _explain_foreign(model, found, list(given))
    if {"head.weight"} <= given.keys() & own.keys() and not _has_same_classes(
        found, given["head.weight"], own, classes
    ):
        unused = [*unused, *(key for key in _HEAD if key in given)]
        given = {key: value for key, value in given.items() if key not in _HEAD}
    fitted, resized = _fit(model, given, found.title)
    fresh = tuple(key for key in own if key not in fitted)
    wrong = [key for key in fresh if key not in _HEAD and not re.fullmatch(may_lack, key)]
    if wrong:
        raise CheckpointError(
            f"cannot load {found.title!r} into {_name(model)} - '{wrong[0]}' should be {tuple(own[wrong[0]].shape)}, "
            f"found nothing under that name ({len(wrong)} of {len(own)} are missing) - the weights are of another "
            "architecture or form, or incomplete."
        )
    model.load_state_dict({**own, **fitted})
    return WeightReport(found.title, origin, len(fitted), fresh, tuple(unused), tuple(resized))


_UNSEEN = ("heads", "gelu", "eps", "final_eps", "pooling", "pooler_heads", "pooler_eps", "qkv_bias")
"""Hyper-parameters that change what weights compute, and of which their shapes say nothing."""

_SMALL_EPS = 1e-5


def _warn_of_differences(model: nn.Module, config: Any, found: WeightFiles) -> None:
    """Say where a source was made for another model of the same shapes."""
    own = getattr(model, "config", None)
    differ = [
        f"{name} {getattr(config, name)} (here {getattr(own, name)})"
        for name in _UNSEEN
        if hasattr(own, name) and hasattr(config, name) and _differ(getattr(own, name), getattr(config, name))
    ]
    if differ:
        warn(
            f"{found.title} was made with {', '.join(differ)}: its weights are loaded, and compute something else - "
            "tubelet.load, or --weights without --model, takes these settings over.",
            stacklevel=4,
        )


def _differ(own: Any, other: Any) -> bool:
    """Tell whether two settings compute something else; small numbers added to variances do not."""
    if isinstance(own, float) and isinstance(other, float):
        return own != other and max(own, other) > _SMALL_EPS
    return bool(own != other)


def _name_bare(given: dict[str, Tensor], found: WeightFiles) -> dict[str, Tensor]:
    """Put the model's name before the keys of a folder that holds a body alone, as transformers does with a head.

    Without it a clip's embedding and a picture's have the same names.
    """
    kind = found.settings.get("model_type")
    if kind not in list(FAMILIES) or any(key.startswith(f"{kind}.") for key in given):
        return given
    return {f"{kind}.{key}" if _BARE.match(key) else key: value for key, value in given.items()}


def _find_default(model: nn.Module) -> str:
    return find_published(_name(model)).source


def _read_source_config(model: nn.Module, found: WeightFiles) -> Any:
    """Return the configuration that the weights were made for, as far as it is known."""
    if not isinstance(model, VideoModel) or not found.is_transformers:
        return model.config
    if found.settings["model_type"] != model.card.architecture:
        return model.config
    return plan_config(found.settings, found.title) or model.config


def _has_same_classes(
    found: WeightFiles, weight: Tensor, own: Mapping[str, Tensor], classes: Sequence[str] | None
) -> bool:
    """Tell whether the head of the source says the same as the model's: as many classes, and where known the same."""
    if weight.shape != own["head.weight"].shape:
        return weight.shape[1:] != own["head.weight"].shape[1:]  # another width is an error, told with its shapes
    if classes is None:
        return True
    stated, labels = found.settings.get("classes"), found.settings.get("id2label")
    if stated is None and isinstance(labels, Mapping):
        stated = [labels.get(str(index)) for index in range(len(labels))]
    return not stated or stated == list(classes)


def _fit(model: nn.Module, given: Mapping[str, Tensor], title: str) -> tuple[dict[str, Tensor], list[str]]:
    """Bring tensors to the model's sizes where that has a meaning.

    Raises:
        CheckpointError: a tensor that the model does not have, or one of another shape.
    """
    own, fitted, resized = model.state_dict(), {}, []
    unknown = next((key for key in given if key not in own), None)
    if unknown is not None:
        raise CheckpointError(
            f"cannot load {title!r} into {_name(model)} - '{unknown}' of shape {tuple(given[unknown].shape)} belongs "
            "to no part of the model - the weights are of another architecture, form or depth."
        )
    for key, value in given.items():
        wanted = own[key]
        if wanted.is_floating_point() and not value.is_floating_point():
            raise CheckpointError(
                f"cannot load {title!r} into {_name(model)} - '{key}' should hold {_say(wanted.dtype)}, found "
                f"{_say(value.dtype)} - save the weights as floating-point numbers."
            )
        if value.shape != wanted.shape:
            changed = _change_size(model, key, value, wanted)
            if changed is None or changed.shape != wanted.shape:
                raise CheckpointError(
                    f"cannot load {title!r} into {_name(model)} - '{key}' should be {tuple(wanted.shape)}, found "
                    f"{tuple(value.shape)} - the weights are of another size; create the model with theirs."
                )
            resized.append(f"{key} {tuple(value.shape)} -> {tuple(wanted.shape)}")
            fitted[key] = changed.to(wanted.dtype)
        else:
            fitted[key] = value.to(wanted.dtype)
        if not fitted[key].isfinite().all():
            raise CheckpointError(
                f"cannot load {title!r} into {_name(model)} - '{key}' should hold finite {_say(wanted.dtype)}, found "
                "NaN or infinity - the file is damaged, or its training failed; take another copy."
            )
    return fitted, resized


def _say(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _change_size(model: nn.Module, key: str, value: Tensor, wanted: Tensor) -> Tensor | None:
    """Stretch positions, or adapt the channels of the layer that reads the clip; None for everything else."""
    stem, _, part = key.rpartition(".")
    module = model.get_submodule(stem) if stem else model
    if isinstance(module, Positions) and part == "grid" and value.ndim == 4 and value.shape[3] == wanted.shape[3]:
        return fit_positions(value.float(), module.size, module.stretch)
    if key.endswith("embedding.project.weight"):
        embedding = model.get_submodule(stem.rpartition(".")[0])
        if isinstance(embedding, TubeletEmbedding):
            voxels = int(torch.tensor(embedding.tubelet).prod())
            if value.ndim == 2 and value.shape[1] % voxels == 0:
                kernel = rearrange(value, "dim (channel voxel) -> dim channel voxel", voxel=voxels)
                adapted = _change_channels(kernel, wanted.shape[1] // voxels)
                return rearrange(adapted, "dim channel voxel -> dim (channel voxel)")
    if key == "body.conv_1a.conv.weight" and value.ndim == 5:
        flat = rearrange(value, "dim channel t h w -> dim channel (t h w)")
        adapted = _change_channels(flat, wanted.shape[1])
        return rearrange(adapted, "dim channel (t h w) -> dim channel t h w", t=value.shape[2], h=value.shape[3])
    return None


def _change_channels(kernel: Tensor, channels: int) -> Tensor:
    """Make a kernel (dim, channel, voxel) read another number of channels.

    Twice as many: nothing from the second half, where differences stand. Fewer: each an equal share of the sum. Any
    other number: the old ones again and again, in shares. A gray clip repeated in all channels gives what it gave.
    """
    found = kernel.shape[1]
    if channels == 2 * found:
        return torch.cat([kernel, torch.zeros_like(kernel)], dim=1)
    if channels < found:
        total = reduce(kernel, "dim channel voxel -> dim 1 voxel", "sum")
        return repeat(total / channels, "dim 1 voxel -> dim channel voxel", channel=channels)
    source = torch.arange(channels) % found
    shares = torch.bincount(source, minlength=found)[source]
    return kernel[:, source] / shares[:, None]


def _explain_foreign(model: nn.Module, found: WeightFiles, keys: list[str]) -> CheckpointError:
    origin = name_origin(keys)
    what = f"they are those of {origin}" if origin else f"its keys, such as '{keys[0]}', are of no program known here"
    return CheckpointError(
        f"cannot load {found.title!r} into {_name(model)} - {what} - choose the model that they belong to."
    )


def _name(model: nn.Module) -> str:
    return str(model.config.name) if isinstance(model, VideoModel) else type(model).__name__
