"""ImageNet records -> batches: parsing, resizing, normalisation.

Host: JPEG -> uint8. Device: normalisation, so that uint8 crosses to it. The published port's preprocessing, train and evaluation
alike: decode, resize to the input size without keeping the aspect ratio, x / 127.5 - 1.
"""
from typing import Dict, Tuple

import numpy as np
import tensorflow as tf

from common import images
from common.errors import UserError

DRAWS = 0   # this preprocessing has no random part


def parse(batch: Dict[str, tf.Tensor], cfg, training: bool) -> Dict[str, tf.Tensor]:
    """A batch of serialised examples (the published port's schema) -> image uint8 [B,S,S,3], label int32 [B], mask."""
    examples = tf.io.parse_example(batch['record'], {'image': tf.io.FixedLenFeature([], tf.string, default_value=''),
                                                     'label': tf.io.FixedLenFeature([], tf.int64, default_value=-1)})

    def decode(jpegs: np.ndarray, labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        wrong = labels[(labels < 0) | (labels >= cfg.num_classes)]
        if len(wrong):
            raise UserError('--data_path %s: a record has %s; legal with --num_classes %d are 0 to %d' % (
                cfg.data_path, 'no label' if wrong[0] < 0 else 'label %d' % wrong[0], cfg.num_classes, cfg.num_classes - 1))
        try:
            return np.stack([decode_eval(jpeg, cfg) for jpeg in jpegs]), labels.astype(np.int32)
        except ValueError as error:
            raise UserError('--data_path %s: the image of a record is unreadable: %s' % (cfg.data_path, error))

    pixels, labels = tf.numpy_function(decode, [examples['image'], examples['label']], [tf.uint8, tf.int32])
    batch_size = batch['mask'].shape[0]
    pixels.set_shape([batch_size, cfg.image_size, cfg.image_size, 3])
    labels.set_shape([batch_size])
    return {'image': pixels, 'label': labels, 'mask': batch['mask']}


def decode_eval(jpeg: bytes, cfg) -> np.ndarray:
    """An image file's content -> uint8 [S,S,3], S = cfg.image_size, as evaluation sees it. Raises ValueError for what is no image."""
    return _resize(images.decode(jpeg), cfg.image_size)


def _resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """TensorFlow 1's resize_bilinear, align_corners and half_pixel_centers off: output i reads input i x scale."""
    for axis in (0, 1):
        length = pixels.shape[axis]
        at = np.arange(size, dtype=np.float32) * np.float32(length / size)
        low = at.astype(np.int64)
        share = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        below, above = (np.take(pixels, np.minimum(index, length - 1), axis).astype(np.float32) for index in (low, low + 1))
        pixels = below + (above - below) * share
    return np.rint(pixels).astype(np.uint8)


def augment_on_device(features: Dict[str, tf.Tensor], cfg) -> Dict[str, tf.Tensor]:
    """Float32 images in 0..255, training only: nothing to do."""
    return features


def normalize(pixels: tf.Tensor) -> tf.Tensor:
    """0..255 -> float32 in -1..1."""
    return tf.cast(pixels, tf.float32) / 127.5 - 1.0
