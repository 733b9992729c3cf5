"""Losses of classification [B, C] and dense prediction [B, H, W, C], computed in float32."""

import math
from typing import Optional

import numpy as np
import tensorflow as tf


def elementwise_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Softmax cross entropy of each element in nats, float32, shaped like labels [...]; logits
    [..., C], labels in [0, C).
    """
    logits, labels = tf.cast(logits, tf.float32), tf.cast(labels, tf.int32)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
        logits=tf.reshape(logits, [-1, logits.shape.as_list()[-1]]), labels=tf.reshape(labels, [-1])
    )
    return tf.reshape(loss, labels.shape if labels.shape.is_fully_defined() else tf.shape(labels))


def finite(logits: tf.Tensor) -> tf.Tensor:
    """Whether all logits of each image are finite: bool [B], of logits [B, ...]."""
    # Neither tf.is_finite, which an Ascend device leaves to its AI CPU, nor a negated comparison,
    # which TensorFlow's graph optimizer inverts as if there were no NaN.
    largest = np.finfo(np.float32).max
    is_finite = tf.less_equal(tf.abs(tf.cast(logits, tf.float32)), largest)
    return tf.reduce_all(is_finite, list(range(1, logits.shape.ndims)))


def cross_entropy(
    logits: tf.Tensor,
    labels: tf.Tensor,
    label_smoothing: float = 0.0,
    *,
    labels_b: Optional[tf.Tensor] = None,
    lam: Optional[tf.Tensor] = None,
    ignore_label: Optional[int] = None,
    average: str = 'labelled',
) -> tf.Tensor:
    """Mean softmax cross entropy, a float32 scalar in nats.

    Args:
        logits: [B, C] or [B, H, W, C], any float dtype.
        labels: integers [B] or [B, H, W] in [0, C), or `ignore_label`.
        label_smoothing: e in [0, 1); targets are (1-e) one-hot + e/C (Szegedy et al. 2016, section
            7).
        labels_b, lam: mixed targets, lam * labels + (1-lam) * labels_b (Zhang et al. 2018); lam
            scalar or shaped like labels.
        ignore_label: elements with this label are left out (Cityscapes: 255).
        average: 'labelled' divides by the number of elements not left out (0 of them give loss 0),
            'all' by that of all.
    """
    # It is linear in the targets, so smoothing and mixing combine losses: one-hot targets of
    # 2048x1024 pixels would not be small.
    labels, valid = _split_ignored(labels, ignore_label)
    loss = elementwise_cross_entropy(logits, labels)
    if labels_b is not None:
        lam = tf.cast(lam, tf.float32)
        loss = lam * loss + (1.0 - lam) * elementwise_cross_entropy(logits, labels_b)
    if label_smoothing:
        uniform = -tf.reduce_mean(tf.nn.log_softmax(tf.cast(logits, tf.float32)), axis=-1)
        loss = (1.0 - label_smoothing) * loss + label_smoothing * uniform
    return _mean(loss, valid, average)


def focal(
    logits: tf.Tensor,
    labels: tf.Tensor,
    gamma: float = 2.0,
    ignore_label: Optional[int] = None,
    average: str = 'labelled',
) -> tf.Tensor:
    """Mean of (1-p)^gamma * -log p, p = softmax probability of the label (Lin et al. 2017, equation
    4, no alpha). Otherwise as `cross_entropy`, which gamma 0 gives.

    The published ResNeSt port uses gamma 2 and average='all' with ignore_label=255.
    """
    labels, valid = _split_ignored(labels, ignore_label)
    loss = elementwise_cross_entropy(logits, labels)
    # The floor keeps the gradient of the power finite at p = 1 for gamma < 1.
    miss = tf.maximum(1.0 - tf.exp(-loss), 1e-7)
    return _mean(tf.pow(miss, gamma) * loss, valid, average)


def ohem(
    logits: tf.Tensor,
    labels: tf.Tensor,
    threshold: float = 0.7,
    min_kept: int = 100000,
    ignore_label: Optional[int] = None,
) -> tf.Tensor:
    """Mean cross entropy of the hard elements, online hard example mining (Shrivastava et al.
    2016). Otherwise as `cross_entropy`, but shapes must be static.

    Hard are those whose label has a probability below `threshold`, and always the min_kept x B
    hardest of the batch; with threshold 0 these alone. This is mmsegmentation's OHEMPixelSampler,
    except that there, if no more than so many count at all, the easiest one is left out.
    """
    labels, valid = _split_ignored(labels, ignore_label)
    loss = elementwise_cross_entropy(logits, labels)
    # Ignored elements come after all others.
    hardness = tf.stop_gradient(tf.where(tf.greater(valid, 0.0), loss, -tf.ones_like(loss)))
    hard = tf.greater(hardness, -math.log(threshold) if threshold else math.inf)
    kept = min(min_kept * labels.shape[0].value, labels.shape.num_elements())
    if kept:
        hard = tf.logical_or(hard, tf.greater_equal(hardness, _kth_largest(hardness, kept)))
    return _mean(loss, tf.where(hard, valid, tf.zeros_like(valid)), 'labelled')


def _kth_largest(values: tf.Tensor, k: int) -> tf.Tensor:
    """The k-th largest of up to 2^24 values, too low by 2^-24 of the largest at most; 0 if fewer
    than k are 0 or more.

    Bisection, unrolled: tf.nn.top_k of so many is slow everywhere, and an Ascend device has it in
    float16 or on its AI CPU only.
    """
    low = tf.zeros([], values.dtype)
    high = tf.maximum(tf.reduce_max(values), low)
    for _ in range(24):
        middle = (low + high) / 2
        count = tf.reduce_sum(tf.cast(tf.greater_equal(values, middle), tf.float32))
        enough = tf.greater_equal(count, float(k))
        low, high = tf.where(enough, middle, low), tf.where(enough, high, middle)
    return low


def _split_ignored(labels, ignore_label):
    """(labels that are safe to look up, float32 weights 0/1 of their shape)."""
    labels = tf.cast(labels, tf.int32)
    valid = tf.ones_like(labels, tf.float32)
    if ignore_label is not None:
        ignored = tf.equal(labels, ignore_label)
        labels = tf.where(ignored, tf.zeros_like(labels), labels)
        valid = tf.where(ignored, tf.zeros_like(valid), valid)
    return labels, valid


def _mean(loss, valid, average):
    # Selected, not multiplied: 0 * NaN would let a left-out element poison the loss.
    total = tf.reduce_sum(tf.where(tf.greater(valid, 0.0), loss * valid, tf.zeros_like(loss)))
    elements = tf.reduce_sum(valid if average == 'labelled' else tf.ones_like(valid))
    return total / tf.maximum(elements, 1.0)
