"""Feed clips to a model: samples in, batches of clips out, the same stream for any number of workers.

    (epoch, index)  ->  open  ->  plan frames  ->  decode  ->  prepare (fit, augment)  ->  batch

Clips of pixels are uint8 and of one size. Clips of features are float32; those of a batch are padded at the end to the
longest, and the batch says how many frames of each are real.

Everything random about a sample is drawn from a generator made of (seed, epoch, index) alone, so that neither the
number of workers nor an interruption changes what is seen. A clip that cannot be read is never replaced by another: it
becomes a `BadSample` that travels with the batch and is counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, get_worker_info

from tubelet.data.arrays import load_row
from tubelet.data.clip_cache import ClipCache
from tubelet.data.features import Features, read_features
from tubelet.data.frame_arrays import load_frames
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample
from tubelet.data.shards import open_member
from tubelet.errors import DataError, FrameOutOfRange, VideoError
from tubelet.shapes import Label
from tubelet.video.clip import Pixels, VideoInfo
from tubelet.video.decoders import VOLUMES
from tubelet.video.isolation import Reading
from tubelet.video.source import Video
from tubelet.video.spec import InputSpec
from tubelet.video.speed import plan_at_speed
from tubelet.video.volumes import VolumeView

__all__ = [
    "BadSample",
    "Batch",
    "ClipDataset",
    "Item",
    "check_channels",
    "collate",
    "find_span",
    "open_sample",
    "read_views",
    "stack_labels",
]

Clips = UInt8[Tensor, "..."] | Float32[Tensor, "..."]
"""Fitted clips (row, time, height, width, channel): uint8 pixels, or float32 features of height and width 1."""

Prepare = Callable[[Any, Label, np.random.Generator], tuple[Any, Label]]
"""Turn decoded pixels, or features, and a label into what the model's batch holds; must be picklable."""


@dataclass(frozen=True)
class BadSample:
    """Report a sample that could not be read."""

    index: int
    name: str
    code: str
    message: str


@dataclass(frozen=True, eq=False)
class Batch:
    """Hold the readable samples of one batch; `clips` has `views` rows a sample, one after the other."""

    clips: UInt8[Tensor, "row time height width channel"] | Float32[Tensor, "row time height width channel"]
    labels: Int64[Tensor, " sample"] | Bool[Tensor, "sample classes"]
    """The index of each sample's class; in multi-label sets, for each class whether the sample has it."""
    indices: Int64[Tensor, " sample"]
    bad: tuple[BadSample, ...] = ()
    lengths: Int64[Tensor, " row"] | None = None
    """Real frames of each clip of features; None for pixels, which all have the same number."""

    def pin_memory(self) -> "Batch":
        """Move to page-locked memory, from which copies to a GPU overlap with work."""
        lengths = None if self.lengths is None else self.lengths.pin_memory()
        return Batch(self.clips.pin_memory(), self.labels.pin_memory(), self.indices, self.bad, lengths)


def open_sample(sample: Sample, decoder: str = "pyav", volume: VolumeView = VolumeView()) -> Video:  # noqa: B008 - frozen
    """Open what a sample names: a video, frame folder, volume or array, or one that lies in a larger file."""
    if sample.member is not None and sample.row is not None:
        return Video(load_row(sample.source, sample.member, sample.row), volume=volume)
    if sample.extent is not None:
        return open_member(sample, decoder, volume)
    if sample.source.lower().endswith(".npz"):
        return Video(load_frames(sample.source), name=sample.source, volume=volume)
    return Video(sample.source, decoder=decoder, volume=volume)


Item = tuple[int, "Clips | BadSample", Label]
"""A sample as a loader takes it: (index, clips or why there are none, label)."""


