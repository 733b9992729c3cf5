"""npu_bridge.estimator.npu.npu_loss_scale_optimizer. Differs: overflow is seen in the gradients
only (ascend_sim.overflow), and the
base class is its own instead of tf.contrib's of the same interface."""

import tensorflow.compat.v1 as tf
from ascend_sim import overflow, release

from npu_bridge.estimator.npu.npu_loss_scale_manager import FixedLossScaleManager
from npu_bridge.estimator.npu.npu_optimizer import down_scaled, flagged_finite, raw_gradients


class NPULossScaleOptimizer(tf.train.Optimizer):
    """Scales the loss, unscales the gradients, and skips a step (global_step included) in which the
    device overflowed.

    is_distributed: ranks ask each other, so that all skip together; without it each decides for
    itself and they diverge.
    """

    def __init__(self, opt, loss_scale_manager, is_distributed):
        self._opt = opt
        self._loss_scale_manager = loss_scale_manager
        self._is_distributed = is_distributed
        super().__init__(use_locking=False, name='NPULossScaleOptimizer%s' % type(opt).__name__)

    def __getattr__(self, name):
        return getattr(self._opt, name)

    def compute_gradients(
        self,
        loss,
        var_list=None,
        gate_gradients=tf.train.Optimizer.GATE_OP,
        aggregation_method=None,
        colocate_gradients_with_ops=False,
        grad_loss=None,
    ):
        scale = self._loss_scale_manager.get_loss_scale()
        loss = loss() if callable(loss) else loss
        gradients = raw_gradients(
            self._opt,
            loss * tf.cast(scale, loss.dtype.base_dtype),
            var_list=var_list,
            gate_gradients=gate_gradients,
            aggregation_method=aggregation_method,
            colocate_gradients_with_ops=colocate_gradients_with_ops,
            grad_loss=grad_loss,
        )
        return down_scaled(gradients, scale)

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        grads_and_vars = list(grads_and_vars)
        grads = [grad for grad, _ in grads_and_vars if grad is not None]
        if overflow.inf_nan_mode() and release.at_least('r1.13.0'):
            finite = tf.reduce_all([tf.reduce_all(tf.is_finite(grad)) for grad in grads])
        elif self._checks():
            finite = flagged_finite(grads, self._is_distributed)
        else:
            finite = tf.constant(True)
        update = tf.cond(
            finite, lambda: self._opt.apply_gradients(grads_and_vars, global_step, name), tf.no_op
        )
        return tf.group(update, self._loss_scale_manager.update_loss_scale(finite))

    def _checks(self):
        manager = self._loss_scale_manager
        return (
            manager.get_enable_overflow_check()
            if isinstance(manager, FixedLossScaleManager)
            else True
        )


release.publish(globals(), __name__)
