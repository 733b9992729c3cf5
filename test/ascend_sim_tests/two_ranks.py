"""What one of two ranks does for test_ascend_sim.py; prints one JSON line."""

import json
import os
import sys

import numpy as np
import tensorflow.compat.v1 as tf
from npu_bridge.estimator.npu.npu_hook import broadcast_global_variables
from npu_bridge.hccl import hccl_ops
from npu_bridge.npu_init import *  # noqa: F401,F403  what users write

tf.logging.set_verbosity(tf.logging.ERROR)
rank = int(os.environ['RANK_ID'])
report, seen = {}, []


def input_fn():
    data = np.random.RandomState(rank).rand(8, 3).astype('f')
    return (
        tf.data.Dataset.from_tensor_slices((data, data.sum(1, keepdims=True)))
        .repeat()
        .batch(4, drop_remainder=True)
    )


class Watch(tf.train.SessionRunHook):
    def after_run(self, run_context, run_values):
        seen.append(int(run_context.session.run(tf.train.get_global_step())))


def training(features, labels, is_distributed):
    features = tf.layers.batch_normalization(features, training=True, momentum=0.5)
    loss = tf.reduce_mean(tf.square(tf.layers.dense(features, 1) - labels))
    optimizer = NPULossScaleOptimizer(
        NPUDistributedOptimizer(tf.train.MomentumOptimizer(0.1, 0.9)),
        ExponentialUpdateLossScaleManager(1024, 100),
        is_distributed=is_distributed,
    )
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        return loss, optimizer.minimize(loss, tf.train.get_or_create_global_step())


def model_fn(features, labels, mode):
    loss, train = training(features, labels, is_distributed=True)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train)


# HCCL's own interface, in a session made for it.
session, shutdown = init_resource()
report['ranks'] = [get_rank_id(), get_rank_size(), get_local_rank_id(), get_local_rank_size()]
mine = tf.fill([2], float(rank + 1))
report['mean'], report['gathered'], report['max'], report['scattered'] = [
    np.asarray(value).tolist()
    for value in session.run(
        [
            npu_allreduce(mine),
            hccl_ops.allgather(mine[:1, None], 2),
            hccl_ops.allreduce(tf.constant(rank + 1), 'max'),
            hccl_ops.reduce_scatter(mine, 'sum', 2),
        ]
    )
]
shutdown_resource(session, shutdown)
close_session(session)

# An Estimator in loops of four; rank 1 overflows in its second step.
config = NPURunConfig(
    model_dir=os.path.join(sys.argv[1], 'rank%d' % rank),
    iterations_per_loop=4,
    save_checkpoints_steps=4,
    precision_mode='allow_mix_precision',
    tf_random_seed=rank + 1,
)
estimator = NPUEstimator(model_fn=model_fn, config=config)
estimator.train(input_fn, hooks=[Watch()], max_steps=8)
report['together'] = {
    'seen': seen,
    'weights': [
        estimator.get_variable_value(name).tolist() for name in ('dense/kernel', 'dense/bias')
    ],
    'statistics': estimator.get_variable_value('batch_normalization/moving_mean').tolist(),
}
try:
    get_rank_size()
except RuntimeError as error:
    report['after'] = str(error)

# The same by hand, where each rank decides for itself; rank 1 overflows in the second of four
# steps.
from ascend_sim import overflow

os.environ['ASCEND_SIM_OVERFLOW'] = '%d:1' % (overflow._steps + 2)
with tf.Graph().as_default():
    tf.set_random_seed(rank + 1)
    iterator = tf.data.make_initializable_iterator(input_fn())
    _, train = training(*iterator.get_next(), is_distributed=False)
    broadcast, weights = broadcast_global_variables(0), tf.trainable_variables()
    with tf.Session(config=npu_config_proto()) as session:
        session.run([tf.global_variables_initializer(), iterator.initializer])
        report['own'] = [value.tolist() for value in session.run(weights)]
        session.run(broadcast)
        report['given'] = [value.tolist() for value in session.run(weights)]
        for _ in range(4):
            session.run(train)
        report['diverged'] = {
            'step': int(session.run(tf.train.get_global_step())),
            'weights': [value.tolist() for value in session.run(weights)],
        }
print(json.dumps(report))
