"""Play clips otherwise than they were filmed, and score them in each way, to find out what a model needs of time.

    ordered    0 1 2 3 4 5 6 7    as it is
    shuffled   5 0 7 2 6 1 4 3    every frame is there, but not when
    reversed   7 6 5 4 3 2 1 0    the motion goes the other way
    frozen     4 4 4 4 4 4 4 4    the middle frame: nothing moves
    halved     0 0 2 2 4 4 6 6    every second frame, each twice: half the frames a second
    slow       at half the speed  \\ only where a clip is one stretch of its video: one that is spread over
    fast       at twice the speed / the whole video shows the same frames at any speed

All of them are choices of frames, so that a clip is decoded once, whatever the number of ways.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Int64

from tubelet.classifier import Classifier
from tubelet.data.dataset import BadSample, ClipDataset
from tubelet.data.features import Features
from tubelet.data.loader import EpochOrder, LoaderOptions, make_loader
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample
from tubelet.evaluation.evaluate import prepare_evaluation
from tubelet.evaluation.report import Scored
from tubelet.video.clip import Pixels, VideoInfo
from tubelet.video.spec import InputSpec
from tubelet.video.speed import plan_at_speed

__all__ = ["FrameOrder", "arrange", "list_orders", "score_orders"]

FrameOrder = Literal["ordered", "shuffled", "reversed", "frozen", "halved", "slow", "fast"]

SPEEDS: Mapping[FrameOrder, float] = MappingProxyType({"slow": 0.5, "fast": 2.0})
STRETCHES = ("dense", "first")
"""Samplings that take one stretch of a video."""


def list_orders(spec: InputSpec) -> tuple[FrameOrder, ...]:
    """Name the ways in which a model's clips can be played."""
    orders: tuple[FrameOrder, ...] = ("ordered", "shuffled", "reversed", "frozen", "halved")
    has_speeds = spec.kind == "pixels" and spec.sampling in STRETCHES
    return (*orders, *SPEEDS) if has_speeds else orders


def arrange(order: FrameOrder, count: int, generator: np.random.Generator) -> Int64[np.ndarray, " count"]:
    """Say which of `count` frames is shown at each moment.

    Example:
        >>> arrange("halved", 5, np.random.default_rng(0)).tolist()
        [0, 0, 2, 2, 4]
    """
    places = np.arange(count)
    ways: Mapping[str, Callable[[], Int64[np.ndarray, " count"]]] = {
        "shuffled": lambda: generator.permutation(count),
        "reversed": lambda: places[::-1],
        "frozen": lambda: np.full(count, count // 2),
        "halved": lambda: places // 2 * 2,
    }
    return ways.get(order, lambda: places)()


@dataclass
class _PlayedDataset(ClipDataset):
    """Read each clip once, and give it in each order: one view an order."""

    orders: tuple[FrameOrder, ...] = ("ordered",)

    def choose_frames(self, info: VideoInfo, generator: np.random.Generator) -> Int64[np.ndarray, "views frames"]:
        """Choose the frames of each order from those that an evaluation sees."""
        return np.stack(
            [
                plan_at_speed(info, self.spec, SPEEDS.get(order, 1.0))[0][arrange(order, self.spec.frames, generator)]
                for order in self.orders
            ]
        )

    def _read(self, index: int, sample: Sample, generator: np.random.Generator) -> list[Pixels] | list[Features]:
        views = super()._read(index, sample, generator)
        if sample.features is None:
            return views
        return [views[0][arrange(order, len(views[0]), generator)] for order in self.orders]


def score_orders(
    classifier: Classifier,
    samples: Sequence[Sample],
    manifest: Manifest,
    *,
    options: LoaderOptions | None = None,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[FrameOrder, Scored]:
    """Score samples in every order in which they can be played; one that cannot be read is bad in all of them.

    Args:
        classifier: what is measured; of one class a clip.
        samples: what it is measured on.
        manifest: where they come from; its class list must be the classifier's.
        options: batch, workers, decoder.
        on_step: called with samples done and samples in all.

    Cost: one decoding, and one forward pass for each order.
    """
    options, orders = options or LoaderOptions(), list_orders(classifier.input_spec)
    spec = classifier.input_spec
    prepare = partial(prepare_evaluation, spec=spec)
    dataset = _PlayedDataset(samples, manifest, spec, prepare, decoder=options.decoder, orders=orders)
    loader = make_loader(dataset, EpochOrder(len(samples), options.batch, None), options)
    scores: dict[FrameOrder, list[np.ndarray]] = {order: [np.zeros((0, len(classifier.classes)))] for order in orders}
    labels, indices = [np.zeros(0, np.int64)], []
    bad: list[BadSample] = []
    for batch in loader:
        bad.extend(batch.bad)
        indices.extend(batch.indices.tolist())
        if len(batch.labels):
            labels.append(batch.labels.numpy())
            for place, order in enumerate(orders):
                rows = slice(place, None, len(orders))
                lengths = None if batch.lengths is None else batch.lengths[rows]
                scores[order].append(classifier.score(batch.clips[rows], lengths=lengths).cpu().double().numpy())
        on_step(len(indices) + len(bad), len(samples))
    found, said = tuple(samples[index] for index in indices), np.concatenate(labels)
    return {order: Scored(np.concatenate(scores[order]), said, found, tuple(bad)) for order in orders}
