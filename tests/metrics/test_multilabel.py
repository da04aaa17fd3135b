"""Multi-label figures are scikit-learn's, classes that no clip has are not counted as failures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tubelet.errors import DataError
from tubelet.metrics.multilabel import measure_multilabel
from tubelet.metrics.ranking import Ranking


def draw(seed, count, classes, levels):
    """Draw scores with many ties where levels are few; the last class may be one that no clip has."""
    generator = np.random.default_rng(seed)
    labels = generator.random((count, classes)) < generator.random(classes)
    scores = np.clip(generator.random((count, classes)) * 0.8 + 0.2 * labels, 0, 1)
    return np.round(scores * levels) / levels, labels


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 6), st.sampled_from([3, 10, 10**9]))
def test_every_figure_equals_that_of_scikit_learn(seed, count, classes, levels):
    scores, labels = draw(seed, count, classes, levels)
    if not labels.any():
        return
    found = measure_multilabel(scores, labels, [f"c{index}" for index in range(classes)])
    present = np.flatnonzero(labels.any(0))
    predicted = scores > 0.5
    near = {"abs": 1e-12, "rel": 0}
    expected_ap = [sk.average_precision_score(labels[:, index], scores[:, index]) for index in present]
    assert [found.per_class[index].average_precision for index in present] == pytest.approx(expected_ap, **near)
    assert found.mean_ap == pytest.approx(np.mean(expected_ap), **near)
    both = [index for index in present if not labels[:, index].all()]
    expected_auc = [sk.roc_auc_score(labels[:, index], scores[:, index]) for index in both]
    assert [found.per_class[index].auc for index in both] == pytest.approx(expected_auc, **near)
    assert found.mean_auc == (pytest.approx(np.mean(expected_auc), **near) if both else None)
    for average, own, chosen in (("macro", found.macro, present), ("micro", found.micro, range(classes))):
        rest = {"labels": list(chosen), "average": average, "zero_division": 0}
        expected = sk.precision_recall_fscore_support(labels, predicted, **rest)[:3]
        assert (own.precision, own.recall, own.f1) == pytest.approx(expected, **near)
    assert found.exact_match == pytest.approx(sk.accuracy_score(labels, predicted), **near)
    assert found.hamming_loss == pytest.approx(sk.hamming_loss(labels, predicted), **near)


def test_a_class_that_no_clip_has_is_named_and_enters_no_average():
    scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.9, 0.3]])
    labels = np.array([[True, False, False], [False, False, False]])
    found = measure_multilabel(scores, labels, ["car", "ghost", "dog"])
    ghost = found.per_class[1]
    assert (ghost.average_precision, ghost.auc, ghost.precision, ghost.recall, ghost.f1) == (None,) * 5
    assert (ghost.support, ghost.predicted, found.absent) == (0, 2, ("ghost", "dog"))
    assert (found.mean_ap, found.mean_auc, found.macro.f1) == (1.0, 1.0, 1.0)
    assert found.micro.precision == pytest.approx(1 / 3)


def test_a_resample_measures_as_if_its_clips_had_been_scored_anew():
    scores, labels = draw(3, 30, 4, 10)
    ranking = Ranking(scores, labels)
    for seed in range(20):
        rows = np.random.default_rng(seed).integers(30, size=30)
        anew = Ranking(scores[rows], labels[rows])
        np.testing.assert_allclose(ranking.average_precision(rows), anew.average_precision(), atol=1e-12)
        np.testing.assert_allclose(ranking.auc(rows), anew.auc(), atol=1e-12)


def test_what_cannot_be_measured_is_refused():
    scores, labels = np.zeros((2, 3)), np.ones((2, 3), bool)
    for wrong in ((scores, labels, "ab"), (scores[:0], labels[:0], "abc")):
        with pytest.raises(DataError, match="one column for each class"):
            measure_multilabel(*wrong)
    with pytest.raises(DataError, match="clips that have a class"):
        measure_multilabel(scores, ~labels, "abc")
    with pytest.raises(DataError, match="nan"):
        measure_multilabel(scores * np.nan, labels, "abc")
