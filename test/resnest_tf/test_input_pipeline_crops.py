"""resnest_tf.input_pipeline's crops against scaling and cropping written out in NumPy, and whole
images scaled by OpenCV and then cropped.
"""

import dataclasses

import cv2
import numpy as np
import pytest
from crops import LAST, cfg, classes, crop, draws_for, picture, random_draws
from numpy_images import bilinear, places

from resnest_tf.input_pipeline import DRAWS, Draws

# ImageNet's, RGB
MEAN, STD = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255


# Geometry


def is_nearest(found, label, rows, columns):
    """Whether each found pixel is the label's nearest to its place; halfway between two, either."""

    def at(places, shift, length):
        return np.clip(np.floor(places + 0.5 + shift).astype(int), 0, length - 1)

    options = [
        label[at(rows, a, label.shape[0])[:, None], at(columns, b, label.shape[1])]
        for a in (-1e-3, 1e-3)
        for b in (-1e-3, 1e-3)
    ]
    return np.any([found == option for option in options], axis=0).all()


@pytest.mark.parametrize('seed', range(8))
def test_scaled_and_cropped_at_once(seed):
    """As many source pixels as the factor says, at a place of whole source pixels, and nothing else
    moved.
    """
    settings = cfg(photometric=False, flip=False)
    image, label = picture(seed=seed), classes(seed=seed)
    for draws in random_draws(seed, 10):
        scale = 0.5 + 1.5 * draws.scale
        rows, columns = (
            places(int(draw * (length - count + 1)), count, size)
            for draw, length, size, count in (
                (draws.top, 128, 48, int(round(48 / scale))),
                (draws.left, 256, 96, int(round(96 / scale))),
            )
        )
        pixels, found = crop(image, label, draws, settings)
        assert is_nearest(found, label, rows, columns)
        error = np.abs(pixels - bilinear(image[..., ::-1], rows, columns))
        # The outermost half pixel reads nothing outside of the crop.
        assert error[1:-1, 1:-1].max() <= 1.5 and error.max() <= 6


@pytest.mark.parametrize('scale', [0.5, 0.75, 1.0, 1.5, 2.0])
@pytest.mark.parametrize('top, left', [(0.0, 0.0), (0.3, 0.7), (LAST, LAST)])
def test_as_the_whole_image_scaled_and_then_cropped(scale, top, left):
    settings = cfg(min_scale=scale, max_scale=scale, photometric=False, flip=False)
    image, label = picture(seed=2), classes(seed=2)
    height, width, count_y, count_x = (
        int(x) for x in (128 * scale, 256 * scale, 48 / scale, 96 / scale)
    )
    whole = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)[..., ::-1]
    # A place that is a whole pixel before and after scaling.
    y, x = (
        int(draw * (length - count + 1)) // 4 * 4
        for draw, length, count in ((top, 128, count_y), (left, 256, count_x))
    )
    draws = draws_for(top=(y + 0.5) / (128 - count_y + 1), left=(x + 0.5) / (256 - count_x + 1))
    pixels, found = crop(image, label, draws, settings)
    rows, columns = (
        slice(int(at * scale), int(at * scale) + size) for at, size in ((y, 48), (x, 96))
    )
    assert is_nearest(found, label, places(0, 128, height)[rows], places(0, 256, width)[columns])
    error = np.abs(pixels - whole[rows, columns].astype(int))
    assert error[1:-1, 1:-1].max() <= 1 and error.max() <= 6


@pytest.mark.parametrize('axis', [0, 1])
def test_image_and_label_stay_together(axis):
    """Stripes of both: the pixel nearest to a place is the one that has the most weight in
    interpolation.
    """
    stripes = np.random.RandomState(0).randint(0, 2, 256).astype(np.uint8)
    label = np.broadcast_to(stripes if axis else stripes[:128, None], (128, 256)).copy()
    image = np.repeat(200 * label[..., None], 3, -1)
    for draws in random_draws(1, 50):
        pixels, found = crop(image, label, draws, cfg(photometric=False))
        clear = np.abs(pixels[..., 0] - 100.0) > 2
        assert np.array_equal((pixels[..., 0] > 100)[clear], found[clear] == 1)
        assert clear.mean() > 0.4 and 0 < found.mean() < 1


def test_scales_and_places_cover_their_ranges():
    """Read from pixels that say where they are from; the factor's distribution is uniform, so is
    the place's given the factor.
    """
    y, x = np.mgrid[:128, :256].astype(np.uint8)
    image = np.stack([np.zeros_like(x), y, x], -1)
    settings = cfg(photometric=False, flip=False, crop_height=32, crop_width=48)
    scales, tops, lefts = [], [], []
    for draws in random_draws(1, 3000):
        pixels = crop(image, y, draws, settings)[0].astype(float)
        found_x, found_y = pixels[..., 0], pixels[..., 1]
        # Roughly: spans are between the centres of the outermost pixels.
        count_y, count_x = np.ptp(found_y) * 32 / 31, np.ptp(found_x) * 48 / 47
        assert abs(32 / count_y - 48 / count_x) < 0.1 * 48 / count_x
        scales.append(48 / count_x)
        tops.append(found_y.min() / (128 - count_y))
        lefts.append(found_x.min() / (256 - count_x))
    assert 0.48 < min(scales) < 0.52 and 1.9 < max(scales) < 2.1
    assert np.abs(np.histogram(scales, 5, (0.5, 2.0))[0] / 3000 - 0.2).max() < 0.04
    for place in (tops, lefts):
        assert min(place) < 0.01 and max(place) > 0.99
        assert np.abs(np.histogram(place, 5, (0, 1))[0] / 3000 - 0.2).max() < 0.04


