from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transforms.pictures import assert_within_one_level, make_pixels, resize_with_pillow
from tubelet.errors import VideoError
from tubelet.shapes import Size
from tubelet.transforms import Augmentation
from tubelet.transforms.geometry import (
    Box,
    Draw,
    augment,
    draw_augmentation,
    plan_crop,
    shift_clip,
    stretch_clip,
    vary,
)
from tubelet.transforms.preparation import fit
from tubelet.video.spec import InputSpec

CLASSES = ("left", "up", "right", "down", "in", "out")
OFF = Augmentation(horizontal_flip=0.0)
ALL = Augmentation(
    horizontal_flip=0.5,
    vertical_flip=0.5,
    time_reversal=0.5,
    crop_scale=(0.3, 0.9),
    crop_ratio=(0.75, 4 / 3),
    shift=0.3,
    time_shift=0.3,
    stretch=(0.7, 1.4),
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
)
SPEC = InputSpec(height=24, width=24)


@pytest.mark.parametrize("spec", [SPEC, InputSpec(height=20, width=31, fit="stretch"), InputSpec(height=40, width=56)])
def test_a_policy_that_does_nothing_is_fit_byte_for_byte(spec):
    pixels = make_pixels()
    clip, label = augment(pixels, 3, OFF, spec, CLASSES, np.random.default_rng(0))
    assert torch.equal(clip, fit(pixels, spec))
    assert label == 3


@pytest.mark.parametrize(
    ("flip", "pairs", "axis", "labels"),
    [
        ("horizontal_flip", "horizontal_pairs", 2, [2, 1, 0, 3, 4, 5]),
        ("vertical_flip", "vertical_pairs", 1, [0, 3, 2, 1, 4, 5]),
        ("time_reversal", "reversal_pairs", 0, [0, 1, 2, 3, 5, 4]),
    ],
)
def test_a_flip_mirrors_the_clip_and_swaps_its_label(flip, pairs, axis, labels):
    pairs_of = {
        "horizontal_pairs": (("left", "right"),),
        "vertical_pairs": (("up", "down"),),
        "reversal_pairs": (("in", "out"),),
    }
    policy = replace(OFF, **{flip: 1.0}, **pairs_of)
    pixels = make_pixels()
    expected = np.flip(fit(pixels, SPEC).numpy(), axis)
    for index, other in enumerate(labels):
        clip, label = augment(pixels, index, policy, SPEC, CLASSES, np.random.default_rng(index))
        np.testing.assert_array_equal(clip.numpy(), expected)
        assert label == other


def test_two_flips_swap_the_label_one_after_the_other():
    policy = Augmentation(
        horizontal_flip=1.0,
        vertical_flip=1.0,
        horizontal_pairs=(("left", "right"),),
        vertical_pairs=(("right", "up"),),
    )
    assert augment(make_pixels(), 0, policy, SPEC, CLASSES, np.random.default_rng(0))[1] == 1


def test_the_label_changes_exactly_when_the_clip_was_flipped():
    policy = Augmentation(horizontal_pairs=(("left", "right"),))
    pixels, generator = make_pixels(1, 24, 24), np.random.default_rng(1)
    seen = set()
    for _ in range(40):
        clip, label = augment(pixels, 0, policy, SPEC, CLASSES, generator)
        mirrored = np.array_equal(clip.numpy(), pixels[:, :, ::-1])
        assert mirrored != np.array_equal(clip.numpy(), pixels)
        assert (label == 2) == mirrored
        seen.add(mirrored)
    assert seen == {True, False}


@pytest.mark.parametrize("chance", [0.0, 0.2, 0.5, 1.0])
def test_flips_happen_as_often_as_asked(chance):
    policy = Augmentation(horizontal_flip=chance, vertical_flip=chance, time_reversal=chance)
    generator = np.random.default_rng(7)
    draws = [draw_augmentation(policy, Size(40, 56), SPEC, generator) for _ in range(2000)]
    for name in ("horizontal_flip", "vertical_flip", "time_reversal"):
        assert np.mean([getattr(draw, name) for draw in draws]) == pytest.approx(chance, abs=0.04)


def test_all_frames_get_the_same_draw():
    frame = make_pixels(1)
    generator = np.random.default_rng(3)
    for _ in range(20):
        clip, _ = augment(np.repeat(frame, 5, 0), 0, ALL, SPEC, CLASSES, generator)
        assert all(torch.equal(clip[0], later) for later in clip[1:])


