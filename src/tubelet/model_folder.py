"""Keep a model in a folder: weights in `model.safetensors`, everything else about it in `config.json`.

    config.json   format   kind ("classifier" where it is left out, or "pretraining")   model (hyper-parameters)
                  input (its contract)   classes (none before it has learned labels)
                  task (of a classifier: "classification" where it is left out, or "multilabel")
                  sha256 (of the weights)   sha256_config (of the rest of this file)   and what else the writer knows
                  calibration (of a classifier that has one: figures, and the sha256 of the arrays in
                  `calibration.safetensors`, which is then there too)

The folder appears whole or not at all; reading it compares both hashes, and executes nothing.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from tubelet import files
from tubelet.errors import CheckpointError
from tubelet.video.spec import InputSpec

__all__ = [
    "CALIBRATION",
    "CALIBRATION_NAME",
    "CLASSIFIER",
    "CONFIG_NAME",
    "PRETRAINING",
    "WEIGHTS_NAME",
    "StoredModel",
    "hash_weights",
    "load_state",
    "read_model",
    "read_weights",
    "replace_calibration",
    "write_model",
]

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
CALIBRATION_NAME = "calibration.safetensors"
FORMAT = 1
CONFIG_HASH = "sha256_config"
CALIBRATION = "calibration"
CLASSIFIER, PRETRAINING = "classifier", "pretraining"
"""Kinds of models: one that scores classes, and one that has only learned what clips look like."""

_NAMES = (WEIGHTS_NAME, CONFIG_NAME, CALIBRATION_NAME)
_SECOND_LOOK_S = 0.1
_KEYS: dict[str, tuple[type, str]] = {
    "format": (int, "a whole number"),
    "model": (dict, "an object"),
    "input": (dict, "an object"),
    "classes": (list, "a list of names"),
    "sha256": (str, "a text"),
}


class StoredModel(NamedTuple):
    """Hold what lies in a model folder."""

    description: dict[str, Any]
    weights: dict[str, Tensor]
    calibration: dict[str, Tensor]
    """Arrays of the calibration; none where the description has no calibration."""


def write_model(
    folder: str | Path,
    model: nn.Module,
    hyper_parameters: Mapping[str, Any],
    input_spec: InputSpec,
    classes: Sequence[str],
    extra: Mapping[str, Any] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write `model.safetensors` and `config.json`; the folder appears whole or not at all.

    Args:
        folder: takes the place of an existing model folder.
        model: whose state is written.
        hyper_parameters: JSON values from which the model can be built again.
        input_spec: the contract of its clips.
        classes: names in index order; none where the model scores nothing yet.
        extra: JSON values to keep beside these, such as how the model was trained, or its `kind`.
        arrays: of the `calibration` in `extra`.
    """
    files.check_replaceable(folder, _NAMES)
    with files.replace_folder(folder) as temporary:
        (temporary / WEIGHTS_NAME).write_bytes(_pack_weights(model))
        description = {
            "format": FORMAT,
            "model": dict(hyper_parameters),
            "input": asdict(input_spec),
            "classes": list(classes),
            "sha256": files.hash_file(temporary / WEIGHTS_NAME),
            **(extra or {}),
        }
        _write_description(temporary, description, arrays or {})


