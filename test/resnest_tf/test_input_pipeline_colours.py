"""resnest_tf.input_pipeline's distortion of colours against colorsys."""

import colorsys

import numpy as np
import pytest
from crops import LAST, cfg, classes, crop, draws_for, picture, random_draws

from resnest_tf import input_pipeline


def by_colorsys(pixels, brightness=0, contrast=1, contrast_last=False, saturation=1, hue=0):
    """uint8 BGR -> RGB, float64; hue in degrees."""

    def scaled(values, factor, shift=0):
        return np.clip(values * factor + shift, 0, 255)

    image = scaled(pixels[..., ::-1].astype(np.float64), 1, brightness)
    if not contrast_last:
        image = scaled(image, contrast)
    if saturation != 1 or hue:
        flat = [colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3) / 255]
        flat = [
            colorsys.hsv_to_rgb((h + hue / 360) % 1, min(1, s * saturation), v) for h, s, v in flat
        ]
        image = 255 * np.reshape(flat, image.shape)
    return scaled(image, contrast) if contrast_last else image


PATCH = np.random.RandomState(7).randint(0, 256, (24, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    'name, draw, value',
    [
        ('brightness', 0.5, -32),
        ('brightness', LAST, 32),
        ('brightness', 0.75, 0),
        ('brightness', 0.875, 16),
        ('contrast', 0.5, 0.5),
        ('contrast', LAST, 1.5),
        ('contrast', 0.625, 0.75),
        ('saturation', 0.5, 0.5),
        ('saturation', LAST, 1.5),
        ('hue', 0.5, -36),
        ('hue', LAST, 34),
        ('hue', 0.875, 18),
    ],
)
@pytest.mark.parametrize('last', [0.0, 0.9])
def test_each_distortion_and_its_bounds(name, draw, value, last):
    found = input_pipeline.distort(PATCH, draws_for(contrast_last=last, **{name: draw}))
    error = by_colorsys(PATCH, **{name: value}) - found[..., ::-1]
    if name in ('brightness', 'contrast'):  # truncated, and LAST is a little less than its value
        assert error.min() >= 0 and error.max() <= 1.001
    else:  # OpenCV's 8-bit hue has steps of 2 degrees
        assert np.abs(error).max() <= 8 and np.abs(error).mean() < 1.5
    for below in (0.0, 0.499):  # a draw below 1/2: not done
        draws = draws_for(contrast_last=last, **{name: below})
        assert np.array_equal(input_pipeline.distort(PATCH, draws), PATCH)


@pytest.mark.parametrize('last', [False, True])
@pytest.mark.parametrize(
    'brightness, contrast, saturation, hue',
    [
        (32, 1.5, 1.5, 34),
        (-32, 1.5, 0.5, -36),
        (32, 0.5, 1.5, 0),
        (20, 1.4, 1, 0),
        (0, 0.6, 0.7, 20),
    ],
)
def test_distortions_in_their_order(last, brightness, contrast, saturation, hue):
    def draw(value, low, high):
        return min(LAST, 0.5 + 0.5 * (value - low) / (high - low))

    draws = draws_for(
        brightness=draw(brightness, -32, 32),
        contrast=draw(contrast, 0.5, 1.5),
        contrast_last=0.5 if last else 0.499,
        saturation=draw(saturation, 0.5, 1.5),
        hue=draw(hue + 1, -36, 36),  # in the middle of a step of 2 degrees
    )
    amounts = dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
    found = input_pipeline.distort(PATCH, draws)[..., ::-1]
    assert found.dtype == np.uint8
    error = np.abs(found - by_colorsys(PATCH, contrast_last=last, **amounts))
    assert error.max() <= 14 and error.mean() < 2
    # What is clipped before saturation is another colour after it.
    if contrast > 1 and saturation != 1:
        assert np.abs(found - by_colorsys(PATCH, contrast_last=not last, **amounts)).mean() > 4


def test_distortion_leaves_the_label_alone_and_its_input():
    image, label = picture(), classes()
    before = image.copy(), label.copy()
    for draws in random_draws(4, 20):
        draws = draws._replace(brightness=0.95, hue=0.9)
        pixels, found = crop(image, label, draws, cfg())
        plain, expected = crop(image, label, draws, cfg(photometric=False))
        assert np.array_equal(found, expected) and np.abs(pixels.astype(int) - plain).mean() > 5
    assert np.array_equal(image, before[0]) and np.array_equal(label, before[1])
