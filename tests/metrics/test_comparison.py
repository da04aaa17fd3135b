import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tubelet.errors import DataError
from tubelet.metrics import compare_paired, mcnemar


def make_answers(only_a, only_b, both=7, neither=3):
    """Answers of two models with so many clips on which only one is right."""
    right_a = np.array([True] * only_a + [False] * only_b + [True] * both + [False] * neither)
    right_b = np.array([False] * only_a + [True] * only_b + [True] * both + [False] * neither)
    return right_a, right_b


@given(st.integers(0, 24), st.integers(0, 24))
def test_few_differing_clips_are_tested_as_scipy_tests_a_fair_coin(only_a, differing):
    only_a = min(only_a, differing)
    found = mcnemar(*make_answers(only_a, differing - only_a))
    expected = stats.binomtest(only_a, differing).pvalue if differing else 1.0
    assert found.is_exact
    assert (found.only_a, found.only_b) == (only_a, differing - only_a)
    assert found.p_value == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 300), st.integers(25, 400))
def test_many_differing_clips_are_tested_by_scipys_chi_squared(only_a, differing):
    only_a = min(only_a, differing)
    only_b = differing - only_a
    found = mcnemar(*make_answers(only_a, only_b))
    statistic = 0.0 if only_a == only_b else (abs(only_a - only_b) - 1) ** 2 / differing
    assert not found.is_exact
    assert found.statistic == pytest.approx(statistic, rel=1e-12)
    assert found.p_value == pytest.approx(stats.chi2.sf(statistic, 1), rel=1e-9, abs=1e-300)


def test_the_test_is_significant_as_often_as_it_should_among_equal_models():
    generator = np.random.default_rng(0)
    significant = 0
    for _ in range(1000):
        right_a, right_b = generator.random((2, 300)) < 0.7
        significant += mcnemar(right_a, right_b).p_value < 0.05
    assert 20 <= significant <= 60  # the correction for continuity makes it a little cautious


def test_answers_about_different_clips_are_refused():
    with pytest.raises(DataError, match="found 3 and 4"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(DataError, match="found 0 and 0"):
        mcnemar(np.ones(0, bool), np.ones(0, bool))


def test_a_pair_tells_what_two_intervals_do_not():
    generator = np.random.default_rng(0)
    hardness = generator.random(200)
    a, b = (hardness < 0.7).astype(float), (hardness < 0.75).astype(float)
    found = compare_paired(lambda rows: a[rows].mean(), lambda rows: b[rows].mean(), 200, generator)
    assert found.difference == pytest.approx(b.mean() - a.mean())
    assert 0 < found.interval.low < found.difference < found.interval.high < 0.1


def test_whole_groups_widen_the_interval_of_a_difference():
    groups = np.repeat(np.arange(20), 16)
    generator = np.random.default_rng(0)
    a, b = (generator.random((2, 20)) < 0.6)[:, groups]
    alone, grouped = (
        compare_paired(
            lambda rows: a[rows].mean(), lambda rows: b[rows].mean(), 320, np.random.default_rng(0), groups=chosen
        ).interval
        for chosen in (None, groups)
    )
    # Sixteen clips that answer alike are as one; and twenty groups are few, for which Student's quantile is wider.
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(4 * 1.09, rel=0.15)
