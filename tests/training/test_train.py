"""Hold what a training does: it learns, it accumulates, it stops, it refuses, and it says so."""

import csv
import io
import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from small_run import make_tiny_recipe
from tubelet.classifier import Classifier
from tubelet.data.catalogue import open_data
from tubelet.data.dataset import Batch
from tubelet.data.splits import fold_manifest
from tubelet.errors import CheckpointError, ConfigError, TrainingError
from tubelet.evaluation.evaluate import evaluate
from tubelet.files import write_sealed
from tubelet.models import create_model, list_models
from tubelet.prediction.load import load
from tubelet.recipes.optimization import OptimizerRecipe
from tubelet.recipes.recipe import ModelRecipe, Recipe, TrainingRecipe
from tubelet.recipes.resolution import resolve_recipe
from tubelet.recipes.small import MOVING_SHAPES, make_moving_shapes
from tubelet.training.loop import Classification, Totals, train_epoch, validate
from tubelet.training.optimizer import Schedule, make_optimizer
from tubelet.training.pretraining import pretrain
from tubelet.training.progress import Quiet
from tubelet.training.run import Run, load_checkpoint
from tubelet.training.step import Stepper
from tubelet.training.train import train
from tubelet.training.tuning import tune
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

SPEC = InputSpec(frames=8, height=16, width=16)


@pytest.fixture
def source(small_run):
    return os.fspath(small_run.parents[1] / "world" / "manifest.csv")


def make_classifier(seed=0):
    torch.manual_seed(seed)
    model = create_model("vivit_nano_joint", 2, frames=8, height=16, width=16, depth=1, dim=32, heads=2, mlp_dim=64)
    return Classifier(model, SPEC, ("dark", "bright"))


def make_batches(count, size=8):
    """Make clips whose class is their brightness."""
    generator = np.random.default_rng(0)
    batches = []
    for _ in range(count):
        labels = generator.integers(0, 2, size)
        pixels = generator.integers(0, 120, (size, 8, 16, 16, 3)) + 120 * labels[:, None, None, None, None]
        batches.append(Batch(torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels), torch.arange(size)))
    return batches


def run_epoch(classifier, batches, recipe, epoch=0):
    optimizer = make_optimizer(classifier.model, recipe.optimizer)
    schedule = Schedule(replace(recipe.optimizer, min_lr=0.0), 0, 100)
    task = Classification(classifier, recipe)
    return train_epoch(Stepper(task, optimizer, recipe), batches, schedule, num_batches=len(batches), epoch=epoch)


def test_the_loop_learns_what_can_be_learned():
    classifier = make_classifier()
    batches = make_batches(12)
    recipe = Recipe(input=SPEC, optimizer=OptimizerRecipe(lr=3e-3))
    before = validate(classifier, batches)
    for epoch in range(3):
        run_epoch(classifier, batches, recipe, epoch)
    after = validate(classifier, batches)
    assert after.top1 > 0.95 > before.top1
    assert after.loss < 0.5 * before.loss


def test_accumulated_batches_move_the_weights_as_one_large_batch():
    batches = make_batches(4, size=4)
    merged = [
        Batch(torch.cat([a.clips, b.clips]), torch.cat([a.labels, b.labels]), torch.arange(8))
        for a, b in zip(batches[::2], batches[1::2], strict=True)
    ]
    one, other = make_classifier(), make_classifier()
    run_epoch(one, batches, Recipe(input=SPEC, training=TrainingRecipe(accumulate=2, precision="fp32")))
    run_epoch(other, merged, Recipe(input=SPEC, training=TrainingRecipe(accumulate=1, precision="fp32")))
    for left, right in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.allclose(left, right, atol=1e-5)


def test_the_last_partial_group_of_batches_moves_the_weights_too():
    classifier = make_classifier()
    before = [parameter.detach().clone() for parameter in classifier.model.parameters()]
    run_epoch(classifier, make_batches(1), Recipe(input=SPEC, training=TrainingRecipe(accumulate=4)))
    assert any(not torch.equal(a, b) for a, b in zip(before, classifier.model.parameters(), strict=True))