@dataclass
class ClipDataset(Dataset[Item]):
    """Read samples as fitted clips.

    Args:
        samples: what to read; their order gives the indices.
        manifest: where they come from; holds the class list.
        spec: which frames, at which size.
        prepare: pixels and label to what the batch holds (fitting, augmentation).
        views: clips a sample; more than one only in evaluation.
        is_training: draw frames at random (per sample, epoch and seed) instead of at fixed places.
        cache: where decoded clips are kept for the next epoch; it changes no pixel.
        speed: slowest and fastest rate at which clips are played, drawn for each; (1, 1) as recorded.

    A key is (epoch, index), or (epoch, index, turn) for clips that come several times in a row: they are decoded once,
    and prepared by another draw in each turn.
    """

    samples: Sequence[Sample]
    manifest: Manifest
    spec: InputSpec
    prepare: Prepare
    views: int = 1
    is_training: bool = False
    seed: int = 0
    decoder: str = "pyav"
    cache: ClipCache | None = None
    speed: tuple[float, float] = (1.0, 1.0)
    _recent: tuple[tuple[int, ...], list[Any]] = field(default=((), []), init=False, repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, ...]) -> Item:
        epoch, index, *turn = key
        sample = self.samples[index]
        generator = np.random.default_rng([self.seed, epoch, index])
        label = self.manifest.target(sample)
        try:
            clips = []
            is_known = any(turn) and self._recent[0] == (epoch, index)
            views = self._recent[1] if is_known else self._read(index, sample, generator)
            self._recent = ((epoch, index), views) if turn else ((), [])
            if any(turn):
                generator = np.random.default_rng([self.seed, *key])
            for pixels in views:
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
        kept = self.cache.find(index) if self.cache else None
        if kept is not None:
            info, pixels = kept
            return [pixels[row] for row in self.choose_frames(info, generator)]
        with open_sample(sample, self.decoder, self.spec.volume) as video:
            check_channels(video, self.spec)
            first, last = find_span(sample, video.times_s)
            part = _cut(video.info, last - first)
            rows = self.choose_frames(part, generator)
            whole = self._keep(index, video, part, first) if sample.row is None else None
            return read_views(video, rows + first) if whole is None else [whole[row] for row in rows]

    def choose_frames(self, info: VideoInfo, generator: np.random.Generator) -> Int64[np.ndarray, "views frames"]:
        """Choose the frames of each view of a clip."""
        return plan_at_speed(
            info,
            self.spec,
            self._draw_speed(generator),
            views=self.views,
            training=self.is_training,
            generator=generator,
        )

    def _draw_speed(self, generator: np.random.Generator) -> float:
        """Draw the logarithm of the rate evenly, by a child of the generator, so that all else is drawn as without."""
        child = generator.spawn(1)[0]
        return 1.0 if self.speed == (1.0, 1.0) else float(np.exp(child.uniform(*np.log(self.speed))))

    def _keep(self, index: int, video: Video, part: VideoInfo, first: int) -> Pixels | None:
        """Decode every frame of the labelled part where there is room to keep them; a damaged clip is not kept.

        So a clip counts as bad if the frames that are wanted do not decode, whatever the size of the cache.
        """
        size_bytes = part.num_frames * part.height * part.width * part.channels
        if self.cache is None or not self.cache.has_room(size_bytes):
            return None
        try:
            whole = video.frames_at(range(first, first + part.num_frames)).pixels
        except VideoError:
            return None
        worker = get_worker_info()
        self.cache.keep(index, part, whole, 0 if worker is None else worker.id)
        return whole


def _cut(info: VideoInfo, num_frames: int) -> VideoInfo:
    """Describe a part of a video by its number of frames."""
    return replace(info, num_frames=num_frames, duration_s=info.duration_s * num_frames / info.num_frames)


def check_channels(video: Video | Reading, spec: InputSpec) -> None:
    """Refuse a volume of other channels than the model's: they are measurements, not the colors of one picture.

    Raises:
        VideoError: the numbers of channels differ; a volume of one channel is repeated for any model.
    """
    if video.info.codec in VOLUMES and video.info.channels not in (1, spec.channels):
        raise VideoError(
            f"cannot take {video.name!r} - it has {video.info.channels} channels, the model takes {spec.channels} - "
            f"choose those that are meant, or train a model with input.channels {video.info.channels}."
        )


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


def collate(items: list[Item], spec: InputSpec) -> Batch:
    """Put samples together to a batch; those that could not be read are listed beside it."""
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
        labels=stack_labels([label for _, _, label in good]),
        indices=torch.tensor([index for index, _, _ in good], dtype=torch.int64),
        bad=bad,
        lengths=lengths,
    )


def stack_labels(labels: list[Label]) -> Int64[Tensor, " sample"] | Bool[Tensor, "sample classes"]:
    """Put the labels of samples together: indices, or for each class whether they have it."""
    if labels and isinstance(labels[0], np.ndarray):
        return torch.from_numpy(np.stack(labels))
    return torch.tensor(labels, dtype=torch.int64)
