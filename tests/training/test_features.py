"""Hold the road of features from an .npz file to a judged run: what comes from the data, what is refused, and how."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from tubelet.cli import main
from tubelet.errors import ConfigError, DataError, VideoError
from tubelet.evaluation.evaluate import evaluate
from tubelet.models import find_card, list_models
from tubelet.prediction.load import load
from tubelet.recipes.recipe import ModelRecipe, Recipe
from tubelet.recipes.resolution import resolve_recipe
from tubelet.recipes.small import FEATURES, make_features
from tubelet.training.run import load_checkpoint
from tubelet.training.train import train
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

SMALL = {"model__changes": {"units": (8, 8), "head_dim": 8}, "training__epochs": 8, "optimizer__lr": 1e-2}


def save(folder, dim=6, frames=7, seed=0, **changes):
    """Clips whose class is the sign of their features' trend, hundreds of units away from zero; padding lies."""
    generator = np.random.default_rng(seed)
    count = 80
    y = generator.integers(0, 2, count)
    lengths = generator.integers(3, frames, count, endpoint=True)
    x = 300 + generator.normal(size=(count, frames, dim))
    for row, label, length in zip(x, y, lengths, strict=True):
        row[:length] += (2 * label - 1) * np.linspace(-4, 4, length)[:, None]
        row[length:] = 300 - (2 * label - 1) * 9
    split = np.array(["train"] * 48 + ["val"] * 16 + ["test"] * 16)
    path = folder / "features.npz"
    np.savez(path, **{"x": x.astype(np.float32), "y": y, "lengths": lengths, "split": split, **changes})
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return save(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def result(source, tmp_path_factory):
    return train(source, name="one", runs=tmp_path_factory.mktemp("runs"), model__name="cnn_gru", **SMALL)


def test_a_run_on_features_learns_and_its_contract_comes_from_the_data(source, result):
    assert result.report.metrics.top1 > 0.9
    assert result.takes == "features"
    spec = load(result.folder).input_spec
    assert (spec.kind, spec.frames, spec.channels, len(spec.mean), len(spec.std)) == ("features", 7, 6, 6, 1)
    assert all(299 < mean < 301 for mean in spec.mean)


def test_evaluating_the_file_again_gives_each_row_the_same_score(source, result, tmp_path):
    report = evaluate(result.folder, source, output=tmp_path)
    assert report.metrics.top1 == result.report.metrics.top1
    assert (tmp_path / "predictions.csv").read_text() == (result.folder / "predictions.csv").read_text()


def test_one_clip_is_predicted_from_an_array_without_its_padding(source, result):
    classifier = load(result.folder)
    with np.load(source) as arrays:
        clip = arrays["x"][70, : arrays["lengths"][70]]
    found = classifier.predict(clip)
    rows = (result.folder / "predictions.csv").read_text().splitlines()
    (row,) = [row.split(",") for row in rows if row.startswith(f"{source}[x][70]")]
    assert (found.label, f"{found.score:.4f}") == (row[2], f"{float(row[3]):.4f}")
    assert classifier.predict(np.concatenate([clip, clip, clip]), views=2).scores.keys() == {"0", "1"}


@pytest.mark.parametrize("thing", ["clip.mp4", np.zeros((4, 8, 8, 3), np.uint8), np.array([["a"]])])
def test_what_holds_no_features_cannot_be_predicted_from(result, thing):
    with pytest.raises(DataError, match=r"takes features, an array \(time, 6\)"):
        load(result.folder).predict(thing)


@pytest.mark.slow
def test_a_run_on_features_that_was_interrupted_ends_with_the_same_bits(source, tmp_path):
    class Stop(Exception):
        pass

    def run(name, **options):
        return train(source, name=name, runs=tmp_path, model__name="cnn_gru_small", **options)

    changes = {"model__changes": {"units": (8, 8), "head_dim": 8}, "training__save_every_steps": 1}
    changes |= {"training__epochs": 2, "training__batch": 16}
    whole = run("whole", **changes)

    class Stopper:
        def __getattr__(self, name):
            def note(*arguments):
                if name == "on_step" and arguments[:2] == (1, 2):
                    raise Stop

            return note

    with pytest.raises(Stop):
        run("halved", listener=Stopper(), **changes)
    train(name="halved", runs=tmp_path, resume=True)
    one, other = (load_checkpoint(tmp_path / name / "last.ckpt")["model"] for name in ("whole", "halved"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert whole.best_epoch in (1, 2)


def test_what_was_typed_wins_over_what_the_data_says(source):
    recipe = resolve_recipe(str(source), None, {"model.name": "cnn_transformer", "input.frames": 4})
    assert (recipe.input.frames, recipe.input.channels, recipe.input.mean) == (4, 6, ())
    assert recipe.optimizer == make_features().optimizer
    fixed = {"model.name": "cnn_gru", "input.mean": (0.0,), "input.std": (1.0,)}
    assert resolve_recipe(str(source), None, fixed).input.mean == (0.0,)
    card = resolve_recipe(None, None, {"model.name": "cnn_gru"})
    assert (card.input.frames, card.input.channels) == (20, 2048)


def test_a_model_with_a_recipe_of_its_own_gets_it_and_what_was_typed_wins(source):
    assert FEATURES["cnn_gru_small"] == {"input.frames": 8, "training.epochs": 40}
    recipe = resolve_recipe(str(source), None, {"model.name": "cnn_gru_small"})
    assert (recipe.input.frames, recipe.input.channels, recipe.training.epochs) == (8, 6, 40)
    assert recipe == replace(make_features("cnn_gru_small"), input=replace(recipe.input, channels=6))
    assert resolve_recipe(None, None, {"model.name": "cnn_gru_small"}).input.frames == 8
    typed = {"model.name": "cnn_gru_small", "input.frames": 5, "training.epochs": 3}
    recipe = resolve_recipe(str(source), None, typed)
    assert (recipe.input.frames, recipe.training.epochs) == (5, 3)
    assert set(FEATURES) <= {name for name in list_models() if find_card(name).input_spec.kind == "features"}


def test_a_stated_range_of_features_is_kept(source, tmp_path):
    changes = {**SMALL, "training__epochs": 1, "input__mean": (300.0,), "input__std": (2.0,)}
    result = train(source, name="stated", runs=tmp_path, model__name="cnn_gru", **changes)
    spec = load(result.folder).input_spec
    assert (spec.mean, spec.std) == ((300.0,), (2.0,))


def run_command(*arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return left.value.code, printed.out, printed.err


def test_the_commands_take_features_and_name_the_next_one(source, tmp_path, capsys):
    options = ["--runs", tmp_path, "--name", "a", "--epochs", 1]
    status, out, _ = run_command("train", source, "--model", "cnn_gru", *options, capsys=capsys)
    assert status == 0
    assert "7 frames of 6 features" in out
    (following,) = re.findall("next: tubelet (.*)", out)
    assert following == f"evaluate {tmp_path / 'a'} FEATURES.npz"
    status, out, _ = run_command(*following.replace("FEATURES.npz", str(source)).split(), "--json", capsys=capsys)
    assert (status, json.loads(out)["n"]) == (0, 16)


@pytest.mark.slow
@pytest.mark.parametrize("remedy", ["cnn_gru", "cnn_transformer"])
def test_a_model_of_pixels_refuses_features_and_names_models_that_take_them(source, tmp_path, remedy):
    with pytest.raises(DataError, match=f"model of pixels - it holds features.*--model {remedy}"):
        train(source, name="a", runs=tmp_path, model__name="cnn_gru_nano")
    assert not (tmp_path / "a").exists()
    changes = {"model__changes": {"dim": 16}} if remedy == "cnn_transformer" else {}
    assert train(source, name="a", runs=tmp_path, model__name=remedy, training__epochs=1, **changes).best_epoch == 1


@pytest.mark.slow
def test_a_model_of_features_refuses_pixels_and_names_one_that_takes_them(small_run, tmp_path):
    world = small_run.parents[1] / "world" / "manifest.csv"
    with pytest.raises(DataError, match=r"model of features .* it holds pixels .* cnn_gru_nano"):
        train(world, name="a", runs=tmp_path, model__name="cnn_gru")
    changes = {"input__frames": 2, "input__height": 8, "input__width": 8, "data__workers": 0, "training__epochs": 1}
    train(world, name="a", runs=tmp_path, model__name="cnn_gru_nano", **changes)
    with pytest.raises(DataError, match="model of features"):
        evaluate(train_features(tmp_path), world)


def train_features(folder):
    source = save(folder)
    return train(source, name="f", runs=folder, model__name="cnn_gru", training__epochs=1).folder


def test_a_trained_model_of_pixels_is_not_tested_on_features(small_run, source):
    with pytest.raises(DataError, match="model of pixels"):
        evaluate(small_run, source)


@pytest.mark.slow
def test_features_of_another_network_are_refused_and_the_remedy_works(result, tmp_path):
    other = save(tmp_path, dim=9)
    with pytest.raises(DataError, match=r"6 features a frame - it has 9 - .*--input.channels 9"):
        evaluate(result.folder, other)
    with pytest.raises(DataError, match=r"--input.channels 9"):
        train(other, name="a", runs=tmp_path, model__name="cnn_gru", input__channels=6)
    train(other, name="a", runs=tmp_path, model__name="cnn_gru", input__channels=9, training__epochs=1)


def test_a_wish_to_vary_features_as_pixels_is_refused_and_the_remedy_works(source, tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be varied as pixels are - found augmentation.horizontal_flip, "):
        Recipe(input=make_features().input)
    wish = {"model.name": "cnn_gru", "augmentation.crop_scale": (0.5, 1.0)}
    with pytest.raises(ConfigError, match=r"found augmentation\.crop_scale with"):
        resolve_recipe(str(source), None, wish)
    Recipe(input=make_features().input, augmentation=Augmentation(horizontal_flip=0.0))
    resolve_recipe(str(source), None, {"model.name": "cnn_gru", "model.changes": {"input_dropout": 0.1}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 8}, "input.height is for pixels - found 8 with input.kind features - leave it at 1"),
        ({"differences": "append"}, "input.differences is for pixels"),
        ({"rate_fps": 5.0}, "input.rate_fps is for pixels"),
        ({"mean": ()}, "found 0 and 1 numbers"),
    ],
)
def test_a_contract_that_fits_no_features_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        InputSpec(**{"kind": "features", "frames": 4, "height": 1, "width": 1, "channels": 3, **changes})


def test_pixels_are_never_without_a_range():
    with pytest.raises(ConfigError, match="needs 1 or 3 numbers - found 0"):
        InputSpec(mean=())


def test_a_classifier_whose_model_takes_another_kind_cannot_be(source, tmp_path):
    spec = InputSpec(frames=4, height=1, width=1, channels=6)
    recipe = Recipe(model=ModelRecipe("cnn_gru"), input=spec)
    np.savez(tmp_path / "p.npz", x=np.zeros((8, 4, 1, 1, 6), np.uint8), y=np.arange(8) % 2)
    with pytest.raises(ConfigError, match=r"cnn_gru takes features - input\.kind is pixels"):
        train(tmp_path / "p.npz", recipe=recipe, name="a", runs=tmp_path)


def test_a_batch_of_the_other_kind_is_no_input(result):
    with pytest.raises(VideoError, match="takes features - the batch holds pixels"):
        load(result.folder).score(torch.zeros((1, 7, 1, 1, 6), dtype=torch.uint8))
