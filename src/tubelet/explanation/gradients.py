"""Ask of every pixel, or of every place of the last feature map, how the class's log-odds change with it."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from einops import rearrange
from jaxtyping import Float32
from torch import Tensor, nn

from tubelet.errors import ConfigError
from tubelet.explanation.occlusion import plan_tubes
from tubelet.explanation.question import Question
from tubelet.models.backbones import ConvEmbedder, SmallCnn
from tubelet.models.contract import VideoModel
from tubelet.models.i3d import I3D
from tubelet.shapes import Size3

__all__ = ["activate_classes", "integrate_gradients"]

STEPS = 16
"""Points on the way from the empty clip to the clip."""
BATCH = 2
"""Clips at a time: all that goes on in them is kept for the gradient."""


def integrate_gradients(question: Question) -> Float32[Tensor, "t h w"]:
    """Rate each tube by what its pixels add to the class's log-odds on the way from an empty clip to the clip.

    The empty clip shows the question's fill alone. The shares of all pixels add up to the difference between the two
    clips, up to the error of 16 steps; those that speak against the class are left out of the map. Shares of single
    pixels are noisy, so they are added up over tubes.

    Cost: 16 forward and backward passes.

    Source: arXiv 1703.01365, equation 1, by the midpoint rule.
    """
    size = plan_tubes(Size3(*question.clip.shape[:3]))
    start, end = question.prepare_all(torch.stack([question.make_empty(), question.clip]))
    total = torch.zeros_like(end, dtype=torch.float32)
    points = (torch.arange(STEPS, device=end.device, dtype=end.dtype) + 0.5) / STEPS
    for part in torch.split(points, BATCH):
        inputs = (start + rearrange(part, "n -> n 1 1 1 1") * (end - start)).requires_grad_()
        odds = question.measure(question.classifier.model(inputs))
        (gradient,) = torch.autograd.grad(odds.sum(), inputs)
        total += gradient.float().sum(dim=0) / STEPS
    # Channels: pixels and, where the model takes them, differences of frames.
    shares = ((end - start).float() * total).sum(dim=0)
    return F.adaptive_avg_pool3d(shares[None, None], size)[0, 0].clamp(min=0).cpu()


def activate_classes(question: Question) -> Float32[Tensor, "t h w"]:
    """Rate each place of the last convolution's map by its channels, each weighed by its mean gradient: Grad-CAM.

    For models with convolutions: I3D, or a CNN that sees frame by frame.

    Cost: one forward and one backward pass.

    Source: arXiv 1610.02391, equations 1 and 2.
    """
    model = question.classifier.model
    module, pattern = _find_convolutions(model)
    maps: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Tensor) -> None:
        maps.append(output)

    handle = module.register_forward_hook(keep)
    try:
        odds = question.measure(model(question.prepare().requires_grad_()))
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(odds.sum(), maps)
    volume, slope = (rearrange(each.detach().float(), pattern) for each in (maps[0], gradient))
    weights = slope.mean(dim=(1, 2, 3), keepdim=True)
    return (weights * volume).sum(dim=0).clamp(min=0).cpu()


def _find_convolutions(model: VideoModel) -> tuple[nn.Module, str]:
    """Return what gives the last map of convolutions, and how that map is laid out for one clip."""
    if isinstance(model, I3D):
        return model.body, "1 d t h w -> d t h w"
    for part in model.modules():
        if isinstance(part, SmallCnn | ConvEmbedder):
            return part.stages, "t d h w -> d t h w"
    raise ConfigError(
        f"Grad-CAM needs a last map of convolutions - {type(model).__name__} has none that is known - use method "
        "'occlusion', which works for every model, or 'auto'."
    )
