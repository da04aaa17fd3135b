"""TimeSformer: published counts and costs, transformers' logits, who sees what, and the start."""

import importlib
import itertools

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tubelet.errors import CheckpointError, ConfigError
from tubelet.models import create_model, find_card, list_models, load_weights
from tubelet.models.timesformer_blocks import cut_strided, cut_windows
from tubelet.models.timesformer_config import FORMS, STEPS, count_macs, count_parameters
from tubelet.models.weights.timesformer import describe, plan_changes
from tubelet.shapes import Size3

SMALL = {"frames": 4, "height": 32, "width": 48, "dim": 48, "depth": 2, "heads": 4, "mlp_dim": 96}
SIZES = ("nano", "base", "hr", "large")


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def shake(model, std=0.1):
    """Move every weight, so that nothing is at its special start."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * std)
    return model.eval()


def make_small(form, num_classes=7, **changes):
    torch.manual_seed(0)
    return shake(create_model(f"timesformer_base_{form}", num_classes, **{**SMALL, **changes}))


PUBLISHED = [
    ("timesformer_base_divided", 400, {}, 121_566_352),
    ("timesformer_base_divided", 101, {}, 121_336_421),
    ("timesformer_base_divided", 174, {}, 121_392_558),
    ("timesformer_base_divided", 600, {}, 121_720_152),
    ("timesformer_base_joint", 400, {}, 86_112_400),
    ("timesformer_base_space_only", 400, {}, 86_106_256),
    ("timesformer_hr_divided", 400, {}, 122_024_080),
    ("timesformer_large_divided", 400, {}, 121_633_936),
    ("timesformer_large_divided", 174, {"frames": 64}, 121_435_566),
    # The paper says 121.4M and 156.8M of these two; each step more is 5 * 768**2 + 7 * 768 parameters in 12 blocks.
    ("timesformer_base_local_global", 174, {}, 121_392_558),
    ("timesformer_base_axial", 174, {}, 156_846_510),
    ("timesformer_base_axial", 400, {}, 86_112_400 + 2 * 12 * (5 * 768**2 + 7 * 768)),
]


@pytest.mark.parametrize(("name", "num_classes", "changes", "parameters"), PUBLISHED)
def test_parameter_count_is_the_published_one(name, num_classes, changes, parameters):
    with torch.device("meta"):
        model = create_model(name, num_classes, **changes)
    assert count(model) == parameters


@pytest.mark.parametrize("name", [f"timesformer_{size}_{form}" for size in SIZES for form in FORMS])
def test_closed_form_counts_the_parameters_of_every_size(name):
    with torch.device("meta"):
        model = create_model(name, 13, channels=1, qkv_bias=False)
    assert count_parameters(model.config) == count(model)


@pytest.mark.parametrize(
    ("name", "giga"),
    [
        ("timesformer_base_divided", 196),
        ("timesformer_base_divided", 590 / 3),
        ("timesformer_base_joint", 180),
        ("timesformer_base_space_only", 141),
        ("timesformer_hr_divided", 5110 / 3),
        ("timesformer_large_divided", 7140 / 3),
    ],
)
def test_cost_is_the_published_one_within_one_percent(name, giga):
    with torch.device("meta"):
        model = create_model(name, 400)
    assert model.count_macs() / 1e9 == pytest.approx(giga, rel=0.01)


@pytest.mark.parametrize("form", FORMS)
def test_cost_is_what_torch_counts(form):
    model = make_small(form)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(torch.randn(1, 3, 4, 32, 48))
    assert counter.get_total_flops() == 2 * count_macs(model.config)


@pytest.mark.slow
def test_nano_models_are_small():
    assert all(find_card(f"timesformer_nano_{form}").parameters <= 750_000 for form in FORMS)


# frames, side, patch, dim, heads, depth, mlp_dim, bias of query, key and value, channels
SHAPES = {
    "even": (8, 32, 16, 48, 4, 2, 96, True, 3),
    "odd": (5, 48, 16, 60, 5, 3, 100, False, 3),
    "gray": (3, 40, 8, 64, 2, 2, 256, True, 1),
    "one_frame": (1, 35, 5, 36, 12, 2, 72, False, 3),
    "one_head": (7, 27, 9, 24, 1, 4, 33, True, 2),
}
ATTENTION = {"divided": "divided_space_time", "joint": "joint_space_time", "space_only": "space_only"}


def make_pair(form, shape, drop_path=0.0):
    """A model of transformers with random weights, and ours with the same."""
    transformers = pytest.importorskip("transformers", reason="the dev extra installs transformers")
    frames, side, patch, dim, heads, depth, mlp_dim, bias, channels = SHAPES[shape]
    torch.manual_seed(0)
    config = transformers.TimesformerConfig(
        num_frames=frames,
        image_size=side,
        patch_size=patch,
        num_channels=channels,
        hidden_size=dim,
        num_attention_heads=heads,
        num_hidden_layers=depth,
        intermediate_size=mlp_dim,
        qkv_bias=bias,
        attention_type=ATTENTION[form],
        num_labels=7,
    )
    other = shake(transformers.TimesformerForVideoClassification(config))
    model = create_model(
        f"timesformer_base_{form}",
        7,
        **{**plan_changes(config.to_dict()), "drop_path": drop_path, "stretch": "nearest"},
    )
    load_weights(model, other.state_dict())
    return model.eval(), other


def compare(model, other, **sizes):
    config = model.config
    size = [sizes.get(key, getattr(config, key)) for key in ("channels", "frames", "height", "width")]
    clips = torch.randn(2, *size)
    with torch.no_grad():
        torch.manual_seed(1)
        expected = other(clips.transpose(1, 2)).logits
        torch.manual_seed(1)
        found = model(clips)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["divided", "joint"])
@pytest.mark.slow
def test_logits_are_those_of_transformers(form, shape):
    compare(*make_pair(form, shape))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["divided", "joint"])
@pytest.mark.slow
def test_training_drops_the_rows_that_transformers_drops(form):
    # Set on its layers, since its configuration takes whole numbers only.
    model, other = make_pair(form, "odd", drop_path=0.6)
    drop_path = importlib.import_module("transformers.models.timesformer.modeling_timesformer").TimesformerDropPath
    for layer, rate in zip(other.timesformer.encoder.layer, (0.0, 0.3, 0.6), strict=True):
        layer.drop_path = drop_path(rate) if rate else layer.drop_path
    compare(model.train(), other.train())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_nearest_positions_are_those_of_transformers_at_other_sizes():
    # Of the divided form transformers takes other heights alone.
    model, other = make_pair("divided", "odd")
    compare(model, other, height=80)
    model, other = make_pair("joint", "odd")
    compare(model, other, height=32, width=80)
    compare(model, other, frames=8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", ["even", "odd"])
@pytest.mark.slow
def test_space_only_averages_the_class_tokens_of_transformers(shape):
    model, other = make_pair("space_only", shape)
    frames, side, channels = model.config.frames, model.config.height, model.config.channels
    clips = torch.randn(2, channels, frames, side, side)
    with torch.no_grad():
        hidden = other.timesformer(clips.transpose(1, 2), output_hidden_states=True).hidden_states[-1]
        mean = hidden[:, 0].unflatten(0, (2, frames)).mean(dim=1)
        expected = other.classifier(other.timesformer.layernorm(mean))
        torch.testing.assert_close(model(clips), expected, atol=1e-5, rtol=0)


def normalize(vectors, norm):
    centered = vectors - vectors.mean(dim=-1, keepdim=True)
    return centered / (centered.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * norm.weight + norm.bias


def attend(attention, vectors):
    """Plain attention among the rows of a matrix, one head after the other."""
    query, key, value = (normalize(vectors, attention.norm) @ attention.qkv.weight.T + attention.qkv.bias).split(
        vectors.shape[1], dim=1
    )
    size = vectors.shape[1] // attention.heads
    mixed = []
    for head in range(attention.heads):
        own = slice(head * size, (head + 1) * size)
        scores = (query[:, own] @ key[:, own].T / size**0.5).exp()
        mixed.append(scores / scores.sum(dim=1, keepdim=True) @ value[:, own])
    return torch.cat(mixed, dim=1) @ attention.out.weight.T + attention.out.bias


def think(mlp, vectors):
    hidden = normalize(vectors, mlp.norm) @ mlp.widen.weight.T + mlp.widen.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return hidden @ mlp.narrow.weight.T + mlp.narrow.bias


def run_image_transformer(model, picture):
    """The class token of one frame after all blocks, by the formulas of an image transformer."""
    side = model.config.patch
    patches = [
        picture[:, y : y + side, x : x + side].flatten()
        for y in range(0, picture.shape[1], side)
        for x in range(0, picture.shape[2], side)
    ]
    vectors = torch.stack(patches) @ model.embedding.project.weight.T + model.embedding.project.bias
    vectors = vectors + model.places.grid.flatten(0, 2)
    vectors = torch.cat([(model.class_token + model.places.token)[None], vectors])
    for block in model.blocks:
        vectors = vectors + attend(block.space if model.config.form == "divided" else block.attention, vectors)
        vectors = vectors + think(block.mlp, vectors)
    return vectors[0]


def score(model, token):
    return model.head.weight @ normalize(token, model.norm) + model.head.bias


def list_seen(step, place, size):
    """The places that a patch sees in a step, its own among them."""
    t, h, w = place
    high, wide = (size[1] + 1) // 2, (size[2] + 1) // 2

    def sees(other):
        u, y, x = other
        return {
            "time": (y, x) == (h, w),
            "space": u == t,
            "width": (u, y) == (t, h),
            "height": (u, x) == (t, w),
            "local": (y < high) == (h < high) and (x < wide) == (w < wide),
            "strided": (u - t) % 2 == (y - h) % 2 == (x - w) % 2 == 0,
        }[step]

    return tuple(other for other in itertools.product(*map(range, size)) if sees(other))


def run_block(block, steps, token, grid):
    """One block patch by patch: for each the attention among what it sees."""
    for step in steps:
        attention, is_last = block.get_submodule(step), step == steps[-1]
        branch, told = torch.zeros_like(grid), {}
        for place in itertools.product(*map(range, grid.shape[:3])):
            seen = list_seen(step, place, grid.shape[:3])
            found = attend(attention, torch.stack([token] * is_last + [grid[other] for other in seen]))
            branch[place] = found[is_last + seen.index(place)]
            told[seen] = found[0]
        if not is_last:
            project = block.get_submodule(f"{step}_project")
            branch = branch @ project.weight.T + project.bias
        grid = grid + branch
    token = token + torch.stack(list(told.values())).mean(dim=0)
    thought = think(block.mlp, grid.flatten(0, 2)).unflatten(0, grid.shape[:3])
    return token + think(block.mlp, token[None])[0], grid + thought


@pytest.mark.parametrize("size", [(2, 4, 4), (3, 5, 2), (1, 3, 1)])
@pytest.mark.parametrize("form", STEPS)
def test_a_block_of_several_steps_is_what_its_formula_says_patch_by_patch(form, size):
    block = make_small(form).double().blocks[1]
    token, grid = torch.randn(2, 48, dtype=torch.float64), torch.randn(2, *size, 48, dtype=torch.float64)
    with torch.no_grad():
        found = block(torch.cat([token[:, None], grid.flatten(1, 3)], dim=1), Size3(*size))
        for index in range(2):
            expected_token, expected = run_block(block, STEPS[form], token[index], grid[index])
            torch.testing.assert_close(found[index, 0], expected_token, atol=1e-10, rtol=1e-10)
            torch.testing.assert_close(found[index, 1:], expected.flatten(0, 2), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("cut", [cut_windows, cut_strided])
def test_pieces_hold_each_patch_once_and_are_equal_where_all_axes_are_even(cut):
    for size in itertools.product([1, 2, 5, 8], repeat=3):
        counts, lengths = torch.zeros(size), set()
        for piece in cut(Size3(*size)):
            counts[piece] += 1
            lengths.add(counts[piece].numel())
        assert counts.eq(1).all(), size
        assert all(lengths), size
        if not any(side % 2 for side in size):
            assert lengths == {size[0] * size[1] * size[2] // (4 if cut is cut_windows else 8)}


def test_transformers_has_no_such_forms_and_the_refusal_says_which_it_has():
    for form in ("local_global", "axial"):
        config = find_card(f"timesformer_nano_{form}").config
        with pytest.raises(ConfigError, match=rf"no form {form} - .*; it has divided, joint, space_only - keep"):
            describe(config)
        model = create_model(f"timesformer_nano_{form}", 5)
        with pytest.raises(CheckpointError, match="transformers' TimeSformer - choose the model that they belong to"):
            load_weights(model, {"timesformer.embeddings.cls_token": torch.zeros(1, 1, 96)})
        with pytest.raises(CheckpointError, match=r"has no weight 'time_embed'.*which architecture it is of"):
            load_weights(model, {"time_embed": torch.zeros(1, 8, 96), "pos_embed": torch.zeros(1, 37, 96)})


def test_space_only_is_an_image_transformer_averaged_over_frames():
    model = make_small("space_only").double()
    clips = torch.randn(2, 3, 4, 32, 48, dtype=torch.float64)
    with torch.no_grad():
        means = [torch.stack([run_image_transformer(model, f) for f in clip.unbind(1)]).mean(dim=0) for clip in clips]
        expected = torch.stack([score(model, mean) for mean in means])
        torch.testing.assert_close(model(clips), expected, atol=1e-10, rtol=1e-10)


def reset_time(model):
    """Put what mixes over time back to its start."""
    with torch.no_grad():
        model.moments.grid.zero_()
        for block in model.blocks:
            block.time_project.weight.zero_()
            block.time_project.bias.zero_()
    return model


def test_divided_form_starts_as_its_image_model():
    fresh = create_model("timesformer_base_divided", 7, **SMALL)
    started = [fresh.moments.grid, *(p for block in fresh.blocks for p in block.time_project.parameters())]
    assert not any(parameter.any() for parameter in started)
    model = reset_time(make_small("divided")).double()
    picture = torch.randn(3, 32, 48, dtype=torch.float64)
    still = picture[None, :, None].repeat(1, 1, 4, 1, 1)
    with torch.no_grad():
        expected = score(model, run_image_transformer(model, picture))
        torch.testing.assert_close(model(still)[0], expected, atol=1e-10, rtol=1e-10)
        model.blocks[0].time_project.bias += torch.randn(48) * 0.1
        assert (model(still)[0] - expected).abs().max() > 1e-3


def test_models_made_for_scratch_start_with_time():
    model = create_model("timesformer_nano_divided", 7)
    assert model.moments.grid.std().item() == pytest.approx(0.5, rel=0.2)
    assert all(block.time_project.weight.any() for block in model.blocks)
    clips = torch.randn(1, 3, 16, 48, 48)
    assert (model.features(clips.flip(2)) - model.features(clips)).abs().max() > 1e-3


def test_attention_over_time_learns_from_its_zero_start():
    torch.manual_seed(0)
    model = create_model("timesformer_base_divided", 2, **SMALL)
    torch.nn.init.normal_(model.head.weight)
    clips, labels = torch.randn(2, 3, 4, 32, 48), torch.tensor([0, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(clips), labels).backward()
        optimizer.step()
    timed = {name: value.grad for name, value in model.named_parameters() if ".time." in name or "moments" in name}
    assert len(timed) == 2 * 6 + 1
    assert [name for name, gradient in timed.items() if not gradient.any()] == []
    assert all(block.time_project.weight.any() for block in model.blocks)


def shuffle(clips):
    return clips[:, :, [2, 0, 3, 1]]


# Local and global attention tells even times from odd ones by itself.
@pytest.mark.parametrize("form", ["divided", "joint", "axial"])
def test_order_is_seen_through_the_positions_in_time_alone(form):
    model = make_small(form)
    clips = torch.randn(2, 3, 4, 32, 48)
    with torch.no_grad():
        assert (model(shuffle(clips)) - model(clips)).abs().max() > 1e-3
        model.moments.grid.zero_()
        torch.testing.assert_close(model(shuffle(clips)), model(clips), atol=1e-5, rtol=1e-5)


def test_space_only_is_blind_to_order():
    model = make_small("space_only")
    clips = torch.randn(2, 3, 4, 32, 48)
    torch.testing.assert_close(model(shuffle(clips)), model(clips), atol=1e-5, rtol=1e-5)


def find_influence(model, height=32, width=48):
    """Which patches the token at the grid's origin depends on: a boolean (t, h, w) grid."""
    clips = torch.randn(1, 3, 4, height, width, requires_grad=True)
    model.tokens(clips)[0, 0, 0, 0].square().sum().backward()
    return clips.grad.abs().unfold(3, 16, 16).unfold(4, 16, 16).sum(dim=(0, 1, 5, 6)) > 0


