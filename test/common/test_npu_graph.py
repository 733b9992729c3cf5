"""What is counted of a training step for an Ascend device."""

import pytest
import tensorflow as tf

from common import npu_graph


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as made:
        yield made


@pytest.mark.parametrize(
    'build, expected',
    [
        # A 3x3 convolution from 4 to 8 channels, 6x6 results of 2 images.
        (
            lambda x: tf.nn.conv2d(x, tf.zeros([3, 3, 4, 8]), 1, 'SAME'),
            2 * 6 * 6 * 8 * 3 * 3 * 4 * 2,
        ),
        (
            lambda x: tf.nn.depthwise_conv2d(x, tf.zeros([3, 3, 4, 1]), [1] * 4, 'SAME'),
            2 * 6 * 6 * 4 * 3 * 3 * 2,
        ),
        (
            lambda x: tf.nn.conv2d_backprop_input(
                [2, 6, 6, 4], tf.zeros([3, 3, 4, 8]), tf.zeros([2, 6, 6, 8]), [1] * 4, 'SAME'
            ),
            2 * 6 * 6 * 8 * 3 * 3 * 4 * 2,
        ),
        (
            lambda x: tf.nn.conv2d_backprop_filter(
                x, [3, 3, 4, 8], tf.zeros([2, 6, 6, 8]), [1] * 4, 'SAME'
            ),
            2 * 6 * 6 * 8 * 3 * 3 * 4 * 2,
        ),
        (lambda x: tf.matmul(tf.zeros([5, 7]), tf.zeros([5, 9]), True), 2 * 7 * 5 * 9),
        (lambda x: x + 1, 2 * 6 * 6 * 4),
    ],
)
def test_operations(build, expected):
    assert npu_graph.flops(build(tf.zeros([2, 6, 6, 4])).op) == expected


@pytest.mark.parametrize(
    'expected, build',
    [
        ('ai_core', lambda x, n: x[:, 1:]),
        ('ai_cpu', lambda x, n: x[:, ::-1]),
        ('ai_core', lambda x, n: tf.cast(n, tf.float32)),
        ('ai_cpu', lambda x, n: tf.cast(tf.cast(n, tf.int64), tf.float32)),
        ('ai_core', lambda x, n: tf.slice(x, [1, 0], [2, 2])),
        ('ai_cpu', lambda x, n: tf.slice(x, [n, 0], [2, 2])),
        ('ai_core', lambda x, n: tf.reduce_sum(x)),
        ('ai_cpu', lambda x, n: tf.reduce_sum(tf.cast(x, tf.int32))),
        ('ai_cpu', lambda x, n: tf.nn.top_k(x, 2).values),
        ('ai_cpu', lambda x, n: tf.is_finite(x)),
        ('graph_engine', lambda x, n: tf.reshape(x, [-1])),
        ('host', lambda x, n: tf.py_func(abs, [x], tf.float32)),
        ('unknown', lambda x, n: tf.linalg.inv(x)),
    ],
)
def test_engine_of_an_operator(expected, build):
    x, n = tf.get_variable('x', [4, 4]), tf.get_variable('n', [], tf.int32)
    assert npu_graph.engine(build(x, n).op) == expected


def test_nodes_that_stand_for_one_op_are_one(graph):
    def standing(op, kind):
        op._set_attr(npu_graph.STANDS_FOR, tf.AttrValue(s=kind))
        return op.outputs[0]

    x = tf.get_variable('x', [4])
    first = standing(tf.exp(x).op, b'HcomAllReduce')
    standing(tf.reshape(first, [2, 2]).op, b'HcomAllReduce')
    standing(tf.abs(x).op, b'')
    kinds = [npu_graph.device_type(op) for op in npu_graph.device_ops(graph)]
    assert kinds.count('HcomAllReduce') == 1 and 'Abs' not in kinds and 'Exp' not in kinds
