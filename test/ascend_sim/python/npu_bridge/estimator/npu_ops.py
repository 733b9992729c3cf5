"""npu_bridge.estimator.npu_ops. Differs: dropout draws its mask with TensorFlow; only what training
uses is modelled.
"""

import numbers

import tensorflow.compat.v1 as tf
from ascend_sim import release

from npu_bridge.helper import helper

gen_npu_ops = helper.get_gen_ops()


def NPUInit(name):
    if tf.executing_eagerly():
        raise RuntimeError('tf.NPUInit() is not compatible with eager execution.')
    return gen_npu_ops.npu_init(name=name)


def NPUShutdown(name):
    if tf.executing_eagerly():
        raise RuntimeError('tf.NPUShutdown() is not compatible with eager execution.')
    return gen_npu_ops.npu_shutdown(name=name)


def initialize_system(name):
    return NPUInit(name)


def shutdown_system(name):
    return NPUShutdown(name)


def dropout(x, keep_prob, noise_shape=None, seed=None, name=None):
    """Keeps each element with probability keep_prob, divided by it; keep_prob is a float or scalar
    tensor in (0, 1].
    """
    if tf.executing_eagerly():
        raise RuntimeError('npu_ops.dropout() is not compatible with eager execution.')
    x = tf.convert_to_tensor(x, name='x')
    if not x.dtype.is_floating:
        raise ValueError('x must be a floating point tensor. Got a %s tensor instead.' % x.dtype)
    if isinstance(keep_prob, numbers.Real) and not 0 < keep_prob <= 1.0:
        raise ValueError(
            'keep_prob must be a float value or a scalar tensor in the range (0, 1], got %g'
            % keep_prob
        )
    if isinstance(keep_prob, float) and keep_prob == 1.0:
        return x
    return tf.nn.dropout(x, rate=1 - keep_prob, noise_shape=noise_shape, seed=seed, name=name)


release.publish(globals(), __name__)
