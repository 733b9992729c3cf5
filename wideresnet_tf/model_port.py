"""The wide residual network of the published Ascend port (ModelZoo-TensorFlow, wideresnet_ID0175),
whose checkpoints this graph reads and writes.

It differs from the paper's network in model.py:

  - every conv has a bias;
  - a block's stride is in its second conv, not in its first;
  - the shortcut's 1x1 conv takes the block's input as it is, without BN-ReLU;
  - padding is TensorFlow's "same": at stride 2, one row and column after the image only;
  - batch norm has epsilon 1e-3 and a decay of 0.99, in the head 0.9;
  - initial values are those of tf.layers: Glorot uniform kernels, scales of 1.

Variables are numbered in the order in which the graph makes them: conv2d, conv2d_1, ...
"""

import itertools

import tensorflow as tf

from common.training.layers import batch_norm_layers, dropout_layers


def build(images, cfg, training=False, dropout=None, batch_norm=None):
    """Builds the network; arguments and result are those of `model.build`."""
    drop = dropout_layers(dropout, cfg.dropout_rate, training)
    norm = batch_norm_layers(batch_norm, 0.99, 1e-3, training and not cfg.freeze_bn)
    # tf.layers would count on if the graph were built a second time with the same variables.
    conv_names, norm_names = _numbered('conv2d'), _numbered('batch_normalization')

    def conv(x, filters, size, stride):
        return tf.layers.conv2d(x, filters, size, stride, 'same', name=next(conv_names))

    def norm_relu(x, **options):
        return tf.nn.relu(norm(x, next(norm_names), **options))

    def block(x, filters, stride):
        y = conv(norm_relu(x), filters, 3, 1)
        y = conv(drop(norm_relu(y)), filters, 3, stride)
        if x.shape[-1].value != filters:
            x = conv(x, filters, 1, stride)
        return tf.add(y, x)

    x = conv(images, 16, 3, 1)
    for filters, stride in [(16, 1), (32, 2), (64, 2)]:
        for number in range((cfg.depth - 4) // 6):
            x = block(x, filters * cfg.widen_factor, 1 if number else stride)
    x = norm_relu(x, decay=0.9)
    x = tf.layers.average_pooling2d(x, pool_size=8, strides=1)
    x = tf.reshape(x, [-1, x.shape[-1].value])
    return tf.layers.dense(x, cfg.num_classes, name='output')


def _numbered(name):
    """Yields NAME, NAME_1, NAME_2, ..."""
    yield name
    for number in itertools.count(1):
        yield '%s_%d' % (name, number)
