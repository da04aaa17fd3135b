"""What every transformer must hold, whoever wrote it: clips of any size, memory on wish, a budget of tokens.

Every registered nano card whose model runs a stack of blocks is tested; a new family is tested by being registered.
"""

import copy
from dataclasses import fields

import pytest
import torch
from torch import nn

from tubelet.errors import ConfigError
from tubelet.models import create_model, find_card, list_models
from tubelet.models.blocks import Stack
from tubelet.shapes import Size3

RANDOM = ("dropout", "attention_dropout", "drop_path", "head_dropout")
NUM_CLASSES = 5


def has_blocks(name):
    with torch.device("meta"):
        return any(isinstance(module, Stack) for module in create_model(name, NUM_CLASSES).modules())


STACKED = [name for name in list_models("*nano*") if has_blocks(name)]
TRANSFORMERS = [name for name in STACKED if find_card(name).architecture != "i3d"]
DROPPING = [name for name in TRANSFORMERS if create_model(name, NUM_CLASSES).drops_tokens]
every_transformer = pytest.mark.parametrize("name", TRANSFORMERS)
every_stacked = pytest.mark.parametrize("name", STACKED)
every_dropping = pytest.mark.parametrize("name", DROPPING)


def make(name, **changes):
    """A nano model; its head, and what else starts at zero, is given weights so that logits and gradients speak."""
    torch.manual_seed(0)
    model = create_model(name, NUM_CLASSES, **changes)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def find_step(model):
    """Frames, height and width of what one token sees at first; whole frames are given 8 pixels to look at."""
    patch = getattr(model.config, "patch", None)
    return getattr(model.config, "tubelet", (1, patch or 8, patch or 8))


def make_clips(model, grid, batch=1):
    sizes = [count * step for count, step in zip(grid, find_step(model), strict=True)]
    return torch.randn(batch, model.config.channels, *sizes, generator=torch.Generator().manual_seed(1))


def has_grid(model):
    return hasattr(model.config, "plan_grid")


GRIDS = {
    "one moment": (1, 4, 4),
    "odd": (3, 5, 4),
    "many frames": (9, 4, 4),
    "wide": (4, 2, 7),
    "tall": (5, 8, 3),
    "one tubelet": (1, 1, 1),
    "larger": (4, 9, 9),
}


@every_transformer
def test_one_checkpoint_takes_any_length_height_and_width(name):
    model = make(name)
    own = make_clips(model, (2, 4, 4))
    with torch.no_grad():
        before = model(own)
        for what, grid in GRIDS.items():
            clips = make_clips(model, grid)
            logits, tokens = model(clips), model.tokens(clips)
            assert torch.isfinite(logits).all(), what
            assert logits.shape == (1, NUM_CLASSES), what
            assert tuple(tokens.shape[1:4]) == (grid if has_grid(model) else (grid[0], 1, 1)), what
            assert not torch.equal(logits, model(torch.zeros_like(clips))), what
        assert torch.equal(model(own), before)


@every_transformer
def test_places_and_moments_stay_apart_at_other_sizes(name):
    """Rolled by whole tubelets a clip has the same tokens at other places: only positions can tell."""
    model = make(name).double()
    clips = make_clips(model, (5, 3, 7)).double()
    step = find_step(model)
    axes = {2: step[0], 3: step[1], 4: step[2]} if has_grid(model) else {2: 1}
    if getattr(model.config, "form", None) == "space_only":
        del axes[2]
    with torch.no_grad():
        for axis, shift in axes.items():
            assert (model(clips.roll(shift, axis)) - model(clips)).abs().max() > 1e-7, axis


@every_transformer
@pytest.mark.parametrize("channels", [1, 2, 6, 11])
def test_any_number_of_channels_is_taken_at_creation(name, channels):
    model = make(name, channels=channels)
    clips = make_clips(model, (2, 3, 4))
    assert clips.shape[1] == channels
    logits = model(clips)
    logits.square().sum().backward()
    assert torch.isfinite(logits).all()
    with pytest.raises(ConfigError, match=f"channels={channels + 1}"):
        model(torch.cat([clips, clips[:, :1]], dim=1))


