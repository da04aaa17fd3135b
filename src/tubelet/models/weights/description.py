"""Say which model some weights belong to, and under which contract they were trained, before one is built from them."""

import os
from dataclasses import fields
from typing import Any, NamedTuple

from tubelet.config import build
from tubelet.errors import CheckpointError, TubeletError
from tubelet.model_folder import PRETRAINING
from tubelet.models.card import ModelConfig, change_config
from tubelet.models.contract import find_card
from tubelet.models.weights.folder import plan_folder
from tubelet.models.weights.source import CONFIG_NAME, find_weights
from tubelet.video.spec import InputSpec

__all__ = ["SourceDescription", "describe_source"]

_OF_INPUT = ("name", "num_classes", "frames", "height", "width", "channels")


class SourceDescription(NamedTuple):
    """State which model weights belong to."""

    name: str
    """The registered name."""
    changes: dict[str, Any]
    """What differs from its card, frames, size and channels aside: they are the contract's."""
    input_spec: InputSpec
    """What the weights were trained on."""


def describe_source(source: str | os.PathLike[str]) -> SourceDescription:
    """Say which model the weights of a run, a model folder, a folder of transformers or the hub belong to.

    Raises:
        CheckpointError: a single file, or a folder that does not say.
    """
    found = find_weights(source)
    if found.is_transformers:
        plan = plan_folder(found)
        return SourceDescription(plan.card.name, _list_changes(plan.config), plan.input_spec)
    try:
        stated = found.settings["model"]
        config = dict(stated.get("encoder", stated))
        name = config.pop("name")
        if found.settings.get("kind") == PRETRAINING:
            known = {field.name for field in fields(find_card(name).config)}
            config = {key: value for key, value in config.items() if key in known}  # the rest is the decoder's
        whole = change_config(find_card(name).config, config)
        return SourceDescription(name, _list_changes(whole), build(InputSpec, found.settings["input"]))
    except (TubeletError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"cannot tell which model {found.title!r} belongs to - no {CONFIG_NAME} beside it says so ({error}) - name "
            "the model with --model."
        ) from None


def _list_changes(config: ModelConfig) -> dict[str, Any]:
    own = find_card(config.name).config
    names = [field.name for field in fields(config) if field.name not in _OF_INPUT]
    return {name: getattr(config, name) for name in names if getattr(config, name) != getattr(own, name)}
