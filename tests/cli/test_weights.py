"""Commands around weights: start a training from some, predict with a folder, check published ones, draw a model."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from run_command import run
from small_run import make_tiny_recipe, write_clip
from tubelet.config import write_config
from tubelet.errors import ConfigError
from tubelet.models import contract, create_model
from tubelet.models import published as published_module
from tubelet.models.published import Published, Reference
from tubelet.models.weights.archive import read_tensors
from tubelet.models.weights.folder import write_folder
from tubelet.video.spec import InputSpec

SIZES = {"frames": 4, "height": 16, "width": 16, "tubelet": (2, 8, 8), "dim": 24, "depth": 1, "heads": 2}


@pytest.fixture
def world(small_run):
    return small_run.parents[1] / "world" / "manifest.csv"


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = create_model("videomae_base", 2, **SIZES, mlp_dim=32, final_eps=1e-5)
    with torch.no_grad():
        model.head.weight.normal_()
    spec = InputSpec(frames=4, height=16, width=16, mean=(0.4, 0.5, 0.6), std=(0.25,))
    write_folder(model, spec, ("run", "walk"), tmp_path / "folder")
    return tmp_path / "folder"


def test_weights_bring_their_own_model_and_contract_to_a_training(world, folder, tmp_path, capsys):
    places = [
        "--runs",
        tmp_path,
        "--name",
        "tuned",
        "--epochs",
        1,
        "--workers",
        0,
        "--lr",
        1e-9,
        "--optimizer.min-lr",
        0,
    ]
    status, out, err = run("train", world, "--weights", folder, *places, capsys=capsys)
    assert status == 0, err
    assert "videomae" in out
    assert "fresh: head.weight, head.bias" in out
    start = read_tensors([folder / "model.safetensors"])["videomae.encoder.layer.0.output.dense.bias"]
    found = read_tensors([tmp_path / "tuned" / "model" / "model.safetensors"])
    torch.testing.assert_close(found["encoder.blocks.0.mlp.narrow.bias"], start, atol=1e-6, rtol=0)
    described = json.loads((tmp_path / "tuned" / "model" / "config.json").read_text())
    assert described["input"]["mean"] == [0.4, 0.5, 0.6]
    assert (described["model"]["dim"], described["model"]["frames"]) == (24, 4)
    events = [json.loads(line) for line in (tmp_path / "tuned" / "log.jsonl").read_text().splitlines()]
    assert next(event for event in events if event["event"] == "weights")["origin"] == "transformers' VideoMAE"


def test_a_run_starts_from_another_run_with_its_classes_and_head(small_run, world, tmp_path, capsys):
    config = tmp_path / "tiny.yaml"
    config.write_text(write_config(make_tiny_recipe("")))
    places = ["--runs", tmp_path, "--name", "second", "--epochs", 1, "--lr", 1e-9, "--optimizer.min-lr", 0]
    status, _, err = run("train", world, "--config", config, "--weights", small_run, *places, "--json", capsys=capsys)
    assert status == 0, err
    before = read_tensors([small_run / "model" / "model.safetensors"])
    after = read_tensors([tmp_path / "second" / "model" / "model.safetensors"])
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, atol=1e-6, rtol=0)
    assert before["head.weight"].any()


def test_wrong_weights_stop_a_training_with_the_key(world, small_run, tmp_path, capsys):
    save_file({"encoder.norm.weight": torch.zeros(5)}, tmp_path / "w.safetensors")
    options = ["--model", "vivit_nano_joint", "--weights", tmp_path / "w.safetensors", "--runs", tmp_path]
    status, _, err = run("train", world, *options, capsys=capsys)
    assert status == 1
    assert "'encoder.norm.weight' should be (96,), found (5,)" in err
    status, _, err = run("train", world, "--weights", tmp_path / "w.safetensors", capsys=capsys)
    assert status == 1
    assert "name the model with --model" in err
    status, _, err = run("train", world, "--weights", "default", "--runs", tmp_path / "r", capsys=capsys)
    assert status == 2
    assert "has no default weights" in err


def test_evaluate_takes_a_folder_of_transformers(folder, tmp_path, capsys):
    for label in ("run", "walk"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for index in range(3):
            write_clip(tmp_path / "clips" / label / f"{index}.mp4", seed=index)
    status, out, err = run("evaluate", folder, tmp_path / "clips", "--split", "test", "--json", capsys=capsys)
    assert status == 0, err
    assert json.loads(out)["n"] > 0
    assert run("evaluate", "videomae_base.kinetics40", tmp_path / "clips", capsys=capsys)[0] == 2
    assert run("evaluate", folder, capsys=capsys)[0] == 1


def test_predict_takes_a_folder_of_transformers(folder, world, capsys):
    clip = next(world.parent.rglob("*.mp4"))
    status, out, err = run("predict", folder, clip, "--json", capsys=capsys)
    assert status == 0, err
    assert json.loads(out)["label"] in ("run", "walk")


@pytest.mark.parametrize("right", [True, False])
def test_published_weights_are_checked_against_their_logits(folder, right, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TUBELET_HOME", str(tmp_path / "home"))
    clip = np.random.default_rng(0).integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)
    place = tmp_path / "home" / "weights" / "hf-internal-testing--spaghetti-video"
    place.mkdir(parents=True)
    np.save(place / "clip.npy", clip)
    import tubelet
    from tubelet.transforms.preparation import fit, normalize

    model = tubelet.load(folder, device="cpu").model
    spec = InputSpec(frames=4, height=16, width=16)
    with torch.no_grad():
        logits = model(normalize(fit(clip[:4], spec)[None], spec))[0]
    reference = Reference("clip.npy", 4, (float(logits[0]), float(logits[1]) + (0 if right else 0.1)))
    entry = Published("tiny", str(folder), "MIT", "own", 2, 50.0, "1x1", reference)
    monkeypatch.setattr(published_module, "_PUBLISHED", {"videomae_base": (entry,)})
    from tubelet.prediction import verification

    real = verification.create_model
    monkeypatch.setattr(
        verification,
        "create_model",
        lambda name, **changes: real(name, **{**changes, **SIZES, "mlp_dim": 32, "eps": 1e-6}),
    )
    status, out, _ = run("weights", "verify", "videomae_base.*", capsys=capsys)
    assert status == (0 if right else 1)
    assert out.startswith("ok" if right else "FAIL")
    shown = run("models", "videomae_base", capsys=capsys)[1]
    assert ("logits within" in shown) is right
    assert ("unverified" in shown) is not right


def test_published_weights_that_nobody_can_check_say_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TUBELET_HOME", str(tmp_path))
    status, out, _ = run("weights", "verify", "videomae_base.pretrained_kinetics400", capsys=capsys)
    assert status == 0
    assert out.startswith("skip")
    assert "no logits to compare with" in out
    status, _, err = run("weights", "verify", "videomae_bse.kinetics400", capsys=capsys)
    assert status == 2
    assert "did you mean 'videomae_base.kinetics400'" in err


def test_a_model_is_drawn_with_its_parts(tmp_path, capsys):
    status, _, err = run("models", "vivit_nano_joint", "--plot", tmp_path / "model.png", capsys=capsys)
    assert status == 0, err
    with Image.open(tmp_path / "model.png") as picture:
        assert picture.size[1] > 400
    assert run("models", "vivit_nano_jont", "--plot", tmp_path / "x.png", capsys=capsys)[0] == 2


PLUGIN = '''
"""A model of one's own: the mean color of the clip, and a head."""

