"""Hold that a run which is asked to stop ends between two steps, with a checkpoint, and goes on as if nothing was."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tubelet import train
from tubelet.errors import Interrupted
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from tubelet.training.pace import PACE
from tubelet.training.progress import Quiet
from tubelet.training.run import load_checkpoint
from tubelet.video.spec import InputSpec


class Asking(Quiet):
    """Send a signal to this process after a number of steps, or when an epoch ends."""

    def __init__(self, number, step=None):
        self.number = number
        self.step = step
        self.steps = 0

    def on_step(self, epoch, done, num_batches, totals):
        self.steps += 1
        if self.steps == self.step:
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope="module")
def recipe(small_run):
    changes = {"depth": 1, "temporal_depth": 1, "dim": 16, "heads": 2, "mlp_dim": 32}
    return Recipe(
        data=DataRecipe(source=str(small_run.parents[1] / "world" / "manifest.csv"), workers=0),
        model=ModelRecipe("vivit_nano_factorized_encoder", changes),
        input=InputSpec(frames=4, height=16, width=16),
        training=TrainingRecipe(epochs=2, batch=8, save_every_steps=100),
    )


@pytest.mark.parametrize(
    ("number", "status", "step"),
    [
        (signal.SIGTERM, 143, 2),
        pytest.param(signal.SIGINT, 130, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, 143, 4, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, 5, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_asked_to_stop_loses_no_step(recipe, tmp_path, number, status, step):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(recipe=recipe, name="whole", runs=tmp_path)
    listener = Asking(number, step)
    with pytest.raises(Interrupted, match=signal.Signals(number).name) as caught:
        train(recipe=recipe, name="stopped", runs=tmp_path, listener=listener)
    assert caught.value.status == status
    assert listener.steps == step  # the step in which it was asked is finished, and no other begins
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    rest = Asking(number)
    train(recipe=recipe, name="stopped", runs=tmp_path, resume=True, listener=rest)
    assert listener.steps + rest.steps == 8
    whole, stopped = (load_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "stopped"))
    assert list(flatten(whole["model"])) == list(flatten(stopped["model"]))
    assert list(flatten(whole["optimizer"])) == list(flatten(stopped["optimizer"]))
    rows = [[{**row, **dict.fromkeys(PACE, 0)} for row in one["progress"]["history"]] for one in (whole, stopped)]
    assert rows[0] == rows[1]


def flatten(value):
    """Give every number of a checkpoint, in order."""
    if isinstance(value, torch.Tensor):
        yield value.flatten().tolist()
    elif isinstance(value, dict):
        for key in value:
            yield key
            yield from flatten(value[key])
    elif isinstance(value, list):
        for item in value:
            yield from flatten(item)
    else:
        yield value


@pytest.mark.slow
def test_the_program_ends_with_143_when_its_whole_group_is_told_to_stop(recipe, tmp_path):
    command = [sys.executable, "-m", "tubelet", "train", recipe.data.source, "--name", "run", "--runs", tmp_path]
    command += ["--input.frames", "4", "--epochs", "500", "--training.patience", "0", "--data.workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True) as child:
        for _ in range(600):
            if (tmp_path / "run" / "last.ckpt").exists():
                break
            time.sleep(0.1)
        started = time.monotonic()
        os.killpg(child.pid, signal.SIGTERM)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 143, err
    assert time.monotonic() - started < 30
    assert b"stopped by SIGTERM" in err
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert events[-1] == "interrupted"
