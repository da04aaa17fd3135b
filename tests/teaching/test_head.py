"""Hold that the head is that of ridge regression, and that left-out clips are judged as a refit would judge them."""

import time

import numpy as np
from sklearn.linear_model import Ridge

from tubelet.teaching import head as head_module
from tubelet.teaching.head import fit_head


def make_clips(clips, dim, classes, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(clips) % classes
    centers = generator.normal(size=(classes, dim))
    return (centers[labels] + generator.normal(size=(clips, dim))).astype(np.float32), labels


def test_the_head_and_left_out_answers_are_those_of_ridge_regression(monkeypatch):
    for clips, dim in ((12, 30), (40, 6)):
        features, labels = make_clips(clips, dim, 3)
        monkeypatch.setattr(head_module, "STRENGTHS", (0.01,))
        found = fit_head(features, labels, 3)
        centered = features.astype(np.float64) - features.mean(0, dtype=np.float64)
        alpha = 0.01 * np.linalg.svd(centered)[1][0] ** 2
        said = features @ found.weight.T + found.bias
        wanted = np.eye(3)[labels]
        exact = Ridge(alpha).fit(features.astype(np.float64), wanted).predict(features.astype(np.float64))
        # Up to the temperature, one number for all.
        temperature = np.linalg.lstsq(said.reshape(-1, 1), exact.ravel(), rcond=None)[0][0]
        np.testing.assert_allclose(said * temperature, exact, atol=1e-6)
        for place in (0, clips - 1):
            rest = np.arange(clips) != place
            one = Ridge(alpha).fit(features[rest].astype(np.float64), wanted[rest])
            np.testing.assert_allclose(
                found.left_out[place] * temperature, one.predict(features[place : place + 1])[0], atol=1e-6
            )


def test_features_that_say_nothing_give_chance_not_an_error():
    found = fit_head(np.ones((6, 4), np.float32), np.array([0, 0, 0, 0, 1, 1]), 2)
    assert (found.weight == 0).all()
    assert np.ones(4) @ found.weight.T[:, 0] + found.bias[0] > found.bias[1]


def test_a_refit_of_two_thousand_clips_takes_a_moment():
    features, labels = make_clips(2000, 384, 20)
    started = time.process_time()
    found = fit_head(features, labels, 20)
    assert (found.left_out.argmax(1) == labels).mean() > 0.95
    # Far below a second on a free core; the bound only catches another order of growth.
    assert time.process_time() - started < 10
