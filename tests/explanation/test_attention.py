"""Hold the maps of attention to products of matrices that are written out whole, for every way of mixing tokens."""

import pytest
import torch
from einops import rearrange

from tubelet.classifier import Classifier
from tubelet.errors import ConfigError
from tubelet.explanation.attention import attribute_attention, record, roll_out
from tubelet.explanation.question import ask
from tubelet.models import create_model
from tubelet.video.spec import InputSpec

SIZE = (2, 2, 3)
SMALL = {"frames": 4, "height": 16, "width": 24, "dim": 16, "heads": 2, "mlp_dim": 16, "depth": 2}
SPEC = InputSpec(frames=4, height=16, width=24)


def make_question(name: str, **changes):
    torch.manual_seed(0)
    sizes = {"tubelet": (2, 8, 8)} if "timesformer" not in name else {"frames": 2}
    model = create_model(name, num_classes=3, **{**SMALL, **sizes, **changes}).eval()
    torch.nn.init.normal_(model.head.weight)
    for key, parameter in model.named_parameters():
        if key.endswith("qkv.weight"):
            parameter.data *= 4  # so that attention is far from even
    spec = InputSpec(frames=model.config.frames, height=16, width=24)
    clip = torch.randint(256, (spec.frames, 16, 24, 3), dtype=torch.uint8)
    return ask(Classifier(model, spec, ("a", "b", "c")), clip, 1)


def spread(weights, axes: str):
    """Write the matrices of rows along `axes` as one matrix of the whole grid, without class tokens."""
    t, h, w = SIZE
    index = torch.arange(t * h * w).reshape(1, t, h, w)
    rest = {"t": "h w", "h w": "t", "t h w": ""}[axes]
    rows = rearrange(index, f"1 t h w -> ({rest}) ({axes})")
    whole = torch.zeros(t * h * w, t * h * w)
    for row, matrix in zip(rows, weights, strict=True):
        whole[row[:, None], row[None, :]] = matrix
    return whole


def half(matrix):
    return (matrix + torch.eye(len(matrix))) / 2


def expect_joint(weights):
    first, second = (half(each.mean(1)[0]) for each in weights)
    return (second @ first).mean(0)


def expect_token(weights):
    first, second = (half(each.mean(1)[0]) for each in weights)
    return (second @ first)[0, 1:]


def expect_factorized_encoder(weights):
    *space, time = (each.mean(1) for each in weights)
    first, second = (half(spread(each, "h w")) for each in space)
    rows = rearrange(second @ first, "(t p) n -> t p n", t=SIZE[0]).mean(1)
    return half(time[0]).mean(0) @ rows


def expect_factorized_attention(weights):
    matrices = [half(spread(each.mean(1), axes)) for each, axes in zip(weights, ("h w", "t") * 2, strict=True)]
    return torch.linalg.multi_dot(matrices[::-1]).mean(0)


def expect_factorized_dot_product(weights):
    spreads = [spread(each.mean(1), axes) for each, axes in zip(weights, ("t", "h w") * 2, strict=True)]
    first, second = (half((time + space) / 2) for time, space in zip(spreads[::2], spreads[1::2], strict=True))
    return (second @ first).mean(0)


def expect_divided(weights):
    whole = torch.eye(13)
    for time, space in zip(weights[::2], weights[1::2], strict=True):
        step = torch.eye(13)
        step[1:, 1:] = half(spread(time.mean(1), "t"))
        frames = half_each(space.mean(1))  # the class token, lent to each frame, then its patches
        across = torch.zeros(13, 13)
        across[0, 0] = frames[:, 0, 0].mean()
        across[0, 1:] = frames[:, 0, 1:].reshape(-1) / SIZE[0]
        across[1:, 0] = frames[:, 1:, 0].reshape(-1)
        across[1:, 1:] = spread(frames[:, 1:, 1:], "h w")
        whole = across @ step @ whole
    return whole[0, 1:]


def half_each(matrices):
    return torch.stack([half(matrix) for matrix in matrices])


CASES = {
    "joint": ("vivit_nano_joint", {}, expect_joint),
    "joint-token": ("vivit_nano_joint", {"pooling": "token"}, expect_token),
    "factorized-encoder": ("vivit_nano_factorized_encoder", {"temporal_depth": 1}, expect_factorized_encoder),
    "factorized-attention": ("vivit_nano_factorized_attention", {}, expect_factorized_attention),
    "factorized-dot-product": ("vivit_nano_factorized_dot_product", {}, expect_factorized_dot_product),
    "videomae": ("videomae_nano", {}, expect_joint),
    "divided": ("timesformer_nano_divided", {}, expect_divided),
}


@pytest.mark.parametrize("name", CASES)
def test_rollout_is_the_product_of_all_matrices_in_the_order_of_the_model(name):
    model, changes, expect = CASES[name]
    question = make_question(model, **changes)
    with torch.no_grad():
        _, weights = record(question.classifier.model, question.prepare())
    expected = expect(weights)
    found = roll_out(question)
    assert found.shape == SIZE
    assert expected.max() - expected.min() > 0.005
    torch.testing.assert_close(found.flatten(), expected - expected.min(), rtol=1e-4, atol=1e-6)


def test_recording_changes_no_logit_and_leaves_no_trace():
    question = make_question("vivit_nano_joint")
    model, inputs = question.classifier.model, question.prepare()
    before = model(inputs)
    logits, weights = record(model, inputs)
    torch.testing.assert_close(logits, before)
    for each in weights:
        torch.testing.assert_close(each.sum(-1), torch.ones(each.shape[:-1]))
    assert not any("mix" in vars(module) for module in model.modules())
    roll_out(question)
    assert torch.equal(model(inputs), before)


def test_attention_that_speaks_for_the_class_is_weighed_by_its_gradient():
    question = make_question("vivit_nano_joint", depth=1)
    logits, (weights,) = record(question.classifier.model, question.prepare())
    (gradient,) = torch.autograd.grad(question.measure(logits).sum(), weights)
    expected = (gradient * weights).clamp(min=0).mean(1)[0].mean(0).detach()
    found = attribute_attention(question)
    torch.testing.assert_close(found.flatten(), expected - expected.min())
    other = ask(question.classifier, question.clip, 2)
    assert not torch.allclose(attribute_attention(other), found)


def test_models_without_such_attention_are_refused():
    question = make_question("vivit_nano_joint")
    model = create_model("i3d_nano", num_classes=3).eval()
    other = ask(Classifier(model, SPEC, ("a", "b", "c")), question.clip, 1)
    with pytest.raises(ConfigError, match="this is a I3D - use method 'occlusion'"):
        roll_out(other)
