"""The page of an evaluation says what its figures are, shows clips, and opens anywhere."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest

import tubelet
from browser import check_page
from tubelet.data.catalogue import open_data
from tubelet.data.dataset import BadSample
from tubelet.errors import ConfigError
from tubelet.evaluation.evaluate import Output, score_samples
from tubelet.evaluation.gallery import choose_clips
from tubelet.evaluation.page import write_report_page
from tubelet.evaluation.report import Scored
from tubelet.metrics import estimate_wilson, measure_classification
from tubelet.report.page import write_page

ODD = "<i>odd</i> & 'far' too long a name for any table on a phone" * 2


def count_films(page):
    return page.count("data:image/gif;base64,")


def test_a_training_leaves_a_page_with_its_figures_clips_and_curves(small_run):
    page, report = (small_run / "report.html").read_text(), tubelet.evaluate(small_run, workers=0)
    assert f'<p class="big">{report.metrics.top1:.1%}</p>' in page
    assert count_films(page) == 12 + 12  # by lot; and each is right or wrong, of which there are ten at most each
    with (small_run / "metrics.csv").open() as table:
        epochs = len(list(csv.DictReader(table)))
    curves = re.findall(r'aria-label="(loss|accuracy) by epoch".*?</svg>', page)
    assert curves == ["loss", "accuracy"]
    filled = sum(one.count > 0 for one in report.calibration.bins)
    assert page.count("<circle") == 4 * epochs + filled
    assert f"{report.calibration.ece:.1%} apart" in page
    assert f"ROC AUC {report.metrics.curve.auc:.3f}" in page
    low, high = report.intervals["macro_f1"].low, report.intervals["macro_f1"].high
    assert f"{low:.1%} to {high:.1%}" in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)


def make_scored(small_run):
    classifier = tubelet.load(small_run)
    manifest = open_data(small_run.parents[1] / "world" / "manifest.csv")
    return classifier, manifest, score_samples(classifier, manifest.select("test"), manifest)


def test_the_clips_shown_are_the_surest_right_and_wrong_ones(small_run):
    _, _, scored = make_scored(small_run)
    sure = np.linspace(0.5, 1.0, len(scored.labels))
    right = np.arange(len(sure)) % 3 > 0
    told = np.where(right, scored.labels, 1 - scored.labels)
    scores = np.where(np.arange(2) == told[:, None], sure[:, None], 1 - sure[:, None])
    gallery = choose_clips(replace(scored, scores=scores))
    assert gallery.best == (11, 10, 8, 7, 5, 4, 2, 1)
    assert gallery.worst == (9, 6, 3, 0)
    assert gallery.grid == tuple(range(12))
    several = np.array([[0.9, 0.1], [0.9, 0.8], [0.6, 0.4]])
    labels = np.array([[True, False], [True, False], [True, False]])
    gallery = choose_clips(Scored(several, labels, scored.samples[:3], ()))
    assert (gallery.best, gallery.worst) == ((0, 2), (1,))


def test_the_page_shows_what_the_model_looked_at_where_that_is_asked_for(small_run, tmp_path):
    tubelet.evaluate(small_run, workers=0, output=Output(tmp_path, explained=5))
    page = (tmp_path / "report.html").read_text()
    shown = page.split("What the model looked at</h2>")[1].split("<h2>")[0]
    assert count_films(shown) == 5
    assert shown.count("✗") == min(3, round(12 * (1 - tubelet.evaluate(small_run, workers=0).metrics.top1)))
    assert "What the model looked at" not in (small_run / "report.html").read_text()
    with pytest.raises(ConfigError, match="-1 clips"):
        Output(tmp_path, explained=-1)


def make_page(small_run, folder, count, classes):
    """Write the page of an evaluation on many clips of many classes, some of which could not be read."""
    classifier, manifest, scored = make_scored(small_run)
    names = [ODD, *(f"class {index}" for index in range(1, classes))]
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, count)
    scores = generator.dirichlet(np.ones(classes), count)
    scores[np.arange(count), labels] += generator.uniform(0, 0.2, count)
    samples = tuple(replace(scored.samples[index % 12], label=names[label]) for index, label in enumerate(labels))
    manifest = replace(manifest, samples=samples, classes=tuple(names))
    bad = tuple(BadSample(index, f"{ODD}/{index}.mp4", "decode", "it ends early") for index in range(3))
    report = tubelet.evaluate(classifier, open_data(small_run.parents[1] / "world" / "manifest.csv"), workers=0)
    metrics = measure_classification(scores, labels, names)
    interval = estimate_wilson(round(metrics.top1 * count), count)
    report = replace(
        report, metrics=metrics, intervals={"top1": interval}, n=count, n_failed=3, failed=bad, remarks=(ODD,)
    )
    write_report_page(folder, report, Scored(scores, labels, samples, bad), manifest, classifier.input_spec)
    return folder / "report.html"


def test_names_are_escaped_and_a_large_evaluation_stays_a_small_file(small_run, tmp_path):
    page = make_page(small_run, tmp_path, count=1000, classes=101)
    assert "<i>odd" not in page.read_text()
    assert page.stat().st_size < 10 * 2**20
    assert count_films(page.read_text()) == 25 + 10 + 10


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 9, 101])
def test_the_page_fits_wide_and_narrow_screens_without_an_error(small_run, tmp_path, classes):
    check_page(make_page(small_run, tmp_path, count=300, classes=classes), tmp_path)


@pytest.mark.slow
def test_the_page_of_a_training_fits_too(small_run, tmp_path):
    check_page(small_run / "report.html", tmp_path)


@pytest.mark.slow
def test_a_page_that_is_too_wide_is_noticed(tmp_path):
    from tubelet.report.page import Html

    write_page(tmp_path / "wide.html", "wide", [Html('<div style="width:2000px">wide</div>')])
    with pytest.raises(AssertionError):
        check_page(tmp_path / "wide.html", tmp_path)
