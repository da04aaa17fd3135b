"""Hold that features find clips that are alike, and that a few labelled clips make an ordinary model."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import tubelet
from run_command import run
from tubelet.data.manifest import read_manifest
from tubelet.errors import CheckpointError, ConfigError, DataError
from tubelet.teaching import embeddings as embeddings_module
from tubelet.teaching.embeddings import Embeddings


@pytest.fixture
def world(small_run):
    return small_run.parents[1] / "world"


@pytest.fixture
def labelled(world, tmp_path):
    """Return a folder of class folders with eight clips of the world, under names the model has never heard."""
    rows = list(csv.DictReader((world / "manifest.csv").read_text().splitlines()))
    for label, name in (("slow", "calm"), ("fast", "wild")):
        (tmp_path / "labelled" / name).mkdir(parents=True)
        for row in [row for row in rows if row["label"] == label][:4]:
            shutil.copy(world / row["path"], tmp_path / "labelled" / name)
    return tmp_path / "labelled"


def test_embeddings_are_what_the_head_reads_and_survive_a_file(small_run, world, tmp_path):
    found = tubelet.embed(small_run, world / "manifest.csv")
    assert found.features.shape == (52, 32)
    assert (len(found.names), set(found.labels)) == (52, {"slow", "fast"})
    for name in ("all.npz", "all.parquet"):
        found.save(tmp_path / name)
        stored = Embeddings.read(tmp_path / name)
        assert (stored.names, stored.labels, stored.weights) == (found.names, found.labels, found.weights)
        np.testing.assert_array_equal(stored.features, found.features)
    classifier = tubelet.load(small_run)
    logits = (
        found.features[0] @ classifier.model.head.weight.detach().numpy().T
        + classifier.model.head.bias.detach().numpy()
    )
    name = found.names[0]
    said = classifier.predict(world / name).scores
    tempered = np.exp(logits / classifier.calibration.temperature)
    np.testing.assert_allclose([said[c] for c in classifier.classes], tempered / tempered.sum(), atol=1e-5)


def test_clips_that_are_known_are_not_read_again(small_run, world, monkeypatch):
    found = tubelet.embed(small_run, world / "manifest.csv")
    seen = []
    own = embeddings_module.infer_samples
    monkeypatch.setattr(
        embeddings_module, "infer_samples", lambda *rest, **named: seen.append(len(rest[1])) or own(*rest, **named)
    )
    again = tubelet.embed(small_run, world / "manifest.csv", known=found)
    np.testing.assert_array_equal(again.features, found.features)
    assert seen == [0]
    with pytest.raises(ConfigError, match="of another model"):
        tubelet.embed(small_run, world / "manifest.csv", known=replace(found, weights="0" * 64))


def test_the_nearest_clip_is_the_clip_itself_and_then_its_own_kind(small_run, world, tmp_path, capsys):
    found = tubelet.embed(small_run, world / "manifest.csv")
    copy = shutil.copy(world / found.names[3], tmp_path / "copy.mp4")
    status, out, _ = run(
        "embed", small_run, world / "manifest.csv", "--like", copy, "--top", 2, "--json", "--workers", 0, capsys=capsys
    )
    told = json.loads(out)
    assert (status, told["n"], told["dim"]) == (0, 52, 32)
    assert told["nearest"][0]["name"] == found.names[3]
    assert told["nearest"][0]["similarity"] == pytest.approx(1.0, abs=1e-5)
    assert found.names[3] not in [one.name for one in found.find_nearest(found.names[3], 51)]
    with pytest.raises(DataError, match="did you mean"):
        found.find_nearest(found.names[3][:-1])


def test_a_few_clips_make_an_ordinary_model(small_run, labelled, world, tmp_path, capsys):
    (labelled / "wild" / "broken.mp4").write_bytes(b"no video")
    pool = tmp_path / "pool"
    pool.mkdir()
    rows = list(csv.DictReader((world / "manifest.csv").read_text().splitlines()))
    for number, row in enumerate(rows[-5:]):
        shutil.copy(world / row["path"], pool / f"{number}.mp4")
        if number == 0:
            assert len(tubelet.teach(small_run, labelled, pool=pool).uncertain) == 1
    status, out, _ = run(
        "teach", small_run, labelled, "--pool", pool, "--output", tmp_path / "taught", "--json", "--workers", 0,
        capsys=capsys,
    )  # fmt: skip
    told = json.loads(out)
    assert (status, told["n"], told["classes"]) == (1, 8, ["calm", "wild"])
    assert [one["name"] for one in told["failed"]] == [str(labelled / "wild" / "broken.mp4")]
    margins = [one["margin"] for one in told["uncertain"]]
    assert len(margins) == 5
    assert margins == sorted(margins)
    listed = csv.DictReader((tmp_path / "taught" / "uncertain.csv").read_text().splitlines())
    assert [row["path"] for row in listed] == [one["name"] for one in told["uncertain"]]
    model = tubelet.load(tmp_path / "taught")
    clips = sorted(labelled.rglob("0*.mp4"))
    right = [model.predict(clip).label == clip.parent.name for clip in clips]
    assert np.mean(right) >= 0.75
    assert tubelet.load(small_run).classes == ("fast", "slow")


def test_what_cannot_be_taught_or_read_says_why(small_run, labelled, world, tmp_path):
    shutil.rmtree(labelled / "wild")
    with pytest.raises(DataError, match="label clips of two classes"):
        tubelet.teach(small_run, labelled)
    manifest = read_manifest(world / "manifest.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        tubelet.teach(small_run, manifest, output=tmp_path / "file")
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(CheckpointError, match="cannot read embeddings"):
        Embeddings.read(tmp_path / "bad.npz")
    with pytest.raises(ConfigError, match=r"\.npz or \.parquet"):
        Embeddings.read(tmp_path / "bad.csv")
