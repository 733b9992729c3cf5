"""npu_bridge.estimator.npu.npu_loss_scale_manager."""

import tensorflow.compat.v1 as tf
from ascend_sim import release


class FixedLossScaleManager:
    """A constant scale. Without enable_overflow_check overflowing steps are applied."""

    @release.signed
    def __init__(self, loss_scale, enable_overflow_check=True):
        if loss_scale < 1:
            raise ValueError('loss scale must be at least 1.')
        self._loss_scale = tf.convert_to_tensor(loss_scale, dtype=tf.float32, name='loss_scale')
        self.checks_overflow = enable_overflow_check

    def get_loss_scale(self):
        return self._loss_scale

    def update_loss_scale(self, finite_grads):
        del finite_grads
        return tf.no_op()


class ExponentialUpdateLossScaleManager:
    """Multiplies the scale by incr_ratio after incr_every_n_steps good steps in a row, and by
    decr_ratio (not below 1) after decr_every_n_nan_or_inf bad ones; a good step between bad ones
    does not reset their count. Three global variables.
    """

    checks_overflow = True

    @release.signed
    def __init__(
        self, init_loss_scale, incr_every_n_steps, decr_every_n_nan_or_inf, incr_ratio, decr_ratio
    ):
        self._incr_every_n_steps = incr_every_n_steps
        self._decr_every_n_nan_or_inf = decr_every_n_nan_or_inf
        self._incr_ratio = incr_ratio
        self._decr_ratio = decr_ratio
        self._loss_scale = tf.Variable(float(init_loss_scale), trainable=False, name='loss_scale')
        self._good, self._bad = (
            tf.Variable(0, trainable=False, name=name) for name in ('good_steps', 'bad_steps')
        )

    def get_loss_scale(self):
        return self._loss_scale

    def update_loss_scale(self, finite_grads):
        def scaled(scale):
            # Reset only once the new scale is known, for it depends on the counters by way of the
            # branches.
            with tf.control_dependencies([tf.assign(self._loss_scale, scale)]):
                return tf.group(tf.assign(self._good, 0), tf.assign(self._bad, 0))

        def raised():
            larger = self._loss_scale * self._incr_ratio
            fits = self._loss_scale < 3.4e38 / self._incr_ratio
            return scaled(tf.where(fits, larger, self._loss_scale))

        def lowered():
            return scaled(tf.maximum(1.0, self._loss_scale * self._decr_ratio))

        return tf.cond(
            finite_grads,
            lambda: tf.cond(
                self._good + 1 >= self._incr_every_n_steps,
                raised,
                lambda: tf.group(tf.assign_add(self._good, 1)),
            ),
            lambda: tf.cond(
                self._bad + 1 >= self._decr_every_n_nan_or_inf,
                lowered,
                lambda: tf.group(tf.assign_add(self._bad, 1), tf.assign(self._good, 0)),
            ),
        )
