"""Compare an exported file with the model it was made from, on real clips where there are any."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from tubelet.config import read_config
from tubelet.data.catalogue import Request, open_data
from tubelet.data.dataset import check_channels, open_sample, read_views
from tubelet.data.sample import Sample
from tubelet.errors import TubeletError
from tubelet.metrics import THRESHOLD
from tubelet.recipes.recipe import Recipe
from tubelet.scorer import Scorer
from tubelet.transforms.preparation import fit
from tubelet.video.sampling import plan
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec
from tubelet.video.synthetic import draw_clip
from tubelet.video.synthetic.worlds import MOTIONS

__all__ = ["BATCHES", "Parity", "Probe", "choose_clips", "compare"]

BATCHES = (1, 3)
"""Sizes of the batches that are compared: a file with a fixed batch would fail with one of them."""


@dataclass(frozen=True)
class Parity:
    """State how near the answers of an exported file are to those of its model."""

    clips: int
    """Clips that were compared, in batches of 1 and of 3."""
    origin: str
    """Where they came from, in words."""
    max_difference: float
    """Largest absolute difference of a probability."""
    agreement: float
    """Share of the clips whose answer is the same: the best class, or in multi-label tasks the classes above 0.5."""

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Probe:
    """Hold clips to compare answers on, and say where they came from."""

    clips: UInt8[Tensor, "batch time height width channel"]
    origin: str


def compare(model: Scorer, exported: Scorer, probe: Probe) -> Parity:
    """Ask both about the same clips, in batches of 1 and of 3."""
    differences, same = [], []
    for size in BATCHES:
        for start in range(0, len(probe.clips), size):
            clips = probe.clips[start : start + size]
            wanted, found = model.score(clips).cpu(), exported.score(clips).cpu()
            differences.append(float((wanted - found).abs().max()))
            same += (_answer(wanted, model) == _answer(found, model)).all(dim=1).tolist()
    return Parity(len(probe.clips), probe.origin, max(differences), sum(same) / len(same))


def _answer(scores: Float32[Tensor, "batch classes"], model: Scorer) -> Tensor:
    return scores > THRESHOLD if model.task == "multilabel" else scores.argmax(dim=1, keepdim=True)


def choose_clips(
    spec: InputSpec, count: int, files: Sequence[str | os.PathLike[str]] = (), run: Path | None = None
) -> Probe:
    """Take clips from files, else from the data set that a run was trained on, else draw moving shapes.

    Args:
        spec: the contract they are fitted to.
        count: how many to take of a data set, or to draw; of files all are taken.
        files: videos.
        run: folder of a run whose data set may lie on this machine.

    Raises:
        VideoError: a file cannot be read.
    """
    if files:
        return Probe(torch.stack([_read(Video(path, volume=spec.volume), spec) for path in files]), _count(files))
    found = _read_dataset(spec, count, run) if run is not None else None
    return found or Probe(_draw(spec, count), f"{count} drawn clips of moving-shapes; name videos for real ones")


def _count(paths: Sequence[object]) -> str:
    return f"{len(paths)} video{'s' if len(paths) > 1 else ''} that you named"


def _read_dataset(spec: InputSpec, count: int, run: Path) -> Probe | None:
    """Read clips spread over the data set of a run; None where it is no longer there."""
    try:
        data = read_config(run / "config.yaml", Recipe).data
        request = Request(fold=data.fold, offline=True)
        manifest = open_data(data.source, group_by=data.group_by, split_if_missing=False, request=request)
        samples = manifest.select("test") or manifest.samples
        chosen = [samples[place] for place in np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)]
        clips = torch.stack([_read_sample(sample, spec) for sample in chosen])
    except (TubeletError, OSError):
        return None
    return Probe(clips, f"{len(chosen)} clips of {manifest.origin}")


def _read_sample(sample: Sample, spec: InputSpec) -> UInt8[Tensor, "time height width channel"]:
    return _read(open_sample(sample, volume=spec.volume), spec)


def _read(video: Video, spec: InputSpec) -> UInt8[Tensor, "time height width channel"]:
    with video:
        check_channels(video, spec)
        return fit(read_views(video, plan(video.info, spec))[0], spec)


def _draw(spec: InputSpec, count: int) -> UInt8[Tensor, "batch time height width channel"]:
    """Draw the motions in turns, each clip with a channel for each of the model's."""
    frames, height, width = max(spec.frames, 8), max(spec.height, 16), max(spec.width, 16)
    clips = []
    for index in range(count):
        motion = list(MOTIONS)[index % len(MOTIONS)]
        generator = np.random.default_rng([0, index])
        pixels = draw_clip("moving-shapes", motion, frames=frames, height=height, width=width, generator=generator)
        channels = pixels[: spec.frames, ..., np.arange(spec.channels) % 3]
        clips.append(fit(np.ascontiguousarray(channels), spec))
    return torch.stack(clips)
