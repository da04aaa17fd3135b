"""Hold that a benchmark measures what it says, for both sides the same work."""

import json

import pytest

import tubelet
from run_command import run
from small_run import write_clip
from tubelet import InputSpec
from tubelet.benchmarking.rival import TransformersRival
from tubelet.classifier import Classifier
from tubelet.errors import ConfigError
from tubelet.models import create_model

CHANGES = {"dim": 24, "depth": 1, "heads": 2, "mlp_dim": 48, "final_eps": 1e-5}


@pytest.fixture(scope="module")
def classifier():
    model = create_model("videomae_nano", num_classes=3, frames=8, height=32, width=32, **CHANGES)
    return Classifier(model.eval(), InputSpec(frames=8, height=32, width=32), ("a", "b", "c"))


def test_the_command_prints_a_table_and_one_line_of_json(small_run, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.mp4", frames=30)
    command = ("benchmark", small_run, clip, "--batches", "1", "--batches", "3", "--rounds", "3")
    status, printed, errors = run(*command, capsys=capsys)
    assert status == 0, errors
    *table, line = printed.splitlines()
    found = json.loads(line)
    assert found["parameters"] == sum(one.numel() for one in tubelet.load(small_run).model.parameters())
    assert found["gmacs"] > 0
    (speed,) = found["speeds"]
    assert [timing["batch"] for timing in speed["timings"]] == [1, 3]
    for timing in speed["timings"]:
        assert 0 < timing["p50_ms"] <= timing["p90_ms"] <= timing["p99_ms"]
        assert timing["clips_per_s"] == pytest.approx(1e3 * timing["batch"] / timing["p50_ms"])
        assert timing["peak_mb"] is None or timing["peak_mb"] > 10
    assert all(speed[name] > 0 for name in ("files_per_s", "frames_per_s", "predictions_per_s"))
    assert any("batch 3: clips/s" in row for row in table)


def test_the_other_side_computes_the_same(classifier, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", frames=20)
    found = tubelet.benchmark(classifier, [clip], against="transformers", batches=(2,), rounds=2)
    assert [speed.name for speed in found.speeds] == ["tubelet", "transformers"]
    assert found.max_difference < 1e-4
    assert found.speeds[1].timings[0].p50_ms > 0
    clips = [str(write_clip(tmp_path / f"{seed}.mp4", frames=20 + seed, seed=seed)) for seed in range(6)]
    rival = TransformersRival(classifier, tmp_path / "theirs")
    outcomes = tubelet.predict(classifier, clips, batch=4)
    assert rival.predict(clips) == [outcome.label for outcome in outcomes]


def test_what_cannot_be_measured_is_refused(classifier, small_run):
    for wrong in ({"rounds": 0}, {"batches": ()}, {"batches": (0,)}):
        with pytest.raises(ConfigError, match="cannot measure"):
            tubelet.benchmark(classifier, **wrong)
    with pytest.raises(ConfigError, match="transformers has no"):
        tubelet.benchmark(small_run, against="transformers")
