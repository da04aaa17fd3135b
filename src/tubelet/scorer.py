"""Say what everything that scores clips can do, whether PyTorch runs it or another program runs an exported file."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from tubelet.calibration import Calibration
from tubelet.shapes import Task
from tubelet.video.spec import InputSpec

__all__ = ["Inferred", "Scorer"]


class Inferred(NamedTuple):
    """Hold what a model makes of clips."""

    logits: Float32[Tensor, "batch classes"]
    """Before any temperature."""
    features: Float32[Tensor, "batch dim"]
    """What the head reads."""


class Scorer(ABC):
    """Score clips under an input contract, with class names and how far the answers can be trusted.

    `Classifier` is one with a PyTorch model, which can be trained and explained; `ExportedModel` runs a file. Whoever
    only asks for answers, such as prediction, streams and the server, takes a scorer and works with either.

    Args:
        input_spec: the contract.
        classes: class names in index order.
        task: whether a clip is of one class (softmax), or each class is a question of its own (`multilabel`: sigmoid).
        calibration: what clips that were not trained on said about the answers; it holds for these very weights.
    """

    def __init__(
        self,
        input_spec: InputSpec,
        classes: tuple[str, ...],
        task: Task = "classification",
        calibration: Calibration | None = None,
    ) -> None:
        self.input_spec = input_spec
        self.classes = classes
        self.task: Task = task
        self.calibration = calibration

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the model, as `tubelet models` lists it."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights lie."""

    @abstractmethod
    def infer(
        self,
        clips: UInt8[Tensor, "batch time height width channel"] | Float32[Tensor, "batch time height width channel"],
        precision: torch.dtype = torch.float32,
        *,
        lengths: Int64[Tensor, " batch"] | None = None,
    ) -> Inferred:
        """Compute logits and features of fitted clips in one go; the arguments are those of `score`."""

    def score(
        self,
        clips: UInt8[Tensor, "batch time height width channel"] | Float32[Tensor, "batch time height width channel"],
        precision: torch.dtype = torch.float32,
        *,
        lengths: Int64[Tensor, " batch"] | None = None,
        as_logits: bool = False,
    ) -> Float[Tensor, "batch classes"]:
        """Compute class probabilities of fitted clips; calibrated ones where there is a calibration.

        Args:
            clips: of the contract's frames and size; uint8 pixels, or float32 features.
            precision: number format of the forward pass; `torch.bfloat16` runs under autocast.
            lengths: frames of each clip of features that are real; all of them without it.
            as_logits: return what the probabilities are the softmax, or sigmoid, of: logits over the temperature.

        Returns:
            float32; each row sums to 1, unless the task is `multilabel`.
        """
        logits = self._infer_logits(clips, precision, lengths)
        return self._temper(logits) if as_logits else self.compute_probabilities(logits)

    def _infer_logits(self, clips: Tensor, precision: torch.dtype, lengths: Tensor | None) -> Tensor:
        return self.infer(clips, precision, lengths=lengths).logits

    def compute_probabilities(self, logits: Float[Tensor, "batch classes"]) -> Float32[Tensor, "batch classes"]:
        """Turn logits into probabilities, at the calibration's temperature where there is one."""
        tempered = self._temper(logits)
        return tempered.sigmoid() if self.task == "multilabel" else tempered.softmax(dim=1)

    def _temper(self, logits: Float[Tensor, "batch classes"]) -> Float32[Tensor, "batch classes"]:
        return logits.float() / (self.calibration.temperature if self.calibration else 1.0)