@pytest.mark.parametrize('draw, first', [(0.0, (0, 0)), (LAST, (128 - 96, 256 - 192))])
def test_the_outermost_crops(draw, first):
    label = np.zeros((128, 256), np.uint8)
    label[first[0] : first[0] + 96, first[1] : first[1] + 192] = 1
    found = crop(picture(), label, draws_for(scale=0.0, top=draw, left=draw), cfg())[1]
    assert (found == 1).all()


# Padding


@pytest.mark.parametrize(
    'height, width, scale',
    [(20, 30, 0.5), (20, 30, 1.3), (20, 400, 0.9), (400, 30, 1.7), (1, 1, 0.5), (95, 191, 0.5)],
)
def test_small_images_are_padded_on_the_right_and_below(height, width, scale):
    settings = cfg(min_scale=scale, max_scale=scale)
    image, label = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    rows, columns = (
        min(size, max(1, int(round(length * scale))))
        for size, length in ((48, height), (96, width))
    )
    expected = np.full((48, 96), 255)
    expected[:rows, :columns] = 0
    for draws in np.random.RandomState(0).rand(20, DRAWS):
        draws[4:] = 0.9  # distorted, all of it
        pixels, found = crop(image, label, Draws(*draws), settings)
        np.testing.assert_array_equal(found, expected)
        inside = found == 0
        assert np.abs((pixels[~inside] - MEAN) / STD).max(initial=0) < 0.01
        assert np.abs(pixels[inside] / 255.0 - MEAN / 255).min() > 0.1  # brightened


def test_small_images_in_black():
    settings = cfg(min_scale=0.5, max_scale=0.5, crop_fill='black', photometric=False)
    image = np.full((20, 30, 3), 200, np.uint8)
    pixels, label = crop(image, np.ones((20, 30), np.uint8), draws_for(), settings)
    np.testing.assert_array_equal(pixels == 0, np.repeat((label == 255)[..., None], 3, 2))


def test_crops_of_one_class_are_drawn_again():
    """Three quarters of the image are class 0, the rest is split between 1 and what is ignored."""
    label = np.zeros((128, 256), np.uint8)
    label[:, 192:224], label[:, 224:] = 1, 255
    settings = cfg(min_scale=1.0, max_scale=1.0, crop_max_share=0.75, photometric=False)
    every, chosen = [], []
    for draws in random_draws(0, 400):
        for found, share in ((every, 1.0), (chosen, 0.75)):
            limited = dataclasses.replace(settings, crop_max_share=share)
            _, classes_found = crop(picture(), label, draws, limited)
            counts = np.bincount(classes_found.ravel(), minlength=256)[:255]
            found.append(counts.max() / max(1, counts.sum()))
    every, chosen = np.array(every), np.array(chosen)
    enough = np.mean(every < 0.75)
    assert 0.1 < enough < 0.5
    # One of 11 places suffices, and if none does the last one is taken.
    assert abs(np.mean(chosen < 0.75) - (1 - (1 - enough) ** 11)) < 0.08
    assert np.array_equal(chosen[every < 0.75], every[every < 0.75])


@pytest.mark.parametrize('height, width', [(128, 256), (20, 30), (300, 20)])
def test_flip(height, width):
    image, label = picture(height, width), classes(height, width)
    for draws in random_draws(3, 20):
        plain = crop(image, label, draws, cfg(flip=False))
        shown = min(96, int(round(width * (0.5 + 1.5 * draws.scale))))  # the rest is padding
        for draw in (0.0, 0.499, 0.5, LAST):
            for part, expected in zip(crop(image, label, draws._replace(flip=draw), cfg()), plain):
                mirrored = expected[:, :shown][:, ::-1] if draw < 0.5 else expected[:, :shown]
                assert np.array_equal(part[:, :shown], mirrored)
                assert np.array_equal(part[:, shown:], expected[:, shown:])
        draws = draws._replace(flip=0.0)
        assert np.array_equal(crop(image, label, draws, cfg(flip=False))[0], plain[0])


@pytest.mark.parametrize('column', Draws._fields)
def test_every_draw_matters(column):
    distorted = dict(brightness=0.8, contrast=0.9, saturation=0.95, hue=0.8, contrast_last=0.3)
    draws = draws_for(scale=0.6, flip=0.3, **distorted)
    base = crop(picture(), classes(), draws, cfg())[0]
    changed = draws._replace(**{column: 0.55})
    assert not np.array_equal(crop(picture(), classes(), changed, cfg())[0], base)
