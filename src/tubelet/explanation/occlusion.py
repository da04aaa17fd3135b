"""Take tubes of pixels out of a clip, and look at what the classifier says without them."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from tubelet.explanation.question import Question
from tubelet.shapes import Size3

__all__ = ["make_variants", "occlude", "plan_tubes"]

BATCH = 16
"""Clips scored at a time."""
MOST_TUBES = Size3(8, 7, 7)


def plan_tubes(size: Size3) -> Size3:
    """Say into how many tubes a clip is cut along each axis: at most 8 x 7 x 7, of equal sizes where that is possible.

    Example:
        >>> plan_tubes(Size3(16, 224, 224)), plan_tubes(Size3(32, 48, 64))
        (Size3(t=8, h=7, w=7), Size3(t=8, h=6, w=4))
    """
    counts = (
        max((count for count in range(4, most + 1) if side % count == 0), default=min(side, most))
        for side, most in zip(size, MOST_TUBES, strict=True)
    )
    return Size3(*counts)


def make_variants(
    question: Question, tubes: Bool[Tensor, "variant t h w"]
) -> Iterator[UInt8[Tensor, "batch time height width channel"]]:
    """Yield copies of a clip, some at a time, each with the fill in place of the tubes that its row names."""
    clip = question.clip
    for part in torch.split(tubes, BATCH):
        voxels = F.interpolate(part[:, None].float(), size=tuple(clip.shape[:3]), mode="nearest-exact")[:, 0] > 0.5
        yield torch.where(voxels[..., None], question.picture, clip)


def occlude(question: Question) -> Float32[Tensor, "t h w"]:
    """Rate each tube by how much the class's log-odds fall when it alone is taken out.

    It asks nothing of the model but its scores, so that it works for every one; and it is what it says, where other
    methods are readings of what goes on inside. It misses what is shown twice: without one of the two little changes.

    Cost: one forward pass a tube: 392 of them for clips of 16 frames of 224 x 224.

    Source: arXiv 1311.2901, section 4.2.
    """
    size = plan_tubes(Size3(*question.clip.shape[:3]))
    count = size.t * size.h * size.w
    # The first row is the whole clip.
    tubes = torch.eye(count + 1, count, dtype=torch.bool).roll(1, dims=0).reshape(-1, *size)
    with torch.inference_mode():
        logits = torch.cat([question.classifier.compute_logits(clips) for clips in make_variants(question, tubes)])
    odds = question.measure(logits)
    return (odds[0] - odds[1:]).reshape(*size).clamp(min=0).cpu()
