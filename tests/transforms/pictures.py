"""Make pictures for the tests of transforms, and scale them with other people's code."""

import numpy as np
from PIL import Image


def make_pixels(time=3, height=40, width=56, channel=3):
    """Smooth pictures with a little noise, so that wrong scaling and wrong places both show."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (3 + c) + t) + np.cos(columns / (4 + c) - t) for t in range(time) for c in range(channel)]
    planes = np.stack(waves).reshape(time, channel, height, width).transpose(0, 2, 3, 1)
    noise = np.random.default_rng(5).uniform(-20, 20, planes.shape)
    return np.clip(127 + 50 * planes + noise, 0, 255).astype(np.uint8)


def resize_with_pillow(pixels, height, width):
    """Pillow's bilinear filter widens with the scale, too: the same antialiasing by other people."""
    planes = [
        [
            Image.fromarray(frame[..., c]).resize((width, height), Image.Resampling.BILINEAR)
            for c in range(frame.shape[-1])
        ]
        for frame in pixels
    ]
    return np.stack([np.stack([np.asarray(plane) for plane in frame], -1) for frame in planes])


def assert_within_one_level(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found.numpy().astype(int) - expected.astype(int)).max() <= 1
