"""Predict what is happening, again and again, in frames that keep coming.

    source --frames--> ticks at the model's rate --fit--> ring --newest window in time--> scores --> enter, leave

A live source does not wait: a thread of its own reads it into a ring of the newest frames, and where scoring or whoever
takes the predictions is too slow, windows are left out, so that what is said is never older than a budget. A file does
wait, and every window of it is scored.
"""

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from torch import Tensor

from tubelet.calibration import COVERAGE, check_coverage
from tubelet.errors import ConfigError
from tubelet.prediction.predict import Prediction, judge
from tubelet.prediction.windows import WindowScorer, plan_hop
from tubelet.scorer import Inferred, Scorer
from tubelet.transforms.preparation import fit
from tubelet.video.live import FrameSource, LiveFrame, LiveSource
from tubelet.video.ring import Sample, Ticks, WindowRing
from tubelet.video.spec import InputSpec
from tubelet.video.volumes import VolumeView

__all__ = ["PredictionStream", "StreamEvent", "StreamPrediction", "Thresholds", "stream"]

_WAIT_S = 0.2
"""How often a wait looks whether Ctrl-C was pressed; not all systems interrupt a lock."""
_CLOSE_S = 1.0
"""Longest wait for the reading thread at the end; a silent network holds it until its time-out."""


@dataclass(frozen=True)
class Thresholds:
    """State when a class counts as present: it enters at one score, and leaves below a lower one.

    The gap between keeps a score that wavers about one limit from entering and leaving at every window.
    """

    enter: float = 0.6
    """Score at which a class enters."""
    leave: float = 0.4
    """Score below which it leaves again."""

    def __post_init__(self) -> None:
        if not 0 <= self.leave <= self.enter <= 1:
            raise ConfigError(
                f"thresholds must satisfy 0 <= leave <= enter <= 1 - found leave={self.leave}, enter={self.enter} - "
                "0.4 and 0.6 are usual."
            )


@dataclass(frozen=True)
class StreamEvent:
    """State that a class came or went."""

    kind: Literal["enter", "leave"]
    label: str
    time_s: float
    """End of the window that says so, in seconds from the first frame."""


@dataclass(frozen=True)
class StreamPrediction:
    """State what a classifier says of one window of a stream."""

    start_s: float
    """Begin of the window, in seconds from the source's first frame."""
    end_s: float
    """End of the window: when its last frame gives way to the next one of the clip."""
    prediction: Prediction
    """What is in it, as for a video of its own."""
    active: tuple[str, ...]
    """Classes that have entered and not left, in the order in which they came."""
    events: tuple[StreamEvent, ...]
    """Classes that entered or left with this window."""
    latency_s: float
    """Seconds from the arrival of the window's newest frame to this prediction."""
    dropped: int
    """Frames so far that no window held, of those that clips at this rate are made of: there was no time."""
    skipped: int
    """Windows so far that were left out."""
    inferred: Inferred = field(repr=False, compare=False)
    """Logits and features, a batch of one."""

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        own = {name: getattr(self, name) for name in ("start_s", "end_s", "latency_s", "dropped", "skipped")}
        events = [vars(event) for event in self.events]
        return {**own, **self.prediction.to_dict(), "active": list(self.active), "events": events}


