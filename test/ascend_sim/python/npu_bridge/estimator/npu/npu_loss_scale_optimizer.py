"""npu_bridge.estimator.npu.npu_loss_scale_optimizer. Overflow is seen in the gradients only
(ascend_sim.overflow).
"""

import tensorflow.compat.v1 as tf
from ascend_sim import overflow, release

from npu_bridge.estimator.npu.npu_optimizer import raw_gradients
from npu_bridge.hccl import hccl_ops


class NPULossScaleOptimizer(tf.train.Optimizer):
    """Scales the loss, unscales the gradients, and skips a step (global_step included) in which the
    device overflowed.

    is_distributed: ranks ask each other, so that all skip together; without it each decides for
    itself and they diverge.
    """

    @release.signed
    def __init__(self, opt, loss_scale_manager, is_distributed):
        self._opt = opt
        self._loss_scale_manager = loss_scale_manager
        self._is_distributed = is_distributed
        super().__init__(use_locking=False, name='NPULossScaleOptimizer%s' % type(opt).__name__)

    def __getattr__(self, name):
        return getattr(self._opt, name)

    def compute_gradients(self, loss, *args, **kwargs):
        scale = self._loss_scale_manager.get_loss_scale()
        gradients = raw_gradients(
            self._opt, loss * tf.cast(scale, loss.dtype.base_dtype), *args, **kwargs
        )
        inverse = tf.reciprocal(scale)
        return [
            (grad * tf.cast(inverse, grad.dtype.base_dtype) if grad is not None else None, variable)
            for grad, variable in gradients
        ]

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        # As the adapter does, which reads the pairs twice: an iterator would be empty by then.
        finite = tf.constant(True)
        if self._loss_scale_manager.checks_overflow:
            finite = self._finite([grad for grad, _ in grads_and_vars if grad is not None])
        update = tf.cond(
            finite, lambda: self._opt.apply_gradients(grads_and_vars, global_step, name), tf.no_op
        )
        return tf.group(update, self._loss_scale_manager.update_loss_scale(finite))

    def _finite(self, grads):
        """Scalar bool: no overflow since the last step, on this rank or (is_distributed) on any.
        Clears the flag.
        """
        with tf.control_dependencies(grads):
            status = overflow.get_status()
        with tf.control_dependencies([status]):
            cleared = overflow.clear_status()
        if self._is_distributed:
            status = hccl_ops.allreduce([status], 'sum', fusion=0)
        with tf.control_dependencies([cleared]):
            return tf.reduce_all(tf.equal(status, 0), name='overflow_status_reduce_all')
