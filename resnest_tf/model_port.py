"""The DeepLabV3-ResNeSt-50 of the published Ascend port (ModelZoo-TensorFlow, resnest_ID0181),
whose checkpoints this graph reads and writes.

It differs from the paper's network in model.py:

  - split attention takes the softmax over the channels of each half, so the halves do not compete;
  - dilation is in ASPP only: the port's dilated convs in the blocks fed nothing, and are left out;
  - a strided block pools (3x3 average) before split attention, not after it;
  - every block has a 1x1 conv-BN-ReLU as its shortcut, strided itself; no ReLU follows the sum;
  - the stem has 64, 64 and 128 filters;
  - padding is TensorFlow's "same": at stride 2, one row and column after an even image only;
  - image pooling averages the 7x7 pixels around each one; there is no auxiliary head;
  - batch norm has a decay of 0.997;
  - kernels are drawn by slim's variance scaling: truncated normal, fan in, factor 2.

Convs are numbered in the order in which tf.contrib.slim makes them: Conv, Conv_1, ...
"""

import tensorflow as tf

from common.training.layers import batch_norm_layers, dropout_layers
from resnest_tf.layers import Layers
from resnest_tf.model import ASPP_RATES

# slim draws with a deviation of sqrt(1.3 x 2 / fan in) before it truncates; TensorFlow's own
# initializer takes the one after it.
_KERNEL = tf.variance_scaling_initializer(
    2.6 * 0.87962566103423978**2, 'fan_in', 'truncated_normal'
)
# Scope, filters and stride of the split attention of each block.
_BLOCKS = (
    [('resnest1_0', 64, 1), ('resnest1_1', 64, 1), ('resnest1_2', 64, 1)]
    + [('resnest1_4', 128, 2), ('resnest2_0', 128, 1), ('resnest2_1', 128, 1)]
    + [('resnest2_2', 128, 1), ('resnest2_4', 256, 1)]
    + [('resnest3_%d' % block, 256, 1) for block in range(5)]
    + [('resnest3_5', 512, 1), ('resnest4_0', 512, 1), ('resnest4_1', 512, 1)]
)


def build(images, cfg, training=False, dropout=None, batch_norm=None):
    """Builds the network; arguments and result are those of `model.build`."""
    norm = batch_norm_layers(batch_norm, 0.997, 1e-5, training and not cfg.freeze_bn)
    net = Layers(norm, cfg.width, _KERNEL, 'weights', 'biases', '/BatchNorm')

    x = images
    for number, (filters, stride) in enumerate([(64, 2), (64, 1), (128, 1)], start=1):
        x = net.conv_bn_relu(x, net.filters(filters), 3, 'conv1_%d' % number, stride=stride)
    x = tf.nn.max_pool2d(x, 3, 2, 'SAME')
    for number, (scope, filters, stride) in enumerate(_BLOCKS):
        x = _block(net, x, net.filters(filters), stride, 4 * number, scope)
    x = _aspp(net, x)
    x = net.conv_bn_relu(x, net.filters(256), 3, 'Conv_70')
    x = dropout_layers(dropout, cfg.dropout_rate, training)(x)
    x = net.conv(x, cfg.num_classes, 1, 'Conv_71', bias=tf.zeros_initializer())
    logits = tf.image.resize_bilinear(x, images.shape[1:3], name='resize/ResizeBilinear')
    return (logits, None) if training else logits


def _block(net, x, filters, stride, number, scope):
    """number: of its first conv; number + 1 was the dilated conv whose output nothing took."""
    y = net.conv_bn_relu(x, filters, 1, _slim(number))
    if stride == 2:
        y = tf.nn.avg_pool2d(y, 3, 2, 'SAME')
    y = _split_attention(net, y, filters, scope)
    shortcut = net.conv_bn_relu(x, 4 * filters, 1, _slim(number + 2), stride=stride)
    return tf.add(shortcut, net.conv_bn_relu(y, 4 * filters, 1, _slim(number + 3)))


def _split_attention(net, x, filters, scope):
    halves = [
        net.conv(half, filters, 3, scope + name, bias=tf.zeros_initializer())
        for half, name in zip(tf.split(x, 2, 3), ('/Conv', '/Conv_1'))
    ]
    halves = tf.split(tf.nn.relu(net.norm(tf.concat(halves, 3), scope + '/BatchNorm')), 2, 3)
    gap = tf.reduce_mean(tf.add(*halves), [1, 2], keepdims=True)
    gap = net.conv_bn_relu(gap, filters // 2, 1, scope + '/Conv_2')
    weights = tf.split(net.conv(gap, 2 * filters, 1, scope + '/Conv_3'), 2, 3)
    return tf.add(*[tf.nn.softmax(weight) * half for weight, half in zip(weights, halves)])


def _aspp(net, x):
    filters = net.filters(256)
    branches = [net.conv_bn_relu(x, filters, 1, 'Conv_64')]
    for number, rate in enumerate(ASPP_RATES, start=65):
        branches.append(net.conv_bn_relu(x, filters, 3, 'Conv_%d' % number, rate=rate))
    pooled = tf.nn.avg_pool2d(x, 7, 1, 'SAME')  # over the pixels inside the image only
    branches.append(net.conv_bn_relu(pooled, filters, 1, 'Conv_68'))
    return net.conv_bn_relu(tf.concat(branches, 3), filters, 1, 'Conv_69')


def _slim(number):
    """tf.contrib.slim's name of the conv of that number."""
    return 'Conv_%d' % number if number else 'Conv'
