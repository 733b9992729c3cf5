"""Optimizers, weight decay, clipping, gradient accumulation and weight averaging: from a loss to
one train op.
"""

import collections
from typing import Callable, List, Optional

import tensorflow as tf

# data: what is logged; total: what is differentiated (data + weight decay). float32 scalars.
Losses = collections.namedtuple('Losses', 'data total')


def decayed(cfg, variables: List[tf.Variable]) -> List[tf.Variable]:
    """Returns the variables that weight decay applies to, by the configured rule."""
    if cfg.weight_decay_rule == 'all':
        return variables
    if cfg.weight_decay_rule == 'no_bn':
        return [v for v in variables if not v.op.name.endswith(('/gamma', '/beta'))]
    return [v for v in variables if v.shape.ndims > 1]


def l2_loss(cfg) -> tf.Tensor:
    """weight_decay / 2 x the sum of squared weights: its gradient is weight_decay x w. 0 for
    momentumw, which decays by itself.
    """
    if not cfg.weight_decay or cfg.optimizer == 'momentumw':
        return tf.constant(0.0)
    return cfg.weight_decay * tf.add_n(
        [tf.nn.l2_loss(tf.cast(v, tf.float32)) for v in decayed(cfg, tf.trainable_variables())]
    )


def build(cfg, learning_rate: tf.Tensor) -> tf.train.Optimizer:
    """The optimizer that the configuration names, without device wrappers."""
    if cfg.optimizer == 'sgd':
        return tf.train.GradientDescentOptimizer(learning_rate)
    if cfg.optimizer == 'momentum':
        return tf.train.MomentumOptimizer(learning_rate, cfg.momentum, use_nesterov=cfg.nesterov)
    if cfg.optimizer == 'adam':
        return tf.train.AdamOptimizer(learning_rate, epsilon=cfg.epsilon)
    if cfg.optimizer == 'rmsprop':
        return tf.train.RMSPropOptimizer(
            learning_rate, cfg.rmsprop_decay, cfg.momentum, cfg.epsilon
        )
    return _momentum_w(cfg, learning_rate)


def _momentum_w(cfg, learning_rate: tf.Tensor) -> tf.train.Optimizer:
    from tensorflow.contrib.opt import MomentumWOptimizer  # imported late: tf.contrib takes seconds

    class MomentumW(MomentumWOptimizer):
        """Loshchilov & Hutter 2019: w -= weight_decay x w before the momentum step; the decay is
        not scaled by the learning rate.
        """

        def apply_gradients(self, grads_and_vars, global_step=None, name=None):
            pairs = list(grads_and_vars)
            return super().apply_gradients(
                pairs, global_step, name, decay_var_list=decayed(cfg, [v for _, v in pairs])
            )

    return MomentumW(cfg.weight_decay, learning_rate, cfg.momentum, use_nesterov=cfg.nesterov)


def _after(operations: List):
    """A context whose ops wait for all `operations`, through a single op: edges from each to each
    make a large graph slow to build.
    """
    return tf.control_dependencies([tf.group(*operations)] if operations else [])


