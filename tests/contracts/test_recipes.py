"""Hold what every shipped recipe must do: build, say what it is, come back from YAML, take steps, and go on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import tubelet
from tubelet.config import override, read_config, write_config
from tubelet.data.catalogue import DATASETS
from tubelet.errors import ConfigError, UnknownName
from tubelet.models import find_card
from tubelet.models.published import find_published
from tubelet.recipes.listing import RECIPES
from tubelet.recipes.pretraining import PretrainingRecipe
from tubelet.recipes.recipe import Recipe
from tubelet.recipes.resolution import read_stated
from tubelet.recipes.shipped import SHIPPED
from tubelet.training.progress import Quiet
from tubelet.training.run import load_checkpoint
from tubelet.transforms.policy import FLIPS

assert SHIPPED  # read for what it registers
NAMES = sorted(RECIPES)


def test_all_that_was_promised_ships():
    promised = {f"ucf101/{name}" for name in ("vivit", "videomae", "timesformer", "i3d", "cnn_gru", "cnn_transformer")}
    promised |= {"organmnist3d/vivit", "organmnist3d/vivit_tutorial", "kinetics2/frame_transformer"}
    promised |= {f"kinetics400/{name}" for name in ("vivit", "timesformer", "videomae", "videomae_pretraining")}
    assert promised <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is_and_comes_back_from_yaml(name, tmp_path):
    listed = RECIPES[name]
    recipe = listed.make()
    assert listed.summary.endswith(".")
    assert listed.command == ("pretrain" if isinstance(recipe, PretrainingRecipe) else "train")
    (tmp_path / "recipe.yaml").write_text(write_config(recipe))
    assert read_config(tmp_path / "recipe.yaml", type(recipe)) == recipe
    if recipe.data.source:
        assert recipe.data.source in DATASETS
    spec = find_card(recipe.model.name).input_spec
    assert recipe.input.kind == spec.kind
    assert override(recipe, {"model.weights": "runs/mine"}).model.source == "runs/mine", "--weights must win"
    if recipe.model.source == "default":
        assert find_published(recipe.model.name).num_classes == 400
        assert recipe.input == spec, "weights must see clips as they did"


def test_a_name_that_is_none_names_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'ucf101/videomae'"):
        read_stated("ucf101/videomea", Recipe)
    with pytest.raises(ConfigError, match="is for 'tubelet pretrain'"):
        read_stated("ucf101/videomae_pretraining", Recipe)


SMALLER = {
    "depth": 1,
    "temporal_depth": 1,
    "dim": 24,
    "heads": 2,
    "mlp_dim": 32,
    "hidden": 16,
    "decoder_dim": 24,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "decoder_mlp_dim": 32,
    "pooler_depth": 1,
}


def shrink(recipe):
    """Make the model and its clips small; everything else stays as the recipe has it."""
    config = find_card(recipe.model.name).config
    changes = {key: value for key, value in SMALLER.items() if config.to_dict().get(key)}
    small = {f"model.changes.{key}": value for key, value in changes.items()}
    if isinstance(recipe, PretrainingRecipe):
        small |= {f"model.{key}": value for key, value in SMALLER.items() if key.startswith("decoder")}
    small |= {"model.weights": "", "data.workers": 0, "data.val_fraction": 0.0, "data.test_fraction": 0.0}
    small |= {"training.epochs": 2, "training.accumulate": 1, "training.precision": "fp32"}
    if isinstance(recipe, Recipe):
        small |= {"model.pretrained": False}
        small |= {f"augmentation.{pairs}": () for pairs in FLIPS.values()}  # these classes have no names
    if recipe.input.kind == "features":
        small |= {"input.channels": 6}
    elif recipe.input.height > 32:
        small |= {"input.height": 32, "input.width": 32, "input.frames": min(recipe.input.frames, 16)}
        small |= {"input.short_side": 36} if recipe.input.short_side else {}
    small |= {"optimizer.milestones": (1.0,)} if recipe.optimizer.milestones else {}
    return override(recipe, small)


def write_miniature(folder, recipe):
    """Write as many clips as two steps take, of the kind that the recipe looks at."""
    spec, generator = recipe.input, np.random.default_rng(0)
    if spec.kind == "features":
        shape = (spec.frames, spec.channels)
        arrays = generator.standard_normal((6, *shape)).astype(np.float32)
    else:
        side = () if spec.channels == 1 else (3,)
        arrays = generator.integers(0, 255, (6, 20, 36, 40, *side), np.uint8)
    np.savez(folder / "clips.npz", train_images=arrays, train_labels=np.arange(6) % 2)
    return folder / "clips.npz"


class Hurried(Quiet):
    """Be interrupted after the first epoch."""

    def on_epoch(self, row):
        raise KeyboardInterrupt

    def on_remark(self, text):
        """Take no offence at fewer clips than a batch."""


class Calm(Hurried):
    """Go on to the end."""

    def on_epoch(self, row):
        assert np.isfinite(row["train_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_takes_two_steps_and_goes_on(name, tmp_path):
    recipe = shrink(RECIPES[name].make())
    source = write_miniature(tmp_path, recipe)
    recipe = replace(recipe, training=replace(recipe.training, batch=3))
    command = tubelet.pretrain if isinstance(recipe, PretrainingRecipe) else tubelet.train
    with pytest.raises(KeyboardInterrupt):
        command(source, recipe=recipe, name="mini", runs=tmp_path, listener=Hurried())
    first = load_checkpoint(tmp_path / "mini" / "last.ckpt")
    assert (first["progress"]["epoch"], first["progress"]["history"][0]["epoch"]) == (1, 1)
    command(source, name="mini", runs=tmp_path, resume=True, listener=Calm())
    last = load_checkpoint(tmp_path / "mini" / "last.ckpt")
    assert last["progress"]["epoch"] == 2
    moved = [key for key, value in first["model"].items() if not torch.equal(value, last["model"][key])]
    assert moved


def test_crops_of_papers_are_as_large_as_theirs():
    """The side of a square crop, as a share of the short side of a picture of 4 by 3."""
    sides = {
        "kinetics400/timesformer": (224 / 320, 224 / 256),
        "kinetics400/timesformer_hr": (448 / 512, 1.0),
        "kinetics400/vivit": (224 / 256 / 1.33, 224 / 256 / 0.9),
        "kinetics400/videomae_pretraining": (0.66, 1.0),
    }
    for name, wanted in sides.items():
        shares = RECIPES[name].make().augmentation.crop_scale
        assert [(share * 4 / 3) ** 0.5 for share in shares] == pytest.approx(wanted), name


def test_a_large_vivit_has_as_many_blocks_over_moments_as_the_one_whose_result_is_stated():
    for name in ("kinetics400/vivit_large", "kinetics600/vivit_large"):
        assert RECIPES[name].make().model.changes["temporal_depth"] == 24
