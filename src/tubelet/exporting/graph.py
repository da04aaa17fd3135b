"""Join everything between fitted pixels and answers to one graph that exports."""

import copy

import torch
from einops import rearrange
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from tubelet.classifier import Classifier
from tubelet.transforms.preparation import DIFFERENCE_GAIN

__all__ = ["ExportGraph", "trace"]


class ExportGraph(nn.Module):
    """Turn uint8 clips into logits and features; a copy of the classifier's model on the CPU in float32.

    The arithmetic is that of `normalize`, without the writing in place that saves memory there and exports badly.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        spec = classifier.input_spec
        self.model = copy.deepcopy(classifier.model).cpu().float().eval().requires_grad_(False)
        self.differences = spec.differences
        mean = torch.tensor(spec.mean * (spec.channels // len(spec.mean)))
        std = torch.tensor(spec.std * (spec.channels // len(spec.std)))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", mean / std)

    def forward(
        self, clips: UInt8[Tensor, "batch time height width channel"]
    ) -> tuple[Float32[Tensor, "batch classes"], Float32[Tensor, "batch dim"]]:
        """Return logits, before any temperature, and the features that the head reads."""
        features = self.model.features(self.normalize(clips))
        return self.model.head(features), features

    def normalize(
        self, clips: UInt8[Tensor, "batch time height width channel"]
    ) -> Float32[Tensor, "batch channel2 time height width"]:
        """Do what `tubelet.transforms.preparation.normalize` does."""
        scaled = clips.float() * self.scale
        parts = [] if self.differences == "only" else [scaled - self.shift]
        if self.differences != "none":
            changes = (scaled[:, 1:] - scaled[:, :-1]) * DIFFERENCE_GAIN
            parts.append(torch.cat([torch.zeros_like(scaled[:, :1]), changes], dim=1))
        return rearrange(torch.cat(parts, dim=-1), "b t h w c -> b c t h w").contiguous()


def trace(classifier: Classifier) -> torch.export.ExportedProgram:
    """Trace a classifier into a graph whose batch is free and whose clips are of the contract's size."""
    spec = classifier.input_spec
    clips = torch.zeros((2, spec.frames, spec.height, spec.width, spec.channels), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        return torch.export.export(ExportGraph(classifier), (clips,), dynamic_shapes={"clips": {0: batch}})
