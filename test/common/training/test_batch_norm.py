"""Synchronised batch norm: formulas against NumPy in float64, and two ranks, which run this file,
against one with all images.
"""

import contextlib
import importlib.util
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

from common import devices
from common.configuration import config, settings
from common.devices import npu
from common.devices.cpu import CPU
from common.training import batch_norm, optimizer

TWO_RANKS = pathlib.Path(__file__).resolve().parent / 'two_ranks.py'
DECAY, EPSILON = 0.8, 1e-3


# Without other processes


class Stub:
    """As much of a device of two ranks as the graph needs; the other rank's numbers are missing
    from its sums.
    """

    rank, size = 1, 2

    def __init__(self, pairs_by_order=True):
        self.sums, self.pairs_by_order = [], pairs_by_order

    def full_precision(self):
        return contextlib.nullcontext()

    def allreduce_sum(self, tensor, name):
        self.sums.append(tf.identity(tensor, name))
        return self.sums[-1]


def variables_after(build):
    """[name, dtype, shape, initial value] of the variables of each collection, and names of the
    updated variables.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        build(tf.ones([2, 3, 3, 4]))
        session.run(tf.global_variables_initializer())
        collections = {
            key: [
                [v.op.name, v.dtype, v.shape.as_list(), session.run(v).tolist()]
                for v in tf.get_collection(key)
            ]
            for key in tf.get_default_graph().get_all_collection_keys()
            if key not in ('update_ops', 'cond_context')
        }
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        return (
            collections,
            [update.inputs[0].op.name for update in updates],
            [type(update) for update in updates],
        )


def test_one_rank_has_the_fused_op():
    assert batch_norm.synchronised(CPU()) is batch_norm.local
    with tf.Graph().as_default() as graph:
        batch_norm.local(tf.ones([2, 3, 3, 4]), 'bn', DECAY, EPSILON, True)
        assert 'FusedBatchNormV3' in {op.type for op in graph.get_operations()}


@pytest.mark.parametrize('training', [True, False])
def test_variables_and_updates_are_those_of_tf_layers(training):
    def build(norm):
        def layers(x):
            with tf.variable_scope('net'):
                norm(
                    norm(x, 'first/bn', DECAY, EPSILON, training),
                    'second',
                    DECAY,
                    EPSILON,
                    training,
                )

        return layers

    expected = variables_after(
        build(
            lambda x, name, decay, epsilon, training: tf.layers.batch_normalization(
                x, momentum=decay, epsilon=epsilon, training=training, fused=True, name=name
            )
        )
    )
    assert variables_after(build(batch_norm.synchronised(Stub()))) == expected
    assert len(expected[1]) == 4 * training


def test_without_training_the_averages_normalise_and_nothing_is_sent():
    device, x = Stub(), np.random.RandomState(0).normal(3, 2, (2, 3, 3, 4)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        y = batch_norm.synchronised(device)(tf.constant(x), 'bn', DECAY, EPSILON, False)
        session.run(tf.global_variables_initializer())
        values = {
            v.op.name: np.linspace(1, 2, 4) * scale
            for v, scale in zip(tf.global_variables(), (1, 2, 3, 4))
        }
        for variable in tf.global_variables():
            variable.load(values[variable.op.name], session)
        found = session.run(y)
    gamma, beta, mean, variance = (
        values['bn/' + name] for name in ('gamma', 'beta', 'moving_mean', 'moving_variance')
    )
    np.testing.assert_allclose(
        found, (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta, atol=1e-5
    )
    assert not device.sums


@pytest.mark.parametrize('by_order', [True, False])
def test_messages_have_one_order_where_ranks_pair_them_by_it(by_order):
    """Two layers that do not wait for each other and one after both: 2 sums each, every one after
    those built before it; else only after those it is computed from.
    """
    device = Stub(by_order)
    with tf.Graph().as_default():
        norm, x = batch_norm.synchronised(device), tf.ones([2, 3, 3, 4])
        x = norm(x, 'a', DECAY, EPSILON, True) + norm(x, 'b', DECAY, EPSILON, True)
        tf.gradients(norm(x, 'c', DECAY, EPSILON, True), tf.trainable_variables())
        ops = [tensor.op for tensor in device.sums]
        assert len(ops) == 6
        waits = []
        for before, after in zip(ops, ops[1:]):
            seen, stack = set(), [after]
            while stack:
                op = stack.pop()
                if op not in seen:
                    seen.add(op)
                    stack += [tensor.op for tensor in op.inputs] + op.control_inputs
            waits.append(before in seen)
    assert waits == ([True] * 5 if by_order else [False, True, True, True, False])


def test_the_number_of_images_may_be_unknown():
    x = np.random.RandomState(0).normal(0, 1, (3, 2, 2, 1)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, 2, 2, 1])
        y = batch_norm.synchronised(Stub())(images, 'bn', DECAY, EPSILON, True)
        assert y.shape.as_list() == [None, 2, 2, 1]
        session.run(tf.global_variables_initializer())
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS), {images: x})
        variance = session.run('bn/moving_variance:0')
    # Rank 0 is missing, so its mean and variance are 0: as if it had 12 values that are all 0.
    np.testing.assert_allclose(
        variance, 0.8 + 0.2 * np.concatenate([x.ravel(), np.zeros(12)]).var(ddof=1), rtol=1e-5
    )


# What a rank does


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


def train(device, session_config, images, targets, accumulate):
    """Three steps of SGD with batches of len(images) / accumulate: all variables, and this rank's
    loss in each step.
    """
    cfg = config.parse(
        settings.Config,
        [
            '--optimizer',
            'sgd',
            '--weight_decay',
            '0',
            '--precision',
            'float32',
            '--accumulate',
            str(accumulate),
        ],
    )
    size, random = len(images) // accumulate, np.random.RandomState(5)
    kernels = [
        random.normal(0, 0.3, shape).astype(np.float32)
        for shape in ([3, 3, 2, 4], [1, 1, 4, 4], [1, 1, 4, 4], [1, 1, 4, 1])
    ]

    def losses_of(index):
        bn, values = batch_norm.synchronised(device), [tf.constant(images), tf.constant(targets)]
        if index is not None:
            values = [
                tf.slice(
                    value,
                    [index * size] + [0] * (value.shape.ndims - 1),
                    [size] + value.shape.as_list()[1:],
                )
                for value in values
            ]

        def conv(x, number):
            kernel = tf.get_variable(
                'kernel%d' % number,
                kernels[number].shape,
                initializer=tf.constant_initializer(kernels[number]),
            )
            return tf.nn.conv2d(x, kernel, 1, 'SAME')

        x = tf.nn.relu(bn(conv(values[0], 0), 'bn0', DECAY, EPSILON, True))
        # Two layers that do not wait for each other.
        x = tf.nn.relu(
            bn(conv(x, 1), 'bn1', DECAY, EPSILON, True)
            + bn(conv(x, 2), 'bn2', DECAY, EPSILON, True)
        )
        loss = tf.reduce_mean(
            tf.squared_difference(tf.reduce_mean(conv(x, 3), [1, 2, 3]), values[1])
        )
        return optimizer.Losses(loss, loss)

    with tf.Graph().as_default(), tf.Session(config=session_config) as session:
        train_op, loss = optimizer.train_op(cfg, device, losses_of, tf.constant(0.5))
        session.run(tf.global_variables_initializer())
        losses = [session.run([train_op, loss])[1] for _ in range(3)]
        return dict(
            session.run({variable.op.name: variable for variable in tf.global_variables()}),
            losses=losses,
        )


def main(name, data, folder):
    device = devices.select(name)
    session_config = npu.session_config() if name == 'npu' else device.session_config()
    data, result = dict(np.load(data)), {}
    part = slice(2 * device.rank, 2 * device.rank + 2)
    for dtype in ('float32', 'float16'):
        found = layer(
            device,
            session_config,
            data['x'][part].astype(dtype),
            data['weights'][part],
            data['gamma'],
            data['beta'],
        )
        result.update({'%s/%s' % (dtype, key): value for key, value in found.items()})
    for accumulate in (1, 2):
        images, targets = (data[key][:accumulate, device.rank] for key in ('images', 'targets'))
        found = train(
            device,
            session_config,
            images.reshape((-1,) + images.shape[2:]),
            targets.ravel(),
            accumulate,
        )
        result.update({'train%d/%s' % (accumulate, key): value for key, value in found.items()})
    np.savez('%s/rank%d.npz' % (folder, device.rank), **result)


# Two ranks


def normalised(x, gamma, beta):
    """Closed form over all images, in float64."""
    return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + EPSILON) * gamma + beta


def slope(function, at):
    """The gradient of a scalar function by central differences."""
    result = np.zeros_like(at)
    for index in np.ndindex(*at.shape):
        step = np.zeros_like(at)
        step[index] = 1e-5
        result[index] = (function(at + step) - function(at - step)) / 2e-5
    return result


@pytest.fixture(scope='module')
def data():
    """Four images, of which each rank has two; channels around 0, far from it, almost constant, and
    with a mean of its own on each rank.
    """
    random = np.random.RandomState(3)
    x = random.normal(0, 1, (4, 3, 2, 4)) * [2, 1, 0.01, 1] + [0, 100, 1, 0]
    x[2:, ..., 3] += 20
    return dict(
        x=x.astype(np.float32),
        weights=random.normal(0, 1, x.shape).astype(np.float32),
        gamma=np.float32([1, 0.5, 2, -1]),
        beta=np.float32([0, 1, -0.5, 0.3]),
        images=random.normal(1, 2, (2, 2, 2, 6, 6, 2)).astype(
            np.float32
        ),  # micro-batch, rank, image, ...
        targets=random.normal(0, 1, (2, 2, 2)).astype(np.float32),
    )


@pytest.fixture(scope='module', params=['cpu', 'npu'])
def ranks(request, data, start, tmp_path_factory):
    """What both ranks found."""
    if not importlib.util.find_spec('horovod'):
        pytest.skip('Horovod is not installed')
    folder = tmp_path_factory.mktemp(request.param)
    np.savez(str(folder / 'data.npz'), **data)
    status, out, error = start(
        request.param,
        folder,
        __file__,
        request.param,
        folder / 'data.npz',
        folder,
        script=TWO_RANKS,
    ).finish(400)
    assert status == 0, out + error
    return [
        dict(np.load(str(folder / ('rank%d.npz' % rank))), device=request.param)
        for rank in range(2)
    ]


@pytest.mark.processes
@pytest.mark.slow
class TestTwoRanks:
    def test_output_and_averages_are_those_of_all_images(self, ranks, data):
        x = data['x'].astype(np.float64)
        found = np.concatenate([rank['float32/y'] for rank in ranks])
        np.testing.assert_allclose(found, normalised(x, data['gamma'], data['beta']), atol=1e-5)
        for rank in ranks:
            np.testing.assert_allclose(
                rank['float32/moving_mean'], 0.2 * x.mean((0, 1, 2)), rtol=1e-6, atol=1e-6
            )
            np.testing.assert_allclose(
                rank['float32/moving_variance'], 0.8 + 0.2 * x.var((0, 1, 2), ddof=1), rtol=1e-6
            )

    def test_gradients_are_those_of_one_rank_with_all_images(self, ranks, data):
        """The loss is the mean of the ranks' losses. A rank's gradient of x is that of their sum,
        so that the mean over ranks is right.
        """

        def loss(x, gamma, beta):
            return (data['weights'] * np.tanh(normalised(x, gamma, beta))).sum() / 4

        x, gamma, beta = (data[key].astype(np.float64) for key in ('x', 'gamma', 'beta'))
        close = dict(rtol=1e-5, atol=1e-5)
        to_x = slope(lambda x: loss(x, gamma, beta), x)
        found = np.concatenate([rank['float32/to_x'] for rank in ranks]) / 2
        for channel in range(4):  # they are of very different size
            expected = to_x[..., channel]
            np.testing.assert_allclose(
                found[..., channel], expected, atol=1e-5 * np.abs(expected).max()
            )
        np.testing.assert_allclose(
            np.mean([rank['float32/to_gamma'] for rank in ranks], 0),
            slope(lambda g: loss(x, g, beta), gamma),
            **close,
        )
        np.testing.assert_allclose(
            np.mean([rank['float32/to_beta'] for rank in ranks], 0),
            slope(lambda b: loss(x, gamma, b), beta),
            **close,
        )
        assert (
            np.abs(ranks[0]['float32/to_gamma'] - ranks[1]['float32/to_gamma']).max() > 0.1
        )  # they stay each rank's own

    def test_float16_has_statistics_in_float32(self, ranks, data):
        x = data['x'].astype(np.float16).astype(np.float64)
        found = np.concatenate([rank['float16/y'] for rank in ranks])
        assert found.dtype == ranks[0]['float16/to_x'].dtype == np.float16
        assert (
            ranks[0]['float16/moving_mean'].dtype
            == ranks[0]['float16/to_gamma'].dtype
            == np.float32
        )
        np.testing.assert_allclose(
            found, normalised(x, data['gamma'], data['beta']), rtol=1e-3, atol=1e-3
        )
        np.testing.assert_allclose(
            ranks[1]['float16/moving_mean'], 0.2 * x.mean((0, 1, 2)), rtol=1e-6, atol=1e-6
        )
        np.testing.assert_allclose(
            ranks[1]['float16/moving_variance'], 0.8 + 0.2 * x.var((0, 1, 2), ddof=1), rtol=1e-6
        )

    @pytest.mark.parametrize('accumulate', [1, 2])
    def test_training_is_that_of_one_rank_with_all_images(self, ranks, data, accumulate):
        """Kernels, gamma, beta and averages after three steps, with and without micro-batches,
        which are a loop in the graph.
        """
        one = train(
            CPU(),
            None,
            data['images'][:accumulate].reshape(-1, 6, 6, 2),
            data['targets'][:accumulate].ravel(),
            accumulate,
        )
        names = [name for name in one if name not in ('losses', 'global_step')]
        assert len(names) == 4 + 3 * 4
        for rank in ranks:
            for name in names:
                np.testing.assert_allclose(
                    rank['train%d/%s' % (accumulate, name)],
                    one[name],
                    rtol=1e-5,
                    atol=1e-5,
                    err_msg=name,
                )
        losses = np.mean([rank['train%d/losses' % accumulate] for rank in ranks], 0)
        np.testing.assert_allclose(losses, one['losses'], rtol=1e-5)
        assert abs(losses[2] - losses[0]) > 0.01 * losses[0]

    def test_mixed_precision_leaves_the_statistics_alone_on_npu(self, ranks):
        for rank in ranks:
            assert rank['float32/computed'] >= 8
            assert rank['float32/kept'] == (
                rank['float32/computed'] if rank['device'] == 'npu' else 0
            )


if __name__ == '__main__':
    main(*sys.argv[1:])
