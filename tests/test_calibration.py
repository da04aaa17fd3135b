"""Hold that probabilities, label sets and unknown clips mean what they promise, on data whose truth is known."""

import numpy as np
import pytest

from tubelet.calibration import Calibration, fit_novelty, fit_temperature, score_labels
from tubelet.errors import ConfigError

NAMES = tuple("abcde")


def draw_logits(generator, count, classes=5, spread=2.0):
    """Draw logits and labels that come as often as the logits say."""
    logits = generator.normal(0, spread, (count, classes))
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(1)
    return logits, labels


def measure_nll(logits, labels, temperature):
    scaled = logits / temperature
    return float((np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(labels)), labels]).mean())


def make_calibration(scores, n=None, novelty=None):
    return Calibration(1.0, np.sort(scores), len(scores) if n is None else n, "val", "", "", novelty)


def test_a_known_temperature_is_recovered():
    logits, labels = draw_logits(np.random.default_rng(0), 20_000, classes=3)
    for known in (0.5, 3.0):
        assert fit_temperature(known * logits, labels) == pytest.approx(known, rel=0.02)
    pairs = np.stack([np.zeros(20_000), 3 * logits[:, 0]], axis=1)
    has = np.random.default_rng(1).random(20_000) < 1 / (1 + np.exp(-logits[:, 0]))
    assert fit_temperature(pairs, has.astype(np.int64)) == pytest.approx(3, rel=0.03)


def test_the_cross_entropy_never_rises():
    generator = np.random.default_rng(0)
    for number in range(300):
        logits, labels = draw_logits(generator, int(generator.integers(1, 40)), spread=10 ** generator.uniform(-2, 2))
        if number % 3 == 0:
            labels = logits.argmax(1)
        found = fit_temperature(logits, labels)
        assert 0 < found < np.inf
        assert measure_nll(logits, labels, found) <= measure_nll(logits, labels, 1.0) + 1e-12


def test_clips_that_are_all_right_make_no_answer_certain():
    logits = np.tile([2.0, 0.0, 0.0], (30, 1))
    found = fit_temperature(logits, np.zeros(30, np.int64))
    assert 1 - score_labels(logits[:1], np.zeros(1, np.int64), found)[0] == pytest.approx(1 - 1 / 32 * 2 / 3, abs=1e-6)


@pytest.mark.parametrize("n", [50, 200, 500])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_label_sets_hold_the_truth_as_often_as_asked(n, coverage):
    generator, times, tested = np.random.default_rng([n, round(100 * coverage)]), 1000, 50
    shares = np.empty(times)
    for time in range(times):
        # Twice too sure: the promise asks nothing of the model.
        logits, labels = draw_logits(generator, n + tested)
        calibration = make_calibration(score_labels(2 * logits[:n], labels[:n], 1.0))
        shares[time] = (score_labels(2 * logits[n:], labels[n:], 1.0) <= calibration.find_limit(coverage)).mean()
    error = 4 * shares.std() / np.sqrt(times)
    assert coverage - error < shares.mean() < coverage + 1 / (n + 1) + error
    assert error < 0.01


def test_a_label_set_names_the_likeliest_first_and_always_the_best():
    calibration = make_calibration(np.linspace(0, 0.7, 99))
    probabilities = dict(zip(NAMES, (0.1, 0.32, 0.35, 0.2, 0.03), strict=True))
    assert calibration.choose_labels(probabilities, 0.98) == ("c", "b")
    assert calibration.choose_labels(probabilities, 0.5) == ("c",)
    assert make_calibration(np.zeros(0), n=50).choose_labels(probabilities) is None


def test_too_few_clips_give_all_classes_and_say_so():
    probabilities = dict.fromkeys(NAMES, 0.2) | {"a": 0.9}
    enough, few = make_calibration(np.linspace(0, 0.5, 9)), make_calibration(np.linspace(0, 0.5, 8))
    assert enough.choose_labels(probabilities, 0.9) == ("a",)
    assert enough.explain_lack(0.9) == ""
    assert set(few.choose_labels(probabilities, 0.9)) == set(NAMES)
    assert "at least 9 clips, this one had 8" in few.explain_lack(0.9)
    assert "at least 19 clips" in enough.explain_lack(0.95)
    for wrong in (0.0, 1.0, 90.0, float("nan")):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            few.find_limit(wrong)


def draw_features(generator, count, classes=4, dim=20):
    """Draw features of classes that lie in a few directions and vary a lot in others."""
    labels = generator.integers(0, classes, count)
    features = generator.normal(size=(count, dim)) * np.linspace(0.3, 3, dim)
    features[np.arange(count), labels] += 6
    return features.astype(np.float32), labels


def test_clips_of_no_known_class_are_told_apart_and_few_others_with_them():
    generator = np.random.default_rng(0)
    novelty = fit_novelty(*draw_features(generator, 400)).draw_border(draw_features(generator, 500)[0])
    own, _ = draw_features(generator, 5000)
    strange = own.copy()
    strange[:, :4] = np.random.default_rng(1).normal(size=(5000, 4)) * 0.3
    assert (novelty.measure(own) > 1).mean() == pytest.approx(0.01, abs=0.01)
    assert (novelty.measure(strange) > 1).mean() > 0.95
    # The length of a vector tells nothing here: what varies anyway is most of it.
    assert np.linalg.norm(strange, axis=1).mean() < np.linalg.norm(own, axis=1).mean()


def test_few_held_out_clips_still_draw_a_border_and_say_how_often_it_errs():
    features, labels = draw_features(np.random.default_rng(0), 200)
    few = fit_novelty(features, labels).draw_border(features[:9])
    assert few.border == few.distances.max()
    assert few.false_alarms == pytest.approx(0.1)
    many = few.draw_border(np.tile(features[:1], (199, 1)))
    assert many.false_alarms == pytest.approx(0.01)


@pytest.mark.parametrize("features", [np.zeros((6, 4)), np.ones((2, 4)), np.arange(24).reshape(6, 4)], ids=str)
def test_features_that_do_not_vary_give_finite_distances(features):
    rows = features.astype(np.float32)
    novelty = fit_novelty(rows, np.arange(len(rows)) % 2).draw_border(rows)
    assert np.isfinite(novelty.measure(rows + 1)).all()
