"""Say what is explained: one number that a classifier computes of one clip, and what that clip would be without it."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange, repeat
from jaxtyping import Float, UInt8
from torch import Tensor

from tubelet.classifier import Classifier
from tubelet.shapes import Task
from tubelet.transforms.preparation import normalize

__all__ = ["Fill", "Question", "ask", "blur", "compute_log_odds"]

Fill = Literal["still", "blurred"]
Pixels = UInt8[Tensor, "time height width channel"]
Picture = UInt8[Tensor, "height width channel"]

_POINTS = 4
"""Along each side, that a blurred picture keeps."""


@dataclass(frozen=True, eq=False)
class Question:
    """Ask why a classifier gives a clip its score of one class."""

    classifier: Classifier
    clip: Pixels
    """As the classifier's contract has it."""
    label: int
    """Index of the class."""
    fill: Fill
    """What takes the place of pixels that are taken out; see `ask`."""
    picture: Picture
    """The same, drawn."""

    def prepare(self) -> Float[Tensor, "1 channel time height width"]:
        """Return the clip as the model takes it."""
        return self.prepare_all(self.clip[None])

    def prepare_all(
        self, clips: UInt8[Tensor, "batch time height width channel"]
    ) -> Float[Tensor, "batch channel2 time height width"]:
        """Return versions of the clip as the model takes them."""
        classifier = self.classifier
        return normalize(clips.to(classifier.device), classifier.input_spec).to(classifier.dtype)

    def measure(self, logits: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
        """Return the class's log-odds in full precision."""
        return compute_log_odds(logits.float(), self.label, self.classifier.task)

    def make_empty(self) -> Pixels:
        """Return a clip that shows the fill alone."""
        return repeat(self.picture, "h w c -> t h w c", t=len(self.clip))


def ask(classifier: Classifier, clip: Pixels, label: int) -> Question:
    """Ask why a clip gets its score, and choose what takes the place of its pixels where they are taken out.

    `still` is the clip's median over time: nothing moves, comes or goes, and what stands still stays. It is the
    gentlest way to take away what happens, and says nothing of what a still picture shows. So where the class survives
    stillness, but not a blur as well, it is `blurred`: the same picture without shapes. To use that one always would
    mean to make still things vanish and come back, which a model that sees time takes for an event: on clips with a
    known event it made the maps of `occlude` point to it in 3 clips of 12; with `still` it was 12 of 12.

    Args:
        classifier: in evaluation mode.
        clip: as its contract has it.
        label: index of the class.

    Cost: one forward pass of three clips.
    """
    # Of an even number torch takes the lower of the two in the middle.
    still = clip.median(dim=0).values
    blurred = blur(still)
    frozen = (repeat(picture, "h w c -> t h w c", t=len(clip)) for picture in (still, blurred))
    whole, unmoved, empty = classifier.score(torch.stack([clip, *frozen]))[:, label].tolist()
    if unmoved > whole / 2 and empty < unmoved / 2:
        return Question(classifier, clip, label, "blurred", blurred)
    return Question(classifier, clip, label, "still", still)


def blur(picture: Picture) -> Picture:
    """Return a picture in which no shape is left: 4 x 4 points, with even passages between them."""
    height, width = picture.shape[:2]
    planes = rearrange(picture.float(), "h w c -> 1 c h w")
    few = F.interpolate(planes, size=(min(height, _POINTS), min(width, _POINTS)), mode="area")
    smooth = F.interpolate(few, size=(height, width), mode="bilinear")
    return rearrange(smooth, "1 c h w -> h w c").round().clamp(0, 255).to(torch.uint8)


def compute_log_odds(logits: Float[Tensor, "batch classes"], label: int, task: Task) -> Float[Tensor, " batch"]:
    """Return log(p / (1 - p)) of a class: what speaks for it against all others together.

    A class's logit alone rises with the others', too; its probability no longer moves where the model is sure.

    Example:
        >>> compute_log_odds(torch.tensor([[2.0, 0.0]]), 0, "classification")
        tensor([2.])
    """
    if task == "multilabel" or logits.shape[1] == 1:
        return logits[:, label]
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return logits[:, label] - others.logsumexp(dim=1)
