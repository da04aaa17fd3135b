"""Hold that verdicts follow from intervals, and that the intervals cover the truth."""

from math import sqrt

import numpy as np
import pytest

from tubelet.evaluation.verdict import Change, decide, estimate_change, estimate_class_change
from tubelet.metrics import Interval


def test_without_groups_the_interval_is_that_of_agresti_and_min():
    differences = np.array([1.0] * 9 + [-1.0] * 2 + [0.0] * 29)
    better, worse, count = 9.5, 2.5, 42
    middle = (better - worse) / count
    half = 1.959963984540054 * sqrt(better + worse - (better - worse) ** 2 / count) / count
    found = estimate_change(differences)
    assert found.value == pytest.approx(7 / 40)
    assert (found.interval.low, found.interval.high) == pytest.approx((middle - half, middle + half))


@pytest.mark.parametrize(("better", "worse"), [(0.0, 0.0), (0.05, 0.02), (0.5, 0.0), (0.3, 0.3)])
def test_intervals_cover_the_truth_in_95_of_100_measurements(better, worse):
    generator = np.random.default_rng(3)
    draws = generator.choice([1.0, -1.0, 0.0], size=(1000, 50), p=[better, worse, 1 - better - worse])
    intervals = [estimate_change(row).interval for row in draws]
    assert np.mean([one.low <= better - worse <= one.high for one in intervals]) >= 0.935


def test_clips_of_one_recording_are_one_observation():
    recordings = np.repeat([1.0, 0.0, 0.0, 1.0, -1.0, 0.0], 10)
    groups = np.repeat(np.arange(6), 10)
    once, repeated = estimate_change(recordings[::10]), estimate_change(recordings, groups)
    assert repeated.interval.low == pytest.approx(once.interval.low)
    assert repeated.interval.high == pytest.approx(once.interval.high)
    assert estimate_change(recordings).interval.low > once.interval.low


def test_calling_every_clip_by_one_name_is_no_skill():
    is_own = np.arange(40) < 10
    everything, right = np.ones(40, np.bool_), is_own.copy()
    loss = estimate_class_change(right, everything, is_own)
    assert loss.value == 1.0  # its recall did not fall at all
    assert estimate_class_change(everything, np.zeros(40, np.bool_), is_own).interval.low < 0


LOST, KEPT, OPEN = (0.6, 0.4, 0.8), (0.0, -0.05, 0.05), (0.15, -0.1, 0.4)
CASES = [
    ((LOST, LOST, LOST), "order"),
    ((LOST, LOST, OPEN), "order"),
    ((LOST, KEPT, LOST), "order"),
    ((LOST, LOST, KEPT), "motion"),
    ((LOST, KEPT, KEPT), "frames"),
    ((LOST, OPEN, KEPT), "undecided"),
    ((OPEN, LOST, LOST), "undecided"),
    ((KEPT, LOST, LOST), "appearance"),
]


def change(value, low, high):
    return Change(value, Interval(low, high))


@pytest.mark.parametrize(("found", "verdict"), CASES)
def test_what_a_model_needs_is_decided_by_what_it_loses(found, verdict):
    losses = dict(zip(("frozen", "shuffled", "reversed"), (change(*one) for one in found), strict=True))
    skill = change(0.8, 0.6, 0.95)
    assert decide(skill, losses, 40) == verdict
    assert decide(skill, losses, 5) == "few"
    assert decide(change(0.1, -0.05, 0.2), losses, 40) == "chance"
