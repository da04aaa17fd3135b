"""Hold that exported files are refused by name where they are not what they say, and that nothing runs unasked."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tubelet.calibration import Calibration, Novelty
from tubelet.errors import CheckpointError, ConfigError, VideoError
from tubelet.prediction.load import load, load_classifier
from tubelet.runtime import CONTRACT, Contract, ExportedModel
from tubelet.video.spec import InputSpec

SPEC = InputSpec(frames=2, height=4, width=4)
PLAIN = Contract({"name": "some"}, SPEC, ("caf\udce9", "走る"), "classification", "ab" * 32, version="")
NOVELTY = Novelty(np.ones((2, 3), np.float32), np.eye(3, dtype=np.float32), np.arange(4.0))
CALIBRATED = replace(PLAIN, calibration=Calibration(1.5, np.arange(3.0), 3, "val", "d", "w", NOVELTY))


def write_onnx(path, contract=None, location=None):
    """Write a graph that gives two logits for each clip: its weights, beside the file where a location is named."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [2], np.array([1.0, 2.0], np.float32).tobytes(), raw=True)
    if location is not None:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=str(location))
    nodes = [
        helper.make_node("Shape", ["clips"], ["size"], end=1),
        helper.make_node("Concat", ["size", "one"], ["shape"], axis=0),
        helper.make_node("Expand", ["weight", "shape"], ["logits"]),
        helper.make_node("Identity", ["logits"], ["features"]),
    ]
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    clips = helper.make_tensor_value_info("clips", TensorProto.UINT8, ["batch", 2, 4, 4, 3])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("logits", "features")]
    graph = helper.make_graph(nodes, "some", [clips], outputs, [weight, one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    if contract is not None:
        model.metadata_props.add(key=CONTRACT, value=contract)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("contract", [PLAIN, CALIBRATED], ids=["plain", "calibrated"])
def test_a_contract_comes_back_as_it_was(contract):
    found = Contract.from_json(contract.to_json(), "here")
    assert found.version
    calibration = found.calibration
    assert replace(found, version="", calibration=None).__dict__ == replace(contract, calibration=None).__dict__
    if contract.calibration is not None:
        assert calibration.to_values() == contract.calibration.to_values()
        for name, array in contract.calibration.to_arrays().items():
            assert np.array_equal(calibration.to_arrays()[name], array)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "3",
        json.dumps({"format": 99}),
        json.dumps({**json.loads(PLAIN.to_json()), "task": "dreams"}),
        json.dumps({**json.loads(PLAIN.to_json()), "input": {"framez": 3}}),
        json.dumps({key: value for key, value in json.loads(PLAIN.to_json()).items() if key != "classes"}),
        json.dumps({**json.loads(CALIBRATED.to_json()), "arrays": "???"}),
        json.dumps({**json.loads(CALIBRATED.to_json()), "arrays": "AAAA"}),
    ],
    ids=range(9),
)
def test_a_damaged_contract_is_refused_by_the_file_name(text, tmp_path):
    with pytest.raises(CheckpointError, match=r"here\.onnx"):
        load(write_onnx(tmp_path / "here.onnx", text))


def test_a_file_with_a_contract_scores_and_one_without_is_refused(tmp_path):
    model = load(write_onnx(tmp_path / "mine.onnx", CALIBRATED.to_json()), device="cpu")
    assert (model.name, model.classes, model.device) == ("some", PLAIN.classes, torch.device("cpu"))
    scores = model.score(torch.zeros((3, 2, 4, 4, 3), dtype=torch.uint8))
    torch.testing.assert_close(scores, torch.tensor([[1.0, 2.0]]).div(1.5).softmax(1).expand(3, 2))
    with pytest.raises(CheckpointError, match="no input contract"):
        load(write_onnx(tmp_path / "other.onnx"))


def test_weights_outside_the_folder_of_a_file_are_not_read(tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.array([1.0, 2.0], np.float32).tobytes())
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "weights.bin").write_bytes(secret.read_bytes())
    assert load(write_onnx(inside / "good.onnx", PLAIN.to_json(), "weights.bin"), device="cpu").classes
    for location in ("../secret.bin", secret):
        with pytest.raises(CheckpointError, match=r"bad\.onnx"):
            load(write_onnx(inside / "bad.onnx", PLAIN.to_json(), location))


def test_a_program_is_not_even_opened_without_trust(tmp_path):
    path = tmp_path / "mine.pt2"
    path.write_bytes(b"no archive at all")
    with pytest.raises(ConfigError, match=r"a \.pt2 file is code.*--trust-export"):
        load(path)
    with pytest.raises(CheckpointError, match=r"mine\.pt2.*intact copy"):
        load(path, trust_export=True)


@pytest.mark.parametrize("name", ["mine.onnx", "mine.xml"])
def test_garbage_and_nothing_are_refused_by_name(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(CheckpointError, match="there is no such file"):
        load(path)
    path.write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match=rf"{name}.*intact copy"):
        load(path)


def test_what_needs_the_model_itself_says_so(tmp_path):
    path = write_onnx(tmp_path / "mine.onnx", PLAIN.to_json())
    with pytest.raises(ConfigError, match="this needs the model itself"):
        load_classifier(path)
    with pytest.raises(ConfigError, match="here it can run on cpu"):
        load(path, device="mps")


def test_clips_and_precisions_that_a_file_does_not_take_are_refused():
    model = ExportedModel(lambda clips: (clips, clips), PLAIN, torch.device("cpu"), "mine.onnx")
    with pytest.raises(VideoError, match=r"takes uint8 clips.*\(2, 4, 4, 3\) - found torch\.uint8 \(3, 4, 4, 3\)"):
        model.infer(torch.zeros((1, 3, 4, 4, 3), dtype=torch.uint8))
    with pytest.raises(ConfigError, match="computes as it was exported"):
        model.infer(torch.zeros((1, 2, 4, 4, 3), dtype=torch.uint8), torch.bfloat16)
