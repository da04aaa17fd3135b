"""Say which files each architecture can be started from, and which folders of transformers it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from tubelet.errors import CheckpointError, ConfigError
from tubelet.models.card import ModelConfig, change_config
from tubelet.models.contract import VideoModel, find_card
from tubelet.models.videomae_pretraining import VideoMAEPretraining
from tubelet.models.weights import i3d, timesformer, videomae, vivit, vjepa2
from tubelet.models.weights.images import Inflation, inflate_i3d, inflate_timesformer, inflate_vivit
from tubelet.models.weights.rules import Schema

__all__ = ["FAMILIES", "Family", "list_schemas", "name_origin", "plan_config"]


@dataclass(frozen=True)
class Family:
    """State what other programs know of one architecture."""

    base: str
    """The registered name whose card a folder of transformers changes."""
    make_schemas: Callable[[Any], tuple[Schema, ...]]
    """From a configuration to the schemas of video models' files that such a model can be started from."""
    inflate: Callable[[Any, Inflation], tuple[Schema, ...]] | None = None
    """From a configuration to the schemas of image models' files that such a model can be started from."""
    make_own: Callable[[Any], Schema] | None = None
    """From a configuration to transformers' names of the same model."""
    plan_changes: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    """From transformers' `config.json` to the changes that `create_model` is to make."""
    describe: Callable[[Any], dict[str, Any]] | None = None
    """From a configuration to transformers' `config.json`."""
    class_name: str = ""
    """Transformers' name of the classifier."""


FAMILIES = {
    "vivit": Family(
        "vivit_base_joint",
        vivit.make_schemas,
        inflate_vivit,
        vivit.make_transformers,
        vivit.plan_changes,
        vivit.describe,
        "VivitForVideoClassification",
    ),
    "timesformer": Family(
        "timesformer_base_divided",
        timesformer.make_schemas,
        inflate_timesformer,
        timesformer.make_transformers,
        timesformer.plan_changes,
        timesformer.describe,
        "TimesformerForVideoClassification",
    ),
    "videomae": Family(
        "videomae_base",
        videomae.make_schemas,
        None,
        videomae.make_classifier_schema,
        videomae.plan_changes,
        videomae.describe,
        "VideoMAEForVideoClassification",
    ),
    "vjepa2": Family(
        "vjepa2_large",
        vjepa2.make_schemas,
        None,
        vjepa2.make_transformers,
        vjepa2.plan_changes,
        vjepa2.describe,
        "VJEPA2ForVideoClassification",
    ),
    "i3d": Family("i3d_rgb", i3d.make_schemas, inflate_i3d),
}
"""By architecture; transformers' `model_type` is the same word."""


def list_schemas(model: nn.Module, config: Any, inflation: Inflation) -> tuple[Schema, ...]:
    """List the schemas of files that a model can be started from, none for architectures that nobody else has.

    Args:
        model: what is to be started.
        config: the configuration that the weights were made for, where it is known; else the model's own.
        inflation: how the kernels of image models are taken.
    """
    if isinstance(model, VideoMAEPretraining):
        return videomae.make_pretraining_schemas(config)
    family = FAMILIES.get(model.card.architecture) if isinstance(model, VideoModel) else None
    if family is None:
        return ()
    return family.make_schemas(config) + (family.inflate(config, inflation) if family.inflate else ())


def plan_config(settings: Mapping[str, Any], title: str) -> ModelConfig | None:
    """Return the configuration that a transformers `config.json` describes; None for what nobody has here.

    Args:
        settings: the file as a dictionary.
        title: what messages call the source.

    Raises:
        CheckpointError: a setting that is missing, of the wrong kind, or that no model here has.
    """
    family = FAMILIES.get(str(settings.get("model_type")))
    if family is None or family.plan_changes is None:
        return None
    try:
        return change_config(find_card(family.base).config, family.plan_changes(settings))
    except ConfigError as error:
        raise CheckpointError(f"cannot load {title!r} - its config.json says: {error}") from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise CheckpointError(
            f"cannot load {title!r} - its config.json holds a value of the wrong kind: {error} - fetch it again."
        ) from None


def name_origin(keys: list[str]) -> str:
    """Say which program's which architecture a file with these keys is of; an empty text where nobody knows."""
    for family in FAMILIES.values():
        for schema in family.make_schemas(find_card(family.base).config):
            if schema.recognizes(keys):
                return schema.title
    return ""
