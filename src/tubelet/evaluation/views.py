"""Look at each video several times, at several moments and places, and make one answer of all that was seen.

time    |--[clip 0]----[clip 1]----[clip 2]--|     x     crops of each clip    [0] [1] [2]     =  9 views
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float64

from tubelet.data.dataset import BadSample, ClipDataset, Item
from tubelet.errors import ConfigError
from tubelet.shapes import Task
from tubelet.video.spec import InputSpec

__all__ = ["Aggregation", "CroppedDataset", "Views", "as_views", "average_views"]

Aggregation = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class Views:
    """State how often each video is looked at, and how the answers become one.

    The papers state their accuracies for many views: ViViT 4 x 3 with logits, TimeSformer 1 x 3, VideoMAE 5 x 3 (2 x 3
    on Something-Something). One view is the cheapest, and what `predict` does where nothing is asked.
    """

    clips: int = 1
    """Clips spread over each video."""
    crops: int = 1
    """Crops of each clip: 1 is the middle, 3 also take both ends of the longer side; `input.convention` says where."""
    aggregation: Aggregation = "probabilities"
    """What is averaged over views: probabilities, or the logits, of which the softmax (sigmoid) is then taken."""

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise ConfigError(
                f"cannot evaluate with {self.clips} views - a video has at least one - give 1 or more clips."
            )
        if self.crops not in (1, 3):
            raise ConfigError(f"cannot evaluate with {self.crops} crops - there is 1, or there are 3 - give 1 or 3.")
        if self.aggregation not in get_args(Aggregation):
            raise ConfigError(
                f"cannot average '{self.aggregation}' over views - known are {', '.join(get_args(Aggregation))} - "
                "choose one."
            )

    def __str__(self) -> str:
        if self.count == 1:
            return "1"
        return f"{self.count} ({self.clips} clips x {self.crops} crops, mean of {self.aggregation})"

    @property
    def count(self) -> int:
        """Count the views of one video."""
        return self.clips * self.crops

    def check(self, spec: InputSpec) -> None:
        """Raise where a model's clips are not cropped, so that there are no three crops of them."""
        if self.crops > 1 and (spec.kind == "features" or spec.fit != "crop"):
            how = "features have no picture" if spec.kind == "features" else "input.fit stretches the whole picture"
            raise ConfigError(f"cannot evaluate with {self.crops} crops - {how} - leave crops at 1.")


def as_views(views: int | Views) -> Views:
    """Take a number for so many clips of each video."""
    return Views(views) if isinstance(views, int) else views


@dataclass
class CroppedDataset(ClipDataset):
    """Read each clip once where `prepare` hands over several crops of it, stacked in front of time."""

    def __getitem__(self, key: tuple[int, ...]) -> Item:
        index, clips, label = super().__getitem__(key)
        return index, clips if isinstance(clips, BadSample) else clips.flatten(0, 1), label


def average_views(
    rows: Float64[np.ndarray, "row classes"], num_views: int, aggregation: Aggregation, task: Task
) -> Float64[np.ndarray, "video classes"]:
    """Make one row of probabilities of the rows of each video's views.

    Args:
        rows: probabilities, or logits where those are averaged; the views of a video one after the other.
        num_views: of each video.
        aggregation: what the rows are.
        task: whether classes exclude each other.

    Example:
        >>> logits = np.log([[0.9, 0.1], [0.5, 0.5]])
        >>> average_views(logits, 2, "logits", "classification").round(2).tolist()
        [[0.75, 0.25]]
    """
    means: Float64[np.ndarray, "video classes"] = rows.reshape(-1, num_views, rows.shape[1]).mean(axis=1)
    if aggregation == "probabilities":
        return means
    logits = torch.from_numpy(means)
    probabilities: Float64[np.ndarray, "video classes"] = (
        logits.sigmoid() if task == "multilabel" else logits.softmax(dim=1)
    ).numpy()
    return probabilities
