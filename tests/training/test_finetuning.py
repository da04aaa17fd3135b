"""Hold which weights move, what clips of rare classes weigh, and that a teacher is learned from."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F  # noqa: N812 - PyTorch's own name for it

from small_run import make_tiny_recipe
from tubelet.classifier import Classifier
from tubelet.config import override
from tubelet.data.catalogue import open_data
from tubelet.data.dataset import Batch
from tubelet.data.loader import EpochOrder
from tubelet.errors import CheckpointError, ConfigError, TrainingError
from tubelet.models import create_model
from tubelet.models.adapters import AdaptedLinear, add_adapters, merge_adapters
from tubelet.prediction.load import load
from tubelet.recipes.optimization import FinetuningRecipe, LossRecipe
from tubelet.recipes.recipe import Recipe, TrainingRecipe
from tubelet.training.finetuning import Freezing
from tubelet.training.loop import Classification, MultilabelClassification, compute_weighted_loss
from tubelet.training.progress import Quiet
from tubelet.training.run import load_checkpoint
from tubelet.training.teacher import load_teacher
from tubelet.training.train import train
from tubelet.training.trainer import weigh_classes
from tubelet.video.spec import InputSpec

SPEC = InputSpec(frames=4, height=16, width=16)
TINY = {"frames": 4, "height": 16, "width": 16, "dim": 32, "heads": 2, "mlp_dim": 64}


@pytest.fixture
def source(small_run):
    return os.fspath(small_run.parents[1] / "world" / "manifest.csv")


def make_model(seed=0, **changes):
    torch.manual_seed(seed)
    model = create_model("videomae_nano", 3, **{**TINY, "tubelet": (2, 8, 8), **changes})
    torch.nn.init.normal_(model.head.weight)
    return model


def make_batch(size=6):
    generator = np.random.default_rng(0)
    clips = torch.from_numpy(generator.integers(0, 255, (size, 4, 16, 16, 3), np.uint8))
    return Batch(clips, torch.arange(size) % 3, torch.arange(size))


def list_moving(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_the_first_layers_are_frozen_and_behave_as_in_evaluation():
    model = make_model(depth=2, drop_path=0.5)
    freezing = Freezing(model, FinetuningRecipe(frozen_layers=2))
    freezing.start_epoch(0)
    moving = list_moving(model)
    assert not any(name.startswith(("encoder.embedding", "encoder.blocks.0")) for name in moving)
    assert {"encoder.blocks.1.mlp.widen.weight", "norm.weight", "head.weight"} <= moving
    assert not model.encoder.blocks[0].training
    assert model.encoder.blocks[1].training
    assert "of" in freezing.describe()


def test_the_head_moves_alone_at_first_and_everything_after():
    model = make_model()
    freezing = Freezing(model, FinetuningRecipe(head_epochs=1))
    everything = list_moving(model)
    freezing.start_epoch(0)
    assert list_moving(model) == {"head.weight", "head.bias"}
    freezing.start_epoch(1)
    assert list_moving(model) == everything == {name for name, _ in model.named_parameters()}
    assert all(module.training for module in model.modules())


def test_adapters_begin_as_nothing_and_end_in_the_matrices():
    model = make_model(depth=2)
    clips = torch.randn(2, 3, 4, 16, 16)
    names, before = list(model.state_dict()), model(clips)
    assert add_adapters(model, rank=2) == 4
    torch.testing.assert_close(model(clips), before, rtol=0, atol=0)
    for module in model.modules():
        if isinstance(module, AdaptedLinear):
            torch.nn.init.normal_(module.up, std=0.1)
    changed = model(clips)
    assert (changed - before).abs().max() > 1e-3
    merge_adapters(model)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(clips), changed, rtol=1e-4, atol=1e-5)


def test_adapters_alone_move_with_the_head():
    model = make_model(depth=1)
    Freezing(model, FinetuningRecipe(adapter_rank=2))
    assert all(name.startswith("head.") or name.endswith((".down", ".up")) for name in list_moving(model))
    assert sum(name.endswith(".up") for name in list_moving(model)) == 2


@pytest.mark.parametrize(
    ("recipe", "name", "words"),
    [
        (FinetuningRecipe(frozen_layers=9), "videomae_nano", "5 at most, and -1 .* found 9"),
        (FinetuningRecipe(adapter_rank=4), "i3d_nano", "found none in this model"),
        (FinetuningRecipe(adapter_rank=97), "videomae_nano", "found 97, theirs is 96 - lower it"),
    ],
)
def test_what_a_model_cannot_do_is_refused(recipe, name, words):
    with pytest.raises(ConfigError, match=words):
        Freezing(create_model(name, 3, frames=8, height=32, width=32), recipe)


class Hurried(Quiet):
    """Be interrupted after some epochs."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch(self, row):
        if row["epoch"] >= self.epochs:
            raise KeyboardInterrupt


