"""Hold that a run in two processes is the run in one: the same clips, the same steps, and the same end after a kill."""

import ast
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tubelet import list_models, load
from tubelet.cli.launching import take_devices
from tubelet.errors import ConfigError
from tubelet.training.pace import PACE
from tubelet.training.ranks import Ranks
from tubelet.training.replay import replay
from tubelet.training.run import load_checkpoint
from tubelet.video.synthetic import make_world

LOST = 42
"""As in rank_runs.py."""
PROGRAM = Path(__file__).with_name("rank_runs.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("ranks")
    make_world("speed", place / "world", clips={"train": 43, "val": 8}, frames=8, height=16, width=16)
    return place


def start(folder, name, processes, epochs=1, dropout=0.0, extra=()):
    command = [*(TORCHRUN if processes == 2 else (sys.executable,)), PROGRAM, folder, name, epochs, dropout, *extra]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, env=environment, start_new_session=True)


def finish(folder, name, processes, *, fails=False, **options):
    with start(folder, name, processes, **options) as run:
        _, err = run.communicate(timeout=250)
    assert (run.returncode != 0) == fails, err[-3000:]


def read_order(folder, name, processes):
    """Give the clips of each batch, those of the first process first."""
    parts = [(folder / f"{name}-{rank}.txt").read_text().splitlines() for rank in range(processes)]
    rows = []
    for lines in zip(*parts, strict=True):
        places, clips = zip(*(line.split(": ") for line in lines), strict=True)
        assert len(set(places)) == 1
        rows.append((places[0], [index for one in clips for index in ast.literal_eval(one)]))
    return rows


def test_each_clip_of_a_batch_is_in_one_share():
    for count in range(9):
        for size in (1, 2, 3, 5):
            shares = [list(Ranks(rank, size).take_share(range(count))) for rank in range(size)]
            assert [index for share in shares for index in share] == list(range(count))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_number_of_devices_is_found_among_the_arguments():
    assert take_devices(["train", "a", "--devices=3", "--", "--devices", "4"]) == (
        3,
        ["train", "a", "--", "--devices", "4"],
    )
    for wrong in ("two", "0", "-1", ""):
        with pytest.raises(ConfigError, match="no number of devices"):
            take_devices(["train", "--devices", wrong])


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(folder):
    finish(folder, "one", 1, epochs=13)
    finish(folder, "two", 2, epochs=13)
    assert read_order(folder, "one", 1) == read_order(folder, "two", 2)
    one, two, other = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("one-0", "two-0", "two-1"))
    assert torch.equal(two, other)
    assert len(one) == 52
    difference = (one - two).abs()
    print(f"step 1: {difference[0].max():.1e}; 50 steps: {(difference[49].norm() / one[49].norm()):.1e} of the norm")
    assert float(difference[0].max()) <= 1e-6
    assert float(difference[49].norm() / one[49].norm()) <= 1e-4
    rows = [(folder / name / "metrics.csv").read_text().splitlines() for name in ("one", "two")]
    for left, right in zip(*rows, strict=True):
        if not left.startswith("epoch"):
            figures = [list(map(float, line.split(",")[: -len(PACE)])) for line in (left, right)]
            assert figures[0] == pytest.approx(figures[1], abs=1e-4)


