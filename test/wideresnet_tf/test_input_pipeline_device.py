"""What wideresnet_tf.input_pipeline does on the device: augmentation and normalisation, against
closed forms.
"""

import numpy as np
import pytest
import tensorflow as tf

from wideresnet_tf import input_pipeline
from wideresnet_tf.config import WideResNetConfig


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


# Augmentation


def on_device(cfg, images, **drawn):
    given = {'image': tf.constant(images, tf.float32), 'label': tf.range(len(images))}
    given.update({key: tf.constant(value, tf.float32) for key, value in drawn.items()})
    with tf.Session() as session:
        return session.run(input_pipeline.augment(given, cfg))


def test_nothing_happens_on_the_device_by_default(images_and_labels):
    images = images_and_labels(4, seed=0)[0]
    found = on_device(WideResNetConfig(), images)
    assert sorted(found) == ['image', 'label']
    np.testing.assert_array_equal(found['image'], images)


def test_published_colours(images_and_labels):
    """The published port: brightness by up to 63, then contrast by 0.2 to 1.8."""
    images = images_and_labels(4, seed=0)[0].astype(np.float64)
    draws = np.random.RandomState(1).uniform(size=(4, 8))
    found = on_device(WideResNetConfig(brightness=63.0, contrast=0.8), images, draws=draws)['image']
    for i in range(4):
        image = images[i] + (2 * draws[i, 3] - 1) * 63
        mean = image.mean(axis=(0, 1))
        expected = (image - mean) * (0.2 + 1.6 * draws[i, 4]) + mean
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize('normalization', sorted(input_pipeline.STATISTICS) + ['per_image'])
def test_what_is_cut_out_is_zero_to_the_network(normalization, images_and_labels):
    images, draws = images_and_labels(2, seed=0)[0], np.full((2, 8), 0.5)
    found = on_device(
        WideResNetConfig(cutout=16, normalization=normalization), images, draws=draws
    )['image']
    hole = (found != images).any(axis=-1)
    assert hole[:, 8:24, 8:24].mean() > 0.99 and hole.sum() == hole[:, 8:24, 8:24].sum()
    normalised = normalize(found, normalization)[:, 8:24, 8:24]
    # Per image, the hole moves the mean that it was filled with hardly at all.
    np.testing.assert_allclose(normalised, 0, atol=1e-5 if normalization != 'per_image' else 0.15)


def test_mixup_keeps_both_labels_and_the_share(images_and_labels):
    images = images_and_labels(4, seed=0)[0].astype(np.float32)
    share = np.float32([0.1, 0.2, 0.3, 1.0])
    found = on_device(WideResNetConfig(mixup=0.2), images, mixup=share)
    assert found['label'].tolist() == [0, 1, 2, 3] and found['label_b'].tolist() == [3, 2, 1, 0]
    np.testing.assert_allclose(found['image'][1], 0.2 * images[1] + 0.8 * images[2], rtol=1e-5)
    np.testing.assert_array_equal(found['mixup'], share)


# Normalisation


def normalize(images, name):
    cfg = WideResNetConfig(normalization=name)
    with tf.Session() as session:
        return session.run(input_pipeline.normalize(tf.constant(images), cfg))


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize(
    'name, mean, std',
    [
        ('cifar10', [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
        ('cifar100', [0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]),
        ('half', [0.5] * 3, [0.5] * 3),
        ('authors', np.divide([125.3, 123.0, 113.9], 255), np.divide([63.0, 62.1, 66.7], 255)),
        # Its constants, which belong to 0..1, on 0..255.
        ('mindspore', *np.divide([[0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]], 255)),
    ],
)
def test_normalisation_by_channel(name, mean, std, dtype):
    images = np.random.RandomState(0).randint(0, 256, (3, 32, 32, 3)).astype(dtype)
    expected = (images.astype(np.float64) / 255 - mean) / std
    found = normalize(images, name)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_normalisation_per_image_is_the_ports():
    images = np.random.RandomState(0).randint(0, 256, (3, 32, 32, 3)).astype(np.float32)
    images[1] = images[1] // 64 + 100  # hardly any contrast
    images[2] = images[2] / 1e5  # less than the least deviation that is divided by
    with tf.Session() as session:
        expected = session.run([tf.image.per_image_standardization(image) for image in images])
    np.testing.assert_allclose(normalize(images, 'per_image'), expected, rtol=1e-3, atol=1e-3)


def test_a_uniform_image_is_zeros_per_image():
    np.testing.assert_array_equal(normalize(np.full((1, 32, 32, 3), 201, np.uint8), 'per_image'), 0)
