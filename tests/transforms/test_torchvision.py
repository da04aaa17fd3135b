"""Compare every operation with torchvision v2, in gray levels; what it measures a picture, we measure a clip."""

import numpy as np
import pytest
import torch

from transforms.pictures import make_pixels
from tubelet.shapes import Box, Size
from tubelet.transforms import Augmentation
from tubelet.transforms.affine import crop_turned, plan_affine, warp
from tubelet.transforms.color import adjust_color
from tubelet.transforms.erasing import Erasure, erase
from tubelet.transforms.filters import blur, sharpen
from tubelet.transforms.geometry import Draw, plan_crop, vary
from tubelet.transforms.randaugment import BINS, POOLS, Operation, apply_operation, draw_operations, scale_strength
from tubelet.transforms.tone import autocontrast, equalize, invert, posterize, solarize
from tubelet.video.spec import InputSpec

v2 = pytest.importorskip("torchvision.transforms.v2")
F = v2.functional
SIZE = Size(40, 56)


def as_planes(clip):
    return clip.permute(0, 3, 1, 2).contiguous()


def measure_difference(found, planes):
    """Return the greatest difference in gray levels, and the share of values that differ."""
    assert found.dtype == planes.dtype == torch.uint8
    gaps = (found.permute(0, 3, 1, 2).int() - planes.int()).abs()
    return int(gaps.max()), float((gaps > 0).float().mean())


@pytest.fixture(params=[1, 3])
def clip(request):
    return torch.from_numpy(make_pixels(3, *SIZE, request.param))


@pytest.mark.parametrize("box", [Box(7, 11, 31, 42), Box(0, 0, 13, 20), Box(2, 3, 37, 11)])
def test_a_crop_is_resized_crop_within_one_level(clip, box):
    spec = InputSpec(height=24, width=28, channels=clip.shape[-1])
    found = vary(clip.numpy(), Draw(crop=box), spec)
    expected = F.resized_crop(as_planes(clip), box.top, box.left, box.height, box.width, [24, 28], antialias=True)
    assert measure_difference(found, expected)[0] <= 1


def test_crops_are_drawn_as_random_resized_crop_draws_them():
    spec, policy = InputSpec(height=24, width=24), Augmentation(crop_scale=(0.08, 1.0), crop_ratio=(0.75, 4 / 3))
    generator, theirs = np.random.default_rng(0), v2.RandomResizedCrop(24)
    torch.manual_seed(0)
    picture = torch.zeros(1, 200, 300)
    drawn = [plan_crop(policy, Size(200, 300), spec, generator) for _ in range(1500)]
    asked = [theirs.make_params([picture]) for _ in range(1500)]
    for name in ("top", "left", "height", "width"):
        ours, other = [getattr(box, name) for box in drawn], [row[name] for row in asked]
        np.testing.assert_allclose(np.quantile(ours, [0.25, 0.5, 0.75]), np.quantile(other, [0.25, 0.5, 0.75]), atol=12)


@pytest.mark.parametrize("flip", ["horizontal", "vertical"])
def test_flips_are_theirs(clip, flip):
    found = vary(clip.numpy(), Draw(**{f"{flip}_flip": True}), InputSpec(height=40, width=56, channels=clip.shape[-1]))
    assert measure_difference(found, getattr(F, f"{flip}_flip")(as_planes(clip))) == (0, 0.0)


@pytest.mark.parametrize(
    ("angle", "shift", "scale", "shear"),
    [
        (15.0, (0, 0), 1.0, (0.0, 0.0)),
        (-170.0, (0, 0), 1.0, (0.0, 0.0)),
        (0.0, (9, -5), 1.0, (0.0, 0.0)),
        (0.0, (0, 0), 1.4, (0.0, 0.0)),
        (0.0, (0, 0), 1.0, (25.0, 0.0)),
        (0.0, (0, 0), 1.0, (0.0, -25.0)),
        (33.0, (4, 7), 0.8, (12.0, 9.0)),
    ],
)
def test_an_affine_transform_is_theirs_within_one_level(clip, angle, shift, scale, shear):
    found = warp(clip, plan_affine(SIZE, angle, tuple(map(float, shift)), scale, shear), SIZE)
    bilinear = v2.InterpolationMode.BILINEAR
    expected = F.affine(as_planes(clip), angle, list(shift), scale, list(shear), interpolation=bilinear)
    gap, share = measure_difference(found, expected)
    assert gap <= 1
    assert share < 0.01


