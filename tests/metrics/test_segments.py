"""Hold the measure of segments to an example worked out by hand, and to a plain second implementation."""

import numpy as np
import pytest

from tubelet.errors import DataError
from tubelet.metrics import LabeledSpan, measure_segments

TRUE = [
    LabeledSpan("a", "jump", 0, 10),
    LabeledSpan("a", "jump", 20, 30),
    LabeledSpan("b", "jump", 0, 4),
    LabeledSpan("a", "run", 10, 20),
]


def test_the_figures_are_those_of_an_example_worked_out_by_hand():
    found = [
        LabeledSpan("a", "jump", 0, 8, 0.9),  # IoU .8 with the first
        LabeledSpan("a", "jump", 1, 10, 0.8),  # IoU .9 with the first, which is taken
        LabeledSpan("b", "jump", 2, 6, 0.7),  # IoU 2/6 with the third
        LabeledSpan("a", "jump", 20, 24, 0.6),  # IoU .4 with the second
        LabeledSpan("c", "jump", 0, 10, 0.5),  # no true segment in this video
        LabeledSpan("a", "run", 12, 20, 0.4),  # IoU .8
        LabeledSpan("a", "swim", 0, 9, 0.9),  # no class of the truth: does not count
    ]
    metrics = measure_segments(found, TRUE)
    # jump at .3: right, wrong, right, right, wrong: precision 1, then 3/4 from the third on
    assert metrics.per_class["jump"] == pytest.approx({0.3: (1 + 3 / 4 + 3 / 4) / 3, 0.5: 1 / 3, 0.7: 1 / 3})
    assert metrics.per_class["run"] == {0.3: 1.0, 0.5: 1.0, 0.7: 1.0}
    assert metrics.mean_ap == pytest.approx({0.3: (2.5 / 3 + 1) / 2, 0.5: 2 / 3, 0.7: 2 / 3})
    # .5 to .8 as at .5 (seven thresholds); at .85 and .9 the surest is wrong, the second right: 1/2 of a third
    run, jump = 7 / 10, (7 * 1 / 3 + 2 * (1 / 2) / 3) / 10
    assert metrics.average_map == pytest.approx((run + jump) / 2)
    assert (metrics.n_true, metrics.n_found, metrics.n_videos) == (4, 7, 3)


def overlap(one, other):
    common = max(0.0, min(one.end_s, other.end_s) - max(one.start_s, other.start_s))
    return common / (one.end_s - one.start_s + other.end_s - other.start_s - common)


def precision_at(found, true, threshold):
    """Average precision by the definition: the best precision at each recall or a higher one, at every true segment."""
    ranked, taken, points = sorted(found, key=lambda span: -span.score), set(), []
    for rank, span in enumerate(ranked, 1):
        free = [
            (overlap(span, other), -number)
            for number, other in enumerate(true)
            if other.video == span.video and number not in taken and overlap(span, other) >= threshold
        ]
        if free:
            taken.add(-max(free)[1])
        points.append((len(taken) / len(true), len(taken) / rank))
    reached = [
        max((precision for recall, precision in points if recall >= (step + 1) / len(true) - 1e-9), default=0.0)
        for step in range(len(true))
    ]
    return sum(reached) / len(true)


@pytest.mark.parametrize("seed", range(20))
def test_the_figures_are_those_of_the_definition(seed):
    rng = np.random.default_rng(seed)

    def draw(count, score):
        starts, lengths = rng.uniform(0, 30, count), rng.uniform(0.5, 8, count)
        return [
            LabeledSpan(str(rng.integers(3)), "xyz"[rng.integers(3)], start, start + length, score())
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]

    true, found = draw(14, lambda: 1.0), draw(40, rng.random)
    metrics = measure_segments(found, true, (0.1, 0.3, 0.5))
    for name, figures in metrics.per_class.items():
        mine, theirs = ([span for span in spans if span.label == name] for spans in (found, true))
        assert figures == pytest.approx({limit: precision_at(mine, theirs, limit) for limit in figures})


def test_no_truth_is_refused_and_nothing_found_is_zero():
    with pytest.raises(DataError, match="no true one"):
        measure_segments(TRUE, [])
    assert measure_segments([], TRUE).mean_ap == {0.3: 0.0, 0.5: 0.0, 0.7: 0.0}
