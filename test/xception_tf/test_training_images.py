"""xception_tf.input_pipeline's random crops and colours against closed forms, and interpolation
written out in NumPy.
"""

import numpy as np
import pytest
import tensorflow as tf
from numpy_images import resized, waves
from photos import SIZE, cfg, draws_for, encoded, photo, run, write

from common.data import sampling
from xception_tf import decoding, input_pipeline
from xception_tf.input_pipeline import DRAWS, Draws, random_window

# Crops


def test_random_windows():
    """Share of the area uniform in [0.3, 1), log-aspect uniform within 3/4..4/3, every place
    equally likely, and the last ones too.
    """
    rows = np.random.RandomState(0).rand(20000, DRAWS)
    windows = np.array([random_window(4000, 4000, Draws.of(row), 0.3) for row in rows])
    top, left, height, width = windows.T
    assert (windows >= 0).all() and (top + height <= 4000).all() and (left + width <= 4000).all()
    share, aspect = height * width / 4000**2, np.log(width / height) / np.log(4 / 3)
    # Below this share every aspect fits, so nothing is drawn again.
    fits = np.sqrt(share * (4 / 3)) < 1
    assert np.abs(np.histogram(share[fits], 9, (0.3, 0.75))[0] / fits.sum() - 1 / 9).max() < 0.01
    assert np.abs(np.histogram(aspect[fits], 10, (-1, 1))[0] / fits.sum() - 0.1).max() < 0.01
    assert share.min() < 0.301 and share.max() > 0.99
    place = (top + 0.5) / (4000 - height + 1)
    assert np.abs(np.histogram(place, 10, (0, 1))[0] / len(place) - 0.1).max() < 0.015
    last = 1 - 2.0**-24  # the largest draw
    for top, left, expected in ((last, 0, (50, 0, 50, 50)), (0, last, (0, 50, 50, 50))):
        assert random_window(100, 100, draws_for(top=top, left=left, area=0), 0.25) == expected


def test_the_first_crop_that_fits_is_taken():
    attempts = np.full((10, 2), 0.99)  # 0.992 of a square cannot be 4:3
    assert random_window(100, 100, draws_for(attempts=attempts), 0.08) == (0, 0, 100, 100)
    attempts[6] = 0, 0  # 0.09 of the area at 3:4
    attempts[7] = 0, 1
    expected = 0, 0, round(np.sqrt(900 / 0.75)), round(np.sqrt(900 * 0.75))
    draws = draws_for(attempts=attempts, top=0, left=0)
    assert random_window(100, 100, draws, 0.09) == expected


@pytest.mark.parametrize(
    'height, width, expected',
    [(30, 1000, (0, 480, 30, 40)), (1000, 30, (480, 0, 40, 30)), (1, 1, (0, 0, 1, 1))],
)
def test_of_extreme_images_the_centre_is_taken(height, width, expected):
    assert random_window(height, width, draws_for(area=0.999), 0.9) == expected


@pytest.mark.parametrize(
    'flip, draw, mirrored', [(True, 0.4, True), (True, 0.6, False), (False, 0.4, False)]
)
@pytest.mark.parametrize('area, top, left', [(0.1, 0.9, 0.2), (0.9, 0.3, 0.999)])
def test_random_resized_crop(flip, draw, mirrored, area, top, left):
    data, draws = photo(100, 130), draws_for(area, 0.3, top, left, draw)
    y, x, height, width = random_window(100, 130, draws, 0.08)
    with tf.Graph().as_default(), tf.Session() as session:
        whole = session.run(tf.image.decode_jpeg(data, channels=3))
    expected = resized(whole[y : y + height, x : x + width], SIZE, SIZE)
    found = input_pipeline.random_resized_crop(data, draws, cfg(flip=flip))
    assert np.abs((found[:, ::-1] if mirrored else found) - expected).max() <= 1
    assert np.abs((found if mirrored else found[:, ::-1]) - expected).max() > 50


