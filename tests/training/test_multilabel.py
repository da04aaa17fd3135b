"""A multi-label set goes all the way: trained by binary cross-entropy, chosen by mAP, judged and predicted by class."""

import csv
import json
import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

import tubelet
from small_run import make_tiny_recipe
from tubelet.classifier import Classifier
from tubelet.cli.tables import print_predictions
from tubelet.data.dataset import Batch
from tubelet.data.manifest import read_manifest
from tubelet.errors import CheckpointError, ConfigError, DataError, TrainingError
from tubelet.evaluation.audit import audit
from tubelet.evaluation.evaluate import score_samples
from tubelet.metrics import estimate_headlines
from tubelet.models import create_model
from tubelet.recipes.optimization import LossRecipe
from tubelet.recipes.recipe import Recipe, TrainingRecipe
from tubelet.training.loop import MultilabelClassification, validate
from tubelet.training.pace import PACE
from tubelet.video.spec import InputSpec

CLASSES = ("bottom", "left", "top")
SPEC = InputSpec(frames=8, height=16, width=16)
EXACT = TrainingRecipe(precision="fp32")


def draw_clips(count=56):
    """Draw noise that is brighter in some places: each is a class, and clips may show any of them, or none."""
    generator = np.random.default_rng(0)
    has = np.array(list(product([0, 1], repeat=3)) * (count // 8), np.uint8)
    clips = generator.integers(0, 60, (count, 8, 16, 16, 3), np.uint8)
    for own, clip in zip(has, clips, strict=True):
        clip[:, 11:] += np.uint8(own[0] * 150)
        clip[:, 5:11, :8] += np.uint8(own[1] * 150)
        clip[:, :5] += np.uint8(own[2] * 150)
    return clips, has


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    clips, has = draw_clips()
    path = tmp_path_factory.mktemp("multilabel") / "places.npz"
    splits = np.array(["train"] * 40 + ["val"] * 8 + ["test"] * 8)
    groups = np.array([f"g{index // 2}" for index in range(56)])
    np.savez(path, x=clips, y=has, class_names=np.array(CLASSES), split=splits, group=groups)
    return path


@pytest.fixture(scope="module")
def result(source):
    recipe = make_tiny_recipe(str(source), epochs=4, batch=4)
    return tubelet.train(recipe=recipe, name="run", runs=source.parent / "runs")


def read_rows(path):
    with path.open() as table:
        return list(csv.DictReader(table))


def make_classifier(**changes):
    torch.manual_seed(0)
    sizes = {"frames": 8, "height": 16, "width": 16, "depth": 1, "dim": 32, "heads": 2, "mlp_dim": 64}
    model = create_model("vivit_nano_joint", 3, **sizes, **changes)
    # A fresh head is zero: its loss would be the same whatever the labels.
    with torch.no_grad():
        for values in model.parameters():
            values.add_(torch.randn_like(values), alpha=0.3)
    return Classifier(model, SPEC, CLASSES, "multilabel")


def make_batch():
    clips, has = draw_clips(8)
    return Batch(torch.from_numpy(clips), torch.from_numpy(has.astype(bool)), torch.arange(8))


def test_a_run_says_what_it_measured_and_finds_the_places(result, source):
    assert result.report.task == "multilabel"
    assert result.report.metrics.mean_ap > 0.8
    assert np.isnan(result.val_top1)
    assert result.val_mean_ap > 0.8
    rows = read_rows(result.folder / "metrics.csv")
    assert list(rows[0]) == ["epoch", "lr", "train_loss", "val_loss", "val_mean_ap", *PACE]
    best = max(rows, key=lambda row: (float(row["val_mean_ap"]), -float(row["val_loss"])))
    assert (float(best["epoch"]), float(best["val_mean_ap"])) == (result.best_epoch, result.val_mean_ap)
    assert json.loads((result.folder / "model" / "config.json").read_text())["task"] == "multilabel"
    assert not (result.folder / "confusion.png").exists()


def test_figures_agree_with_the_written_predictions_and_draw_whole_groups(result, source, tmp_path):
    report = tubelet.evaluate(result.folder, source, workers=0, output=tmp_path)
    rows = read_rows(tmp_path / "predictions.csv")
    truth = np.array([[name in row["labels"].split("|") for name in CLASSES] for row in rows])
    scores = np.array([[float(row[f"score:{name}"]) for name in CLASSES] for row in rows])
    assert report.metrics.mean_ap == pytest.approx(average_precision_score(truth, scores, average="macro"), abs=1e-9)
    given = ["|".join(name for name, score in zip(CLASSES, row, strict=True) if score > 0.5) for row in scores]
    assert [row["predicted"] for row in rows] == given
    stored = json.loads((tmp_path / "report.json").read_text())
    assert (stored["task"], stored["mean_ap"], stored["interval_over"]) == (
        "multilabel",
        report.metrics.mean_ap,
        "4 groups",
    )
    assert stored["mean_ap_interval_95"] is None  # of four groups nothing can be said
    assert report.headline().startswith("mAP ")
    assert "exact match" in (tmp_path / "classification_report.txt").read_text()


def test_the_interval_draws_whole_groups(source):
    classifier, manifest = make_classifier(), read_manifest(source)
    report = tubelet.evaluate(classifier, manifest, split="train", workers=0)
    scored = score_samples(classifier, manifest.select("train"), manifest)
    groups = np.unique([sample.group for sample in scored.samples], return_inverse=True)[1]
    expected = estimate_headlines(scored.scores, scored.labels, groups)["mean_ap"]
    assert (report.interval, report.interval_over) == (expected, "20 groups")
    assert report.interval.low < report.metrics.mean_ap < report.interval.high


def test_predictions_name_every_class_above_a_half(result, capsys, tmp_path):
    predictor = tubelet.load(result.folder)
    clips, has = draw_clips(8)
    found = [predictor.predict(clip) for clip in clips]
    assert (
        sum(set(one.labels) == {CLASSES[i] for i in np.flatnonzero(own)} for one, own in zip(found, has, strict=True))
        >= 6
    )
    plain = found[-1].to_dict()
    assert plain["task"] == "multilabel"
    assert plain["labels"] == list(found[-1].labels)
    assert all(0 < score < 1 for score in plain["scores"].values())
    assert sum(plain["scores"].values()) > 1.2
    nothing, everything = replace(found[0], labels=()), replace(found[-1], labels=("top", "bottom"))
    print_predictions([nothing, everything], predictor, top=1, output=tmp_path / "out.csv", as_json=False)
    shown = capsys.readouterr().out
    assert "no class  (" in shown
    assert "top, bottom  (" in shown
    rows = read_rows(tmp_path / "out.csv")
    assert [row["labels"] for row in rows] == ["", "bottom|top"]


def test_an_audit_of_several_labels_is_refused(result, source):
    with pytest.raises(ConfigError, match="'tubelet evaluate' measures mAP"):
        audit(tubelet.load(result.folder), source)


def test_the_loss_is_the_mean_over_clips_and_classes_and_smoothing_spreads_over_yes_and_no():
    classifier, batch = make_classifier(), make_batch()
    for smoothing in (0.0, 0.1):
        recipe = Recipe(input=SPEC, loss=LossRecipe(label_smoothing=smoothing), training=EXACT)
        loss, right = MultilabelClassification(classifier, recipe).compute_loss(batch)
        share = classifier.compute_logits(batch.clips).sigmoid()
        wanted = torch.where(batch.labels, 1 - smoothing / 2, smoothing / 2)
        expected = -(wanted * share.log() + (1 - wanted) * (1 - share).log()).mean()
        assert (float(loss.detach()), right) == (pytest.approx(float(expected.detach()), rel=1e-5), 0)
    # Without smoothing the held-out loss of the same clips is the same.
    plain, _ = MultilabelClassification(classifier, Recipe(input=SPEC, training=EXACT)).compute_loss(batch)
    assert validate(classifier, [batch]).loss == pytest.approx(float(plain.detach()), rel=1e-5)


def test_held_out_clips_without_any_label_leave_the_choice_to_the_loss():
    batch = make_batch()
    totals = validate(make_classifier(), [replace(batch, labels=torch.zeros_like(batch.labels))])
    assert np.isnan(totals.mean_ap)
    assert totals.quality == 0.0


def test_a_task_that_the_labels_contradict_is_refused_before_an_earlier_run_is_replaced(result, source, tmp_path):
    shutil.copytree(result.folder, tmp_path / "run")
    recipe = make_tiny_recipe(str(source))
    recipe = replace(recipe, model=replace(recipe.model, task="classification"))
    with pytest.raises(DataError, match="for the task 'classification' - 35 of 56 clips have several labels or none"):
        tubelet.train(recipe=recipe, name="run", runs=tmp_path, overwrite=True)
    assert tubelet.load(tmp_path / "run").task == "multilabel"


def test_one_label_a_clip_can_be_learned_as_questions_of_their_own(tmp_path):
    clips, has = draw_clips(32)
    splits = np.array(["train"] * 16 + ["val"] * 8 + ["test"] * 8)
    np.savez(tmp_path / "one.npz", x=clips, y=has[:, 0].astype(int), split=splits)
    recipe = make_tiny_recipe(str(tmp_path / "one.npz"), epochs=1)
    recipe = replace(recipe, model=replace(recipe.model, task="multilabel"))
    folder = tubelet.train(recipe=recipe, name="run", runs=tmp_path).folder
    assert tubelet.load(folder).task == "multilabel"
    assert tubelet.evaluate(folder, workers=0).task == "multilabel"


def test_a_model_folder_without_a_task_classifies_and_an_unknown_task_is_refused(tmp_path):
    make_classifier().save(tmp_path / "model")
    assert Classifier.read(tmp_path / "model").task == "multilabel"
    path = tmp_path / "model" / "config.json"
    description = json.loads(path.read_text())
    del description["task"], description["sha256_config"]
    path.write_text(json.dumps(description))
    old = Classifier.read(tmp_path / "model")
    assert old.task == "classification"
    torch.testing.assert_close(old.score(make_batch().clips).sum(1), torch.ones(8))
    path.write_text(json.dumps(description | {"task": "detection"}))
    with pytest.raises(CheckpointError, match="task 'detection' - upgrade tubelet"):
        Classifier.read(tmp_path / "model")


def test_a_folder_of_transformers_says_the_task(tmp_path):
    classifier = make_classifier(pooling="token")
    classifier.save_for_transformers(tmp_path / "folder")
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["problem_type"] == "multi_label_classification"
    assert tubelet.load(tmp_path / "folder").task == "multilabel"


@pytest.mark.filterwarnings("ignore:.*classes have no sample")
@pytest.mark.parametrize("empty", ["val", "test"])
def test_held_out_clips_without_any_class_give_no_figure(tmp_path, empty):
    clips, has = draw_clips(24)
    splits = np.array(["train"] * 8 + ["val"] * 8 + ["test"] * 8)
    has[splits == empty] = 0
    np.savez(tmp_path / "places.npz", x=clips, y=has, class_names=np.array(CLASSES), split=splits)
    recipe = make_tiny_recipe(str(tmp_path / "places.npz"), epochs=1, batch=8)
    if empty == "test":
        with pytest.raises(TrainingError, match="no clip of 'test' has a class"):
            tubelet.train(recipe=recipe, name="run", runs=tmp_path)
        assert not (tmp_path / "run").exists()
    else:
        assert np.isnan(tubelet.train(recipe=recipe, name="run", runs=tmp_path).val_mean_ap)


def test_a_multilabel_model_is_calibrated_by_its_temperature_alone(result):
    classifier = tubelet.load(result.folder)
    found = classifier.calibration
    assert (found.n, found.scores.size, found.novelty) == (8, 0, None)
    clips = torch.from_numpy(draw_clips(8)[0])
    logits = classifier.infer(clips).logits
    torch.testing.assert_close(classifier.score(clips), (logits / found.temperature).sigmoid())
    outcome = classifier.predict(draw_clips(8)[0][3])
    assert (outcome.label_set, outcome.distance, outcome.is_unknown) == (None, None, None)
