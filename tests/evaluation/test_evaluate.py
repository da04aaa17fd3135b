"""Hold that evaluation counts what it cannot read, measures per video, and writes what it says."""

import csv
import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, classification_report

import tubelet
from tubelet.data.catalogue import open_data
from tubelet.data.dataset import open_sample, read_views
from tubelet.errors import ConfigError, DataError
from tubelet.evaluation.audit import audit
from tubelet.evaluation.evaluate import Views, prepare_evaluation, score_samples
from tubelet.models.vivit_config import count_macs
from tubelet.transforms.preparation import fit
from tubelet.video.sampling import plan
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


def test_crops_and_clips_are_the_views_that_each_alone_would_see(small_run, manifest):
    classifier = tubelet.load(small_run)
    classifier.input_spec = replace(classifier.input_spec, frames=4, height=8, width=8, short_side=12)
    samples = manifest.select("test")[:3]
    seen = score_samples(classifier, samples, manifest, views=Views(2, 3)).scores
    prepare = partial(prepare_evaluation, spec=classifier.input_spec, crops=3)
    for row, sample in zip(seen, samples, strict=True):
        with open_sample(sample) as video:
            clips = read_views(video, plan(video.info, classifier.input_spec, views=2))
        views = torch.cat([prepare(clip, 0, np.random.default_rng(0))[0] for clip in clips])
        assert len(views) == 6
        np.testing.assert_allclose(row, classifier.score(views).double().mean(0), atol=1e-6)


def test_mean_logits_are_turned_into_probabilities_once(small_run, manifest):
    classifier = tubelet.load(small_run)
    samples = manifest.select("test")[:4]
    for task, turn in (("classification", partial(torch.softmax, dim=1)), ("multilabel", torch.sigmoid)):
        classifier.task = task
        found = score_samples(classifier, samples, manifest, views=Views(3, 1, "logits")).scores
        alone = [score_logits(classifier, sample, views=3) for sample in samples]
        np.testing.assert_allclose(found, turn(torch.stack(alone)), atol=1e-6)


def score_logits(classifier, sample, views):
    with open_sample(sample) as video:
        clips = read_views(video, plan(video.info, classifier.input_spec, views=views))
    return classifier.score(torch.stack([fit(clip, classifier.input_spec) for clip in clips]), as_logits=True).mean(0)


@pytest.mark.parametrize(
    ("change", "views", "says"),
    [
        ({}, Views(1, 3), None),
        ({"fit": "stretch"}, Views(1, 3), "stretches the whole picture - leave crops at 1"),
    ],
)
def test_crops_are_refused_where_nothing_is_cropped(small_run, manifest, change, views, says):
    classifier = tubelet.load(small_run)
    classifier.input_spec = replace(classifier.input_spec, **change)
    samples = manifest.select("test")[:1]
    if says is None:
        assert len(score_samples(classifier, samples, manifest, views=views).scores) == 1
        return
    with pytest.raises(ConfigError, match=says):
        score_samples(classifier, samples, manifest, views=views)


@pytest.mark.parametrize(
    ("given", "says"),
    [((0,), "a video has at least one"), ((1, 2), "there is 1, or there are 3")],
)
def test_impossible_views_are_refused(given, says):
    with pytest.raises(ConfigError, match=says):
        Views(*given)


def test_an_average_that_does_not_exist_is_refused():
    views = Views()
    object.__setattr__(views, "aggregation", "votes")  # past the checks of types that only run in tests
    with pytest.raises(ConfigError, match="known are probabilities, logits"):
        views.__post_init__()


def test_the_card_says_what_its_figures_depend_on(small_run, manifest, tmp_path):
    report = tubelet.evaluate(small_run, manifest, views=Views(2, 3), output=tmp_path, workers=0)
    stored = json.loads((tmp_path / "report.json").read_text())
    names = {"top1", "top_k", "balanced_accuracy", "macro_f1", "mean_ap", "mean_auc"}
    assert stored["intervals_95"].keys() == names
    for name in names - {"top_k"}:
        low, high = stored["intervals_95"][name] or (0.0, 1.0)  # none where no resample differs
        assert low <= stored[name] <= high
    assert (stored["views"], stored["clips"], stored["crops"], stored["aggregation"]) == (6, 2, 3, "probabilities")
    assert stored["cost"] == {"macs_per_view": report.macs, "macs_per_video": 6 * report.macs}
    assert report.macs == count_macs(tubelet.load(small_run).model.config)
    assert sum(one["count"] for one in stored["calibration"]["bins"]) == 12
    assert 0 <= stored["calibration"]["ece"] <= 1
    curve = stored["metrics"]["curve"]
    assert curve["positive"] == stored["metrics"]["per_class"][1]["name"]
    assert curve["auc"] == stored["metrics"]["per_class"][1]["auc"]
    assert (stored["decoder"], stored["precision"], stored["seed"]) == ("pyav", "float32", 0)
    assert stored["versions"] == {"tubelet": tubelet.__version__, "torch": torch.__version__}
    assert any("12 clips" in remark for remark in stored["remarks"])
    only = tubelet.evaluate(small_run, replace(manifest, samples=manifest.select("test")), workers=0)
    assert only.split_digest == stored["split_digest"] == only.digest != stored["digest"]
    assert "6 (2 clips x 3 crops, mean of probabilities)" in report.describe()


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
