"""Keep together what belongs together: a model, its input contract and its class names."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import save
from torch import Tensor, nn

from tubelet import files
from tubelet.config import build
from tubelet.errors import CheckpointError, ConfigError
from tubelet.models import create_model
from tubelet.models.contract import VideoModel
from tubelet.transforms.preparation import normalize
from tubelet.video.spec import InputSpec

__all__ = ["CONFIG_NAME", "WEIGHTS_NAME", "Classifier"]

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
FORMAT = 1


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
        self.model = model
        self.input_spec = input_spec
        self.classes = classes

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.model.parameters()).device

    def score(
        self, clips: UInt8[Tensor, "batch time height width channel"], precision: torch.dtype = torch.float32
    ) -> Float[Tensor, "batch classes"]:
        """Compute class probabilities of fitted clips.

        Args:
            clips: uint8, of the contract's frames and size.
            precision: number format of the forward pass; `torch.bfloat16` runs under autocast.

        Returns:
            float32, each row sums to 1.
        """
        was_training = self.model.training
        self.model.eval()
        device = self.device
        with torch.inference_mode(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
            logits = self.model(normalize(clips.to(device, non_blocking=True), self.input_spec))
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
            (temporary / CONFIG_NAME).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path) -> "Classifier":
        """Read what `save` wrote, and check every byte of it.

        Raises:
            CheckpointError: a missing, damaged or foreign file, with its name.
        """
        folder = Path(folder)
        files.recover_folder(folder)
        description = _read_description(folder / CONFIG_NAME)
        weights = read_weights(folder / WEIGHTS_NAME, description["sha256"])
        try:
            config = dict(description["model"])
            name, num_classes = config.pop("name"), config.pop("num_classes")
            model = create_model(name, num_classes, **config)
            input_spec = build(InputSpec, description["input"], str(folder / CONFIG_NAME))
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"cannot load {str(folder)!r} - its {CONFIG_NAME} lacks or misstates {error} - take an intact copy."
            ) from None
        load_state(model, weights, str(folder / WEIGHTS_NAME))
        return cls(model.eval(), input_spec, tuple(description["classes"]))


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"cannot load {str(path.parent)!r} - it holds no {CONFIG_NAME} - give a run folder or a model folder."
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot load {str(path)!r} - it is not readable JSON: {error} - take an intact copy."
        ) from None
    if not isinstance(description, dict) or not {"format", "model", "input", "classes", "sha256"} <= set(description):
        raise CheckpointError(
            f"cannot load {str(path)!r} - it describes no tubelet model - give a folder that train wrote."
        )
    if description["format"] > FORMAT:
        raise CheckpointError(
            f"cannot load {str(path)!r} - it has format {description['format']}, this version knows up to {FORMAT} - "
            "upgrade tubelet."
        )
    return description


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