@every_transformer
def test_sizes_that_tubelets_do_not_fill_are_answered_with_those_they_do(name):
    model = make(name)
    _, kh, kw = find_step(model)
    clips = make_clips(model, (2, 3, 4))
    off = nn.functional.pad(clips, (0, 1, 0, 1))
    if not has_grid(model):
        assert torch.isfinite(model(off)).all()
        return
    with pytest.raises(ConfigError, match=f"height={3 * kh} or {4 * kh}, width={4 * kw} or {5 * kw}"):
        model(off)
    with pytest.raises(ConfigError, match=f"height={kh}\\."):
        model(clips[:, :, :, : kh - 1])
    with torch.no_grad():
        for height in (3 * kh, 4 * kh):
            assert torch.isfinite(model(nn.functional.interpolate(off, (clips.shape[2], height, 5 * kw)))).all()


def make_random(name, **changes):
    """A model with every kind of chance switched on."""
    known = {field.name for field in fields(find_card(name).config)}
    return make(name, **{key: 0.3 for key in RANDOM if key in known}, **changes).train()


def train_steps(model, clips, count=2):
    """Gradients and everything else that steps leave behind."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.manual_seed(7)
    for _ in range(count):
        optimizer.zero_grad()
        model(clips).square().sum().backward()
        optimizer.step()
    return {
        "random": torch.get_rng_state(),
        **{f"gradient {key}": value.grad for key, value in model.named_parameters()},
        **model.state_dict(),
    }


@every_stacked
def test_checkpointed_gradients_are_bit_equal_with_dropout_drop_path_and_batch_statistics(name):
    model = make_random(name)
    clips = make_clips(model, (3, 4, 3), batch=4)
    other = copy.deepcopy(model)
    other.checkpoint_activations()
    plain, saved = train_steps(model, clips), train_steps(other, clips)
    assert [key for key, value in plain.items() if not torch.equal(value, saved[key])] == []


def count_remembered(model, clips):
    """Bytes that a forward pass keeps for the backward pass, parameters aside."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(clips).sum()
    return sum(size for size, _ in kept.values())


@every_stacked
def test_checkpointing_keeps_a_fraction_of_the_memory_and_only_in_training(name):
    deep = {"depth": 6} if "depth" in find_card(name).config.to_dict() else {}
    flat = {"hidden": 16} if "frame" in name else {"backbone_width": 16} if "cnn" in name else {}
    model = make(name, **deep, **flat).train()
    clips = make_clips(model, (4, 4, 4), batch=2)
    if not has_grid(model) and "i3d" not in name:
        clips = clips[..., :1, :1].repeat(1, 1, 16, 1, 1)  # so that the blocks, not the pictures, count
    whole, evaluated = count_remembered(model, clips), count_remembered(model.eval(), clips)
    model.train().checkpoint_activations()
    assert count_remembered(model, clips) < 0.5 * whole
    assert count_remembered(model.eval(), clips) == evaluated
    model.train().checkpoint_activations(False)
    assert count_remembered(model, clips) == whole


def test_a_model_without_blocks_says_that_it_cannot_be_checkpointed():
    with pytest.raises(ConfigError, match="leave it off"):
        make("cnn_gru_nano").checkpoint_activations()


def find_squares(model, run):
    """Shapes of saved tensors that hold a number for every pair of tokens of a row."""
    shapes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: shapes.append(tuple(t.shape)) or t, lambda t: t):
        tokens = run()
    t, h, w = tokens.shape[1:4]
    counts = {rows + extra for rows in (t * h * w, h * w, t) for extra in (0, 1) if rows > 1}
    return [shape for shape in shapes if shape[-2:] in {(count, count) for count in counts}]


@every_transformer
def test_no_matrix_of_tokens_by_tokens_is_kept(name):
    model = make(name).train()
    clips = make_clips(model, (11, 7, 5), batch=2)
    assert find_squares(model, lambda: model.tokens(clips)) == []


def test_no_such_matrix_is_kept_for_padded_clips_either():
    model = make("cnn_transformer_nano").train()
    clips = make_clips(model, (11, 7, 5), batch=2)
    assert find_squares(model, lambda: model.tokens(clips, torch.tensor([11, 6]))) == []


