"""Hold what a search for a recipe promises: validation clips alone, the best kept, nothing lost when it is killed."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

import tubelet.training.tuning as tuning
from run_command import run
from small_run import make_tiny_recipe
from tubelet.config import read_config, write_config
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample
from tubelet.errors import ConfigError, Interrupted, MissingExtra, TrainingError
from tubelet.prediction.load import load
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.search import Choices, Range, Search, Space, make_space, read_space, write_space
from tubelet.training.progress import Quiet
from tubelet.training.run import Run
from tubelet.training.tuning import tune

SPACE = Space({"optimizer.lr": Range(1e-4, 1e-1, log=True), "training.batch": Choices((4, 8))})


@pytest.fixture
def manifest():
    samples = [Sample(f"{split} {label}.mp4", label, split) for split in ("train", "val", "test") for label in "ab"]
    return Manifest(tuple(samples), ("a", "b"), "clips")


@pytest.fixture
def trainings(monkeypatch):
    """Replace trainings: accuracy is a function of the learning rate and the epoch; list what was trained."""
    done = []

    def train(manifest, *, recipe, name, runs, resume, listener):
        run = Run(Path(runs) / name) if resume else Run.create(Path(runs) / name, recipe)
        recipe = run.read_recipe(Recipe)
        rows = run.read_metrics() if resume else []
        done.append((name, len(rows), sorted({sample.split for sample in manifest.samples})))
        for epoch in range(len(rows) + 1, recipe.training.epochs + 1):
            value = min(recipe.optimizer.lr * 10, 0.9) * epoch / recipe.training.epochs
            times = {"wait_s": 1.0, "compute_s": 2.0}
            rows.append({"epoch": float(epoch), "val_loss": 1 - value, "val_top1": value, **times})
            run.write_metrics(rows)
            listener.on_epoch(rows[-1])

    monkeypatch.setattr(tuning, "train", train)
    monkeypatch.setattr(tuning, "draw_search", lambda *values: None)  # takes longer than all the rest
    return done


class Ending(Quiet):
    """Raise after an epoch of a trial, before the search hears of it."""

    def __init__(self, after, error):
        self.left, self.error = after, error

    def on_epoch(self, row):
        self.left -= 1
        if not self.left:
            raise self.error


def search(manifest, tmp_path, name, trials=8, **options):
    recipe = make_tiny_recipe("clips", epochs=4)
    wanted = Search(None if options.get("resume") else SPACE, trials)
    return tune(manifest, recipe=recipe, search=wanted, name=name, runs=tmp_path, **options)


def test_a_search_begins_with_the_recipe_prunes_and_keeps_the_best(manifest, trainings, tmp_path):
    result = search(manifest, tmp_path, "s")
    assert result.trials[0].choice == {"optimizer.lr": 3e-3, "training.batch": 8}
    states = [trial.state for trial in result.trials]
    assert set(states) == {"complete", "pruned"}
    assert {trial.epochs for trial in result.trials if trial.state == "pruned"} <= {2, 3}
    assert result.best.value == max(trial.value for trial in result.trials)
    best = read_config(result.recipe, Recipe)
    assert best.optimizer.lr == result.best.choice["optimizer.lr"]
    assert best.training.batch == result.best.choice["training.batch"]
    assert [splits for _, _, splits in trainings] == [["train", "val"]] * 8
    with (tmp_path / "s" / "trials.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["state"] for row in rows] == states
    assert [float(row["value"]) for row in rows] == [trial.value for trial in result.trials]
    assert [float(row["seconds"]) for row in rows] == [3.0 * trial.epochs for trial in result.trials]


@pytest.mark.slow
def test_a_search_that_was_interrupted_anywhere_ends_as_if_nothing_had_happened(manifest, trainings, tmp_path):
    whole = search(manifest, tmp_path, "whole")
    stopped = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):  # in the middle of the third trial
        search(manifest, tmp_path, "cut", listener=Ending(10, stopped))
    with pytest.raises(Interrupted, match=r"'.*cut' was stopped - go on with --resume") as caught:
        search(manifest, tmp_path, "cut", resume=True, listener=Ending(7, Interrupted("run x", 143)))
    assert caught.value.status == 143
    # The process died between beginning a trial and choosing for it.
    study = optuna.load_study(storage=f"sqlite:///{tmp_path / 'cut' / 'study.db'}", study_name="tubelet")
    running = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    assert len(running) == 1
    resumed = search(manifest, tmp_path, "cut", resume=True)
    assert resumed.trials == whole.trials
    study.ask()
    extended = [search(manifest, tmp_path, name, trials=11, resume=True) for name in ("whole", "cut")]
    assert [trial.choice for trial in extended[0].trials] == [trial.choice for trial in extended[1].trials]
    assert [trial.value for trial in extended[0].trials] == [trial.value for trial in extended[1].trials]
    assert [trial.number for trial in extended[1].trials] == [*range(8), 9, 10, 11]


@pytest.mark.slow
def test_a_trial_that_fails_is_counted_and_a_search_whose_trials_all_fail_ends(manifest, trainings, tmp_path):
    with pytest.warns(UserWarning, match="trial 1 failed: the loss is no number"):
        result = search(manifest, tmp_path, "s", 4, listener=Ending(6, TrainingError("the loss is no number")))
    assert [trial.state for trial in result.trials] == ["complete", "failed", "complete", "complete"]

    class Failing(Quiet):
        def on_epoch(self, row):
            raise TrainingError("the loss is no number")

    with (
        pytest.warns(UserWarning, match="trial"),
        pytest.raises(TrainingError, match="all of the first 3 trials failed, the last: the loss is no number"),
    ):
        search(manifest, tmp_path, "t", listener=Failing())


def test_what_cannot_be_searched_is_said_before_anything_is_written(manifest, trainings, tmp_path):
    def refuse(message, kind=TrainingError, **options):
        with pytest.raises(kind, match=message):
            tune(**{"data": manifest, "recipe": make_tiny_recipe("clips"), "runs": tmp_path, "name": "s", **options})

    no_val = Manifest(tuple(one for one in manifest.samples if one.split != "val"), ("a", "b"), "clips")
    refuse("no validation clips", data=no_val)
    refuse(
        "unknown key 'optimizer.lrr'; did you mean", ConfigError, search=Search(Space({"optimizer.lrr": Range(1, 2)}))
    )
    refuse("the same clips", ConfigError, search=Search(Space({"data.source": Choices(("a", "b"))})))
    refuse("no field is varied", ConfigError, search=Search(Space({})))
    assert list(tmp_path.iterdir()) == []
    tune(manifest, recipe=make_tiny_recipe("clips"), search=Search(SPACE, 1), name="searched", runs=tmp_path)
    refuse("there is none; did you mean 'searched'?", name="serched", resume=True)
    refuse("--resume, replace it with --overwrite, or choose another", name="searched")
    refuse("with another space", name="searched", resume=True, search=Search(SPACE))
    refuse("with another training.epochs", name="searched", resume=True, training__epochs=9)
    again = tune(manifest, recipe=make_tiny_recipe("clips"), search=Search(SPACE, 2), name="searched", runs=tmp_path,
                 overwrite=True)  # fmt: skip
    assert len(again.trials) == 2


def test_a_search_whose_first_trial_cannot_begin_leaves_its_name_free(manifest, tmp_path, monkeypatch):
    def refuse(*values, **options):
        raise ConfigError("the model takes no such size")

    monkeypatch.setattr(tuning, "train", refuse)
    with pytest.raises(ConfigError, match="no such size"):
        search(manifest, tmp_path, "s")
    assert list(tmp_path.iterdir()) == []


def test_a_search_without_optuna_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tubelet\[tune\]'"):
        tune("clips", runs=tmp_path)
    status, _, err = run("tune", "clips", "--runs", tmp_path, capsys=capsys)
    assert (status, "tubelet[tune]" in err, len(err.strip().splitlines())) == (1, True, 1)


def test_a_space_reads_back_and_takes_the_types_of_the_recipe(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "optimizer.lr: {low: 1e-5, high: 1, log: true}\n"
        "training.batch: {low: 4, high: 16}\n"
        "optimizer.weight_decay: [0, 0.1]\n"
        "model.changes.dropout: {low: 0.0, high: 0.5}\n"
        "augmentation.crop_scale: [[0.3, 1], [0.8, 1.0]]\n"
        'training.precision: [fp32, "bf16"]\n'
        "input.rate_fps: [null, 5]\n"
    )
    space = read_space(path).fit(Recipe())
    assert space.ranges == {
        "optimizer.lr": Range(1e-5, 1.0, log=True),
        "training.batch": Range(4, 16),
        "optimizer.weight_decay": Choices((0.0, 0.1)),
        "model.changes.dropout": Range(0.0, 0.5),
        "augmentation.crop_scale": Choices(((0.3, 1.0), (0.8, 1.0))),
        "training.precision": Choices(("fp32", "bf16")),
        "input.rate_fps": Choices((None, 5.0)),
    }
    assert {type(space.ranges["training.batch"].high), type(space.ranges["optimizer.lr"].high)} == {int, float}
    path.write_text(write_space(space))
    assert read_space(path).fit(Recipe()).ranges == space.ranges
    default = make_space(Recipe()).fit(Recipe())
    assert default.find_start(Recipe()).keys() == default.ranges.keys()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("optimizer.lrr: [1, 2]", "unknown key 'optimizer.lrr'; did you mean 'lr'?"),
        ("optimizer.lr: {low: 1, hihg: 2}", "unknown key 'optimizer.lr.hihg'; did you mean 'high'?"),
        ("optimizer.lr: {low: 2, high: 1}", "from low to high - found 2 to 1"),
        ("optimizer.lr: {low: 0, high: 1, log: true}", "begins above 0"),
        ("optimizer.lr: 3e-4", "must be a list of values, or low and high - found 0.0003"),
        ("optimizer.lr: []", "'optimizer.lr' has no value to try"),
        ("training.batch: {low: 0, high: 8}", "training.batch must be at least 1 - found 0"),
        ("training.batch: [4, 8.5]", "'training.batch' must be a whole number - found 8.5"),
        ("training.precision: [fp32, fp61]", "'training.precision' must be"),
        ("data.val_fraction: [0.1, 0.2]", "compared on the same clips"),
    ],
)
def test_a_wrong_space_names_file_line_and_the_nearest_right_thing(line, says, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(f"# what is tried\noptimizer.weight_decay: [0.0, 0.1]\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        read_space(path).fit(Recipe())
    assert says in str(caught.value)
    assert f"{path}, line 3" in str(caught.value)


@pytest.mark.slow
def test_tune_writes_a_recipe_that_trains_and_no_trial_sees_a_test_clip(small_run, tmp_path, capsys):
    world = small_run.parents[1] / "world" / "manifest.csv"
    (tmp_path / "tiny.yaml").write_text(write_config(make_tiny_recipe("")))
    (tmp_path / "space.yaml").write_text("optimizer.lr: {low: 1e-4, high: 1e-2, log: true}\ntraining.batch: [8, 16]\n")
    options = ["--config", tmp_path / "tiny.yaml", "--search", tmp_path / "space.yaml", "--runs", tmp_path]
    status, out, err = run("tune", world, *options, "--name", "s", "--trials", 3, capsys=capsys)
    assert status == 0, err
    lines = [line for line in out.splitlines() if line.startswith("trial")]
    assert [line.split()[1] for line in lines] == ["0", "1", "2"]
    assert f"next: tubelet train --config {tmp_path / 's' / 'best.yaml'}" in out
    status, out, _ = run("tune", "--resume", "--name", "s", "--runs", tmp_path, "--trials", 4, "--json", capsys=capsys)
    result = json.loads(out)
    assert (status, sum(result["trials"].values()), result["trials"]["failed"]) == (0, 4, 0)
    kept = [path.parent.name for path in (tmp_path / "s").glob("trial-*/model")]
    assert kept == [f"trial-{result['best']['trial']:04d}"]
    assert load(tmp_path / "s" / kept[0]).classes
    for trial in (tmp_path / "s").glob("trial-*"):
        assert json.loads((trial / "report.json").read_text())["split"] == "val"
        assert ",test" not in (trial / "splits.csv").read_text()
        assert "/test/" not in (trial / "predictions.csv").read_text()
    assert not list((tmp_path / "s").glob("trial-*/*.ckpt"))
    assert (tmp_path / "s" / "tuning.png").read_bytes().startswith(b"\x89PNG")
    options = ["--config", result["recipe"], "--runs", tmp_path, "--name", "final", "--json"]
    status, out, _ = run("train", *options, capsys=capsys)
    assert (status, json.loads(out)["report"]["split"], json.loads(out)["report"]["n"]) == (0, "test", 12)
    assert (
        read_config(tmp_path / "final" / "config.yaml", Recipe).optimizer.lr == result["best"]["choice"]["optimizer.lr"]
    )


@pytest.mark.slow
def test_a_search_killed_again_and_again_ends_with_the_same_trials_and_bits(tmp_path):
    program = Path(__file__).with_name("kill_searches.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])}
    done = subprocess.run(
        [sys.executable, program, tmp_path, "3", "3"], capture_output=True, text=True, timeout=280, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["kills"] >= 2
    assert outcome["killed"] == outcome["whole"]
    assert len(outcome["whole"]["models"]) == 1
