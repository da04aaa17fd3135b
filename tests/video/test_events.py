"""Hold clips with known evidence to their word: the mask is the event, and nothing but the event tells the class."""

import numpy as np
import pytest

from tubelet.video.synthetic.events import EVENTS, draw_event


@pytest.mark.parametrize("label", EVENTS)
def test_the_mask_is_where_and_when_the_class_can_be_seen(label):
    for seed in range(5):
        pixels, mask = draw_event(label, generator=np.random.default_rng(seed))
        other, same = draw_event(EVENTS[EVENTS.index(label) - 1], generator=np.random.default_rng(seed))
        shown = np.flatnonzero(mask.any(axis=(1, 2)))
        assert len(shown) == 4
        assert np.ptp(shown) == 3
        assert not mask[[0, -1]].any()
        assert mask[shown].sum(axis=(1, 2)).min() > 20
        assert mask[shown].sum(axis=(1, 2)).max() < 160  # of 2,304 pixels
        # Another class differs there and nowhere else.
        differs = (pixels != other).any(axis=-1)
        assert not (differs & ~(mask | same)).any()
        assert differs[mask & same].mean() > 0.9


def test_colors_of_still_shapes_do_not_tell_the_class():
    hue = {label: [] for label in EVENTS}
    for seed in range(80):
        label = EVENTS[seed % len(EVENTS)]
        pixels, _ = draw_event(label, generator=np.random.default_rng(seed))
        hue[label].append(pixels[0].mean(axis=(0, 1)))
    means = np.array([np.mean(values, axis=0) for values in hue.values()])
    assert np.ptp(means, axis=0).max() < 8  # levels; the events alone would make it larger in the frames that show them
