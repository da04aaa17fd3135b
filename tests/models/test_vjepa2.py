"""V-JEPA 2: published counts and costs, transformers' logits, positions by a formula of its own, weights and errors."""

import math
import re

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tubelet.errors import CheckpointError, ConfigError
from tubelet.models import create_model, find_card, load_weights
from tubelet.models.vjepa2 import make_rotation, rotate
from tubelet.models.vjepa2_config import (
    count_encoder_macs,
    count_encoder_parameters,
    count_macs,
    count_parameters,
    count_pooler_parameters,
)
from tubelet.models.weights.vjepa2 import plan_changes
from tubelet.shapes import Size3

SMALL = {
    "frames": 4,
    "height": 32,
    "width": 48,
    "dim": 48,
    "depth": 2,
    "heads": 4,
    "mlp_dim": 96,
    "pooler_depth": 2,
    "pooler_heads": 3,
    "pooler_mlp_dim": 64,
}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def shake(model, std=0.1):
    """Move every weight, so that nothing is at its special start."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * std)
    return model.eval()


def make_small(**changes):
    torch.manual_seed(0)
    return shake(create_model("vjepa2_large", 7, **{**SMALL, **changes}))


@pytest.mark.parametrize(
    ("size", "encoder", "pooler"),
    [
        ("large", 303_885_312, 49_336_320),
        ("huge", 631_648_000, 77_071_360),
        ("giant", 1_012_173_952, 93_249_024),
        ("giant_384", 1_012_173_952, 93_249_024),
    ],
)
def test_parameter_counts_are_the_published_ones(size, encoder, pooler):
    with torch.device("meta"):
        model = create_model(f"vjepa2_{size}", 174)
    assert (count(model.encoder), count(model.pooler)) == (encoder, pooler)


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("size", ["giant", "nano"])
def test_closed_form_counts_the_parameters(size, qkv_bias):
    with torch.device("meta"):
        model = create_model(f"vjepa2_{size}", 13, channels=1, qkv_bias=qkv_bias, mlp_dim=100, pooler_mlp_dim=33)
    assert count_encoder_parameters(model.config) == count(model.encoder)
    assert count_pooler_parameters(model.config) == count(model.pooler)
    assert count_parameters(model.config) == count(model)


@pytest.mark.parametrize(
    ("size", "frames", "giga"),
    [("large", 64, 5785), ("large", 16, 828), ("huge", 64, 10_668), ("giant", 64, 15_845), ("giant_384", 64, 56_911)],
)
def test_cost_of_the_encoder_is_the_published_one_within_one_percent(size, frames, giga):
    with torch.device("meta"):
        model = create_model(f"vjepa2_{size}", 174, frames=frames)
    assert count_encoder_macs(model.config) / 1e9 == pytest.approx(giga, rel=0.01)


def test_cost_is_what_torch_counts():
    model = make_small()
    clips = torch.randn(1, 3, 4, 32, 48)
    for run, counted in ((model.tokens, count_encoder_macs(model.config)), (model, model.count_macs())):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            run(clips)
        assert counter.get_total_flops() == 2 * counted
    assert model.count_macs() == count_macs(model.config)


def test_the_nano_model_is_small():
    assert find_card("vjepa2_nano").parameters <= 600_000


# frames, side, tubelet, patch, dim, heads, depth, mlp_ratio, bias of query, key and value, probe's blocks, channels
SHAPES = {
    "even": (8, 64, 2, 16, 64, 2, 2, 4.0, True, 3, 3),
    "odd": (9, 35, 3, 5, 105, 7, 3, 48 / 11, False, 2, 3),  # heads of 15: 4 of each axis, 3 left
    "huge_heads": (6, 48, 2, 16, 160, 2, 2, 2.5, True, 1, 1),  # heads of 80: 26 of each axis, 2 left
    "none_left": (5, 27, 1, 9, 72, 3, 2, 1.7, False, 1, 2),  # heads of 24: 8 of each axis
    "one_head": (2, 33, 2, 11, 13, 1, 4, 3.0, True, 3, 3),  # 13: 4 of each axis, 1 left
    "one_moment": (4, 40, 4, 8, 33, 3, 1, 0.9, True, 0, 3),  # heads of 11: 2 of each axis, 5 left
    "giant_heads": (4, 32, 2, 8, 352, 11, 2, 48 / 11, True, 1, 3),  # heads of 32: 10 of each axis, 2 left
}


def make_other(shape, **changes):
    """A model of transformers with random weights; its predictor, which no classifier uses, is kept small."""
    transformers = pytest.importorskip("transformers", reason="the dev extra installs transformers")
    frames, side, tubelet, patch, dim, heads, depth, ratio, bias, pooler_depth, channels = SHAPES[shape]
    settings = {
        "frames_per_clip": frames,
        "crop_size": side,
        "tubelet_size": tubelet,
        "patch_size": patch,
        "hidden_size": dim,
        "num_attention_heads": heads,
        "num_hidden_layers": depth,
        "mlp_ratio": ratio,
        "qkv_bias": bias,
        "num_pooler_layers": pooler_depth,
        "in_chans": channels,
        "pred_hidden_size": 12,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
        "num_labels": 7,
    }
    torch.manual_seed(0)
    config = transformers.VJEPA2Config(**{**settings, **changes})
    return shake(transformers.VJEPA2ForVideoClassification(config), std=0.8 * dim**-0.5)


def make_pair(shape, **changes):
    """A model of transformers with random weights, and ours with the same."""
    other = make_other(shape)
    model = create_model("vjepa2_large", 7, **plan_changes(other.config.to_dict()), **changes)
    load_weights(model, other.state_dict())
    return model.eval(), other


def make_clips(model, **sizes):
    config = model.config
    size = [sizes.get(key, getattr(config, key)) for key in ("channels", "frames", "height", "width")]
    return torch.randn(2, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_and_tokens_are_those_of_transformers(shape):
    model, other = make_pair(shape)
    clips = make_clips(model)
    with torch.no_grad():
        expected = other(clips.transpose(1, 2), output_hidden_states=True)
        tokens = other.vjepa2(clips.transpose(1, 2), skip_predictor=True).last_hidden_state
        assert expected.logits.std() > 0.1
        torch.testing.assert_close(model.tokens(clips).flatten(1, 3), tokens, atol=1e-5, rtol=0)
        torch.testing.assert_close(model(clips), expected.logits, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_other_square_sizes_and_lengths_are_those_of_transformers_made_for_them():
    model, other = make_pair("odd")
    for frames, side in ((3, 35), (15, 20), (6, 55)):
        resized = make_other("odd", frames_per_clip=frames, crop_size=side)
        resized.load_state_dict(other.state_dict())
        clips = make_clips(model, frames=frames, height=side, width=side)
        with torch.no_grad():
            expected = resized(clips.transpose(1, 2)).logits
            torch.testing.assert_close(model(clips), expected, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("height", "width"), [(20, 35), (35, 15), (5, 30)])
def test_sizes_that_are_not_square_are_those_of_transformers_told_the_places(height, width):
    """transformers takes places from its square crop; given the places in a crop as wide as the clip, it is right."""
    model, other = make_pair("odd")
    clips = make_clips(model, height=height, width=width)
    t, h, w = model.config.plan_grid(9, height, width)
    side = SHAPES["odd"][1] // SHAPES["odd"][3]
    place = [time * side**2 + row * side + column for time in range(t) for row in range(h) for column in range(w)]
    encoder = other.vjepa2.encoder
    with torch.no_grad():
        rows = encoder.embeddings(clips.transpose(1, 2))
        for layer in encoder.layer:
            rows = layer(rows, torch.tensor(place).expand(2, -1))[0]
        expected = other.classifier(other.pooler(encoder.layernorm(rows)))
        torch.testing.assert_close(model(clips), expected, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_the_probe_may_have_other_heads_than_the_encoder():
    model, other = make_pair("huge_heads")
    for module in other.pooler.modules():
        if hasattr(module, "num_heads"):
            module.num_heads, module.head_dim, module.scale = 5, 32, 32**-0.5
    probe = create_model(**{**model.config.to_dict(), "pooler_heads": 5}).eval()
    probe.load_state_dict(model.state_dict())
    clips = make_clips(model)
    with torch.no_grad():
        expected = other(clips.transpose(1, 2)).logits
        torch.testing.assert_close(probe(clips), expected, atol=1e-5, rtol=0)
        assert not torch.allclose(model(clips), expected, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_training_drops_the_branches_that_transformers_drops():
    model, other = make_pair("odd", drop_path=0.6)
    layers = other.vjepa2.encoder.layer
    drop_path = type(make_other("odd", drop_path_rate=0.5).vjepa2.encoder.layer[0].drop_path)
    for layer, rate in zip(layers, (0.0, 0.3, 0.6), strict=True):
        layer.drop_path = drop_path(rate)
    clips = make_clips(model)
    with torch.no_grad():
        torch.manual_seed(1)
        expected = other.train()(clips.transpose(1, 2)).logits
        torch.manual_seed(1)
        found = model.train()(clips)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(model.eval()(clips), expected, atol=1e-3)


def turn_slowly(vector, place, head_dim):
    """Turn one vector by its place on three axes, number by number."""
    share = 2 * ((head_dim // 3) // 2)
    turned = list(vector)
    for axis in range(3):
        for number in range(share):
            angle = place[axis] * 10_000 ** (-2 * (number % (share // 2)) / share)
            own = vector[axis * share + number]
            neighbor = vector[axis * share + (number + 1 if number % 2 == 0 else number - 1)]
            sign = -1 if number % 2 == 0 else 1
            turned[axis * share + number] = own * math.cos(angle) + sign * neighbor * math.sin(angle)
    return turned


@pytest.mark.parametrize("head_dim", [6, 11, 13, 20, 24, 64])
def test_positions_are_those_of_a_slow_formula(head_dim):
    size = Size3(3, 2, 4)
    vectors = torch.randn(24, head_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = rotate(vectors, make_rotation(size, head_dim, vectors))
    places = [(time, row, column) for time in range(3) for row in range(2) for column in range(4)]
    expected = [turn_slowly(vector, place, head_dim) for vector, place in zip(vectors.tolist(), places, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0)
    assert torch.equal(found[0], vectors[0])


def test_angles_are_exact_whatever_the_precision_of_the_model():
    exact = make_rotation(Size3(40, 3, 3), 64, torch.zeros((), dtype=torch.float64))
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        found = make_rotation(Size3(40, 3, 3), 64, torch.zeros((), dtype=dtype))
        assert found.dtype == torch.float32
        assert (found - exact).abs().max() < 1e-5


@pytest.mark.parametrize("axis", ["time", "height", "width"])
def test_places_matter_along_every_axis_and_only_through_the_rotation(axis):
    model = make_small()
    # Whole tubelets change places, so that without positions the probe could not tell.
    tokens = {"time": (2, 4, 2), "height": (3, 32, 16), "width": (4, 48, 16)}[axis]
    dim, length, step = tokens
    order = [index for start in reversed(range(0, length, step)) for index in range(start, start + step)]
    clips = torch.randn(2, 3, 4, 32, 48)
    with torch.no_grad():
        moved = clips.index_select(dim, torch.tensor(order))
        assert (model(moved) - model(clips)).abs().max() > 1e-3
        for block in model.encoder.blocks:
            block.attend = lambda rows, _, attention=block.attention: attention(rows)
        torch.testing.assert_close(model(moved), model(clips), atol=1e-5, rtol=1e-5)


def test_attention_weights_are_dropped_in_training_alone():
    model = make_small(attention_dropout=0.5)
    clips = make_clips(model)
    with torch.no_grad():
        tokens, logits = model.tokens(clips), model(clips)
        assert torch.equal(model.tokens(clips), tokens)
        model.encoder.train()
        assert not torch.allclose(model.tokens(clips), tokens, atol=1e-3)
        model.encoder.eval()
        model.pooler.cross.train()
        assert not torch.allclose(model(clips), logits, atol=1e-3)


def test_deeper_blocks_start_smaller_as_in_the_official_code():
    torch.manual_seed(0)
    model = create_model("vjepa2_large", 7, **{**SMALL, "dim": 96, "depth": 4, "mlp_dim": 192})
    for blocks in (model.encoder.blocks, model.pooler.blocks):
        for depth, block in enumerate(blocks, start=1):
            for layer in (block.attention.out, block.mlp.narrow):
                assert layer.weight.std().item() == pytest.approx(0.02 / math.sqrt(2 * depth), rel=0.05)
            assert block.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.pooler.mlp.narrow.weight.std().item() == pytest.approx(0.02 / math.sqrt(4), rel=0.05)
    assert model.pooler.query.std().item() == pytest.approx(0.02, rel=0.3)
    assert not model.head.weight.any()


def rename_to_official(state):
    """Write transformers' names as the official files have them: encoder and probe with their prefixes."""
    renames = (
        (r"vjepa2\.encoder\.embeddings\.patch_embeddings\.", "module.backbone.patch_embed."),
        (r"vjepa2\.encoder\.layer\.(\d+)\.attention\.", r"module.backbone.blocks.\1.attn."),
        (r"vjepa2\.encoder\.layer\.", "module.backbone.blocks."),
        (r"vjepa2\.encoder\.layernorm\.", "module.backbone.norm."),
        (r"pooler\.cross_attention_layer\.cross_attn\.", "module.pooler.cross_attention_block.xattn."),
        (r"pooler\.cross_attention_layer\.layer_norm", "module.pooler.cross_attention_block.norm"),
        (r"pooler\.cross_attention_layer\.", "module.pooler.cross_attention_block."),
        (r"pooler\.self_attention_layers\.(\d+)\.self_attn\.", r"module.pooler.blocks.\1.attn."),
        (r"pooler\.self_attention_layers\.(\d+)\.layer_norm", r"module.pooler.blocks.\1.norm"),
        (r"pooler\.self_attention_layers\.", "module.pooler.blocks."),
        (r"pooler\.query_tokens", "module.pooler.query_tokens"),
        (r"classifier\.", "module.linear."),
    )
    named = {}
    for key, value in state.items():
        if "predictor" not in key:
            pattern, official = next(pair for pair in renames if re.match(pair[0], key))
            named[re.sub(pattern, official, key).replace("out_proj", "proj")] = value
    official = {}
    for key, value in named.items():
        match = re.fullmatch(r"(.*)\.(query|q_proj|k_proj|key|v_proj|value)\.(weight|bias)", key)
        if not match:
            official[key] = value
            continue
        stem, part, ending = match.groups()
        if "xattn" in stem and part == "q_proj":
            official[f"{stem}.q.{ending}"] = value
            continue
        name = "kv" if "xattn" in stem else "qkv"
        letters = ("query", "key", "value") if part in ("query", "key", "value") else ("q_proj", "k_proj", "v_proj")
        parts = letters[1:] if name == "kv" else letters
        official[f"{stem}.{name}.{ending}"] = torch.cat([named[f"{stem}.{one}.{ending}"] for one in parts])
    return official


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", ["even", "odd"])
def test_official_names_give_the_same_weights(shape):
    model, other = make_pair(shape)
    official = rename_to_official(other.state_dict())
    changes = model.config.to_dict()
    fresh = create_model(changes.pop("name"), changes.pop("num_classes"), **changes)
    # In two files, as published.
    parts = [{key: value for key, value in official.items() if ("backbone" in key) == own} for own in (True, False)]
    reports = [load_weights(fresh, part) for part in parts]
    assert [{key.split(".")[0] for key in report.fresh} for report in reports] == [{"pooler", "head"}, {"encoder"}]
    found = fresh.state_dict()
    assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_an_encoder_without_a_probe_is_taken():
    transformers = pytest.importorskip("transformers", reason="the dev extra installs transformers")
    other = make_other("even")
    bare = transformers.VJEPA2Model(other.config)
    bare.load_state_dict(other.vjepa2.state_dict())
    model = create_model("vjepa2_large", 7, **plan_changes(other.config.to_dict()))
    report = load_weights(model, bare.state_dict())
    assert all(key.startswith("vjepa2.predictor.") for key in report.unused)
    assert {key.split(".")[0] for key in report.fresh} == {"pooler", "head"}
    clips = make_clips(model)
    with torch.no_grad():
        expected = other.vjepa2(clips.transpose(1, 2), skip_predictor=True).last_hidden_state
        torch.testing.assert_close(model.eval().tokens(clips).flatten(1, 3), expected, atol=1e-5, rtol=0)


