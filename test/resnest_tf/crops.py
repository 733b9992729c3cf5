"""Pictures, labels and draws for the tests of resnest_tf.input_pipeline."""

import numpy as np
from numpy_images import waves

from resnest_tf import input_pipeline
from resnest_tf.config import ResNeStConfig
from resnest_tf.input_pipeline import DRAWS, Draws
from resnest_tf.rasters import Raster

LAST = 1 - 2.0**-24  # the largest draw
SIZES = dict(crop_height=48, crop_width=96, image_height=128, image_width=256)


def cfg(**changes):
    return ResNeStConfig(**{**SIZES, 'data_path': 'DATA', 'batch_size': 2, **changes})


def picture(height=128, width=256, seed=0):
    """uint8 BGR"""
    return waves(height, width, seed)


def classes(height=128, width=256, seed=0):
    """uint8, 0..18 and 255: no pixel is as the next, so that a label that is off shows."""
    noise = np.random.RandomState(seed).randint(2, size=(height, width))
    label = (7 * np.arange(height)[:, None] + 3 * np.arange(width) + 2 * noise) % 20
    return np.where(label == 19, 255, label).astype(np.uint8)


def draws_for(**columns):
    """By default scale 1.25, in the middle, neither mirrored nor distorted."""
    draws = Draws(*[0.0] * DRAWS)._replace(scale=0.5, top=0.5, left=0.5, flip=0.9)
    return draws._replace(**columns)


def random_draws(seed, count):
    return [Draws(*row) for row in np.random.RandomState(seed).rand(count, DRAWS).tolist()]


def crop(image, label, draws, settings):
    """(pixels, label), in arrays that had other values before."""
    size = settings.crop_height, settings.crop_width
    pixels, found = np.full((*size, 3), 77, np.uint8), np.full(size, 77, np.uint8)
    raster = Raster(*label.shape, '', 0, 0, (image, label))
    input_pipeline.random_crop(raster, draws, settings, pixels, found)
    return pixels, found
