"""Network + loss + optimizer -> EstimatorSpec, for any task and device."""

from typing import Callable, Dict, Optional

import tensorflow as tf

from common.task import Task
from common.training import optimizer, schedule

COUNTS = 'counts'  # collection of an evaluation graph: ('key', tensor) pairs


def learning_rate(cfg, step, total_steps: int, steps_per_epoch: int) -> tf.Tensor:
    """The recipe's learning rate at `step`, float32 scalar."""
    return schedule.learning_rate(
        step,
        schedule=cfg.schedule,
        base=cfg.learning_rate,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=cfg.warmup_epochs,
        warmup_start=cfg.warmup_start,
        boundaries=cfg.boundaries,
        values=cfg.rates,
        decay_rate=cfg.decay_rate,
        decay_epochs=cfg.decay_epochs,
        staircase=cfg.staircase,
        power=cfg.power,
        end=cfg.end_learning_rate,
    )


def build(
    task: Task,
    device,
    *,
    total_steps: int = 0,
    steps_per_epoch: int = 1,
    initialize: Optional[Callable] = None,
    restore: Optional[Dict[str, str]] = None,
) -> Callable:
    """Returns model_fn(features, labels, mode) for TRAIN and EVAL; labels travel inside features.

    initialize: called once the variables exist, to set initial values from a checkpoint (training).
    restore: {variable name: name in the checkpoint} (evaluation); None initialises instead, on
    ranks that receive rank 0's variables.
    """
    cfg = task.cfg

    def training(features):
        tf.set_random_seed(cfg.seed)  # initial weights
        step = tf.train.get_or_create_global_step()
        rate = learning_rate(cfg, step, total_steps, steps_per_epoch)

        def losses_of(index):
            part = features
            if index is not None:  # micro-batch `index` of the step's batch
                part = {
                    key: tf.slice(
                        value,
                        [index * cfg.batch_size] + [0] * (value.shape.ndims - 1),
                        [cfg.batch_size] + value.shape.as_list()[1:],
                    )
                    for key, value in features.items()
                }

            def dropout(x, rate, layer):
                micro = 0 if index is None else index
                return device.dropout(
                    x,
                    rate,
                    (
                        cfg.seed * 7919 + layer * 104729 + device.rank * 1299709 + micro * 15485863,
                        step,
                    ),
                )

            part = task.augment(dict(part, image=tf.cast(part['image'], tf.float32)))
            outputs = task.network(task.normalize(part['image']), True, dropout, device)
            if initialize and not tf.is_tensor(
                index
            ):  # once, and before averages copy the initial values
                initialize()
            data = task.loss(outputs, part)
            return optimizer.Losses(data, data + optimizer.l2_loss(cfg))

        train_op, loss = optimizer.train_op(cfg, device, losses_of, rate)
        loss = device.allreduce_sum(loss, 'mean_loss') / device.size
        loss = tf.identity(loss, name='train/loss')
        tf.identity(rate, name='train/learning_rate')
        with tf.control_dependencies([train_op]):
            tf.identity(step, name='train/global_step')
        return tf.estimator.EstimatorSpec(tf.estimator.ModeKeys.TRAIN, loss=loss, train_op=train_op)

    def evaluation(features):
        logits = task.inference(task.normalize(tf.cast(features['image'], tf.float32)))
        for item in sorted(task.counts(logits, features).items()):
            tf.add_to_collection(COUNTS, item)
        tf.train.get_or_create_global_step()
        names = {variable.op.name: variable for variable in tf.global_variables()}
        if restore is None:
            return tf.estimator.EstimatorSpec(
                tf.estimator.ModeKeys.EVAL, loss=tf.reduce_mean(logits)
            )
        saver = tf.train.Saver({source: names[name] for name, source in restore.items()})
        # Published checkpoints have no global step. A Scaffold runs no init_op after a restore, so
        # the step is set beside the local variables.
        scaffold = tf.train.Scaffold(
            saver=saver,
            ready_for_local_init_op=tf.constant([], tf.string),
            local_init_op=tf.group(
                tf.train.Scaffold.default_local_init_op(), tf.train.get_global_step().initializer
            ),
        )
        return tf.estimator.EstimatorSpec(
            tf.estimator.ModeKeys.EVAL, loss=tf.reduce_mean(logits), scaffold=scaffold
        )

    def model_fn(features, labels, mode):
        return training(features) if mode == tf.estimator.ModeKeys.TRAIN else evaluation(features)

    return model_fn
