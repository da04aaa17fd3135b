"""Feed clips to a model: samples in, batches of clips out, the same stream for any number of workers.

    (epoch, index)  ->  open  ->  plan frames  ->  decode  ->  prepare (fit, augment)  ->  batch

Clips of pixels are uint8 and of one size. Clips of features are float32; those of a batch are padded at the end to the
longest, and the batch says how many frames of each are real.

Everything random about a sample is drawn from a generator made of (seed, epoch, index) alone, so that neither the
number of workers nor an interruption changes what is seen. A clip that cannot be read is never replaced by another: it
becomes a `BadSample` that travels with the batch and is counted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

from tubelet.data.arrays import load_row
from tubelet.data.features import Features, read_features
from tubelet.data.frame_arrays import load_frames
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample
from tubelet.data.shards import open_member
from tubelet.errors import DataError, FrameOutOfRange, VideoError
from tubelet.video.clip import Pixels, VideoInfo
from tubelet.video.sampling import plan
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec

__all__ = [
    "BadSample",
    "Batch",
    "ClipDataset",
    "EpochOrder",
    "LoaderOptions",
    "find_span",
    "make_loader",
    "open_sample",
    "read_views",
]

LOADER_TIMEOUT_S = 300

Clips = UInt8[Tensor, "..."] | Float32[Tensor, "..."]
"""Fitted clips (row, time, height, width, channel): uint8 pixels, or float32 features of height and width 1."""

Prepare = Callable[[Any, int, np.random.Generator], tuple[Any, int]]
"""Turn decoded pixels, or features, and a label into what the model's batch holds; must be picklable."""


@dataclass(frozen=True)
class BadSample:
    """Report a sample that could not be read."""

    index: int
    name: str
    code: str
    message: str


@dataclass(frozen=True)
class LoaderOptions:
    """State how clips are read."""

    batch: int = 16
    workers: int = 0
    decoder: str = "pyav"
    cache_mb: int = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """Hold the readable samples of one batch; `clips` has `views` rows a sample, one after the other."""

    clips: UInt8[Tensor, "row time height width channel"] | Float32[Tensor, "row time height width channel"]
    labels: Int64[Tensor, " sample"]
    indices: Int64[Tensor, " sample"]
    bad: tuple[BadSample, ...] = ()
    lengths: Int64[Tensor, " row"] | None = None
    """Real frames of each clip of features; None for pixels, which all have the same number."""

    def pin_memory(self) -> "Batch":
        """Move to page-locked memory, from which copies to a GPU overlap with work."""
        lengths = None if self.lengths is None else self.lengths.pin_memory()
        return Batch(self.clips.pin_memory(), self.labels.pin_memory(), self.indices, self.bad, lengths)


def open_sample(sample: Sample, decoder: str = "pyav") -> Video:
    """Open what a sample names: a video, frame folder or array, or one that lies in a larger file."""
    if sample.member is not None and sample.row is not None:
        return Video(load_row(sample.source, sample.member, sample.row))
    if sample.extent is not None:
        return open_member(sample, decoder)
    if sample.source.lower().endswith(".npz"):
        return Video(load_frames(sample.source), name=sample.source)
    return Video(sample.source, decoder=decoder)


@dataclass
class ClipDataset(Dataset[tuple[int, "Clips | BadSample", int]]):
    """Read samples as fitted clips.

    Args:
        samples: what to read; their order gives the indices.
        manifest: where they come from; holds the class list.
        spec: which frames, at which size.
        prepare: pixels and label to what the batch holds (fitting, augmentation).
        views: clips a sample; more than one only in evaluation.
        is_training: draw frames at random (per sample, epoch and seed) instead of at fixed places.
    """

    samples: Sequence[Sample]
    manifest: Manifest
    spec: InputSpec
    prepare: Prepare
    views: int = 1
    is_training: bool = False
    seed: int = 0
    decoder: str = "pyav"
    cache_bytes: int = 0
    _cache: dict[int, tuple[VideoInfo, Float64[np.ndarray, " frame"], Pixels]] = field(default_factory=dict, repr=False)
    _cached_bytes: int = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, "Clips | BadSample", int]:
        epoch, index = key
        sample = self.samples[index]
        generator = np.random.default_rng([self.seed, epoch, index])
        label = self.manifest.label_index(sample)
        try:
            clips = []
            for pixels in self._read(index, sample, generator):
                clip, clip_label = self.prepare(pixels, label, generator)
                clips.append(clip)
        except (VideoError, DataError) as error:
            return index, BadSample(index, sample.name, error.code, str(error)), label
        return index, torch.stack(clips), clip_label

    def _read(self, index: int, sample: Sample, generator: np.random.Generator) -> list[Pixels] | list[Features]:
        """Return the pixels, or the features, of each view."""
        if sample.features is not None:
            return read_features(
                sample, self.spec, views=self.views, training=self.is_training, generator=generator
            )  # the whole array stays in memory as it is: there is nothing to cache
        if index in self._cache:
            info, times_s, whole = self._cache[index]
            return [whole[row] for row in self._plan(sample, info, times_s, generator)]
        with open_sample(sample, self.decoder) as video:
            rows = self._plan(sample, video.info, video.times_s, generator)
            kept = self._decode_whole(video)
            if kept is None:
                return read_views(video, rows)
            self._cache[index] = (video.info, video.times_s, kept)
            return [kept[row] for row in rows]

    def _decode_whole(self, video: Video) -> Pixels | None:
        """Decode every frame where there is room to keep them; a clip with a damaged frame is not kept.

        So a clip counts as bad if the frames that are wanted do not decode, whatever the size of the cache.
        """
        info = video.info
        size = info.num_frames * info.height * info.width * info.channels
        if self._cached_bytes + size > self.cache_bytes:
            return None
        try:
            whole = video.frames().pixels
        except VideoError:
            return None
        self._cached_bytes += size
        return whole

    def _plan(
        self, sample: Sample, info: VideoInfo, times_s: Float64[np.ndarray, " frame"], generator: np.random.Generator
    ) -> Int64[np.ndarray, "views frames"]:
        first, last = find_span(sample, times_s)
        count = last - first
        part = replace(info, num_frames=count, duration_s=info.duration_s * count / info.num_frames)
        indices = plan(part, self.spec, views=self.views, training=self.is_training, generator=generator)
        shifted: Int64[np.ndarray, "views frames"] = indices + first
        return shifted


