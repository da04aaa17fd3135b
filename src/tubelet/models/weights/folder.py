"""Read a folder of transformers as a model with its input contract and class names, and write one.

    config.json                 architecture, sizes, labels, precision
    preprocessor_config.json    size, crop, range        (absent: the official model's own contract, and a warning)
    model.safetensors           weights by transformers' names

What a folder says is followed to the letter, so that its logits are those of transformers; where the published folder
contradicts the training of its weights (see `plan_changes` of each family, and `read_input`), a warning says so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple
from warnings import warn

import torch
from safetensors.torch import save

from tubelet import files
from tubelet.errors import CheckpointError, ConfigError, TubeletError, name_nearest
from tubelet.models.card import ModelCard, ModelConfig, change_config
from tubelet.models.contract import VideoModel, build_model, find_card, list_models
from tubelet.models.weights.families import FAMILIES
from tubelet.models.weights.loading import WeightReport, load_found
from tubelet.models.weights.rules import translate_back
from tubelet.models.weights.source import CONFIG_NAME, PREPROCESSOR_NAMES, WEIGHTS_NAME, WeightFiles
from tubelet.video.spec import InputSpec

__all__ = ["FolderModel", "FolderPlan", "plan_folder", "read_folder", "read_input", "write_folder"]

_PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
_KINETICS_CLASSES = 400


class FolderModel(NamedTuple):
    """Hold what a folder of transformers describes."""

    model: VideoModel
    input_spec: InputSpec
    classes: tuple[str, ...]
    report: WeightReport


class FolderPlan(NamedTuple):
    """Hold what a folder of transformers says about its model, before any weight is read."""

    config: ModelConfig
    card: ModelCard
    """The registered model that it differs least from."""
    classes: tuple[str, ...]
    input_spec: InputSpec


def plan_folder(found: WeightFiles) -> FolderPlan:
    """Read what a folder of transformers says about its model.

    Raises:
        CheckpointError: an architecture that nobody has here, or a damaged file.
    """
    kind = str(found.settings.get("model_type"))
    family = FAMILIES.get(kind)
    if family is None or family.plan_changes is None:
        known = [name for name, family in FAMILIES.items() if family.plan_changes]
        near = name_nearest(kind, known) or " -"
        raise CheckpointError(
            f"cannot load {found.title!r} - its {CONFIG_NAME} describes a {kind!r}{near} Folders of "
            f"{', '.join(known)} can be loaded."
        )
    try:
        config = change_config(find_card(family.base).config, family.plan_changes(found.settings))
        card = _find_nearest(kind, config)
        classes = _read_classes(found)
        config = replace(config, name=card.name, num_classes=len(classes))
    except (TubeletError, TypeError, ValueError, ArithmeticError, RuntimeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"cannot load {found.title!r} - its {CONFIG_NAME} says: {error} - fetch it again."
        ) from None
    return FolderPlan(config, card, classes, read_input(found, card, config))


def read_folder(found: WeightFiles) -> FolderModel:
    """Build the classifier that a folder of transformers describes, with its weights.

    Raises:
        CheckpointError: an architecture that nobody has here, a folder without a classifier, or damaged files.
    """
    plan = plan_folder(found)
    model = build_model(plan.config)
    report = load_found(model, found)
    if any(key.startswith("head.") for key in report.fresh):
        raise CheckpointError(
            f"cannot classify with {found.title!r} - it holds no classifier, only what one can be trained from - "
            f"'tubelet train DATA --weights {found.title}' trains one."
        )
    model.to(_read_precision(found.settings)).eval()
    return FolderModel(model, plan.input_spec, plan.classes, report)


def _find_nearest(architecture: str, config: ModelConfig) -> ModelCard:
    """Find the registered model that differs least from a configuration: its name and its sampling are used."""
    cards = [find_card(name) for name in list_models()]
    own = [card for card in cards if card.architecture == architecture]

    def count_differences(card: ModelCard) -> tuple[bool, int]:
        names = [field.name for field in fields(config) if field.name not in ("name", "num_classes")]
        form = getattr(card.config, "form", None) != getattr(config, "form", None)
        return form, sum(getattr(card.config, name) != getattr(config, name) for name in names)

    return min(own, key=count_differences)


def _read_classes(found: WeightFiles) -> tuple[str, ...]:
    """Read the class names in index order; transformers names those that nobody named LABEL_0, LABEL_1 ..."""
    labels = found.settings.get("id2label")
    if not labels:
        return tuple(f"LABEL_{index}" for index in range(int(found.settings.get("num_labels", 2))))
    names = {int(index): str(label) for index, label in labels.items()}
    if sorted(names) != list(range(len(names))):
        raise ConfigError(f"id2label should name classes 0 to {len(names) - 1} - found {sorted(names)[:5]} ...")
    return tuple(names[index] for index in range(len(names)))


def _read_precision(settings: Mapping[str, Any]) -> torch.dtype:
    name = str(settings.get("dtype") or settings.get("torch_dtype") or "float32").removeprefix("torch.")
    if name not in _PRECISIONS:
        raise CheckpointError(f"cannot load weights of dtype {name!r} - {', '.join(_PRECISIONS)} are known.")
    return _PRECISIONS[name]


def read_input(found: WeightFiles, card: ModelCard, config: ModelConfig) -> InputSpec:
    """Turn a folder's preprocessing into an input contract.

    Args:
        found: the folder.
        card: whose sampling of frames is used, since folders do not state any.
        config: frames, size, channels and classes of the model.

    Google published that model with a preprocessor that normalizes twice, to -3..1, while the model was trained on
    -1..1: it gets what it was trained on, and a warning says how to get the other.
    """
    official = card.input_spec
    spec = replace(
        official,
        frames=config.frames,
        height=config.height,
        width=config.width,
        channels=config.channels,
        mean=official.mean if len(official.mean) in (1, config.channels) else official.mean[:1],
        std=official.std if len(official.std) in (1, config.channels) else official.std[:1],
        differences="none",
    )
    stated = found.preprocessing
    if not stated:
        warn(
            f"{found.title} states no preprocessing; that of {card.name} is used: mean {spec.mean}, std {spec.std}.",
            stacklevel=2,
        )
        return spec
    spec = _read_geometry(stated, spec, found.title)
    mean, std = _read_range(stated, config.channels)
    twice = stated.get("offset") and stated.get("do_normalize", True) and stated.get("do_rescale", True)
    if card.architecture == "vivit" and twice and config.num_classes == _KINETICS_CLASSES:
        warn(
            f"{found.title} normalizes twice, to -3..1; its weights were trained on -1..1, which is used. "
            f"For the other: dataclasses.replace(input_spec, mean={mean}, std={std}).",
            stacklevel=2,
        )
        return replace(spec, mean=(0.5,), std=(0.5,))
    return replace(spec, mean=mean, std=std)


def _read_geometry(stated: Mapping[str, Any], spec: InputSpec, title: str) -> InputSpec:
    """Read how frames reach the model's size."""
    if stated.get("resample", 2) not in (2, "bilinear"):
        warn(f"{title} scales with filter {stated['resample']}; bilinear with antialiasing is used.", stacklevel=3)
    size, crop = stated.get("size") or {}, stated.get("crop_size") or {}
    if isinstance(size, int):
        size = {"shortest_edge": size}
    short = size.get("shortest_edge")
    crops = stated.get("do_center_crop", True)
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    final = (crop.get("height"), crop.get("width")) if crops and crop else (size.get("height"), size.get("width"))
    if None not in final and final != (spec.height, spec.width):
        warn(f"{title} crops to {final}, its model takes {(spec.height, spec.width)}, which is used.", stacklevel=3)
    if not stated.get("do_resize", True) or not size:
        return spec
    if short is None:
        if crops and crop and (size.get("height"), size.get("width")) != final:
            warn(
                f"{title} stretches to {size} before it crops; frames are stretched to the crop instead.", stacklevel=3
            )
        return replace(spec, fit="stretch")
    covers = int(short) > max(spec.height, spec.width)
    return replace(spec, fit="crop", short_side=int(short) if covers else None)


