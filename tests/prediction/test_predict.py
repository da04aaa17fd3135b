"""Hold that every source gets an answer, and that a bad one never stops the others."""

import json
import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tubelet
from run_command import run
from small_run import write_clip
from tubelet.errors import CheckpointError, ConfigError, DataError, TubeletError, UnknownName
from tubelet.prediction.predict import (
    Prediction,
    PredictionError,
    PredictionOptions,
    predict,
    predict_each,
    predict_one,
)
from tubelet.prediction.sources import list_sources
from tubelet.transforms.preparation import normalize
from tubelet.video.decoders.silence import muted_warnings


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


def test_score_is_the_softmax_of_the_model_on_the_normalized_clip_at_its_temperature(small_run):
    classifier = tubelet.load(small_run)
    clips = torch.randint(0, 255, (2, 8, 16, 16, 3), dtype=torch.uint8)
    with torch.no_grad():
        logits = classifier.model(normalize(clips, classifier.input_spec))
        expected = (logits / classifier.calibration.temperature).softmax(1)
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
    assert list(list_sources([f"{tmp_path}/*.mp4"])) == [f"{tmp_path}/a.mp4", f"{tmp_path}/b.mp4"]
    assert list(list_sources([str(tmp_path)])) == [f"{tmp_path}/{name}" for name in ("a.mp4", "b.mp4", "c.avi")]
    assert list(list_sources([f"{tmp_path}/nothing*"])) == [f"{tmp_path}/nothing*"]


def save_picture(path):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def test_a_folder_is_one_clip_only_where_it_holds_images_and_no_videos(tmp_path):
    clips, deep, frames = tmp_path / "clips", tmp_path / "deep", tmp_path / "frames"
    for folder in (clips, deep, frames):
        save_picture(folder / "cover.jpg")
    (clips / "a.mp4").write_bytes(b"")
    (deep / "inner").mkdir()
    (deep / "inner" / "b.avi").write_bytes(b"")
    (frames / "notes.txt").write_bytes(b"by hand")
    save_picture(frames / "thumbnails" / "1.png")
    assert list(list_sources([str(clips)])) == [f"{clips}/a.mp4"]
    assert list(list_sources([str(deep)])) == [f"{deep}/inner/b.avi"]
    assert list(list_sources([str(frames)])) == [str(frames)]


def test_moving_pictures_among_the_frames_of_a_clip_make_no_folder_of_videos(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "1.png", save_all=True, append_images=frames[1:])
    assert list(list_sources([str(tmp_path)])) == [str(tmp_path)]


def test_a_single_path_is_one_source(small_run, tmp_path):
    classifier = tubelet.load(small_run)
    clip = write_clip(tmp_path / "clip.mp4")
    for source in (str(clip), clip):
        assert [outcome.source for outcome in predict(classifier, source)] == [str(clip)]


@pytest.mark.parametrize(
    ("sources", "options", "error"),
    [
        ([], {}, ConfigError),
        (["a.mp4"], {"views": 0}, ConfigError),
        (["a.mp4"], {"decoder": "pyaw"}, UnknownName),
        (["a.mp4"], {"batch": 0}, ConfigError),
        (["a.mp4"], {"readers": -1}, ConfigError),
        (["a.mp4"], {"precision": "int3"}, ConfigError),
    ],
)
def test_wrong_wishes_are_refused_at_the_call(small_run, sources, options, error):
    classifier = tubelet.load(small_run)
    with pytest.raises(error):
        predict(classifier, sources, **options)


def test_a_name_that_the_system_refuses_is_reported_like_a_missing_file(small_run, tmp_path):
    names = ["x" * 5000 + ".mp4", "a\0.mp4", os.fsdecode(b"caf\xe9.mp4")]
    outcomes = list(predict(tubelet.load(small_run), [*names, write_clip(tmp_path / "good.mp4")]))
    assert [type(outcome) for outcome in outcomes] == [PredictionError] * 3 + [Prediction]


@pytest.mark.parametrize("inner", ["", "model", "model/config.json"])
def test_a_model_whose_replacement_a_crash_cut_short_is_put_in_place(small_run, tmp_path, inner):
    run = tmp_path / "run"
    tubelet.load(small_run).save(run / ".model.new")
    (run / ".model.old").mkdir()
    assert tubelet.load(run / inner).classes == tubelet.load(small_run).classes
    assert (run / "model").is_dir()


def test_a_model_is_found_from_inside_its_folder_and_by_the_name_of_its_run(small_run, tmp_path, monkeypatch):
    tubelet.load(small_run).save(tmp_path / "runs" / "mine" / "model")
    monkeypatch.chdir(tmp_path)
    assert tubelet.load("mine").classes
    monkeypatch.chdir(tmp_path / "runs" / "mine" / "model")
    assert tubelet.load(".").classes


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "", "/"])
def test_a_name_that_can_be_no_model_is_a_checkpoint_error(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="cannot load"):
        tubelet.load(name)


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


def test_the_example_of_the_page_on_predicting_runs(small_run, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "predicting.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    shutil.copytree(small_run, tmp_path / "runs" / "mine")
    write_clip(tmp_path / "holiday.mp4")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "predicting.md", "exec"), {})
    best, label_set, is_unknown = capsys.readouterr().out.splitlines()
    assert best.split()[0] in label_set
    assert is_unknown in ("True", "False")