def test_an_epoch_counts_its_batches_where_nobody_says_how_many_there_are():
    recipe, moves = Recipe(input=SPEC), []
    for batches in (make_batches(3), iter(make_batches(3))):
        classifier = make_classifier()
        stepper = Stepper(
            Classification(classifier, recipe), make_optimizer(classifier.model, recipe.optimizer), recipe
        )
        schedule = Schedule(recipe.optimizer, 0, 3)
        totals = train_epoch(stepper, batches, schedule, on_step=lambda done, _: moves.append(done))
        assert totals.seen == 24
    assert moves == [1, 2, 3, 1, 2, 3]


def test_a_loss_that_is_no_number_stops_before_the_weights_move():
    classifier = make_classifier()
    with torch.no_grad():
        next(classifier.model.parameters()).fill_(float("nan"))
    rest = [parameter.detach().clone() for parameter in list(classifier.model.parameters())[1:]]
    with pytest.raises(TrainingError, match="epoch 1, batch 1"):
        run_epoch(classifier, make_batches(2), Recipe(input=SPEC))
    for old, new in zip(rest, list(classifier.model.parameters())[1:], strict=True):
        assert torch.equal(old, new)


def test_two_runs_with_one_seed_are_equal_and_with_another_are_not(source, tmp_path):
    def weights(name, seed):
        folder = train(recipe=make_tiny_recipe(source, epochs=1, seed=seed), name=name, runs=tmp_path).folder
        return (folder / "model" / "model.safetensors").read_bytes()

    first = weights("a", 1)
    assert first == weights("b", 1)
    assert first != weights("c", 2)


def test_patience_ends_a_run_that_gets_no_better(source, tmp_path):
    recipe = make_tiny_recipe(source, epochs=30, patience=2)
    recipe = replace(recipe, optimizer=OptimizerRecipe(lr=1e-12, min_lr=0.0))
    with pytest.warns(UserWarning, match="steps are too small for float32"):
        folder = train(recipe=recipe, name="a", runs=tmp_path).folder
    with (folder / "metrics.csv").open() as table:
        assert 3 <= len(list(csv.DictReader(table))) < 10


def test_the_last_epoch_is_kept_where_that_is_asked_for_whatever_validation_says(source, tmp_path, monkeypatch):
    results = iter([Totals(loss_sum=1.0, correct=5, seen=8), Totals(loss_sum=2.0, correct=3, seen=8)] * 2)
    monkeypatch.setattr("tubelet.training.trainer.validate", lambda *_: next(results))
    best = train(recipe=make_tiny_recipe(source), name="best", runs=tmp_path)
    last = train(recipe=make_tiny_recipe(source, keep="last"), name="last", runs=tmp_path)
    assert (best.best_epoch, best.val_top1, last.best_epoch, last.val_top1) == (1, 5 / 8, 2, 3 / 8)
    weights = load(last.folder).model.state_dict()
    after = load_checkpoint(last.folder / "last.ckpt")["model"]
    assert all(torch.equal(weights[name], after[name]) for name in after)


def test_a_run_that_keeps_the_last_epoch_cannot_wait_for_a_better_one():
    with pytest.raises(ConfigError, match=r"patience waits for a better epoch - found 2 with training\.keep last"):
        TrainingRecipe(keep="last", patience=2)


def test_a_finished_run_that_is_resumed_changes_nothing(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "small")
    before = (tmp_path / "small" / "model" / "model.safetensors").read_bytes()
    train(name="small", runs=tmp_path, resume=True)
    assert (tmp_path / "small" / "model" / "model.safetensors").read_bytes() == before


