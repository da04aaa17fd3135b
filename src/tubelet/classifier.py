"""Keep together what belongs together: a model, its input contract and its class names."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from safetensors.torch import save
from torch import Tensor, nn

from tubelet import files
from tubelet.config import build
from tubelet.errors import CheckpointError, ConfigError, TubeletError
from tubelet.models import create_model
from tubelet.models.contract import VideoModel
from tubelet.transforms.preparation import normalize
from tubelet.video.spec import InputSpec

__all__ = ["CONFIG_NAME", "WEIGHTS_NAME", "Classifier"]

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
FORMAT = 1
CONFIG_HASH = "sha256_config"

_SECOND_LOOK_S = 0.1
_KEYS: dict[str, tuple[type, str]] = {
    "format": (int, "a whole number"),
    "model": (dict, "an object"),
    "input": (dict, "an object"),
    "classes": (list, "a list of names"),
    "sha256": (str, "a text"),
}


class Classifier:
    """Score clips with a model under the input contract it was trained with.

    Args:
        model: float (batch, channel, time, height, width) in, logits out.
        input_spec: the contract.
        classes: class names in index order.

    Raises:
        ConfigError: the three do not fit together.
    """

    def __init__(self, model: VideoModel, input_spec: InputSpec, classes: tuple[str, ...]) -> None:
        if model.num_classes != len(classes):
            raise ConfigError(
                f"a classifier needs one name a class - the model has {model.num_classes} classes, {len(classes)} "
                "names were given - reset the head or give the other names."
            )
        if model.takes != input_spec.kind:
            raise ConfigError(
                f"{model.config.name} takes {model.takes} - input.kind is {input_spec.kind} - choose another model, or "
                f"input.kind {model.takes}."
            )
        self.model = model
        self.input_spec = input_spec
        self.classes = classes

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return next(self.model.parameters()).dtype

    def compute_logits(
        self,
        clips: UInt8[Tensor, "batch time height width channel"] | Float32[Tensor, "batch time height width channel"],
        lengths: Int64[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Bring clips to the model's device, range and precision, and run it as it stands, in training and scoring.

        Args:
            clips: of the contract's size: uint8 pixels, or float32 features with height and width 1.
            lengths: frames of each clip of features that are real; those after them only fill the batch.
        """
        inputs = normalize(clips.to(self.device, non_blocking=True), self.input_spec).to(self.dtype)
        # Only models of features know of clips that end early.
        logits: Tensor = self.model(inputs) if lengths is None else self.model(inputs, lengths.to(self.device))
        return logits

    def score(
        self,
        clips: UInt8[Tensor, "batch time height width channel"] | Float32[Tensor, "batch time height width channel"],
        precision: torch.dtype = torch.float32,
        *,
        lengths: Int64[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Compute class probabilities of fitted clips.

        Args:
            clips: of the contract's frames and size; uint8 pixels, or float32 features.
            precision: number format of the forward pass; `torch.bfloat16` runs under autocast.
            lengths: frames of each clip of features that are real; all of them without it.

        Returns:
            float32, each row sums to 1.
        """
        was_training = self.model.training
        self.model.eval()
        device = self.device
        try:
            with torch.inference_mode(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
                logits = self.compute_logits(clips, lengths)
        finally:
            self.model.train(was_training)
        scores: Tensor = logits.float().softmax(dim=1)
        return scores

    def save(self, folder: str | Path, extra: Mapping[str, Any] | None = None) -> None:
        """Write `model.safetensors` and `config.json`; the folder appears whole or not at all.

        Args:
            folder: takes the place of an existing one.
            extra: JSON values to keep beside the contract, such as how the model was trained.
        """
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        with files.replace_folder(folder) as temporary:
            (temporary / WEIGHTS_NAME).write_bytes(save(weights, metadata={"format": "pt"}))
            description = {
                "format": FORMAT,
                "model": self.model.config.to_dict(),
                "input": asdict(self.input_spec),
                "classes": list(self.classes),
                "sha256": files.hash_file(temporary / WEIGHTS_NAME),
                **(extra or {}),
            }
            description[CONFIG_HASH] = _hash_description(json.loads(json.dumps(description)))
            (temporary / CONFIG_NAME).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path) -> "Classifier":
        """Read what `save` wrote, and check every byte of it.

        Raises:
            CheckpointError: a missing, damaged or foreign file, with its name.
        """
        folder = Path(folder)
        description, weights = _read_both(folder)
        path = folder / CONFIG_NAME
        try:
            config = dict(description["model"])
            name, num_classes = config.pop("name"), config.pop("num_classes")
            model = create_model(name, num_classes, **config)
            input_spec = build(InputSpec, description["input"])
            classifier = cls(model.eval(), input_spec, tuple(description["classes"]))
        except KeyError as error:
            raise CheckpointError(
                f"cannot load {str(path)!r} - its model lacks {error} - take an intact copy."
            ) from None
        except (TubeletError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise CheckpointError(f"cannot load {str(path)!r} - it says: {error} - take an intact copy.") from None
        load_state(model, weights, str(folder / WEIGHTS_NAME))
        return classifier


def _read_both(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read description and weights of one saving: a training may put the next one in place between the two."""
    try:
        return _read_once(folder)
    except CheckpointError:
        time.sleep(_SECOND_LOOK_S)
        return _read_once(folder)


def _read_once(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    place = folder.absolute()  # "." has no name beside which the folder's replacement could be looked for
    if place.name:
        files.recover_folder(place)
    description = _read_description(folder / CONFIG_NAME)
    return description, read_weights(folder / WEIGHTS_NAME, description["sha256"])


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