def test_equal_generators_give_equal_clips_and_others_do_not():
    pixels = make_pixels()
    one, other, third = (augment(pixels, 0, ALL, SPEC, CLASSES, np.random.default_rng(seed))[0] for seed in (4, 4, 5))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)


def test_switching_one_variation_off_leaves_the_other_draws_as_they_were():
    size = Size(40, 56)
    whole = draw_augmentation(ALL, size, SPEC, np.random.default_rng(9))
    for change, untouched in (
        ({"brightness": 0.0}, replace(whole, brightness=1.0)),
        ({"shift": 0.0}, replace(whole, shift=(0.0, 0.0))),
        ({"time_shift": 0.0}, replace(whole, time_shift=0.0)),
        ({"stretch": (1.0, 1.0)}, replace(whole, stretch=(1.0, 1.0, 1.0))),
        ({"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}, replace(whole, crop=None)),
    ):
        assert draw_augmentation(replace(ALL, **change), size, SPEC, np.random.default_rng(9)) == untouched


def test_the_source_is_never_written_to():
    pixels = make_pixels(3, 24, 24)
    before = pixels.copy()
    generator = np.random.default_rng(0)
    for policy in (OFF, ALL, replace(ALL, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), shift_fill="wrap")):
        for _ in range(10):
            augment(pixels, 0, policy, SPEC, CLASSES, generator)
    np.testing.assert_array_equal(pixels, before)


def test_a_crop_is_the_box_scaled_to_the_whole_picture():
    pixels = make_pixels(2, 60, 80)
    box = Box(top=7, left=11, height=31, width=42)
    expected = resize_with_pillow(pixels[:, 7:38, 11:53], 24, 24)
    assert_within_one_level(vary(pixels, Draw(crop=box), SPEC), expected)


@given(
    st.integers(1, 70), st.integers(1, 70), st.floats(0.05, 1), st.floats(0.3, 3), st.integers(0, 99),
    st.sampled_from(["crop", "stretch"]),
)  # fmt: skip
def test_crops_lie_inside_the_picture(height, width, scale, ratio, seed, how):
    policy = replace(OFF, crop_scale=(scale, 1.0), crop_ratio=(min(ratio, 1.0), max(ratio, 1.0)))
    box = plan_crop(policy, Size(height, width), InputSpec(height=24, width=32, fit=how), np.random.default_rng(seed))
    assert 0 <= box.top < box.top + box.height <= height
    assert 0 <= box.left < box.left + box.width <= width


def test_crops_are_spread_over_area_shape_and_place_as_asked():
    policy = replace(OFF, crop_scale=(0.2, 0.5), crop_ratio=(0.75, 4 / 3))
    generator = np.random.default_rng(0)
    boxes = [plan_crop(policy, Size(400, 400), SPEC, generator) for _ in range(3000)]
    areas = np.array([box.height * box.width / 400**2 for box in boxes])
    shapes = np.log([box.width / box.height for box in boxes])
    places = np.array([box.top / (400 - box.height) for box in boxes])
    assert areas.min() > 0.195
    assert areas.max() < 0.505
    for values, low, high in ((areas, 0.2, 0.5), (shapes, np.log(0.75), np.log(4 / 3)), (places, 0, 1)):
        quarters = np.quantile(values, [0.25, 0.5, 0.75])
        np.testing.assert_allclose(quarters, low + (high - low) * np.array([0.25, 0.5, 0.75]), atol=0.04 * (high - low))


@pytest.mark.parametrize(("how", "size", "shape"), [("crop", Size(300, 400), 2.0), ("stretch", Size(300, 400), 4 / 3)])
def test_a_ratio_of_one_keeps_the_shapes_that_evaluation_shows(how, size, shape):
    spec = InputSpec(height=50, width=100, fit=how)
    generator = np.random.default_rng(0)
    boxes = [plan_crop(replace(OFF, crop_scale=(0.2, 0.6)), size, spec, generator) for _ in range(50)]
    np.testing.assert_allclose([box.width / box.height for box in boxes], shape, rtol=0.02)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        (Size(10, 100), Box(0, 43, 10, 13)),  # 10 * 4/3 = 13 wide
        (Size(100, 10), Box(43, 0, 13, 10)),  # 10 / 0.75 = 13 high
    ],
)
def test_a_picture_too_long_for_any_crop_gives_its_middle(size, box):
    policy = replace(OFF, crop_scale=(0.9, 1.0), crop_ratio=(0.75, 4 / 3))
    assert plan_crop(policy, size, SPEC, np.random.default_rng(0)) == box


