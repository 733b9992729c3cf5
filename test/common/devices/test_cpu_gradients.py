"""Gradients on a CPU: of dilated convolutions against TensorFlow's detour over SpaceToBatchND, of
ReLU against TensorFlow's own.
"""

import numpy as np
import pytest
import tensorflow as tf

from common import host
from common.devices import base, cpu, cpu_gradients, gpu, npu


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as fresh:
        yield fresh


@pytest.mark.parametrize(
    'rate, size, shape',
    [(2, 3, [2, 9, 7, 4]), (4, 3, [1, 6, 11, 2]), (36, 3, [2, 8, 5, 4]), (3, 5, [2, 9, 9, 4])],
)
def test_gradients_of_dilated_convs_are_those_of_space_to_batch(rate, size, shape):
    random = np.random.RandomState(0)
    x, kernel = (
        tf.constant(random.normal(size=shape)),
        tf.constant(random.normal(size=[size, size, shape[3], 6])),
    )
    with cpu_gradients.gradients():
        ours = tf.nn.conv2d(x, kernel, 1, 'SAME', dilations=rate)
    reference = tf.nn.convolution(x, kernel, 'SAME', dilation_rate=[rate, rate])
    weights = tf.constant(random.normal(size=shape[:3] + [6]))
    with tf.Session() as session:
        pairs = [
            session.run([y] + tf.gradients(y * weights, [x, kernel])) for y in (ours, reference)
        ]
    for found, expected in zip(*pairs):
        np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize('stride, padding, size', [(1, 'SAME', 3), (2, 'VALID', 3), (2, 'SAME', 1)])
def test_gradients_of_plain_convs_are_tensorflows(stride, padding, size):
    random = np.random.RandomState(0)
    x = tf.constant(random.normal(size=[2, 9, 8, 3]))
    kernel = tf.constant(random.normal(size=[size, size, 3, 4]))
    with cpu_gradients.gradients():
        ours = tf.nn.conv2d(x, kernel, stride, padding)
    theirs = tf.nn.conv2d(x, kernel, stride, padding)
    with tf.Session() as session:
        for found, expected in zip(
            *session.run([tf.gradients(y * y, [x, kernel]) for y in (ours, theirs)])
        ):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('flags, is_mkl', [('avx2 avx512f', True), ('avx2', True), ('', False)])
@pytest.mark.parametrize('channels', [16, 12])
def test_gradient_of_relu_where_intels_build_pads_channels(flags, is_mkl, channels, monkeypatch):
    monkeypatch.setattr(host, 'is_mkl', lambda: is_mkl)
    monkeypatch.setattr(host, 'cpuinfo', {'flags': flags}.get)
    x = tf.constant(np.random.RandomState(0).normal(size=[2, 5, 4, channels]).round(1), tf.float32)
    theirs = tf.gradients(tf.nn.relu(x) ** 3, x)[0]
    with cpu_gradients.gradients():
        y = tf.nn.relu(x)
    ours = tf.gradients(y**3, x)[0]
    assert (ours.op.inputs[1].op.type == 'Sign') == ('avx512f' in flags and channels == 12)
    with tf.Session() as session:
        np.testing.assert_array_equal(*session.run([ours, theirs]))


def test_only_a_cpu_needs_them():
    assert cpu.CPU.gradients is not base.Device.gradients
    assert gpu.GPU.gradients is npu.NPU.gradients is base.Device.gradients