class _Accumulating(tf.train.Optimizer):
    """Innermost wrapper: the mean gradient of `count` micro-batches, one after another.

    The micro-batches are unrolled, each waiting for the one before, so that activations are those
    of one: on a CPU, a step of 8 x 16 images takes 1.3 times the memory of one of 16, and one of
    128 images 3.6 times (WRN-16-2, growth of the resident set). Wrappers outside (loss scale,
    allreduce) call compute_gradients once with what they made of the constant 1, the loss scale:
    gradients cross the network once a step, and each micro-batch's backward pass is scaled.
    """

    def __init__(
        self, optimizer: tf.train.Optimizer, losses_of: Callable[[int], Losses], count: int
    ):
        super().__init__(use_locking=False, name='Accumulating')
        self._optimizer, self._losses_of, self._count = optimizer, losses_of, count
        self.apply_gradients, self.variables = optimizer.apply_gradients, optimizer.variables
        self.get_slot, self.get_slot_names = optimizer.get_slot, optimizer.get_slot_names
        self.loss: Optional[tf.Tensor] = None

    def compute_gradients(self, loss, **_):
        scale = loss  # wrappers pass it under this name
        updates = tf.get_collection_ref(tf.GraphKeys.UPDATE_OPS)
        before = list(updates)
        self.loss, sums, variables = None, [], []
        for index in range(self._count):
            # Batch-norm updates belong to their micro-batch, not to the step.
            done = list(sums) + [op for op in updates if op not in before]
            scope = tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE)
            with _after(done), scope:
                losses = self._losses_of(index)
                total = losses.total * scale / self._count
                gradients, variables = _gradients(self._optimizer, total)
                sums = [a + b for a, b in zip(sums, gradients)] if sums else list(gradients)
                part = losses.data / self._count
                self.loss = part if self.loss is None else self.loss + part
        with _after([op for op in updates if op not in before]):
            sums = [tf.identity(sum_) for sum_ in sums]
        updates[:] = before
        return list(zip(sums, variables))


def _gradients(optimizer: tf.train.Optimizer, loss: tf.Tensor):
    """(gradients, variables), without the variables that the loss does not depend on."""
    return zip(*(pair for pair in optimizer.compute_gradients(loss) if pair[0] is not None))


def average(cfg) -> tf.train.ExponentialMovingAverage:
    """Returns the Polyak averaging of variables, saved as `NAME/ExponentialMovingAverage`."""
    step = tf.cast(tf.train.get_global_step(), tf.int32)  # int64 -> float32 is no op of AI Core
    return tf.train.ExponentialMovingAverage(cfg.ema_decay, num_updates=step)


def _clipped(gradients: List[tf.Tensor], limit: float) -> List[tf.Tensor]:
    """tf.clip_by_global_norm to `limit` without its IsFinite. A norm that is not finite makes all
    gradients NaN, as there.
    """
    scale = limit / tf.maximum(tf.global_norm(gradients), limit)
    return [gradient * scale for gradient in gradients]


def _rate_factor(cfg, variable: tf.Variable) -> float:
    """What a variable's gradient is multiplied by, which multiplies its learning rate."""
    name = variable.op.name + '/'
    factors = (f for scope, f in cfg.rate_factors.items() if name.startswith(scope + '/'))
    return next(factors, 1.0)


def train_op(cfg, device, losses_of: Callable[[int], Losses], learning_rate: tf.Tensor):
    """Returns (operation that does one step, float32 scalar loss of this rank).

    losses_of(index) builds forward pass and losses of micro-batch `index`.
    """
    step = tf.train.get_or_create_global_step()
    optimizer = build(cfg, learning_rate)
    if cfg.accumulate > 1:
        optimizer = accumulating = _Accumulating(optimizer, losses_of, cfg.accumulate)
        optimizer = device.wrap_optimizer(optimizer, cfg)
        gradients, variables = _gradients(optimizer, tf.constant(1.0))
        loss = accumulating.loss
    else:
        loss, total = losses_of(0)
        optimizer = device.wrap_optimizer(optimizer, cfg)
        gradients, variables = _gradients(optimizer, total)
    if cfg.clip_norm:
        gradients = _clipped(list(gradients), cfg.clip_norm)
    if cfg.rate_factors:
        gradients = [g * _rate_factor(cfg, v) for g, v in zip(gradients, variables)]
    with _after(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        pairs = list(zip(gradients, variables))  # no iterator: NPULossScaleOptimizer reads it twice
        update = optimizer.apply_gradients(pairs, global_step=step)
    if cfg.ema_decay:
        with tf.control_dependencies([update]):
            update = average(cfg).apply(tf.trainable_variables())
    return tf.group(update, name='train/step'), loss
