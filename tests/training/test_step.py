"""Hold that a step is taken whole or not at all: without memory in parts, without numbers not, and that both repeat."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from run_command import run as run_command
from tubelet import train
from tubelet.classifier import Classifier
from tubelet.data.dataset import Batch
from tubelet.errors import Interrupted, TrainingError
from tubelet.models import create_model
from tubelet.recipes.optimization import OptimizerRecipe
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from tubelet.training.averaging import WeightAverage
from tubelet.training.loop import Classification
from tubelet.training.progress import Quiet
from tubelet.training.replay import replay
from tubelet.training.run import load_checkpoint
from tubelet.training.step import Failure, Stepper
from tubelet.video.spec import InputSpec

SPEC = InputSpec(frames=4, height=16, width=16)
SMALL = {"depth": 1, "temporal_depth": 1, "dim": 16, "heads": 2, "mlp_dim": 32}


class Poor(Classification):
    """Run out of memory with more than some clips at a time."""

    most = 3

    def compute_loss(self, batch):
        if len(batch.labels) > self.most:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried 9 GB"
            )
        return super().compute_loss(batch)


def make_task(kind=Classification, seed=0, **training):
    torch.manual_seed(seed)
    model = create_model("vivit_nano_factorized_encoder", 2, frames=4, height=16, width=16, **SMALL)
    recipe = Recipe(input=SPEC, optimizer=OptimizerRecipe(clip_norm=0.0), training=TrainingRecipe(**training))
    return kind(Classifier(model, SPEC, ("a", "b")), recipe)


def make_batch(size=8, seed=0):
    generator = np.random.default_rng(seed)
    clips = generator.integers(0, 255, (size, 4, 16, 16, 3), np.uint8)
    return Batch(torch.from_numpy(clips), torch.from_numpy(generator.integers(0, 2, size)), torch.arange(size))


def step(task, *batches, **options):
    optimizer = torch.optim.SGD(task.model.parameters(), lr=1.0)
    stepper = Stepper(task, optimizer, task.recipe, **options)
    stepper.start_epoch()
    return stepper.take(list(enumerate(batches)), 0)


def list_weights(task):
    return [value.detach().clone() for value in task.model.state_dict().values()]


def test_a_step_in_smaller_parts_moves_the_weights_as_a_whole_one():
    remarks = []
    whole, parts = make_task(precision="fp32"), make_task(Poor, precision="fp32", auto_microbatch=True)
    batches = make_batch(8), make_batch(5, seed=1)
    one = step(whole, *batches)
    other = step(parts, *batches, on_remark=remarks.append)
    assert (one.count, one.correct) == (other.count, other.correct)
    assert one.loss_sum == pytest.approx(other.loss_sum, rel=1e-6)
    for left, right in zip(list_weights(whole), list_weights(parts), strict=True):
        assert torch.allclose(left, right, atol=1e-6)
    assert [text.split(":")[0] for text in remarks] == [
        "out of memory with 8 clips at a time",
        "out of memory with 4 clips at a time",
    ]


def test_without_leave_to_take_parts_a_lack_of_memory_says_which_numbers_to_take():
    with pytest.raises(
        TrainingError, match=r"8 clips of 4 frames of 16x16 .* --training.batch 4 --training.accumulate 2"
    ):
        step(make_task(Poor), make_batch())
    Poor.most, before = 0, Poor.most
    try:
        with pytest.raises(TrainingError, match=r"with 1 clips .* lower input\.frames"):
            step(make_task(Poor, auto_microbatch=True), make_batch())
    finally:
        Poor.most = before


class Heavy(torch.optim.SGD):
    """Run out of memory while the weights move, as AdamW may in its first step."""

    def step(self, closure=None):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GB")


def test_a_lack_of_memory_while_the_weights_move_ends_the_training_in_words():
    task = make_task(auto_microbatch=True)
    stepper = Stepper(task, Heavy(task.model.parameters(), lr=1.0), task.recipe)
    with pytest.raises(TrainingError, match="memory is out: CUDA out of memory"):
        stepper.take([(0, make_batch())], 0)


def test_a_step_that_is_left_out_leaves_nothing_behind():
    torch.manual_seed(0)
    model = create_model("i3d_nano", 2, frames=8, height=32, width=32)
    spec = InputSpec(frames=8, height=32, width=32)
    task = Classification(Classifier(model, spec, ("a", "b")), Recipe(input=spec))
    before = list_weights(task)
    generator = np.random.default_rng(0)
    clips = torch.from_numpy(generator.integers(0, 255, (2, 8, 32, 32, 3), np.uint8))
    batch = Batch(clips, torch.tensor([0, 1]), torch.arange(2))
    hook = next(model.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    seen = []
    assert step(task, batch, on_failure=lambda failure, held: seen.append((failure.what, len(held)))) is None
    assert seen == [("norm of the gradient", 1)]
    assert all(torch.equal(a, b) for a, b in zip(before, list_weights(task), strict=True))  # running statistics, too
    hook.remove()
    assert step(task, batch)
    assert not all(torch.equal(a, b) for a, b in zip(before, list_weights(task), strict=True))


def test_fp16_scales_the_loss_and_leaves_out_what_overflows():
    task = make_task(precision="fp16")
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1)
    stepper = Stepper(task, optimizer, task.recipe)
    before = list_weights(task)
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    stepper.start_epoch()
    scale = stepper.scaler.get_scale()
    assert stepper.take([(0, make_batch())], 0)
    assert stepper.scaler.get_scale() < scale
    assert all(torch.equal(a, b) for a, b in zip(before, list_weights(task), strict=True))
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    stepper.take([(1, make_batch())], 0)
    assert not all(torch.equal(a, b) for a, b in zip(before, list_weights(task), strict=True))


def test_an_average_follows_the_weights_and_can_be_lent():
    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1))
    with torch.no_grad():
        model[0].weight.fill_(0.0)
        average = WeightAverage(model, decay=0.5)
        expected = 0.0
        for number in range(1, 9):
            model[0].weight.fill_(float(number))
            model[1].running_mean.fill_(float(number))
            average.follow(model)
            keep = min(0.5, (1 + number) / (10 + number))
            expected = keep * expected + (1 - keep) * number
    with average.lent(model):
        assert float(model[0].weight.detach()) == pytest.approx(expected)
        assert float(model[1].running_mean) == 8.0
        model[0].weight.data.fill_(-1.0)
    assert float(model[0].weight.detach()) == 8.0
    other = WeightAverage(model, decay=0.5)
    other.load_state_dict(average.state_dict())
    assert other.steps == 8
    assert torch.equal(other.values["0.weight"], average.values["0.weight"])


@pytest.fixture(scope="module")
def recipe(small_run):
    return Recipe(
        data=DataRecipe(source=str(small_run.parents[1] / "world" / "manifest.csv"), workers=0),
        model=ModelRecipe("vivit_nano_factorized_encoder", SMALL),
        input=SPEC,
        training=TrainingRecipe(epochs=2, batch=8, save_every_steps=1),
    )


@pytest.fixture
def poisoned(monkeypatch):
    """Make the loss of given steps of a run no number: (epoch, number in the epoch)."""
    places = set()
    whole = Stepper._backward

    def backward(self, number, batch, epoch):
        if (epoch, number) in places:
            raise Failure("loss", float("nan"), epoch, number)
        return whole(self, number, batch, epoch)

    monkeypatch.setattr(Stepper, "_backward", backward)
    return places


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:epoch [12], batch")
@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_a_poisoned_step_is_left_out_the_same_way_when_the_run_goes_on(recipe, tmp_path, poisoned, policy):
    poisoned |= {(0, 1), (0, 2), (1, 2)}
    recipe = replace(recipe, training=replace(recipe.training, on_failure=policy, save_every_steps=3))
    train(recipe=recipe, name="whole", runs=tmp_path)
    events = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    failures = [event for event in events if event["event"] == "failure"]
    assert [(event["epoch"], event["batch"]) for event in failures] == [(1, 2), (1, 3), (2, 3)]
    assert all(len(event["clips"]) == 8 for event in failures)
    state = load_checkpoint(tmp_path / "whole" / "last.ckpt")
    moved = int(next(iter(state["optimizer"]["state"].values()))["step"])
    # Going back to the checkpoint at the end of the first epoch gives up the two steps after it.
    assert moved == (5 if policy == "skip" else 3)
    if policy == "skip":
        with pytest.raises(Interrupted):
            train(recipe=recipe, name="again", runs=tmp_path, listener=Stopping())
        train(recipe=recipe, name="again", runs=tmp_path, resume=True)
        other = load_checkpoint(tmp_path / "again" / "last.ckpt")
        assert all(torch.equal(other["model"][name], value) for name, value in state["model"].items())


def test_five_failures_in_a_row_end_the_run_whatever_its_recipe_says(recipe, tmp_path, poisoned):
    poisoned |= {(epoch, number) for epoch in range(2) for number in range(4)}
    recipe = replace(recipe, training=replace(recipe.training, on_failure="skip"))
    with pytest.warns(UserWarning, match="left out"), pytest.raises(TrainingError, match="5 steps in a row"):
        train(recipe=recipe, name="bad", runs=tmp_path)


@pytest.mark.slow
def test_failures_with_good_steps_between_them_do_not_end_the_run(recipe, tmp_path, poisoned):
    poisoned |= {(epoch, number) for epoch in range(4) for number in (0, 2)}
    recipe = replace(recipe, training=replace(recipe.training, on_failure="skip", epochs=4))
    with pytest.warns(UserWarning, match="left out"):
        train(recipe=recipe, name="odd", runs=tmp_path)


def test_replay_names_the_module_the_weights_and_the_clips(recipe, tmp_path, capsys, monkeypatch):
    whole = Stepper.take

    def take(self, held, epoch):
        if held[0][0] == 2:
            with torch.no_grad():
                self.task.model.get_parameter("head.weight")[0, 0] = float("inf")
        return whole(self, held, epoch)

    monkeypatch.setattr(Stepper, "take", take)
    with pytest.raises(TrainingError, match=r"batch 3 .*tubelet replay"):
        train(recipe=recipe, name="bad", runs=tmp_path)
    found = replay(tmp_path / "bad")
    assert (found.epoch, found.batches, len(found.clips)) == (1, (3,), 8)
    assert found.bad_weights == ("head.weight",)
    assert found.first_bad_module == "head"
    assert not found.is_healthy
    status, out, _ = run_command("replay", tmp_path / "bad", capsys=capsys)
    assert status == 1
    assert "first module whose output is no number: head" in out
    status, out, _ = run_command("replay", tmp_path / "bad", "--json", capsys=capsys)
    assert json.loads(out)["first_bad_module"] == "head"
    monkeypatch.setattr(Stepper, "take", whole)
    train(recipe=recipe, name="good", runs=tmp_path)
    with pytest.raises(TrainingError, match="no step of it failed"):
        replay(tmp_path / "good")


class Stopping(Quiet):
    """Ask the run to stop in the middle of its first epoch."""

    def on_step(self, epoch, done, num_batches, totals):
        if (epoch, done) == (0, 2):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_the_average_is_what_is_kept_and_survives_an_interruption(recipe, tmp_path):
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, ema=0.9))
    train(recipe=recipe, name="whole", runs=tmp_path)
    state = load_checkpoint(tmp_path / "whole" / "last.ckpt")
    assert state["average"]["steps"] == 8
    values = state["average"]["values"]
    assert any(not torch.equal(values[name], value) for name, value in state["model"].items())
    if state["progress"]["best_epoch"] == 1:
        kept = load_file(tmp_path / "whole" / "model" / "model.safetensors")
        assert all(torch.equal(kept[name], value) for name, value in values.items() if name in kept)
    with pytest.raises(Interrupted):
        train(recipe=recipe, name="stopped", runs=tmp_path, listener=Stopping())
    train(recipe=recipe, name="stopped", runs=tmp_path, resume=True)
    resumed = load_checkpoint(tmp_path / "stopped" / "last.ckpt")["average"]
    assert resumed["steps"] == 8
    assert all(torch.equal(values[name], value) for name, value in resumed["values"].items())


@pytest.mark.slow
def test_the_average_begins_with_the_weights_that_training_starts_from(recipe, tmp_path):
    train(recipe=recipe, name="first", runs=tmp_path, training__epochs=1)
    source = tmp_path / "first" / "model"
    train(
        recipe=replace(recipe, optimizer=replace(recipe.optimizer, ema=0.9, lr=1e-12, min_lr=0.0)),
        name="second",
        runs=tmp_path,
        training__epochs=1,
        model__weights=str(source),
    )
    before, after = (load_file(path / "model.safetensors") for path in (source, tmp_path / "second" / "model"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
