"""The frame transformer against plain loops, and what each embedder and each fusion can and cannot see."""

import math

import pytest
import torch
from einops import rearrange

from tubelet.errors import ConfigError
from tubelet.models import create_model
from tubelet.models.backbones import ConvEmbedder, FlattenEmbedder, SmallCnn
from tubelet.shapes import Size

EMBEDDERS = ("flatten", "conv", "cnn")
FUSIONS = ("flatten", "mean", "token")
SMALL = {"frames": 6, "height": 16, "width": 24, "hidden": 16, "dim": 16, "mlp_dim": 32, "head_dim": 12}


def make(num_classes=5, **changes):
    """A small model in which every parameter, the head's too, has a say."""
    torch.manual_seed(0)
    model = create_model("frame_transformer", num_classes, **{**SMALL, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def normalize(vector, norm, eps):
    return (vector - vector.mean()) / torch.sqrt(vector.var(unbiased=False) + eps) * norm.weight + norm.bias


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def convolve(stages, frame):
    """Three convolutions of 3x3, stride 2, one zero around; each with a group norm of 4 groups and ReLU."""
    for convolution, norm in ((stages[0], stages[1]), (stages[3], stages[4]), (stages[6], stages[7])):
        _, height, width = frame.shape
        padded = torch.zeros(frame.shape[0], height + 2, width + 2, dtype=frame.dtype)
        padded[:, 1:-1, 1:-1] = frame
        out = torch.zeros(convolution.weight.shape[0], -(-height // 2), -(-width // 2), dtype=frame.dtype)
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
                out[:, i, j] = (convolution.weight * window).sum(dim=(1, 2, 3))
        groups = [(g - g.mean()) / torch.sqrt(g.var(unbiased=False) + 1e-5) for g in out.chunk(4)]
        out = torch.cat(groups) * norm.weight[:, None, None] + norm.bias[:, None, None]
        frame = out.clamp(min=0)
    return frame


def embed(embedder, frame):
    if isinstance(embedder, FlattenEmbedder):
        hidden = gelu(embedder.widen.weight @ frame.flatten() + embedder.widen.bias)
        return embedder.narrow.weight @ hidden + embedder.narrow.bias
    maps = convolve(embedder.stages, frame)
    seen = maps.flatten() if isinstance(embedder, ConvEmbedder) else maps.mean(dim=(1, 2))
    return embedder.project.weight @ seen + embedder.project.bias


def run_reference(model, clip):
    config = model.config
    vectors = [embed(model.embedder, clip[:, t]) + model.positions.grid[t, 0, 0] for t in range(config.frames)]
    if config.fuse == "token":
        vectors = [model.class_token + model.positions.token, *vectors]
    size = config.dim // config.heads
    for block in model.blocks:
        attention, mlp = block.attention, block.mlp
        normed = [normalize(vector, attention.norm, 1e-6) for vector in vectors]
        projected = [(attention.qkv.weight @ vector + attention.qkv.bias).split(config.dim) for vector in normed]
        for index, (query, _, _) in enumerate(projected):
            parts = []
            for head in range(config.heads):
                own = slice(head * size, (head + 1) * size)
                weights = torch.stack([query[own] @ key[own] / math.sqrt(size) for _, key, _ in projected]).exp()
                values = torch.stack([value[own] for _, _, value in projected])
                parts.append((weights / weights.sum()) @ values)
            mixed = vectors[index] + attention.out.weight @ torch.cat(parts) + attention.out.bias
            hidden = gelu_tanh(mlp.widen.weight @ normalize(mixed, mlp.norm, 1e-6) + mlp.widen.bias)
            vectors[index] = mixed + mlp.narrow.weight @ hidden + mlp.narrow.bias
    vectors = [normalize(vector, model.norm, 1e-6) for vector in vectors]
    fused = {"token": vectors[0], "mean": sum(vectors) / len(vectors), "flatten": torch.cat(vectors)}[config.fuse]
    return model.head.weight @ gelu(model.fuse.weight @ fused + model.fuse.bias) + model.head.bias


@pytest.mark.parametrize(
    ("embedder", "fuse", "depth"),
    [("flatten", "flatten", 1), ("conv", "mean", 1), ("cnn", "token", 2), ("flatten", "token", 1)],
)
def test_logits_are_those_of_plain_loops(embedder, fuse, depth):
    model = make(embedder=embedder, fuse=fuse, depth=depth).double()
    clips = torch.randn(2, 3, 6, 16, 24, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([run_reference(model, clip) for clip in clips])
        torch.testing.assert_close(model(clips), expected, atol=1e-11, rtol=1e-11)


def test_most_weights_of_the_preset_lie_in_its_first_layer():
    with torch.device("meta"):
        model = create_model("frame_transformer", 2)
    first = sum(parameter.numel() for parameter in model.embedder.widen.parameters())
    assert first == 128 * 128 * 3 * 512 + 512
    assert first / sum(parameter.numel() for parameter in model.parameters()) > 0.9


@pytest.mark.parametrize("embedder", EMBEDDERS)
@pytest.mark.parametrize("fuse", FUSIONS)
def test_order_is_seen_through_positions_or_through_flattening_and_not_otherwise(embedder, fuse):
    clips = torch.randn(2, 3, 6, 16, 24)
    shuffled = clips[:, :, [3, 0, 5, 1, 4, 2]]
    with torch.no_grad():
        model = make(embedder=embedder, fuse=fuse)
        assert (model(shuffled) - model(clips)).abs().max() > 1e-3
        model = make(embedder=embedder, fuse=fuse, position="none")
        difference = (model(shuffled) - model(clips)).abs().max()
    assert difference > 1e-3 if fuse == "flatten" else difference < 1e-5


@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_a_token_before_the_blocks_is_made_from_its_own_frame_alone(embedder):
    model = make(embedder=embedder)
    clips = torch.randn(1, 3, 6, 16, 24)
    changed = clips.clone()
    changed[:, :, 2] += 1
    with torch.no_grad():
        one, other = (model.embedder(rearrange(c, "b c t h w -> (b t) c h w")) for c in (clips, changed))
        moved = (one - other).abs().amax(dim=1) > 1e-4
        assert moved.tolist() == [False, False, True, False, False, False]
        assert model.tokens(clips).shape == (1, 6, 1, 1, 16)


@pytest.mark.parametrize(
    ("embedder", "blind"), [(SmallCnn(3, 32, 8), True), (ConvEmbedder(3, Size(64, 64), 32, 8), False)]
)
def test_the_cnn_forgets_where_a_thing_stands_and_the_conv_embedder_does_not(embedder, blind):
    here = torch.zeros(1, 3, 64, 64)
    here[:, :, 24:32, 24:32] = torch.randn(3, 8, 8)
    there = here.roll((8, -8), dims=(2, 3))
    with torch.no_grad():
        far = (embedder(here) - embedder(there)).norm() / embedder(here).norm()
    assert far < 1e-4 if blind else far > 1e-2


@pytest.mark.parametrize("fuse", ["flatten", "mean"])
def test_a_flat_clip_is_scored_alike_at_any_size_and_length(fuse):
    """A clip that is constant in space and time has one right answer: scaling and stretching change nothing in it."""
    model = make(embedder="flatten", fuse=fuse, position="none")
    flat = torch.randn(1, 3, 1, 1, 1)
    with torch.no_grad():
        expected = model(flat.expand(1, 3, 6, 16, 24))
        found = model(flat.expand(1, 3, 11, 40, 18))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_conv_embedder_takes_frames_of_other_sizes():
    torch.manual_seed(0)
    embedder = ConvEmbedder(3, Size(32, 32), 16, 8)
    small = torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        plain, larger = (
            embedder(torch.nn.functional.interpolate(small, size=size, mode="bilinear")) for size in (32, 64)
        )
    assert larger.shape == (2, 8)
    assert torch.nn.functional.cosine_similarity(plain, larger).min() > 0.5


def test_two_classes_under_a_softmax_are_one_under_a_sigmoid():
    model = make(num_classes=2)
    with torch.no_grad():
        logits = model(torch.randn(4, 3, 6, 16, 24))
    torch.testing.assert_close(logits.softmax(dim=1)[:, 1], torch.sigmoid(logits[:, 1] - logits[:, 0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedder": "conv", "hidden": 40}, "hidden=32|hidden=48"),
        ({"dim": 30}, "dim=32"),
        ({"dropout": 1.5}, "dropout must lie in 0 to below 1 - found 1.5"),
        ({"fuse": "cls"}, "fuse must be one of flatten, mean, token"),
        ({"head_dim": 0}, "head_dim must be at least 1"),
    ],
)
def test_a_wrong_hyper_parameter_is_refused_with_a_remedy(changes, message):
    with pytest.raises(ConfigError, match=message):
        make(**changes)
