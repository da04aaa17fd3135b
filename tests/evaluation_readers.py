"""Classifiers made by hand, each of which looks at one thing alone, and clips of a bright column that moves."""

from pathlib import Path

import numpy as np
import torch
from einops import rearrange

from tubelet.classifier import Classifier
from tubelet.video.spec import InputSpec

__all__ = ["READERS", "HandMade", "write_columns"]

FRAMES, SIDE = 8, 24


def write_columns(path: Path, kind: str, clips: int = 48, extra: int = 0) -> Path:
    """Write gray clips of two classes in turn, as an .npz file; the column stands in the middle at the middle frame.

    Args:
        path: the file.
        kind: what differs: `direction`, `step` (1 or 2 pixels a frame, to either side) or `light`.
        clips: how many.
        extra: frames beyond those that a reader sees.
    """
    count = FRAMES + extra
    images = np.zeros((clips, count, SIDE, SIDE), np.uint8)
    labels = np.arange(clips) % 2
    for number, label in enumerate(labels):
        sign = 1 if (label if kind == "direction" else number // 2 % 2) else -1
        step = 1 + label if kind == "step" else 1
        light = 220 if kind != "light" or label else 90
        for frame in range(count):
            images[number, frame, :, (SIDE // 2 + sign * step * (frame - count // 2)) % SIDE] = light
    np.savez(path, test_images=images, test_labels=labels)
    return path


def _find_columns(clips: torch.Tensor) -> torch.Tensor:
    return rearrange(clips, "b t h w 1 -> b t h w").float().sum(2).argmax(2).float()


def _says_direction(clips: torch.Tensor) -> torch.Tensor:
    places = _find_columns(clips)
    return places[:, -1] > places[:, 0]


def _says_step(clips: torch.Tensor) -> torch.Tensor:
    return _find_columns(clips).diff(dim=1).abs().mean(1) > 1.5


def _says_range(clips: torch.Tensor) -> torch.Tensor:
    places = _find_columns(clips)
    return places.amax(1) - places.amin(1) > 10


def _says_light(clips: torch.Tensor) -> torch.Tensor:
    return clips[:, FRAMES // 2].amax((1, 2, 3)) > 150


def _says_first(clips: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(clips), dtype=torch.bool)


READERS = {
    "direction": _says_direction,
    "step": _says_step,
    "range": _says_range,
    "light": _says_light,
    "first": _says_first,
}


class HandMade(Classifier):
    """Say the second class where a reader says yes; keeps the clips that it was shown."""

    def __init__(self, reader: str, classes: tuple[str, ...] = ("0", "1")) -> None:
        self.reads = READERS[reader]
        self.input_spec = InputSpec(frames=FRAMES, height=SIDE, width=SIDE, channels=1, sampling="first")
        self.classes = classes
        self.task = "classification"
        self.seen: list[np.ndarray] = []

    def score(self, clips, precision=torch.float32, *, lengths=None):
        self.seen.append(clips.numpy())
        return torch.nn.functional.one_hot(self.reads(clips).long(), 2).float()
