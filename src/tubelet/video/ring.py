"""Cut frames that keep coming into windows: at a steady rate, and the newest when there is no time.

    frames      |   |  | |    |   |       |  |  |   |      as they come, at times of their own
    ticks       0     1     2     3     4     5     6      every `step_s`: what is on the screen then
    windows     [ 0     1     2     3 ]
                            [ 2     3     4     5 ]        `frames` ticks each, `hop` ticks apart

A window that waits too long is left out for a later one, and frames that no window ever held are counted.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from tubelet.video.live import LiveFrame

__all__ = ["Sample", "Ticks", "WindowRing"]

P = TypeVar("P")

TOLERANCE = 0.1
"""Part of the time between two frames of the source by which a frame may be late for its tick: files round times."""


@dataclass(frozen=True)
class Sample(Generic[P]):
    """Hold what was on the screen at one tick."""

    tick: int
    """Counted from the first frame."""
    arrived_s: float
    """When that frame came, by `time.monotonic`."""
    picture: P


class Ticks:
    """Choose, among frames that come one by one, the one that is shown at each tick: the last that is not after it.

    Args:
        step_s: seconds from one tick to the next; the first one is at the first frame.
        interval_s: seconds from one frame of the source to the next, as stated; 0 where nothing is.
        longest: ticks that one frame may stand for. After a longer gap, those between are left out.
    """

    def __init__(self, step_s: float, interval_s: float, longest: int) -> None:
        self._step_s = step_s
        self._tolerance_s = TOLERANCE * min(interval_s or step_s, step_s)
        self._longest = longest
        self._next = 0
        self._shown: LiveFrame | None = None

    def add(self, frame: LiveFrame) -> Iterator[tuple[int, LiveFrame]]:
        """Take the next frame, and give the ticks that are decided by it, each with the frame that it shows."""
        missed = math.ceil((frame.time_s - self._tolerance_s) / self._step_s) - self._next
        if self._shown is None or missed > self._longest:
            self._next += max(missed, 0)
            missed = 0
        for _ in range(missed):
            assert self._shown is not None
            yield self._next, self._shown
            self._next += 1
        if self._next * self._step_s <= frame.time_s + self._tolerance_s:
            yield self._next, frame
            self._next += 1
        self._shown = frame


class WindowRing(Generic[P]):
    """Keep the newest samples, and hand out windows of them; one thread may put while another takes.

    Args:
        frames: samples of a window.
        hop: samples from one window to the next; windows begin at its multiples.
        capacity: samples kept, at least those of a window; the oldest make room.
    """

    def __init__(self, frames: int, hop: int, capacity: int) -> None:
        self._frames, self._hop = frames, hop
        self._capacity = max(capacity, frames)
        self._samples: deque[Sample[P]] = deque()
        self._changed = threading.Condition()
        self._next = 0
        self._used_end = 0
        self._is_finished = False
        self.num_dropped = 0
        """Samples that no window ever held."""
        self.num_skipped = 0
        """Windows left out because there was no time for them."""

    def put(self, sample: Sample[P]) -> None:
        """Add the next sample; the oldest one makes room."""
        with self._changed:
            if self._samples and sample.tick != self._samples[-1].tick + 1:
                self._forget(sample.tick)
                self._next = max(self._next, _round_up(sample.tick, self._hop))
            elif len(self._samples) == self._capacity:
                self._forget(self._samples[0].tick + 1)
            self._samples.append(sample)
            self._changed.notify_all()

    def finish(self) -> None:
        """Say that no sample follows."""
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def take(self, budget_s: float | None = None, cost_s: float = 0.0) -> list[Sample[P]] | None:
        """Return the next window; None where none is complete.

        Args:
            budget_s: how old the window's newest frame may be when its scores are there: the first window that makes it
                is taken, and the newest where none does. None takes every window.
            cost_s: how long scoring is going to take.
        """
        with self._changed:
            starts = self._list_starts()
            if not starts:
                return None
            start = starts[0]
            if budget_s is not None:
                latest_s = time.monotonic() + cost_s - budget_s
                start = next((one for one in starts if self._find_arrival(one) >= latest_s), starts[-1])
            self.num_skipped += (start - self._next) // self._hop
            self._forget(start)
            self._next, self._used_end = start + self._hop, start + self._frames
            return [self._samples[place] for place in range(self._frames)]

    def wait(self, timeout_s: float) -> bool:
        """Wait until a window is complete, or no sample follows; say whether samples may still follow."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_finished or bool(self._list_starts()), timeout_s)
            return not self._is_finished

    def _list_starts(self) -> range:
        if not self._samples:
            return range(0)
        first = max(self._next, _round_up(self._samples[0].tick, self._hop))
        return range(first, self._samples[-1].tick - self._frames + 2, self._hop)

    def _find_arrival(self, start: int) -> float:
        return self._samples[start + self._frames - 1 - self._samples[0].tick].arrived_s

    def _forget(self, before: int) -> None:
        while self._samples and self._samples[0].tick < before:
            self.num_dropped += self._samples.popleft().tick >= self._used_end


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step
