"""What each rank does for test_batch_norm.py: python batch_norm_ranks.py DEVICE DATA.npz FOLDER writes FOLDER/rank<n>.npz."""
import sys

import numpy as np
import tensorflow as tf

from common import batch_norm, config, devices, optimizer
from common.devices import npu

DECAY, EPSILON = 0.8, 1e-3
BATCH = 2        # images of a rank at a time
MICRO = 2        # micro-batches of a step
LAYER = ('gamma', 'beta', 'moving_mean', 'moving_variance')


def layer(device, session_config, x, weights, gamma, beta):
    """One layer of this rank's images: y, gradients of the mean over images of sum(weights * tanh(y)), and the averages after one step."""
    with tf.Graph().as_default() as graph, tf.Session(config=session_config) as session:
        images = tf.constant(x)
        y = batch_norm.synchronised(device)(images, 'bn', DECAY, EPSILON, True)
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        loss = tf.reduce_sum(weights * tf.tanh(tf.cast(y, tf.float32))) / len(x)
        gradients = tf.gradients(loss, [images, variables['bn/gamma'], variables['bn/beta']])
        session.run(tf.global_variables_initializer())
        session.run([tf.assign(variables['bn/gamma'], gamma), tf.assign(variables['bn/beta'], beta)])
        values = session.run([y] + gradients)
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        values += session.run([variables['bn/moving_mean'], variables['bn/moving_variance']])
        computed = [op for op in graph.get_operations() if op.type in ('Mean', 'Sum', 'SquaredDifference', 'Rsqrt') and 'bn' in op.name]
        marked = sum(b'_keep_dtype' in op.node_def.SerializeToString() for op in computed)
        return dict(zip(('y', 'to_x', 'to_gamma', 'to_beta', 'moving_mean', 'moving_variance'), values), marked=[marked, len(computed)])


def train(device, session_config, images, targets, accumulate):
    """Three steps of SGD with batches of len(images) / accumulate: all variables, and the loss of each step (mean of this rank)."""
    cfg = config.parse(config.Config, ['--optimizer', 'sgd', '--weight_decay', '0', '--precision', 'float32', '--accumulate', str(accumulate)], 'any')
    size, random = len(images) // accumulate, np.random.RandomState(5)
    kernels = [random.normal(0, 0.3, shape).astype(np.float32) for shape in ([3, 3, 2, 4], [1, 1, 4, 4], [1, 1, 4, 4], [1, 1, 4, 1])]

    def losses_of(index):
        bn, values = batch_norm.synchronised(device), [tf.constant(images), tf.constant(targets)]
        if index is not None:
            values = [tf.slice(value, [index * size] + [0] * (value.shape.ndims - 1), [size] + value.shape.as_list()[1:]) for value in values]

        def conv(x, number, normal=True):
            kernel = tf.get_variable('kernel%d' % number, kernels[number].shape, initializer=tf.constant_initializer(kernels[number]))
            x = tf.nn.conv2d(x, kernel, 1, 'SAME')
            return bn(x, 'bn%d' % number, DECAY, EPSILON, True) if normal else x

        x = tf.nn.relu(conv(values[0], 0))
        x = conv(tf.nn.relu(conv(x, 1) + conv(x, 2)), 3, normal=False)   # two layers that do not wait for each other
        loss = tf.reduce_mean(tf.squared_difference(tf.reduce_mean(x, [1, 2, 3]), values[1]))
        return optimizer.Losses(loss, loss)

    with tf.Graph().as_default(), tf.Session(config=session_config) as session:
        train_op, loss = optimizer.train_op(cfg, device, losses_of, tf.constant(0.5))
        session.run(tf.global_variables_initializer())
        losses = [session.run([train_op, loss])[1] for _ in range(3)]
        return dict({variable.op.name: session.run(variable) for variable in tf.global_variables()}, losses=losses)


def main(name, data, folder):
    device = devices.select(name)
    session_config = npu.session_config() if name == 'npu' else device.session_config()
    data, result = dict(np.load(data)), {}
    part = slice(BATCH * device.rank, BATCH * (device.rank + 1))
    for dtype in ('float32', 'float16'):
        found = layer(device, session_config, data['x'][part].astype(dtype), data['weights'][part], data['gamma'], data['beta'])
        result.update({'%s/%s' % (dtype, key): value for key, value in found.items()})
    for accumulate in (1, MICRO):
        images, targets = (data[key][:accumulate, device.rank] for key in ('images', 'targets'))
        found = train(device, session_config, images.reshape((-1,) + images.shape[2:]), targets.ravel(), accumulate)
        result.update({'train%d/%s' % (accumulate, key): value for key, value in found.items()})
    np.savez('%s/rank%d.npz' % (folder, device.rank), **result)


if __name__ == '__main__':
    main(*sys.argv[1:])