@pytest.mark.slow
def test_dropout_changes_no_order(folder):
    finish(folder, "wet-one", 1, epochs=2, dropout=0.3)
    finish(folder, "wet-two", 2, epochs=2, dropout=0.3)
    assert read_order(folder, "wet-one", 1) == read_order(folder, "wet-two", 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_of_two_processes_that_is_killed_ends_with_the_same_bits(folder):
    started = time.monotonic()
    finish(folder, "whole", 2, epochs=6)
    whole_s = time.monotonic() - started
    chance = random.Random(5)
    kills = 0
    while kills < 3:
        with start(folder, "killed", 2, epochs=6) as run:
            time.sleep(chance.uniform(0.4, 0.9) * whole_s)
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                kills += 1
        for child in _list_ranks(folder):
            os.kill(child, signal.SIGKILL)
    finish(folder, "killed", 2, epochs=6)
    whole, killed = (load_checkpoint(folder / name / "last.ckpt") for name in ("whole", "killed"))
    for part in ("model", "average"):
        one, other = (state[part] if part == "model" else state[part]["values"] for state in (whole, killed))
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert [row["train_loss"] for row in whole["progress"]["history"]] == [
        row["train_loss"] for row in killed["progress"]["history"]
    ]


def _list_ranks(folder):
    """List processes of a killed run that torchrun started in groups of their own."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(PROGRAM).encode() in words and str(folder).encode() in words:
                yield int(entry.name)


@pytest.mark.slow
def test_a_sharded_run_takes_the_steps_of_one_process(folder):
    finish(folder, "alone", 1, epochs=5)
    finish(folder, "shared", 2, epochs=5, extra=["sharded"])
    assert read_order(folder, "alone", 1) == read_order(folder, "shared", 2)
    one, two, other = (
        torch.load(folder / f"{name}.pt", weights_only=True) for name in ("alone-0", "shared-0", "shared-1")
    )
    assert torch.equal(two, other)
    difference = (one - two).abs()
    print(f"step 1: {difference[0].max():.1e}; 20 steps: {(difference[19].norm() / one[19].norm()):.1e} of the norm")
    assert float(difference[0].max()) <= 1e-6
    assert float(difference[19].norm() / one[19].norm()) <= 1e-4
    whole, gathered = (load(folder / name, device="cpu").model.state_dict() for name in ("alone", "shared"))
    assert list(whole) == list(gathered)
    assert all(torch.allclose(whole[name], gathered[name], atol=1e-4) for name in whole)
    rows = [
        (folder / name / "metrics.csv").read_text().splitlines()[-1].split(",")[: -len(PACE)]
        for name in ("alone", "shared")
        for name in ("alone", "shared")
    ]
    assert list(map(float, rows[0])) == pytest.approx(list(map(float, rows[1])), abs=1e-4)


@pytest.mark.slow
def test_a_sharded_run_that_dies_while_it_writes_ends_with_the_same_bits_and_goes_on_alone(folder):
    finish(folder, "unbroken", 2, epochs=3, extra=["sharded"])
    finish(folder, "broken", 2, epochs=3, extra=["sharded", "killed"], fails=True)
    shards = folder / "broken" / "shards"
    assert len(list(shards.iterdir())) == 3
    assert load_checkpoint(folder / "broken" / "last.ckpt")["progress"]["epoch"] == 2
    shutil.copytree(folder / "broken", folder / "left")
    finish(folder, "broken", 2, epochs=3, extra=["sharded"])
    assert len(list(shards.iterdir())) == 2
    unbroken, broken = (_read_all(folder / name) for name in ("unbroken", "broken"))
    assert len(unbroken) > 300
    assert unbroken.keys() == broken.keys()
    assert all(torch.equal(unbroken[name], broken[name]) for name in unbroken)
    finish(folder, "left", 1, epochs=3, extra=["sharded"])
    kept, other = (load(folder / name, device="cpu").model.state_dict() for name in ("unbroken", "left"))
    assert all(torch.allclose(kept[name], other[name], atol=1e-4) for name in kept)


def _read_all(run):
    """Give all tensors of the last checkpoint, those of each process apart."""
    shards = load_checkpoint(run / "last.ckpt")["shards"]
    files = sorted((run / "shards" / shards["folder"]).iterdir())
    return {(path.name, name): value for path in files for name, value in load_file(path).items()}


@pytest.mark.slow
def test_every_model_has_the_same_gradients_when_it_is_shared_out():
    command = [*TORCHRUN, str(PROGRAM.with_name("sharded_models.py"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == len(list_models("*nano*"))


@pytest.mark.slow
def test_the_check_of_a_gpu_can_be_tried_without_one():
    command = [sys.executable, str(PROGRAM.parents[2] / "benchmarks" / "gpu_check.py")]
    tried = [*command, "--device", "cpu", "--steps", "3", "--ways", "bf16", "fp16 sharded"]
    done = subprocess.run(tried, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[2:]] == ["fp32", "bf16", "fp16 sharded"]
    if not torch.cuda.is_available():
        refused = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith("no GPU to check: cannot use device 'cuda'")


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [[], ["sharded"]])
def test_what_fails_in_one_process_is_left_out_in_all_and_written_once(folder, sharded):
    name = f"bad{len(sharded)}"
    finish(folder, name, 2, extra=["poisoned", *sharded])
    one, other = (torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(one, other)
    assert torch.equal(one[1], one[0])
    assert not torch.equal(one[2], one[1])
    events = [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
    (failure,) = [event for event in events if event["event"] == "failure"]
    assert (failure["batch"], len(failure["clips"])) == (2, 3)
    found = replay(folder / name)
    assert found.is_healthy  # the fault was made up, and the clips are those of the second process
    assert found.clips == tuple(failure["clips"])
    (lost,) = [json.loads(line) for line in (folder / name / "bad_samples.jsonl").read_text().splitlines()]
    assert lost["index"] == LOST


@pytest.mark.slow
def test_the_command_line_starts_as_many_processes_as_asked(folder):
    command = [sys.executable, "-m", "tubelet", "train", folder / "world" / "manifest.csv", "--name", "cli"]
    command += ["--runs", folder, "--devices", "2", "--device", "cpu", "--epochs", "1", "--workers", "0"]
    command += ["--input.frames", "8", "--input.height", "16", "--input.width", "16", "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('"folder"') == 1
    failed = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=250, check=False)
    assert failed.returncode == 1
    assert "it exists already" in failed.stderr
