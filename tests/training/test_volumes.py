"""Hold the road of volumes: what they are told from, and what a training on them starts from."""

import os

import numpy as np
import pytest

from tubelet.config import override
from tubelet.data.catalogue import DATASETS
from tubelet.data.manifest import read_manifest
from tubelet.data.volumes import holds_volumes
from tubelet.models import create_model, list_models
from tubelet.recipes.listing import RECIPES
from tubelet.recipes.organs import make_organs
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.resolution import DEFAULTS, resolve_recipe
from tubelet.recipes.small import VOLUMES, make_volumes
from tubelet.training.session import list_sizes
from tubelet.training.train import train

LABELS = np.arange(12) % 2


def write_arrays(folder, *shape, dtype=np.uint8):
    path = folder / "x.npz"
    np.savez_compressed(path, x=np.zeros((len(LABELS), *shape), dtype), y=LABELS)
    return os.fspath(path)


@pytest.mark.parametrize(
    ("shape", "is_volume"),
    [((8, 8, 8), True), ((8, 8, 8, 1), True), ((8, 8, 8, 3), False), ((6, 8, 8), False), ((8, 8, 6), False)],
)
def test_gray_cubes_are_volumes_and_clips_are_not(tmp_path, shape, is_volume):
    path = write_arrays(tmp_path, *shape)
    assert holds_volumes(read_manifest(path)) == is_volume
    assert (resolve_recipe(path, None, {}) == make_volumes()) == is_volume
    assert is_volume or resolve_recipe(path, None, {}) == Recipe()


def test_videos_and_files_that_cannot_be_read_start_from_the_usual_recipe(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("path,label\na.mp4,one\nb.mp4,two\n")
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    assert not holds_volumes(read_manifest(table))
    assert (
        resolve_recipe(os.fspath(table), None, {}) == resolve_recipe(str(tmp_path / "broken.npz"), None, {}) == Recipe()
    )


def test_known_volumes_start_from_a_recipe_for_volumes_and_organs_from_their_own():
    told = []
    organs = resolve_recipe("organmnist3d", None, {"training.epochs": 3}, told.append)
    assert organs == override(make_organs(), {"training.epochs": 3})
    assert "organmnist3d/vivit" in told[0]
    for name in ("vesselmnist3d", "organmnist3d-64", "fake-organs"):
        assert resolve_recipe(name, None, {}) == make_volumes()
    assert resolve_recipe("organmnist3d", None, {"model.name": "i3d_nano"}) == make_volumes()
    assert resolve_recipe("organmnist3d", None, {"input.frames": 28}).model == make_volumes().model
    assert resolve_recipe("speed", None, {}) == Recipe(), "no published weights know what is made here"
    assert all(data in DATASETS and recipe in RECIPES for data, recipe in DEFAULTS.items())


def test_every_model_for_volumes_fits_its_recipe():
    assert set(VOLUMES) <= set(list_models())
    for name in VOLUMES:
        recipe = make_volumes(name)
        assert recipe.model.name == name
        create_model(name, 2, **list_sizes(recipe.input), **recipe.model.changes)


def test_what_was_typed_wins_over_the_recipe_for_volumes(tmp_path):
    path = write_arrays(tmp_path, 8, 8, 8)
    typed = {"model.name": "vivit_nano_joint", "training.epochs": 3, "augmentation.time_reversal": 0.5}
    recipe = resolve_recipe(None, None, {"data.source": path, **typed})
    assert (recipe.training.epochs, recipe.augmentation.time_reversal) == (3, 0.5)
    assert recipe.model == make_volumes("vivit_nano_joint").model
    other = resolve_recipe(path, None, {"model.name": "vivit_nano_factorized_encoder"})
    assert other.input.channels == 3, "a model without a recipe for volumes brings its card"
    assert resolve_recipe(path, None, {"model.pretrained": True}).input == Recipe().input


@pytest.mark.slow
def test_volumes_of_any_size_are_trained_on_without_further_words(tmp_path):
    generator = np.random.default_rng(0)
    x = generator.integers(0, 60, (24, 9, 9, 9), np.uint8)
    y = np.arange(24) % 2
    x[y == 1, 2:7, 2:7, 2:7] += 180
    np.savez_compressed(tmp_path / "x.npz", x=x, y=y)
    result = train(tmp_path / "x.npz", runs=tmp_path, training__epochs=1, training__batch=8)
    assert result.report.n_failed == 0
    assert result.report.metrics.confusion.sum() == result.report.n > 0
