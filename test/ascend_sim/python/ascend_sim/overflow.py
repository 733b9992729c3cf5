"""The float status of the device: one flag that any overflowing arithmetic raises, read and cleared
once a step.

Differs from the real thing: a CPU does not saturate, so gradients alone are watched, where they
leave the innermost optimizer: beyond +-65504 (or NaN) they are clamped as a 910A's float16 would be
(NaN becomes 0), and the flag goes up. A test raises it by raise_flag(), or for chosen steps by
ASCEND_SIM_OVERFLOW="step:rank,step,..." (every rank without ":rank"), step 1 being the first one
that this process runs; the value "@file" reads the list from a file at every step.
"""

import os

import numpy as np
import tensorflow.compat.v1 as tf

from ascend_sim import device, environment, marks

LIMIT = 65504.0  # largest finite float16
STATUS_WORDS = 8

_flag = False
_steps = 0
_mode = 0 if environment.first_generation() else 1  # 0 saturation, 1 Inf/NaN


def raise_flag() -> None:
    """What an overflow in this process's current step would do."""
    global _flag
    _flag = True


def set_sat_mode(mode: int) -> bool:
    """aclrtSetDeviceSatMode: False if the chip does not have the mode (910A: only 0)."""
    global _mode
    if mode not in (0, 1) or (mode == 1 and environment.first_generation()):
        return False
    _mode = mode
    return True


def inf_nan_mode() -> bool:
    return _mode == 1


def _scheduled(step: int) -> bool:
    text = os.environ.get('ASCEND_SIM_OVERFLOW', '')
    if text.startswith('@'):
        with open(text[1:]) as file:
            text = file.read()
    rank = device.rank_of_environment()
    return any(item.strip() in (str(step), '%d:%d' % (step, rank)) for item in text.split(','))


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


def get_status(name=None) -> tf.Tensor:
    """int32 [8], not all zero after an overflow. Its control inputs decide what it covers."""
    with marks.scope(b'NpuGetFloatStatusV2'):
        return tf.reshape(tf.py_func(_read, [], tf.int32), [STATUS_WORDS], name=name)


def clear_status(name=None) -> tf.Operation:
    with marks.scope(b'NpuClearFloatStatusV2'):
        return tf.reshape(tf.py_func(_clear, [], tf.int32), [STATUS_WORDS], name=name).op


def saturate(grads_and_vars):
    """Gradients as a saturating device computes them; raises the flag (before they can be used) if
    one overflowed.
    """
    found = [grad for grad, _ in grads_and_vars if grad is not None]
    if not found or inf_nan_mode():
        return grads_and_vars
    values = [grad.values if isinstance(grad, tf.IndexedSlices) else grad for grad in found]
    with tf.name_scope('ascend_sim_saturate'):
        beyond = tf.stack(
            [tf.reduce_any(tf.logical_not(tf.abs(value) <= LIMIT)) for value in values]
        )
        with marks.scope(b'Saturate'):
            noted = tf.py_func(_note, [tf.reduce_any(beyond)], tf.int32)

        def clamp(value):
            with tf.control_dependencies([noted]):
                return tf.clip_by_value(
                    tf.where(tf.is_nan(value), tf.zeros_like(value), value), -LIMIT, LIMIT
                )

        def clamped(grad):
            if isinstance(grad, tf.IndexedSlices):
                return tf.IndexedSlices(clamp(grad.values), grad.indices, grad.dense_shape)
            return clamp(grad)

        return [
            (clamped(grad) if grad is not None else None, variable)
            for grad, variable in grads_and_vars
        ]
