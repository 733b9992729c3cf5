"""Convolutions with batch norm, which both of ResNeSt's graphs are made of, and their gradients."""

from typing import Callable, List

import tensorflow as tf

from common.training.layers import scaled


class Layers:
    """conv, batch norm and ReLU of one network.

    norm: (x, name) -> x. width: every layer has so many times the published filters.
    initializer: of kernels. kernel, bias, suffix: names of a conv's variables, and what a batch
    norm's name has after its conv's. training: gradients will be taken.
    """

    def __init__(
        self,
        norm: Callable[[tf.Tensor, str], tf.Tensor],
        width: float,
        training: bool,
        initializer: tf.keras.initializers.Initializer,
        kernel: str = 'kernel',
        bias: str = 'bias',
        suffix: str = '_bn',
    ):
        self.norm = norm
        self._width, self._training, self._initializer = width, training, initializer
        self._kernel, self._bias, self._suffix = kernel, bias, suffix

    def filters(self, published: int) -> int:
        """A layer's number of filters: even, since split attention halves them."""
        return scaled(published, self._width, divisor=256, multiple=2)

    def conv(
        self, x, filters, size, name, stride=1, rate=1, bias=None, padding='SAME', initializer=None
    ) -> tf.Tensor:
        """x: [N, H, W, C], H and W known. size: of the kernel, size x size. rate: dilation. bias:
        its initial values; None: there is none.
        """
        with tf.variable_scope(name):
            kernel = tf.get_variable(
                self._kernel,
                [size, size, x.shape[-1].value, filters],
                initializer=initializer or self._initializer,
            )
            override = {'Conv2D': 'DilatedConv2D'} if self._training and rate > 1 else {}
            with tf.get_default_graph().gradient_override_map(override):
                x = tf.nn.conv2d(x, kernel, stride, padding, dilations=rate)
            if bias is None:
                return x
            return tf.nn.bias_add(x, tf.get_variable(self._bias, [filters], initializer=bias))

    def conv_bn(self, x, filters, size, name, **options) -> tf.Tensor:
        return self.norm(self.conv(x, filters, size, name, **options), name + self._suffix)

    def conv_bn_relu(self, x, filters, size, name, **options) -> tf.Tensor:
        return tf.nn.relu(self.conv_bn(x, filters, size, name, **options))


def dropout_channels(dropout, x: tf.Tensor, rate: float, index: int) -> tf.Tensor:
    """PyTorch's Dropout2d: `dropout` (x, rate, index) -> x of whole channels of an image."""
    if not rate:
        return x
    return x * dropout(tf.ones_like(x[:, :1, :1, :]), rate, index)


@tf.RegisterGradient('DilatedConv2D')
def _dilated_conv_gradient(op: tf.Operation, gradient: tf.Tensor) -> List[tf.Tensor]:
    """Gradients of a "same" conv of stride 1 and odd size by ops that run everywhere.

    TensorFlow's CPU kernels have dilated convs in the forward direction only, as have older
    versions of CANN. (tf.layers wraps them in SpaceToBatchND instead, also at inference.)
    """
    x, kernel = op.inputs
    rate, size = op.get_attr('dilations')[1], kernel.shape[0].value
    flipped = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
    to_x = tf.nn.conv2d(gradient, flipped, 1, 'SAME', dilations=rate)
    height, width = x.shape[1].value, x.shape[2].value
    channels, filters = kernel.shape[2].value, kernel.shape[3].value
    taps = []
    for down in range(-(size // 2) * rate, size // 2 * rate + 1, rate):
        for right in range(-(size // 2) * rate, size // 2 * rate + 1, rate):
            if abs(down) >= height or abs(right) >= width:  # this tap saw nothing but padding
                taps.append(tf.zeros([channels, filters], x.dtype))
                continue
            seen = x[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
            made = gradient[
                :, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
            ]
            seen, made = tf.reshape(seen, [-1, channels]), tf.reshape(made, [-1, filters])
            taps.append(tf.matmul(seen, made, transpose_a=True))
    return [to_x, tf.reshape(tf.stack(taps), kernel.shape)]
