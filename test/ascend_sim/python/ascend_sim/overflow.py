"""The float status of the device: one flag that any overflowing arithmetic raises, read and cleared
once a step.

A CPU does not saturate, so only gradients are watched, where they leave the innermost optimizer:
beyond +-65504 (or NaN) they are clamped as a 910A's float16 would be (NaN becomes 0), and the flag
goes up. ASCEND_SIM_OVERFLOW="step:rank,step,..." raises it in chosen steps (on every rank without
":rank"); step 1 is the first one that this process runs.
"""

import os

import numpy as np
import tensorflow.compat.v1 as tf

from ascend_sim import device, marks

LIMIT = 65504.0  # largest finite float16
STATUS_WORDS = 8

_flag = False
_steps = 0


def raise_flag() -> None:
    """What an overflow in this process's current step would do."""
    global _flag
    _flag = True


def _scheduled(step: int) -> bool:
    rank = device.rank_of_environment()
    chosen = os.environ.get('ASCEND_SIM_OVERFLOW', '').split(',')
    return str(step) in chosen or '%d:%d' % (step, rank) in chosen


def _read():
    global _flag, _steps
    _steps += 1
    _flag = _flag or _scheduled(_steps)
    return np.array([int(_flag)] + [0] * (STATUS_WORDS - 1), np.int32)


def _clear():
    global _flag
    _flag = False
    return np.zeros(STATUS_WORDS, np.int32)


def _note(overflowed):
    if overflowed:
        raise_flag()
    return np.int32(0)


def get_status() -> tf.Tensor:
    """int32 [8], not all zero after an overflow. Its control inputs decide what it covers."""
    with marks.scope(b'NpuGetFloatStatusV2'):
        return tf.reshape(tf.py_func(_read, [], tf.int32), [STATUS_WORDS])


def clear_status() -> tf.Operation:
    with marks.scope(b'NpuClearFloatStatusV2'):
        return tf.reshape(tf.py_func(_clear, [], tf.int32), [STATUS_WORDS]).op


def saturate(grads_and_vars):
    """Gradients as a saturating device computes them; raises the flag (before they can be used) if
    one overflowed.
    """
    found = [grad for grad, _ in grads_and_vars if grad is not None]
    with tf.name_scope('ascend_sim_saturate'), marks.scope(b''):
        beyond = tf.stack([tf.reduce_any(tf.logical_not(tf.abs(grad) <= LIMIT)) for grad in found])
        noted = tf.py_func(_note, [tf.reduce_any(beyond)], tf.int32)

        def clamp(grad):
            with tf.control_dependencies([noted]):
                finite = tf.where(tf.is_nan(grad), tf.zeros_like(grad), grad)
                return tf.clip_by_value(finite, -LIMIT, LIMIT)

        return [
            (clamp(grad) if grad is not None else None, variable)
            for grad, variable in grads_and_vars
        ]
