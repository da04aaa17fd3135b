"""Hold that an exported file answers as its model does, carries its contract, and is written whole or not at all."""

import json

import pytest
import torch

import tubelet
from run_command import run
from tubelet.classifier import Classifier
from tubelet.errors import ConfigError, ExportError
from tubelet.exporting import export as module
from tubelet.models import create_model, find_card, list_models
from tubelet.runtime import ExportedModel
from tubelet.video.spec import InputSpec


def find_families():
    """One small card for each architecture that anybody registered."""
    families = {}
    for name in sorted(list_models(), key=lambda name: "nano" not in name):
        families.setdefault(find_card(name).architecture, name)
    return list(families.values())


def make_classifier(name, num_classes=5):
    """Give weights to what starts at zero, so that answers differ."""
    torch.manual_seed(0)
    model = create_model(name, num_classes)
    for parameter in [parameter for parameter in model.parameters() if parameter.ndim > 1 and not parameter.any()]:
        torch.nn.init.normal_(parameter, std=0.2)
    return Classifier(model.eval(), find_card(name).input_spec, tuple("abcdefgh"[:num_classes]))


def read_clips(small_run):
    return sorted((small_run.parents[1] / "world").rglob("*.mp4"))[:3]


def test_an_onnx_file_predicts_what_its_run_predicts(small_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run("export", small_run, capsys=capsys)
    assert status == 0
    assert out.startswith("small.onnx  onnx float32, 0.")
    assert "compared on 4 clips of" in out  # of the run's own data
    assert "manifest.csv, in batches of 1 and 3" in out
    clips = read_clips(small_run)
    wanted, found = (
        [json.loads(line) for line in run("predict", model, *clips, "--json", capsys=capsys)[1].splitlines()]
        for model in (small_run, "small.onnx")
    )
    assert len(wanted) == len(clips)
    for one, other in zip(wanted, found, strict=True):
        scores, own = one.pop("scores"), other.pop("scores")
        assert own == pytest.approx(scores, abs=1e-5)
        assert [one.pop("score"), one.pop("distance")] == pytest.approx(
            [other.pop("score"), other.pop("distance")], abs=1e-3
        )
        assert one == other  # labels, label sets, what is unknown
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_weights_alone_are_a_plain_state_dict_with_the_contract_beside(small_run, tmp_path):
    done = tubelet.export(small_run, tmp_path / "mine.pth")
    own = Classifier.read(small_run / "model")
    state = torch.load(tmp_path / "mine.pth", weights_only=True)
    assert state.keys() == own.model.state_dict().keys()
    contract = json.loads((tmp_path / "mine.json").read_text())
    assert contract["classes"] == list(own.classes)
    assert contract["weights"] == own.calibration.weights
    assert done.parity.max_difference == 0
    assert done.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_a_file_that_answers_otherwise_is_not_kept(small_run, tmp_path, monkeypatch):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"an earlier one")
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match=r"differ by up to 0\.00e\+00 on 4 clips of .*nothing was written"):
        tubelet.export(small_run, path)
    assert path.read_bytes() == b"an earlier one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("output", "options", "said"),
    [
        ("a.onnx", {"format": "torch"}, r"names end in \.pt2"),
        ("a.tflite", {}, r"names end in \.onnx"),
        ("a.pt2", {"int8": True}, "choose onnx"),
        (None, {}, "give an output"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled_is_refused_at_once(tmp_path, output, options, said):
    with pytest.raises(ConfigError, match=said):
        tubelet.export(make_classifier("frame_transformer_nano"), output and tmp_path / output, **options)


def test_models_of_features_are_refused(tmp_path):
    spec = InputSpec(kind="features", frames=8, height=1, width=1, channels=4, mean=(), std=())
    model = create_model("cnn_gru_nano", 2, backbone="none", channels=4, frames=8, height=1, width=1)
    with pytest.raises(ConfigError, match="takes features of frames"):
        tubelet.export(Classifier(model, spec, ("a", "b")), tmp_path / "a.onnx")


def test_named_videos_are_what_is_compared_on(small_run, tmp_path):
    done = tubelet.export(small_run, tmp_path / "mine.pth", clips=read_clips(small_run))
    assert (done.parity.clips, done.parity.origin) == (3, "3 videos that you named")


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".onnx", ".pt2", "_openvino"])
@pytest.mark.parametrize("name", find_families())
def test_every_family_answers_alike_in_every_format(name, ending, tmp_path):
    classifier = make_classifier(name)
    done = tubelet.export(classifier, tmp_path / f"mine{ending}")
    assert done.parity.max_difference <= 1e-4
    exported = ExportedModel.read(done.path, device="cpu", trust=True)
    spec = classifier.input_spec
    clips = torch.randint(0, 256, (5, spec.frames, spec.height, spec.width, spec.channels), dtype=torch.uint8)
    wanted, found = classifier.infer(clips), exported.infer(clips)
    assert not torch.allclose(wanted.logits[0], wanted.logits[1], atol=1e-4)
    for one, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("differences", ["append", "only"])
def test_frame_differences_are_made_inside(differences, tmp_path):
    spec = InputSpec(frames=8, height=16, width=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), differences=differences)
    changes = {"frames": 8, "height": 16, "width": 16, "channels": spec.input_channels, "depth": 1}
    model = create_model("videomae_nano", 3, **changes)
    torch.nn.init.normal_(model.head.weight)
    done = tubelet.export(Classifier(model, spec, ("a", "b", "c")), tmp_path / "mine.onnx")
    assert done.parity.max_difference <= 1e-5


@pytest.mark.slow
def test_int8_shrinks_transformers_and_refuses_convolutions(tmp_path):
    whole = tubelet.export(make_classifier("videomae_nano"), tmp_path / "whole.onnx")
    small = tubelet.export(make_classifier("videomae_nano"), tmp_path / "small.onnx", int8=True)
    assert small.precision == ExportedModel.read(small.path, device="cpu").contract.precision == "int8"
    assert small.size_bytes < 0.5 * whole.size_bytes
    assert 0 < small.parity.max_difference < 0.05
    with pytest.raises(ConfigError, match="of the weights lie in matrices"):
        tubelet.export(make_classifier("i3d_nano"), tmp_path / "none.onnx", int8=True)
    assert not (tmp_path / "none.onnx").exists()
