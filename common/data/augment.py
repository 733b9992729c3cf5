"""Augmentation as pure functions of images and uniform draws in [0, 1): batched, no state, no
random ops.

The draws come from `records.batches`, a function of (seed, epoch, record); so the same record of
the same epoch is augmented alike on any number of ranks and after any restart. Images are
[B,H,W,C]; draws [B] float32.
"""

from typing import Tuple

import numpy as np
import tensorflow as tf


def pad_crop_flip(
    images: tf.Tensor,
    draw_y: tf.Tensor,
    draw_x: tf.Tensor,
    draw_flip: tf.Tensor,
    pad: int,
    flip: bool,
) -> tf.Tensor:
    """Zero-pads by `pad`, crops back to H x W at a random place and mirrors every other image (He
    et al. 2015, section 4.2).

    Any dtype. The three steps are one gather of rows and one of columns.
    """
    height, width = images.shape.as_list()[1:3]
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    top = tf.cast(draw_y * (2 * pad + 1), tf.int32)
    left = tf.cast(draw_x * (2 * pad + 1), tf.int32)
    columns = tf.tile(tf.range(width)[None], [tf.shape(images)[0], 1])
    if flip:
        columns = tf.where(draw_flip < 0.5, columns, width - 1 - columns)
    rows = tf.gather(padded, top[:, None] + tf.range(height)[None], batch_dims=1, axis=1)
    out = tf.gather(rows, left[:, None] + columns, batch_dims=1, axis=2)
    out.set_shape(images.shape)
    return out


def brightness(images: tf.Tensor, draw: tf.Tensor, max_delta: float) -> tf.Tensor:
    """Adds a value of [-max_delta, max_delta) to each float image, as tf.image.random_brightness."""
    return images + ((2.0 * draw - 1.0) * max_delta)[:, None, None, None]


def contrast(images: tf.Tensor, draw: tf.Tensor, lower: float, upper: float) -> tf.Tensor:
    """Scales each float image's distance from its channel means by a factor of [lower, upper), as
    tf.image.random_contrast.
    """
    mean = tf.reduce_mean(images, axis=[1, 2], keepdims=True)
    return (images - mean) * (lower + draw * (upper - lower))[:, None, None, None] + mean


def cutout(
    images: tf.Tensor, draw_y: tf.Tensor, draw_x: tf.Tensor, size: int, fill: tf.Tensor
) -> tf.Tensor:
    """Fills one size x size square of each float image; its centre is any pixel, so it may lie
    partly outside (DeVries & Taylor 2017).
    """
    height, width = images.shape.as_list()[1:3]

    def inside(draw: tf.Tensor, length: int) -> tf.Tensor:
        start = tf.floor(draw * length)[:, None] - size // 2
        position = tf.range(length, dtype=tf.float32)[None]
        return tf.cast(tf.logical_and(position >= start, position < start + size), tf.float32)

    hole = (inside(draw_y, height)[:, :, None] * inside(draw_x, width)[:, None, :])[..., None]
    return images * (1.0 - hole) + fill * hole


def mixup(images: tf.Tensor, labels: tf.Tensor, share: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
    """Blends each float image with the one at the mirrored place of the batch (Zhang et al. 2018):
    returns (images, partners' labels).

    share: [B], the weight of an image's own pixels and label.
    """
    weight = share[:, None, None, None]
    return images * weight + tf.reverse(images, [0]) * (1.0 - weight), tf.reverse(labels, [0])


def mixup_share(draw: np.ndarray, alpha: float) -> np.ndarray:
    """Uniform draws -> draws from Beta(alpha, alpha), by the inverse of its distribution function."""
    from scipy.special import betaincinv

    return betaincinv(alpha, alpha, draw).astype(np.float32)
