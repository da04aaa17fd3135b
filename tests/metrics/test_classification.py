import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional import classification as torchmetrics

from tubelet.errors import DataError
from tubelet.metrics import (
    average_f1,
    count_confusion,
    format_report,
    measure_classification,
    measure_curve,
    rank_labels,
)


def make_scores(count, num_classes, absent=(), seed=0):
    """Scores that are right more often than not, for labels that leave out some classes."""
    generator = np.random.default_rng(seed)
    present = [index for index in range(num_classes) if index not in absent]
    labels = generator.choice(present, count)
    scores = generator.normal(size=(count, num_classes))
    scores[np.arange(count), labels] += 1.2
    return scores, labels, [f"class {index}" for index in range(num_classes)]


CASES = {
    "ten classes": (300, 10, ()),
    "two classes": (50, 2, ()),
    "absent classes": (200, 9, (0, 4, 8)),
    "all but one absent": (20, 5, (0, 1, 3, 4)),
    "one sample": (1, 3, ()),
    "one class": (4, 1, ()),
    "more classes than clips": (30, 101, ()),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    return make_scores(*request.param)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_every_number_is_scikit_learns_over_the_classes_present(case):
    scores, labels, classes = case
    metrics = measure_classification(scores, labels, classes)
    predictions = scores.argmax(1)
    present = np.unique(labels)
    assert metrics.top1 == pytest.approx(sklearn_metrics.accuracy_score(labels, predictions), abs=1e-12)
    balanced = sklearn_metrics.balanced_accuracy_score(labels, predictions)
    assert metrics.balanced_accuracy == pytest.approx(balanced, abs=1e-12)
    for averages, how in ((metrics.macro, "macro"), (metrics.weighted, "weighted")):
        expected = sklearn_metrics.precision_recall_fscore_support(
            labels, predictions, labels=present, average=how, zero_division=0
        )
        assert (averages.precision, averages.recall, averages.f1) == pytest.approx(expected[:3], abs=1e-12)
    each = sklearn_metrics.precision_recall_fscore_support(labels, predictions, labels=present, zero_division=0)
    for row, index in enumerate(present):
        entry = metrics.per_class[index]
        assert (entry.precision, entry.recall, entry.f1, entry.support) == pytest.approx(
            [column[row] for column in each], abs=1e-12
        )
    np.testing.assert_array_equal(
        metrics.confusion, sklearn_metrics.confusion_matrix(labels, predictions, labels=range(len(classes)))
    )


def test_top_k_is_that_of_torchmetrics(case):
    scores, labels, classes = case
    metrics = measure_classification(scores, labels, classes)
    assert metrics.k == min(5, len(classes))
    if len(classes) < 2:
        assert metrics.top_k == 1
        return
    expected = torchmetrics.multiclass_accuracy(
        torch.from_numpy(scores), torch.from_numpy(labels), num_classes=len(classes), top_k=metrics.k, average="micro"
    )
    assert metrics.top_k == pytest.approx(float(expected), abs=1e-6)


def test_ranks_of_each_class_against_the_rest_are_those_of_scikit_learn_and_torchmetrics(case):
    scores, labels, classes = case
    scores = np.round(softmax(scores, 1), 2)  # many ties
    metrics = measure_classification(scores, labels, classes)
    present = np.unique(labels)
    precisions = [sklearn_metrics.average_precision_score(labels == index, scores[:, index]) for index in present]
    assert [metrics.per_class[index].average_precision for index in present] == pytest.approx(precisions, abs=1e-12)
    assert metrics.mean_ap == pytest.approx(np.mean(precisions), abs=1e-12)
    both = present if len(present) > 1 else present[:0]
    areas = [sklearn_metrics.roc_auc_score(labels == index, scores[:, index]) for index in both]
    assert [metrics.per_class[index].auc for index in both] == pytest.approx(areas, abs=1e-12)
    assert metrics.mean_auc == (pytest.approx(np.mean(areas), abs=1e-12) if areas else None)
    given, said = torch.from_numpy(scores), torch.from_numpy(labels)
    for index in both:
        entry = metrics.per_class[index]
        precision = torchmetrics.binary_average_precision(given[:, index], (said == index).long())
        area = torchmetrics.binary_auroc(given[:, index], (said == index).long())
        assert (entry.average_precision, entry.auc) == pytest.approx((float(precision), float(area)), abs=1e-6)


def test_torchmetrics_counts_as_we_do_where_every_class_is_present():
    """Of absent classes torchmetrics' macro averages leave out those never predicted, too; ours all that are absent."""
    scores, labels, classes = make_scores(300, 10)
    metrics = measure_classification(scores, labels, classes)
    pair = torch.from_numpy(scores), torch.from_numpy(labels)
    for name, own in (("precision", "precision"), ("recall", "recall"), ("f1_score", "f1")):
        for average in ("macro", "weighted"):
            expected = getattr(torchmetrics, f"multiclass_{name}")(*pair, num_classes=10, average=average)
            assert getattr(getattr(metrics, average), own) == pytest.approx(float(expected), abs=1e-6)


def test_the_curve_of_two_classes_is_that_of_scikit_learn():
    scores, labels, _ = make_scores(80, 2)
    scores = np.round(softmax(scores, 1), 2)
    curve = measure_classification(scores, labels, ["calm", "fight"]).curve
    precision, recall, thresholds = sklearn_metrics.precision_recall_curve(labels, scores[:, 1])
    # scikit-learn goes from the lowest threshold up, and ends with a point that no threshold has.
    np.testing.assert_allclose(curve.thresholds, thresholds[::-1], atol=0)
    np.testing.assert_allclose(curve.precision, precision[-2::-1], atol=1e-12)
    np.testing.assert_allclose(curve.recall, recall[-2::-1], atol=1e-12)
    each = [sklearn_metrics.f1_score(labels, scores[:, 1] >= threshold) for threshold in curve.thresholds]
    np.testing.assert_allclose(curve.f1, each, atol=1e-12)
    assert curve.positive == "fight"
    assert curve.auc == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores[:, 1]), abs=1e-12)
    assert curve.thresholds[curve.best] == curve.thresholds[np.argmax(each)]


