"""Read a folder of transformers as a model with its input contract and class names, and write one.

    config.json                 architecture, sizes, labels, precision
    preprocessor_config.json    size, crop, range        (absent: the official model's own contract, and a warning)
    model.safetensors           weights by transformers' names

What a folder says is followed to the letter, so that its logits are those of transformers; where the published folder
contradicts the training of its weights (see `plan_changes` of each family, and `read_input`), a warning says so.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple
from warnings import warn

import torch
from safetensors.torch import save

from tubelet import files
from tubelet.errors import CheckpointError, ConfigError, TubeletError, name_nearest
from tubelet.models.card import ModelCard, ModelConfig
from tubelet.models.contract import VideoModel, build_model, find_card, list_models
from tubelet.models.weights.archive import read_tensors
from tubelet.models.weights.families import FAMILIES, plan_config
from tubelet.models.weights.loading import WeightReport, load_found
from tubelet.models.weights.rules import translate_back
from tubelet.models.weights.sizes import check_sizes
from tubelet.models.weights.source import CONFIG_NAME, PREPROCESSOR_NAMES, WEIGHTS_NAME, WeightFiles
from tubelet.shapes import Task
from tubelet.video.spec import InputSpec
from tubelet.video.volumes import VolumeView

__all__ = ["FolderModel", "FolderPlan", "plan_folder", "read_folder", "read_input", "write_folder"]

_PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
_KINETICS_CLASSES = 400
_MULTILABEL = "multi_label_classification"
"""What transformers calls a task in which each class is a question of its own."""
_MOST_CLASSES = 2**20
_LARGEST_SIDE_PX = 2**13
"""More than any screen has; frames scaled to much more would fill the memory."""


class FolderModel(NamedTuple):
    """Hold what a folder of transformers describes."""

    model: VideoModel
    input_spec: InputSpec
    classes: tuple[str, ...]
    report: WeightReport
    task: Task


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
    config = plan_config(found.settings, found.title)
    if config is None:
        known = [name for name, family in FAMILIES.items() if family.plan_changes]
        near = name_nearest(kind, known) or " -"
        raise CheckpointError(
            f"cannot load {found.title!r} - its {CONFIG_NAME} describes a {kind!r}{near} Folders of "
            f"{', '.join(known)} can be loaded."
        )
    card = _find_nearest(kind, config)
    with _name_file(found.title, CONFIG_NAME):
        classes = _read_classes(found)
        config = replace(config, name=card.name, num_classes=len(classes))
    with _name_file(found.title, "preprocessor configuration"):
        input_spec = read_input(found, card, config)
    return FolderPlan(config, card, classes, input_spec)


@contextmanager
def _name_file(title: str, name: str) -> Iterator[None]:
    """Turn whatever a value of the wrong kind raises into an error that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except (TubeletError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise CheckpointError(f"cannot load {title!r} - its {name} says: {error} - correct it.") from None


def read_folder(found: WeightFiles) -> FolderModel:
    """Build the classifier that a folder of transformers describes, with its weights.

    Raises:
        CheckpointError: an architecture that nobody has here, a folder without a classifier, or damaged files.
    """
    plan = plan_folder(found)
    tensors = read_tensors(found.paths)
    check_sizes(plan.config, tensors, found.title)
    # Before loading, since double precision would not survive a detour.
    model = build_model(plan.config).to(_read_precision(found.settings))
    report = load_found(model, found, tensors=tensors)
    if report.fresh:
        raise CheckpointError(
            f"cannot classify with {found.title!r} - it holds no classifier, only what one can be trained from - "
            f"'tubelet train DATA --weights {found.title}' trains one."
        )
    task: Task = "multilabel" if found.settings.get("problem_type") == _MULTILABEL else "classification"
    return FolderModel(model.eval(), plan.input_spec, plan.classes, report, task)


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
        count = int(found.settings.get("num_labels", 2))
        if not 1 <= count <= _MOST_CLASSES:
            raise ConfigError(f"num_labels must be 1 to {_MOST_CLASSES} - found {count}")
        return tuple(f"LABEL_{index}" for index in range(count))
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
    """Read how frames reach the model's size, and say where that is not what the folder asks for."""
    size, crop = (_name_sides(stated.get(key) or {}) for key in ("size", "crop_size"))
    scales, crops = stated.get("do_resize", True) and size, stated.get("do_center_crop", True) and crop
    short = size.get("shortest_edge")
    whole, model = (size.get("height"), size.get("width")), (spec.height, spec.width)
    final = (crop.get("height"), crop.get("width")) if crops else whole
    if short is not None and not 1 <= int(short) <= _LARGEST_SIDE_PX:
        raise ConfigError(f"shortest_edge must be 1 to {_LARGEST_SIDE_PX} - found {short}")
    stretches = scales and short is None and crops and whole != final
    pads = scales and short is not None and int(short) < min(model)
    for remark, is_so in (
        (f"scales with filter {stated.get('resample')}; bilinear with antialiasing is used", not _is_bilinear(stated)),
        (f"crops to {final}, its model takes {model}, which is used", None not in final and final != model),
        ("does not scale frames; they are scaled to the model's size", not scales and (size or crop)),
        (f"stretches to {size} before it crops; frames are stretched to the crop instead", stretches),
        (f"pads frames of {short} px to its crop; they are scaled to the crop instead", pads),
    ):
        if is_so:
            warn(f"{title} {remark}.", stacklevel=3)
    if not scales:
        return spec
    if short is None:
        return replace(spec, fit="stretch")
    # Where a square is cut from frames that just cover it, both ways of saying so are one.
    needs_side = int(short) >= max(model) and (int(short), int(short)) != model
    return replace(spec, fit="crop", short_side=int(short) if needs_side else None)


def _name_sides(size: Any) -> Mapping[str, Any]:
    """Name the sides of a size that is one number; `shortest_edge` and the sides of a crop are then the same."""
    return {"shortest_edge": size, "height": size, "width": size} if isinstance(size, int) else size


def _is_bilinear(stated: Mapping[str, Any]) -> bool:
    return stated.get("resample", 2) in (2, "bilinear")


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
    if not all(map(isfinite, (*means, *stds, scale))):
        raise ConfigError(f"image_mean, image_std and rescale_factor must be finite - found {means}, {stds}, {scale}")
    gain = 255 * scale
    return tuple((offset + mean) / gain for mean in means), tuple(std / gain for std in stds)


def _to_numbers(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) else tuple(float(number) for number in value)


def write_folder(
    model: VideoModel,
    input_spec: InputSpec,
    classes: Sequence[str],
    folder: str | Path,
    *,
    task: Task = "classification",
) -> None:
    """Write a model as a folder that transformers loads, with the same logits.

    Args:
        model: of an architecture and form that transformers has.
        input_spec: written as `preprocessor_config.json`; what transformers cannot say is an error.
        classes: class names in index order.
        folder: takes the place of an existing model folder.
        task: `multilabel` is written as the `problem_type` that transformers trains with; its pipeline has to be told
            `function_to_apply="sigmoid"`.

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
        **({"problem_type": _MULTILABEL} if task == "multilabel" else {}),
    }
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    weights = translate_back(state, family.make_own(model.config))
    preprocessing = _describe_input(input_spec)
    files.check_replaceable(folder, (WEIGHTS_NAME, CONFIG_NAME, *PREPROCESSOR_NAMES))
    with files.replace_folder(folder) as temporary:
        (temporary / WEIGHTS_NAME).write_bytes(save(weights, metadata={"format": "pt"}))
        for name, content in ((CONFIG_NAME, settings), (PREPROCESSOR_NAMES[-1], preprocessing)):
            (temporary / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _describe_input(spec: InputSpec) -> dict[str, Any]:
    if spec.differences != "none":
        raise ConfigError(
            f"transformers has no preprocessing with frame differences - found differences={spec.differences} - keep "
            "this model in tubelet's own format."
        )
    if spec.volume != VolumeView():
        raise ConfigError(
            f"transformers has no preprocessing of volumes - found window={spec.window}, spacing_mm={spec.spacing_mm} "
            "- keep this model in tubelet's own format."
        )
    if spec.fit == "crop" and spec.short_side is None and spec.height != spec.width:
        raise ConfigError(
            f"transformers cannot scale frames just far enough to cover {spec.height} x {spec.width} (height, width) - "
            "it scales the short side - state input.short_side, or keep this model in tubelet's own format."
        )
    crop = {"height": spec.height, "width": spec.width}
    short = spec.short_side or spec.height
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
