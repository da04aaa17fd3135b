"""Hold that evaluation counts what it cannot read, measures per video, and writes what it says."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, classification_report

import tubelet
from tubelet.data.catalogue import open_data
from tubelet.errors import DataError
from tubelet.evaluation.audit import audit
from tubelet.evaluation.evaluate import score_samples
from tubelet.video.synthetic import WORLDS


@pytest.fixture
def manifest(small_run):
    return open_data(small_run.parents[1] / "world" / "manifest.csv")


def test_figures_agree_with_the_written_predictions(small_run, manifest, tmp_path):
    report = tubelet.evaluate(small_run, manifest, output=tmp_path, workers=0)
    with (tmp_path / "predictions.csv").open() as table:
        rows = list(csv.DictReader(table))
    labels, predicted = [row["label"] for row in rows], [row["predicted"] for row in rows]
    assert report.n == len(rows) == 12
    assert report.metrics.top1 == pytest.approx(accuracy_score(labels, predicted))
    expected = classification_report(labels, predicted, output_dict=True, zero_division=0)
    assert report.metrics.macro.f1 == pytest.approx(expected["macro avg"]["f1-score"])
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["top1"] == report.metrics.top1
    assert np.array(stored["metrics"]["confusion"]).sum() == 12
    low, high = stored["top1_interval_95"]
    assert low <= stored["top1"] <= high
    assert {"confusion.png", "confusion.json", "classification_report.txt"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_a_clip_that_cannot_be_read_is_counted_and_named_never_replaced(small_run, tmp_path):
    shutil.copytree(small_run.parents[1] / "world", tmp_path / "world")
    broken = sorted((tmp_path / "world" / "test").rglob("*.mp4"))[0]
    broken.write_bytes(broken.read_bytes()[:300])
    report = tubelet.evaluate(small_run, tmp_path / "world" / "manifest.csv", workers=0, output=tmp_path / "out")
    assert (report.n, report.n_failed) == (11, 1)
    assert broken.name in report.failed[0].message
    assert "error:" in (tmp_path / "out" / "predictions.csv").read_text()


def test_without_data_a_run_is_measured_on_its_own_test_clips(small_run):
    assert tubelet.evaluate(small_run, workers=0).n == 12


def test_views_are_averaged_to_one_score_a_video(small_run, manifest):
    classifier = tubelet.load(small_run)
    spec = replace(classifier.input_spec, frames=4)
    classifier.input_spec = spec
    samples = manifest.select("test")
    three = score_samples(classifier, samples, manifest, views=3)
    assert three.scores.shape == (12, 2)
    assert np.allclose(three.scores.sum(1), 1, atol=1e-5)
    assert not np.allclose(three.scores, score_samples(classifier, samples, manifest, views=1).scores)


def test_labels_the_model_does_not_know_are_refused_by_name(small_run, manifest):
    samples = tuple(replace(sample, label="fsat") for sample in manifest.samples)
    with pytest.raises(DataError, match="fsat"):
        tubelet.evaluate(small_run, replace(manifest, samples=samples, classes=("fsat",)), workers=0)


def test_an_empty_split_is_refused_with_the_splits_there_are(small_run, manifest):
    only_test = replace(manifest, samples=manifest.select("test"))
    with pytest.raises(DataError, match="test"):
        tubelet.evaluate(small_run, only_test, split="val", workers=0)


def test_an_audit_sees_the_same_clips_in_three_orders(small_run, manifest):
    outcome = audit(tubelet.load(small_run), manifest, partners=WORLDS["speed"].partners)
    assert outcome.n == 12
    assert outcome.n_failed == 0
    assert all(0 <= figure <= 1 for figure in (outcome.top1, outcome.top1_shuffled, outcome.top1_reversed_partner))
