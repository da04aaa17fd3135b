"""Time what reaches a model: our loader with 0, 1 and 2 workers against one plain PyAV process on the same clips.

    python benchmarks/feeding.py [CLIPS] [--frames 16] [--size 224] [--rounds 5]

CLIPS is anything that `tubelet train` takes; without, the UCF101 clips in TUBELET_TEST_DATA. The plain process opens
each clip with PyAV, decodes it frame by frame up to the last one it wants, converts the wanted ones to RGB, and scales
and crops them with the same resize; it keeps PyAV's default threads. All read the same clips in the same order, uniform
frames; no cache. They take turns within each round; figures are medians over the rounds, clips a second as ratios to
the plain process. Start-up of the workers is paid in an epoch that is not counted, as in training.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import av
import numpy as np
import torch

from tubelet.data.catalogue import open_data
from tubelet.data.dataset import ClipDataset, open_sample
from tubelet.data.loader import ClipLoader, EpochOrder, LoaderOptions, make_loader
from tubelet.data.sample import Sample
from tubelet.evaluation.evaluate import prepare_evaluation
from tubelet.transforms.preparation import fit
from tubelet.video.sampling import plan
from tubelet.video.spec import InputSpec


def read_plain(path: str, indices: list[int], spec: InputSpec) -> torch.Tensor:
    wanted, last = set(indices), max(indices)
    found: dict[int, np.ndarray] = {}
    with av.open(path) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                found[number] = frame.to_ndarray(format="rgb24")
            if number == last:
                break
    return fit(np.stack([found[index] for index in indices]), spec)


def time_call(call: Callable[[], int]) -> float:
    started = time.perf_counter()
    count = call()
    return count / (time.perf_counter() - started)


def plan_frames(samples: Sequence[Sample], spec: InputSpec) -> list[tuple[str, list[int]]]:
    plans = []
    for sample in samples:
        with open_sample(sample) as video:
            row = plan(video.info, spec, views=1, training=False, generator=np.random.default_rng(0))[0]
            plans.append((sample.source, row.tolist()))
    return plans


def make_readers(dataset: ClipDataset) -> dict[str, Callable[[], int]]:
    plans = plan_frames(dataset.samples, dataset.spec)
    readers = {"plain PyAV": lambda: len([read_plain(source, indices, dataset.spec) for source, indices in plans])}
    for workers in (0, 1, 2):
        loader = make_loader(dataset, EpochOrder(len(dataset), 8, None), LoaderOptions(batch=8, workers=workers))
        readers[f"ours, {workers} workers"] = partial(count_clips, loader)
    return readers


def count_clips(loader: ClipLoader) -> int:
    return sum(len(batch.labels) for batch in loader)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="?", default=f"{os.environ.get('TUBELET_TEST_DATA', '.')}/ucf101_mini/split.csv")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=100)
    given = parser.parse_args()
    torch.set_num_threads(1)
    spec = InputSpec(frames=given.frames, height=given.size, width=given.size)
    manifest = open_data(given.clips, split_if_missing=False)
    samples = manifest.samples[:: max(1, len(manifest.samples) // given.limit)]
    readers = make_readers(ClipDataset(samples, manifest, spec, partial(prepare_evaluation, spec=spec)))
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(given.rounds + 1):
        for name, read in readers.items():
            rate = time_call(read)
            if number:
                rates[name].append(rate)
    base = statistics.median(rates["plain PyAV"])
    print(f"{len(samples)} clips of {given.clips}, {given.frames} frames, {given.size} px, {given.rounds} rounds")
    for name, values in rates.items():
        rate = statistics.median(values)
        print(f"  {name:16} {rate:7.1f} clips/s  {rate / base:5.2f}x   (rounds {min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    main()
