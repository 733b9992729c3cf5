"""python rank_batch_norm.py DEVICE DATA FOLDER: synchronised batch norm on one of two ranks; writes
rank<n>.npz.
"""

import sys

import numpy as np
import tensorflow as tf

from common import devices
from common.configuration import config, settings
from common.devices import npu
from common.training import batch_norm, optimizer

DECAY, EPSILON = 0.8, 1e-3


def layer(device, session_config, x, weights, gamma, beta):
    """One layer of this rank's images: y, gradients of the mean over images of sum(weights *
    tanh(y)), and the averages after one step.
    """
    with tf.Graph().as_default() as graph, tf.Session(config=session_config) as session:
        images = tf.placeholder(x.dtype, x.shape)
        y = batch_norm.synchronised(device)(images, 'bn', DECAY, EPSILON, True)
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        loss = tf.reduce_sum(weights * tf.tanh(tf.cast(y, tf.float32))) / len(x)
        gradients = tf.gradients(loss, [images, variables['bn/gamma'], variables['bn/beta']])
        session.run(tf.global_variables_initializer())
        session.run(
            [tf.assign(variables['bn/gamma'], gamma), tf.assign(variables['bn/beta'], beta)]
        )
        values = session.run([y] + gradients, {images: x})
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS), {images: x})
        values += session.run([variables['bn/moving_mean'], variables['bn/moving_variance']])
        computed = [
            op
            for op in graph.get_operations()
            if op.type in ('Mean', 'Sum', 'SquaredDifference', 'Rsqrt') and 'bn' in op.name
        ]
        kept = [op for op in computed if '_keep_dtype' in op.node_def.attr]
        return dict(
            zip(('y', 'to_x', 'to_gamma', 'to_beta', 'moving_mean', 'moving_variance'), values),
            computed=len(computed),
            kept=len(kept),
        )


def network(bn, images):
    """Logits [N] of four convolutions; the middle two do not wait for each other."""
    random = np.random.RandomState(5)
    kernels = [
        random.normal(0, 0.3, shape).astype(np.float32)
        for shape in ([3, 3, 2, 4], [1, 1, 4, 4], [1, 1, 4, 4], [1, 1, 4, 1])
    ]

    def conv(x, number):
        start = tf.constant_initializer(kernels[number])
        kernel = tf.get_variable('kernel%d' % number, kernels[number].shape, initializer=start)
        return tf.nn.conv2d(x, kernel, 1, 'SAME')

    x = tf.nn.relu(bn(conv(images, 0), 'bn0', DECAY, EPSILON, True))
    two = [bn(conv(x, number), 'bn%d' % number, DECAY, EPSILON, True) for number in (1, 2)]
    return tf.reduce_mean(conv(tf.nn.relu(two[0] + two[1]), 3), [1, 2, 3])


def train(device, session_config, images, targets, accumulate):
    """Three steps of SGD with batches of len(images) / accumulate: all variables, and this rank's
    loss in each step.
    """
    words = '--optimizer sgd --weight_decay 0 --precision float32 --accumulate %d' % accumulate
    cfg = config.parse(settings.Config, words.split())
    size = len(images) // accumulate

    def batch(values, index):
        if index is None:
            return tf.constant(values)
        begin, shape = [index * size] + [0] * (values.ndim - 1), (size,) + values.shape[1:]
        return tf.slice(values, begin, shape)

    def losses_of(index):
        logits = network(batch_norm.synchronised(device), batch(images, index))
        loss = tf.reduce_mean(tf.squared_difference(logits, batch(targets, index)))
        return optimizer.Losses(loss, loss)

    with tf.Graph().as_default(), tf.Session(config=session_config) as session:
        train_op, loss = optimizer.train_op(cfg, device, losses_of, tf.constant(0.5))
        session.run(tf.global_variables_initializer())
        losses = [session.run([train_op, loss])[1] for _ in range(3)]
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        return dict(session.run(variables), losses=losses)


def main(name, data, folder):
    device = devices.select(name)
    session_config = npu.session_config() if name == 'npu' else device.session_config()
    data, result = dict(np.load(data)), {}
    part = slice(2 * device.rank, 2 * device.rank + 2)
    of_layer = [data['weights'][part], data['gamma'], data['beta']]
    for dtype in ('float32', 'float16'):
        found = layer(device, session_config, data['x'][part].astype(dtype), *of_layer)
        result.update({'%s/%s' % (dtype, key): value for key, value in found.items()})
    for accumulate in (1, 2):
        images, targets = (data[key][:accumulate, device.rank] for key in ('images', 'targets'))
        images = images.reshape((-1,) + images.shape[2:])
        found = train(device, session_config, images, targets.ravel(), accumulate)
        result.update({'train%d/%s' % (accumulate, key): value for key, value in found.items()})
    np.savez('%s/rank%d.npz' % (folder, device.rank), **result)


if __name__ == '__main__':
    main(*sys.argv[1:])
