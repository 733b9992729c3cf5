"""npu_bridge.estimator.npu.npu_loss_scale_manager. Differs: the base class is its own instead of
tf.contrib's of the same interface.
"""

import tensorflow.compat.v1 as tf
from ascend_sim import release


class LossScaleManager:
    def get_loss_scale(self):
        return self._loss_scale


class FixedLossScaleManager(LossScaleManager):
    """A constant scale. Without enable_overflow_check overflowing steps are applied."""

    def __init__(self, loss_scale, enable_overflow_check):
        if loss_scale < 1:
            raise ValueError('loss scale must be at least 1.')
        self._loss_scale = tf.convert_to_tensor(loss_scale, dtype=tf.float32, name='loss_scale')
        self._enable_overflow_check = enable_overflow_check

    def get_enable_overflow_check(self):
        return self._enable_overflow_check

    def update_loss_scale(self, finite_grads):
        del finite_grads
        return tf.no_op()


class ExponentialUpdateLossScaleManager(LossScaleManager):
    """Multiplies the scale by incr_ratio after incr_every_n_steps good steps in a row, and by
    decr_ratio (not below 1) after decr_every_n_nan_or_inf bad ones; a good step between bad ones
    does not reset their count. Three global variables.
    """

    def __init__(
        self, init_loss_scale, incr_every_n_steps, decr_every_n_nan_or_inf, incr_ratio, decr_ratio
    ):
        self._incr_every_n_steps = incr_every_n_steps
        self._decr_every_n_nan_or_inf = decr_every_n_nan_or_inf
        self._incr_ratio = incr_ratio
        self._decr_ratio = decr_ratio
        self._loss_scale = _variable('loss_scale', float(init_loss_scale), tf.float32)
        self._num_good_steps = _variable('good_steps', 0, tf.int32)
        self._num_bad_steps = _variable('bad_steps', 0, tf.int32)

    def update_loss_scale(self, finite_grads):
        def scaled(scale):
            # Reset only once the new scale is known, for it depends on the counters by way of the
            # branches.
            with tf.control_dependencies([tf.assign(self._loss_scale, scale)]):
                return tf.group(
                    tf.assign(self._num_good_steps, 0), tf.assign(self._num_bad_steps, 0)
                )

        def good():
            return tf.cond(
                self._num_good_steps + 1 >= self._incr_every_n_steps,
                lambda: scaled(
                    tf.cond(
                        self._loss_scale < 3.4e38 / self._incr_ratio,
                        lambda: self._loss_scale * self._incr_ratio,
                        lambda: tf.identity(self._loss_scale),
                    )
                ),
                lambda: tf.group(tf.assign_add(self._num_good_steps, 1)),
            )

        def bad():
            return tf.cond(
                self._num_bad_steps + 1 >= self._decr_every_n_nan_or_inf,
                lambda: scaled(tf.maximum(1.0, self._loss_scale * self._decr_ratio)),
                lambda: tf.group(
                    tf.assign_add(self._num_bad_steps, 1), tf.assign(self._num_good_steps, 0)
                ),
            )

        return tf.cond(finite_grads, good, bad)


def _variable(name, value, dtype):
    return tf.Variable(value, trainable=False, name=name, dtype=dtype)


release.publish(globals(), __name__)
