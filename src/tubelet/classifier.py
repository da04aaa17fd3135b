"""Keep together what belongs together: a model, its input contract, its class names, and how far it can be trusted."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from tubelet.calibration import Calibration
from tubelet.config import build
from tubelet.errors import CheckpointError, ConfigError, TubeletError, UnknownName
from tubelet.model_folder import (
    CALIBRATION,
    CLASSIFIER,
    CONFIG_NAME,
    PRETRAINING,
    WEIGHTS_NAME,
    hash_weights,
    load_state,
    read_model,
    write_model,
)
from tubelet.models.card import change_config
from tubelet.models.contract import VideoModel, build_model, find_card
from tubelet.models.weights.folder import write_folder
from tubelet.models.weights.sizes import check_sizes
from tubelet.scorer import Inferred, Scorer
from tubelet.shapes import Task
from tubelet.transforms.preparation import normalize
from tubelet.video.spec import InputSpec

__all__ = ["Classifier", "Inferred"]


class Classifier(Scorer):
    """Score clips with a model under the input contract it was trained with.

    Args:
        model: float (batch, channel, time, height, width) in, logits out.
        input_spec: the contract.
        classes: class names in index order.
        task: whether a clip is of one class (softmax), or each class is a question of its own (`multilabel`: sigmoid).
        calibration: what clips that were not trained on said about its answers; it holds for these very weights.

    Raises:
        ConfigError: the three do not fit together.
    """

    def __init__(
        self,
        model: VideoModel,
        input_spec: InputSpec,
        classes: tuple[str, ...],
        task: Task = "classification",
        calibration: Calibration | None = None,
    ) -> None:
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
        super().__init__(input_spec, classes, task, calibration)
        self.model = model

    @property
    def name(self) -> str:
        """Name of the model, as `tubelet models` lists it."""
        return self.model.config.name

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
        logits: Tensor = self.model(*self._make_inputs(clips, lengths))
        return logits

    def _make_inputs(self, clips: Tensor, lengths: Tensor | None) -> tuple[Any, ...]:
        inputs = normalize(clips.to(self.device, non_blocking=True), self.input_spec).to(self.dtype)
        # Only models of features know of clips that end early.
        return (inputs,) if lengths is None else (inputs, lengths.to(self.device))

    def infer(
        self,
        clips: UInt8[Tensor, "batch time height width channel"] | Float32[Tensor, "batch time height width channel"],
        precision: torch.dtype = torch.float32,
        *,
        lengths: Int64[Tensor, " batch"] | None = None,
    ) -> Inferred:
        """Compute logits and features of fitted clips in one go; the arguments are those of `score`."""
        with self._evaluating(precision):
            features: Tensor = self.model.features(*self._make_inputs(clips, lengths))
            logits: Tensor = self.model.head(features)
        return Inferred(logits.float(), features.float())

    def _infer_logits(self, clips: Tensor, precision: torch.dtype, lengths: Tensor | None) -> Tensor:
        # Through the model's own call, which training may have compiled.
        with self._evaluating(precision):
            return self.compute_logits(clips, lengths)

    @contextmanager
    def _evaluating(self, precision: torch.dtype) -> Iterator[None]:
        """Switch to evaluation without gradients while a block lasts, and back to the mode as it was."""
        was_training = self.model.training
        self.model.eval()
        device = self.device
        try:
            with torch.inference_mode(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
                yield
        finally:
            self.model.train(was_training)

    def save(self, folder: str | Path, extra: Mapping[str, Any] | None = None) -> None:
        """Write `model.safetensors` and `config.json`, and a calibration; the folder appears whole or not at all.

        A calibration of other weights, such as those before some more training, is left out with a warning.

        Args:
            folder: takes the place of an existing model folder.
            extra: JSON values to keep beside the contract, such as how the model was trained.
        """
        described = {"task": self.task, **(extra or {})}
        arrays: Mapping[str, np.ndarray] = {}
        if self.calibration is not None and self.calibration.weights != hash_weights(self.model):
            warnings.warn(
                f"the calibration is left out of {str(folder)!r} - the weights have changed since it was made - "
                "'tubelet calibrate' makes another.",
                stacklevel=2,
            )
        elif self.calibration is not None:
            described[CALIBRATION], arrays = self.calibration.to_values(), self.calibration.to_arrays()
        hyper_parameters = self.model.config.to_dict()
        write_model(folder, self.model, hyper_parameters, self.input_spec, self.classes, described, arrays)

    def save_for_transformers(self, folder: str | Path) -> None:
        """Write a folder that transformers loads: the same logits, labels and preprocessing.

        Args:
            folder: takes the place of an existing model folder.

        Raises:
            ConfigError: transformers has no such model, or no such preprocessing; or the folder holds something else.
        """
        write_folder(self.model, self.input_spec, self.classes, folder, task=self.task)

    @classmethod
    def read(cls, folder: str | Path) -> "Classifier":
        """Read what `save` wrote, and check every byte of it.

        Raises:
            CheckpointError: a missing, damaged or foreign file, with its name.
        """
        folder = Path(folder)
        description, weights, arrays = read_model(folder)
        path = folder / CONFIG_NAME
        if description.get("kind", CLASSIFIER) != CLASSIFIER:
            raise CheckpointError(_explain_kind(folder, description["kind"]))
        # Folders of earlier versions name no task: there was one.
        task = description.get("task", "classification")
        if task not in get_args(Task):
            raise CheckpointError(f"cannot load {str(path)!r} - it is for the task {task!r} - upgrade tubelet.")
        try:
            config = dict(description["model"])
            name, num_classes = config.pop("name"), config.pop("num_classes")
            wanted = change_config(find_card(name).config, {"num_classes": num_classes, **config})
            check_sizes(wanted, weights, str(path))
            model = build_model(wanted)
            input_spec = build(InputSpec, description["input"])
            classifier = cls(model.eval(), input_spec, tuple(description["classes"]), task)
            if CALIBRATION in description:
                named = {name: array.numpy() for name, array in arrays.items()}
                classifier.calibration = Calibration.from_parts(description[CALIBRATION], named)
        except KeyError as error:
            raise CheckpointError(
                f"cannot load {str(path)!r} - its model lacks {error} - take an intact copy."
            ) from None
        except CheckpointError:
            raise
        except UnknownName as error:
            raise CheckpointError(
                f"cannot load {str(path)!r} - {error} A model of your own needs --plugin FILE.py, or load_plugin, here "
                "too."
            ) from None
        except (TubeletError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise CheckpointError(f"cannot load {str(path)!r} - it says: {error} - take an intact copy.") from None
        load_state(model, weights, str(folder / WEIGHTS_NAME))
        return classifier


def _explain_kind(folder: Path, kind: object) -> str:
    """Say why a folder that holds no classifier cannot be used as one, and what can be done with it."""
    if kind != PRETRAINING:
        return f"cannot load {str(folder)!r} - it holds a model of kind {kind!r} - upgrade tubelet."
    run = folder.parent if folder.name == "model" else folder
    return (
        f"cannot classify with {str(folder)!r} - it was pre-trained without labels and has no classes yet - "
        f"teach it some first: tubelet train DATA --weights {run}"
    )
