"""Say what happens when in a long video: score windows that overlap, and merge what agrees into segments.

    video      |----------------------------------------------|    each frame decoded once, in order
    windows    |=======|
                  |=======|                                        `hop_s` apart; the frames in a window are chosen
                     |=======|  ...                                as for a clip of that length
    segments   |--- running ---|-- unknown --|----- jumping ---|

Only the frames of windows that are not scored yet are in memory, at the model's size: a video may last for days.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from torch import Tensor

from tubelet.data.dataset import check_channels
from tubelet.errors import ConfigError, DataError
from tubelet.prediction.segments import Segment, find_segments
from tubelet.scorer import Scorer
from tubelet.shapes import Task
from tubelet.transforms.preparation import fit
from tubelet.video.clip import VideoInfo
from tubelet.video.sampling import plan
from tubelet.video.source import Source, Video
from tubelet.video.spec import InputSpec

__all__ = ["THRESHOLD", "Timeline", "predict_timeline"]

THRESHOLD = 0.5
"""Probability below which no class holds: more likely something else."""
HOPS = 4
"""Windows that begin within the length of one, where no hop is asked: each moment is seen four times."""
SMOOTHING = 1.5
"""Windows' lengths that medians are taken over, where nothing is asked; `segments` says what was measured."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """State what a classifier says of each moment of a video."""

    source: str
    duration_s: float
    fps: float
    """Frames per second of the video, on average."""
    classes: tuple[str, ...]
    task: Task
    scores: Float32[np.ndarray, "window classes"]
    """The probabilities of each window, as the classifier gave them."""
    edges_s: Float64[np.ndarray, " edge"]
    """Where the part that each window stands for begins, and where the last one ends: one more than windows."""
    window_s: float
    """How long a window is."""
    hop_s: float
    """From the beginning of one window to the next."""
    smoothing_s: float
    """How long the medians of scores are taken over."""
    threshold: float

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """What holds from when to when, in order; without gaps, and `label` None where no class is sure enough.

        In multi-label tasks the parts of each class alone, which may overlap.
        """
        return find_segments(
            self.scores,
            self.edges_s,
            self.classes,
            task=self.task,
            threshold=self.threshold,
            radius=round(self.smoothing_s / self.hop_s / 2),
            window_s=self.window_s,
        )

    @property
    def known(self) -> tuple[Segment, ...]:
        """The segments that have a class."""
        return tuple(segment for segment in self.segments if segment.label is not None)

    def change(self, *, smoothing_s: float | None = None, threshold: float | None = None) -> "Timeline":
        """Merge the same scores in another way; nothing is computed anew but the segments.

        Raises:
            ConfigError: out of range.
        """
        smoothing_s = self.smoothing_s if smoothing_s is None else smoothing_s
        threshold = self.threshold if threshold is None else threshold
        _check_merging(smoothing_s, threshold)
        return replace(self, smoothing_s=smoothing_s, threshold=threshold)

    def to_dict(self, *, scores: bool = True) -> dict[str, Any]:
        """Turn into JSON values; `scores` adds those of each window, with the time of its middle."""
        values = {
            "source": self.source,
            "duration_s": self.duration_s,
            "fps": self.fps,
            "task": self.task,
            "window_s": self.window_s,
            "hop_s": self.hop_s,
            "smoothing_s": self.smoothing_s,
            "threshold": self.threshold,
            "segments": [segment.to_dict() for segment in self.segments],
        }
        if not scores:
            return values
        middles = (self.edges_s[:-1] + self.edges_s[1:]) / 2
        return {
            **values,
            "classes": list(self.classes),
            "times_s": [round(time_s, 4) for time_s in middles.tolist()],
            "scores": [[round(score, 5) for score in row] for row in self.scores.tolist()],
        }


def predict_timeline(
    classifier: Scorer,
    source: Source,
    *,
    window_s: float | None = None,
    hop_s: float | None = None,
    smoothing_s: float | None = None,
    threshold: float = THRESHOLD,
    batch: int = 8,
    decoder: str = "pyav",
    on_step: Callable[[int, int], None] | None = None,
) -> Timeline:
    """Say what happens when in a video, however long it is.

    Args:
        classifier: what `tubelet.load` gives; a model of pixels.
        source: anything that `Video` opens.
        window_s: length of a window. Without it, what the model's own clips cover (`frames` at `stride` or `rate_fps`);
            a model that spreads its frames over whole clips does not say how long those are, and needs it: take about
            the length of the clips that it was trained on.
        hop_s: from the beginning of one window to the next; a quarter of a window without it.
        smoothing_s: scores become medians over this time, so that what lasts for less than half of it is passed over;
            one and a half windows without it, and 0 smooths nothing.
        threshold: probability below which no class holds, 0 to 1.
        batch: windows scored at a time.
        decoder: which backend reads the video.
        on_step: called with (windows scored, windows in all).

    Raises:
        ConfigError: a length that is none, or a window that nobody knows the length of.
        DataError: a model of features.
        VideoError: where the source cannot be read.

    Example:
        >>> import tubelet
        >>> predict_timeline(tubelet.load("runs/mine"), "match.mp4", window_s=2).segments[0]  # doctest: +SKIP
        Segment(label='kick-off', start_s=0.0, end_s=7.25, score=0.93)

    Cost: one forward pass for each hop, and decoding each frame that some window takes once; memory does not grow with
    the video but by its scores.
    """
    spec = classifier.input_spec
    if spec.kind == "features":
        raise DataError("cannot make a timeline - the model takes features, not pixels - load a model of pixels.")
    _check_lengths({"window_s": window_s, "hop_s": hop_s, "batch": batch})
    with Video(source, decoder=decoder, volume=spec.volume) as video:
        check_channels(video, spec)
        info, times_s = video.info, video.times_s
        length = _measure_window(info, spec, window_s)
        windows = _plan_windows(info, spec, length, hop_s)
        frame_s = 1 / info.fps if info.fps > 0 else info.duration_s
        smoothing_s = SMOOTHING * length * frame_s if smoothing_s is None else smoothing_s
        _check_merging(smoothing_s, threshold)
        scores = _score(classifier, video, windows.frames, batch, on_step)
        edges_s = _find_edges(times_s, windows, length, info.duration_s)
        return Timeline(
            source=video.name,
            duration_s=info.duration_s,
            fps=info.fps,
            classes=classifier.classes,
            task=classifier.task,
            scores=scores,
            edges_s=edges_s,
            window_s=length * frame_s,
            hop_s=windows.hop * frame_s,
            smoothing_s=smoothing_s,
            threshold=threshold,
        )


