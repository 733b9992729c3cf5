"""Xception: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017,
arXiv:1610.02357.

The network of figure 5, as its author published it in Keras. At 299x299:

  block   filters           pixels        what
  1       32, 64            149, 147      two 3x3 convs, no padding, the first of stride 2; each
          with BN-ReLU
  2 3 4   128, 256, 728     74, 37, 19    two separable convs, 3x3 max pool of stride 2; shortcut:
          1x1 conv of stride 2 and BN
  5-12    728               19            three ReLU-separable conv-BN, identity shortcut
  13      728 then 1024     10            as 2 to 4
  14      1536, 2048        10            two separable conv-BN-ReLU
  head                      1             the mean over all pixels, dropout (section 4.3: 0.5), a
                            linear classifier

A separable conv is a 3x3 depthwise conv and a 1x1 conv with nothing between them (section 4.7) and
no biases; BN's epsilon is 1e-3. 22.86 M trainable parameters; input x / 127.5 - 1; 79.0 % top-1 and
94.5 % top-5 on ImageNet (table 1).

Figure 5 leaves padding open; the weights that people have were trained with the one above, so block
5 works on 19x19 pixels. Names are those of Keras and of the published Ascend port. That port ended
in a softmax and gave it to a loss that takes another; the graph here ends in the logits.
"""

import math
from typing import Callable, Optional

import tensorflow as tf

from common.errors import UserError, suggest

SMALLEST = 71  # Keras's limit: blocks 13 and 14 then see 3x3 pixels
DATA_FORMATS = ('channels_last', 'channels_first')


def xception(
    images: tf.Tensor,
    *,
    num_classes: int = 1000,
    width: float = 1.0,
    dropout_rate: float = 0.0,
    dropout: Optional[Callable[[tf.Tensor, float, int], tf.Tensor]] = None,
    training: bool = False,
    freeze_bn: bool = False,
    bn_decay: float = 0.99,
    data_format: str = 'channels_last',
) -> tf.Tensor:
    """Builds the graph and returns the logits, float32 [N, num_classes], made by the op
    `dense/BiasAdd`.

    Args:
      images: float32 [N, H, W, 3], normalised; H and W known and at least 71. N may be unknown.
      num_classes: at least 2.
      width: every layer but the classifier has width x the published number of filters, rounded to
      the nearest whole number
        (a half upwards) and at least 1. width itself is taken to the nearest 1/2048: the last
        layer's filters tell it exactly.
      dropout_rate: share of the 2048 averages that is dropped before the classifier while training.
      dropout: (x, rate, index of the dropout layer, here 0) -> x; needed when training with a rate
      above 0.
      training: batch norm uses the batch's statistics and adds its moving averages' updates to
      UPDATE_OPS.
      freeze_bn: batch norm uses the moving averages in training as well and updates nothing; gamma
      and beta still train.
      bn_decay: of those moving averages; Keras has 0.99, which takes thousands of steps to settle,
      MindSpore's model 0.9.
      data_format: how the layers compute; 'channels_first' transposes the images first and needs a
      GPU or an NPU: TensorFlow
        has no such kernels for CPUs. Variables, and so checkpoints, are the same.
    Raises:
      UserError: for an illegal num_classes, width, dropout_rate, bn_decay, data_format or image
      size.
    """
    _check(images, num_classes, width, dropout_rate, bn_decay, data_format)
    if training and dropout_rate > 0 and dropout is None:
        raise ValueError('training with dropout_rate %g needs a dropout function' % dropout_rate)
    layers = _Layers(width, training and not freeze_bn, bn_decay, data_format)
    x = images if data_format == 'channels_last' else tf.transpose(images, [0, 3, 1, 2])

    # Entry flow
    x = tf.nn.relu(layers.conv_bn(x, 32, 3, 2, 'valid', 'block1_conv1', 'block1_conv1_bn'))
    x = tf.nn.relu(layers.conv_bn(x, 64, 3, 1, 'valid', 'block1_conv2', 'block1_conv2_bn'))
    x = _halving_block(layers, x, 2, 128, 128, shortcut=1)
    x = _halving_block(layers, x, 3, 256, 256, shortcut=2)
    x = _halving_block(layers, x, 4, 728, 728, shortcut=3)
    # Middle flow
    for block in range(5, 13):
        y = x
        for number in (1, 2, 3):
            y = layers.separable_bn(tf.nn.relu(y), 728, 'block%d_sepconv%d' % (block, number))
        x = tf.add(y, x)
    # Exit flow
    x = _halving_block(layers, x, 13, 728, 1024, shortcut=4)
    x = tf.nn.relu(layers.separable_bn(x, 1536, 'block14_sepconv1'))
    x = tf.nn.relu(layers.separable_bn(x, 2048, 'block14_sepconv2'))
    x = tf.reduce_mean(x, layers.pixel_axes)
    if training and dropout_rate > 0:
        x = dropout(x, dropout_rate, 0)
    return tf.layers.dense(x, num_classes, name='dense')


