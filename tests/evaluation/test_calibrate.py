"""Hold that a calibration is made of held-out clips, kept with the very weights it belongs to, and used by predict."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import tubelet
from run_command import run
from small_run import make_tiny_recipe, write_clip
from tubelet import model_folder
from tubelet.classifier import Classifier
from tubelet.data.manifest import read_manifest
from tubelet.errors import CheckpointError, ConfigError, DataError
from tubelet.evaluation.calibrate import calibrate, fit_calibration
from tubelet.model_folder import CALIBRATION_NAME, CONFIG_NAME, WEIGHTS_NAME
from tubelet.prediction.predict import predict_one
from tubelet.training.train import train


@pytest.fixture
def world(small_run):
    return small_run.parents[1] / "world"


@pytest.fixture
def own(small_run, tmp_path):
    """Return a copy of the trained run that may be written into."""
    return shutil.copytree(small_run, tmp_path / "runs" / "own")


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch):
    monkeypatch.setattr(model_folder, "_SECOND_LOOK_S", 0)


def read_rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def same(one, other):
    arrays = one.to_arrays()
    assert arrays.keys() == other.to_arrays().keys()
    return one.to_values() == other.to_values() and all(
        np.array_equal(array, other.to_arrays()[name]) for name, array in arrays.items()
    )


def test_a_training_ends_with_a_calibration_on_its_validation_clips(small_run, world):
    found = tubelet.load(small_run).calibration
    assert (found.n, found.split, len(found.scores), found.novelty.centers.shape[0]) == (8, "val", 8, 2)
    (event,) = [
        json.loads(line) for line in (small_run / "log.jsonl").read_text().splitlines() if '"calibrate"' in line
    ]
    assert event["temperature"] == found.temperature
    # What it is made of is what anybody can compute from the model.
    bare = Classifier.read(small_run / "model")
    bare.calibration = None
    rows, labels = [], []
    for row in read_rows(world / "manifest.csv"):
        if row["split"] == "val":
            scores = predict_one(bare, world / row["path"]).scores
            rows.append([scores[name] for name in bare.classes])
            labels.append(bare.classes.index(row["label"]))
    heated = np.array(rows) ** (1 / found.temperature)
    true = (heated / heated.sum(1, keepdims=True))[np.arange(8), labels]
    np.testing.assert_allclose(np.sort(1 - true), found.scores, atol=1e-5)


def test_logits_and_features_come_in_one_go_and_are_those_of_the_model(small_run):
    classifier = tubelet.load(small_run)
    clips = torch.randint(0, 255, (3, 8, 16, 16, 3), dtype=torch.uint8)
    logits, features = classifier.infer(clips)
    torch.testing.assert_close(classifier.compute_probabilities(logits), classifier.score(clips))
    with torch.inference_mode():
        torch.testing.assert_close(classifier.model.head(features), logits)


def test_a_calibration_is_kept_and_its_damage_is_noticed(own, tmp_path):
    classifier = tubelet.load(own)
    classifier.save(tmp_path / "copy")
    assert same(tubelet.load(tmp_path / "copy").calibration, classifier.calibration)
    path = own / "model" / CALIBRATION_NAME
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"calibration\.safetensors.*expected sha256"):
        tubelet.load(own)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"calibration\.safetensors"):
        tubelet.load(own)


@pytest.mark.parametrize("stated", [7, [], {}, {"temperature": 2.0}, {"sha256": None}], ids=str)
def test_a_wrong_calibration_is_refused_by_the_file_name(own, stated):
    path = own / "model" / CONFIG_NAME
    description = json.loads(path.read_text())
    description["calibration"] = stated
    del description["sha256_config"]
    path.write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match=r"config\.json|calibration\.safetensors"):
        tubelet.load(own)


def test_a_calibration_of_other_weights_is_left_out(own, tmp_path):
    classifier = tubelet.load(own)
    with torch.no_grad():
        classifier.model.head.bias.add_(1)
    with pytest.warns(UserWarning, match="weights have changed"):
        classifier.save(tmp_path / "changed")
    assert tubelet.load(tmp_path / "changed").calibration is None


@pytest.mark.slow
def test_a_training_from_calibrated_weights_does_not_take_their_calibration_over(own, world, tmp_path):
    recipe = make_tiny_recipe(str(world / "manifest.csv"), epochs=1, calibrate=False)
    further = train(recipe=recipe, name="further", runs=tmp_path, model__weights=str(own))
    assert tubelet.load(further.folder).calibration is None
    assert not (further.folder / "model" / CALIBRATION_NAME).exists()


def test_a_model_is_calibrated_again_on_other_clips_and_nothing_else_changes(own, world, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in (own / "model").iterdir()}
    described = json.loads(before[CONFIG_NAME])
    clips = tmp_path / "clips.csv"
    rows = read_rows(world / "manifest.csv")
    named = [f"{world / row['path']},{row['label']}" for row in rows if row["split"] == "test"]
    clips.write_text("\n".join(["path,label", *named]) + "\n")
    known = tubelet.load(own).calibration.novelty
    status, out, _ = run("calibrate", own, clips, "--split", "test", "--workers", 0, capsys=capsys)
    assert status == 0
    assert "by 12 clips of 'test'" in out
    assert "label sets: for 90% of clips" in out
    found = tubelet.load(own).calibration
    assert (found.n, found.split) == (12, "test")
    # Where the classes lie was learned from training clips, which are not among these.
    np.testing.assert_array_equal(found.novelty.centers, known.centers)
    assert len(found.novelty.distances) == 12
    assert (own / "model" / WEIGHTS_NAME).read_bytes() == before[WEIGHTS_NAME]
    now = json.loads((own / "model" / CONFIG_NAME).read_text())
    changed = {key for key in now if now[key] != described.get(key)}
    assert changed == {"calibration", "sha256_config"}
    # Its own data, in its own splits, says what training said.
    again = calibrate(own, workers=0)
    assert {path.name: path.read_bytes() for path in (own / "model").iterdir()} == before
    assert again.split == "val"


def test_an_old_folder_is_read_without_one_and_gets_one(small_run, own, world, capsys):
    classifier = tubelet.load(own)
    classifier.calibration = None
    classifier.save(own / "model")
    bare = classifier.predict(write_clip(own / "clip.mp4"))
    assert (bare.label_set, bare.distance, bare.is_unknown) == (None, None, None)
    assert not (own / "model" / CALIBRATION_NAME).exists()
    status, out, _ = run("calibrate", own, world / "manifest.csv", "--json", "--workers", 0, capsys=capsys)
    found = json.loads(out)
    assert (status, found["n"], found["least_probability"]) == (0, 8, None)
    assert found["false_alarms"] == pytest.approx(1 / 9)
    assert same(tubelet.load(own).calibration, tubelet.load(small_run).calibration)


def test_predict_says_unknown_for_noise_more_often_than_for_its_own(small_run, world):
    classifier = tubelet.load(small_run)
    own = [classifier.predict(path) for path in sorted((world / "test").rglob("*.mp4"))]
    noise = np.random.default_rng(0).integers(0, 255, (12, 8, 16, 16, 3), np.uint8)
    strange = [classifier.predict(clip) for clip in noise]
    assert sum(one.is_unknown for one in strange) > sum(one.is_unknown for one in own)
    assert np.median([one.distance for one in strange]) > np.median([one.distance for one in own])
    for one in own:
        assert one.is_unknown == (one.distance > 1)


def test_predict_prints_what_a_person_understands(small_run, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4")
    status, out, err = run("predict", small_run, clip, "--output", tmp_path / "scores.csv", capsys=capsys)
    assert status == 0
    assert "at least 9 clips, this one had 8: every set holds all classes" in err
    (row,) = read_rows(tmp_path / "scores.csv")
    outcome = tubelet.load(small_run).predict(clip)
    assert set(row["label_set"].split("|")) == set(outcome.label_set) == {"fast", "slow"}
    assert (row["distance"], row["is_unknown"]) == (f"{outcome.distance:.4f}", str(outcome.is_unknown).lower())
    words = "none of the known classes?" if outcome.is_unknown else " or ".join(outcome.label_set)
    assert out.startswith(f"{clip}: {words}  (")
    status, out, _ = run("predict", small_run, clip, "--coverage", 0.5, "--json", capsys=capsys)
    assert json.loads(out)["label_set"] == list(tubelet.load(small_run).predict(clip, coverage=0.5).label_set)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        tubelet.predict(tubelet.load(small_run), clip, coverage=90.0)


def test_clips_that_were_trained_on_are_said(own, world):
    rows = [line for line in (world / "manifest.csv").read_text().splitlines() if not line.endswith(",val")]
    turned = world / "turned.csv"
    turned.write_text("\n".join(row.replace(",train", ",val") for row in rows))
    with pytest.warns(UserWarning, match="32 of the clips tested were trained on"):
        calibrate(own, turned, workers=0)


def test_what_cannot_be_calibrated_is_refused_by_name(own, world):
    manifest = read_manifest(world / "manifest.csv")
    others = replace(manifest, samples=tuple(sample for sample in manifest.samples if sample.split != "val"))
    with pytest.raises(DataError, match=r"split 'val' of .* no clips there"):
        calibrate(own, others, workers=0)
    with pytest.raises(CheckpointError, match="lies on the hub"):
        calibrate("hf://owner/model")
    classifier = tubelet.load(own)
    with torch.no_grad():
        classifier.model.head.bias.fill_(float("nan"))
    with pytest.raises(DataError, match="are no numbers"):
        fit_calibration(classifier, manifest)