def test_a_run_with_adapters_goes_on_and_keeps_an_ordinary_model(source, small_run, tmp_path):
    changes = {"finetuning.adapter_rank": 2, "finetuning.head_epochs": 1, "model.weights": os.fspath(small_run)}
    changes |= {"optimizer.layer_decay": 0.8, "training.epochs": 2, "training.keep": "last"}
    recipe = override(make_tiny_recipe(source), changes)
    whole = train(recipe=recipe, name="whole", runs=tmp_path).folder
    assert "only the head in the first 1 epochs" in (whole / "log.jsonl").read_text()
    with pytest.raises(KeyboardInterrupt):
        train(recipe=recipe, name="cut", runs=tmp_path, listener=Hurried(epochs=1))
    cut = train(name="cut", runs=tmp_path, resume=True).folder
    one, two = (load_checkpoint(folder / "last.ckpt") for folder in (whole, cut))
    assert all(torch.equal(value, two["model"][name]) for name, value in one["model"].items())
    kept, start = (load_file(folder / "model" / "model.safetensors") for folder in (whole, small_run))
    assert list(kept) == list(start)
    assert not torch.equal(
        kept["encoder.blocks.0.attention.qkv.weight"], start["encoder.blocks.0.attention.qkv.weight"]
    )
    assert torch.equal(kept["encoder.blocks.0.mlp.widen.weight"], start["encoder.blocks.0.mlp.widen.weight"])
    load(whole)


def test_classes_weigh_by_how_rare_they_are():
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 3), torch.tensor([0, 0, 0, 0, 0, 1, 1, 2])
    weights = weigh_classes({"a": 5, "b": 2, "c": 1, "none": 0}, clips=8)
    assert weights.tolist() == pytest.approx([8 / 15, 8 / 6, 8 / 3, 1])
    assert float(weights[labels].mean()) == pytest.approx(1)
    loss = compute_weighted_loss(logits, labels, weights[:3], smoothing=0.1)
    torch.testing.assert_close(
        loss, F.cross_entropy(logits, labels, weights[:3], label_smoothing=0.1), rtol=1e-6, atol=0
    )
    soft = F.one_hot(labels, 3).float()
    torch.testing.assert_close(compute_weighted_loss(logits, soft, weights[:3], smoothing=0.1), loss)


def test_weights_of_several_labels_are_those_that_make_presence_and_absence_even():
    assert weigh_classes({"a": 1, "b": 5}, clips=10, kind="multilabel").tolist() == pytest.approx([9, 1])


def test_the_sampler_shows_each_class_as_often_and_differently_in_each_epoch():
    strata = [0] * 20 + [1] * 4 + [2] * 2
    order = EpochOrder(26, 5, 7, strata=strata)
    drawn = []
    for epoch in range(2):
        order.start(epoch)
        drawn.append([index for batch in order for _, index in batch])
    assert [len(one) for one in drawn] == [26, 26]
    for one in drawn:
        counts = np.bincount([strata[index] for index in one])
        assert counts.max() - counts.min() <= 1
        assert set(range(20, 26)) <= set(one)
    assert drawn[0] != drawn[1]
    order.start(1, first_batch=3)
    assert [index for batch in order for _, index in batch] == drawn[1][15:]


