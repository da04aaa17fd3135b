"""Choose which frames of a video a model sees, and where its crops lie: arithmetic only, no pixels.

    sampling    frames come from                          the same video, 6 frames of it
    uniform     one of each of T equal segments           |--x--|--x--|--x--|--x--|--x--|--x--|
    linspace    the whole video, both ends included       |x------x------x------x------x-----x|
    dense       one stretch, `stride` or 1/`rate_fps`     |---------x--x--x--x--x--x----------|
    random      anywhere, in order; evaluation: uniform   |-x---x-x---------x------x-------x--|
    first       the beginning                             |xxxxxx-----------------------------|

Published results depend on one of four conventions: the idea is one, the last frames and the starts of clips differ.
F frames in the video, T in a clip, s the stride, K views; k counts views and i frames, from 0; g = (F - 1) / T.
`[a, b)` draws a whole number. Evaluation never draws.

    dense      start in training             in evaluation: K = 1; K > 1             frames
    mmaction2  k a + [0, a)                  m // 2; round(k m / (K - 1))            start + i s
    slowfast   a real number in 0 .. F - Ts  (F - Ts) // 2; k (F - Ts) / K           T points, start .. start + Ts - 1
    videomae   [0, F - Ts)                   the middle; K of all windows            T points, start .. start + Ts;
                                             of T frames in 0, s, 2s ..              in evaluation start + i s
    dmvr       [0, F - (T - 1) s)            (F - Ts) // 2; K points, 0 .. F - Ts    start + i s
               where a = (F - Ts + 1) // K and m = F - (T - 1) s - 1

    uniform    frame i in training           in evaluation: K = 1; K > 1
    mmaction2  i (F // T) + [0, F // T)      (2i + 1) F / 2T; round(i g) + trunc((k + 1) g / (K + 1))
    slowfast   from round(i g) to round((i + 1) g), both included; (k + 1) / (K + 1) of that way
    videomae   i (F // T) + [0, F // T)      (2i + 1) F / 2T; (i + k / K) F / T

Where nobody published a formula, this file chooses one. `dmvr` has no uniform sampler and takes that of `mmaction2`.
`linspace`, `random` and `first` are the same in every convention; further views take points between those of
`linspace`, and the next T frames after `first`. One dense `slowfast` view is the middle one, as the papers say; the
code takes the first. VideoMAE's training repeats frame 0 in a video of fewer than T frames; here it spreads them.
VideoMAE's masked pretraining is dense `mmaction2`. Fractions are cut off after exact arithmetic: where floating point
lands a hair below a whole number (so do NumPy and PyTorch, in different places), the whole number counts.

Source: MMAction2 `SampleFrames`, `UniformSample`; PySlowFast `decoder.py`, `ssv2.py`; VideoMAE `kinetics.py`,
`ssv2.py`; DMVR `processors.py`; PyTorchVideo `uniform_temporal_subsample`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int64

from tubelet.errors import ConfigError, FrameOutOfRange
from tubelet.video.clip import VideoInfo
from tubelet.video.spec import InputSpec

__all__ = ["Convention", "crop_offsets", "plan"]

Convention = Literal["mmaction2", "slowfast", "videomae", "dmvr"]
Rows = Int64[np.ndarray, "views frames"]

_HAIR = 1e-6  # of a frame: what floating point may lack to a whole number


def plan(
    info: VideoInfo,
    spec: InputSpec,
    *,
    views: int = 1,
    training: bool = False,
    generator: np.random.Generator | None = None,
) -> Rows:
    """Choose the frames of every view of a video.

    Apart from reading, so that a plan can be tested, stored and shown, and a decoder gets all frames in one request.

    `spec.rate_fps` replaces `stride` by source rate / `rate_fps`, so that seconds count: a copy of the video at twice
    the rate gives the same moments, to a frame and a half of the slower copy. PySlowFast's rule, stride s in a video
    brought to 30 frames per second, is `rate_fps=30 / s`; its offset sampling is `mmaction2` with that rate, which
    rounds the distance between clips down to a frame, so that view k may differ by 1 + k / 2 frames.

    A video too short for its clip goes on as `spec.short` says: `loop` begins again, `repeat_last` repeats the last
    frame that was sampled, or the video's last one where the original does (slowfast, rates, videomae in training).

    Args:
        info: the video; only `num_frames` counts, and `fps` where `spec.rate_fps` is set.
        spec: how many frames, and by which sampling and convention: the tables at the top of this module.
        views: clips per video. Evaluation spreads them over the video, training draws each anew.
        training: draw from `generator` instead of taking fixed frames.
        generator: required in training, even by samplings that draw nothing; evaluation does not touch it.

    Returns:
        Indices in 0 .. num_frames - 1. They never descend within a view, except where `loop` began again.

    Raises:
        ConfigError: training without a generator, no view, or a rate asked of frames that have no time.
        FrameOutOfRange: the video has no frame.

    Example:
        >>> info = VideoInfo(num_frames=48, height=240, width=320, fps=24.0, duration_s=2.0, codec="h264", rotation=0)
        >>> plan(info, InputSpec(frames=8)).tolist()
        [[3, 9, 15, 21, 27, 33, 39, 45]]
        >>> plan(info, InputSpec(frames=4, sampling="dense", stride=6), views=2).tolist()
        [[0, 6, 12, 18], [29, 35, 41, 47]]
    """
    if views < 1:
        raise ConfigError(f"views must be at least 1 - found {views} - give a positive whole number.")
    if info.num_frames < 1:
        raise FrameOutOfRange(f"{spec.frames} frames were asked of a video - it has none - leave it out.")
    request = _Request(info.num_frames, spec.frames, _step(info, spec), views, spec.short, spec.rate_fps is not None)
    rule = _RULES[spec.sampling][spec.convention]
    if not training:
        return _continue_short(rule.test(request), request)
    if generator is None:
        raise ConfigError(
            f"training with sampling '{spec.sampling}' draws its frames - found no generator - "
            "pass generator=numpy.random.default_rng(0), or training=False."
        )
    return _continue_short(rule.train(request, generator), request)


def crop_offsets(size_px: int, crop_px: int, crops: int, convention: Convention) -> tuple[int, ...]:
    """Choose where crops begin along the longer side of a frame.

    Args:
        size_px: the longer side, after the frame was scaled: the width, or the height of a portrait video.
        crop_px: side of the crop.
        crops: 1 for the middle, 3 for both ends and the middle.
        convention: whose rounding and order. `dmvr` takes three crops as `slowfast` does.

    Returns:
        First pixel of each crop. Left, middle, right; but left, right, middle for `mmaction2`, whose right crop
        also misses the last pixel where size and crop differ by an odd number.

    Raises:
        ConfigError: the crop is larger than the frame, or another number of crops.

    Example:
        >>> crop_offsets(341, 256, 3, "slowfast")
        (0, 43, 85)
        >>> crop_offsets(341, 256, 3, "mmaction2")
        (0, 84, 42)

    Source: SlowFast `uniform_crop`; MMAction2 `ThreeCrop`; VideoMAE `kinetics.py`; torchvision `CenterCrop` (videomae).
    """
    room = size_px - crop_px
    if crop_px < 1 or room < 0:
        raise ConfigError(f"crop of {crop_px} px - found a side of {size_px} px - scale the frame up or crop less.")
    if crops not in (1, 3):
        raise ConfigError(f"crops must be 1 or 3 - found {crops} - take 1 (the middle) or 3 (ends and middle).")
    return _CROPS[convention][crops](room)


@dataclass(frozen=True)
class _Request:
    """Hold the numbers every rule works on."""

    num_frames: int
    frames: int
    step: float
    """Source frames from one sampled frame to the next: whole unless a rate was asked."""
    views: int
    short: Literal["repeat_last", "loop"]
    timed: bool

    @property
    def span(self) -> float:
        """Source frames that a clip covers, each sampled frame counted with the gap behind it."""
        return max(1.0, self.frames * self.step)

    @property
    def slack(self) -> float:
        """Source frames by which a clip of that span can be moved."""
        return max(self.num_frames - self.span, 0.0)


class _Rule(NamedTuple):
    """Pair the frames drawn in training with the fixed ones of evaluation; both may lie beyond the end."""

    train: Callable[[_Request, np.random.Generator], Rows]
    test: Callable[[_Request], Rows]


def _step(info: VideoInfo, spec: InputSpec) -> float:
    if spec.sampling != "dense" or spec.rate_fps is None:
        return float(spec.stride)
    if info.fps > 0:
        return info.fps / spec.rate_fps
    if info.num_frames == 1:
        return 1.0
    raise ConfigError(
        f"rate_fps={spec.rate_fps} was asked - found {info.num_frames} frames without time (fps {info.fps}) - "
        "set rate_fps to null and give a stride."
    )


def _truncate(positions: Float[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
    return np.floor(positions + _HAIR).astype(np.int64)


def _continue_short(positions: Rows, request: _Request) -> Rows:
    if request.short == "loop":
        return positions % request.num_frames
    within = positions < request.num_frames
    last = np.where(within, positions, 0).max(axis=1, keepdims=True)
    return np.where(within, positions, last)


def _stop_at_end(positions: Rows, request: _Request) -> Rows:
    return positions if request.short == "loop" else np.minimum(positions, request.num_frames - 1)


def _stride_from(starts: Int[np.ndarray, " views"], request: _Request) -> Rows:
    return _truncate(starts[:, None] + np.arange(request.frames) * request.step)


def _lengthen(sampled: Int64[np.ndarray, " some"], last: int, request: _Request) -> Int64[np.ndarray, " enough"]:
    missing = max(request.frames - len(sampled), 0)
    if request.short == "loop" and missing and len(sampled):
        return np.resize(sampled, request.frames)
    return np.append(sampled, np.full(missing, last, np.int64))


def _draw_starts(
    num_frames: int, span: float, count: int, generator: np.random.Generator
) -> Int64[np.ndarray, " count"]:
    """Draw one start in each of `count` equal parts of a video; the four cases are MMAction2's."""
    room = num_frames - span + 1
    each = int(room // count)
    if each > 0:
        return np.arange(count) * each + generator.integers(each, size=count)
    if num_frames > max(count, span):
        return np.sort(generator.integers(int(room), size=count))
    return np.rint(np.arange(count) * max(room, 0.0) / count).astype(np.int64)


def _uniform_mmaction2_train(request: _Request, generator: np.random.Generator) -> Rows:
    rows = [_draw_starts(request.num_frames, 1.0, request.frames, generator) for _ in range(request.views)]
    return np.stack(rows)


def _uniform_mmaction2_test(request: _Request) -> Rows:
    return _segment_centers(request) if request.views == 1 else _segment_parts(request)


def _segment_centers(request: _Request) -> Rows:
    middles = (2 * np.arange(request.frames) + 1) * request.num_frames // (2 * request.frames)
    return middles[None]


def _segment_edges(request: _Request) -> Int64[np.ndarray, " edges"]:
    return _truncate(np.rint(np.arange(request.frames + 1) * ((request.num_frames - 1) / request.frames)))


def _segment_parts(request: _Request) -> Rows:
    """Cut each segment once per view: at a half for one, at the thirds for two."""
    part = (request.num_frames - 1) / request.frames / (request.views + 1)
    shifts = _truncate(np.arange(1, request.views + 1) * part)
    rows: Rows = _segment_edges(request)[:-1] + shifts[:, None]
    return rows


def _uniform_slowfast_train(request: _Request, generator: np.random.Generator) -> Rows:
    edges = _segment_edges(request)
    return generator.integers(edges[:-1], edges[1:], size=(request.views, request.frames), endpoint=True)


def _uniform_slowfast_test(request: _Request) -> Rows:
    edges = _segment_edges(request)
    weight = np.arange(1, request.views + 1)[:, None]
    return (edges[:-1] * (request.views + 1 - weight) + edges[1:] * weight) // (request.views + 1)


def _uniform_videomae_train(request: _Request, generator: np.random.Generator) -> Rows:
    slots = np.arange(request.frames)
    each = request.num_frames // request.frames
    if each == 0:
        return np.tile(slots * request.num_frames // request.frames, (request.views, 1))
    return slots * each + generator.integers(each, size=(request.views, request.frames))


def _uniform_videomae_test(request: _Request) -> Rows:
    if request.views == 1:
        return _segment_centers(request)
    views = np.arange(request.views)[:, None]
    return (np.arange(request.frames) * request.views + views) * request.num_frames // (request.frames * request.views)


def _linspace(request: _Request, _: np.random.Generator | None = None) -> Rows:
    points = request.frames * request.views
    whole = np.arange(points) * (request.num_frames - 1) // max(points - 1, 1)
    return whole.reshape(request.frames, request.views).T


def _first(request: _Request, _: np.random.Generator | None = None) -> Rows:
    starts = np.minimum(np.arange(request.views) * request.frames, max(request.num_frames - request.frames, 0))
    return starts[:, None] + np.arange(request.frames)


def _random_train(request: _Request, generator: np.random.Generator) -> Rows:
    if request.num_frames < request.frames:
        return np.tile(np.arange(request.frames), (request.views, 1))
    rows = [generator.choice(request.num_frames, request.frames, replace=False) for _ in range(request.views)]
    return np.sort(np.stack(rows), axis=1)


def _clips_mmaction2(starts: Int[np.ndarray, " views"], request: _Request) -> Rows:
    if not request.timed:
        return _stride_from(starts, request)
    return _stop_at_end(starts[:, None] + _truncate(np.linspace(0.0, request.span - 1, request.frames)), request)


def _dense_mmaction2_train(request: _Request, generator: np.random.Generator) -> Rows:
    return _clips_mmaction2(_draw_starts(request.num_frames, request.span, request.views, generator), request)


def _dense_mmaction2_test(request: _Request) -> Rows:
    reach = request.span if request.timed else (request.frames - 1) * request.step + 1
    slack = max(request.num_frames - reach, 0.0)
    views = np.arange(request.views)
    if request.views == 1:
        starts = np.array([slack // 2])
    elif request.timed:
        starts = views * (slack // (request.views - 1))
    else:
        starts = np.rint(views * slack / (request.views - 1))
    return _clips_mmaction2(starts.astype(np.int64), request)


def _clips_slowfast(starts: Float[np.ndarray, " views"], request: _Request) -> Rows:
    points = np.linspace(starts, starts + request.span - 1, request.frames, axis=1)
    return _stop_at_end(_truncate(points), request)


def _dense_slowfast_train(request: _Request, generator: np.random.Generator) -> Rows:
    return _clips_slowfast(generator.uniform(0.0, request.slack, request.views), request)


def _dense_slowfast_test(request: _Request) -> Rows:
    if request.views == 1:
        return _clips_slowfast(np.array([request.slack // 2]), request)
    return _clips_slowfast(np.arange(request.views) * request.slack / request.views, request)


def _dense_videomae_train(request: _Request, generator: np.random.Generator) -> Rows:
    span = int(request.span)
    if request.num_frames > span:
        ends = generator.integers(span, request.num_frames, size=request.views)
        rows: Rows = np.minimum(_truncate(np.linspace(ends - span, ends, request.frames, axis=1)), ends[:, None] - 1)
        return rows
    count = min(int(request.num_frames // request.step), request.frames)
    sampled = np.minimum(_truncate(np.linspace(0, request.num_frames, count)), request.num_frames - 1)
    return np.tile(_lengthen(sampled, request.num_frames - 1, request), (request.views, 1))


def _dense_videomae_test(request: _Request) -> Rows:
    count = math.ceil(request.num_frames / request.step - _HAIR)
    sampled = _truncate(np.arange(count) * request.step)
    sampled = _lengthen(sampled, int(sampled[-1]), request)
    slack = len(sampled) - request.frames
    starts = np.arange(request.views) * slack // (request.views - 1) if request.views > 1 else np.array([slack // 2])
    rows: Rows = sampled[starts[:, None] + np.arange(request.frames)]
    return rows


def _dense_dmvr_train(request: _Request, generator: np.random.Generator) -> Rows:
    room = math.ceil(request.num_frames - (request.frames - 1) * request.step - _HAIR)
    return _stride_from(generator.integers(max(room, 1), size=request.views), request)


def _dense_dmvr_test(request: _Request) -> Rows:
    if request.views == 1:
        return _stride_from(np.array([int(request.slack // 2)]), request)
    return _stride_from(_truncate(np.linspace(0.0, request.slack, request.views)), request)


def _in_every_convention(rule: _Rule) -> dict[Convention, _Rule]:
    return {"mmaction2": rule, "slowfast": rule, "videomae": rule, "dmvr": rule}


_RULES: Mapping[str, Mapping[Convention, _Rule]] = {
    "uniform": {
        "mmaction2": _Rule(_uniform_mmaction2_train, _uniform_mmaction2_test),
        "slowfast": _Rule(_uniform_slowfast_train, _uniform_slowfast_test),
        "videomae": _Rule(_uniform_videomae_train, _uniform_videomae_test),
        "dmvr": _Rule(_uniform_mmaction2_train, _uniform_mmaction2_test),
    },
    "dense": {
        "mmaction2": _Rule(_dense_mmaction2_train, _dense_mmaction2_test),
        "slowfast": _Rule(_dense_slowfast_train, _dense_slowfast_test),
        "videomae": _Rule(_dense_videomae_train, _dense_videomae_test),
        "dmvr": _Rule(_dense_dmvr_train, _dense_dmvr_test),
    },
    "linspace": _in_every_convention(_Rule(_linspace, _linspace)),
    "random": _in_every_convention(_Rule(_random_train, _uniform_mmaction2_test)),
    "first": _in_every_convention(_Rule(_first, _first)),
}


# By the pixels that the frame has beyond the crop.
_CROPS: Mapping[Convention, Mapping[int, Callable[[int], tuple[int, ...]]]] = {
    "mmaction2": {1: lambda room: (room // 2,), 3: lambda room: (0, 2 * (room // 2), room // 2)},
    "slowfast": {1: lambda room: (math.ceil(room / 2),), 3: lambda room: (0, math.ceil(room / 2), room)},
    "videomae": {1: lambda room: (round(room / 2),), 3: lambda room: (0, room // 2, room)},
    "dmvr": {1: lambda room: (room // 2,), 3: lambda room: (0, math.ceil(room / 2), room)},
}