def test_there_is_no_curve_without_both_of_two_classes():
    for count, num_classes, absent in ((20, 2, (0,)), (20, 2, (1,)), (20, 3, ())):
        assert measure_classification(*make_scores(count, num_classes, absent)).curve is None
    with pytest.raises(DataError, match="found 3 of 3 with it"):
        measure_curve(np.arange(3.0), np.ones(3, bool), "fight")


def test_a_long_curve_is_written_down_at_200_points_with_both_ends():
    generator = np.random.default_rng(0)
    curve = measure_curve(generator.random(5000), generator.random(5000) < 0.3, "fight")
    written = curve.to_dict()["curve"]
    assert len(written["f1"]) == 200
    assert (written["recall"][-1], written["thresholds"][0]) == (1, curve.thresholds[0])


def test_absent_classes_move_no_average():
    scores, labels, _ = make_scores(200, 6)
    widened = np.concatenate([scores, np.full((200, 4), -100.0)], 1)
    narrow = measure_classification(scores, labels, [f"c{i}" for i in range(6)])
    wide = measure_classification(widened, labels, [f"c{i}" for i in range(10)])
    assert wide.macro == narrow.macro
    assert wide.weighted == narrow.weighted
    assert wide.balanced_accuracy == narrow.balanced_accuracy
    assert [entry.f1 for entry in wide.per_class[6:]] == [None] * 4
    assert [entry.recall for entry in wide.per_class[6:]] == [None] * 4


def test_clips_given_to_an_absent_class_count_against_their_own():
    scores = np.array([[0.1, 0.0, 0.9], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])
    metrics = measure_classification(scores, np.array([0, 0, 1]), ["a", "b", "absent"])
    assert metrics.per_class[0].recall == 0.5
    assert metrics.per_class[2].predicted == 1
    assert metrics.per_class[2].precision is None
    assert metrics.balanced_accuracy == 0.75