@pytest.mark.parametrize("kind", [Classification, MultilabelClassification])
def test_a_teacher_draws_the_answers_to_its_own(kind):
    task = "multilabel" if kind is MultilabelClassification else "classification"
    classes = ("a", "b", "c")
    teacher, learner = (Classifier(make_model(seed), SPEC, classes, task) for seed in (1, 2))
    batch = make_batch()
    if task == "multilabel":
        batch = replace(batch, labels=F.one_hot(batch.labels, 3).bool())
    exact = TrainingRecipe(precision="fp32")
    alone = kind(learner, Recipe(input=SPEC, training=exact)).compute_loss(batch)[0]
    recipe = Recipe(input=SPEC, training=exact, loss=LossRecipe(teacher="there", teacher_share=1.0, temperature=1.0))
    same = kind(teacher, recipe, teacher=teacher).compute_loss(batch)[0]
    torch.testing.assert_close(same.detach(), torch.tensor(0.0), rtol=0, atol=1e-6)
    taught = kind(learner, recipe, teacher=teacher).compute_loss(batch)[0].detach()
    mixed = kind(learner, override(recipe, {"loss.teacher_share": 0.25}), teacher=teacher).compute_loss(batch)[0]
    assert taught > 0.01
    torch.testing.assert_close(mixed.detach(), 0.75 * alone.detach() + 0.25 * taught)
    mixed.backward()
    optimizer = torch.optim.Adam(learner.model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss = kind(learner, recipe, teacher=teacher).compute_loss(batch)[0]
        loss.backward()
        optimizer.step()
    assert loss.detach() < 0.2 * taught


def test_a_teacher_of_other_classes_or_clips_is_refused_before_the_run(source, small_run, tmp_path):
    recipe = override(make_tiny_recipe(source), {"loss.teacher": os.fspath(small_run), "loss.balance": "sampler"})
    assert train(recipe=recipe, name="taught", runs=tmp_path, training__epochs=1).report is not None
    with pytest.raises(
        TrainingError, match=r"looks at clips with input.frames 8, this recipe has 4 - set input.frames"
    ):
        train(recipe=recipe, name="short", runs=tmp_path, input__frames=4)
    assert not (tmp_path / "short").exists()
    own = load(small_run)
    slower = Classifier(own.model, replace(own.input_spec, stride=3), own.classes, own.task)
    with pytest.raises(
        TrainingError, match=r"looks at clips with input.stride 1, this recipe has 3 - set input.stride"
    ):
        load_teacher(recipe, slower)
    clips = open_data(source)
    renamed = tuple(replace(sample, label=f"very {sample.label}") for sample in clips.samples)
    others = replace(clips, samples=renamed, classes=tuple(f"very {name}" for name in clips.classes))
    with pytest.raises(TrainingError, match=r"it knows .*, and the clips have"):
        train(others, recipe=recipe, name="other", runs=tmp_path)


@pytest.mark.parametrize(("teacher", "error"), [("taught", TrainingError), ("none", CheckpointError)])
def test_a_run_that_is_replaced_stays_where_its_teacher_would_be_lost_or_is_missing(teacher, error, source, tmp_path):
    recipe = make_tiny_recipe(source)
    folder = train(recipe=recipe, name="taught", runs=tmp_path, training__epochs=1).folder
    with pytest.raises(error, match="choose another --name" if error is TrainingError else "no such folder"):
        train(recipe=recipe, name="taught", runs=tmp_path, overwrite=True, loss__teacher=os.fspath(tmp_path / teacher))
    assert load(folder).classes


def test_what_contradicts_itself_is_refused_before_the_run(source, small_run, tmp_path):
    plateau = {"optimizer.schedule": "plateau", "data.val_fraction": 0.0}
    clips = open_data(source)
    clips = replace(clips, samples=clips.select("train"))
    with pytest.raises(TrainingError, match=r"lower the rate by validation clips - .* has none"):
        train(clips, recipe=override(make_tiny_recipe(source), plateau), name="flat", runs=tmp_path)
    assert not (tmp_path / "flat").exists()
    with pytest.raises(TrainingError, match=r"found both wishes - leave --overwrite out"):
        train(name=small_run.name, runs=small_run.parent, resume=True, overwrite=True)


def test_a_head_that_moves_alone_to_the_end_is_pointed_out(source, tmp_path):
    recipe = override(make_tiny_recipe(source), {"finetuning.head_epochs": 2, "training.epochs": 2})
    with pytest.warns(UserWarning, match=r"the head alone moves in all 2 epochs"):
        train(recipe=recipe, name="head", runs=tmp_path)
