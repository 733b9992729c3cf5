"""Augmentation as pure functions of images [B,H,W,C] and uniform draws in [0, 1), float32 [B]."""

from typing import Tuple

import numpy as np
import tensorflow as tf


def pad_crop_flip(
    images: np.ndarray,
    draw_y: np.ndarray,
    draw_x: np.ndarray,
    draw_flip: np.ndarray,
    pad: int,
    flip: bool,
    padding: str = 'zero',
) -> np.ndarray:
    """Pads by `pad`, crops back to H x W at a random place and mirrors every other image, of any
    dtype (He et al. 2015, section 4.2), on the host. padding: 'zero' or 'reflect'.
    """
    count, height, width, channels = images.shape
    mode = {'zero': 'constant', 'reflect': 'reflect'}[padding]
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)], mode)
    number, row, column, channel = padded.strides
    crops = np.lib.stride_tricks.as_strided(
        padded,
        (count, 2 * pad + 1, 2 * pad + 1, height, width, channels),
        (number, row, column, row, column, channel),
    )
    top, left = ((draw * (2 * pad + 1)).astype(np.int32) for draw in (draw_y, draw_x))
    cropped = crops[np.arange(count), top, left]
    if flip:
        mirrored = draw_flip >= 0.5
        cropped[mirrored] = cropped[mirrored, :, ::-1]
    return cropped


def brightness(images: tf.Tensor, draw: tf.Tensor, max_delta: float) -> tf.Tensor:
    """Adds a value of [-max_delta, max_delta) to each float image (tf.image.random_brightness)."""
    return images + ((2.0 * draw - 1.0) * max_delta)[:, None, None, None]


def contrast(images: tf.Tensor, draw: tf.Tensor, lower: float, upper: float) -> tf.Tensor:
    """Scales each float image's distance from its channel means by a factor of [lower, upper)
    (tf.image.random_contrast).
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

    def covered(draw: tf.Tensor, length: int) -> tf.Tensor:
        start = tf.floor(draw * length)[:, None] - size // 2
        position = tf.range(length, dtype=tf.float32)[None]
        return tf.cast(tf.logical_and(position >= start, position < start + size), tf.float32)

    hole = (covered(draw_y, height)[:, :, None] * covered(draw_x, width)[:, None, :])[..., None]
    return images * (1.0 - hole) + fill * hole


def mixup(images: tf.Tensor, labels: tf.Tensor, share: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
    """Blends each float image with the one at the mirrored place of the batch (Zhang et al. 2018):
    returns (images, partners' labels).

    share: [B], the weight of an image's own pixels and label.
    """
    weight = share[:, None, None, None]
    return images * weight + tf.reverse(images, [0]) * (1.0 - weight), tf.reverse(labels, [0])


def mixup_share(draw: np.ndarray, alpha: float) -> np.ndarray:
    """Turns uniform draws into draws from Beta(alpha, alpha), by its inverse distribution."""
    from scipy.special import betaincinv

    return betaincinv(alpha, alpha, draw).astype(np.float32)
