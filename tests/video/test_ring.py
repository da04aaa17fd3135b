"""Hold that windows are cut by time, whatever the source's rate, and that the newest win when there is no time."""

import time

import numpy as np
import pytest

from tubelet.video.live import LiveFrame
from tubelet.video.ring import Sample, Ticks, WindowRing


def tick(times_s, step_s, interval_s=0.04, longest=100):
    """Give (tick, index of the frame that it shows) for frames that come at these times."""
    ticks = Ticks(step_s, interval_s, longest)
    frames = [LiveFrame(time_s, 0.0, lambda index=index: index) for index, time_s in enumerate(times_s)]
    return [(number, shown.show()) for frame in frames for number, shown in ticks.add(frame)]


@pytest.mark.parametrize("step_s", [0.04, 0.1, 0.013, 1 / 12.5])
@pytest.mark.parametrize("jitter", [0.0, 0.03])
def test_each_tick_shows_the_last_frame_that_is_not_after_it(step_s, jitter):
    times_s = np.arange(200) * 0.04 + np.sort(np.random.default_rng(0).uniform(0, jitter, 200))
    times_s -= times_s[0]
    found = tick(times_s.tolist(), step_s)
    assert [number for number, _ in found] == list(range(len(found)))
    allowed_s = 0.1 * min(0.04, step_s)
    expected = np.searchsorted(times_s, np.arange(len(found)) * step_s + allowed_s, "right") - 1
    assert [index for _, index in found] == expected.tolist()
    assert len(found) == int((times_s[-1] + allowed_s) / step_s) + 1


def test_times_rounded_to_milliseconds_give_every_frame_once():
    times_s = [round(index / 30, 3) for index in range(300)]
    assert tick(times_s, 1 / 30, 1 / 30) == [(index, index) for index in range(300)]


def test_a_frame_does_not_stand_for_a_gap_longer_than_a_window():
    found = tick([0.0, 1.0, 2.0, 50.0, 51.0], 1.0, 1.0, longest=4)
    assert found == [(0, 0), (1, 1), (2, 2), (50, 3), (51, 4)]


def fill(ring, ticks, arrived_s=0.0):
    for number in ticks:
        ring.put(Sample(number, arrived_s, number))


def take(ring, *budget):
    window = ring.take(*budget)
    return window and [sample.picture for sample in window]


def test_windows_follow_each_other_and_nothing_is_dropped_where_there_is_time():
    ring = WindowRing(4, 2, 100)
    fill(ring, range(9))
    assert [take(ring) for _ in range(4)] == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], None]
    assert (ring.num_dropped, ring.num_skipped) == (0, 0)


def test_the_oldest_frames_make_room_and_those_no_window_held_are_counted():
    ring = WindowRing(4, 2, 6)
    fill(ring, range(4))
    assert take(ring) == [0, 1, 2, 3]
    fill(ring, range(4, 21))
    # 15 to 20 are left; windows begin at even numbers; 4 to 14 were in none, and so was 15.
    assert take(ring) == [16, 17, 18, 19]
    assert ring.num_dropped == 12
    assert ring.num_skipped == 7


def test_the_first_window_within_the_budget_is_taken_and_else_the_newest(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 10.0)
    ring = WindowRing(2, 1, 100)
    for number in range(8):
        ring.put(Sample(number, 2.0 + number, number))  # the last one came at 9 s
    assert take(ring, 5.0) == [2, 3]  # that frame is 5 s old
    assert take(ring, 5.0, 2.0) == [4, 5]  # scoring takes 2 s of it
    assert take(ring, 0.1) == [6, 7]
    assert take(ring, 0.1) is None
    assert ring.num_dropped == 2  # 0 and 1
    assert ring.num_skipped == 4


def test_a_gap_in_the_source_begins_a_new_window():
    ring = WindowRing(4, 2, 100)
    fill(ring, [0, 1, 2, 3, 4])
    assert take(ring) == [0, 1, 2, 3]
    fill(ring, [51, 52, 53, 54, 55])
    assert take(ring) == [52, 53, 54, 55]
    assert ring.num_skipped == 0