def test_what_enters_is_filled_as_theirs_except_where_the_edge_is_blended():
    clip = torch.from_numpy(make_pixels(2, *SIZE))
    inside = warp(torch.full_like(clip, 255), plan_affine(SIZE, 20.0), SIZE)
    found = warp(clip, plan_affine(SIZE, 20.0), SIZE, fill=114)
    expected = F.rotate(as_planes(clip), -20.0, interpolation=v2.InterpolationMode.BILINEAR, fill=114)
    gaps = (found.permute(0, 3, 1, 2).int() - expected.int()).abs()
    whole = ((inside == 0) | (inside == 255)).permute(0, 3, 1, 2)
    assert gaps[whole].max() <= 1
    assert whole.float().mean() > 0.9


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_a_turned_crop_is_their_crop_and_turn_where_both_show_the_box(angle):
    rows, columns = np.mgrid[0:120, 0:160]
    smooth = 127 + 60 * np.sin(rows / 17) + 60 * np.cos(columns / 23)
    clip = torch.from_numpy(smooth.astype(np.uint8))[None, ..., None].repeat(2, 1, 1, 3)
    box = Box(10, 20, 90, 120)
    found = crop_turned(clip, box, angle, Size(60, 60), fill=0)
    scaled = F.resized_crop(as_planes(clip), box.top, box.left, box.height, box.width, [60, 60], antialias=True)
    expected = F.rotate(scaled, -angle, interpolation=v2.InterpolationMode.BILINEAR)
    middle = slice(15, 45)
    assert measure_difference(found[:, middle, middle], expected[..., middle, middle])[0] <= 2


def test_a_turned_crop_shows_what_lies_beside_the_box_and_not_its_fill():
    clip = torch.full((1, 100, 100, 1), 200, dtype=torch.uint8)
    assert int(crop_turned(clip, Box(30, 30, 40, 40), 45.0, Size(32, 32)).min()) == 200
    assert int(crop_turned(clip, Box(0, 0, 100, 100), 45.0, Size(32, 32)).min()) == 0


@pytest.mark.parametrize("factor", [0.0, 0.35, 0.8, 1.3, 1.9])
def test_colors_are_theirs_within_two_levels_since_they_cut_fractions_off_twice(clip, factor):
    planes = as_planes(clip)
    assert measure_difference(adjust_color(clip, brightness=factor), F.adjust_brightness(planes, factor))[0] <= 1
    for frame in (clip[:1], clip[1:2]):  # theirs has a mean for each frame
        expected = F.adjust_contrast(as_planes(frame), factor)
        assert measure_difference(adjust_color(frame, contrast=factor), expected)[0] <= 2
    if clip.shape[-1] == 3:
        expected = F.adjust_saturation(planes, factor)
        assert measure_difference(adjust_color(clip, saturation=factor), expected)[0] <= 2


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.7, 1.5, 1.9])
def test_sharpness_is_theirs_within_one_level(clip, factor):
    assert measure_difference(sharpen(clip, factor), F.adjust_sharpness(as_planes(clip), factor))[0] <= 1