def read_views(video: Video, rows: Int64[np.ndarray, "views frames"]) -> list[Pixels]:
    """Decode the frames of several views, each frame once."""
    places, inverse = np.unique(rows, return_inverse=True)
    pixels = video.frames_at(places.tolist()).pixels
    return [pixels[row] for row in inverse.reshape(rows.shape)]


def find_span(sample: Sample, times_s: Float64[np.ndarray, " frame"]) -> tuple[int, int]:
    """Find the frames that are first shown within the sample's time span [start, end).

    Raises:
        FrameOutOfRange: no frame begins there.
    """
    first, last = (int(place) for place in np.searchsorted(times_s, sample.span_s))
    if first >= last:
        raise FrameOutOfRange(
            f"cannot read {sample.name!r} - no frame begins in that span, the clip's last one begins at "
            f"{times_s[-1]:.3f} s - correct start_s and end_s."
        )
    return first, last


class EpochOrder(Sampler[list[tuple[int, int]]]):
    """Give the batches of one epoch after another, each epoch in an order of its own, from any batch on.

    Args:
        count: number of samples.
        batch: samples in one batch; the last one may be smaller.
        seed: with the epoch, all that the order depends on; None keeps the samples in place.
    """

    def __init__(self, count: int, batch: int, seed: int | None) -> None:
        self.count = count
        self.batch = batch
        self.seed = seed
        self.epoch = 0
        self.first_batch = 0

    def start(self, epoch: int, first_batch: int = 0) -> None:
        """Choose where the next iteration begins."""
        self.epoch = epoch
        self.first_batch = first_batch

    def __len__(self) -> int:
        return -(-self.count // self.batch) - self.first_batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.arange(self.count)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        for first in range(self.first_batch * self.batch, self.count, self.batch):
            yield [(self.epoch, int(index)) for index in order[first : first + self.batch]]


def make_loader(dataset: ClipDataset, order: EpochOrder, options: LoaderOptions) -> "DataLoader[Batch]":
    """Make a loader whose stream of samples does not depend on the number of workers."""
    dataset.cache_bytes = options.cache_mb * 1_000_000 // max(options.workers, 1)
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # typed by what it yields: batches
        batch_sampler=order,
        num_workers=options.workers,
        collate_fn=partial(_collate, spec=dataset.spec),
        persistent_workers=options.workers > 0,
        timeout=LOADER_TIMEOUT_S if options.workers else 0,
        pin_memory=torch.cuda.is_available(),
    )


def _collate(items: list[tuple[int, "Clips | BadSample", int]], spec: InputSpec) -> Batch:
    bad = tuple(clips for _, clips, _ in items if isinstance(clips, BadSample))
    good = [(index, clips, label) for index, clips, label in items if not isinstance(clips, BadSample)]
    rows = [clips for _, clips, _ in good]
    kind = torch.uint8 if spec.kind == "pixels" else torch.float32
    clips, lengths = torch.zeros((0, 1, 1, 1, spec.channels), dtype=kind), None
    if spec.kind == "features":
        lengths = torch.tensor([clip.shape[1] for clip in rows for _ in clip], dtype=torch.int64)
        clips = pad_sequence([clip for views in rows for clip in views], batch_first=True) if rows else clips
    elif rows:
        clips = torch.cat(rows)
    return Batch(
        clips=clips,
        labels=torch.tensor([label for _, _, label in good], dtype=torch.int64),
        indices=torch.tensor([index for index, _, _ in good], dtype=torch.int64),
        bad=bad,
        lengths=lengths,
    )
