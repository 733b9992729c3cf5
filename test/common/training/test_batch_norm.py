"""Synchronised batch norm: formulas against NumPy in float64, and two ranks, which run
rank_batch_norm.py, against one with all images.
"""

import contextlib
import importlib.util
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from rank_batch_norm import DECAY, EPSILON, train

from common.devices.cpu import CPU
from common.training import batch_norm

FOLDER = pathlib.Path(__file__).resolve().parent


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
        names = [update.inputs[0].op.name for update in updates]
        return collections, names, [type(update) for update in updates]


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
                x = norm(x, 'first/bn', DECAY, EPSILON, training)
                norm(x, 'second', DECAY, EPSILON, training)

        return layers

    def tf_layers(x, name, decay, epsilon, training):
        return tf.layers.batch_normalization(
            x, momentum=decay, epsilon=epsilon, training=training, fused=True, name=name
        )

    expected = variables_after(build(tf_layers))
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
        # micro-batch, rank, image, ...
        images=random.normal(1, 2, (2, 2, 2, 6, 6, 2)).astype(np.float32),
        targets=random.normal(0, 1, (2, 2, 2)).astype(np.float32),
    )


@pytest.fixture(scope='module', params=['cpu', 'npu'])
def ranks(request, data, start, tmp_path_factory):
    """What both ranks found."""
    if not importlib.util.find_spec('horovod'):
        pytest.skip('Horovod is not installed')
    folder = tmp_path_factory.mktemp(request.param)
    np.savez(str(folder / 'data.npz'), **data)
    words = FOLDER / 'rank_batch_norm.py', request.param, folder / 'data.npz', folder
    process = start(request.param, folder, *words, script=FOLDER / 'two_ranks.py')
    status, out, error = process.finish(400)
    assert status == 0, out + error
    return [
        dict(np.load(str(folder / ('rank%d.npz' % rank))), device=request.param)
        for rank in range(2)
    ]


def of_both(ranks, name):
    """An array over all images."""
    return np.concatenate([rank[name] for rank in ranks])


def assert_averages(rank, kind, x):
    """Those after one step on all images, whose variance is the unbiased one."""
    mean, variance = rank[kind + '/moving_mean'], rank[kind + '/moving_variance']
    assert mean.dtype == variance.dtype == np.float32
    np.testing.assert_allclose(mean, 0.2 * x.mean((0, 1, 2)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(variance, 0.8 + 0.2 * x.var((0, 1, 2), ddof=1), rtol=1e-6)


@pytest.mark.processes
@pytest.mark.slow
class TestTwoRanks:
    def test_output_and_averages_are_those_of_all_images(self, ranks, data):
        x, found = data['x'].astype(np.float64), of_both(ranks, 'float32/y')
        np.testing.assert_allclose(found, normalised(x, data['gamma'], data['beta']), atol=1e-5)
        for rank in ranks:
            assert_averages(rank, 'float32', x)

    def test_gradients_are_those_of_one_rank_with_all_images(self, ranks, data):
        """The loss is the mean of the ranks' losses. A rank's gradient of x is that of their sum,
        so that the mean over ranks is right.
        """

        def loss(x, gamma, beta):
            return (data['weights'] * np.tanh(normalised(x, gamma, beta))).sum() / 4

        x, gamma, beta = (data[key].astype(np.float64) for key in ('x', 'gamma', 'beta'))
        to_x, found = slope(lambda x: loss(x, gamma, beta), x), of_both(ranks, 'float32/to_x') / 2
        for channel in range(4):  # they are of very different size
            expected = to_x[..., channel]
            tolerance = 1e-5 * np.abs(expected).max()
            np.testing.assert_allclose(found[..., channel], expected, atol=tolerance)
        for key, expected in (
            ('to_gamma', slope(lambda g: loss(x, g, beta), gamma)),
            ('to_beta', slope(lambda b: loss(x, gamma, b), beta)),
        ):
            found = np.mean([rank['float32/' + key] for rank in ranks], 0)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        one, two = (rank['float32/to_gamma'] for rank in ranks)
        assert np.abs(one - two).max() > 0.1  # they stay each rank's own

    def test_float16_has_statistics_in_float32(self, ranks, data):
        x, found = data['x'].astype(np.float16).astype(np.float64), of_both(ranks, 'float16/y')
        assert found.dtype == ranks[0]['float16/to_x'].dtype == np.float16
        assert ranks[0]['float16/to_gamma'].dtype == np.float32
        expected = normalised(x, data['gamma'], data['beta'])
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
        for rank in ranks:
            assert_averages(rank, 'float16', x)

    @pytest.mark.parametrize('accumulate', [1, 2])
    def test_training_is_that_of_one_rank_with_all_images(self, ranks, data, accumulate):
        """Kernels, gamma, beta and averages after three steps, with and without micro-batches,
        which are a loop in the graph.
        """
        images = data['images'][:accumulate].reshape(-1, 6, 6, 2)
        one = train(CPU(), None, images, data['targets'][:accumulate].ravel(), accumulate)
        names = [name for name in one if name not in ('losses', 'global_step')]
        assert len(names) == 4 + 3 * 4
        close = dict(rtol=1e-5, atol=1e-5)
        for rank in ranks:
            for name in names:
                found = rank['train%d/%s' % (accumulate, name)]
                np.testing.assert_allclose(found, one[name], err_msg=name, **close)
        losses = np.mean([rank['train%d/losses' % accumulate] for rank in ranks], 0)
        np.testing.assert_allclose(losses, one['losses'], rtol=1e-5)
        assert abs(losses[2] - losses[0]) > 0.01 * losses[0]

    def test_mixed_precision_leaves_the_statistics_alone_on_npu(self, ranks):
        for rank in ranks:
            computed = rank['float32/computed']
            assert computed >= 8
            assert rank['float32/kept'] == (computed if rank['device'] == 'npu' else 0)
