import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from transforms.pictures import assert_within_one_level, make_pixels, resize_with_pillow
from tubelet.errors import VideoError
from tubelet.transforms.preparation import DIFFERENCE_GAIN, fit, normalize
from tubelet.video.spec import InputSpec


@pytest.mark.parametrize(
    ("source", "scaled", "target", "corner"),
    [
        ((40, 56), (20, 28), (20, 20), (0, 4)),
        ((56, 40), (28, 20), (20, 20), (4, 0)),
        ((30, 41), (60, 82), (60, 60), (0, 11)),
        ((40, 56), (24, 33), (24, 32), (0, 0)),  # half a pixel goes to the even side, 33.6 is cut to 33
        ((41, 47), (36, 41), (36, 36), (0, 2)),
        ((40, 56), (40, 56), (17, 56), (12, 0)),
    ],
)
def test_fit_by_cropping_scales_to_cover_and_cuts_the_middle(source, scaled, target, corner):
    pixels = make_pixels(2, *source)
    expected = resize_with_pillow(pixels, *scaled)
    expected = expected[:, corner[0] : corner[0] + target[0], corner[1] : corner[1] + target[1]]
    assert_within_one_level(fit(pixels, InputSpec(height=target[0], width=target[1])), expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_fit_by_stretching_scales_both_sides_alone(channels):
    pixels = make_pixels(2, 40, 56, channels)
    spec = InputSpec(height=33, width=20, fit="stretch", channels=channels)
    assert_within_one_level(fit(pixels, spec), resize_with_pillow(pixels, 33, 20))


def test_fit_averages_what_it_shrinks_instead_of_skipping_it():
    checkers = np.zeros((1, 64, 64, 3), np.uint8)
    checkers[:, ::2, 1::2] = checkers[:, 1::2, ::2] = 255
    shrunk = fit(checkers, InputSpec(height=8, width=8)).float()
    assert (shrunk - 127.5).abs().max() < 3


@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40), st.sampled_from(["crop", "stretch"])
)
def test_fit_reaches_any_size_from_any_size(height, width, height2, width2, how):
    pixels = np.full((2, height, width, 3), 77, np.uint8)
    clip = fit(pixels, InputSpec(height=height2, width=width2, fit=how))
    assert clip.shape == (2, height2, width2, 3)
    assert bool((clip == 77).all())


def test_fit_of_the_right_size_shares_memory():
    pixels = make_pixels(2, 24, 32)
    assert fit(pixels, InputSpec(height=24, width=32)).data_ptr() == pixels.ctypes.data


def test_fit_copies_what_nobody_may_write_to_and_does_not_warn():
    pixels = make_pixels(2, 24, 32)
    locked = np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip = fit(locked, InputSpec(height=24, width=32))
    clip.zero_()
    np.testing.assert_array_equal(locked, pixels)


def test_fit_takes_reversed_and_strided_views():
    pixels = make_pixels(6, 24, 32)
    spec = InputSpec(height=24, width=32)
    for view in (pixels[::-1], pixels[::2], pixels[:, :, ::-1]):
        np.testing.assert_array_equal(fit(view, spec).numpy(), view)


def test_gray_is_repeated_for_a_model_of_rgb():
    gray = make_pixels(2, 40, 56, 1)
    clip = fit(gray, InputSpec(height=20, width=20))
    alone = fit(gray, InputSpec(height=20, width=20, channels=1))
    assert clip.shape == (2, 20, 20, 3)
    assert all(torch.equal(clip[..., c], alone[..., 0]) for c in range(3))


def test_rgb_becomes_the_luminance_that_pillow_computes():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), dtype=np.uint8)
    expected = np.stack([np.asarray(Image.fromarray(frame).convert("L")) for frame in pixels])
    found = fit(pixels, InputSpec(height=24, width=32, channels=1))
    np.testing.assert_array_equal(found[..., 0].numpy(), expected)


