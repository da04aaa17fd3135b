"""Predict with transformers' own classes, as its documentation does: what we are measured against."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tubelet.classifier import Classifier
from tubelet.errors import MissingExtra
from tubelet.transforms.preparation import normalize
from tubelet.video.clip import VideoInfo
from tubelet.video.sampling import plan

__all__ = ["TransformersRival"]


class TransformersRival:
    """Hold the same weights in the model class of transformers, on the same device.

    Args:
        classifier: what is measured.
        folder: a new one, for the weights.

    Raises:
        MissingExtra: transformers cannot be imported.
        ConfigError: transformers has no such model, or no such preprocessing.
    """

    name = "transformers"

    def __init__(self, classifier: Classifier, folder: Path) -> None:
        classifier.save_for_transformers(folder)
        try:
            from transformers import AutoModelForVideoClassification, VideoMAEImageProcessor
        except (ImportError, RuntimeError) as error:
            raise MissingExtra(
                f"cannot measure against transformers - it says: {error} - pip install transformers torchvision."
            ) from None
        self._model: Any = AutoModelForVideoClassification.from_pretrained(folder).eval().to(classifier.device)
        self._processor: Any = VideoMAEImageProcessor.from_pretrained(folder)
        self._classifier = classifier

    def compute(self, clips: UInt8[Tensor, "batch time height width channel"]) -> Float[Tensor, "batch classes"]:
        """Score clips that were normalized as ours are: (batch, time, channel, height, width) in theirs."""
        pixels = normalize(clips.to(self._classifier.device), self._classifier.input_spec).transpose(1, 2)
        with torch.inference_mode():
            logits: Tensor = self._model(pixel_values=pixels).logits
        return logits.float().cpu()

    def prepare(self, path: str) -> Tensor:
        """Decode the whole file, take the model's frames and prepare them."""
        frames = self._read(path)
        height, width = frames[0].shape[:2]
        info = VideoInfo(len(frames), height, width, 25.0, len(frames) / 25, "", 0)
        chosen = plan(info, self._classifier.input_spec, views=1)[0]
        pixels: Tensor = self._processor([frames[index] for index in chosen], return_tensors="pt")["pixel_values"]
        return pixels

    def decode(self, path: str) -> int:
        """Decode every frame."""
        return len(self._read(path))

    def predict(self, paths: Sequence[str]) -> list[str]:
        """Name the classes, one file after the other."""
        labels = []
        for path in paths:
            with torch.inference_mode():
                logits = self._model(pixel_values=self.prepare(path).to(self._classifier.device)).logits
            labels.append(self._classifier.classes[int(logits.argmax())])
        return labels

    def _read(self, path: str) -> list[Any]:
        with av.open(path) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