def test_a_class_never_predicted_has_zeros_that_count():
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.8, 0.2]])
    metrics = measure_classification(scores, np.array([0, 0, 1]), ["a", "b"])
    assert (metrics.per_class[1].precision, metrics.per_class[1].f1) == (0, 0)
    assert metrics.macro.f1 == pytest.approx(0.4)


def test_a_model_that_cannot_decide_is_right_by_chance_only():
    classes = 10
    scores, labels = np.zeros((classes, classes)), np.arange(classes)
    metrics = measure_classification(scores, labels, [str(i) for i in range(classes)])
    assert metrics.top1 == 0.1
    assert metrics.top_k == 0.5


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 1000))
def test_ranks_agree_with_a_stable_sort_whatever_ties_there_are(num_classes, count, seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 3, (count, num_classes)).astype(np.float64)
    labels = generator.integers(0, num_classes, count)
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = [int(np.flatnonzero(row == label)[0]) for row, label in zip(order, labels, strict=True)]
    ranks = rank_labels(scores, labels)
    assert ranks.tolist() == expected
    assert np.array_equal(ranks == 0, scores.argmax(1) == labels)


def test_counts_of_parts_add_up_to_the_whole():
    scores, labels, _ = make_scores(100, 4)
    predictions = scores.argmax(1)
    parts = count_confusion(predictions[:37], labels[:37], 4) + count_confusion(predictions[37:], labels[37:], 4)
    np.testing.assert_array_equal(parts, count_confusion(predictions, labels, 4))


def test_the_fast_f1_is_the_reported_one(case):
    metrics = measure_classification(*case)
    assert average_f1(metrics.confusion) == pytest.approx(metrics.macro.f1, abs=1e-12)
    assert np.isnan(average_f1(np.zeros_like(metrics.confusion)))


@pytest.mark.parametrize("digits", [2, 4])
@pytest.mark.parametrize("name", ["ten classes", "two classes"])
def test_the_report_is_laid_out_as_scikit_learns(name, digits):
    scores, labels, classes = make_scores(*CASES[name])
    classes[1] = "a class with quite a long name"
    expected = sklearn_metrics.classification_report(
        labels, scores.argmax(1), target_names=classes, digits=digits, zero_division=0
    )
    assert format_report(measure_classification(scores, labels, classes), digits) == expected


def test_the_report_shows_absent_classes_with_dashes():
    report = format_report(measure_classification(*make_scores(200, 9, (4,))))
    (line,) = [line for line in report.splitlines() if "class 4" in line]
    assert line.split() == ["class", "4", "-", "-", "-", "0"]


def test_the_dictionary_survives_json(case):
    metrics = measure_classification(*case)
    found = json.loads(json.dumps(metrics.to_dict(), allow_nan=False))
    assert found["top1"] == metrics.top1
    assert found["top1_interval"]["low"] == metrics.top1_interval.low
    assert found["macro"]["f1"] == metrics.macro.f1
    assert [entry["name"] for entry in found["per_class"]] == list(metrics.classes)
    assert found["confusion"] == metrics.confusion.tolist()


@pytest.mark.parametrize(
    ("scores", "labels", "says"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "one row of scores for each clip"),
        (np.zeros((3, 3)), np.zeros(3, int), r"found scores \(3, 3\), 3 labels and 2 classes"),
        (np.zeros((2, 2)), np.array([0, 2]), r"labels must lie in 0..1 - found 0..2"),
        (np.zeros((2, 2)), np.array([-1, 0]), r"found -1..0"),
        (np.array([[0.0, np.nan], [0.0, 1.0]]), np.array([0, 1]), "nan for 1 of 2 clips"),
    ],
)
def test_what_cannot_be_measured_is_refused(scores, labels, says):
    with pytest.raises(DataError, match=says):
        measure_classification(scores, labels, ["a", "b"])


def test_metrics_cost_neither_torch_nor_matplotlib():
    code = "import sys, tubelet.metrics; sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
