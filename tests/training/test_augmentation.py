"""Hold what a training does with a policy: it mixes, draws a picture of it, and refuses what makes no sense."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from small_run import make_tiny_recipe
from training.test_train import make_batches, make_classifier
from tubelet.config import read_config
from tubelet.data.catalogue import open_data
from tubelet.data.dataset import ClipDataset
from tubelet.errors import ConfigError
from tubelet.recipes.optimization import LossRecipe, OptimizerRecipe
from tubelet.recipes.pretraining import PretrainingRecipe
from tubelet.recipes.recipe import Recipe, TrainingRecipe
from tubelet.training.feeding import prepare_training
from tubelet.training.loop import Classification, train_epoch
from tubelet.training.optimizer import Schedule, make_optimizer
from tubelet.training.preview import draw_augmentations
from tubelet.training.step import Stepper
from tubelet.training.train import train
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

MIXED = Recipe(
    input=InputSpec(frames=8, height=16, width=16),
    augmentation=Augmentation(mixup=0.8, cutmix=1.0),
    optimizer=OptimizerRecipe(lr=3e-3),
    training=TrainingRecipe(seed=5),
)


def train_in_parts(recipe, *parts):
    """Train on six batches in as many calls as there are parts, as a run that goes on does."""
    classifier, batches, done = make_classifier(), make_batches(6), 0
    optimizer = make_optimizer(classifier.model, recipe.optimizer)
    for count in parts:
        rest = batches[done:] if done else batches
        call = partial(train_epoch, Stepper(Classification(classifier, recipe), optimizer, recipe))
        if count < len(rest):
            rest = _Stopping(rest, count)
        try:
            call(rest, schedule=Schedule(OptimizerRecipe(lr=3e-3, min_lr=0.0), 0, 100), num_batches=6)
        except StopTrainingError:
            optimizer.zero_grad(set_to_none=True)
        done += count
    return torch.cat([parameter.detach().flatten() for parameter in classifier.model.parameters()])


class StopTrainingError(Exception):
    pass


class _Stopping(list):
    """Batches of which only the first few arrive."""

    def __init__(self, batches, count):
        super().__init__(batches)
        self.count = count

    def __iter__(self):
        yield from self[: self.count]
        raise StopTrainingError


def test_an_epoch_of_mixed_batches_that_goes_on_ends_with_the_same_bits():
    whole = train_in_parts(MIXED, 6)
    assert torch.equal(whole, train_in_parts(MIXED, 2, 3, 1))
    plain = Recipe(input=MIXED.input, optimizer=MIXED.optimizer, training=MIXED.training)
    assert not torch.equal(whole, train_in_parts(plain, 6))


def test_what_is_learned_from_mixed_batches_is_the_loss_of_soft_targets():
    classifier, (batch,) = make_classifier(), make_batches(1)
    torch.manual_seed(11)
    seen = []
    compute = classifier.compute_logits
    classifier.compute_logits = lambda clips, lengths: seen.append((clips, compute(clips, lengths))) or seen[-1][1]
    recipe = Recipe(input=MIXED.input, augmentation=Augmentation(mixup=0.8), loss=LossRecipe(label_smoothing=0.1))
    loss, _ = Classification(classifier, recipe).compute_loss(batch)
    clips, logits = seen[0]
    bright = clips.float().mean((1, 2, 3, 4))
    own, partner = (rows.float().mean((1, 2, 3, 4)) for rows in (batch.clips, batch.clips.flip(0)))
    differs = (own - partner).abs() > 50
    share = ((bright - partner) / (own - partner))[differs].mean()
    hot = torch.nn.functional.one_hot(batch.labels, 2)
    soft = (share * hot + (1 - share) * hot.flip(0)) * 0.9 + 0.05
    assert 0.5 <= share < 0.99
    assert float(loss.detach()) == pytest.approx(
        float(-(soft * logits.detach().log_softmax(1)).sum(1).mean()), abs=2e-3
    )


@pytest.fixture
def manifest(small_run):
    return open_data(small_run.parents[1] / "world" / "manifest.csv")


@pytest.mark.parametrize("mixup", [0.0, 0.8])
def test_the_picture_shows_each_clip_above_what_training_makes_of_it(manifest, tmp_path, mixup):
    policy = Augmentation(horizontal_flip=1.0, brightness=0.4, erasing=1.0, mixup=mixup)
    recipe = Recipe(input=InputSpec(frames=8, height=16, width=16), augmentation=policy)
    prepare = partial(prepare_training, recipe=recipe, classes=manifest.classes)
    samples = manifest.select("train")
    dataset = ClipDataset(samples, manifest, recipe.input, prepare, is_training=True, seed=7)
    sizes = []
    for count in (1, 3, 40):
        path = tmp_path / f"{count}.png"
        draw_augmentations(dataset, [(0, index % len(samples)) for index in range(count)], policy, path)
        with Image.open(path) as picture:
            sizes.append(picture.size)
    assert sizes[0][1] < sizes[1][1] < sizes[2][1] < 6.5 * sizes[0][1]


@pytest.mark.slow
def test_a_run_with_everything_switched_on_leaves_its_picture(manifest, tmp_path):
    policy = Augmentation(
        crop_scale=(0.5, 1.0), hue=0.1, rotation=15.0, policy="trivialaugment", erasing=0.5, repeats=2, cutmix=1.0
    )
    recipe = make_tiny_recipe(manifest.origin, epochs=1)
    result = train(manifest, recipe=Recipe(**{**vars(recipe), "augmentation": policy}), name="all", runs=tmp_path)
    with Image.open(result.folder / "augmentations.png") as picture:
        assert np.asarray(picture).std() > 10
    quiet = train(manifest, recipe=recipe, name="none", runs=tmp_path)
    assert not (quiet.folder / "augmentations.png").exists()


@pytest.mark.parametrize(
    ("changes", "spec", "says"),
    [
        ({"hue": 0.1}, {"channels": 1}, "hue needs clips of three channels - found 0.1 with input.channels 1"),
        ({"grayscale": 0.1}, {"channels": 2}, "grayscale needs clips of three channels"),
        (
            {"speed": (0.8, 1.25)},
            {},
            "speed cannot be seen .* with input.sampling uniform - set input.sampling to dense",
        ),
    ],
)
@pytest.mark.parametrize("kind", [Recipe, PretrainingRecipe])
def test_wishes_that_the_clips_cannot_show_are_refused(kind, changes, spec, says):
    with pytest.raises(ConfigError, match=says):
        kind(input=InputSpec(**spec), augmentation=Augmentation(**changes))


def test_the_remedies_of_those_refusals_are_accepted():
    Recipe(input=InputSpec(sampling="dense"), augmentation=Augmentation(speed=(0.8, 1.25)))
    Recipe(input=InputSpec(channels=1), augmentation=Augmentation(hue=0.0, saturation=0.3))


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_pretraining_has_no_labels_to_mix(name):
    with pytest.raises(ConfigError, match="pre-training looks at no label - set both to 0"):
        PretrainingRecipe(augmentation=Augmentation(**{name: 0.5}))


@pytest.mark.parametrize(
    "changes", [{"hue": 0.1}, {"policy": "randaugment"}, {"mixup": 0.2}, {"repeats": 2}, {"speed": (0.5, 1.0)}]
)
def test_features_refuse_the_new_variations_too(changes):
    spec = InputSpec(kind="features", height=1, width=1, channels=8, mean=(), std=())
    with pytest.raises(ConfigError, match=f"augmentation.{next(iter(changes))}"):
        Recipe(input=spec, augmentation=Augmentation(horizontal_flip=0.0, **changes))


def test_the_policy_that_the_documentation_prints_is_read_as_it_stands(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(page.split("```yaml")[1].split("```")[0])
    recipe = read_config(path, Recipe)
    assert recipe.augmentation.policy_magnitude == 21
    assert recipe.loss.label_smoothing == 0.1
