"""npu_bridge.estimator.npu.npu_optimizer. Differs: weight update sharding, tailing optimisation (a
matter of speed) and the Keras
optimizer are not modelled; gradients are saturated where they leave the innermost optimizer."""

import tensorflow.compat.v1 as tf
from ascend_sim import environment, overflow, release

from npu_bridge.estimator.npu.npu_common import NPUBasics
from npu_bridge.hccl import hccl_ops


def allreduce(tensor, average):
    """Sum or mean over ranks; the size is the one that NPUBasics read. IndexedSlices are gathered."""
    return _reduced(tensor, NPUBasics('').size(), average)


def _reduced(tensor, size, average, reduction='sum', **fusion):
    if isinstance(tensor, tf.IndexedSlices):
        values, indices = (
            hccl_ops.allgather(tensor.values, size),
            hccl_ops.allgather(tensor.indices, size),
        )
        return tf.IndexedSlices(
            tf.div(values, tf.cast(size, values.dtype)) if average else values,
            indices,
            dense_shape=tensor.dense_shape,
        )
    total = hccl_ops.allreduce(tensor, reduction, **fusion)
    return tf.div(total, tf.cast(size, tensor.dtype)) if average else total


def _averaged(grads_and_vars, name):
    with tf.name_scope(name + '_Allreduce'):
        return [
            (allreduce(grad, True) if grad is not None else None, variable)
            for grad, variable in grads_and_vars
        ]


def raw_gradients(optimizer, *args, **kwargs):
    """optimizer.compute_gradients(), saturated if the optimizer is none of the adapter's own, which
    have done so already.
    """
    gradients = optimizer.compute_gradients(*args, **kwargs)
    return (
        gradients
        if type(optimizer).__module__.startswith('npu_bridge.')
        else overflow.saturate(gradients)
    )


def flagged_finite(grads, is_distributed):
    """Scalar bool: no overflow since the last step, on this rank or (is_distributed) on any. Clears
    the flag.
    """
    with tf.control_dependencies(grads):
        status = overflow.get_status()
    with tf.control_dependencies([status]):
        cleared = overflow.clear_status()
    if is_distributed:
        status = hccl_ops.allreduce([status], 'sum', fusion=0)
    with tf.control_dependencies([cleared]):
        return tf.reduce_all(tf.equal(status, 0), name='overflow_status_reduce_all')


def down_scaled(grads_and_vars, scale):
    inverse = tf.reciprocal(scale)
    return [
        (grad * tf.cast(inverse, grad.dtype.base_dtype) if grad is not None else None, variable)
        for grad, variable in grads_and_vars
    ]


class _Wrapper(tf.train.Optimizer):
    """What NPUOptimizer and NPUDistributedOptimizer hand on to the optimizer inside."""

    def get_slot(self, *args, **kwargs):
        return self._inner.get_slot(*args, **kwargs)

    def get_slot_names(self, *args, **kwargs):
        return self._inner.get_slot_names(*args, **kwargs)

    def variables(self, *args, **kwargs):
        return self._inner.variables(*args, **kwargs)


class NPUDistributedOptimizer(_Wrapper):
    """Averages the gradients over ranks: a sum, then a division; on one rank it does nothing."""

    def __init__(self, optimizer, name, is_weight_update_sharding=False):
        if is_weight_update_sharding:
            raise NotImplementedError(
                'is_weight_update_sharding is not modelled by the stand-in (test/ascend_sim)'
            )
        self._inner = self._optimizer = optimizer
        super().__init__(name=name or 'Distributed%s' % type(optimizer).__name__, use_locking=False)

    def compute_gradients(self, *args, **kwargs):
        gradients = raw_gradients(self._optimizer, *args, **kwargs)
        return _averaged(gradients, self._name) if environment.rank_size() > 1 else gradients

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        return self._optimizer.apply_gradients(grads_and_vars, global_step, name)


class NPUOptimizer(_Wrapper):
    """Loss scale and averaging in one: is_distributed averages (on one rank too), is_loss_scale
    scales and skips.
    """

    def __init__(
        self, opt, loss_scale_manager, is_distributed, is_loss_scale, is_tailing_optimization, name
    ):
        if is_loss_scale and loss_scale_manager is None:
            raise ValueError('is_loss_scale is True, loss_scale_manager can not be None')
        self._inner = self._opt = opt
        self._loss_scale_manager = loss_scale_manager
        self._is_distributed = is_distributed
        self._is_loss_scale = is_loss_scale
        super().__init__(name=name or 'NPUOptimizer%s' % type(opt).__name__, use_locking=False)

    def compute_gradients(
        self,
        loss,
        var_list=None,
        gate_gradients=tf.train.Optimizer.GATE_OP,
        aggregation_method=None,
        colocate_gradients_with_ops=False,
        grad_loss=None,
    ):
        scale = self._loss_scale_manager.get_loss_scale() if self._is_loss_scale else None
        loss = loss() if callable(loss) else loss
        gradients = raw_gradients(
            self._opt,
            loss if scale is None else loss * tf.cast(scale, loss.dtype.base_dtype),
            var_list=var_list,
            gate_gradients=gate_gradients,
            aggregation_method=aggregation_method,
            colocate_gradients_with_ops=colocate_gradients_with_ops,
            grad_loss=grad_loss,
        )
        if self._is_distributed:
            gradients = _averaged(gradients, self._name)
        return gradients if scale is None else down_scaled(gradients, scale)

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        if not self._is_loss_scale:
            return self._opt.apply_gradients(grads_and_vars, global_step, name)
        grads_and_vars = list(grads_and_vars)
        finite = flagged_finite(
            [grad for grad, _ in grads_and_vars if grad is not None], self._is_distributed
        )
        update = tf.cond(
            finite, lambda: self._opt.apply_gradients(grads_and_vars, global_step, name), tf.no_op
        )
        return tf.group(update, self._loss_scale_manager.update_loss_scale(finite))


class KerasDistributeOptimizer:
    def __init__(self, optimizer, name='NpuKerasOptimizer', **kwargs):
        raise NotImplementedError(
            'Keras optimizers are not modelled by the stand-in (test/ascend_sim)'
        )


def npu_distributed_optimizer_wrapper(optimizer):
    """Makes the compute_gradients of an optimizer average over ranks; returns the same object."""
    inner = optimizer.compute_gradients

    def compute_gradients(*args, **kwargs):
        gradients = overflow.saturate(inner(*args, **kwargs))
        return (
            _averaged(gradients, 'Npu_Distributed_optimizer')
            if environment.rank_size() > 1
            else gradients
        )

    optimizer.compute_gradients = compute_gradients
    return optimizer


def npu_allreduce(values, reduction, fusion, fusion_id, group):
    """Reduces a tensor or a list of them; reduction 'mean' is a sum and a division."""
    mean, size = reduction == 'mean', environment.rank_size()
    one = not isinstance(values, (list, tuple))
    results = [
        _reduced(
            value,
            size,
            mean,
            'sum' if mean else reduction,
            fusion=fusion,
            fusion_id=fusion_id,
            group=group,
        )
        for value in ([values] if one else values)
    ]
    return results[0] if one else results


release.publish(globals(), __name__)