def test_tables_are_theirs_to_the_bit_and_autocontrast_within_one_level(clip):
    planes = as_planes(clip)
    assert measure_difference(invert(clip), F.invert(planes)) == (0, 0.0)
    for bits in range(9):
        assert measure_difference(posterize(clip, bits), F.posterize(planes, bits)) == (0, 0.0)
    for threshold in (0.0, 76.8, 128.0, 255.0):
        assert measure_difference(solarize(clip, threshold), F.solarize(planes, threshold)) == (0, 0.0)
    for low, high in ((0, 255), (40, 180), (90, 90)):
        frame = (clip[:1] // 2 + 60).clamp(low, high)
        assert measure_difference(equalize(frame), F.equalize(as_planes(frame))) == (0, 0.0)
        assert measure_difference(autocontrast(frame), F.autocontrast(as_planes(frame)))[0] <= 1


@pytest.mark.parametrize(("sigma", "window"), [(0.5, 5), (1.7, 13)])
def test_blur_is_theirs_within_one_level(clip, sigma, window):
    expected = F.gaussian_blur(as_planes(clip), [window, window], [sigma, sigma])
    assert measure_difference(blur(clip, sigma), expected)[0] <= 1


def test_erasing_is_theirs_to_the_bit(clip):
    levels = (10.0, 20.0, 30.0)[: clip.shape[-1]]
    value = torch.tensor(levels, dtype=torch.uint8)[:, None, None]
    expected = F.erase(as_planes(clip), 5, 8, 12, 30, value)
    assert measure_difference(erase(clip, Erasure(Box(5, 8, 12, 30), levels)), expected) == (0, 0.0)


NAMES = {"ShearX": "shear_x", "ShearY": "shear_y", "TranslateX": "translate_x", "TranslateY": "translate_y"}


@pytest.mark.parametrize(
    ("policy", "theirs"), [("randaugment", v2.RandAugment), ("trivialaugment", v2.TrivialAugmentWide)]
)
def test_the_pools_hold_their_operations_at_their_strengths_and_do_the_same(policy, theirs):
    frame = torch.from_numpy(make_pixels(1, *SIZE))
    transform = theirs(interpolation=v2.InterpolationMode.BILINEAR)
    space = transform._AUGMENTATION_SPACE
    assert {NAMES.get(name, name.lower()) for name in space} == set(POOLS[policy])
    for name, (magnitudes, signed) in space.items():
        kind = POOLS[policy][NAMES.get(name, name.lower())]
        assert kind.signed == signed
        table = magnitudes(BINS + 1, *SIZE)
        for place in (0, 11, 30):
            magnitude = 0.0 if table is None else float(table[place])
            strength = scale_strength(kind, place / BINS, SIZE)
            found = apply_operation(frame, Operation(NAMES.get(name, name.lower()), strength))
            expected = transform._apply_image_or_video_transform(
                as_planes(frame), name, magnitude, interpolation=v2.InterpolationMode.BILINEAR, fill={}
            )
            assert measure_difference(found, expected)[0] <= (2 if name in ("Color", "Contrast") else 1), (name, place)


def test_the_increasing_pool_is_what_timm_makes_of_the_official_string():
    policy = Augmentation(
        policy="randaugment_increasing", policy_ops=4, policy_magnitude=21.0, policy_std=1.5, policy_chance=0.5
    )
    generator = np.random.default_rng(0)
    drawn = [draw_operations(policy, Size(224, 224), generator) for _ in range(4000)]
    assert np.mean([len(row) for row in drawn]) == pytest.approx(2.0, abs=0.05)
    strengths = {}
    for operation in (operation for row in drawn for operation in row):
        strengths.setdefault(operation.name, []).append(operation.strength)
    assert len(strengths) == 15
    assert np.median(np.abs(strengths["rotate"])) == pytest.approx(21, abs=0.3)
    assert np.std(np.abs(strengths["rotate"])) == pytest.approx(1.5, abs=0.2)
    assert np.median(np.abs(strengths["translate_x"])) == pytest.approx(0.45 * 0.7 * 224, abs=1)
    assert np.median(strengths["posterize"]) == 2  # 4 - int(2.8)
    assert np.median(strengths["solarize"]) == pytest.approx(256 - 179.2, abs=1)
    assert np.median(np.abs(np.array(strengths["color"]) - 1)) == pytest.approx(0.63, abs=0.02)
    assert np.mean(np.array(strengths["shear_y"]) > 0) == pytest.approx(0.5, abs=0.1)


ENHANCED = ("color", "contrast", "brightness", "sharpness")


def test_the_increasing_pool_has_the_strengths_that_timm_gives_to_its_magnitudes():
    """Worked out by hand from its `auto_augment.py`; timm is not installed where these tests run."""
    pool = POOLS["randaugment_increasing"]
    assert set(pool) >= {"autocontrast", "equalize", "invert", *ENHANCED}
    for magnitude, turn, bits, threshold, addition, factors, slope, part in (
        (3, 9.0, 3, 180, 33, (0.73, 1.27), 0.09, 0.135),
        (7, 21.0, 2, 77, 77, (0.37, 1.63), 0.21, 0.315),
        (10, 30.0, 0, 0, 110, (0.1, 1.9), 0.3, 0.45),
    ):
        one, other = (
            {name: scale_strength(kind, sign * magnitude / 10, SIZE) for name, kind in pool.items()} for sign in (-1, 1)
        )
        assert (other["rotate"], -one["rotate"]) == pytest.approx((turn, turn))
        assert other["posterize"] == bits
        assert int(np.ceil(other["solarize"])) == threshold  # no value lies between
        assert int(other["solarize_add"]) == addition
        assert all((one[name], other[name]) == pytest.approx(factors) for name in ENHANCED)
        assert (other["shear_x"], -one["shear_y"]) == pytest.approx((slope, slope))
        assert other["translate_x"] == pytest.approx(part * SIZE.width)
        assert one["translate_y"] == pytest.approx(-part * SIZE.height)