@given(st.integers(-5, 5), st.integers(-7, 7), st.booleans())
def test_a_shift_moves_every_pixel_by_as_much(down, right, wrap):
    clip = torch.from_numpy(make_pixels(2, 5, 7))
    moved = shift_clip(clip, down, right, wrap=wrap)
    turned = shift_clip(clip.transpose(0, 1), right=right, down=0, later=down, wrap=wrap)
    assert torch.equal(turned.transpose(0, 1), moved), "time is an axis as height is"
    for row in range(5):
        for column in range(7):
            source = ((row - down) % 5, (column - right) % 7)
            if not wrap:
                source = (min(max(row - down, 0), 4), min(max(column - right, 0), 6))
            assert torch.equal(moved[:, row, column], clip[:, source[0], source[1]])


def test_shifts_reach_as_far_as_asked_and_no_further():
    generator = np.random.default_rng(0)
    policy = replace(OFF, shift=0.25, time_shift=0.25)
    draws = [draw_augmentation(policy, Size(40, 40), SPEC, generator) for _ in range(500)]
    shifts = np.array([(draw.time_shift, *draw.shift) for draw in draws])
    assert np.abs(shifts).max() <= 0.25
    assert shifts.min(axis=0).max() < -0.24
    assert shifts.max(axis=0).min() > 0.24


@pytest.mark.parametrize("factor", [0.4, 0.8, 1.0, 1.3, 3.0])
def test_a_stretch_makes_a_box_longer_along_one_axis_and_leaves_its_middle(factor):
    box = torch.zeros(60, 60, 60, 1, dtype=torch.uint8)
    box[20:40, 20:40, 20:40] = 255
    for axis in range(3):
        factors = tuple(factor if own == axis else 1.0 for own in range(3))
        stretched = stretch_clip(box, factors)
        places = stretched.nonzero().double()
        lengths = (places.amax(0) - places.amin(0) + 1)[:3]
        wanted = [min(20 * own, 60) for own in factors]
        np.testing.assert_allclose(lengths, wanted, atol=1)
        np.testing.assert_allclose(places.mean(0)[:3], 29.5, atol=1e-9)
        assert torch.equal(stretched.unique(), torch.tensor([0, 255], dtype=torch.uint8))


def test_stretches_are_drawn_for_each_axis_evenly_between_shorter_and_longer():
    generator = np.random.default_rng(0)
    policy = replace(OFF, stretch=(0.5, 2.0))
    factors = np.array([draw_augmentation(policy, Size(40, 40), SPEC, generator).stretch for _ in range(2000)])
    np.testing.assert_allclose(
        np.quantile(np.log2(factors), [0.01, 0.5, 0.99], axis=0).T, [[-0.98, 0, 0.98]] * 3, atol=0.1
    )
    assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.1


def test_a_volume_is_stretched_and_moved_along_all_its_axes():
    volume = np.zeros((24, 24, 24, 1), np.uint8)
    volume[9:15, 9:15, 9:15] = 255
    draw = Draw(stretch=(2.0, 1.0, 1 / 3), time_shift=0.125, shift=(-0.25, 0.0))
    places = vary(volume, draw, replace(SPEC, channels=1)).nonzero()
    assert places.amin(0).tolist()[:3] == [9, 3, 11]
    assert places.amax(0).tolist()[:3] == [20, 8, 12]


def test_the_policy_chooses_what_a_shift_brings_in():
    pixels = make_pixels(1, 24, 24)
    wrapped, _ = augment(pixels, 0, replace(OFF, shift=0.5, shift_fill="wrap"), SPEC, CLASSES, np.random.default_rng(2))
    edged, _ = augment(pixels, 0, replace(OFF, shift=0.5), SPEC, CLASSES, np.random.default_rng(2))
    assert sorted(wrapped.flatten().tolist()) == sorted(pixels.flatten().tolist())
    assert sorted(edged.flatten().tolist()) != sorted(pixels.flatten().tolist())


def test_volumes_of_other_channels_are_varied_too():
    for channels in (1, 2):
        clip, _ = augment(
            make_pixels(3, 30, 30, channels),
            0,
            ALL,
            InputSpec(height=24, width=24, channels=channels),
            CLASSES,
            np.random.default_rng(0),
        )
        assert clip.shape == (3, 24, 24, channels)


def test_channels_that_do_not_suit_the_model_are_refused_under_a_crop_too():
    with pytest.raises(VideoError, match="clips of 3 channels - this one has 2"):
        augment(make_pixels(3, 30, 30, 2), 0, ALL, SPEC, CLASSES, np.random.default_rng(0))
