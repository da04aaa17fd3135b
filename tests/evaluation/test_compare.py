"""Hold that models are compared on the same clips, by stored answers only where those still hold."""

import csv
import json
import shutil

import pytest

import tubelet
from run_command import run
from tubelet.classifier import Classifier
from tubelet.errors import ConfigError
from tubelet.evaluation import answers


@pytest.fixture
def other(small_run, tmp_path):
    """Return a copy of the run whose stored answers to its first three clips are the other class."""
    folder = shutil.copytree(small_run, tmp_path / "other")
    table = folder / "predictions.csv"
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows[:3]:
        row["score:fast"], row["score:slow"] = row["score:slow"], row["score:fast"]
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def forbid(*_args, **_options):
    pytest.fail("scored anew what was stored")


def test_stored_answers_are_compared_clip_by_clip(small_run, other, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "score_samples", forbid)
    found = tubelet.compare([small_run, other], output=tmp_path / "out")
    first, second = found.entries
    stored = json.loads((small_run / "report.json").read_text())
    assert (first.accuracy, first.k, first.n) == (stored["top1"], 2, 12)
    assert [first.interval.low, first.interval.high] == stored["top1_interval_95"]
    assert first.is_stored
    assert second.is_stored
    (pair,) = found.pairs
    assert (pair.n, len(pair.flips), pair.test.only_a + pair.test.only_b) == (12, 3, 3)
    assert pair.difference.difference == pytest.approx(second.accuracy - first.accuracy)
    assert all((flip.first == flip.label) != (flip.second == flip.label) for flip in pair.flips)
    assert (tmp_path / "out" / "flips_1_2.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == json.loads(json.dumps(found.to_dict()))
    rows = list(csv.DictReader((tmp_path / "out" / "comparison.csv").read_text().splitlines()))
    assert [float(row["accuracy"]) for row in rows] == [first.accuracy, second.accuracy]
    assert (tmp_path / "out" / "comparison.md").read_text().startswith("| run | accuracy |")


def test_costs_are_those_of_the_model_and_are_measured_here(small_run):
    (entry,) = tubelet.compare([small_run]).entries
    model = tubelet.load(small_run)
    assert entry.cost.parameters == sum(parameter.numel() for parameter in model.model.parameters())
    assert entry.cost.gmacs == pytest.approx(model.model.count_macs() / 1e9)
    assert entry.cost.frames_per_s == pytest.approx(entry.cost.clips_per_s * 8)
    assert entry.size_mb > 4 * entry.cost.parameters / 1e6


def test_answers_to_other_clips_or_of_older_weights_are_not_taken(small_run, other):
    world = small_run.parents[1] / "world" / "manifest.csv"
    lines = world.read_text().splitlines()
    fewer = world.with_name("fewer.csv")
    fewer.write_text("\n".join([lines[0], *[line for line in lines if line.endswith("test")][2:]]))
    found = tubelet.compare([other], fewer)
    assert (found.entries[0].is_stored, found.entries[0].n) == (False, 10)
    told = json.loads((other / "report.json").read_text())
    (other / "report.json").write_text(json.dumps({**told, "weights": "0" * 64}))
    renewed = tubelet.compare([small_run, other])
    assert [entry.is_stored for entry in renewed.entries] == [True, False]
    assert renewed.pairs[0].flips == ()


def test_models_of_other_classes_share_a_table_and_nothing_else(small_run, tmp_path, capsys):
    world = shutil.copytree(small_run.parents[1] / "world", tmp_path / "world")
    (world / "manifest.csv").write_text((world / "manifest.csv").read_text().replace(",fast,", ",quick,"))
    strange = tmp_path / "strange"
    own = Classifier.read(small_run / "model")
    Classifier(own.model, own.input_spec, ("quick", "slow")).save(strange / "model")
    source = str(small_run.parents[1] / "world")
    (strange / "config.yaml").write_text((small_run / "config.yaml").read_text().replace(source, str(world)))
    status, out, _ = run("compare", small_run, strange, "--workers", 0, capsys=capsys)
    assert status == 1
    assert "only one of them knows 'fast', 'quick'" in out
    assert "evaluated now" in out
    assert "not tested on the same clips" in out


def test_what_cannot_be_compared_is_refused(small_run, tmp_path):
    with pytest.raises(ConfigError, match="name each run once"):
        tubelet.compare([small_run, small_run])
    own = Classifier.read(small_run / "model")
    Classifier(own.model, own.input_spec, own.classes, "multilabel").save(tmp_path / "many")
    with pytest.raises(ConfigError, match="multi-label"):
        tubelet.compare([tmp_path / "many"])


def test_the_command_prints_a_table_and_a_line_for_each_pair(small_run, other, capsys):
    status, out, _ = run("compare", small_run, other, capsys=capsys)
    assert status == 0
    assert "McNemar p = " in out
    assert out.splitlines()[1].split()[0] == "small"
    status, out, _ = run("compare", small_run, other, "--json", capsys=capsys)
    assert [row["run"] for row in json.loads(out)["runs"]] == ["small", "other"]