@pytest.mark.parametrize('factor', [2, 4, 8, 9])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_large_crops_are_shrunk_without_aliasing(factor, kind, monkeypatch):
    """Against the mean over the pixels that an output pixel covers, with stripes that plain
    interpolation would turn into bands.
    """
    side = SIZE * factor
    pixels = waves(side + 48, side + 64, seed=3).copy()  # the centre begins at multiples of 8
    pixels[::2] = np.minimum(pixels[::2] + 60, 255)
    draws, share = draws_for(area=0.0), side**2 / (pixels.shape[0] * pixels.shape[1])
    y, x, height, width = random_window(*pixels.shape[:2], draws, share)
    assert (height, width) == (side, side)
    decoders, shrunk = decoding._jpeg_decoder, []
    monkeypatch.setattr(
        decoding, '_jpeg_decoder', lambda shrink: shrunk.append(shrink) or decoders(shrink)
    )
    covered = pixels[y : y + side, x : x + side].reshape(SIZE, factor, SIZE, factor, 3)
    settings = cfg(min_area=share, flip=False)
    found = input_pipeline.random_resized_crop(encoded(pixels, kind), draws, settings)
    # JPEGs by 8 and then by 9/8, from an edge half a pixel off.
    assert np.abs(found - covered.mean((1, 3))).mean() < (3 if factor < 9 else 5)
    # While it is decoded, which is what makes it cheap.
    assert shrunk == ([min(factor, 8)] if kind == 'JPEG' else [])


# Randomness


def test_augmentation_is_a_function_of_seed_epoch_and_record(tmp_path):
    folder = write(tmp_path, [photo(90, 100 + i, seed=i) for i in range(12)], range(1, 13))
    settings = cfg(num_classes=12, color_jitter=0.4)

    def epoch(batch_size, start, steps, seed=3, **place):
        place.update(start_step=start, steps=steps, seed=seed)
        return {
            int(label): (image.tobytes(), draws.tobytes())
            for batch in run(folder, settings, True, batch_size, **place)
            for label, image, draws in zip(batch['label'], batch['image'], batch['draws'])
        }

    one = epoch(4, 0, 3)
    assert len(one) == 12 and len({image for image, _ in one.values()}) == 12
    assert epoch(4, 0, 3) == one and epoch(1, 0, 12) == one
    ranks = [epoch(2, 0, 3, rank=rank, size=2) for rank in range(2)]
    assert {**ranks[0], **ranks[1]} == one and not set(ranks[0]) & set(ranks[1])
    resumed = epoch(4, 1, 2)
    assert len(resumed) == 8 and all(one[label] == found for label, found in resumed.items())
    for other in (epoch(4, 3, 3), epoch(4, 0, 3, seed=4)):  # the next epoch, another seed
        assert set(other) == set(one)
        assert all(other[label][i] != one[label][i] for label in one for i in range(2))


# Colours


def test_colour_jitter():
    images = np.stack([waves(6, 8, seed=i) for i in range(4)]).astype(np.float32)
    draws = [[0, 0.5, 0.5], [0.5, 0.999, 0.5], [0.5, 0.5, 0.0], [0.9, 0.1, 0.999]]
    with tf.Graph().as_default(), tf.Session() as session:
        features = {'image': tf.constant(images), 'draws': tf.constant(draws, tf.float32)}
        augmented = input_pipeline.augment(features, cfg(color_jitter=0.4))
        found = session.run(augmented['image'])
    for image, draw, result in zip(images.astype(np.float64), draws, found):
        brightness, contrast, saturation = 0.6 + 0.8 * np.array(draw)
        image = np.clip(image * brightness, 0, 255)
        grey = image @ [0.299, 0.587, 0.114]
        image = np.clip(grey.mean() * (1 - contrast) + image * contrast, 0, 255)
        grey = (image @ [0.299, 0.587, 0.114])[..., None]
        expected = np.clip(grey * (1 - saturation) + image * saturation, 0, 255)
        np.testing.assert_allclose(result, expected, atol=2e-3)
    assert np.abs(found - images).max(axis=(1, 2, 3)).min() > 10


def test_draws_of_colours_are_those_that_cropping_does_not_use(tmp_path):
    folder = write(tmp_path, [photo(80, 80)] * 2, [1, 2])
    assert 'draws' not in run(folder, cfg(), True, steps=1)[0]
    assert 'draws' not in run(folder, cfg(color_jitter=0.4), False)[0]
    (batch,) = run(folder, cfg(color_jitter=0.4), True, steps=1, seed=9)
    assert np.array_equal(batch['draws'], sampling.uniform(9, 0, batch['label'], 26)[:, 23:])
    features = {'image': np.zeros([2, 3, 3, 3])}
    assert input_pipeline.augment(features, cfg()) is features


def test_normalize():
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(input_pipeline.normalize(tf.constant([0, 51, 255], tf.uint8), cfg()))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [-1, -0.6, 1], atol=1e-6)
