"""Hold what a pre-training does: labels play no part, test clips are not touched, and what it leaves can be used."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tubelet
from small_run import make_tiny_pretraining, make_tiny_recipe, write_clip
from tubelet.config import read_config, write_config
from tubelet.data.dataset import Batch
from tubelet.data.unlabelled import UNLABELLED, open_unlabelled
from tubelet.errors import CheckpointError, ConfigError, DataError, TrainingError
from tubelet.model_folder import read_model
from tubelet.models import create_model, load_weights
from tubelet.models.videomae_pretraining import create_pretraining
from tubelet.recipes.optimization import OptimizerRecipe
from tubelet.recipes.pretraining import PretrainingModel, PretrainingOptimizer, PretrainingRecipe
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.resolution import resolve_pretraining, resolve_recipe
from tubelet.training.loop import train_epoch
from tubelet.training.optimizer import Schedule, make_optimizer
from tubelet.training.pace import PACE
from tubelet.training.pretraining import MaskedPrediction, pretrain, scale_pixels
from tubelet.training.session import list_sizes
from tubelet.training.step import Stepper
from tubelet.training.train import train
from tubelet.transforms.policy import Augmentation
from tubelet.transforms.preparation import normalize
from tubelet.video.spec import InputSpec

SPEC = InputSpec(frames=8, height=16, width=16, differences="append")


@pytest.fixture(scope="module")
def source(small_run):
    return os.fspath(small_run.parents[1] / "world" / "manifest.csv")


@pytest.fixture(scope="module")
def seen(source, tmp_path_factory):
    """Return the result of a tiny pre-training; do not write into its folder."""
    return pretrain(recipe=make_tiny_pretraining(source), name="seen", runs=tmp_path_factory.mktemp("pretraining"))


def read_rows(folder):
    with (folder / "metrics.csv").open() as table:
        return list(csv.DictReader(table))


def make_task(**changes):
    recipe = make_tiny_pretraining("", precision="fp32")
    torch.manual_seed(0)
    sizes = {"frames": 8, "height": 16, "width": 16, "channels": 6}
    model = create_pretraining("videomae_nano", **sizes, **recipe.model.changes, **changes)
    return MaskedPrediction(model, recipe)


def make_batch(count=4):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 16, 16, 3), np.uint8)
    return Batch(torch.from_numpy(pixels), torch.zeros(count, dtype=torch.int64), torch.arange(count))


def test_a_run_leaves_its_recipe_its_figures_its_pictures_and_a_model(seen):
    found = {path.name for path in seen.folder.iterdir()}
    pictures = {"curves.png", "reconstruction.png"}
    assert {"config.yaml", "splits.csv", "metrics.csv", "log.jsonl", "last.ckpt", "model"} | pictures <= found
    assert not {"report.json", "confusion.png", "class_distribution.png"} & found
    rows = read_rows(seen.folder)
    assert list(rows[0]) == ["epoch", "lr", "train_loss", "val_loss", *PACE]
    assert float(rows[-1]["val_loss"]) == seen.val_loss
    assert (len(rows), seen.epochs) == (2, 2)
    recipe = read_config(seen.folder / "config.yaml", PretrainingRecipe)
    assert recipe.optimizer.betas == (0.9, 0.95)


def test_the_model_folder_states_all_that_is_needed_to_build_it_again(seen):
    description, weights, _ = read_model(seen.folder / "model")
    assert (description["format"], description["kind"], description["classes"]) == (1, "pretraining", [])
    assert {"sha256", "sha256_config"} <= description.keys()
    assert description["model"]["name"] == "videomae_nano"
    assert description["model"]["mask_ratio"] == 0.75
    assert description["input"]["differences"] == "append"
    hyper_parameters = {key: value for key, value in description["model"].items() if key not in ("name", "num_classes")}
    again = create_pretraining("videomae_nano", **hyper_parameters)
    again.load_state_dict(weights)
    changes = {key: value for key, value in hyper_parameters.items() if key in again.config.encoder.to_dict()}
    classifier = create_model("videomae_nano", 3, **changes)
    classifier.load_encoder(again.encoder_state())
    for key, value in again.encoder.state_dict().items():
        assert torch.equal(classifier.encoder.state_dict()[key], value)


def test_what_has_no_classes_yet_neither_predicts_nor_is_evaluated_and_says_what_comes_next(seen):
    for use in (tubelet.load, tubelet.evaluate):
        with pytest.raises(CheckpointError, match=r"no classes yet.*tubelet train DATA --weights .*seen"):
            use(seen.folder)


def test_a_training_and_a_further_pretraining_start_from_it(seen):
    wish = {"model.weights": os.fspath(seen.folder)}
    for recipe in (resolve_recipe("clips/", None, wish), resolve_pretraining("clips/", None, wish)):
        assert (recipe.model.name, recipe.model.changes["dim"], recipe.input) == ("videomae_nano", 32, SPEC)
        sizes = {**list_sizes(recipe.input), **recipe.model.changes}
        is_training = isinstance(recipe, Recipe)
        model = (
            create_model("videomae_nano", 2, **sizes) if is_training else create_pretraining("videomae_nano", **sizes)
        )
        load_weights(model, seen.folder)
        weights = read_model(seen.folder / "model")[1]
        taken = {key: value for key, value in weights.items() if key.startswith("encoder.") or not is_training}
        assert all(torch.equal(model.state_dict()[key], value) for key, value in taken.items())


@pytest.mark.slow
def test_labels_play_no_part(source, seen, tmp_path):
    world = tmp_path / "world"
    shutil.copytree(Path(source).parent, world)
    manifest = world / "manifest.csv"
    with manifest.open() as table:
        rows = list(csv.DictReader(table))
    labels = [row["label"] for row in rows]
    for row, label in zip(rows, reversed(labels), strict=True):
        row["label"] = label if row["split"] == "train" else row["label"]
    assert [row["label"] for row in rows] != labels
    with manifest.open("w", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    other = pretrain(recipe=make_tiny_pretraining(os.fspath(manifest)), name="other", runs=tmp_path)
    first, second = (run.folder / "model" / "model.safetensors" for run in (seen, other))
    assert first.read_bytes() == second.read_bytes()


def test_test_clips_are_never_looked_at(source, tmp_path):
    world = tmp_path / "world"
    shutil.copytree(Path(source).parent, world)
    for path in (world / "test").rglob("*.mp4"):
        path.write_bytes(b"no video")
    result = pretrain(recipe=make_tiny_pretraining(os.fspath(world / "manifest.csv"), epochs=1), runs=tmp_path)
    assert not (result.folder / "bad_samples.jsonl").exists()
    assert result.val_loss > 0


@pytest.mark.slow
def test_another_seed_gives_other_weights(source, seen, tmp_path):
    other = pretrain(recipe=make_tiny_pretraining(source, seed=1), name="other", runs=tmp_path)
    assert (other.folder / "model/model.safetensors").read_bytes() != (
        seen.folder / "model/model.safetensors"
    ).read_bytes()


def make_gratings(count, generator):
    """Make clips of waves that run to one side: what is hidden follows from what is seen."""
    where = np.arange(16)[None, None, None, :, None] - np.arange(8)[None, :, None, None, None]
    phase = generator.uniform(0, 2 * np.pi, (count, 1, 1, 1, 1))
    pixels = np.broadcast_to(127 + 120 * np.sin(where * np.pi / 4 + phase), (count, 8, 16, 16, 3))
    return Batch(torch.from_numpy(pixels.astype(np.uint8)), torch.zeros(count, dtype=torch.int64), torch.arange(count))


@pytest.mark.slow
def test_what_is_hidden_is_learned_where_it_follows_from_what_is_seen():
    generator, task = np.random.default_rng(0), make_task()
    batches, held_out = [make_gratings(16, generator) for _ in range(40)], [make_gratings(16, generator)]
    before = task.validate(held_out).loss
    optimizer = make_optimizer(task.model, task.recipe.optimizer)
    for epoch in range(2):
        schedule = Schedule(OptimizerRecipe(lr=3e-3, min_lr=0.0), 10, 80)
        train_epoch(Stepper(task, optimizer, task.recipe), batches, schedule, num_batches=len(batches), epoch=epoch)
    assert task.validate(held_out).loss < 0.5 * before


@pytest.mark.slow
def test_patience_ends_a_run_whose_loss_gets_no_lower(source, tmp_path):
    recipe = replace(
        make_tiny_pretraining(source, epochs=20, patience=1), optimizer=PretrainingOptimizer(lr=1e-12, min_lr=0.0)
    )
    assert 2 <= pretrain(recipe=recipe, name="a", runs=tmp_path).epochs < 10


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Return a folder of eight videos without class folders, two of them in a folder below."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "day2").mkdir()
    for number in range(8):
        write_clip(folder / ("day2" if number > 5 else "") / f"clip {number}.mp4", seed=number)
    (folder / "notes.md").write_text("nothing")
    (folder / ".hidden.mp4").write_text("nothing")
    return folder


def test_a_folder_of_videos_and_a_list_of_files_need_no_labels(videos, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(str(path) for path in sorted(videos.glob("*.mp4")) if path.name[0] != ".") + "\n\n")
    folder, some = open_unlabelled(videos), open_unlabelled(listed)
    assert (len(folder.samples), len(some.samples)) == (8, 6)
    assert folder.classes == some.classes == (UNLABELLED,)
    for manifest in (folder, some):
        assert manifest.select("val")
        assert not manifest.select("test")
    assert {sample.split for sample in open_unlabelled(videos, group_by="folder").samples[-2:]} < {"train", "val"}


def test_a_pretraining_on_a_list_of_paths_goes_on_with_it(videos, tmp_path):
    paths = [path for path in sorted(videos.rglob("*.mp4")) if path.name[0] != "."]
    recipe = make_tiny_pretraining("", epochs=1)
    first = pretrain(paths, recipe=recipe, name="a", runs=tmp_path)
    assert pretrain(paths, name="a", runs=tmp_path, resume=True) == first
    with pytest.raises(TrainingError, match="1 of the 8 clips it was started with"):
        pretrain(paths[1:], name="a", runs=tmp_path, resume=True)


@pytest.mark.slow
def test_all_clips_may_be_learned_from(videos, tmp_path):
    recipe = make_tiny_pretraining(os.fspath(videos), epochs=1)
    recipe = replace(recipe, data=replace(recipe.data, val_fraction=0.0))
    result = pretrain(recipe=recipe, name="a", runs=tmp_path)
    assert np.isnan(result.val_loss)
    assert (result.folder / "reconstruction.png").exists()
    assert json.loads((result.folder / "model" / "config.json").read_text())["training"]["val_loss"] is None


@pytest.mark.parametrize("text", ["", "missing.mp4\n"])
def test_a_list_that_names_nothing_or_what_is_not_there_is_refused(tmp_path, text):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=r"list\.txt"):
        open_unlabelled(tmp_path / "list.txt")


def test_an_empty_list_of_paths_is_refused(tmp_path):
    with pytest.raises(DataError, match="empty list"):
        pretrain([], runs=tmp_path)


def test_a_file_that_is_listed_twice_is_refused(videos, tmp_path):
    path = next(videos.glob("clip*.mp4"))
    (tmp_path / "list.txt").write_text(f"{path}\n{path}\n")
    with pytest.raises(DataError, match="twice"):
        open_unlabelled(tmp_path / "list.txt")


def test_held_out_clips_are_measured_under_the_same_masks_each_time_and_without_a_trace():
    task, batches = make_task(), [make_batch(), make_batch(3)]
    before = torch.get_rng_state()
    first, second = task.validate(batches), task.validate(batches)
    assert first.loss == second.loss
    assert first.seen == 7
    assert torch.equal(torch.get_rng_state(), before)
    training = {float(task.compute_loss(batches[0])[0].detach()) for _ in range(12)}
    assert len(training) > 1  # and in training other ones are drawn


def test_without_a_mask_of_the_decoder_nothing_more_is_drawn_and_the_loss_is_as_it_was():
    task, batch = make_task(), make_batch()
    torch.manual_seed(3)
    found = task.compute_loss(batch)[0]
    after = torch.get_rng_state()
    torch.manual_seed(3)
    mask = task.draw_mask(4, torch.default_generator)
    assert torch.equal(task.model(normalize(batch.clips, task.recipe.input), mask), found)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.slow
def test_a_run_in_which_the_decoder_leaves_out_half_says_so_and_learns_something_else(source, seen, tmp_path):
    recipe = make_tiny_pretraining(source)
    recipe = replace(recipe, model=replace(recipe.model, decoder_mask_ratio=0.5))
    folder = pretrain(recipe=recipe, name="half", runs=tmp_path).folder
    description, weights, _ = read_model(folder / "model")
    assert description["model"]["decoder_mask_ratio"] == 0.5
    assert read_config(folder / "config.yaml", PretrainingRecipe).model.decoder_mask_ratio == 0.5
    other = read_model(seen.folder / "model")[1]
    assert weights.keys() == other.keys()
    assert any(not torch.equal(weights[key], other[key]) for key in weights)


@pytest.mark.parametrize("differences", ["none", "append", "only"])
@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.25,)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
def test_the_scale_of_pixels_undoes_the_normalization(differences, mean, std):
    spec = replace(SPEC, differences=differences, mean=mean, std=std)
    batch = make_batch().clips
    given = normalize(batch, spec)
    means, stds = (torch.tensor(numbers)[:, None, None, None] for numbers in scale_pixels(spec))
    pixels = (batch / 255).permute(0, 4, 1, 2, 3)
    change = torch.zeros_like(pixels)
    change[:, :, 1:] = pixels[:, :, 1:] - pixels[:, :, :-1]
    wanted = {"none": [pixels], "append": [pixels, 0.5 + change / 2], "only": [0.5 + change / 2]}[differences]
    torch.testing.assert_close(given * stds + means, torch.cat(wanted, dim=1))


def test_the_recipe_of_a_known_data_set_or_model_reads_back_from_yaml(tmp_path):
    for recipe in (
        resolve_pretraining("moving-shapes", None, {"model.mask_ratio": 0.5}),
        resolve_pretraining("clips/", None, {"model.name": "videomae_base", "model.decoder_depth": 2}),
    ):
        (tmp_path / "recipe.yaml").write_text(write_config(recipe))
        assert read_config(tmp_path / "recipe.yaml", PretrainingRecipe) == recipe
    assert recipe.input.height == 224
    assert recipe.model.decoder == {"decoder_depth": 2}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model.changes": {"mask_ratio": 0.5}}, r"model\.mask_ratio states it"),
        ({"model.changes": {"std": 0.5}}, r"input\.std states it"),
        ({"model.changes": {"name": "videomae_base"}}, "model.name decides it"),
        ({"model.mask_ratio": 1.0}, "between 0 and 1"),
        ({"model.decoder_mask_ratio": 0.6}, "0.25, 0.5 or 0.75, or 0 for none"),
        ({"model.decoder_depth": 0}, "decoder_depth counts things"),
        ({"model.mask_ration": 0.5}, "did you mean 'mask_ratio'"),
        ({"loss.label_smoothing": 0.1}, "unknown key"),
    ],
)
def test_a_wrong_wish_is_refused_by_name(changes, says):
    with pytest.raises(ConfigError, match=says):
        resolve_pretraining(None, None, changes)


def test_pairs_of_classes_are_refused_where_no_label_is_looked_at():
    with pytest.raises(ConfigError, match="horizontal_pairs swaps labels"):
        PretrainingRecipe(augmentation=Augmentation(horizontal_pairs=(("left", "right"),)))


def test_another_architecture_is_refused(source, tmp_path):
    recipe = replace(make_tiny_pretraining(source), model=PretrainingModel("vivit_nano_joint"))
    with pytest.raises(ConfigError, match="for VideoMAE"):
        pretrain(recipe=recipe, name="a", runs=tmp_path)


def test_each_command_sends_the_runs_of_the_other_back(seen, small_run):
    with pytest.raises(TrainingError, match="tubelet pretrain --resume --name seen"):
        train(name="seen", runs=seen.folder.parent, resume=True)
    with pytest.raises(TrainingError, match="tubelet train --resume --name small"):
        pretrain(name="small", runs=small_run.parent, resume=True)
    assert make_tiny_recipe("").model.name != "videomae_nano"