from dataclasses import dataclass

from tubelet.models import ModelCard, ModelConfig, VideoModel, register_model
from tubelet.video.spec import InputSpec

CARD = ModelCard(
    name="mean_color",
    architecture="mean_color",
    config=ModelConfig(name="mean_color", num_classes=2, frames=4, height=16, width=16, channels=3),
    parameters=8,
    input_spec=InputSpec(frames=4, height=16, width=16),
    summary="what can be told from color alone",
    paper="none",
    license="mine",
)


@register_model(CARD)
class MeanColor(VideoModel):
    def __init__(self, config):
        super().__init__(config, config.channels)
        self.reset_head(config.num_classes)

    def features(self, clips):
        return clips.mean(dim=(2, 3, 4))

    def tokens(self, clips):
        return clips.mean(dim=(2, 3, 4))[:, None, None, None]
'''


def test_a_model_of_ones_own_is_trained_and_predicts(world, tmp_path, capsys, monkeypatch):
    # Other tests list the models that ship.
    monkeypatch.setattr(contract._MODELS, "_things", dict(contract._MODELS._things))
    plugin = tmp_path / "my_models.py"
    plugin.write_text(PLUGIN)
    options = ["--plugin", plugin, "--runs", tmp_path, "--name", "own", "--workers", 0, "--epochs", 1]
    status, _, err = run("train", world, "--model", "mean_color", *options, capsys=capsys)
    assert status == 0, err
    clip = next(world.parent.rglob("*.mp4"))
    status, out, err = run("predict", f"--plugin={plugin}", tmp_path / "own", clip, "--json", capsys=capsys)
    assert status == 0, err
    assert json.loads(out)["score"] > 0
    assert "mean_color" in run("models", "mean_*", "--plugin", plugin, capsys=capsys)[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such Python file"),
        ("1 / 0", "raises ZeroDivisionError"),
        ("def", "raises SyntaxError"),
        ("raise SystemExit(3)", "raises SystemExit: 3"),
    ],
)
def test_a_broken_plugin_is_named(content, message, tmp_path, capsys):
    plugin = tmp_path / "broken.py"
    if content is not None:
        plugin.write_text(content)
    status, _, err = run("models", "--plugin", plugin, capsys=capsys)
    assert status == 2
    assert message in err


def test_a_training_that_cannot_begin_leaves_its_name_free(world, small_run, tmp_path, capsys):
    options = ["--runs", tmp_path, "--name", "mine", "--workers", 0, "--epochs", 1]
    assert run("train", world, "--model", "i3d_nano", "--weights", small_run, *options, capsys=capsys)[0] == 1
    assert not (tmp_path / "mine").exists()


def test_a_folder_with_other_things_is_not_replaced(folder, tmp_path):
    import tubelet

    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years")
    loaded = tubelet.load(folder, device="cpu")
    for write in (loaded.save_for_transformers, loaded.save):
        with pytest.raises(ConfigError, match=r"holds 'thesis\.txt', which would be lost"):
            write(tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years"
    loaded.save_for_transformers(folder)


def test_misspelt_models_and_pictures_are_named(tmp_path, capsys):
    status, _, err = run("models", "videomea_base", capsys=capsys)
    assert (status, "did you mean 'videomae_base'" in err) == (2, True)
    status, _, err = run("models", "vivit_nano_joint", "--plot", tmp_path / "x.foo", capsys=capsys)
    assert (status, "ends in png" in err) == (2, True)
    with pytest.raises(ConfigError, match="num_classes must be at least 1"):
        create_model("videomae_nano", num_classes=0)