def _read_range(stated: Mapping[str, Any], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read mean and deviation for values in 0..1 from a rescaling, an offset and a normalization."""
    scale = float(stated.get("rescale_factor", 1 / 255)) if stated.get("do_rescale", True) else 1.0
    offset = 1.0 if stated.get("offset") and stated.get("do_rescale", True) else 0.0
    means: tuple[float, ...] = (0.0,)
    stds: tuple[float, ...] = (1.0,)
    if stated.get("do_normalize", True):
        means = _to_numbers(stated.get("image_mean", 0.5))
        stds = _to_numbers(stated.get("image_std", 0.5))
    if len(means) not in (1, channels) or len(stds) not in (1, channels):
        raise CheckpointError(
            f"cannot use a preprocessor with {len(means)} means for {channels} channels - the folder contradicts "
            "itself - correct its preprocessor_config.json."
        )
    gain = 255 * scale
    return tuple((offset + mean) / gain for mean in means), tuple(std / gain for std in stds)


def _to_numbers(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) else tuple(float(number) for number in value)


def write_folder(model: VideoModel, input_spec: InputSpec, classes: Sequence[str], folder: str | Path) -> None:
    """Write a model as a folder that transformers loads, with the same logits.

    Args:
        model: of an architecture and form that transformers has.
        input_spec: written as `preprocessor_config.json`; what transformers cannot say is an error.
        classes: class names in index order.
        folder: takes the place of an existing one.

    Raises:
        ConfigError: transformers has no such model, or no such preprocessing.
    """
    family = FAMILIES.get(model.card.architecture)
    if family is None or family.describe is None or family.make_own is None:
        known = [name for name, family in FAMILIES.items() if family.describe]
        raise ConfigError(
            f"transformers has no {model.card.architecture} - found {model.config.name} - {', '.join(known)} can be "
            "written for it."
        )
    settings = {
        "architectures": [family.class_name],
        "model_type": model.card.architecture,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        **family.describe(model.config),
        "id2label": {str(index): name for index, name in enumerate(classes)},
        "label2id": {name: index for index, name in enumerate(classes)},
    }
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    weights = translate_back(state, family.make_own(model.config))
    preprocessing = _describe_input(input_spec)
    with files.replace_folder(folder) as temporary:
        (temporary / WEIGHTS_NAME).write_bytes(save(weights, metadata={"format": "pt"}))
        for name, content in ((CONFIG_NAME, settings), (PREPROCESSOR_NAMES[0], preprocessing)):
            (temporary / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _describe_input(spec: InputSpec) -> dict[str, Any]:
    if spec.differences != "none":
        raise ConfigError(
            f"transformers has no preprocessing with frame differences - found differences={spec.differences} - keep "
            "this model in tubelet's own format."
        )
    crop = {"height": spec.height, "width": spec.width}
    short = spec.short_side or max(spec.height, spec.width)
    return {
        "image_processor_type": "VideoMAEImageProcessor",
        "do_resize": True,
        "size": crop if spec.fit == "stretch" else {"shortest_edge": short},
        "resample": 2,
        "do_center_crop": spec.fit == "crop",
        "crop_size": crop,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean) * (spec.channels if len(spec.mean) == 1 else 1),
        "image_std": list(spec.std) * (spec.channels if len(spec.std) == 1 else 1),
    }
