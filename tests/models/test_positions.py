"""Positions: stretched, computed, shared."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tubelet.errors import ConfigError
from tubelet.models.positions import Positions, fit_positions, make_sinusoids
from tubelet.shapes import Size3

SIZES = st.builds(Size3, st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))


@settings(deadline=None, max_examples=30)
@given(SIZES, SIZES)
def test_constant_positions_stay_constant_at_any_size(old, new):
    fitted = fit_positions(torch.full((*old, 2), 3.0), new)
    assert fitted.shape == (*new, 2)
    torch.testing.assert_close(fitted, torch.full_like(fitted, 3.0))


def test_same_size_gives_the_same_numbers():
    positions = torch.randn(3, 4, 5, 6)
    assert fit_positions(positions, Size3(3, 4, 5)) is positions


def test_a_ramp_along_one_axis_is_stretched_along_that_axis_only():
    for axis in range(3):
        place = [1, 1, 1]
        place[axis] = 4
        ramp = torch.arange(4.0).reshape(place).expand(4, 4, 4)[..., None]
        fitted = fit_positions(ramp, Size3(8, 8, 8)).squeeze(-1).movedim(axis, 0)
        expected = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
        torch.testing.assert_close(fitted, expected[:, None, None].expand(8, 8, 8))


def test_sinusoids_start_at_zero_and_one_and_tell_every_place_apart():
    vectors = make_sinusoids(Size3(3, 4, 5), 24)
    assert vectors[0, 0, 0].tolist() == ([0.0] * 4 + [1.0] * 4) * 3
    distances = torch.cdist(vectors.flatten(0, 2), vectors.flatten(0, 2)) + 9 * torch.eye(60)
    assert distances.min() > 0.1
    assert torch.equal(vectors[1, 0, 0, 8:], vectors[0, 0, 0, 8:])


def test_sinusoids_need_six_parts():
    with pytest.raises(ConfigError, match="60 is"):
        make_sinusoids(Size3(1, 1, 1), 64)


def test_an_axis_of_length_one_is_shared():
    positions = Positions(Size3(1, 2, 2), 6)
    added = positions(torch.zeros(1, 5, 2, 2, 6))
    assert torch.equal(added, added[:, :1].expand_as(added))
    assert torch.equal(added[0, 0], positions.grid[0])


def test_the_class_token_keeps_its_position_at_any_size():
    positions = Positions(Size3(2, 2, 2), 6, token=True)
    assert torch.equal(positions.place_token(torch.zeros(6)), positions.token)
    assert Positions(Size3(2, 2, 2), 6, "sinusoidal_3d", token=True).token is None
