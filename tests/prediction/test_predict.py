"""Hold that every source gets an answer, and that a bad one never stops the others."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import tubelet
from small_run import write_clip
from tubelet.errors import CheckpointError, TubeletError
from tubelet.prediction.predict import Prediction, PredictionError, expand_sources, predict
from tubelet.transforms.preparation import normalize


def test_a_loaded_run_has_model_contract_classes_and_predicts(small_run, tmp_path):
    classifier = tubelet.load(small_run)
    assert isinstance(classifier, tubelet.Classifier)
    assert classifier.classes == ("fast", "slow") or set(classifier.classes) == {"fast", "slow"}
    spec = classifier.input_spec
    logits = classifier.model(torch.zeros(2, spec.input_channels, spec.frames, spec.height, spec.width))
    assert logits.shape == (2, 2)
    outcome = classifier.predict(write_clip(tmp_path / "clip.mp4"))
    assert outcome.label in classifier.classes
    assert sum(outcome.scores.values()) == pytest.approx(1, abs=1e-5)
    assert outcome.score == max(outcome.scores.values())


def test_score_is_the_softmax_of_the_model_on_the_normalized_clip(small_run):
    classifier = tubelet.load(small_run)
    clips = torch.randint(0, 255, (2, 8, 16, 16, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = classifier.model(normalize(clips, classifier.input_spec)).softmax(1)
    assert torch.allclose(classifier.score(clips), expected, atol=1e-6)


def test_every_kind_of_source_gets_an_answer(small_run, tmp_path):
    classifier = tubelet.load(small_run)
    clip = write_clip(tmp_path / "clip.mp4")
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(9):
        Image.fromarray(np.full((20, 20, 3), number * 20, np.uint8)).save(folder / f"{number}.png")
    frames = [Image.fromarray(np.full((20, 24, 3), number * 20, np.uint8)) for number in range(9)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=100)
    array = np.zeros((9, 20, 20, 3), np.uint8)
    for source in (clip, str(clip), clip.read_bytes(), folder, tmp_path / "clip.gif", array):
        assert classifier.predict(source).label in classifier.classes


def test_a_bad_file_is_reported_and_the_others_are_done(small_run, tmp_path):
    good = [write_clip(tmp_path / f"{number} good.mp4", seed=number) for number in range(3)]
    (tmp_path / "1 broken.mp4").write_bytes(good[0].read_bytes()[:500])
    (tmp_path / "empty.mp4").write_bytes(b"")
    outcomes = list(predict(tubelet.load(small_run), [tmp_path, tmp_path / "absent.mp4"]))
    assert [type(outcome) for outcome in outcomes].count(Prediction) == 3
    errors = {outcome.source: outcome for outcome in outcomes if isinstance(outcome, PredictionError)}
    assert len(errors) == 3
    for source, outcome in errors.items():
        assert source in outcome.message
        assert json.loads(json.dumps(outcome.to_dict()))["error"]["code"] == outcome.code


def test_patterns_and_folders_stand_for_their_files(tmp_path):
    for name in ("a.mp4", "b.mp4", "c.avi", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert expand_sources([f"{tmp_path}/*.mp4"]) == [f"{tmp_path}/a.mp4", f"{tmp_path}/b.mp4"]
    assert expand_sources([str(tmp_path)]) == [f"{tmp_path}/{name}" for name in ("a.mp4", "b.mp4", "c.avi")]
    assert expand_sources([f"{tmp_path}/nothing*"]) == [f"{tmp_path}/nothing*"]


def test_a_damaged_model_is_refused_before_any_tensor_is_used(small_run, tmp_path):
    folder = tmp_path / "model"
    tubelet.load(small_run).save(folder)
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*expected sha256"):
        tubelet.load(folder)


def test_a_saved_model_gives_the_same_scores(small_run, tmp_path):
    classifier = tubelet.load(small_run)
    classifier.save(tmp_path / "copy")
    clip = write_clip(tmp_path / "clip.mp4")
    assert tubelet.load(tmp_path / "copy").predict(clip).scores == classifier.predict(clip).scores


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TubeletError, match="absent") as caught:
        tubelet.load(tmp_path / "absent")
    assert caught.value.code == "checkpoint"
