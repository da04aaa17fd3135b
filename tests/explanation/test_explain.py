"""Hold `explain` to what it promises of files, labels, pictures and errors."""

import json

import numpy as np
import pytest
from PIL import Image

import tubelet
from run_command import run
from small_run import write_clip
from tubelet.errors import ConfigError, UnknownName
from tubelet.explanation.explain import METHODS, choose_method
from tubelet.models import create_model


@pytest.fixture(scope="module")
def classifier(small_run):
    return tubelet.load(small_run, device="cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("explained") / "noise.mp4", frames=12, size=(32, 24))


@pytest.mark.parametrize("method", ["auto", "rollout", "gradient", "integrated_gradients", "occlusion"])
def test_every_method_gives_a_map_of_the_clip_that_predict_takes(method, classifier, clip):
    classifier.model.train()
    explanation = tubelet.explain(classifier, clip, method=method, random_maps=1)
    assert classifier.model.training
    classifier.model.eval()
    prediction = classifier.predict(clip)
    assert (explanation.label, explanation.score) == (prediction.label, pytest.approx(prediction.score, abs=1e-5))
    assert explanation.method in METHODS
    assert explanation.saliency.dtype == np.float32
    assert explanation.saliency.min() >= 0
    assert explanation.saliency.max() in (0.0, pytest.approx(1.0))
    assert explanation.heat.shape == explanation.pixels.shape[:3] == (8, 16, 16)
    assert explanation.curve.sum() == pytest.approx(1.0, abs=1e-5)
    assert np.all(np.diff(explanation.times_s) >= 0)
    assert explanation.times_s[-1] <= 11 / 12 + 1e-6
    assert explanation.faithfulness.random_maps == 1


def test_another_class_can_be_asked_about_and_explanations_repeat(classifier, clip):
    first, second = classifier.classes
    one, other, again = (
        tubelet.explain(classifier, clip, label=label, random_maps=3) for label in (first, second, second)
    )
    assert one.score + other.score == pytest.approx(1.0, abs=1e-5)
    assert not np.array_equal(one.saliency, other.saliency)
    assert other.to_dict() == again.to_dict()


def test_a_folder_holds_a_sheet_two_moving_pictures_and_the_numbers(classifier, clip, tmp_path):
    explanation = tubelet.explain(classifier, clip, method="rollout", random_maps=1)
    written = explanation.save(tmp_path / "why")
    assert sorted(path.name for path in written) == [f"explanation.{end}" for end in ("gif", "json", "mp4", "png")]
    with Image.open(tmp_path / "why" / "explanation.gif") as moving:
        assert (moving.n_frames, moving.size) == (8, (240, 240))
    assert tubelet.Video(tmp_path / "why" / "explanation.mp4").info.num_frames == 8
    with Image.open(tmp_path / "why" / "explanation.png") as sheet:
        assert sheet.width > 1200
    stored = json.loads((tmp_path / "why" / "explanation.json").read_text())
    assert stored == explanation.to_dict()
    assert stored["faithfulness"]["is_better"] == explanation.faithfulness.is_better
    assert explanation.save(tmp_path / "one.png") == [tmp_path / "one.png"]
    with pytest.raises(ConfigError, match=r"found the ending '.bmp' - give a folder"):
        explanation.save(tmp_path / "one.bmp")


def test_wishes_that_cannot_be_met_say_what_can(classifier, clip):
    with pytest.raises(UnknownName, match="did you mean 'rollout'"):
        tubelet.explain(classifier, clip, method="rolout")
    with pytest.raises(UnknownName, match="did you mean 'slow'"):
        tubelet.explain(classifier, clip, label="slo")
    with pytest.raises(ConfigError, match="-1 random maps"):
        tubelet.explain(classifier, clip, random_maps=-1)
    features = tubelet.InputSpec(kind="features", frames=8, height=1, width=1, channels=16, mean=(), std=())
    model = create_model("cnn_gru_small", num_classes=2, channels=16)
    with pytest.raises(ConfigError, match="an explanation shows pixels"):
        choose_method(tubelet.Classifier(model, features, ("a", "b")))


def test_the_command_prints_whether_to_believe_it_and_writes_pictures(small_run, clip, tmp_path, capsys):
    status, out, _ = run("explain", small_run, clip, "--output", tmp_path / "why", "--device", "cpu", capsys=capsys)
    assert status == 0, out
    assert "random maps" in out
    assert (tmp_path / "why" / "explanation.png").exists()
    status, out, _ = run(
        "explain", small_run, clip, "--method", "rollout", "--label", "slow", "--device", "cpu", "--json", capsys=capsys
    )
    found = json.loads(out)
    assert (status, found["label"], found["method"], found["files"]) == (0, "slow", "rollout", [])
    status, _, err = run("explain", small_run, tmp_path / "absent.mp4", capsys=capsys)
    assert status == 1
    assert "absent.mp4" in err
