"""Colors, hiding, blur and policies: what they do to a clip, and that a draw is one draw."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from transforms.pictures import make_pixels
from tubelet.shapes import Size
from tubelet.transforms import Augmentation
from tubelet.transforms.color import adjust_color, measure_luminance
from tubelet.transforms.erasing import erase
from tubelet.transforms.filters import blur
from tubelet.transforms.geometry import Draw, augment, draw_augmentation, vary
from tubelet.transforms.portions import PORTION, map_portions
from tubelet.transforms.randaugment import OPERATIONS, POOLS
from tubelet.video.spec import InputSpec

SPEC = InputSpec(height=24, width=24)
SIZE = Size(40, 56)
ALL = Augmentation(
    crop_scale=(0.3, 0.9),
    brightness=0.4,
    saturation=0.4,
    hue=0.2,
    grayscale=0.3,
    rotation=20.0,
    policy="randaugment",
    blur=0.5,
    erasing=0.7,
)


def paint(*color):
    return torch.tensor(color, dtype=torch.uint8).expand(2, 4, 4, 3).contiguous()


@pytest.mark.parametrize("color", [(200, 80, 80), (80, 200, 80), (90, 90, 220), (120, 180, 60)])
def test_a_turn_of_the_hue_keeps_luminance_and_leads_from_red_over_yellow_to_green(color):
    clip = paint(*color)
    for turn in (-0.3, 0.05, 0.1, 0.5):
        turned = adjust_color(clip, hue=turn)
        assert measure_luminance(turned) == pytest.approx(measure_luminance(clip), abs=3)
    back = adjust_color(adjust_color(clip, hue=0.04), hue=-0.04)
    assert (back.int() - clip.int()).abs().max() <= 2
    assert torch.equal(adjust_color(clip, hue=1.0), clip)


def test_hues_turn_the_way_of_the_color_wheel():
    red = paint(170, 110, 110)
    a_little, further, half = (adjust_color(red, hue=turn)[0, 0, 0].int() for turn in (0.15, 1 / 3, 0.5))
    assert a_little[0] > a_little[2] + 20  # yellow: red and green above blue
    assert a_little[1] > a_little[2] + 20
    assert further.argmax() == 1
    assert half[0] < half[1]  # cyan
    assert half[0] < half[2]


def test_gray_has_no_hue_to_turn_and_a_clip_of_one_channel_none_at_all():
    gray = paint(90, 90, 90)
    assert (adjust_color(gray, hue=0.3).int() - gray.int()).abs().max() <= 1
    single = torch.from_numpy(make_pixels(2, 8, 8, 1))
    assert adjust_color(single, hue=0.3) is single


def test_grayscale_shows_the_luminance_in_all_channels():
    clip = vary(make_pixels(2, 24, 24), Draw(grayscale=True), SPEC)
    assert torch.equal(clip[..., 0], clip[..., 1])
    assert torch.equal(clip[..., 0], clip[..., 2])


@pytest.mark.parametrize("fill", ["noise", "mean", "value"])
def test_the_same_rectangle_is_hidden_in_every_frame(fill):
    spec = InputSpec(height=24, width=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    policy = Augmentation(horizontal_flip=0.0, erasing=1.0, erasing_fill=fill, erasing_scale=(0.2, 0.3), fill=7)
    pixels = np.zeros((4, 24, 32, 3), np.uint8)
    draw = draw_augmentation(policy, Size(24, 32), spec, np.random.default_rng(1))
    clip, box = vary(pixels, draw, spec), draw.erasure.box
    outside = clip.clone()
    outside[:, box.top : box.top + box.height, box.left : box.left + box.width] = 0
    hidden = clip[:, box.top : box.top + box.height, box.left : box.left + box.width].double()
    assert int(outside.max()) == 0
    assert 0.15 < box.height * box.width / (24 * 32) < 0.35
    if fill == "noise":
        assert not torch.equal(hidden[0], hidden[1])
        means, deviations = hidden.mean((0, 1, 2)) / 255, hidden.std((0, 1, 2)) / 255
        np.testing.assert_allclose(means, spec.mean, atol=0.04)
        np.testing.assert_allclose(deviations, spec.std, atol=0.03)
    else:
        wanted = (7, 7, 7) if fill == "value" else (124, 116, 104)
        assert hidden.unique(dim=2).flatten(0, 2).unique(dim=0).tolist() == [list(wanted)]


def test_erasing_never_writes_into_the_source():
    clip = torch.from_numpy(make_pixels(2, 24, 24))
    before = clip.clone()
    draw = draw_augmentation(replace(ALL, erasing=1.0), SIZE, SPEC, np.random.default_rng(0))
    erase(clip, draw.erasure)
    assert torch.equal(clip, before)


def test_a_blur_keeps_an_even_picture_and_lowers_contrast_with_its_deviation():
    even = torch.full((1, 9, 9, 1), 77, dtype=torch.uint8)
    assert torch.equal(blur(even, 3.0), even)
    clip = torch.from_numpy(make_pixels(1, 40, 56))
    spreads = [float(blur(clip, sigma).float().std()) for sigma in (0.1, 1.0, 3.0)]
    assert spreads == sorted(spreads, reverse=True)


@pytest.mark.parametrize("policy", list(POOLS))
def test_policies_vary_gray_and_color_clips_alike_in_all_frames(policy):
    generator = np.random.default_rng(0)
    asked = Augmentation(horizontal_flip=0.0, policy=policy, policy_ops=3)
    seen = set()
    for number in range(40):
        channels = (1, 3)[number % 2]
        spec = InputSpec(height=24, width=24, channels=channels)
        still = np.repeat(make_pixels(1, 30, 30, channels), 3, 0)
        seen.update(one.name for one in draw_augmentation(asked, SIZE, spec, generator).operations)
        clip, _ = augment(still, 0, asked, spec, ("one", "other"), generator)
        assert clip.shape == (3, 24, 24, channels)
        assert torch.equal(clip[0], clip[2])
    assert seen <= set(POOLS[policy]) <= set(OPERATIONS)
    assert len(seen) > 10


def test_switching_one_look_off_leaves_all_other_draws_as_they_were():
    for seed in range(20):
        whole = draw_augmentation(ALL, SIZE, SPEC, np.random.default_rng(seed))
        for change, untouched in (
            ({"hue": 0.0}, replace(whole, hue=0.0)),
            ({"rotation": 0.0}, replace(whole, rotation=0.0)),
            ({"policy": "none"}, replace(whole, operations=())),
            ({"erasing": 0.0}, replace(whole, erasure=None)),
            ({"blur": 0.0}, replace(whole, blur_sigma=0.0)),
            ({"grayscale": 0.0}, replace(whole, grayscale=False)),
            ({"crop_scale": (1.0, 1.0)}, replace(whole, crop=None)),
        ):
            other = draw_augmentation(replace(ALL, **change), SIZE, SPEC, np.random.default_rng(seed))
            assert replace(other, hue=other.hue + 0.0, rotation=other.rotation + 0.0) == untouched


def test_looks_are_drawn_as_often_and_as_strongly_as_asked():
    generator = np.random.default_rng(0)
    draws = [draw_augmentation(ALL, SIZE, SPEC, generator) for _ in range(1500)]
    turns, hues = np.array([draw.rotation for draw in draws]), np.array([draw.hue for draw in draws])
    for values, reach in ((turns, 20.0), (hues, 0.2)):
        np.testing.assert_allclose(np.quantile(values, [0, 0.5, 1]), [-reach, 0, reach], atol=0.1 * reach)
    assert {draw.brightness == 1 for draw in draws} == {False}
    seldom = [draw_augmentation(replace(ALL, color_chance=0.8), SIZE, SPEC, generator) for _ in range(1500)]
    left = np.array([(draw.brightness, draw.saturation, draw.hue) for draw in seldom]) == (1, 1, 0)
    assert left.all(1).mean() == left.any(1).mean() == pytest.approx(0.2, abs=0.03)
    assert np.mean([draw.grayscale for draw in draws]) == pytest.approx(0.3, abs=0.04)
    assert np.mean([draw.blur_sigma > 0 for draw in draws]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([draw.erasure is not None for draw in draws]) == pytest.approx(0.7, abs=0.04)


def test_a_clip_is_worked_through_in_portions_without_a_seam():
    clip = torch.from_numpy(make_pixels(9, 100, 200))
    assert clip[:4].numel() > PORTION
    sizes = []
    same = map_portions(lambda portion: (sizes.append(len(portion)), portion)[1], clip)
    assert torch.equal(same, clip)
    assert sizes == [3, 3, 3]
