"""npu_bridge.estimator.npu.npu_optimizer: gradients averaged over ranks. They are saturated where
they leave the innermost optimizer.
"""

import tensorflow.compat.v1 as tf
from ascend_sim import environment, overflow, release

from npu_bridge.hccl import hccl_ops


def raw_gradients(optimizer, *args, **kwargs):
    """optimizer.compute_gradients(), saturated unless the optimizer is one of the adapter's own,
    which has done so already.
    """
    gradients = optimizer.compute_gradients(*args, **kwargs)
    adapters = type(optimizer).__module__.startswith('npu_bridge.')
    return gradients if adapters else overflow.saturate(gradients)


class NPUDistributedOptimizer(tf.train.Optimizer):
    """Averages the gradients over ranks: a sum, then a division; on one rank it does nothing."""

    @release.signed
    def __init__(self, optimizer, name, is_weight_update_sharding=False):
        if is_weight_update_sharding:
            raise NotImplementedError('is_weight_update_sharding is not modelled by the stand-in')
        self._optimizer = optimizer
        super().__init__(name=name or 'Distributed%s' % type(optimizer).__name__, use_locking=False)

    def compute_gradients(self, *args, **kwargs):
        gradients, size = raw_gradients(self._optimizer, *args, **kwargs), environment.rank_size()
        if size == 1:
            return gradients
        with tf.name_scope(self._name + '_Allreduce'):
            return [
                (
                    tf.div(hccl_ops.allreduce(grad, 'sum'), tf.cast(size, grad.dtype))
                    if grad is not None
                    else None,
                    variable,
                )
                for grad, variable in gradients
            ]

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        return self._optimizer.apply_gradients(grads_and_vars, global_step, name)

    def get_slot(self, *args, **kwargs):
        return self._optimizer.get_slot(*args, **kwargs)

    def get_slot_names(self, *args, **kwargs):
        return self._optimizer.get_slot_names(*args, **kwargs)

    def variables(self, *args, **kwargs):
        return self._optimizer.variables(*args, **kwargs)