def test_each_form_connects_the_patches_of_its_drawing():
    everything = torch.ones(4, 2, 3, dtype=torch.bool)
    same_moment = torch.zeros_like(everything)
    same_moment[0] = True
    assert torch.equal(find_influence(make_small("divided", depth=1)), everything)
    assert torch.equal(find_influence(reset_time(make_small("divided", depth=1))), same_moment)
    assert torch.equal(find_influence(make_small("joint", depth=1)), everything)
    assert torch.equal(find_influence(make_small("space_only", depth=2)), same_moment)
    assert torch.equal(find_influence(make_small("axial", depth=1)), everything)
    # From four patches a side on: every window holds one of every second patch.
    assert find_influence(make_small("local_global", depth=1), 64, 80).all()


@pytest.mark.parametrize("stretch", ["linear", "nearest"])
def test_positions_are_stretched_along_each_axis_by_itself(stretch):
    model = make_small("divided", stretch=stretch)
    with torch.no_grad():
        zero = model.embedding.project(torch.zeros(3 * 16 * 16))
        model.moments.grid[:] = torch.arange(4.0)[:, None, None, None]
        model.places.grid[:] = 100 * torch.arange(2.0)[:, None, None] + 1000 * torch.arange(3.0)[:, None]
        grid = model.moments(model.places(zero.expand(1, 8, 2, 3, -1))) - zero
        taller = model.moments(model.places(zero.expand(1, 4, 4, 3, -1))) - zero
    times = {"linear": [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], "nearest": [0, 0, 1, 1, 2, 2, 3, 3]}[stretch]
    heights = {"linear": [0, 25, 75, 100], "nearest": [0, 0, 100, 100]}[stretch]
    torch.testing.assert_close(grid[0, :, 0, 0, 5], torch.tensor(times, dtype=torch.float32), atol=1e-3, rtol=0)
    torch.testing.assert_close(taller[0, 0, :, 0, 5], torch.tensor(heights, dtype=torch.float32), atol=1e-3, rtol=0)
    torch.testing.assert_close(grid[0, 0, 0, :, 5], torch.tensor([0.0, 1000, 2000]), atol=1e-3, rtol=0)


