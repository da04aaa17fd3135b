"""Hold that a model folder is read whole and unaltered or refused by name, and that scoring leaves no trace."""

import json
import shutil

import pytest
import torch

from tubelet import files
from tubelet import model_folder as module
from tubelet.classifier import Classifier
from tubelet.errors import CheckpointError
from tubelet.model_folder import CONFIG_NAME, WEIGHTS_NAME
from tubelet.models import create_model
from tubelet.video.spec import InputSpec

SPEC = InputSpec(frames=4, height=16, width=16)


def make_classifier(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    changes = {"depth": 1, "temporal_depth": 1, "dim": 16, "heads": 2, "mlp_dim": 16}
    model = create_model(
        "vivit_nano_factorized_encoder", 2, frames=SPEC.frames, height=SPEC.height, width=SPEC.width, **changes
    )
    return Classifier(model, SPEC, ("caf\udce9", "走る"))


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch):
    monkeypatch.setattr(module, "_SECOND_LOOK_S", 0)


@pytest.fixture
def folder(tmp_path):
    make_classifier().save(tmp_path / "model", {"training": {"epoch": 3, "rate": 0.1, "loss": float("nan")}})
    return tmp_path / "model"


def alter(folder, change, *, sealed: bool = False) -> None:
    """Change the description in place; `sealed` leaves out the hash, as hands that write such a file do."""
    path = folder / CONFIG_NAME
    description = json.loads(path.read_text())
    if not sealed:
        description.pop("sha256_config", None)
    change(description)
    path.write_text(json.dumps(description))


def test_what_is_saved_is_read_back_with_its_class_names(folder):
    found = Classifier.read(folder)
    assert found.classes == ("caf\udce9", "走る")
    assert found.input_spec == SPEC
    for name, tensor in make_classifier().model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor)


@pytest.mark.parametrize(
    "change",
    [
        lambda description: description["classes"].reverse(),
        lambda description: description["input"].update(stride=3),
        lambda description: description["training"].update(epoch=4),
        lambda description: description.update(sha256_config=7),
    ],
)
def test_a_changed_description_is_noticed(folder, change):
    alter(folder, change, sealed=True)
    with pytest.raises(CheckpointError, match=r"config\.json.*sha256_config"):
        Classifier.read(folder)


def test_a_description_without_its_hash_and_with_other_spaces_is_read(folder):
    alter(folder, lambda description: None)
    assert Classifier.read(folder).input_spec == SPEC
    make_classifier().save(folder)
    path = folder / CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()), indent=7, sort_keys=True))
    assert Classifier.read(folder).input_spec == SPEC


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "1"},
        {"format": None},
        {"format": True},
        {"format": 0},
        {"format": 99},
        {"model": "vivit"},
        {"model": []},
        {"model": {}},
        {"model": {"name": 3, "num_classes": 2}},
        {"model": {"name": "nothing_known", "num_classes": 2}},
        {"input": 5},
        {"input": {"frames": "many"}},
        {"input": {"framez": 3}},
        {"classes": 2},
        {"classes": "ab"},
        {"classes": [1, 2]},
        {"classes": ["one"]},
        {"sha256": None},
        {"sha256": 12},
        {"sha256": []},
    ],
    ids=str,
)
def test_a_wrong_description_is_refused_by_the_file_name(folder, changes):
    alter(folder, lambda description: description.update(changes))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Classifier.read(folder)


@pytest.mark.parametrize("key", ["name", "num_classes", "dim", "heads", "tubelet"])
@pytest.mark.parametrize("value", ["x", -1, 0, None, [], {}, 3.5, 10**30])
def test_a_wrong_value_of_the_model_is_refused_by_the_file_name(folder, key, value):
    alter(folder, lambda description: description["model"].update({key: value}))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Classifier.read(folder)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "7", "", "\ud800", "{", '{"format": NaN}'])
def test_a_file_that_is_no_description_is_refused_by_its_name(folder, text):
    (folder / CONFIG_NAME).write_text(text, errors="surrogatepass")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Classifier.read(folder)


@pytest.mark.parametrize("kind", ["missing", "folder"])
@pytest.mark.parametrize("name", [CONFIG_NAME, WEIGHTS_NAME])
def test_a_file_that_is_not_there_is_named(folder, kind, name):
    (folder / name).unlink()
    if kind == "folder":
        (folder / name).mkdir()
    with pytest.raises(CheckpointError, match=name):
        Classifier.read(folder)


def test_a_folder_that_is_replaced_while_it_is_read_is_read_consistently(folder, monkeypatch):
    other = make_classifier(seed=1)
    plain, calls = module.read_weights, []

    def replace_first(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            other.save(folder)
        return plain(*arguments)

    monkeypatch.setattr(module, "read_weights", replace_first)
    found = Classifier.read(folder)
    for key, tensor in other.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[key], tensor)


def test_a_folder_that_vanishes_for_a_moment_is_read(folder, monkeypatch):
    plain, calls = module.read_weights, []

    def hide_first(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            shutil.copytree(folder, folder.with_name(".model.new"))
            folder.rename(folder.with_name(".model.old"))
        return plain(*arguments)

    monkeypatch.setattr(module, "read_weights", hide_first)
    assert Classifier.read(folder).classes == ("caf\udce9", "走る")
    assert len(calls) == 2


def test_damage_that_stays_is_reported_after_the_second_look(folder):
    weights = bytearray((folder / WEIGHTS_NAME).read_bytes())
    weights[-1] ^= 1
    (folder / WEIGHTS_NAME).write_bytes(weights)
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*expected sha256"):
        Classifier.read(folder)


def test_a_model_folder_is_read_from_inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert Classifier.read(".").input_spec == SPEC


@pytest.mark.parametrize("was_training", [True, False])
def test_scoring_leaves_the_mode_as_it_was_even_where_it_fails(was_training):
    classifier = make_classifier()
    classifier.model.train(was_training)
    classifier.score(torch.zeros(1, 4, 16, 16, 3, dtype=torch.uint8))
    assert classifier.model.training is was_training

    def fail(*arguments):
        raise RuntimeError("out of memory")

    classifier.model.features = fail
    with pytest.raises(RuntimeError, match="out of memory"):
        classifier.score(torch.zeros(1, 4, 16, 16, 3, dtype=torch.uint8))
    assert classifier.model.training is was_training


def test_the_hash_of_the_description_is_that_of_its_canonical_text(folder):
    description = json.loads((folder / CONFIG_NAME).read_text())
    stated = description.pop("sha256_config")
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"))
    assert stated == files.hash_bytes(canonical.encode("ascii"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("dim", 10**6, "parameters, found"), ("depth", 10**9, "blocks"), ("pretrained", True, "no hyper-parameter")],
)
def test_a_description_that_asks_for_more_than_its_weights_is_refused_before_it_is_built(folder, key, value, message):
    alter(folder, lambda description: description["model"].update({key: value}))
    with pytest.raises(CheckpointError, match=message):
        Classifier.read(folder)