@pytest.fixture(scope="module")
def inbox(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inbox")
    for number in range(7):
        write_clip(folder / f"{number}.mp4", frames=12 + number, size=(64, 128), seed=number)
    (folder / "3.mp4").write_bytes(b"broken")
    return folder


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec", "decord"])
def test_batches_and_threads_answer_in_order_what_one_by_one_does(small_run, inbox, decoder):
    classifier = tubelet.load(small_run)
    names = sorted(map(str, inbox.iterdir()))
    outcomes = list(predict(classifier, names, views=2, batch=6, readers=3, decoder=decoder))
    assert [outcome.source for outcome in outcomes] == names
    for name, outcome in zip(names, outcomes, strict=True):
        if name.endswith("3.mp4"):
            assert isinstance(outcome, PredictionError)
            continue
        alone = predict_one(classifier, name, views=2, decoder=decoder)
        assert outcome.scores == pytest.approx(alone.scores, abs=1e-5)
        assert outcome.distance == pytest.approx(alone.distance, rel=1e-3)
        assert (outcome.label, outcome.label_set) == (alone.label, alone.label_set)


def test_a_batch_too_large_for_the_memory_is_divided(small_run, inbox, monkeypatch):
    classifier = tubelet.load(small_run)
    sizes, infer = [], classifier.infer

    def infer_few(clips, *rest, **named):
        sizes.append(len(clips))
        if len(clips) > 2:
            raise torch.OutOfMemoryError("no room")
        return infer(clips, *rest, **named)

    monkeypatch.setattr(classifier, "infer", infer_few)
    found = list(predict(classifier, inbox, batch=1, views=2))
    again = list(predict(classifier, inbox, batch=8, views=2))
    assert max(sizes) > 2
    assert [one.source for one in again] == [one.source for one in found]
    monkeypatch.setattr(classifier, "infer", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none at all")))
    with pytest.raises(torch.OutOfMemoryError):
        list(predict(classifier, inbox))


def test_sources_are_taken_as_they_are_needed(small_run, inbox):
    taken = []

    def name_forever():
        while True:
            taken.append(None)
            yield str(inbox / "0.mp4")

    options = PredictionOptions(batch=2, readers=1)
    outcomes = predict_each(tubelet.load(small_run), name_forever(), options)
    for count in (1, 2, 3):
        next(outcomes)
        assert len(taken) <= count + 2 * (options.batch + options.readers)
    outcomes.close()


def test_lists_stand_for_what_they_name(tmp_path):
    paths = [str(tmp_path / name) for name in ("b c.mp4", "a.mp4")]
    (tmp_path / "some.txt").write_text("b c.mp4\r\n\na.mp4\n")
    (tmp_path / "some.csv").write_text("path,label\nb c.mp4,x\na.mp4,\n")
    (tmp_path / "some.jsonl").write_text('{"path": "b c.mp4"}\n{"path": "a.mp4", "start_s": null}\n')
    for name in ("some.txt", "some.csv", "some.jsonl"):
        assert list(list_sources([str(tmp_path / name)])) == paths
    for text, message in (
        ('{"path": "a.mp4"}\n{"file": "a.mp4"}\n', "line 2 - it has no column 'path'"),
        ('{"path": "a.mp4", "end_s": 3}\n', "line 1 - it is a part of a video"),
        ("a.mp4\n", "line 1 - it is no JSON"),
    ):
        (tmp_path / "some.jsonl").write_text(text)
        with pytest.raises(DataError, match=message):
            list(list_sources([str(tmp_path / "some.jsonl")]))


def test_half_the_digits_change_little(small_run, inbox):
    classifier = tubelet.load(small_run)
    exact, half = (list(predict(classifier, inbox, precision=precision)) for precision in ("fp32", "bf16"))
    differences = [
        abs(one.score - other.score) for one, other in zip(exact, half, strict=True) if one.source[-5] != "3"
    ]
    assert 0 < max(differences) < 0.05


def test_warnings_are_heard_again_after_threads_that_muted_them():
    before = list(warnings.filters)
    first, second = muted_warnings(), muted_warnings()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    warnings.warn("not heard", stacklevel=1)
    second.__exit__(None, None, None)
    assert warnings.filters == before


def test_scores_that_are_no_numbers_are_an_error_and_no_answer(small_run, tmp_path):
    classifier = tubelet.load(small_run)
    with torch.no_grad():
        classifier.model.head.bias.fill_(float("nan"))
    (found,) = tubelet.predict(classifier, write_clip(tmp_path / "clip.mp4"))
    assert (found.code, "scores are no numbers" in found.message) == (CheckpointError.code, True)


def test_an_output_that_is_read_is_left_alone(small_run, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4")
    before = clip.read_bytes()
    for source, options in ((clip, []), (tmp_path, []), (clip, ["--timeline", "--window", 0.5])):
        status, _, err = run("predict", small_run, source, *options, "--output", clip, capsys=capsys)
        assert status == 2, err
        assert "would be lost" in " ".join(err.split())
    assert clip.read_bytes() == before
