"""CIFAR records -> batches: parsing, augmentation, normalisation, and the data sets' constants.

Host: uint8 images, cropped and mirrored. Device: colour, Cutout, mixup and normalisation, so that
uint8 crosses to it.
"""

import functools
from typing import Dict, List, Optional, Tuple

import numpy as np
import tensorflow as tf

from common.data import augment
from common.errors import UserError

SHAPE = (32, 32, 3)
# Channel means and standard deviations of the training images, 0..1.
STATISTICS = {
    'cifar10': ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
    'cifar100': ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]),
}
# Columns of features['draws'].
Y, X, FLIP, BRIGHTNESS, CONTRAST, CUTOUT_Y, CUTOUT_X, MIXUP = range(8)
DRAWS = 8


def parse(batch: Dict[str, tf.Tensor], cfg, training: bool) -> Dict[str, tf.Tensor]:
    """A batch of serialised examples (the published port's schema) -> image uint8 [B,32,32,3],
    label int32 [B], mask, draws.
    """
    batch_size = batch['mask'].shape[0]
    examples = tf.io.parse_example(
        batch['record'],
        {
            'image': tf.io.FixedLenFeature([], tf.string, default_value=''),
            cfg.label: tf.io.FixedLenFeature([], tf.int64, default_value=-1),
        },
    )
    images, labels = tf.numpy_function(
        functools.partial(_decode, cfg),
        [examples['image'], examples[cfg.label]],
        [tf.uint8, tf.int32],
    )
    images.set_shape((batch_size,) + SHAPE)
    labels.set_shape([batch_size])
    features = {'image': images, 'label': labels, 'mask': batch['mask']}
    if training:
        draws = batch['draws']
        if cfg.crop_pad or cfg.flip:
            features['image'] = augment.pad_crop_flip(
                images, draws[:, Y], draws[:, X], draws[:, FLIP], cfg.crop_pad, cfg.flip
            )
        if cfg.mixup:
            features['mixup'] = tf.numpy_function(
                lambda draw: augment.mixup_share(draw, cfg.mixup), [draws[:, MIXUP]], tf.float32
            )
            features['mixup'].set_shape([batch_size])
        if cfg.brightness or cfg.contrast or cfg.cutout:
            features['draws'] = draws
    return features


def _decode(cfg, images: np.ndarray, labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Raw bytes and labels of a batch -> uint8 [B,32,32,3], int32 [B]. UserError for records that
    are not this network's.
    """
    for image, label in zip(images, labels):
        if len(image) != np.prod(SHAPE):
            raise UserError(
                '--data_path %s: the image of a record has %d bytes, not the 3072 of a 32x32 RGB'
                ' image; give CIFAR records' % (cfg.data_path, len(image))
            )
        if not 0 <= label < cfg.num_classes:
            raise UserError(
                '--data_path %s: a record has %s; legal with --num_classes %d are 0 to %d'
                % (
                    cfg.data_path,
                    'no ' + cfg.label if label < 0 else '%s %d' % (cfg.label, label),
                    cfg.num_classes,
                    cfg.num_classes - 1,
                )
            )
    return np.frombuffer(b''.join(images), np.uint8).reshape((-1,) + SHAPE), labels.astype(np.int32)


def augment_on_device(features: Dict[str, tf.Tensor], cfg) -> Dict[str, tf.Tensor]:
    """Colour, Cutout and mixup of float32 images in 0..255."""
    images, draws = features['image'], features.get('draws')
    if cfg.brightness:
        images = augment.brightness(images, draws[:, BRIGHTNESS], cfg.brightness)
    if cfg.contrast:
        images = augment.contrast(
            images, draws[:, CONTRAST], 1.0 - cfg.contrast, 1.0 + cfg.contrast
        )
    if cfg.cutout:
        images = augment.cutout(
            images,
            draws[:, CUTOUT_Y],
            draws[:, CUTOUT_X],
            cfg.cutout,
            _mean(images, cfg.normalization),
        )
    features = dict(features, image=images)
    if cfg.mixup:
        features['image'], features['label_b'] = augment.mixup(
            images, features['label'], features['mixup']
        )
    return features


def _mean(images: tf.Tensor, normalization: str) -> tf.Tensor:
    """The pixel value that normalisation maps to 0."""
    if normalization == 'per_image':
        return tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return tf.constant(STATISTICS.get(normalization, ([0.5], None))[0]) * 255.0


def normalize(images: tf.Tensor, normalization: str) -> tf.Tensor:
    """[B,32,32,3] in 0..255 -> float32. per_image is tf.image.per_image_standardization (the
    published port).
    """
    images = tf.cast(images, tf.float32)
    if normalization == 'half':
        return images / 127.5 - 1.0
    if normalization == 'per_image':
        centred = images - tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
        deviation = tf.sqrt(tf.reduce_mean(tf.square(centred), axis=[1, 2, 3], keepdims=True))
        return centred / tf.maximum(deviation, 1.0 / (SHAPE[0] * SHAPE[1] * SHAPE[2]) ** 0.5)
    mean, std = STATISTICS[normalization]
    return (images - tf.constant(mean) * 255.0) / (tf.constant(std) * 255.0)


def constants(normalization: str) -> Optional[Tuple[List[float], List[float]]]:
    """(mean, deviation) of the channels in units of 0..255 with which `normalize` is (x - mean) /
    deviation; None: per_image.
    """
    if normalization == 'per_image':
        return None
    mean, std = STATISTICS.get(normalization, ([0.5] * 3, [0.5] * 3))
    return [255 * value for value in mean], [255 * value for value in std]
