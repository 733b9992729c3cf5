"""npu_bridge.estimator.npu_ops. Dropout draws its mask with TensorFlow."""

import numbers

import tensorflow.compat.v1 as tf
from ascend_sim import marks, release


@release.signed
def initialize_system(name):
    with marks.scope(marks.INIT):
        return tf.no_op(name=name or 'NPUInit')


@release.signed
def shutdown_system(name):
    with marks.scope(marks.SHUTDOWN):
        return tf.no_op(name=name or 'NPUShutdown')


def dropout(x, keep_prob, noise_shape=None, seed=None, name=None):
    """Keeps each element with probability keep_prob, divided by it; keep_prob is in (0, 1]."""
    if not x.dtype.is_floating:
        raise ValueError('x must be a floating point tensor. Got a %s tensor instead.' % x.dtype)
    if isinstance(keep_prob, numbers.Real) and not 0 < keep_prob <= 1:
        raise ValueError(
            'keep_prob must be a float value or a scalar tensor in the range (0, 1], got %g'
            % keep_prob
        )
    if keep_prob == 1:
        return x
    with marks.scope(b'DropOutGenMask'):
        # tf.random.uniform also multiplies and adds, and its folded form would hide the mark.
        first, second = tf.random.get_seed(seed)
        drawn = tf.raw_ops.RandomUniform(
            shape=noise_shape or x.shape, dtype=x.dtype, seed=first or 0, seed2=second or 0
        )
        mask = tf.cast(drawn >= 1 - keep_prob, x.dtype)
    with marks.scope(b'DropOutDoMask'):
        return tf.multiply(x * (1 / keep_prob), mask, name=name)
