"""Hold how far each weight moves: by rule, by layer, by step of the schedule."""

import math

import pytest
import torch

from tubelet.errors import ConfigError
from tubelet.models import create_model
from tubelet.models.depth import count_layers, list_layers
from tubelet.recipes.optimization import OptimizerRecipe
from tubelet.training.optimizer import make_optimizer, make_schedule

SMALL = {"frames": 4, "height": 16, "width": 16}


def make_model(name="videomae_nano", **changes):
    return create_model(name, 3, **SMALL, tubelet=(2, 8, 8), **changes)


def test_layers_are_counted_from_the_embedding_over_all_stacks_to_the_head():
    layers = list_layers(create_model("vivit_nano_factorized_encoder", 3, depth=2, temporal_depth=1))
    assert layers["embedding.project.weight"] == layers["encoder.positions.grid"] == 0
    assert layers["encoder.blocks.1.mlp.widen.weight"] == 2
    assert layers["temporal_encoder.positions.grid"] == 2
    assert layers["temporal_encoder.blocks.0.attention.qkv.weight"] == 3
    assert layers["temporal_encoder.norm.weight"] == layers["head.weight"] == 4


def test_rates_by_layer_are_those_of_the_official_fine_tuning():
    model = create_model("videomae_base", 101, frames=2, height=16, width=16, dim=24, heads=2, mlp_dim=8)
    assert count_layers(model) == 14
    optimizer = make_optimizer(model, OptimizerRecipe(lr=1.0, layer_decay=0.7))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scales = {names[id(p)]: group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    assert len(scales) == len(names)
    assert scales["encoder.embedding.project.weight"] == pytest.approx(0.7**13)
    assert scales["encoder.blocks.11.mlp.widen.bias"] == pytest.approx(0.7)
    assert scales["norm.weight"] == scales["head.bias"] == 1
    schedule = make_schedule(OptimizerRecipe(lr=1.0, warmup_epochs=0.0), steps_per_epoch=5, epochs=2)
    assert schedule.apply(optimizer, 0) == 1.0
    assert {group["lr"] for group in optimizer.param_groups} == {group["lr_scale"] for group in optimizer.param_groups}


def test_a_model_whose_blocks_begin_at_the_pixels_has_them_for_an_embedding():
    model = create_model("i3d_nano", 3)
    layers = list_layers(model)
    assert min(layers.values()) == 0
    assert layers["head.weight"] == count_layers(model) - 1


@pytest.mark.parametrize("decay", [1.0, 0.7])
def test_decay_touches_matrices_only(decay):
    optimizer = make_optimizer(make_model(), OptimizerRecipe(weight_decay=0.3, layer_decay=decay))
    for group in optimizer.param_groups:
        assert all((parameter.ndim > 1) == (group["weight_decay"] == 0.3) for parameter in group["params"])


def test_sgd_moves_with_momentum():
    model = torch.nn.Linear(1, 1, bias=False)
    optimizer = make_optimizer(model, OptimizerRecipe(name="sgd", lr=0.1, momentum=0.5, weight_decay=0.0))
    places = [float(model.weight.detach())]
    for _ in range(2):
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
        places.append(float(model.weight.detach()))
    assert places[1] - places[0] == pytest.approx(-0.1)
    assert places[2] - places[1] == pytest.approx(-0.15)


def test_the_rate_of_papers_is_scaled_by_the_clips_of_a_step():
    recipe = OptimizerRecipe(lr=5e-4, warmup_lr=2e-6, min_lr=1e-5, base_batch=256, warmup_epochs=1.0)
    schedule = make_schedule(recipe, steps_per_epoch=4, epochs=10, clips=128)
    assert schedule.peak == pytest.approx(2.5e-4)
    assert schedule.lr_at(0) == pytest.approx(1e-6 + (2.5e-4 - 1e-6) / 4)
    assert schedule.lr_at(40) == pytest.approx(5e-6)
    assert make_schedule(OptimizerRecipe(lr=5e-4), 4, 10, clips=128).peak == 5e-4


def test_a_rate_that_begins_below_its_floor_is_refused():
    with pytest.raises(ConfigError, match=r"found 1e-06 with optimizer\.lr 1e-07 - lower optimizer\.min_lr, to 0"):
        OptimizerRecipe(lr=1e-7)
    assert OptimizerRecipe(lr=1e-7, min_lr=0.0).lr == OptimizerRecipe(lr=1e-7, schedule="constant").lr == 1e-7


def test_a_rate_in_steps_falls_after_its_epochs():
    recipe = OptimizerRecipe(lr=0.005, schedule="step", milestones=(11.0, 14.0), gamma=0.1, warmup_epochs=0.0)
    schedule = make_schedule(recipe, steps_per_epoch=3, epochs=15)
    rates = [schedule.lr_at(epoch * 3 + step) for epoch in range(15) for step in range(3)]
    assert rates[:33] == [0.005] * 33
    assert rates[33:42] == pytest.approx([0.0005] * 9)
    assert rates[42:] == pytest.approx([0.00005] * 3)


def test_a_plateau_lowers_the_rate_and_its_history_is_all_it_needs():
    recipe = OptimizerRecipe(lr=1.0, schedule="plateau", plateau_epochs=2, gamma=0.5, warmup_epochs=0.0, min_lr=0.2)
    schedule = make_schedule(recipe, steps_per_epoch=1, epochs=99)
    rates = []
    losses = [1.0, 0.9, 0.9, math.nan, 0.8, 0.81, 0.82, 0.83, 0.84, 0.85, 0.86]
    for epoch in range(len(losses) + 1):
        schedule.follow(losses[:epoch])
        rates.append(schedule.lr_at(epoch))
    assert rates == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]
    again = make_schedule(recipe, steps_per_epoch=1, epochs=99)
    again.follow(losses)
    assert again.lr_at(0) == rates[-1]


def test_a_constant_rate_stays_after_its_warmup():
    schedule = make_schedule(OptimizerRecipe(lr=1.0, schedule="constant", warmup_epochs=1.0), 2, 5)
    assert [schedule.lr_at(step) for step in (0, 1, 2, 9)] == [0.5, 1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "sgd", "momentum": 1.0}, "optimizer.momentum is a share below 1 - found 1.0"),
        ({"lr": float("inf")}, "positive and finite - found inf"),
        ({"layer_decay": 0.0}, "optimizer.layer_decay is a factor above 0"),
        ({"schedule": "step"}, r"belong together - found \(\) with optimizer.schedule step"),
        ({"milestones": (3.0,)}, "belong together"),
        ({"schedule": "step", "milestones": (14.0, 11.0)}, "give them in order"),
        ({"plateau_epochs": 0}, "at least 1"),
        ({"warmup_lr": -1.0}, "optimizer.warmup_lr cannot be negative"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        OptimizerRecipe(**changes)
