"""ViViT: published counts and costs, who sees what, and the start."""

import math

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tubelet.errors import ConfigError
from tubelet.models import create_model, find_card, list_models
from tubelet.models.vivit import plan_uniform_frames
from tubelet.models.vivit_config import FORMS, ViViTConfig, count_macs, count_parameters

SMALL = {"frames": 8, "height": 32, "width": 48, "dim": 48, "depth": 2, "heads": 4, "mlp_dim": 96}
HUGE = {"dim": 1280, "depth": 32, "heads": 16, "mlp_dim": 5120}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def make_small(form, num_classes=7, **changes):
    """A small model whose head has weights, so that its logits say something."""
    torch.manual_seed(0)
    extra = {"temporal_depth": 1} if form == "factorized_encoder" else {}
    model = create_model(f"vivit_base_{form}", num_classes, **{**SMALL, **extra, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


PUBLISHED = [
    ("vivit_base_joint", {}, 88_954_000),
    ("vivit_base_factorized_encoder", {}, 115_062_928),
    ("vivit_base_factorized_attention", {}, 117_319_312),
    ("vivit_base_factorized_dot_product", {}, 88_952_464),
    ("vivit_base_factorized_encoder", {"temporal_depth": 0}, 86_696_080),
    ("vivit_large_joint", {}, 307_508_624),
    ("vivit_large_factorized_encoder", {}, 354_903_440),
    ("vivit_large_factorized_encoder", {"temporal_depth": 24}, 606_827_920),
    ("vivit_large_factorized_attention", {}, 408_317_328),
    ("vivit_large_factorized_dot_product", {}, 307_506_576),
    ("vivit_large_joint", HUGE, 636_177_040),
    ("vivit_large_joint", dict(HUGE, tubelet=(2, 14, 14)), 636_945_040),
    ("vivit_tiny_joint", {}, 6_313_552),
    ("vivit_tiny_factorized_encoder", {}, 7_532_368),
    ("vivit_tiny_factorized_attention", {}, 8_096_464),
    ("vivit_tiny_factorized_dot_product", {}, 6_313_168),
    ("vivit_small_joint", {}, 23_243_536),
    ("vivit_small_factorized_encoder", {}, 29_220_112),
    ("vivit_small_factorized_attention", {}, 30_348_304),
    ("vivit_small_factorized_dot_product", {}, 23_242_768),
]


@pytest.mark.parametrize(("name", "changes", "parameters"), PUBLISHED)
def test_parameter_count_is_the_published_one(name, changes, parameters):
    with torch.device("meta"):
        model = create_model(name, 400, **changes)
    assert count(model) == parameters
    assert count_parameters(model.config) == parameters


@pytest.mark.parametrize(("changes", "parameters"), [({}, 1_656_971), ({"mlp_dim": 128}, 867_467)])
def test_organ_model_has_the_parameters_of_the_keras_example(changes, parameters):
    assert count(create_model("vivit_organ", 11, **changes)) == parameters


@pytest.mark.parametrize("tokenizer", ["tubelet", "uniform_frames"])
@pytest.mark.parametrize("position", ["learned", "sinusoidal_3d", "none"])
@pytest.mark.parametrize("form", FORMS)
def test_closed_form_counts_the_parameters_of_every_variant(form, position, tokenizer):
    for pooling in ("token", "mean") if form in FORMS[:2] else ("mean",):
        model = make_small(form, position=position, tokenizer=tokenizer, pooling=pooling)
        assert count_parameters(model.config) == count(model)


@pytest.mark.parametrize(
    ("name", "changes", "giga"),
    [
        ("vivit_base_joint", {}, 455.2),
        ("vivit_base_factorized_encoder", {}, 284.4),
        ("vivit_base_factorized_attention", {}, 372.3),
        ("vivit_base_factorized_dot_product", {}, 277.1),
        ("vivit_base_factorized_encoder", {"temporal_depth": 0}, 283.9),
        ("vivit_large_joint", {}, 1446),
        ("vivit_large_joint", {"height": 288, "width": 288}, 2919),
        ("vivit_large_joint", {"height": 320, "width": 320}, 3992),
        ("vivit_large_factorized_encoder", {}, 995.3),
        ("vivit_large_factorized_encoder", {"frames": 128}, 3980.4),
        ("vivit_large_joint", dict(HUGE, tubelet=(2, 14, 14)), 3981),
    ],
)
def test_cost_is_the_published_one_within_one_percent(name, changes, giga):
    with torch.device("meta"):
        model = create_model(name, 400, **changes)
    assert model.count_macs() / 1e9 == pytest.approx(giga, rel=0.01)


@pytest.mark.parametrize("form", FORMS)
def test_cost_is_what_torch_counts(form):
    model = make_small(form)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(torch.randn(1, 3, 8, 32, 48))
    assert counter.get_total_flops() == 2 * count_macs(model.config)


def shuffle_tubelets(clips):
    """Move whole tubelets in time: pairs of frames keep together."""
    order = torch.tensor([4, 5, 0, 1, 6, 7, 2, 3])
    return clips[:, :, order]


def test_factorized_encoder_without_temporal_blocks_is_blind_to_order():
    model = make_small("factorized_encoder", temporal_depth=0)
    clips = torch.randn(2, 3, 8, 32, 48)
    torch.testing.assert_close(model(shuffle_tubelets(clips)), model(clips))


@pytest.mark.parametrize("position", ["learned", "sinusoidal_3d"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_sees_order_through_its_positions(form, position):
    model = make_small(form, position=position)
    clips = torch.randn(2, 3, 8, 32, 48)
    assert (model(shuffle_tubelets(clips)) - model(clips)).abs().max() > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_without_positions_no_form_sees_order(form):
    model = make_small(form, position="none")
    clips = torch.randn(2, 3, 8, 32, 48)
    torch.testing.assert_close(model(shuffle_tubelets(clips)), model(clips), atol=1e-5, rtol=1e-5)


def find_influence(form, **changes):
    """Which tubelets the token at the grid's origin depends on, after one block: a boolean (t, h, w) grid."""
    model = make_small(form, **{**SMALL, "depth": 1, **changes})
    clips = torch.randn(1, 3, 8, 32, 48, requires_grad=True)
    model.tokens(clips)[0, 0, 0, 0].square().sum().backward()
    return clips.grad.abs().unfold(2, 2, 2).unfold(3, 16, 16).unfold(4, 16, 16).sum(dim=(0, 1, 5, 6, 7)) > 0


def test_each_form_connects_the_tubelets_of_its_drawing():
    everything = torch.ones(4, 2, 3, dtype=torch.bool)
    same_moment = torch.zeros_like(everything)
    same_moment[0] = True
    same_place = torch.zeros_like(everything)
    same_place[:, 0, 0] = True
    assert torch.equal(find_influence("joint"), everything)
    assert torch.equal(find_influence("factorized_encoder"), same_moment)
    assert torch.equal(find_influence("factorized_attention"), everything)
    assert torch.equal(find_influence("factorized_dot_product"), same_moment | same_place)


def test_order_of_factorized_attention_changes_the_result():
    clips = torch.randn(1, 3, 8, 32, 48)
    first = make_small("factorized_attention")
    second = make_small("factorized_attention", order="time_space")
    second.load_state_dict(first.state_dict())
    assert (first(clips) - second(clips)).abs().max() > 1e-4


def test_uniform_frames_reads_only_the_chosen_frames():
    model = make_small("joint", tokenizer="uniform_frames")
    clips = torch.randn(1, 3, 8, 32, 48)
    chosen = plan_uniform_frames(8, 4)
    other = torch.randn_like(clips)
    other[:, :, chosen] = clips[:, :, chosen]
    assert torch.equal(model(other), model(clips))
    other[:, :, chosen[0]] += 1
    assert not torch.equal(model(other), model(clips))


@pytest.mark.parametrize(
    ("frames", "count", "chosen"),
    [
        (32, 8, [4, 7, 11, 14, 18, 21, 25, 28]),
        (8, 4, [2, 3, 5, 6]),
        (4, 1, [2]),
        (5, 1, [2]),
        (7, 1, [4]),
        (4, 4, [0, 1, 2, 3]),
    ],
)
def test_uniform_frames_round_halves_to_even(frames, count, chosen):
    assert plan_uniform_frames(frames, count) == chosen


def test_organ_model_drops_what_fills_no_tubelet():
    model = create_model("vivit_organ", 11).eval()
    nn.init.normal_(model.head.weight)
    volumes = torch.randn(1, 1, 28, 28, 28)
    assert model.tokens(volumes).shape == (1, 3, 3, 3, 128)
    other = volumes.clone()
    other[:, :, 24:], other[..., 24:, :], other[..., 24:] = 9, 9, 9
    assert torch.equal(model(other), model(volumes))


def test_official_start_scores_all_classes_alike():
    model = create_model("vivit_base_joint", 7, **SMALL)
    assert torch.equal(model(torch.randn(2, 3, 8, 32, 48)), torch.zeros(2, 7))
    assert not model.encoder.class_token.any()
    assert model.encoder.positions.grid.std().item() == pytest.approx(0.02, rel=0.1)
    bound = math.sqrt(6 / (2 * 48))
    qkv = model.encoder.blocks[0].attention.qkv.weight
    assert bound * 0.95 < qkv.abs().max().item() <= bound
    assert 0 < model.encoder.blocks[0].mlp.widen.bias.abs().max().item() < 1e-5


def test_drop_path_skips_whole_samples_and_rescales_nothing():
    model = create_model("vivit_base_joint", 7, **dict(SMALL, depth=3), drop_path=0.4)
    assert [block.drop_path.rate for block in model.encoder.blocks] == pytest.approx([0.0, 0.2, 0.4])
    torch.manual_seed(0)
    kept = model.encoder.blocks[2].drop_path(torch.ones(2000, 3, 4))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(kept.amin(dim=(1, 2)), kept.amax(dim=(1, 2)))
    assert kept.mean().item() == pytest.approx(0.6, abs=0.05)
    assert torch.equal(model.eval().encoder.blocks[2].drop_path(torch.ones(5, 3, 4)), torch.ones(5, 3, 4))


@pytest.mark.parametrize("key", ["dropout", "attention_dropout", "drop_path"])
@pytest.mark.parametrize("form", FORMS)
def test_every_dropout_acts_in_training_only(form, key):
    model = make_small(form, **{key: 0.5})
    clips = torch.randn(2, 3, 8, 32, 48)
    assert torch.equal(model(clips), model(clips))
    model.train()
    assert not torch.equal(model(clips), model(clips))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("vivit_base_joint", {"hieght": 32}, "did you mean 'height'"),
        ("vivit_base_joint", {"pooling": "tokens"}, "did you mean 'token'"),
        ("vivit_base_joint", {"dim": "wide"}, "must be of type int"),
        ("vivit_base_joint", {"depth": True}, "must be of type int"),
        ("vivit_base_joint", {"tubelet": (2, 16)}, "must be 3 values"),
        ("vivit_base_joint", {"tubelet": (2, 16, 0)}, "positive sizes"),
        ("vivit_base_joint", {"depth": 0}, "depth must be at least 1"),
        ("vivit_base_joint", {"dropout": 1.0}, "0 to below 1"),
        ("vivit_base_joint", {"frames": 33}, "frames=32"),
        ("vivit_base_joint", {"height": 230}, "height=224"),
        ("vivit_base_joint", {"width": 8}, "width=16"),
        ("vivit_base_joint", {"dim": 770}, "dim=768"),
        ("vivit_base_joint", {"heads": 5}, "dim=770"),
        ("vivit_base_joint", {"temporal_depth": 4}, "belongs to factorized_encoder"),
        ("vivit_base_joint", {"order": "time_space"}, "belongs to factorized_attention"),
        ("vivit_base_factorized_attention", {"pooling": "token"}, "needs a class token"),
        ("vivit_base_factorized_dot_product", {"heads": 3}, "even number of heads"),
        ("vivit_base_joint", {"dim": 64, "heads": 4, "position": "sinusoidal_3d"}, "dim=60 is"),
        ("vivit_organ", {"frames": 7}, "frames=8"),
    ],
)
def test_wrong_changes_are_refused_with_a_remedy(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        create_model(name, 5, **changes)


def test_every_size_comes_in_every_form():
    sizes = ("nano", "tiny", "small", "base", "large")
    expected = [f"vivit_{size}_{form}" for size in sizes for form in FORMS] + ["vivit_organ"]
    assert list_models("vivit_*") == expected
    assert all(isinstance(find_card(name).config, ViViTConfig) for name in expected)