def replace_calibration(folder: Path, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a model folder anew with another calibration; all else in it stays as it is, byte by byte.

    Args:
        folder: a model folder that `write_model` wrote.
        values: JSON values of the calibration.
        arrays: its arrays.

    Raises:
        CheckpointError: a damaged folder.
        ConfigError: the folder holds foreign files.
    """
    description = read_model(folder).description
    if values.get("weights") not in (None, description["sha256"]):
        raise CheckpointError(
            f"cannot store a calibration in {str(folder)!r} - the weights there are others than those it was measured "
            "with - calibrate again."
        )
    files.check_replaceable(folder, _NAMES)
    with files.replace_folder(folder) as temporary:
        shutil.copyfile(folder / WEIGHTS_NAME, temporary / WEIGHTS_NAME)
        _write_description(temporary, {**description, CALIBRATION: dict(values)}, arrays)


def hash_weights(model: nn.Module) -> str:
    """Compute the sha256 that the weights of a model have in a folder."""
    return files.hash_bytes(_pack_weights(model))


def _pack_weights(model: nn.Module) -> bytes:
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return save(weights, metadata={"format": "pt"})


def _write_description(folder: Path, description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    sealed = dict(description)
    if CALIBRATION in description:
        packed = save({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()})
        (folder / CALIBRATION_NAME).write_bytes(packed)
        sealed[CALIBRATION] = {**description[CALIBRATION], "sha256": files.hash_bytes(packed)}
    sealed.pop(CONFIG_HASH, None)
    sealed[CONFIG_HASH] = _hash_description(json.loads(json.dumps(sealed)))
    (folder / CONFIG_NAME).write_text(json.dumps(sealed, indent=2) + "\n", encoding="utf-8")


def read_model(folder: Path) -> StoredModel:
    """Read what was written in one saving, and check every byte of it.

    A training may put the next saving in place between the two: what does not fit together is looked at again.

    Raises:
        CheckpointError: a missing, damaged or foreign file, with its name.
    """
    try:
        return _read_once(folder)
    except CheckpointError:
        time.sleep(_SECOND_LOOK_S)
        return _read_once(folder)


def _read_once(folder: Path) -> StoredModel:
    place = folder.absolute()  # "." has no name beside which the folder's replacement could be looked for
    if place.name:
        files.recover_folder(place)
    description = _read_description(folder / CONFIG_NAME)
    weights = read_weights(folder / WEIGHTS_NAME, description["sha256"])
    if CALIBRATION not in description:
        return StoredModel(description, weights, {})
    calibration = read_weights(folder / CALIBRATION_NAME, str(description[CALIBRATION].get("sha256")))
    return StoredModel(description, weights, calibration)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        found = _hash_description(description) if isinstance(description, dict) else ""
    except FileNotFoundError:
        raise CheckpointError(
            f"cannot load {str(path.parent)!r} - it holds no {CONFIG_NAME} - give a run folder or a model folder."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"cannot load {str(path)!r} - it is not readable JSON: {error} - take an intact copy."
        ) from None
    if not isinstance(description, dict) or not _KEYS.keys() <= description.keys():
        raise CheckpointError(
            f"cannot load {str(path)!r} - it describes no tubelet model - give a folder that train wrote."
        )
    _check_description(path, description)
    # Files of earlier versions, and those written by hand, carry no hash.
    if description.get(CONFIG_HASH, found) != found:
        raise CheckpointError(
            f"cannot load {str(path)!r} - its {CONFIG_HASH} is {str(description[CONFIG_HASH])[:16]}..., its content "
            f"has {found[:16]}... - it was changed; take an intact copy, or remove the key if that was meant."
        )
    return description


def _check_description(path: Path, description: dict[str, Any]) -> None:
    for key, (kind, wanted) in _KEYS.items():
        value = description[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise CheckpointError(
                f"cannot load {str(path)!r} - '{key}' should be {wanted}, found {type(value).__name__} - "
                "take an intact copy."
            )
    if not isinstance(description.get(CALIBRATION, {}), dict):
        raise CheckpointError(f"cannot load {str(path)!r} - '{CALIBRATION}' should be an object - take an intact copy.")
    if not all(isinstance(name, str) for name in description["classes"]):
        raise CheckpointError(f"cannot load {str(path)!r} - 'classes' holds more than names - take an intact copy.")
    if not 1 <= description["format"] <= FORMAT:
        raise CheckpointError(
            f"cannot load {str(path)!r} - it has format {description['format']}, this version knows up to {FORMAT} - "
            "upgrade tubelet."
        )


def _hash_description(description: Mapping[str, Any]) -> str:
    """Compute the sha256 of a description without its own hash; spaces and the order of keys do not count."""
    rest = {key: value for key, value in description.items() if key != CONFIG_HASH}
    return files.hash_bytes(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode("ascii"))


def read_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a safetensors file and compare its hash first; nothing in it is ever executed.

    Raises:
        CheckpointError: missing, damaged, or no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot load {str(path)!r} - {error.strerror} - check the path.") from None
    if sha256 is not None and (found := files.hash_bytes(data)) != sha256:
        raise CheckpointError(
            f"cannot load {str(path)!r} - expected sha256 {sha256[:16]}..., found {found[:16]}... - "
            "the file is damaged; take an intact copy."
        )
    try:
        return load(data)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"cannot load {str(path)!r} - {error} - it is no intact safetensors file.") from None


def load_state(model: nn.Module, weights: Mapping[str, Tensor], origin: str) -> None:
    """Load weights strictly, naming the first key that does not fit.

    Raises:
        CheckpointError: a missing, unexpected or misshapen tensor, with key, expected and found.
    """
    expected = model.state_dict()
    missing = sorted(set(expected) - set(weights))
    unknown = sorted(set(weights) - set(expected))
    if missing or unknown:
        which = f"'{missing[0]}' is missing" if missing else f"'{unknown[0]}' belongs to no part of the model"
        raise CheckpointError(
            f"cannot load {origin!r} - {which} ({len(missing)} missing, {len(unknown)} unknown keys) - "
            "the weights are of another architecture."
        )
    for key, tensor in weights.items():
        if tensor.shape != expected[key].shape:
            raise CheckpointError(
                f"cannot load {origin!r} - '{key}' should be {tuple(expected[key].shape)}, found "
                f"{tuple(tensor.shape)} - the weights are of another size."
            )
    model.load_state_dict(dict(weights))