def stream(
    classifier: Scorer,
    source: str | int | FrameSource,
    *,
    window_s: float | None = None,
    hop_s: float | None = None,
    latency_s: float = 1.0,
    thresholds: Thresholds = Thresholds(),
    realtime: bool | None = None,
    coverage: float = COVERAGE,
    on_frame: Callable[[LiveFrame], None] | None = None,
) -> "PredictionStream":
    """Classify a stream window by window, while it comes.

    A window is a clip as the model was trained on: `frames` frames at `rate_fps`, or every `stride`-th of the source's
    stated rate, taken by their times, so that variable rates and lost frames do no harm.

    Args:
        classifier: what `tubelet.load` gives.
        source: anything `LiveSource` opens, or one that is open (with options of its own), or a `FrameFeed` of your own
            frames. It is closed with the stream.
        window_s: seconds that a window lasts; needed by models that were trained on frames spread over whole clips of
            any length. None: as the model was trained.
        hop_s: seconds from one window to the next, rounded to whole frames of the clip, at least one; None: about an
            eighth of a window. Models that encode step by step do so once where it is a whole number of steps.
        latency_s: budget of time, from the arrival of a window's newest frame to its prediction.
        thresholds: when classes enter and leave.
        realtime: read in a thread and leave out what there is no time for; False lets the source wait and scores
            every window. None: True for live sources, False for files.
        coverage: share of windows whose `label_set` shall hold the true class, where the model is calibrated.
        on_frame: called with every frame of the source, in order, as it comes; in real time from another thread.

    Returns:
        An iterator of `StreamPrediction`; `is_cached` and `explanation` say how they are computed. Use it in a `with`
        block, or call its `close`.

    Raises:
        VideoError: the source cannot be opened; while iterating, that it broke off.
        ConfigError: options that do not fit the model or the source.
    """
    check_coverage(coverage)
    _check_input(classifier.input_spec)
    opened = LiveSource(source) if isinstance(source, str | int) else source
    try:
        step_s = plan_step(classifier.input_spec, opened.fps, window_s)
        asked = (latency_s,) if hop_s is None else (latency_s, hop_s)
        if not all(math.isfinite(value) and value > 0 for value in asked):
            raise ConfigError(f"hop_s and latency_s must be positive - found {hop_s} and {latency_s} - leave them out.")
        hop = plan_hop(classifier, None if hop_s is None else hop_s / step_s)
        plan = StreamPlan(step_s, hop, latency_s, opened.is_live if realtime is None else realtime, coverage)
    except BaseException:
        opened.close()
        raise
    return PredictionStream(classifier, opened, plan, thresholds, on_frame)


@dataclass(frozen=True)
class StreamPlan:
    """Hold how a stream is cut and kept in time."""

    step_s: float
    """Seconds between two frames of a clip."""
    hop: int
    """Frames of the clip from one window to the next."""
    latency_s: float
    realtime: bool
    coverage: float


class PredictionStream:
    """Iterate over the predictions of a stream; made by `stream`."""

    def __init__(
        self,
        classifier: Scorer,
        source: FrameSource,
        plan: StreamPlan,
        thresholds: Thresholds,
        on_frame: Callable[[LiveFrame], None] | None,
    ) -> None:
        self.source = source
        self.plan = plan
        self._classifier = classifier
        self._on_frame = on_frame
        self._presence = _Presence(thresholds)
        self._scorer = WindowScorer(classifier, plan.hop, plan.step_s)
        frames = classifier.input_spec.frames
        late = round(plan.latency_s / plan.step_s) + plan.hop
        self._ring = WindowRing[Tensor](frames, plan.hop, frames + late)
        self._ticks = Ticks(plan.step_s, 1 / source.fps if source.fps else 0.0, frames)
        self._fitted: tuple[LiveFrame, Tensor] | None = None
        self._failure: BaseException | None = None
        self._reader: threading.Thread | None = None
        self._cost_s = 0.0
        self._predictions = self._read_live() if plan.realtime else self._read_all()

    @property
    def is_cached(self) -> bool:
        """Whether each step of the stream is encoded once."""
        return self._scorer.is_cached

    @property
    def explanation(self) -> str:
        """Why, or why not, in words."""
        return self._scorer.explanation

    @property
    def window_s(self) -> float:
        """Seconds that a window lasts."""
        return self._classifier.input_spec.frames * self.plan.step_s

    @property
    def hop_s(self) -> float:
        """Seconds from one window to the next."""
        return self.plan.hop * self.plan.step_s

    @property
    def dropped(self) -> int:
        """Frames so far that no window held because there was no time."""
        return self._ring.num_dropped

    @property
    def skipped(self) -> int:
        """Windows so far that were left out."""
        return self._ring.num_skipped

    def __iter__(self) -> Iterator[StreamPrediction]:
        return self

    def __next__(self) -> StreamPrediction:
        return next(self._predictions)

    def close(self) -> None:
        """End the stream and give the source back; `on_frame` is called no more, unless a network is silent."""
        self.source.close()
        self._predictions.close()
        if self._reader is not None and self._reader.is_alive():
            self._reader.join(_CLOSE_S)

    def __enter__(self) -> "PredictionStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_all(self) -> Generator[StreamPrediction, None, None]:
        for frame in self.source.frames():
            self._put(frame)
            while window := self._ring.take():
                yield self._predict(window)

    def _read_live(self) -> Generator[StreamPrediction, None, None]:
        self._reader = threading.Thread(target=self._keep_reading, name="tubelet-stream", daemon=True)
        self._reader.start()
        may_follow = True
        while may_follow:
            may_follow = self._ring.wait(_WAIT_S)
            while window := self._ring.take(self.plan.latency_s, self._cost_s):
                yield self._predict(window)
        if self._failure is not None:
            raise self._failure

    def _keep_reading(self) -> None:
        try:
            for frame in self.source.frames():
                self._put(frame)
        except BaseException as error:  # whatever it is, the thread that iterates shall meet it
            self._failure = error
        finally:
            self._ring.finish()

    def _put(self, frame: LiveFrame) -> None:
        if self._on_frame is not None:
            self._on_frame(frame)
        for index, shown in self._ticks.add(frame):
            if self._fitted is None or self._fitted[0] is not shown:
                self._fitted = (shown, fit(shown.show()[None], self._classifier.input_spec)[0])
            self._ring.put(Sample(index, shown.arrived_s, self._fitted[1]))

    def _predict(self, window: list[Sample[Tensor]]) -> StreamPrediction:
        begin_s = time.monotonic()
        first = window[0].tick
        inferred = self._scorer.infer(first, [sample.picture for sample in window])
        prediction = judge(self._classifier, self.source.name, inferred, self.plan.coverage)
        start_s = first * self.plan.step_s
        end_s = start_s + self.window_s
        events = self._presence.update(prediction.scores, end_s)
        now_s = time.monotonic()
        # The first passes of a model are slow: what they cost is forgotten soon.
        self._cost_s = (self._cost_s + now_s - begin_s) / 2
        return StreamPrediction(
            start_s, end_s, prediction, tuple(self._presence.active), events,
            now_s - window[-1].arrived_s, self.dropped, self.skipped, inferred,
        )  # fmt: skip


