"""Gradients that TensorFlow's CPU kernels lack, of dilated convolutions, or that Intel's build
computes slowly, of some ReLUs.
"""

from typing import ContextManager, List

import tensorflow as tf

from common import host


def gradients() -> ContextManager:
    """A context: the convolutions and ReLUs that are made in it have gradients for a CPU."""
    kinds = {'Conv2D': 'Conv2DOnCPU'}
    if host.is_mkl() and 'avx512f' in host.cpuinfo('flags').split():
        kinds['Relu'] = 'ReluOnCPU'
    return tf.get_default_graph().gradient_override_map(kinds)


@tf.RegisterGradient('ReluOnCPU')
def _relu_gradient(op: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    """With AVX-512 Intel's build pads channels to a multiple of 16, and its gradient of a padded
    ReLU is a plain loop, ten times slower than memory: a tenth of a step of Xception, which has
    728 channels.
    """
    y = op.outputs[0]
    if (y.shape[-1].value or 0) % 16:
        return gradient * tf.sign(y)
    return tf.raw_ops.ReluGrad(gradients=gradient, features=y)


@tf.RegisterGradient('Conv2DOnCPU')
def _conv_gradient(op: tf.Operation, gradient: tf.Tensor) -> List[tf.Tensor]:
    """Gradients of a convolution; a dilated one must be "same", of stride 1 and of odd size.

    tf.layers wraps dilated convolutions in SpaceToBatchND instead, also at inference.
    """
    x, kernel = op.inputs
    rate = op.get_attr('dilations')[1]
    if rate == 1:
        options = dict(strides=op.get_attr('strides'), padding=op.get_attr('padding').decode())
        options['data_format'] = op.get_attr('data_format').decode()
        return [
            tf.nn.conv2d_backprop_input(tf.shape(x), kernel, gradient, **options),
            tf.nn.conv2d_backprop_filter(x, tf.shape(kernel), gradient, **options),
        ]
    flipped = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
    to_x = tf.nn.conv2d(gradient, flipped, 1, 'SAME', dilations=rate)
    return [to_x, _to_kernel(x, kernel, gradient, rate)]


def _to_kernel(x: tf.Tensor, kernel: tf.Tensor, gradient: tf.Tensor, rate: int) -> tf.Tensor:
    """One matrix product for each of the kernel's taps."""
    height, width = x.shape[1].value, x.shape[2].value
    size, _, channels, filters = kernel.shape.as_list()
    reach, taps = size // 2 * rate, []
    for down in range(-reach, reach + 1, rate):
        for right in range(-reach, reach + 1, rate):
            if abs(down) >= height or abs(right) >= width:  # this tap saw nothing but padding
                taps.append(tf.zeros([channels, filters], x.dtype))
                continue
            inputs = tf.reshape(_shifted(x, down, right), [-1, channels])
            gradients = tf.reshape(_shifted(gradient, -down, -right), [-1, filters])
            taps.append(tf.matmul(inputs, gradients, transpose_a=True))
    return tf.reshape(tf.stack(taps), kernel.shape)


def _shifted(x: tf.Tensor, down: int, right: int) -> tf.Tensor:
    """The part of x [N, H, W, C] that stays inside when it is moved up and to the left."""
    height, width = x.shape[1].value, x.shape[2].value
    return x[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
