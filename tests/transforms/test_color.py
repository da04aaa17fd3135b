import numpy as np
import pytest
import torch

from transforms.pictures import make_pixels
from tubelet.transforms.color import adjust_color, measure_luminance

WEIGHTS = np.array([0.299, 0.587, 0.114])


def adjust_slowly(pixels, brightness, contrast, saturation):
    """The three steps of the docstring one after the other, in float64."""
    values = pixels.astype(np.float64)
    if pixels.shape[-1] == 3:
        gray = (values @ WEIGHTS)[..., None]
        mean = gray.mean()
        values = gray + saturation * (values - gray)
    else:
        mean = values.mean()
    return np.clip(brightness * (mean + contrast * (values - mean)), 0, 255)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(
    "factors",
    [
        (1.3, 1, 1),
        (0.6, 1, 1),
        (1, 1.5, 1),
        (1, 0.4, 1),
        (1, 1, 1.6),
        (1, 1, 0),
        (0.7, 1.4, 0.5),
        (1.2, 0.8, 1.3),
        (0, 1, 1),
    ],
)
def test_colors_follow_the_formula(channels, factors):
    pixels = make_pixels(3, 20, 24, channels)
    found = adjust_color(torch.from_numpy(pixels), *map(float, factors)).numpy()
    assert np.abs(found - adjust_slowly(pixels, *factors)).max() < 0.5 + 1e-3


def test_factors_of_one_change_nothing():
    clip = torch.from_numpy(make_pixels(2, 20, 24))
    assert torch.equal(adjust_color(clip, 1.0, 1.0, 1.0), clip)


def test_views_are_adjusted_as_copies_are():
    clip = torch.from_numpy(make_pixels(4, 20, 24))
    view = clip[::2, 3:15, 2:20]
    for factors in ((1.2, 0.7, 1.0), (1.2, 0.7, 0.6)):
        assert torch.equal(adjust_color(view, *factors), adjust_color(view.contiguous(), *factors))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_mean_luminance_survives_a_change_of_contrast_and_saturation(channels):
    clip = torch.from_numpy(np.random.default_rng(0).integers(90, 160, (4, 20, 24, channels), dtype=np.uint8))
    adjusted = adjust_color(clip, contrast=0.5, saturation=0.3)
    assert measure_luminance(adjusted) == pytest.approx(measure_luminance(clip), abs=0.3)
    assert adjusted.float().std() < 0.6 * clip.float().std()
