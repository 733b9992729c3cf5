"""Network + loss + optimizer -> the Estimator's model_fn for TRAIN, for any task and device."""

from typing import Any, Callable, Optional

import tensorflow as tf

from common.checkpoints import restore
from common.devices.base import Device
from common.task import Task
from common.training import optimizer, schedule
from common.training.batch_norm import synchronised

# Names of the tensors that hooks look at; the step is the one after the update.
STEP, LOSS, LEARNING_RATE = 'train/global_step:0', 'train/loss:0', 'train/learning_rate:0'
# Strides of the dropout seed: primes, so that layers, ranks and micro-batches draw apart.
_SEED, _LAYER, _RANK, _MICRO_BATCH = 7919, 104729, 1299709, 15485863


def build(
    task: Task,
    cfg: Any,
    device: Device,
    *,
    total_steps: int,
    steps_per_epoch: int,
    initialize: Optional[Callable[[], None]] = None,
) -> Callable:
    """Returns model_fn(features, labels, mode); labels travel inside features.

    initialize: called once the variables exist, to set initial values from a checkpoint.
    """

    def model_fn(features, labels, mode):
        tf.set_random_seed(cfg.seed)  # initial weights
        step = tf.train.get_or_create_global_step()
        rate = schedule.learning_rate(cfg, step, total_steps, steps_per_epoch)

        def losses(index: int) -> optimizer.Losses:
            part = _micro_batch(features, index, cfg)
            result = _losses(task, cfg, device, part, step, index)
            if initialize and index == 0:  # before averages copy the initial values
                initialize()
            return result

        train_op, loss = optimizer.train_op(cfg, device, losses, rate)
        with tf.control_dependencies([train_op]):
            # Messages of ranks are paired by their order: this one comes after the gradients.
            mean = device.allreduce_sum(loss, 'mean_loss') / device.size
            loss = tf.identity(mean, name='train/loss')
            tf.identity(step.read_value(), name='train/global_step')
        tf.identity(rate, name='train/learning_rate')
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def _micro_batch(features, index: int, cfg: Any):
    """Returns the features of micro-batch `index` of the step's batch."""
    if cfg.accumulate == 1:
        return features
    start = index * cfg.batch_size
    return {key: value[start : start + cfg.batch_size] for key, value in features.items()}


def _losses(task, cfg, device, features, step, index: int) -> optimizer.Losses:
    """Builds forward pass and loss of one micro-batch."""

    def dropout(x, rate, layer):
        seed = cfg.seed * _SEED + layer * _LAYER + device.rank * _RANK + index * _MICRO_BATCH
        return device.dropout(x, rate, (seed, step))

    pixels = tf.cast(features['image'], tf.float32)
    features = task.data.augment(dict(features, image=pixels), cfg)
    with device.gradients():
        outputs = restore.build_training(
            task,
            task.data.normalize(features['image'], cfg),
            cfg,
            dropout=dropout,
            batch_norm=None if cfg.sync_bn is False else synchronised(device),
        )
    with device.full_precision():  # sums over pixels leave float16's range
        data = task.metric.loss(outputs, features, cfg)
        return optimizer.Losses(data, data + optimizer.l2_loss(cfg))
