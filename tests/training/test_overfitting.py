"""Hold that the check before a long run passes what can be learned, fails what cannot, and says why."""

import json
import math
import os
import shutil
from dataclasses import fields, replace

import pytest

from run_command import run as run_command
from small_run import make_tiny_recipe, write_clip
from tubelet import create_model
from tubelet.config import override
from tubelet.data.catalogue import open_data
from tubelet.data.manifest import Manifest
from tubelet.errors import ConfigError, TrainingError
from tubelet.recipes.optimization import FinetuningRecipe, LossRecipe
from tubelet.training import overfit_batch
from tubelet.training.overfitting import _simplify
from tubelet.training.progress import Quiet


@pytest.fixture
def world(small_run):
    return small_run.parents[1] / "world" / "manifest.csv"


class Notes(Quiet):
    """Keep what is told."""

    def __init__(self):
        self.steps, self.bad = [], []

    def on_step(self, epoch, done, num_batches, totals):
        self.steps.append((done, totals.loss, totals.correct))

    def on_bad(self, bad):
        self.bad += bad


def write_clips(folder, **seeds):
    """Write a folder a class, with a clip for each seed: the same seed, the same clip."""
    for label, numbers in seeds.items():
        (folder / label).mkdir(parents=True)
        for number in numbers:
            write_clip(folder / label / f"{label}{number}.mp4", frames=8, size=(16, 16), seed=number)
    return folder


