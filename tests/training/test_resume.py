"""Hold the promise of `--resume`: a run that is killed at any moment ends as if nothing had happened."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from training.kill_points import GROUPS, SAVE_EVERY, STEPS, WRITES, list_kinds
from tubelet.config import read_config
from tubelet.errors import TrainingError
from tubelet.recipes.recipe import Recipe
from tubelet.training.train import train

PROGRAM = Path(__file__).with_name("kill_runs.py")
POINTS = Path(__file__).with_name("kill_points.py")


def run_with_kills(folder: Path, kills: int, seed: int, workers: int, command: str = "train") -> dict:
    arguments = [str(folder), str(kills), str(seed), str(workers), command]
    done = subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def check_equal(outcome: dict) -> None:
    for killed in outcome["killed"]:
        assert killed["state"] == outcome["whole"]["state"]
        assert killed["best"] == outcome["whole"]["best"]
        assert killed["metrics"] == outcome["whole"]["metrics"]
        assert killed["leftovers"] == []


@pytest.mark.slow
def test_a_run_killed_twice_ends_with_the_same_bits(tmp_path):
    outcome = run_with_kills(tmp_path, kills=2, seed=1, workers=0)
    assert outcome["kills"] == 2
    check_equal(outcome)


@pytest.mark.slow
def test_a_pretraining_killed_three_times_ends_with_the_same_bits(tmp_path):
    outcome = run_with_kills(tmp_path, kills=3, seed=2, workers=0, command="pretrain")
    assert outcome["kills"] == 3
    check_equal(outcome)


@pytest.mark.slow
def test_a_pretraining_killed_twenty_times_ends_with_the_same_bits(tmp_path):
    outcome = run_with_kills(tmp_path, kills=20, seed=8, workers=2, command="pretrain")
    assert outcome["kills"] == 20
    check_equal(outcome)


def count_lost(point: dict) -> int:
    """Count the steps of an epoch that were taken since the checkpoint, before or after one of them."""
    before = point["occurrence"] % STEPS
    return before % SAVE_EVERY + (point["what"] == "after step")


def test_runs_are_killed_at_50_points_20_of_them_inside_a_save():
    points = [point for group in range(len(GROUPS)) for point in list_kinds(group)]
    assert Counter(kind for kind, _ in points) == {"write": 20, "step": 20, "validation": 5, "edge": 5}
    assert sorted(what for kind, what in points if kind == "write") == sorted(WRITES)
    assert len(set(WRITES)) == 20
    assert set(GROUPS) == {(workers, processes) for workers in (0, 2) for processes in (1, 2)}


@pytest.mark.slow
@pytest.mark.timeout(600)  # a minute each, several where others work on the same cores
@pytest.mark.parametrize("group", range(len(GROUPS)), ids=[f"{w}-workers-{p}-processes" for w, p in GROUPS])
def test_a_run_killed_at_any_point_ends_with_the_same_bits(tmp_path, group):
    """Weights, optimizer, moving average, progress, metrics, kept model and figures are those of a run left alone."""
    arguments = [str(tmp_path), *map(str, GROUPS[group])]
    done = subprocess.run([sys.executable, str(POINTS), *arguments], capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert [(one["point"]["kind"], one["point"]["what"]) for one in outcome["killed"]] == list_kinds(group)
    for one in outcome["killed"]:
        point, diary = one["point"], one["diary"]
        assert diary["killed"] == [f"{point['what']} {point['occurrence']}"]
        assert one["result"] == outcome["result"], point
        assert set(diary["step"]) == set(outcome["steps"])
        lost = len(diary["step"]) - len(outcome["steps"])  # steps that were taken twice
        assert 0 <= lost <= SAVE_EVERY, point
        if point["kind"] == "step":
            assert lost == count_lost(point), point
        assert diary["remark"] == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")
def test_a_run_that_is_trained_is_neither_resumed_nor_replaced_by_another_process(small_run, tmp_path):
    folder = shutil.copytree(small_run, tmp_path / "held")
    program = (
        "import sys, pathlib; from tubelet.training.run import Run\n"
        "with Run(pathlib.Path(sys.argv[1])).lock():\n    print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        for wish in ({"resume": True}, {"overwrite": True, "recipe": read_config(folder / "config.yaml", Recipe)}):
            with pytest.raises(TrainingError, match=f"process {other.pid} trains it at this moment"):
                train(name="held", runs=tmp_path, **wish)
        other.kill()
    assert (folder / "model" / "config.json").exists()
    assert train(name="held", runs=tmp_path, resume=True).folder == folder
    assert not (folder / "run.lock").exists()