def scaled(filters: int, width: float) -> int:
    """A layer's number of filters at `width`."""
    return max(1, int(filters * int(2048 * width + 0.5) / 2048 + 0.5))


def _halving_block(
    layers: '_Layers', x: tf.Tensor, block: int, first: int, second: int, shortcut: int
) -> tf.Tensor:
    """Two separable convs and a max pool of stride 2, plus a strided 1x1 conv of the block's input;
    no activation after the sum.
    """
    # Made first, as in Keras: that is the order of the variables.
    short = layers.conv_bn(
        x, second, 1, 2, 'same', 'conv2d_%d' % shortcut, 'batch_normalization_%d' % shortcut
    )
    if block > 2:  # block 1 has just ended in a ReLU
        x = tf.nn.relu(x)
    x = layers.separable_bn(x, first, 'block%d_sepconv1' % block)
    x = layers.separable_bn(tf.nn.relu(x), second, 'block%d_sepconv2' % block)
    return tf.add(layers.max_pool(x), short)


class _Layers:
    """The three kinds of layers, all "conv without bias, then batch norm", in one data format."""

    def __init__(self, width: float, update_bn: bool, bn_decay: float, data_format: str):
        self._width, self._update_bn, self._bn_decay, self._data_format = (
            width,
            update_bn,
            bn_decay,
            data_format,
        )
        self._channel_axis = 3 if data_format == 'channels_last' else 1
        self.pixel_axes = [1, 2] if data_format == 'channels_last' else [2, 3]

    def conv_bn(
        self,
        x: tf.Tensor,
        filters: int,
        size: int,
        stride: int,
        padding: str,
        name: str,
        bn_name: str,
    ) -> tf.Tensor:
        x = tf.layers.conv2d(
            x,
            scaled(filters, self._width),
            size,
            stride,
            padding,
            self._data_format,
            use_bias=False,
            name=name,
        )
        return self._bn(x, bn_name)

    def separable_bn(self, x: tf.Tensor, filters: int, name: str) -> tf.Tensor:
        x = tf.layers.separable_conv2d(
            x,
            scaled(filters, self._width),
            3,
            1,
            'same',
            self._data_format,
            use_bias=False,
            name=name,
        )
        return self._bn(x, name + '_bn')

    def max_pool(self, x: tf.Tensor) -> tf.Tensor:
        return tf.layers.max_pooling2d(x, 3, 2, 'same', self._data_format)

    def _bn(self, x: tf.Tensor, name: str) -> tf.Tensor:
        return tf.layers.batch_normalization(
            x,
            axis=self._channel_axis,
            momentum=self._bn_decay,
            epsilon=1e-3,
            training=self._update_bn,
            fused=True,
            name=name,
        )


def _check(
    images: tf.Tensor,
    num_classes: int,
    width: float,
    dropout_rate: float,
    bn_decay: float,
    data_format: str,
) -> None:
    if num_classes < 2:
        raise UserError('num_classes %s is too small: a classifier has at least 2' % num_classes)
    if not (width > 0 and math.isfinite(width)):
        raise UserError(
            'width %s is not legal: it is a number above 0 that the filters are multiplied by'
            % width
        )
    for name, value in (('dropout_rate', dropout_rate), ('bn_decay', bn_decay)):
        if not 0 <= value < 1:
            raise UserError('%s %s is not legal: it is at least 0 and below 1' % (name, value))
    if data_format not in DATA_FORMATS:
        raise UserError(
            'data_format %r is unknown: choose %s%s'
            % (data_format, ' or '.join(DATA_FORMATS), suggest(data_format, DATA_FORMATS))
        )
    shape = images.shape.as_list() if images.shape.ndims == 4 else []
    if shape[3:] != [3] or any(pixels is None or pixels < SMALLEST for pixels in shape[1:3]):
        raise UserError(
            'images are %s: xception takes [N, H, W, 3] with H and W of at least %d'
            % (images.shape, SMALLEST)
        )