def test_a_batch_that_can_be_learned_is_learned_and_nothing_is_written(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notes = Notes()
    result = overfit_batch(world, recipe=make_tiny_recipe(""), training__batch=64, listener=notes)
    assert result.is_learned
    assert result.right == len(result.clips) == 16
    assert result.loss <= 0.01
    assert result.steps < 100
    assert result.describe().startswith(f"learned 16 of 16 clips by heart in {result.steps} steps (loss 0.0")
    assert result.advice == ""
    assert [done for done, _, _ in notes.steps] == list(range(1, result.steps + 1))
    assert notes.steps[0][1] == result.first_loss > 0.5
    assert notes.steps[-1][1:] == (result.loss, 16)
    assert list(tmp_path.iterdir()) == []


def test_equal_clips_with_different_labels_are_named(tmp_path):
    write_clips(tmp_path / "clips", a=[0, 1], b=[2, 3], c=[4])
    shutil.copy(tmp_path / "clips" / "a" / "a0.mp4", tmp_path / "clips" / "c" / "again.mp4")
    recipe = override(make_tiny_recipe(""), {"data.val_fraction": 0.0, "data.test_fraction": 0.0})
    result = overfit_batch(tmp_path / "clips", recipe=recipe, steps=40)
    assert not result.is_learned
    assert result.right < 6
    assert {"a/a0.mp4", "c/again.mp4"} == set(result.advice.split("'")[1:4:2])
    assert "are the same to the model and have different labels" in result.advice


def test_rates_that_are_far_off_are_what_the_advice_is_about(world):
    low = overfit_batch(world, recipe=make_tiny_recipe(""), steps=12, optimizer__lr=1e-13, optimizer__min_lr=0.0)
    assert low.describe().startswith("loss stays at 0.693, a guess has 0.6")
    assert "steps are too small for float32 - raise optimizer.lr, now 1e-13" in low.advice
    slow = overfit_batch(world, recipe=make_tiny_recipe(""), steps=12, optimizer__lr=1e-4)
    assert not slow.is_learned
    assert "another optimizer.lr, now 0.0001 (usual: 1e-4 to 1e-3)" in slow.advice
    high = overfit_batch(world, recipe=make_tiny_recipe(""), steps=12, optimizer__lr=1e30)
    assert math.isnan(high.loss)
    assert high.advice.startswith("lower optimizer.lr, now 1e+30")
    assert high.to_dict()["loss"] is None


def test_a_loss_that_falls_too_slowly_is_told_from_one_that_does_not_fall(world):
    result = overfit_batch(world, recipe=make_tiny_recipe(""), steps=12, optimizer__lr=1e-3)
    assert result.describe().startswith("loss only comes down to 0.")
    assert result.advice == "raise optimizer.lr, now 0.001, or take more steps (--overfit-steps, 12 now)."


def test_clips_that_cannot_be_read_are_named_and_left_out(tmp_path):
    folder = write_clips(tmp_path / "clips", a=[0, 1], b=[2, 3])
    (folder / "a" / "broken.mp4").write_bytes(b"no video")
    recipe = override(make_tiny_recipe(""), {"data.val_fraction": 0.0, "data.test_fraction": 0.0})
    notes = Notes()
    result = overfit_batch(folder, recipe=recipe, steps=3, listener=notes)
    assert [sample.name for sample in result.bad] == [str(folder / "a" / "broken.mp4")]
    assert notes.bad == list(result.bad)
    assert sorted(result.clips) == ["a/a0.mp4", "a/a1.mp4", "b/b2.mp4", "b/b3.mp4"]
    for path in (folder / "a").glob("a*.mp4"):
        path.write_bytes(b"no video")
    with pytest.raises(
        TrainingError, match="of the training clips tried all 2 are 'b', 3 could not be read; the first"
    ):
        overfit_batch(folder, recipe=recipe, steps=3, listener=Notes())


def test_the_batch_holds_two_classes_however_rare_one_is(world):
    manifest = open_data(world)
    slow = [sample for sample in manifest.select("train") if sample.label == "slow"]
    fast = [sample for sample in manifest.select("train") if sample.label == "fast"]
    for rare in range(3):
        few = Manifest((*slow, fast[rare]), manifest.classes, manifest.origin)
        result = overfit_batch(few, recipe=make_tiny_recipe(""), steps=1, training__batch=2, training__seed=rare)
        assert len({name.split("/")[1] for name in result.clips}) == 2
        assert len(result.clips) == 2


def test_what_prevents_learning_by_heart_is_left_out_and_nothing_else():
    recipe = override(
        make_tiny_recipe("clips"),
        {"optimizer.base_batch": 4, "optimizer.weight_decay": 0.1, "optimizer.ema": 0.9, "model.changes.dropout": 0.2},
    )
    recipe = replace(
        recipe,
        loss=LossRecipe(label_smoothing=0.1, balance="sampler"),
        finetuning=FinetuningRecipe(head_epochs=2, frozen_layers=1),
    )
    plain = _simplify(recipe)
    assert plain.augmentation.list_active() == []
    assert plain.loss == LossRecipe()
    assert plain.finetuning == FinetuningRecipe(frozen_layers=1)
    assert (plain.optimizer.weight_decay, plain.optimizer.ema, plain.optimizer.schedule) == (0.0, 0.0, "constant")
    assert plain.optimizer.lr == 2 * recipe.optimizer.lr  # batch 8, stated for 4
    assert (plain.input, plain.optimizer.betas) == (recipe.input, recipe.optimizer.betas)
    model = create_model(plain.model.name, 2, frames=8, height=16, width=16, **plain.model.changes)
    drops = {field.name: getattr(model.config, field.name) for field in fields(model.config) if "drop" in field.name}
    assert drops == {"dropout": 0.0, "attention_dropout": 0.0, "drop_path": 0.0}


def test_clips_of_several_labels_are_right_as_a_whole(world, tmp_path):
    lines = world.read_text().splitlines()
    place = lines[0].split(",").index("label")
    rows = [line.split(",") for line in lines]
    for number, row in enumerate(rows):
        row[place] = "labels" if number == 0 else row[place] + "|even" * (number % 2)
        row[0] = row[0] if number == 0 else os.fspath(world.parent / row[0])
    table = tmp_path / "several.csv"
    table.write_text("\n".join(",".join(row) for row in rows))
    result = overfit_batch(table, recipe=make_tiny_recipe(""), training__batch=4)
    assert result.is_learned
    assert result.right == len(result.clips) == 4
    assert result.guess_loss > 0.3


def test_the_command_prints_as_it_goes_and_leaves_with_the_verdict(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--input.frames", 8, "--input.height", 16, "--input.width", 16, "--workers", 0, "--batch", 4]
    command = ["train", world, "--overfit-batch", *small]
    status, out, _ = run_command(*command, "--lr", "3e-3", capsys=capsys)
    assert status == 0
    assert "step    1  loss 0.69" in out
    assert "learned 4 of 4 clips by heart" in out
    low = ["--lr", "1e-13", "--optimizer.min-lr", 0]
    status, out, _ = run_command(*command, *low, "--overfit-steps", 10, "--json", capsys=capsys)
    assert status == 1
    row = json.loads(out)
    assert (row["is_learned"], row["steps"], len(row["clips"])) == (False, 10, 4)
    assert "raise optimizer.lr" in row["advice"]
    status, _, err = run_command(*command, "--resume", "--name", "x", capsys=capsys)
    assert status == 2
    assert "--overfit-batch learns one batch from the start - found --resume too" in err
    assert list(tmp_path.iterdir()) == []


def test_no_steps_are_refused():
    with pytest.raises(ConfigError, match="in 0 steps"):
        overfit_batch("clips", steps=0)