class _Windows(NamedTuple):
    """Hold which frames are scored together."""

    hop: int
    """Frames from one start to the next, but for the last one."""
    starts: Int64[np.ndarray, " window"]
    frames: Int64[np.ndarray, "window frames"]


def _check_lengths(lengths: Mapping[str, float | int | None]) -> None:
    for name, value in lengths.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} of a timeline must be above 0 - found {value} - give a positive number.")


def _check_merging(smoothing_s: float, threshold: float) -> None:
    if not (math.isfinite(smoothing_s) and smoothing_s >= 0):
        raise ConfigError(f"smoothing_s must be 0 or more - found {smoothing_s} - give seconds.")
    if not 0 <= threshold < 1:
        raise ConfigError(f"threshold is a probability below 1 - found {threshold} - {THRESHOLD} is usual.")


def _measure_window(info: VideoInfo, spec: InputSpec, window_s: float | None) -> int:
    """Count the frames of a video that a window covers."""
    if window_s is not None:
        length = window_s * info.fps
    elif spec.sampling == "dense":
        length = spec.frames * (info.fps / spec.rate_fps if spec.rate_fps else spec.stride)
    elif spec.sampling == "first":
        length = spec.frames
    else:
        raise ConfigError(
            f"cannot make a timeline - the model takes {spec.frames} frames from all over a clip (input.sampling "
            f"{spec.sampling}), and does not say how long its clips were - give about their length, such as --window 2 "
            "(window_s=2)."
        )
    return min(max(round(length), 1), info.num_frames)


def _plan_windows(info: VideoInfo, spec: InputSpec, length: int, hop_s: float | None) -> _Windows:
    """Choose the frames of windows of `length` frames, from the first to one that ends with the video."""
    offsets = plan(replace(info, num_frames=length), spec)[0]
    if hop_s is None:
        strides = np.unique(np.diff(offsets))
        stride = int(strides[0]) if len(strides) == 1 and strides[0] > 0 else 1
        hop = max(length // HOPS // stride, 1) * stride  # so that windows share frames where a model skips some
    else:
        hop = max(round(hop_s * info.fps), 1)
    last = info.num_frames - length
    starts = np.unique(np.append(np.arange(0, last + 1, hop), last))
    return _Windows(hop, starts, starts[:, None] + offsets)


def _find_edges(
    times_s: Float64[np.ndarray, " frame"], windows: _Windows, length: int, duration_s: float
) -> Float64[np.ndarray, " edge"]:
    """Find the places half-way between the middles of windows, and both ends of the video."""
    ends_s = np.append(times_s, duration_s)[windows.starts + length]
    middles_s = (times_s[windows.starts] + ends_s) / 2
    edges_s: Float64[np.ndarray, " edge"] = np.concatenate([[0.0], (middles_s[:-1] + middles_s[1:]) / 2, [duration_s]])
    return edges_s


def _score(
    classifier: Scorer,
    video: Video,
    rows: Int64[np.ndarray, "window frames"],
    batch: int,
    on_step: Callable[[int, int], None] | None,
) -> Float32[np.ndarray, "window classes"]:
    scores = np.empty((len(rows), len(classifier.classes)), np.float32)
    done = 0
    for clips in _gather(video, rows, classifier.input_spec, batch):
        found = classifier.score(clips).cpu().numpy()
        scores[done : done + len(found)] = found
        done += len(found)
        if on_step is not None:
            on_step(done, len(rows))
    return scores


def _gather(
    video: Video, rows: Int64[np.ndarray, "window frames"], spec: InputSpec, batch: int
) -> Iterator[UInt8[Tensor, "batch time height width channel"]]:
    """Yield the fitted clips of `batch` windows after another, holding only frames that later ones need, too."""
    needed = np.unique(rows).tolist()
    pictures = zip(needed, video.iterate(needed), strict=True)
    frames: dict[int, Tensor] = {}
    newest = -1
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        while newest < part.max():
            newest, picture = next(pictures)
            frames[newest] = fit(picture[None], spec)[0]
        yield torch.stack([torch.stack([frames[index] for index in row]) for row in part.tolist()])
        oldest = rows[first + batch :][:1].min(initial=newest)
        frames = {index: frame for index, frame in frames.items() if index >= oldest}
