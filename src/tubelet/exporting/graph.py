"""Join everything between fitted pixels and answers to one graph that exports."""

import copy
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from tubelet.classifier import Classifier
from tubelet.errors import ConfigError
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
        mean = torch.tensor(spec.mean).reshape(-1, 1, 1, 1)
        std = torch.tensor(spec.std).reshape(-1, 1, 1, 1)
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
        # Axes are moved while a number is one byte.
        scaled = rearrange(clips, "b t h w c -> b c t h w").float() * self.scale
        parts = [] if self.differences == "only" else [scaled - self.shift]
        if self.differences != "none":
            changes = (scaled[:, :, 1:] - scaled[:, :, :-1]) * DIFFERENCE_GAIN
            parts.append(torch.cat([torch.zeros_like(scaled[:, :, :1]), changes], dim=2))
        return torch.cat(parts, dim=1)


def trace(classifier: Classifier, *, fuse_attention: bool = False) -> torch.export.ExportedProgram:
    """Trace a classifier into a graph whose batch is free and whose clips are of the contract's size.

    Args:
        classifier: what is traced.
        fuse_attention: put ONNX Runtime's own operator where attention is computed. It never keeps the matrix of
            weights, and no other program knows it.
    """
    spec = classifier.input_spec
    clips = torch.zeros((2, spec.frames, spec.height, spec.width, spec.channels), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program: torch.export.ExportedProgram = torch.export.export(
            ExportGraph(classifier), (clips,), dynamic_shapes={"clips": {0: batch}}
        )
        if fuse_attention:
            program = program.run_decompositions({torch.ops.aten.scaled_dot_product_attention.default: _fuse})
    return program


def _fuse(
    query: Float32[Tensor, "row heads seeing d"],
    key: Float32[Tensor, "row heads token d"],
    value: Float32[Tensor, "row heads token d"],
    *masks: Any,
    **options: Any,
) -> Float32[Tensor, "row heads seeing d"]:
    """Stand for attention without masks by `MultiHeadAttention` of ONNX Runtime."""
    if masks or options:
        raise ConfigError(
            f"cannot export in int8 - the model's attention has {len(masks)} masks and the options {sorted(options)}, "
            "none are known here - leave int8 out."
        )
    heads = query.shape[1]
    parts = [rearrange(part, "r heads n d -> r n (heads d)") for part in (query, key, value)]
    mixed = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        parts,
        attrs={"num_heads": heads},
        dtype=query.dtype,
        shape=parts[0].shape,
        version=1,
    )
    fused: Tensor = rearrange(mixed, "r n (heads d) -> r heads n d", heads=heads)
    return fused
