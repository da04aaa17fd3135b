"""Hold that a training which learns nothing says so, once, and that a healthy one says nothing."""

import json
import os
from dataclasses import replace

import pytest
import torch
from torch import nn

from small_run import make_tiny_recipe
from tubelet import train
from tubelet.data.manifest import Manifest, Sample
from tubelet.errors import TrainingError
from tubelet.recipes.optimization import FinetuningRecipe, OptimizerRecipe
from tubelet.recipes.recipe import Recipe, TrainingRecipe
from tubelet.training.optimizer import make_optimizer
from tubelet.training.progress import Quiet
from tubelet.training.ranks import Ranks
from tubelet.training.symptoms import Stillness, find_guessing


class Cut(nn.Module):
    """Have a layer that its head does not send gradients to."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(self.body(inputs).detach())


class Whole(Cut):
    """Begin with a head of zeros, as ours do: the body has no gradient in the first step."""

    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.head.weight)

    def forward(self, inputs):
        return self.head(self.body(inputs))


def describe(kind, optimizer, steps=10, ranks=None, fill=False, **changes):
    """Train a model for one epoch, and say what was noticed."""
    torch.manual_seed(0)
    model = kind()
    recipe = Recipe(optimizer=replace(optimizer, **{"weight_decay": 0.0, **changes}))
    mover = make_optimizer(model, recipe.optimizer)
    stillness = Stillness(model, mover, recipe, steps, **({"ranks": ranks} if ranks else {}))
    stillness.start_epoch(0)
    for _ in range(steps):
        mover.zero_grad(set_to_none=True)
        model(torch.randn(4, 8)).square().sum().backward()
        for parameter in model.parameters():
            if fill and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        mover.step()
    return stillness.describe()


RULES = {
    "adamw": OptimizerRecipe(lr=1e-3),
    "sgd": OptimizerRecipe(name="sgd", lr=1e-2),
    "plain sgd": OptimizerRecipe(name="sgd", lr=1e-2, momentum=0.0),
}


@pytest.mark.parametrize("rule", RULES)
def test_parameters_without_a_gradient_are_named_and_healthy_ones_are_not(rule):
    text = describe(Cut, RULES[rule])
    assert text.startswith("2 of 4 parameters never get a gradient: body.weight, body.bias - ")
    assert describe(Whole, RULES[rule]) == ""


def test_weight_decay_alone_is_no_gradient():
    # Where several processes add gradients up, one that nobody has is zero, and the optimizer moves its weight.
    text = describe(Cut, RULES["adamw"], fill=True, weight_decay=0.1)
    assert text.startswith("2 of 4 parameters never get a gradient: body.weight, body.bias - ")


def test_steps_too_small_for_the_number_format_are_noticed():
    class Even(Whole):
        def __init__(self):
            super().__init__()
            nn.init.normal_(self.head.weight)

    text = describe(Even, RULES["adamw"], lr=1e-13, min_lr=0.0)
    assert "stay as they are, to the bit: steps are too small for float32 - raise optimizer.lr, now 1e-13" in text


def test_where_no_gradient_arrives_at_all_that_is_said():
    class Deaf(Cut):
        def forward(self, inputs):
            return (0.0 * super().forward(inputs)).sum()

    assert describe(Deaf, RULES["adamw"]).startswith("no weight moves: no gradient reaches any of 4 parameters - ")


def test_what_another_process_holds_a_part_of_counts_as_moved():
    class Two(Ranks):
        def gather(self, value):
            return [value, [look._replace(has_gradient=True, moved=look.looked_at) for look in value]]

    assert describe(Cut, RULES["adamw"], ranks=Two()) == ""


def test_weights_are_judged_after_ten_steps_and_the_body_again_once_it_moves():
    def list_judged(steps, head_epochs):
        recipe = Recipe(finetuning=FinetuningRecipe(head_epochs=head_epochs))
        model = Whole()
        stillness = Stillness(model, make_optimizer(model, recipe.optimizer), recipe, steps)
        judged = []
        for epoch in range(12):
            stillness.start_epoch(epoch)
            if stillness.describe():  # nothing ever moves here
                judged.append(epoch)
        return judged

    assert list_judged(100, 0) == [0]
    assert list_judged(4, 0) == [2]
    assert list_judged(4, 5) == [2, 7]
    assert list_judged(4, 1) == [3]


def make_manifest(train_clips, **val):
    samples = [Sample(f"/{number}.mp4", "a", "train") for number in range(train_clips)]
    samples += [
        Sample(f"/{label}{number}.mp4", label, "val") for label, count in val.items() for number in range(count)
    ]
    return Manifest(tuple(samples), ("a", "b", "c"), "/clips")


def make_history(*top1):
    return [{"epoch": number + 1.0, "val_top1": value} for number, value in enumerate(top1)]


def test_validation_at_chance_is_said_with_its_numbers():
    recipe = Recipe(training=TrainingRecipe(epochs=20))
    manifest = make_manifest(100, a=60, b=40)
    # .6 + 1.64 * sqrt(.6 * .4 / 100) = .6803
    text = find_guessing(recipe, manifest, make_history(*[0.5] * 9, 0.68))
    assert "no better than a guess after 10 epochs (1,000 clips): 68.0% at best" in text
    assert "always saying 'a' has 60.0% of 100 clips right and luck reaches 68.0%" in text
    assert "3,000 to 6,000 clips" in text
    assert "--overfit-batch" in text
    assert "augmentations.png" in text
    assert find_guessing(recipe, manifest, make_history(0.69, *[0.5] * 9)) == ""


def test_chance_is_looked_at_once_when_there_was_time_to_learn():
    def list_epochs(epochs, clips):
        recipe = Recipe(training=TrainingRecipe(epochs=epochs))
        manifest = make_manifest(clips, a=6, b=6)
        return [
            count for count in range(1, epochs + 1) if find_guessing(recipe, manifest, make_history(*[0.5] * count))
        ]

    assert list_epochs(4, 1200) == []  # too short to tell
    assert list_epochs(100, 1200) == [25]  # a quarter
    assert list_epochs(10, 1200) == [5]
    assert list_epochs(100, 200) == [30]  # 6,000 clips
    assert list_epochs(30, 100) == [15]  # half of the run
    assert "3,000" not in find_guessing(
        Recipe(training=TrainingRecipe(epochs=10)), make_manifest(1200, a=6, b=6), make_history(*[0.5] * 5)
    )


def test_nothing_is_said_of_chance_where_there_is_none():
    recipe = Recipe(training=TrainingRecipe(epochs=10))
    rows = make_history(*[0.0] * 5)
    assert find_guessing(recipe, make_manifest(1200, a=6), rows) == ""
    assert find_guessing(recipe, make_manifest(1200), rows) == ""
    multilabel = [{"epoch": 1.0, "val_mean_ap": 0.1}] * 5
    assert find_guessing(recipe, make_manifest(1200, a=6, b=6), multilabel) == ""


class Notes(Quiet):
    """Keep what is said, and stop after an epoch."""

    def __init__(self, stop_after=0):
        self.remarks = []
        self.stop_after = stop_after

    def on_remark(self, text):
        self.remarks.append(text)

    def on_epoch(self, row):
        if row["epoch"] == self.stop_after:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_that_learns_nothing_says_so_once_even_if_it_was_interrupted(small_run, tmp_path):
    source = os.fspath(small_run.parents[1] / "world" / "manifest.csv")
    recipe = replace(make_tiny_recipe(source, epochs=6), optimizer=OptimizerRecipe(lr=1e-13, min_lr=0.0))
    first, second = Notes(stop_after=4), Notes()
    with pytest.raises(KeyboardInterrupt):
        train(recipe=recipe, name="still", runs=tmp_path, listener=first)
    train(name="still", runs=tmp_path, resume=True, listener=second)
    assert [text.split(" - ")[0].partition(" % ")[2] for text in first.remarks] == [
        "of the weights stay as they are, to the bit: steps are too small for float32"
    ]
    assert [text.partition(" after ")[0] for text in second.remarks] == ["validation top-1 is no better than a guess"]
    rows = [json.loads(line) for line in (tmp_path / "still" / "log.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows if row["event"] == "remark"] == [*first.remarks, *second.remarks]


def test_a_model_whose_parameters_are_all_frozen_is_refused():
    model = Whole().requires_grad_(False)
    with pytest.raises(TrainingError, match="all of its 4 parameters are frozen - set requires_grad"):
        make_optimizer(model, OptimizerRecipe())