def test_strange_and_missing_weights_are_refused():
    model = make_small()
    kernel = torch.zeros(2, 3, *model.config.tubelet)
    sign = {"vjepa2.encoder.embeddings.patch_embeddings.proj.weight": kernel}
    with pytest.raises(CheckpointError, match=r"no weight 'vjepa2\.encoder\.layer\.0\.norm3\.weight'"):
        load_weights(model, {**sign, "vjepa2.encoder.layer.0.norm3.weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"the official V-JEPA 2 encoder has no weight 'pos_embed'"):
        load_weights(
            model,
            {"module.backbone.blocks.0.attn.qkv.weight": torch.zeros(2), "module.backbone.pos_embed": torch.zeros(2)},
        )
    key = "vjepa2.encoder.layer.3.attention.query.weight"
    with pytest.raises(CheckpointError, match=r"vjepa2\.encoder\.layer\.3\.attention\.key\.weight' - the second"):
        load_weights(model, {**sign, key: torch.zeros(2, 2)})


def test_a_folder_that_states_nothing_is_the_large_size():
    transformers = pytest.importorskip("transformers", reason="the dev extra installs transformers")
    expected = find_card("vjepa2_large").config.to_dict()
    for config in ({}, transformers.VJEPA2Config().to_dict()):
        changes = plan_changes(config)
        assert {**changes, "tubelet": list(changes["tubelet"])} == {
            **{key: expected[key] for key in changes},
            "pooler_eps": 1e-6,
        }


def test_a_folder_of_the_giant_size_is_read():
    config = {"hidden_size": 1408, "num_attention_heads": 22, "num_hidden_layers": 40, "mlp_ratio": 48 / 11}
    changes = plan_changes({**config, "crop_size": 384, "patch_size": [16, 16]})
    with torch.device("meta"):
        model = create_model("vjepa2_giant_384", 174, **changes)
    assert count(model.encoder) == 1_012_173_952
    assert (model.config.height, model.config.tubelet, model.config.pooler_heads) == (384, (2, 16, 16), 22)


def test_other_activations_are_refused():
    with pytest.raises(ConfigError, match=r"hidden_act must be one of gelu.* found silu"):
        plan_changes({"hidden_act": "silu"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 100}, r"dim must be a multiple of heads - found dim=100, heads=16 - dim=96"),
        ({"pooler_heads": 24}, r"dim must be a multiple of pooler_heads - found dim=1024, pooler_heads=24 - dim=1032"),
        ({"dim": 64}, r"at least 6 numbers.*found dim=64, heads=16, 4 for each head - dim=96"),
        ({"tubelet": (0, 16, 16)}, r"tubelet must hold positive sizes - found \(0, 16, 16\)"),
        ({"frames": 63}, r"found frames=63, no multiple of 2 - the nearest that fit: frames=62 or 64"),
        ({"drop_path": 1.0}, r"drop_path must lie in 0 to below 1 - found 1.0"),
        ({"pooler_eps": 0.0}, r"pooler_eps must be positive - found 0.0"),
        ({"pooler_depth": -1}, r"pooler_depth must be at least 0 - found -1"),
        ({"pooler_mlp_dim": 0}, r"pooler_mlp_dim must be at least 1 - found 0"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(changes, message):
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        create_model("vjepa2_large", 7, **changes)


def test_the_dimensions_that_errors_offer_are_taken():
    for changes in ({"dim": 96, "pooler_heads": 16}, {"dim": 1032, "pooler_heads": 24, "heads": 24}, {"frames": 64}):
        with torch.device("meta"):
            assert create_model("vjepa2_large", 7, **changes)