@pytest.mark.parametrize(("found", "wanted"), [(2, 3), (4, 3), (4, 1), (3, 2)])
def test_fit_refuses_channels_nobody_can_translate(found, wanted):
    with pytest.raises(
        VideoError, match=rf"clips of {wanted} channels - this one has {found} .* input.channels {found}"
    ):
        fit(np.zeros((1, 8, 8, found), np.uint8), InputSpec(height=8, width=8, channels=wanted))


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (2, 0, 8, 3), (2, 8, 8, 0)])
def test_fit_refuses_an_empty_clip(shape):
    with pytest.raises(VideoError, match="at least one frame"):
        fit(np.zeros(shape, np.uint8), InputSpec(height=8, width=8))


def normalize_slowly(batch, spec):
    """The formula of the docstring, in float64 and in its own order."""
    values = (batch.numpy() / 255 - np.array(spec.mean)) / np.array(spec.std)
    values = values.transpose(0, 4, 1, 2, 3)
    changes = np.zeros_like(values)
    changes[:, :, 1:] = DIFFERENCE_GAIN * (values[:, :, 1:] - values[:, :, :-1])
    return {"none": values, "only": changes, "append": np.concatenate([values, changes], 1)}[spec.differences]


@pytest.mark.parametrize("differences", ["none", "append", "only"])
@pytest.mark.parametrize(
    ("channels", "mean", "std"),
    [
        (3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        (3, (0.5,), (0.25,)),
        (1, (0.1,), (0.3,)),
        (2, (0.1, 0.9), (0.5,)),
    ],
)
def test_normalize_follows_its_formula(differences, channels, mean, std):
    batch = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 4, 5, 6, channels), dtype=np.uint8))
    spec = InputSpec(height=5, width=6, channels=channels, mean=mean, std=std, differences=differences)
    found = normalize(batch, spec)
    assert found.shape[1] == spec.input_channels
    assert found.is_contiguous()
    np.testing.assert_allclose(found.numpy(), normalize_slowly(batch, spec), atol=2e-6, rtol=0)


def test_differences_of_a_still_clip_are_zero_and_of_one_frame_too():
    still = torch.full((1, 5, 4, 4, 3), 200, dtype=torch.uint8)
    for batch in (still, still[:, :1]):
        assert normalize(batch, InputSpec(differences="only")).abs().max() == 0


def test_a_batch_is_normalized_as_its_clips_are_alone():
    batch = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 4, 5, 6, 3), dtype=np.uint8))
    spec = InputSpec(differences="append")
    together = normalize(batch, spec)
    assert torch.equal(together, torch.cat([normalize(batch[i : i + 1], spec) for i in range(3)]))


def test_normalize_refuses_another_number_of_channels():
    with pytest.raises(VideoError, match="takes clips of 3 channels - the batch has 1"):
        normalize(torch.zeros((1, 2, 4, 4, 1), dtype=torch.uint8), InputSpec())


CROPS = {"slowfast": (0, 43, 85), "dmvr": (0, 43, 85), "mmaction2": (0, 42, 84), "videomae": (0, 42, 85)}
"""Where three crops of 256 begin in 341 pixels: the offsets that the four code bases compute."""


@pytest.mark.parametrize("convention", CROPS)
@pytest.mark.parametrize("is_portrait", [False, True])
def test_three_crops_lie_where_each_convention_has_them(convention, is_portrait):
    pixels = make_pixels(1, 256, 341)
    pixels = pixels.transpose(0, 2, 1, 3).copy() if is_portrait else pixels
    spec = InputSpec(height=256, width=256, convention=convention)
    for crop, start in enumerate(CROPS[convention]):
        part = slice(start, start + 256)
        expected = pixels[:, part] if is_portrait else pixels[:, :, part]
        np.testing.assert_array_equal(fit(pixels, spec, crop=crop).numpy(), expected)


def test_crops_along_the_longer_side_lie_in_the_middle_of_the_shorter_one():
    pixels = make_pixels(1, 30, 60)
    spec = InputSpec(height=20, width=20, short_side=30, convention="slowfast")
    for crop, left in enumerate((0, 20, 40)):
        np.testing.assert_array_equal(fit(pixels, spec, crop=crop).numpy(), pixels[:, 5:25, left : left + 20])
