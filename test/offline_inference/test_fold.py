"""Folding against the network that was not folded, and against the formula."""

import numpy as np
import pytest
import tensorflow as tf

from offline_inference import fold

RANDOM = np.random.RandomState(3)
X = RANDOM.normal(size=(2, 6, 6, 4)).astype(np.float32)


def norm(x, channels, epsilon=1e-3):
    gamma, beta, mean = (RANDOM.normal(size=channels).astype(np.float32) for _ in range(3))
    variance = RANDOM.uniform(0.2, 3, channels).astype(np.float32)
    return tf.nn.fused_batch_norm(
        x, gamma, beta, mean, variance, epsilon=epsilon, is_training=False
    )[0], (gamma, beta, mean, variance)


def kernel(*shape):
    return tf.constant(RANDOM.normal(size=shape).astype(np.float32))


def graph(build):
    """The GraphDef of build(x) and what TensorFlow computes with it before anything is folded."""
    with tf.Graph().as_default() as made, tf.Session() as session:
        x = tf.placeholder(tf.float32, X.shape, 'x')
        y = tf.identity(build(x), 'y')
        graph_def = tf.graph_util.remove_training_nodes(made.as_graph_def(), ['y'])
        return graph_def, session.run(y, {x: X})


def evaluate(graph_def):
    with tf.Graph().as_default(), tf.Session() as session:
        (y,) = tf.import_graph_def(graph_def, {'x': tf.constant(X)}, ['y:0'])
        return session.run(y)


def ops(graph_def):
    return [
        node.op for node in graph_def.node if node.op not in ('Const', 'Placeholder', 'Identity')
    ]


BUILDS = {
    'conv': (
        lambda x: norm(tf.nn.conv2d(x, kernel(3, 3, 4, 5), 2, 'SAME'), 5)[0],
        ['Conv2D', 'BiasAdd'],
    ),
    'conv with bias': (
        lambda x: norm(
            tf.nn.bias_add(tf.nn.conv2d(x, kernel(3, 3, 4, 5), 1, 'VALID'), kernel(5)), 5
        )[0],
        ['Conv2D', 'BiasAdd'],
    ),
    'depthwise': (
        lambda x: norm(tf.nn.depthwise_conv2d(x, kernel(3, 3, 4, 3), [1, 1, 1, 1], 'SAME'), 12)[0],
        ['DepthwiseConv2dNative', 'BiasAdd'],
    ),
    'conv, sum and ReLU between': (
        lambda x: norm(
            tf.nn.relu(norm(x, 4)[0] + tf.nn.conv2d(x, kernel(1, 1, 4, 4), 1, 'SAME')), 4
        )[0],
        None,
    ),
}


@pytest.mark.parametrize('name', BUILDS)
def test_folded_graph_computes_the_same(name):
    build, expected = BUILDS[name]
    graph_def, before = graph(build)
    result = fold.batch_norms(graph_def, 'y')
    np.testing.assert_allclose(evaluate(result.graph_def), before, rtol=1e-4, atol=1e-5)
    if expected:
        assert ops(result.graph_def) == expected and (result.folded, result.kept) == (1, 0)
        assert (
            len(result.graph_def.node) == 6
        )  # x, kernel, conv, bias, BiasAdd, y: nothing of the old constants
    else:
        assert sorted(ops(result.graph_def)) == sorted(ops(graph_def)) and (
            result.folded,
            result.kept,
        ) == (0, 2)


@pytest.mark.parametrize('biased', [False, True])
def test_what_another_node_reads_is_left_alone(biased):
    def build(x):
        y = conv = tf.nn.conv2d(x, kernel(1, 1, 4, 4), 1, 'SAME')
        if biased:
            y = tf.nn.bias_add(conv, kernel(4))
        return norm(y, 4)[0] + conv

    graph_def, before = graph(build)
    result = fold.batch_norms(graph_def, 'y')
    assert (result.folded, result.kept) == (0, 1)
    np.testing.assert_allclose(evaluate(result.graph_def), before, rtol=1e-5, atol=1e-6)


def test_two_convolutions_of_one_kernel_keep_their_own_batch_norms():
    def build(x):
        shared = kernel(1, 1, 4, 4)
        return (
            norm(tf.nn.conv2d(x, shared, 1, 'SAME'), 4)[0]
            * norm(tf.nn.conv2d(x, shared, 1, 'SAME'), 4)[0]
        )

    graph_def, before = graph(build)
    result = fold.batch_norms(graph_def, 'y')
    assert (result.folded, result.kept) == (2, 0)
    np.testing.assert_allclose(evaluate(result.graph_def), before, rtol=1e-4, atol=1e-5)


def test_formula():
    made = {}

    def build(x):
        y, made['statistics'] = norm(
            tf.nn.conv2d(x, tf.ones([1, 1, 4, 2]), 1, 'SAME'), 2, epsilon=0.5
        )
        return y

    graph_def, _ = graph(build)
    gamma, beta, mean, variance = made['statistics']
    constants = {
        node.name: tf.make_ndarray(node.attr['value'].tensor)
        for node in fold.batch_norms(graph_def, 'y').graph_def.node
        if node.op == 'Const'
    }
    (kernel_,) = (value for value in constants.values() if value.ndim == 4)
    (bias,) = (value for value in constants.values() if value.ndim == 1)
    scale = gamma / np.sqrt(variance + 0.5)
    np.testing.assert_allclose(kernel_, np.tile(scale, (1, 1, 4, 1)), rtol=1e-6)
    np.testing.assert_allclose(bias, beta - mean * scale, rtol=1e-5)
