"""VideoMAE: published counts and costs, masks, targets, pre-training, and the same numbers as transformers."""

import json

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tubelet.errors import CheckpointError, ConfigError, UnknownName
from tubelet.models import create_model, list_models, load_weights
from tubelet.models.videomae import make_index_sinusoids
from tubelet.models.videomae_config import (
    count_decoded,
    count_macs,
    count_parameters,
    count_pretraining_macs,
    count_pretraining_parameters,
)
from tubelet.models.videomae_pretraining import create_pretraining, draw_running_cell_mask, draw_tube_mask
from tubelet.models.weights.videomae import plan_changes
from tubelet.shapes import Size3

SMALL = {
    "frames": 8,
    "height": 32,
    "width": 48,
    "tubelet": (2, 8, 8),
    "dim": 36,
    "depth": 2,
    "heads": 3,
    "mlp_dim": 80,
}
DECODER = {"decoder_dim": 24, "decoder_depth": 1, "decoder_heads": 2, "decoder_mlp_dim": 40}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def shake(model):
    """Move every weight, so that no zero start hides a fault."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def make_small(**changes):
    return shake(create_model("videomae_base", 7, **{**SMALL, **changes}))


def make_pretraining(**changes):
    return shake(create_pretraining("videomae_base", **{**SMALL, **DECODER, **changes}))


def make_clips(batch=2, frames=8, height=32, width=48):
    return torch.randn(batch, 3, frames, height, width, generator=draw(1))


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ("small", {51: 21_899_571, 101: 21_918_821, 174: 21_946_926, 400: 22_033_936}),
        ("base", {51: 86_266_419, 101: 86_304_869, 174: 86_361_006, 400: 86_534_800}),
        ("large", {51: 303_913_011, 101: 303_964_261, 174: 304_039_086, 400: 304_270_736}),
        ("huge", {51: 631_672_371, 101: 631_736_421, 174: 631_829_934, 400: 632_119_440}),
    ],
)
def test_parameter_count_is_the_official_one(size, counts):
    for classes, parameters in counts.items():
        with torch.device("meta"):
            model = create_model(f"videomae_{size}", classes)
        assert count(model) == count_parameters(model.config) == parameters


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("small", 24_029_376), ("base", 94_210_944), ("large", 342_996_992), ("huge", 692_487_296)],
)
def test_parameter_count_of_pretraining_is_the_official_one(size, parameters):
    with torch.device("meta"):
        model = create_pretraining(f"videomae_{size}")
    assert count(model) == count_pretraining_parameters(model.config) == parameters


@pytest.mark.parametrize(
    ("size", "changes", "giga"),
    [
        ("small", {}, 57),
        ("base", {}, 180),
        ("large", {}, 597),
        ("huge", {}, 1192),
        ("large", {"frames": 32, "height": 320, "width": 320}, 3958),
        ("huge", {"frames": 32, "height": 320, "width": 320}, 7397),
    ],
)
def test_cost_is_the_published_one_within_one_percent(size, changes, giga):
    with torch.device("meta"):
        model = create_model(f"videomae_{size}", 400, **changes)
    assert model.count_macs() / 1e9 == pytest.approx(giga, rel=0.01)


def run_cell(grid, left_out, start):
    """A cell of four places, the first `left_out` of them masked, that is turned by one place a moment."""
    mask = torch.zeros(tuple(grid), dtype=torch.bool)
    cell = [place < left_out for place in range(4)]
    cell = cell[start:] + cell[:start]
    for t in range(grid.t):
        for y in range(grid.h):
            for x in range(grid.w):
                mask[t, y, x] = cell[2 * (y % 2) + x % 2]
        cell = cell[1:] + cell[:1]
    return mask


@pytest.mark.parametrize(
    ("grid", "ratio"),
    [((8, 14, 14), 0.5), ((3, 4, 6), 0.25), ((5, 2, 2), 0.75), ((4, 3, 5), 0.25), ((1, 4, 3), 0.5)],
)
def test_the_decoder_leaves_out_a_cell_that_runs_on_from_one_of_four_starts(grid, ratio):
    grid = Size3(*grid)
    masks = draw_running_cell_mask(grid, ratio, draw(), batch=400)
    expected = [run_cell(grid, round(4 * ratio), start) for start in range(4)]
    counts = [sum(torch.equal(mask, other) for mask in masks) for other in expected]
    assert sum(counts) == 400
    assert min(counts) > 70
    assert (~masks).sum(dim=(1, 2, 3)).eq(count_decoded(grid, ratio)).all()
    if grid.t >= 4:
        assert (~masks).any(dim=1).all()  # every place is decoded at some moment


def test_half_of_all_tubelets_are_left_to_the_decoder_of_the_base_size():
    assert count_decoded(Size3(8, 14, 14), 0.5) == 784


@pytest.mark.parametrize(("grid", "ratio"), [((2, 3, 3), 0.5), ((1, 4, 3), 0.25), ((4, 4, 4), 0.4), ((4, 4, 4), 1.0)])
def test_cells_that_are_not_whole_and_shares_that_are_no_quarters_are_refused(grid, ratio):
    with pytest.raises(ConfigError, match=r"or decoder_mask_ratio=0\.|or 0 for none"):
        draw_running_cell_mask(Size3(*grid), ratio, draw())


def measure_slowly(model, clips, mask, left_out):
    """The loss of VideoMAE V2 tubelet by tubelet: errors of those that are decoded and were hidden."""
    total, number = 0.0, 0
    for clip, hides, leaves in zip(clips, mask.flatten(1).tolist(), left_out.flatten(1).tolist(), strict=True):
        seen = [index for index, hidden in enumerate(hides) if not hidden]
        decoded = [index for index, left in enumerate(leaves) if not left]
        encoded = model.narrow(model.norm(model.encoder(clip[None], torch.tensor([seen]))))[0]
        places = make_index_sinusoids(len(hides), encoded.shape[1], encoded)
        rows = [encoded[at] + places[index] for at, index in enumerate(seen)]
        rows += [model.mask_token + places[index] for index in decoded]
        pixels = model.decoder.head(model.decoder.norm(model.decoder.blocks(torch.stack(rows)[None])))[0]
        targets = model.make_targets(clip[None])[0]
        for at, index in enumerate(decoded):
            if hides[index]:
                total = total + (pixels[len(seen) + at] - targets[index]).square().mean()
                number += 1
    return total / number


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_the_loss_counts_what_is_decoded_and_was_hidden(ratio):
    torch.manual_seed(0)
    model, clips = make_pretraining().double(), make_clips(3).double()
    mask = draw_tube_mask(model.config.encoder.grid, 0.75, draw(), batch=3)
    left_out = draw_running_cell_mask(model.config.encoder.grid, ratio, draw(2), batch=3)
    with torch.no_grad():
        expected = measure_slowly(model, clips, mask, left_out)
        torch.testing.assert_close(model(clips, mask, left_out), expected, atol=1e-10, rtol=1e-10)
        assert (model(clips, mask) - expected).abs() > 1e-6


def test_a_decoder_that_leaves_out_what_was_seen_gives_the_loss_without_a_second_mask():
    model, clips = make_pretraining().double(), make_clips().double()
    mask = draw_tube_mask(model.config.encoder.grid, 0.75, draw(), batch=2)
    torch.testing.assert_close(model(clips, mask, ~mask), model(clips, mask), atol=1e-12, rtol=1e-12)


def test_where_nothing_hidden_is_decoded_there_is_nothing_to_learn():
    model, clips = make_pretraining(), make_clips()
    mask = draw_tube_mask(model.config.encoder.grid, 0.75, draw(), batch=2)
    loss = model(clips, mask, mask)
    loss.backward()
    assert loss == 0
    assert not any(parameter.grad.any() for parameter in model.parameters())


def test_a_mask_that_lets_the_decoder_have_more_of_one_clip_is_refused():
    model, clips = make_pretraining(), make_clips()
    mask = draw_tube_mask(model.config.encoder.grid, 0.75, draw(), batch=2)
    uneven = draw_running_cell_mask(model.config.encoder.grid, 0.5, draw(), batch=2)
    uneven[0, 0, 0, 0] ^= True
    with pytest.raises(ConfigError, match="equally many"):
        model(clips, mask, uneven)


@pytest.mark.parametrize(("ratio", "giga"), [(0.9, 35.4), (0.75, 57.4)])
def test_cost_of_pretraining_falls_with_what_is_hidden(ratio, giga):
    with torch.device("meta"):
        model = create_pretraining("videomae_base", mask_ratio=ratio)
    assert model.count_macs() / 1e9 == pytest.approx(giga, rel=0.01)


def test_costs_are_what_torch_counts():
    model, pretraining = make_small(), make_pretraining()
    sparing = make_pretraining(decoder_mask_ratio=0.25)
    mask = draw_tube_mask(model.config.grid, 0.9, draw())
    left_out = draw_running_cell_mask(model.config.grid, 0.25, draw())
    for run, expected in (
        (lambda: model(make_clips(1)), count_macs(model.config)),
        (lambda: pretraining(make_clips(1), mask), count_pretraining_macs(pretraining.config)),
        (lambda: pretraining(make_clips(1), mask, left_out), count_pretraining_macs(sparing.config)),
    ):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            run()
        assert counter.get_total_flops() == 2 * expected


@pytest.mark.parametrize("qkv_bias", ["query_value", "none"])
def test_closed_form_counts_the_parameters_of_every_variant(qkv_bias):
    model, pretraining = make_small(qkv_bias=qkv_bias), make_pretraining(qkv_bias=qkv_bias)
    assert count_parameters(model.config) == count(model)
    assert count_pretraining_parameters(pretraining.config) == count(pretraining)


def test_positions_start_with_zeros_and_ones_and_count_width_first():
    like = torch.zeros(())
    table = make_index_sinusoids(24, 10, like)
    assert torch.equal(table[0], torch.tensor([0.0, 1.0] * 5))
    assert table[5, 4].item() == pytest.approx(torch.tensor(5 / 10_000**0.4).sin().item(), abs=1e-6)
    assert table[5, 5].item() == pytest.approx(torch.tensor(5 / 10_000**0.4).cos().item(), abs=1e-6)
    model = make_small(depth=1)
    model.encoder.blocks = torch.nn.Identity()
    positions = (model.tokens(make_clips(1)) - model.encoder.embedding(make_clips(1)))[0]
    expected = make_index_sinusoids(4 * 4 * 6, 36, like)
    torch.testing.assert_close(positions[2, 1, 3], expected[2 * 24 + 1 * 6 + 3], atol=1e-5, rtol=0)


def test_positions_tell_the_order_of_moments():
    model = make_small()
    clips = make_clips()
    other = clips[:, :, [4, 5, 0, 1, 6, 7, 2, 3]]
    assert (model(other) - model(clips)).abs().max() > 1e-3


def test_classifying_from_the_first_token_reads_the_corner():
    model = make_small(pooling="first")
    clips = make_clips()
    assert torch.equal(model.features(clips), model.norm(model.tokens(clips)[:, 0, 0, 0]))


def test_drop_path_keeps_the_expected_sum():
    model = create_model("videomae_base", 7, **dict(SMALL, depth=3), drop_path=0.4)
    path = model.encoder.blocks[2].drop_path
    torch.manual_seed(0)
    kept = path(torch.ones(4000, 2, 3))
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert kept.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(path.eval()(torch.ones(4, 2, 3)), torch.ones(4, 2, 3))


@pytest.mark.parametrize("key", ["attention_dropout", "drop_path", "head_dropout"])
def test_every_dropout_acts_in_training_only(key):
    model = make_small(**{key: 0.5})
    clips = make_clips(16)
    assert torch.equal(model(clips), model(clips))
    model.train()
    assert not torch.equal(model(clips), model(clips))


@pytest.mark.parametrize(("ratio", "hidden"), [(0.9, 1408), (0.75, 1176), (0.5, 784)])
def test_tube_mask_hides_the_official_number_at_the_same_places_of_every_moment(ratio, hidden):
    mask = draw_tube_mask(Size3(8, 14, 14), ratio, draw(), batch=3)
    assert mask.shape == (3, 8, 14, 14)
    assert mask.sum(dim=(1, 2, 3)).tolist() == [hidden] * 3
    assert torch.equal(mask, mask[:, :1].expand_as(mask))
    assert not torch.equal(mask[0], mask[1])


def test_tube_mask_depends_on_its_generator_alone():
    first = draw_tube_mask(Size3(4, 6, 6), 0.7, draw(5), batch=2)
    torch.manual_seed(99)
    assert torch.equal(draw_tube_mask(Size3(4, 6, 6), 0.7, draw(5), batch=2), first)
    assert not torch.equal(draw_tube_mask(Size3(4, 6, 6), 0.7, draw(6), batch=2), first)
    state = torch.get_rng_state()
    draw_tube_mask(Size3(4, 6, 6), 0.7, draw(5))
    assert torch.equal(torch.get_rng_state(), state)


def test_tube_mask_hides_every_place_equally_often():
    share = draw_tube_mask(Size3(1, 4, 5), 0.6, draw(), batch=4000).float().mean(dim=(0, 1))
    assert (share - 0.6).abs().max() < 0.04


@pytest.mark.parametrize("ratio", [0.0, 0.01, 1.0])
def test_tube_mask_that_hides_nothing_or_all_is_refused(ratio):
    with pytest.raises(ConfigError, match=r"share from 0\.0278 to 0\.972"):
        draw_tube_mask(Size3(4, 6, 6), ratio, draw())
    assert draw_tube_mask(Size3(4, 6, 6), 0.0278, draw()).sum() == 4
    assert draw_tube_mask(Size3(4, 6, 6), 0.972, draw()).sum() == 4 * 34


def cover(mask, tubelet=(2, 8, 8)):
    """The pixels of the hidden tubelets: (batch, 1, time, height, width)."""
    for dim, size in enumerate(tubelet, start=1):
        mask = mask.repeat_interleave(size, dim)
    return mask[:, None]


def test_encoder_is_given_the_seen_tubelets_alone():
    model = make_pretraining()
    clips, mask = make_clips(), draw_tube_mask(Size3(4, 4, 6), 0.9, draw(), batch=2)
    rows = []
    model.encoder.blocks[0].register_forward_hook(lambda module, given, out: rows.append(given[0].shape))
    first = model.predict(clips, mask)
    assert rows == [(2, 4 * 3, 36)]
    assert first.shape == (2, 4 * 21, 2 * 8 * 8 * 3)
    other = torch.where(cover(mask), torch.randn_like(clips), clips)
    assert torch.equal(model.predict(other, mask), first)
    assert not torch.equal(model(other, mask), model(clips, mask))
    seen = torch.where(cover(mask), clips, torch.randn_like(clips))
    assert not torch.allclose(model.predict(seen, mask), first, atol=1e-3)


def test_targets_are_the_cubes_of_the_picture_in_documented_order():
    model = make_pretraining(normalize_targets=False)
    clips = make_clips()
    targets = model.make_targets(clips)
    mean, std = torch.tensor(model.config.mean), torch.tensor(model.config.std)
    cube = clips[1, :, 4:6, 8:16, 24:32] * std[:, None, None, None] + mean[:, None, None, None]
    torch.testing.assert_close(targets[1, 2 * 24 + 1 * 6 + 3], cube.permute(1, 2, 3, 0).flatten())


def test_normalized_targets_have_mean_zero_and_deviation_one_per_channel():
    clips = make_clips() * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None] + 3
    targets = make_pretraining().make_targets(clips).unflatten(2, (128, 3))
    torch.testing.assert_close(targets.mean(dim=2), torch.zeros(2, 96, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(targets.std(dim=2), torch.ones(2, 96, 3), atol=1e-3, rtol=0)
    assert torch.isfinite(make_pretraining().make_targets(torch.zeros_like(clips))).all()


def test_loss_is_the_mean_squared_error_of_the_hidden_cubes():
    model = make_pretraining()
    clips, mask = make_clips(), draw_tube_mask(Size3(4, 4, 6), 0.75, draw(), batch=2)
    expected = [
        F.mse_loss(predicted, targets[hidden])
        for predicted, targets, hidden in zip(
            model.predict(clips, mask), model.make_targets(clips), mask.flatten(1), strict=True
        )
    ]
    torch.testing.assert_close(model(clips, mask), torch.stack(expected).mean())


@pytest.mark.parametrize("normalize_targets", [True, False])
def test_perfect_predictions_reconstruct_the_picture(normalize_targets, monkeypatch):
    model = make_pretraining(normalize_targets=normalize_targets)
    pictures = torch.rand(2, 3, 8, 32, 48, generator=draw(3))
    mean, std = (torch.tensor(v)[:, None, None, None] for v in (model.config.mean, model.config.std))
    clips, mask = (pictures - mean) / std, draw_tube_mask(Size3(4, 4, 6), 0.75, draw(), batch=2)
    found = model.reconstruct(clips, mask)
    hidden = cover(mask).expand_as(pictures)
    torch.testing.assert_close(found.original, pictures)
    torch.testing.assert_close(found.masked, torch.where(hidden, torch.tensor(0.5), pictures))
    torch.testing.assert_close(found.filled[~hidden], pictures[~hidden])
    assert (found.filled - pictures)[hidden].abs().mean() > 0.05
    assert 0 <= found.filled.min() <= found.filled.max() <= 1
    truth = torch.stack([cubes[own] for cubes, own in zip(model.make_targets(clips), mask.flatten(1), strict=True)])
    monkeypatch.setattr(model, "predict", lambda clips, mask: truth)
    torch.testing.assert_close(model.reconstruct(clips, mask).filled, pictures, atol=1e-5, rtol=0)


def test_a_classifier_takes_the_encoder_at_another_length_size_and_number_of_classes():
    pretraining = make_pretraining()
    classifier = make_small(frames=16, height=64, width=32)
    head = classifier.head.weight.clone()
    classifier.load_encoder(pretraining.encoder_state())
    clips = make_clips(2, 16, 64, 32)
    with torch.no_grad():
        assert torch.equal(classifier.tokens(clips).flatten(1, 3), pretraining.encoder(clips))
    assert torch.equal(classifier.head.weight, head)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"dim": 48}, r"\(48,\) here, \(36,\) given"), ({"depth": 3}, "blocks.2"), ({"depth": 1}, "nothing here")],
)
def test_an_encoder_of_another_size_is_refused(changes, message):
    with pytest.raises(CheckpointError, match=message):
        make_small(**changes).load_encoder(make_pretraining().encoder_state())


def test_every_parameter_of_pretraining_gets_a_gradient():
    model = make_pretraining().train()
    model(make_clips(), draw_tube_mask(Size3(4, 4, 6), 0.9, draw(), batch=2)).backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]


def test_pretraining_takes_clips_of_other_sizes():
    model = make_pretraining()
    mask = draw_tube_mask(model.config.encoder.plan_grid(4, 64, 32), 0.8, draw(), batch=1)
    assert torch.isfinite(model(make_clips(1, 4, 64, 32), mask))


def test_pretraining_is_rebuilt_from_its_config_and_its_weights():
    model = make_pretraining(normalize_targets=False, mean=[0.5], std=[0.25])
    rebuilt = create_pretraining(**json.loads(json.dumps(model.config.to_dict()))).eval()
    assert rebuilt.config == model.config
    rebuilt.load_state_dict(model.state_dict())
    clips, mask = make_clips(), draw_tube_mask(Size3(4, 4, 6), 0.9, draw(), batch=2)
    assert torch.equal(rebuilt(clips, mask), model(clips, mask))


def test_pretraining_in_bfloat16_is_near_float32():
    model = make_pretraining()
    clips, mask = make_clips(), draw_tube_mask(Size3(4, 4, 6), 0.9, draw(), batch=2)
    with torch.no_grad():
        exact = model(clips, mask)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(clips, mask)
        near = model.bfloat16()(clips.bfloat16(), mask)
    for found in (mixed, near):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, exact, atol=0.02, rtol=0)


def test_the_mask_may_stay_on_the_cpu():
    mask = draw_tube_mask(Size3(4, 4, 6), 0.9, draw(), batch=2)
    with torch.device("meta"):
        model = create_pretraining("videomae_base", **SMALL, **DECODER)
    clips = make_clips().to("meta")
    assert model(clips, mask).device.type == "meta"
    assert {picture.device.type for picture in model.reconstruct(clips, mask)} == {"meta"}


@pytest.mark.slow
def test_pretraining_learns_what_moves_through_the_hidden():
    """Gratings that drift: what is hidden follows from what is seen, and predicting nothing costs 1."""
    torch.manual_seed(0)
    model = create_pretraining("videomae_nano", frames=8, height=16, width=32, depth=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.004, betas=(0.9, 0.95))
    generator = draw()
    x, t = torch.arange(32.0), torch.arange(8.0)[:, None, None]
    losses = []
    for _ in range(150):
        phase = torch.rand(16, 1, 1, 1, 1, generator=generator) * 6.28
        clips = torch.sin(x * 0.39 + t * 0.2 + phase).expand(16, 3, 8, 16, 32)
        loss = model(clips, draw_tube_mask(model.config.encoder.grid, 0.5, generator, batch=16))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.9
    assert sum(losses[-10:]) / 10 < 0.5


def test_official_start_of_pretraining():
    torch.manual_seed(0)
    model = create_pretraining("videomae_base", **dict(SMALL, depth=1))
    qkv = model.encoder.blocks[0].attention.qkv
    bound = (6 / (4 * 36)) ** 0.5
    assert bound * 0.98 < qkv.weight.abs().max().item() <= bound
    assert not qkv.query_bias.any()
    assert not qkv.value_bias.any()
    assert 0.01 < model.mask_token.abs().max().item() <= 0.02


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 4, 4, 5, dtype=torch.bool), r"shape \(2, 4, 4, 6\)"),
        (torch.zeros(2, 4, 4, 6, dtype=torch.bool), "found 0 hidden"),
        (torch.ones(2, 4, 4, 6, dtype=torch.bool), "found 96 hidden"),
        (torch.arange(2 * 96).reshape(2, 4, 4, 6) < 100, "found 4, 96 hidden"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, message):
    model = make_pretraining()
    for use in (model, model.predict, model.reconstruct):
        with pytest.raises(ConfigError, match=message):
            use(make_clips(), mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 9}, "frames=8"),
        ({"heads": 5}, "dim=35"),
        ({"tubelet": (2, 8, 0)}, "positive sizes"),
        ({"head_dropout": 1.0}, "0 to below 1"),
        ({"eps": 0.0}, "official value is 1e-6"),
        ({"pooling": "token"}, "mean, first"),
    ],
)
def test_wrong_changes_are_refused_with_a_remedy(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_small(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_dept": 2}, "did you mean 'decoder_depth'"),
        ({"dept": 2}, "did you mean 'depth'"),
        ({"decoder_heads": 5}, "decoder_dim=25"),
        ({"decoder_depth": 0}, "decoder_depth must be at least 1"),
        ({"decoder_depth": 1.5}, "must be of type int"),
        ({"normalize_targets": 1}, "must be of type bool"),
        ({"mask_ratio": 1.0}, "between 0 and 1"),
        ({"decoder_mask_ratio": 0.6}, "0.25, 0.5 or 0.75, or 0 for none"),
        ({"decoder_mask_ratio": 0.5, "height": 24, "width": 24, "frames": 6}, "3 x 3 tubelets at 3 moments"),
        ({"mean": (0.5, 0.5)}, "1 or 3 numbers"),
        ({"tubelet": (1, 1, 1)}, "more than one pixel"),
    ],
)
def test_wrong_changes_of_pretraining_are_refused_with_a_remedy(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_pretraining(**changes)


@pytest.mark.slow
def test_pretraining_is_for_videomae_alone():
    with pytest.raises(ConfigError, match=r"found vivit_base_joint, a vivit"):
        create_pretraining("vivit_base_joint")
    with pytest.raises(UnknownName, match="did you mean 'videomae_base'"):
        create_pretraining("videomae_bse")
    assert all(create_pretraining(name, **SMALL) for name in list_models("videomae_*"))


# Against transformers: (changes of the config there, frames, height, width)
VARIANTS = {
    "odd_heads": ({"num_attention_heads": 3, "hidden_size": 36}, 8, 32, 32),
    "no_bias": ({"num_attention_heads": 5, "hidden_size": 40, "qv_bias": False}, 4, 48, 48),
    "wide_picture": ({"num_attention_heads": 1, "hidden_size": 24, "layer_norm_eps": 1e-6}, 6, 16, 48),
    "long_tubelets": ({"tubelet_size": 4, "patch_size": 16, "num_hidden_layers": 3, "hidden_size": 42}, 16, 32, 64),
    "large_eps": ({"layer_norm_eps": 1e-3, "num_attention_heads": 7, "hidden_size": 35}, 2, 40, 24),
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def make_other(variant, kind, **changes):
    """A model of transformers with random weights everywhere, and the config it was made from."""
    transformers = pytest.importorskip("transformers", reason="the dev extra installs transformers")
    own, frames, height, width = VARIANTS[variant]
    settings = {
        "num_frames": frames,
        "image_size": [height, width],
        "patch_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 52,
        "decoder_hidden_size": 30,
        "decoder_num_attention_heads": 3,
        "decoder_num_hidden_layers": 2,
        "decoder_intermediate_size": 44,
        "num_labels": 7,
        **own,
        **changes,
    }
    other = shake(getattr(transformers, kind)(transformers.VideoMAEConfig(**settings)))
    return other, {**other.config.to_dict(), "architectures": [kind]}


def give_old_names(state):
    """The names that the folders on the hub have: q_bias and v_bias."""
    return {key.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): value for key, value in state.items()}


def give_official_names(state):
    """Undo the conversion of the official files: query, key and value in one matrix, short names."""
    official = {}
    for key, value in give_old_names(state).items():
        if ".query.weight" in key:
            parts = [state[key.replace("query", part)] for part in ("query", "key", "value")]
            official[shorten(key)] = torch.cat(parts)
        elif ".key.weight" not in key and ".value.weight" not in key:
            official[shorten(key)] = value
    return official


def shorten(key):
    for theirs, official in (
        ("videomae.embeddings.patch_embeddings.projection", "encoder.patch_embed.proj"),
        ("videomae.encoder.layer", "encoder.blocks"),
        ("decoder.decoder_layers", "decoder.blocks"),
        ("videomae.layernorm", "encoder.norm"),
        ("layernorm_before", "norm1"),
        ("layernorm_after", "norm2"),
        ("attention.attention.query", "attn.qkv"),
        ("attention.attention", "attn"),
        ("attention.output.dense", "attn.proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
        ("classifier", "head"),
    ):
        key = key.replace(theirs, official)
    return key


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mean_pooling", [True, False])
@every_variant
@pytest.mark.slow
def test_logits_are_those_of_transformers(variant, mean_pooling):
    kind = "VideoMAEForVideoClassification"
    other, config = make_other(variant, kind, use_mean_pooling=mean_pooling)
    model = create_model("videomae_base", 7, **plan_changes(config)).eval()
    load_weights(model, other.state_dict())
    clips = make_clips(2, model.config.frames, model.config.height, model.config.width)
    with torch.no_grad():
        expected = other(clips.transpose(1, 2)).logits
        assert expected.std() > 0.1
        assert (model(clips) - expected).abs().max() <= 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("normalize_targets", [True, False])
@every_variant
@pytest.mark.slow
def test_pretraining_loss_is_that_of_transformers(variant, normalize_targets):
    kind = "VideoMAEForPreTraining"
    other, config = make_other(variant, kind, use_mean_pooling=False, norm_pix_loss=normalize_targets)
    decoder = {"decoder_dim": 30, "decoder_depth": 2, "decoder_heads": 3, "decoder_mlp_dim": 44, "decoder_eps": 1e-5}
    model = create_pretraining(
        "videomae_base", **plan_changes(config), **decoder, normalize_targets=normalize_targets
    ).eval()
    load_weights(model, other.state_dict())
    grid = model.config.encoder.grid
    clips = make_clips(2, model.config.encoder.frames, model.config.encoder.height, model.config.encoder.width)
    mask = draw_tube_mask(grid, 0.7, draw(), batch=2)
    with torch.no_grad():
        expected = other(clips.transpose(1, 2), mask.flatten(1))
        assert (model(clips, mask) - expected.loss).abs() <= 1e-5
        assert (model.predict(clips, mask) - expected.logits).abs().max() <= 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["VideoMAEForVideoClassification", "VideoMAEForPreTraining"])
@every_variant
@pytest.mark.slow
def test_every_schema_of_the_weights_gives_the_same(variant, kind):
    other, config = make_other(variant, kind, use_mean_pooling=kind.endswith("Classification"))
    state = dict(other.state_dict())
    given = {key: value.clone() for key, value in state.items()}
    expected = load_fresh(kind, config, state)
    assert given.keys() == state.keys()
    assert all(torch.equal(value, given[key]) for key, value in state.items())
    old, official = give_old_names(state), give_official_names(state)
    fine_tuned = {
        key.removeprefix("encoder.") if kind.endswith("Classification") else key: value
        for key, value in official.items()
    }
    for found in (load_fresh(kind, config, old), load_fresh(kind, config, fine_tuned)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in found.items())


def load_fresh(kind, config, state):
    """The weights of a fresh model of ours after it took those of theirs."""
    changes = plan_changes(config)
    if kind.endswith("Classification"):
        model = create_model("videomae_base", 7, **changes)
    else:
        decoder = {"decoder_dim": 30, "decoder_depth": 2, "decoder_heads": 3, "decoder_mlp_dim": 44}
        model = create_pretraining("videomae_base", **changes, **decoder)
    report = load_weights(model, state)
    assert (report.fresh, report.unused, report.resized) == ((), (), ())
    assert "VideoMAE" in report.origin
    return model.state_dict()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_positions_are_those_of_transformers():
    module = pytest.importorskip("transformers.models.videomae.modeling_videomae")
    expected = module.get_sinusoid_encoding_table(1568, 384)[0]
    assert (make_index_sinusoids(1568, 384, expected) - expected).abs().max() < 1e-6


def test_weights_of_another_model_are_refused():
    model = create_model("videomae_nano", 5)
    official = {"blocks.0.attn.q_bias": torch.ones(96)}
    with pytest.raises(CheckpointError, match=r"no weight 'blocks\.0\.gamma_1'"):
        load_weights(model, {**official, "blocks.0.gamma_1": torch.ones(3)})
    with pytest.raises(CheckpointError, match=r"'vit\.layernorm\.bias'"):
        load_weights(model, {"vit.layernorm.bias": torch.ones(3)})
    stem = "videomae.encoder.layer.0.attention.attention"
    theirs = {
        "videomae.embeddings.patch_embeddings.projection.weight": torch.ones(96, 3, 4, 8, 8),
        f"{stem}.query.weight": torch.ones(3, 3),
        f"{stem}.value.weight": torch.ones(3, 3),
    }
    with pytest.raises(CheckpointError, match=r"key\.weight' - the second is missing"):
        load_weights(model, theirs)


def test_settings_of_a_folder_are_read_and_its_two_traps_avoided():
    assert (
        create_model("videomae_base", 5, **plan_changes({"image_size": 32, "num_hidden_layers": 1})).config.eps == 1e-12
    )
    pretrained = {"architectures": ["VideoMAEForPreTraining"], "use_mean_pooling": False}
    assert plan_changes(pretrained)["pooling"] == "mean"
    classifier = {"architectures": ["VideoMAEForVideoClassification"], "use_mean_pooling": False}
    assert plan_changes(classifier)["pooling"] == "first"
    small = {"hidden_size": 384, "num_attention_heads": 16}
    with pytest.warns(UserWarning, match="16 heads"):
        assert plan_changes({**small, "_hub_id": "MCG-NJU/videomae-small-finetuned-ssv2"})["heads"] == 6
    assert plan_changes({**small, "_hub_id": "somebody/videomae-small"})["heads"] == 16
    assert plan_changes({"qkv_bias": False})["qkv_bias"] == "none"
    with pytest.raises(ConfigError, match="found relu"):
        plan_changes({"hidden_act": "relu"})