class _Presence:
    """Remember which classes are there."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self.active: list[str] = []

    def update(self, scores: dict[str, float], time_s: float) -> tuple[StreamEvent, ...]:
        """Take the scores of one more window."""
        gone = [label for label in self.active if scores[label] < self._thresholds.leave]
        come = [
            label for label, score in scores.items() if score >= self._thresholds.enter and label not in self.active
        ]
        self.active = [label for label in self.active if label not in gone] + come
        left = [StreamEvent("leave", label, time_s) for label in gone]
        return (*left, *(StreamEvent("enter", label, time_s) for label in come))


def plan_step(spec: InputSpec, fps: float | None, window_s: float | None) -> float:
    """Return the seconds between two frames of a clip.

    Args:
        spec: the model's contract.
        fps: stated rate of the source.
        window_s: seconds that a clip shall last; None: as the contract says.

    Raises:
        ConfigError: the contract does not say, or counts frames of a source that states no rate.

    Example:
        >>> plan_step(InputSpec(frames=16, sampling="dense", stride=2), fps=25.0, window_s=None)
        0.08
    """
    if window_s is not None:
        if not (math.isfinite(window_s) and window_s > 0):
            raise ConfigError(f"window_s must be positive - found {window_s} - give the seconds of a window.")
        return window_s / spec.frames
    if spec.sampling not in ("dense", "first"):
        raise ConfigError(
            f"a stream has no end - the model was trained on {spec.frames} frames spread over whole clips "
            f"(input.sampling {spec.sampling}) - say how many seconds such a clip lasts (--window)."
        )
    if spec.sampling == "dense" and spec.rate_fps is not None:
        return 1 / spec.rate_fps
    if fps is None:
        raise ConfigError(
            f"the model counts frames (input.stride {spec.stride}) - the source states no rate - give its fps (--fps), "
            "or how many seconds a window lasts (--window)."
        )
    return (spec.stride if spec.sampling == "dense" else 1) / fps


def _check_input(spec: InputSpec) -> None:
    if spec.kind != "pixels" or spec.volume != VolumeView():
        what = "features of frames" if spec.kind != "pixels" else "volumes"
        raise ConfigError(f"a stream holds pictures - the model takes {what} - use another model.")
