"""Measure what models cost: parameters, arithmetic, disk, and their speed beside each other on the same machine."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tubelet.classifier import Classifier
from tubelet.data.dataset import Batch
from tubelet.models.anatomy import count_macs

__all__ = ["Cost", "measure_costs"]

ROUNDS = 5


@dataclass(frozen=True)
class Cost:
    """State what one model costs."""

    parameters: int
    gmacs: float | None
    """Billions of multiply-accumulates for one clip; None where they cannot be counted."""
    clips_per_s: float
    """Prepared clips that are scored in a second, median of five rounds; decoding is no part of it."""
    frames_per_s: float
    """Frames of those clips in a second: models see clips of different lengths."""


def measure_costs(classifiers: Sequence[Classifier], batches: Sequence[Batch]) -> tuple[Cost, ...]:
    """Measure models in turns, so that whatever else slows the machine down slows all of them.

    Args:
        classifiers: what is measured.
        batches: for each, clips that were prepared for it; at least one.

    Cost: six forward passes of each batch.
    """
    times_s: list[list[float]] = [[] for _ in classifiers]
    for _ in range(ROUNDS + 1):
        for classifier, batch, own in zip(classifiers, batches, times_s, strict=True):
            started = time.perf_counter()
            classifier.score(batch.clips, lengths=batch.lengths).cpu()
            own.append(time.perf_counter() - started)
    costs = []
    for classifier, batch, own in zip(classifiers, batches, times_s, strict=True):
        seconds = statistics.median(own[1:])  # the first one warms up
        frames = batch.clips.shape[0] * batch.clips.shape[1] if batch.lengths is None else int(batch.lengths.sum())
        parameters = sum(parameter.numel() for parameter in classifier.model.parameters())
        macs = count_macs(classifier.model.config)
        gmacs = None if macs is None else macs / 1e9
        costs.append(Cost(parameters, gmacs, len(batch.clips) / seconds, frames / seconds))
    return tuple(costs)
