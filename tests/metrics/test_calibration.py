import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional import classification as torchmetrics

from tubelet.errors import DataError
from tubelet.metrics import measure_calibration


def draw(seed, count, num_classes):
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.full(num_classes, 0.4), count), generator.integers(0, num_classes, count)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 7), st.sampled_from([5, 15]))
def test_every_figure_is_that_of_scikit_learn_and_torchmetrics(seed, count, num_classes, bins):
    scores, labels = draw(seed, count, num_classes)
    found = measure_calibration(scores, labels, bins)
    truth = np.eye(num_classes)[labels]
    assert found.brier == pytest.approx(((scores - truth) ** 2).sum(1).mean(), abs=1e-12)
    expected = sklearn_metrics.log_loss(labels, scores, labels=range(num_classes))
    assert found.nll == pytest.approx(expected, abs=1e-12)
    # torchmetrics gives a confidence of exactly 1 a bin of its own; none is drawn here.
    expected = torchmetrics.multiclass_calibration_error(
        torch.from_numpy(scores), torch.from_numpy(labels), num_classes=num_classes, n_bins=bins
    )
    assert found.ece == pytest.approx(float(expected), abs=1e-6)
    assert sum(one.count for one in found.bins) == count


def test_the_brier_score_of_two_classes_is_twice_that_of_the_second_one():
    scores, labels = draw(0, 50, 2)
    assert measure_calibration(scores, labels).brier == pytest.approx(
        2 * sklearn_metrics.brier_score_loss(labels, scores[:, 1]), abs=1e-12
    )


def test_bins_hold_what_lies_in_them_both_ends_of_the_scale_too():
    scores = np.array([[0.0, 1.0], [0.5, 0.5], [0.25, 0.75]])
    found = measure_calibration(scores, np.array([1, 1, 0]), bins=4).bins
    assert [one.count for one in found] == [0, 0, 1, 2]
    assert (found[2].confidence, found[2].accuracy) == (0.5, 0.0)
    assert (found[3].confidence, found[3].accuracy) == (0.875, 0.5)
    assert (found[0].confidence, found[0].accuracy) == (None, None)


def test_each_class_of_a_multi_label_clip_is_a_question_of_its_own():
    generator = np.random.default_rng(0)
    scores = generator.random((400, 5))
    labels = generator.random((400, 5)) < scores
    found = measure_calibration(scores, labels, 10)
    brier = sklearn_metrics.brier_score_loss(labels.ravel(), scores.ravel())
    assert found.brier == pytest.approx(brier, abs=1e-12)
    assert found.nll == pytest.approx(sklearn_metrics.log_loss(labels.ravel(), scores.ravel()), abs=1e-12)
    assert found.ece < 0.05
    assert measure_calibration(scores, labels[::-1].copy(), 10).ece > 0.15


def test_a_certain_error_costs_much_but_not_infinitely_much():
    found = measure_calibration(np.array([[1.0, 0.0]]), np.array([1]))
    assert (found.ece, found.brier) == (1.0, 2.0)
    assert found.nll == pytest.approx(36.04, abs=0.01)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["bins"][14]["count"] == 1


def test_logits_are_refused():
    with pytest.raises(DataError, match="scores from -2 to 3"):
        measure_calibration(np.array([[-2.0, 3.0]]), np.array([1]))
    with pytest.raises(DataError, match="found 0 clips"):
        measure_calibration(np.zeros((0, 2)), np.zeros(0, int))
