"""Blocks: rows and grids, the embedding, the start."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tubelet.models.blocks import (
    Attention,
    BlockShape,
    TubeletEmbedding,
    initialize,
    over,
    plan_drop_path,
    to_grid,
    to_rows,
)
from tubelet.shapes import Size3


@settings(deadline=None, max_examples=20)
@given(st.tuples(*[st.integers(1, 4)] * 4), st.sampled_from(["t", "h w", "t h w"]))
def test_rows_go_back_to_the_grid_they_came_from(size, axes):
    grid = torch.randn(*size, 3)
    assert torch.equal(to_grid(axes, to_rows(axes, grid), Size3(*size[1:])), grid)


@pytest.mark.parametrize(("axes", "dims"), [("t", (1,)), ("h w", (2, 3)), ("t h w", (1, 2, 3))])
def test_over_lets_a_block_see_exactly_the_named_axes(axes, dims):
    grid = torch.randn(2, 3, 4, 5, 6)
    averaged = over(axes, lambda rows: rows.mean(1, keepdim=True).expand_as(rows), grid)
    torch.testing.assert_close(averaged, grid.mean(dims, keepdim=True).expand_as(grid))


def test_embedding_is_a_conv3d_whose_stride_is_its_kernel():
    conv = nn.Conv3d(3, 7, (2, 4, 5), (2, 4, 5))
    embedding = TubeletEmbedding(3, Size3(2, 4, 5), 7)
    embedding.project.load_state_dict(
        {"weight": TubeletEmbedding.flatten_kernel(conv.weight.detach()), "bias": conv.bias}
    )
    clips = torch.randn(2, 3, 6, 8, 15)
    torch.testing.assert_close(embedding(clips).movedim(-1, 1), conv(clips), atol=1e-5, rtol=1e-5)


def test_xavier_start_draws_query_key_and_value_each_by_itself():
    attention = Attention(BlockShape(dim=64, heads=4, mlp_dim=8))
    initialize(attention, "xavier")
    bound = (6 / 128) ** 0.5
    for part in attention.qkv.weight.chunk(3):
        assert 0.98 * bound < part.abs().max() <= bound
    assert not attention.qkv.bias.any()


def test_normal_start_has_deviation_of_two_hundredths():
    attention = Attention(BlockShape(dim=64, heads=4, mlp_dim=8))
    initialize(attention, "normal")
    assert attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_drop_path_rises_linearly_to_its_rate():
    assert plan_drop_path(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert plan_drop_path(0.3, 1) == [0.0]
