"""Hold the promise of `--resume`: a run that is killed at any moment ends as if nothing had happened."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("kill_runs.py")


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


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_twenty_times_ends_with_the_same_bits(tmp_path, workers):
    outcome = run_with_kills(tmp_path, kills=20, seed=7, workers=workers)
    assert outcome["kills"] == 20
    check_equal(outcome)
