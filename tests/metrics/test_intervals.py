import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tubelet.errors import DataError
from tubelet.metrics import estimate_bootstrap, estimate_wilson


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_intervals_are_those_of_scipy(count, share, level):
    successes = round(share * count)
    expected = stats.binomtest(successes, count).proportion_ci(level, method="wilson")
    found = estimate_wilson(successes, count, level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found.low <= successes / count <= found.high <= 1
    assert found.level == level


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (3, 2), (-1, 5)])
def test_impossible_counts_are_refused(successes, count):
    with pytest.raises(DataError, match=f"found {successes} of {count}"):
        estimate_wilson(successes, count)


def test_the_bootstrap_of_a_mean_is_its_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = estimate_bootstrap(lambda rows: float(values[rows].mean()), 400, np.random.default_rng(1), resamples=4000)
    half = 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        right = generator.random(80) < 0.7
        found = estimate_bootstrap(lambda rows, right=right: float(right[rows].mean()), 80, generator, resamples=200)
        hits += found.low <= 0.7 <= found.high
    assert 180 <= hits <= 199


def test_groups_that_stand_and_fall_together_widen_the_interval():
    groups = np.repeat(np.arange(20), 16)
    right = (np.random.default_rng(0).random(20) < 0.6)[groups]

    def measure(rows):
        return float(right[rows].mean())

    alone = estimate_bootstrap(measure, 320, np.random.default_rng(0))
    grouped = estimate_bootstrap(measure, 320, np.random.default_rng(0), groups=groups)
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(4, rel=0.15)


def test_groups_are_resampled_whole_in_whatever_order_their_rows_come():
    groups = np.array([7, -3, 7, 100, -3, 7])
    members = {frozenset({0, 2, 5}), frozenset({1, 4}), frozenset({3})}
    seen = set()

    def look(rows):
        counts = np.bincount(rows, minlength=6)
        for group in members:
            assert len({counts[row] for row in group}) == 1
            seen.update({group} if counts[min(group)] else ())
        assert sum(counts[min(group)] for group in members) == 3
        return 0.0

    estimate_bootstrap(look, 6, np.random.default_rng(0), groups=groups, resamples=50)
    assert seen == members


def test_equal_generators_give_equal_intervals():
    values = np.random.default_rng(0).normal(size=50)
    one, other, third = (
        estimate_bootstrap(lambda rows: float(values[rows].mean()), 50, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert one == other != third


def test_one_unit_has_no_interval():
    assert estimate_bootstrap(lambda rows: 1.0, 1, np.random.default_rng(0)) is None
    groups = np.zeros(9, dtype=int)
    assert estimate_bootstrap(lambda rows: 1.0, 9, np.random.default_rng(0), groups=groups) is None


def test_resamples_without_a_value_are_left_out():
    def measure(rows):
        return float(rows.sum()) if 0 in rows else float("nan")

    assert np.isfinite(estimate_bootstrap(measure, 5, np.random.default_rng(0)).high)
    assert estimate_bootstrap(lambda rows: float("nan"), 5, np.random.default_rng(0)) is None


def test_groups_of_another_length_are_refused():
    with pytest.raises(DataError, match="found 4 groups for 5 rows"):
        estimate_bootstrap(lambda rows: 1.0, 5, np.random.default_rng(0), groups=np.arange(4))
