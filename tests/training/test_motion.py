"""Hold the recipe for a few hundred clips that differ in motion: what each model starts from, and that it trains."""

import numpy as np
import pytest

from tubelet.config import override
from tubelet.models import create_model, list_models
from tubelet.recipes.small import MOTION, make_motion
from tubelet.training.session import list_sizes
from tubelet.training.train import train


def test_every_model_for_motion_fits_its_recipe():
    assert set(MOTION) <= set(list_models())
    for name in MOTION:
        recipe = make_motion(name)
        assert recipe.model.name == name
        assert recipe.input.differences == "only", "a background that is seen is learned by heart"
        assert (recipe.data.val_fraction, recipe.training.keep) == (0, "last")
        create_model(name, 2, **list_sizes(recipe.input), **recipe.model.changes)


@pytest.mark.slow
@pytest.mark.parametrize("name", MOTION)
def test_a_few_clips_are_trained_on(name, tmp_path):
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 255, (12, 16, 48, 64, 3), np.uint8), np.arange(12) % 2
    np.savez_compressed(tmp_path / "x.npz", x=x, y=y)
    recipe = override(make_motion(name), {"training.epochs": 1, "training.batch": 4})
    result = train(tmp_path / "x.npz", recipe=recipe, runs=tmp_path)
    assert result.report.n_failed == 0
    assert result.report.metrics.confusion.sum() == result.report.n > 0
