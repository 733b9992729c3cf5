"""What each recipe makes of a training image on fixed draws, against the publication's augmentation
written in NumPy (see the sources named in MODEL.json).
"""

import io
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from common import models
from resnest_tf import input_pipeline as cityscapes
from resnest_tf.rasters import Raster
from wideresnet_tf import input_pipeline as cifar
from xception_tf import input_pipeline as imagenet

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
IMAGES = np.random.RandomState(0).randint(0, 256, (3, 32, 32, 3)).astype(np.uint8)


def resolved(model, recipe):
    path = ROOT / (model + '_tf') / 'configs' / (recipe + '.yaml')
    return models.configure(model, ['--config', str(path)])[1]


def on_device(pipeline, cfg, features):
    """The network's input."""
    with tf.Graph().as_default(), tf.Session() as session:
        features = {key: tf.constant(value) for key, value in features.items()}
        features['image'] = tf.cast(features['image'], tf.float32)
        return session.run(pipeline.normalize(pipeline.augment(features, cfg)['image'], cfg))


def by_constants(mean, deviation):
    return lambda x: (x - np.array(mean)) / np.array(deviation)


def per_image(x):  # tf.image.per_image_standardization
    return (x - x.mean()) / max(x.std(), 1 / np.sqrt(x.size))


AUTHORS = ('reflect', False, by_constants([125.3, 123.0, 113.9], [63.0, 62.1, 66.7]))
MINDSPORE = by_constants([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])


@pytest.mark.parametrize(
    'recipe, padding, colours, standardise',
    [
        ('wrn28_10_cifar10', *AUTHORS),
        ('wrn28_10_cifar100', *AUTHORS),
        ('wrn40_10_cifar10', 'constant', False, MINDSPORE),
        ('wrn28_10_cifar100_port', 'constant', True, per_image),
    ],
)
def test_cifar(recipe, padding, colours, standardise, monkeypatch):
    cfg = resolved('wideresnet', recipe)
    labels = np.arange(3, dtype=np.int32)
    monkeypatch.setattr(cifar, '_decoded', lambda *options: (IMAGES, labels))
    rows = np.random.RandomState(1).uniform(size=(3, cifar.DRAWS)).astype(np.float32)
    rows[:, 2] = 0.4, 0.6, 0.9
    images, _ = cifar._load(None, cfg, True, labels, rows)
    features = {'image': images, 'label': labels}
    found = on_device(cifar, cfg, dict(features, draws=rows) if colours else features)
    for i, draws in enumerate(rows.astype(np.float64)):
        padded = np.pad(IMAGES[i].astype(np.float64), [(4, 4), (4, 4), (0, 0)], padding)
        top, left = int(9 * draws[0]), int(9 * draws[1])
        image = padded[top : top + 32, left : left + 32]
        image = image[:, ::-1] if draws[2] >= 0.5 else image
        if colours:  # brightness by up to 63, then contrast by a factor of 0.2 to 1.8
            image = image + 63 * (2 * draws[3] - 1)
            mean = image.mean((0, 1))
            image = (image - mean) * (0.2 + 1.6 * draws[4]) + mean
        np.testing.assert_allclose(found[i], standardise(image), rtol=1e-4, atol=1e-4)


def bilinear(image, size):
    """Pixel centres on pixel centres; beyond the outermost ones the edge is repeated."""
    for axis in (0, 1):
        length = image.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.minimum(place.astype(int), length - 2)
        share = (place - low).reshape([-1, 1, 1] if axis == 0 else [-1, 1])
        image = np.take(image, low, axis) * (1 - share) + np.take(image, low + 1, axis) * share
    return image


@pytest.mark.parametrize(
    'recipe, jitter', [('xception_imagenet', 0.4), ('xception_imagenet_paper', 0)]
)
def test_imagenet(recipe, jitter):
    cfg = resolved('xception', recipe)
    pixels = np.random.RandomState(2).randint(0, 256, (200, 260, 3)).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, 'PNG')
    draws = imagenet.Draws([0.4] * 10, [0.8] * 10, 0.3, 0.6, 0.2, 0.9, 0.1, 0.7)
    area, aspect = 200 * 260 * (0.08 + 0.92 * 0.4), (3 / 4) * (16 / 9) ** 0.8
    height, width = int(round((area / aspect) ** 0.5)), int(round((area * aspect) ** 0.5))
    top, left = int(0.3 * (200 - height + 1)), int(0.6 * (260 - width + 1))
    image = bilinear(pixels[top : top + height, left : left + width].astype(float), 299)[:, ::-1]
    features = {'image': imagenet.random_resized_crop(content.getvalue(), draws, cfg)[None]}
    if jitter:
        features['draws'] = np.float32([[0.9, 0.1, 0.7]])
        brightness, contrast, saturation = 1 + jitter * (2 * np.array([0.9, 0.1, 0.7]) - 1)
        grey = [0.299, 0.587, 0.114]
        image = np.clip(image * brightness, 0, 255)
        image = np.clip((image @ grey).mean() * (1 - contrast) + image * contrast, 0, 255)
        pale = (image @ grey)[..., None]
        image = np.clip(pale * (1 - saturation) + image * saturation, 0, 255)
    found = on_device(imagenet, cfg, features)[0]
    assert np.abs(found - (image / 127.5 - 1)).max() < 2 / 127.5  # rounded after the crop


def scene():
    """A street scene's pixels, BGR, and its label, of more than one class everywhere."""
    random = np.random.RandomState(3)
    image = random.randint(40, 200, (1024, 2048, 3)).astype(np.uint8)
    return image, random.randint(0, 19, (1024, 2048)).astype(np.uint8)


@pytest.mark.parametrize(
    'recipe, size, order, brightness',
    [
        ('resnest50_cityscapes_paper', (768, 768), -1, 0),
        ('resnest101_cityscapes_paper', (768, 768), -1, 0),
        ('resnest50_cityscapes', (512, 1024), -1, 16),
        ('resnest101_cityscapes', (512, 1024), -1, 16),
        ('resnest50_cityscapes_port', (512, 512), 1, 16),
    ],
)
def test_cityscapes_at_scale_1(recipe, size, order, brightness):
    """Crop, mirror, brightness by up to 32, channels and constants."""
    cfg, (image, label) = resolved('resnest', recipe), scene()
    # The scale is uniform in 0.5 to 2, but for the port, which has none.
    draws = cityscapes.Draws(1 / 3, 0.25, 0.75, 0.2, 0.875, 0.1, 0.1, 0.1, 0.1)
    pixels, classes = np.empty(size + (3,), np.uint8), np.empty(size, np.uint8)
    cityscapes.random_crop(
        Raster(1024, 2048, '', 0, 0, (image, label)), draws, cfg, pixels, classes
    )
    top, left = int(0.25 * (1025 - size[0])), int(0.75 * (2049 - size[1]))
    rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
    np.testing.assert_array_equal(classes, label[rows, columns][:, ::-1])
    expected = (image[rows, columns][:, ::-1].astype(np.float64) + brightness)[..., ::order]
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (expected / 255 - mean[::-order]) / deviation[::-order]
    found = on_device(cityscapes, cfg, {'image': pixels[None]})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