# What transformers calls the parts that the official code calls otherwise, longest first.
OFFICIAL = [
    ("timesformer.embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("timesformer.embeddings.position_embeddings", "pos_embed"),
    ("timesformer.embeddings.time_embeddings", "time_embed"),
    ("timesformer.embeddings.cls_token", "cls_token"),
    ("timesformer.encoder.layer", "blocks"),
    ("timesformer.layernorm", "norm"),
    ("temporal_attention.attention", "temporal_attn"),
    ("temporal_attention.output.dense", "temporal_attn.proj"),
    ("temporal_layernorm", "temporal_norm1"),
    ("temporal_dense", "temporal_fc"),
    ("attention.attention", "attn"),
    ("attention.output.dense", "attn.proj"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("classifier", "head"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ATTENTION)
@pytest.mark.slow
def test_official_keys_mean_what_those_of_transformers_mean(form):
    model, other = make_pair(form, "even")
    renamed = other.state_dict()
    for theirs, official in OFFICIAL:
        renamed = {key.replace(theirs, official): value for key, value in renamed.items()}
    changes = model.config.to_dict()
    fresh = create_model(changes.pop("name"), changes.pop("num_classes"), **changes)
    assert load_weights(fresh, renamed).fresh == ()
    found = fresh.state_dict()
    assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())


def test_weights_of_something_else_are_refused():
    model = create_model("timesformer_nano_divided", 5)
    sign = {"timesformer.embeddings.cls_token": torch.zeros(1, 1, 96)}
    with pytest.raises(CheckpointError, match=r"no weight 'clasifier\.weight'"):
        load_weights(model, {**sign, "clasifier.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match=r"'pos_embed'.*shape \(1, 7, 4\)"):
        load_weights(model, {"time_embed": torch.zeros(1, 8, 4), "pos_embed": torch.zeros(1, 7, 4)})
    with pytest.raises(ConfigError, match="hidden_act must be one of gelu"):
        plan_changes({"hidden_act": "relu"})


def test_published_config_gives_the_base_model():
    config = find_card("timesformer_base_divided").config
    changes = plan_changes({})
    assert {key: getattr(config, key) for key in changes if key != "drop_path"} | {"drop_path": 0.0} == changes


@pytest.mark.parametrize("key", ["dropout", "attention_dropout", "drop_path"])
@pytest.mark.parametrize("form", FORMS)
def test_every_dropout_acts_in_training_only(form, key):
    model = make_small(form, **{"drop_path": 0.0, key: 0.5})
    clips = torch.randn(2, 3, 4, 32, 48)
    assert torch.equal(model(clips), model(clips))
    model.train()
    assert not torch.equal(model(clips), model(clips))


@pytest.mark.parametrize("form", FORMS)
def test_activations_are_dropped_before_the_first_block_too(form):
    model = make_small(form, dropout=0.5, drop_path=0.0).train()
    model.blocks.eval()
    clips = torch.randn(2, 3, 4, 32, 48)
    assert not torch.equal(model(clips), model(clips))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patches": 8}, "did you mean 'patch'"),
        ({"form": "divide"}, "did you mean 'divided'"),
        ({"height": 230}, "height=224"),
        ({"width": 8}, "width=16"),
        ({"frames": 0}, "frames must be at least 1"),
        ({"heads": 5}, "dim=770"),
        ({"patch": 0}, "patch must be at least 1"),
        ({"drop_path": 1.0}, "0 to below 1"),
    ],
)
def test_wrong_changes_are_refused_with_a_remedy(changes, message):
    with pytest.raises(ConfigError, match=message):
        create_model("timesformer_base_divided", 5, **changes)


def test_every_size_comes_in_every_form():
    assert list_models("timesformer_*") == [f"timesformer_{size}_{form}" for size in SIZES for form in FORMS]


@pytest.mark.parametrize(("size", "rate_fps"), [("base", 30 / 32), ("hr", 30 / 16), ("large", 30 / 4)])
def test_cards_state_the_official_evaluation(size, rate_fps):
    spec = find_card(f"timesformer_{size}_divided").input_spec
    assert (spec.sampling, spec.convention, spec.rate_fps) == ("dense", "slowfast", rate_fps)
    assert (spec.mean, spec.std, spec.fit) == ((0.45,), (0.225,), "crop")
