"""The wide residual network of the MindSpore model zoo (mindspore-ai/models,
research/cv/wideresnet), which trains WRN-40-10 on CIFAR-10.

It differs from the paper's network in model.py:

  - a BN-ReLU follows the stem;
  - the convs of the blocks have biases;
  - dropout precedes a block's first conv, not its second;
  - the shortcut's 1x1 conv takes the block's input as it is, without BN-ReLU;
  - padding is TensorFlow's "same": at stride 2, one row and column after the image only;
  - kernels are Glorot uniform with gain sqrt(2), those of the classifier normal with deviation
    0.01, and the scales of batch norms are 1.

Variables have the names of the paper's network.
"""

import tensorflow as tf

from common.training.layers import batch_norm_layers, dropout_layers

_KERNEL = tf.variance_scaling_initializer(2.0, 'fan_avg', 'uniform')
_CLASSIFIER = tf.random_normal_initializer(stddev=0.01)


def build(images, cfg, training=False, dropout=None, batch_norm=None):
    """Builds the network; arguments and result are those of `model.build`."""
    drop = dropout_layers(dropout, cfg.dropout_rate, training)
    norm = batch_norm_layers(batch_norm, 0.9, 1e-5, training and not cfg.freeze_bn)

    x = _conv(images, 16, 3, 1, 'stem/conv', use_bias=False)
    x = tf.nn.relu(norm(x, 'stem/bn'))
    for group, (filters, stride) in enumerate([(16, 1), (32, 2), (64, 2)], start=1):
        for block in range(1, (cfg.depth - 4) // 6 + 1):
            name = 'group%d/block%d' % (group, block)
            x = _block(x, filters * cfg.widen_factor, stride if block == 1 else 1, name, norm, drop)
    x = tf.nn.relu(norm(x, 'head/bn'))
    x = tf.layers.average_pooling2d(x, pool_size=8, strides=1)
    x = tf.reshape(x, [-1, x.shape[-1].value])
    return tf.layers.dense(x, cfg.num_classes, kernel_initializer=_CLASSIFIER, name='output')


def _block(x, filters, stride, name, norm, drop):
    y = drop(tf.nn.relu(norm(x, name + '/bn1')))
    y = _conv(y, filters, 3, stride, name + '/conv1')
    y = tf.nn.relu(norm(y, name + '/bn2'))
    y = _conv(y, filters, 3, 1, name + '/conv2')
    if x.shape[-1].value != filters:
        x = _conv(x, filters, 1, stride, name + '/shortcut')
    return tf.add(y, x)


def _conv(x, filters, size, stride, name, use_bias=True):
    return tf.layers.conv2d(
        x, filters, size, stride, 'same', use_bias=use_bias, kernel_initializer=_KERNEL, name=name
    )