def test_resuming_on_changed_clips_is_refused(small_run, tmp_path):
    shutil.copytree(small_run.parents[1], tmp_path / "copy")
    runs = tmp_path / "copy" / "runs"
    manifest = tmp_path / "copy" / "world" / "manifest.csv"
    for name in ("config.yaml", "splits.csv"):
        file = runs / "small" / name
        file.write_text(file.read_text().replace(str(small_run.parents[1]), str(tmp_path / "copy")))
    rows = manifest.read_text().splitlines()
    manifest.write_text("\n".join([rows[0], *rows[2:]]) + "\n")
    lost = re.escape(rows[1].partition(",")[0])
    with pytest.raises(TrainingError, match=f"1 of the 52 clips it was started with .*, such as .*{lost}"):
        train(name="small", runs=runs, resume=True)
    relabelled = rows[1].replace(",slow,", ",fast,")
    manifest.write_text("\n".join([rows[0], relabelled, *rows[2:]]) + "\n")
    with pytest.raises(TrainingError, match="its clips, labels or splits have changed since"):
        train(name="small", runs=runs, resume=True)


class Canary:
    """A pickle that would make a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_checkpoint_that_carries_code_is_refused_and_runs_nothing(tmp_path):
    payload = io.BytesIO()
    torch.save({"format": 1, "model": Canary(tmp_path / "executed")}, payload)
    write_sealed(tmp_path / "last.ckpt", payload.getvalue())
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        load_checkpoint(tmp_path / "last.ckpt")
    assert not (tmp_path / "executed").exists()


def test_a_resume_without_a_run_names_the_nearest(small_run):
    with pytest.raises(TrainingError, match="did you mean 'small'"):
        train(name="smal", runs=small_run.parent, resume=True)


def test_a_mirrored_class_that_does_not_exist_is_found_before_the_first_epoch(source, tmp_path):
    recipe = replace(make_tiny_recipe(source), augmentation=Augmentation(horizontal_pairs=(("fsat", "slow"),)))
    with pytest.raises(ConfigError, match="did you mean 'fast'"):
        train(recipe=recipe, name="a", runs=tmp_path)


def test_unreadable_training_clips_are_listed_and_too_many_stop_the_run(small_run, tmp_path):
    shutil.copytree(small_run.parents[1] / "world", tmp_path / "world")
    broken = sorted((tmp_path / "world" / "train").rglob("*.mp4"))[:3]
    for path in broken:
        path.write_bytes(path.read_bytes()[:200])
    recipe = make_tiny_recipe(os.fspath(tmp_path / "world" / "manifest.csv"))
    with pytest.raises(TrainingError, match="2 training clips"):
        train(recipe=recipe, name="a", runs=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "a" / "bad_samples.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert {row["name"] for row in rows} <= {str(path) for path in broken}


def test_one_unreadable_clip_is_left_out_with_a_warning_and_the_run_goes_on(small_run, tmp_path):
    shutil.copytree(small_run.parents[1] / "world", tmp_path / "world")
    for split in ("train", "val"):
        path = sorted((tmp_path / "world" / split).rglob("*.mp4"))[0]
        path.write_bytes(path.read_bytes()[:200])
    recipe = make_tiny_recipe(os.fspath(tmp_path / "world" / "manifest.csv"), epochs=1)
    with pytest.warns(UserWarning, match="could not be read"):
        folder = train(recipe=recipe, name="a", runs=tmp_path).folder
    assert len((folder / "bad_samples.jsonl").read_text().splitlines()) == 2


def test_validation_clips_that_cannot_be_read_choose_no_model(small_run, tmp_path):
    shutil.copytree(small_run.parents[1] / "world", tmp_path / "world")
    for path in (tmp_path / "world" / "val").rglob("*.mp4"):
        path.write_bytes(path.read_bytes()[:200])
    recipe = make_tiny_recipe(os.fspath(tmp_path / "world" / "manifest.csv"), epochs=1)
    with pytest.warns(UserWarning, match="8 clips"), pytest.raises(TrainingError, match="validation clips"):
        train(recipe=recipe, name="a", runs=tmp_path)
    assert not (tmp_path / "a" / "model").exists()


def test_a_folder_that_is_no_run_is_never_touched(source, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.csv").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(TrainingError, match="no run"):
            train(recipe=make_tiny_recipe(source), name="mine", runs=tmp_path, overwrite=overwrite)
    for place in ({"name": "manifest.csv", "runs": tmp_path / "mine"}, {"runs": tmp_path / "mine" / "manifest.csv"}):
        with pytest.raises(TrainingError, match=r"manifest.csv' is a file - choose another --name, or --runs"):
            train(recipe=make_tiny_recipe(source), **place)
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_checkpoint(tmp_path / "mine" / "manifest.csv" / "last.ckpt")
    assert (tmp_path / "mine" / "manifest.csv").read_text() == "precious"


@pytest.mark.parametrize("name", ["", ".", "..", "...", "../evil", "a/b", "a\\b", "/a"])
@pytest.mark.parametrize("command", [train, pretrain, tune])
def test_a_name_that_leads_elsewhere_is_refused(command, name, tmp_path):
    with pytest.raises(ConfigError, match="a run's name is that of its folder - found"):
        command("no-clips", name=name, runs=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_overwriting_removes_the_old_model_at_once_and_leaves_strange_files(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "small")
    (tmp_path / "small" / "notes.csv").write_text("mine")
    run = Run.create(tmp_path / "small", Recipe(), overwrite=True)
    assert not run.model_path.exists()
    assert {path.name for path in run.folder.iterdir()} == {"config.yaml", "notes.csv"}


def test_a_gradient_that_is_no_number_stops_before_the_weights_move():
    classifier = make_classifier()
    first = next(classifier.model.parameters())
    first.register_hook(lambda gradient: gradient * float("inf"))
    before = [parameter.detach().clone() for parameter in classifier.model.parameters()]
    with pytest.raises(TrainingError, match="norm of the gradient"):
        run_epoch(classifier, make_batches(1), Recipe(input=SPEC))
    assert all(torch.equal(a, b) for a, b in zip(before, classifier.model.parameters(), strict=True))


def test_an_unreadable_batch_does_not_weaken_the_gradient_of_its_group():
    full = make_batches(1)
    nothing = torch.zeros(0, dtype=torch.int64)
    empty = Batch(torch.zeros((0, 1, 1, 1, 3), dtype=torch.uint8), nothing, nothing)
    one, other = make_classifier(), make_classifier()
    run_epoch(one, [*full, empty], Recipe(input=SPEC, training=TrainingRecipe(accumulate=2)))
    run_epoch(other, full, Recipe(input=SPEC))
    for left, right in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.allclose(left, right, atol=1e-6)


def test_resuming_with_another_recipe_is_refused_and_names_the_field(small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "small")
    with pytest.raises(TrainingError, match=r"optimizer\.lr"):
        train(name="small", runs=tmp_path, resume=True, optimizer__lr=0.5)
    config = tmp_path / "small" / "config.yaml"
    config.write_text(config.read_text().replace("batch: 8", "batch: 4"))
    with pytest.raises(TrainingError, match=r"training\.batch"):
        train(name="small", runs=tmp_path, resume=True)


def test_python_and_the_command_line_start_from_the_same_recipe(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("tubelet.training.train.open_clips", lambda recipe, listener: started.append(recipe) or 1 / 0)
    for arguments in ({"data": "moving-shapes"}, {"data": "clips", "model__name": "vivit_base_joint"}):
        with pytest.raises(ZeroDivisionError):
            train(**arguments, runs=tmp_path)
    assert started[0] == make_moving_shapes()
    assert (started[1].input.frames, started[1].input.height) == (32, 224)


def test_every_nano_model_has_its_recipe_for_moving_shapes():
    assert set(MOVING_SHAPES) == {name for name in list_models() if "nano" in name}
    for name in MOVING_SHAPES:
        recipe = resolve_recipe("moving-shapes", None, {"model.name": name})
        assert recipe == make_moving_shapes(name)
        assert recipe.model.name == name
    few = resolve_recipe("moving-shapes", None, {"model.name": "timesformer_nano_joint", "training.epochs": 1})
    assert (few.input.frames, few.input.sampling, few.training.epochs) == (8, "dense", 1)
    other = resolve_recipe("moving-shapes", None, {"model.name": "vivit_tiny_joint"})
    assert (other.input.frames, other.input.height, other.input.differences) == (32, 224, "none")


def test_a_run_remembers_which_clip_was_in_which_split(source, tmp_path):
    manifest = open_data(source)
    dealt = fold_manifest(manifest, 3, 1)
    folder = train(dealt, recipe=make_tiny_recipe("", epochs=1), name="fold", runs=tmp_path).folder
    report = evaluate(folder, workers=0)
    assert report.n == len(dealt.select("test"))
    assert report.digest == dealt.digest
    assert not [remark for remark in report.remarks if "trained" in remark]


def test_testing_on_clips_the_model_was_trained_on_is_said(small_run, tmp_path):
    folder = small_run.parents[1] / "world" / "train"
    report = evaluate(small_run, folder, workers=0, split="train")
    assert report.n == 32
    honest = evaluate(small_run, small_run.parents[1] / "world" / "test", workers=0)
    assert honest.n == 12
    assert not [remark for remark in honest.remarks if "trained" in remark]
    rows = [f"{path},{path.parent.name},test" for path in sorted(folder.rglob("*.mp4"))]
    (tmp_path / "leak.csv").write_text("\n".join(["path,label,split", *rows]))
    leaked = evaluate(small_run, tmp_path / "leak.csv", workers=0)
    assert "32 of the clips tested" in leaked.remarks[0]


def test_a_run_whose_checkpoint_moved_weights_in_another_way_keeps_to_it():
    optimizer = make_optimizer(make_classifier().model, OptimizerRecipe())
    assert {group["fused"] for group in optimizer.param_groups} == {True}
    earlier = torch.optim.AdamW([{"params": group["params"]} for group in optimizer.param_groups])
    optimizer.load_state_dict(earlier.state_dict())
    assert not any(group["fused"] for group in optimizer.param_groups)


class Watcher(Quiet):
    """See which models are trained."""

    def __init__(self):
        self.models = []

    def on_start(self, folder, recipe, manifest, model):
        self.models.append(model)


@pytest.mark.slow
def test_a_run_that_recomputes_activations_ends_with_the_same_weights(source, tmp_path):
    recipe = make_tiny_recipe(source, epochs=1)
    recipe = replace(recipe, model=replace(recipe.model, changes={**recipe.model.changes, "dropout": 0.2}))
    watcher = Watcher()
    plain = train(recipe=recipe, name="plain", runs=tmp_path, listener=watcher).folder
    saved = train(recipe=recipe, name="saved", runs=tmp_path, listener=watcher, training__checkpointing=True).folder
    assert [model.encoder.blocks.is_checkpointed for model in watcher.models] == [False, True]
    assert (saved / "model/model.safetensors").read_bytes() == (plain / "model/model.safetensors").read_bytes()


@pytest.mark.slow
def test_recomputing_may_be_switched_on_when_a_run_goes_on(source, tmp_path):
    recipe = make_tiny_recipe(source, epochs=1)
    train(recipe=recipe, name="run", runs=tmp_path)
    watcher = Watcher()
    train(name="run", runs=tmp_path, resume=True, listener=watcher, training__checkpointing=True)
    assert watcher.models[0].encoder.blocks.is_checkpointed


def test_a_model_without_blocks_is_not_trained_with_checkpointing(source, tmp_path):
    recipe = replace(make_tiny_recipe(source, checkpointing=True), model=ModelRecipe("cnn_gru_nano"))
    with pytest.raises(ConfigError, match="leave it off"):
        train(recipe=recipe, name="recurrent", runs=tmp_path)


def test_a_run_is_not_replaced_while_it_holds_the_weights_to_start_from(source, tmp_path):
    recipe = make_tiny_recipe(source, epochs=1)
    folder = train(recipe=recipe, name="mine", runs=tmp_path).folder
    before = (folder / "model" / "model.safetensors").read_bytes()
    for weights, error in ((os.fspath(folder), TrainingError), ("nowhere.safetensors", CheckpointError)):
        with pytest.raises(error, match=r"cannot .* - "):
            train(recipe=recipe, name="mine", runs=tmp_path, overwrite=True, model__weights=weights)
        assert (folder / "model" / "model.safetensors").read_bytes() == before
    with pytest.raises(CheckpointError, match="nowhere"):
        train(recipe=recipe, name="other", runs=tmp_path, model__weights="nowhere.safetensors")
    assert not (tmp_path / "other").exists()