def test_the_matrix_is_kept_with_attention_dropout_on_a_cpu_unless_checkpointed():
    """Torch's business, stated in `Attention`; when this fails, the docstring there has good news to tell."""
    model = make("vivit_nano_joint", attention_dropout=0.1).train()
    clips = make_clips(model, (3, 7, 5), batch=2)
    assert len(find_squares(model, lambda: model.tokens(clips))) >= model.config.depth
    model.checkpoint_activations()
    assert find_squares(model, lambda: model.tokens(clips)) == []
    assert find_squares(model.eval(), lambda: model.tokens(clips)) == []


@every_dropping
def test_a_budget_keeps_the_share_of_tokens_and_fills_the_rest_with_zeros(name):
    model = make(name)
    clips = make_clips(model, (4, 4, 5), batch=2)
    with torch.no_grad():
        whole = model(clips)
        model.keep_tokens(0.3)
        tokens, logits = model.tokens(clips), model(clips)
        kept = tokens.flatten(1, 3).abs().sum(-1) > 0
        per_row = 80 if model.config.to_dict().get("form") in (None, "joint") else 20
        assert kept.sum(1).tolist() == [round(0.3 * per_row) * 80 // per_row] * 2
        assert not torch.equal(logits, whole)
        model.keep_tokens(1.0)
        assert torch.equal(model(clips), whole)


@every_dropping
def test_tubelets_left_out_change_nothing_and_those_that_move_are_kept(name):
    model = make(name)
    _, kh, kw = find_step(model)
    clips = make_clips(model, (1, 4, 5)).repeat(1, 1, 4, 1, 1)
    clips = clips[:, :, : find_step(model)[0]].repeat(1, 1, 4, 1, 1)
    clips[:, :, :, :kh, : 2 * kw] = make_clips(model, (4, 1, 2))
    model.keep_tokens(0.1)
    still = clips.clone()
    still[..., kh:, :] += 0.5
    with torch.no_grad():
        torch.testing.assert_close(model(still), model(clips), atol=1e-5, rtol=1e-5)
        moved = model.tokens(clips).abs().sum(-1) > 0
    assert moved.sum() == 8
    assert moved[:, :, :1, :2].all()


@every_dropping
def test_a_clip_is_kept_by_itself_and_gradients_and_export_go_with_a_budget(name):
    model = make(name)
    model.keep_tokens(0.5)
    clips = make_clips(model, (2, 4, 4), batch=3)
    with torch.no_grad():
        alone = torch.cat([model(clip[None]) for clip in clips])
        torch.testing.assert_close(model(clips), alone, atol=1e-5, rtol=1e-5)
        program = torch.export.export(model, (clips,))
        torch.testing.assert_close(program.module()(clips), alone, atol=1e-5, rtol=1e-5)
    model.train()(clips).square().sum().backward()
    assert [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_a_budget_is_refused_where_rows_need_all_tokens():
    for name in ("vivit_nano_factorized_attention", "vivit_nano_factorized_dot_product", "timesformer_nano_divided"):
        with pytest.raises(ConfigError, match="use a joint"):
            make(name).keep_tokens(0.5)
    with pytest.raises(ConfigError, match="reads one by its place"):
        make("videomae_nano", pooling="first").keep_tokens(0.5)
    for share in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"0\.5 keeps half"):
            make("vivit_nano_joint").keep_tokens(share)


def test_the_families_with_a_budget_are_those_that_the_error_names():
    assert {name.removeprefix("vivit_nano_") for name in DROPPING} >= {"joint", "factorized_encoder", "videomae_nano"}
    assert {"timesformer_nano_joint", "timesformer_nano_space_only"} <= set(DROPPING)


def test_a_single_moment_is_rated_by_its_distance_from_the_mean():
    model = make("vivit_nano_joint")
    model.keep_tokens(1 / 16)
    clips = torch.zeros(1, 3, 4, 32, 32)
    clips[..., 8:16, 16:24] = 1.0
    grid = Size3(1, 4, 4)
    kept = model.tokens(clips)[0].abs().sum(-1) > 0
    assert kept.shape == tuple(grid)
    assert kept.sum() == 1
    assert kept[0, 1, 2]
