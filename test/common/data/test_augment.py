"""Each augmentation against a loop over images in plain NumPy."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from common.data import augment


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


def evaluate(tensors):
    with tf.Session() as session:
        return session.run(tensors)


def images(count=6, height=8, width=8, dtype=np.uint8, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (count, height, width, 3)).astype(dtype)


def np_draws(*values):
    return np.array(values, np.float32)


def draws(*values):
    return tf.constant(values, tf.float32)


# Crop and flip


def cropped(image, top, left, mirror, pad, padding='zero'):
    height, width = image.shape[:2]
    if padding == 'reflect':  # about the outermost row and column, which are not repeated
        rows, columns = (
            [pad - i for i in range(pad)]
            + list(range(length))
            + [length - 2 - i for i in range(pad)]
            for length in (height, width)
        )
        padded = image[rows][:, columns]
    else:
        padded = np.zeros((height + 2 * pad, width + 2 * pad, 3), image.dtype)
        padded[pad : pad + height, pad : pad + width] = image
    crop = padded[top : top + height, left : left + width]
    return crop[:, ::-1] if mirror else crop


@pytest.mark.parametrize('padding', ['zero', 'reflect'])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('flip', [True, False])
@pytest.mark.parametrize('height, width', [(8, 8), (6, 10)])
def test_crop_and_flip(padding, dtype, flip, height, width):
    pad, x = 2, images(25, height, width, dtype)
    tops, lefts = np.repeat(np.arange(5), 5), np.tile(np.arange(5), 5)
    mirrors = np.arange(25) % 2
    found = augment.pad_crop_flip(
        x,
        np_draws(*(tops + 0.5) / 5),
        np_draws(*(lefts + 0.5) / 5),
        np_draws(*np.where(mirrors, 0.75, 0.25)),
        pad,
        flip,
        padding,
    )
    # Which half of the draws is mirrored does not matter, that it is one half does.
    mirrored = [
        np.array_equal(found[i], cropped(x[i], tops[i], lefts[i], True, pad, padding))
        for i in range(25)
    ]
    straight = [
        np.array_equal(found[i], cropped(x[i], tops[i], lefts[i], False, pad, padding))
        for i in range(25)
    ]
    assert found.dtype == dtype
    assert all(np.array(mirrored) ^ np.array(straight))
    if flip:
        assert len({(m, s) for m, s in zip(mirrors, mirrored)}) == 2 and 0 < sum(mirrored) < 25
    else:
        assert all(straight)


def test_centre_crop_is_the_image():
    x = images(1)
    middle = np_draws(0.5)
    np.testing.assert_array_equal(
        (augment.pad_crop_flip(x, middle, middle, np_draws(0.1), 4, False)), x
    )
    np.testing.assert_array_equal(
        (augment.pad_crop_flip(x, np_draws(0.99), np_draws(0.0), np_draws(0.1), 0, False)), x
    )


def test_every_offset_is_equally_likely_and_the_ends_are_reached():
    count, pad = 9000, 1
    x = np.zeros((count, 3, 3, 1), np.uint8)
    x[:, 1, 1] = 1  # where the dot ends up is the offset
    random = np.random.RandomState(3)
    y, z = random.uniform(size=(2, count)).astype(np.float32)
    y[:2], z[:2] = [0, 1 - 2**-24], [1 - 2**-24, 0]  # the least and the greatest draw
    found = (augment.pad_crop_flip(x, y, z, tf.zeros(count), pad, False))[..., 0]
    assert (found.sum(axis=(1, 2)) == 1).all()
    counts = found.sum(axis=0, dtype=np.int64)
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 1e-3
    assert found[0, 2, 0] == 1 and found[1, 0, 2] == 1


def test_half_of_the_images_is_mirrored():
    count = 4000
    x = np.tile(np.uint8([[[[1], [0]]]]), (count, 1, 1, 1))
    uniform = np.random.RandomState(4).uniform(size=count).astype(np.float32)
    found = augment.pad_crop_flip(x, uniform, uniform, uniform, 0, True)
    mirrored = int((found[:, 0, 0, 0] == 0).sum())
    assert abs(mirrored - count / 2) < 4 * np.sqrt(count) / 2


# Colour


def test_brightness():
    x = images(4, dtype=np.float32)
    found = evaluate(augment.brightness(tf.constant(x), draws(0, 0.25, 0.5, 1), 63))
    np.testing.assert_allclose(
        found - x,
        np.broadcast_to(np.reshape([-63, -31.5, 0, 63], (4, 1, 1, 1)), x.shape),
        atol=1e-4,
    )


def test_contrast():
    x = images(4, dtype=np.float32)
    found = evaluate(augment.contrast(tf.constant(x), draws(0, 0.25, 0.5, 1), 0.2, 1.8))
    for i, factor in enumerate([0.2, 0.6, 1.0, 1.8]):
        for channel in range(3):
            plane = x[i, :, :, channel]
            np.testing.assert_allclose(
                found[i, :, :, channel],
                plane.mean() + factor * (plane - plane.mean()),
                rtol=1e-4,
                atol=1e-3,
            )


def test_brightness_and_contrast_are_tensorflows():
    x = images(1, dtype=np.float32)
    with tf.Session() as session:
        bright, dark = session.run(
            [
                augment.brightness(tf.constant(x), draws(0.9), 63),
                tf.image.adjust_brightness(x[0], 0.8 * 63),
            ]
        )
        np.testing.assert_allclose(bright[0], dark, rtol=1e-5)
        ours, theirs = session.run(
            [
                augment.contrast(tf.constant(x), draws(0.9), 0.2, 1.8),
                tf.image.adjust_contrast(x[0], 0.2 + 0.9 * 1.6),
            ]
        )
        np.testing.assert_allclose(ours[0], theirs, rtol=1e-4, atol=1e-3)


# Cutout


@pytest.mark.parametrize('size', [1, 3, 4, 20])
@pytest.mark.parametrize('height, width', [(8, 8), (6, 10)])
def test_cutout(size, height, width):
    x = images(9, height, width, np.float32)
    centres_y, centres_x = (
        np.array([0, height // 2, height - 1]).repeat(3),
        np.tile([0, width // 2, width - 1], 3),
    )
    fill = np.float32([10, 20, 30])
    found = evaluate(
        augment.cutout(
            tf.constant(x),
            draws(*(centres_y + 0.5) / height),
            draws(*(centres_x + 0.5) / width),
            size,
            tf.constant(fill),
        )
    )
    expected = x.copy()
    for i, (y, z) in enumerate(zip(centres_y, centres_x)):
        top, left = y - size // 2, z - size // 2
        expected[i, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = fill
    np.testing.assert_array_equal(found, expected)
    assert all(
        (found[i] == fill).all(axis=-1).any() for i in range(9)
    )  # the centre itself is always cut


def test_cutout_takes_a_fill_for_each_image():
    x = images(2, dtype=np.float32)
    fill = np.float32([1, 2]).reshape(2, 1, 1, 1)
    found = evaluate(
        augment.cutout(tf.constant(x), draws(0.5, 0.5), draws(0.5, 0.5), 2, tf.constant(fill))
    )
    assert (
        (found[0, 3:5, 3:5] == 1).all()
        and (found[1, 3:5, 3:5] == 2).all()
        and (found != x).any(axis=-1).sum() <= 8
    )


def test_nothing_is_cut_at_size_0():
    x = images(2, dtype=np.float32)
    np.testing.assert_array_equal(
        evaluate(augment.cutout(tf.constant(x), draws(0.5, 0), draws(0.5, 0), 0, tf.zeros(3))), x
    )


# Mixup


@pytest.mark.parametrize('count', [4, 5])
def test_mixup(count):
    x, labels = images(count, dtype=np.float32), np.arange(count, dtype=np.int32) * 10
    share = np.linspace(0, 1, count).astype(np.float32)
    mixed, partners = evaluate(
        augment.mixup(tf.constant(x), tf.constant(labels), tf.constant(share))
    )
    for i in range(count):
        np.testing.assert_allclose(
            mixed[i], share[i] * x[i] + (1 - share[i]) * x[count - 1 - i], rtol=1e-5, atol=1e-4
        )
        assert partners[i] == labels[count - 1 - i]


def test_mixup_with_share_1_is_the_image():
    x = images(4, dtype=np.float32)
    np.testing.assert_array_equal(
        evaluate(augment.mixup(tf.constant(x), tf.zeros(4, tf.int32), tf.ones(4))[0]), x
    )


@pytest.mark.parametrize('alpha', [0.2, 1.0, 4.0])
def test_mixup_shares_have_the_beta_distribution(alpha):
    shares = augment.mixup_share(
        np.random.RandomState(0).uniform(size=5000).astype(np.float32), alpha
    )
    assert shares.dtype == np.float32
    assert scipy.stats.kstest(shares, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    assert (0 <= shares).all() and (shares <= 1).all()


@pytest.mark.parametrize('alpha', [0.05, 0.2, 1.0])
def test_mixup_shares_of_the_least_and_greatest_draw_are_finite(alpha):
    shares = augment.mixup_share(np.float32([0, 2**-24, 1 - 2**-24]), alpha)
    assert (
        np.isfinite(shares).all() and shares[0] == 0 and (shares >= 0).all() and (shares <= 1).all()
    )
