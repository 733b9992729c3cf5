"""Convolutions with batch norm, which ResNeSt's graphs are made of."""

from typing import Callable

import tensorflow as tf

from common.training.layers import scaled


class Layers:
    """conv, batch norm and ReLU of one network.

    norm: (x, name) -> x. width: every layer has so many times the published filters.
    initializer: of kernels. kernel, bias, suffix: names of a conv's variables, and what a batch
    norm's name has after its conv's.
    """

    def __init__(
        self,
        norm: Callable[[tf.Tensor, str], tf.Tensor],
        width: float,
        initializer: tf.keras.initializers.Initializer,
        kernel: str = 'kernel',
        bias: str = 'bias',
        suffix: str = '_bn',
    ):
        self.norm = norm
        self._width, self._initializer = width, initializer
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
