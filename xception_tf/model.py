"""Xception: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017,
arXiv:1610.02357, as its author published it in Keras.

Figure 5, at 299x299:

  block   filters        pixels       what
  1       32, 64         149, 147     two 3x3 conv-BN-ReLU, no padding, the first of stride 2
  2 3 4   128, 256, 728  74, 37, 19   two separable convs, 3x3 max pool of stride 2; shortcut: 1x1
                                      conv of stride 2 and BN
  5-12    728            19           three ReLU-separable conv-BN, identity shortcut
  13      728 then 1024  10           as 2 to 4
  14      1536, 2048     10           two separable conv-BN-ReLU
  head                   1            the mean over all pixels, dropout, a linear classifier

22.86 M trainable parameters; input x / 127.5 - 1; 79.0 % top-1 and 94.5 % top-5 on ImageNet (table
1). Figure 5 leaves the padding open: this is that of the published weights. Layers have the names
of Keras and of the published Ascend port, which ended in a softmax and gave it to a loss that takes
another; this graph ends in the logits.
"""

import tensorflow as tf

from common.training.layers import batch_norm_layers, dropout_layers, scaled


def build(images, cfg, training=False, dropout=None, batch_norm=None):
    """Builds the network and returns its logits, float32 [N, cfg.num_classes], the output of the op
    `dense/BiasAdd`.

    Args:
      images: float32 [N, H, W, 3], normalised; H and W known and at least 71, N may be unknown.
      cfg: an XceptionConfig: num_classes, width, dropout_rate, bn_decay, data_format, freeze_bn.
      training: batch norm uses the batch's statistics (unless cfg.freeze_bn) and dropout is on.
      dropout: (x, rate, index of the layer) -> x; needed when training at a rate above 0.
      batch_norm: see `common.training.batch_norm.local`, the default.
    """
    net = _Layers(cfg, training, batch_norm)
    x = images if cfg.data_format == 'channels_last' else tf.transpose(images, [0, 3, 1, 2])
    # Entry flow
    x = tf.nn.relu(net.conv(x, 32, 3, 2, 'valid', 'block1_conv1', 'block1_conv1_bn'))
    x = tf.nn.relu(net.conv(x, 64, 3, 1, 'valid', 'block1_conv2', 'block1_conv2_bn'))
    x = _halving_block(net, x, 2, 128, 128, shortcut=1)
    x = _halving_block(net, x, 3, 256, 256, shortcut=2)
    x = _halving_block(net, x, 4, 728, 728, shortcut=3)
    # Middle flow
    for block in range(5, 13):
        y = x
        for number in (1, 2, 3):
            y = net.separable(tf.nn.relu(y), 728, 'block%d_sepconv%d' % (block, number))
        x = tf.add(y, x)
    # Exit flow
    x = _halving_block(net, x, 13, 728, 1024, shortcut=4)
    x = tf.nn.relu(net.separable(x, 1536, 'block14_sepconv1'))
    x = tf.nn.relu(net.separable(x, 2048, 'block14_sepconv2'))
    x = tf.reduce_mean(x, net.pixel_axes)
    x = dropout_layers(dropout, cfg.dropout_rate, training)(x)  # section 4.3: 0.5
    return tf.layers.dense(x, cfg.num_classes, name='dense')


def filters_at(width, published):
    """A layer's number of filters at `width`; 2048 is that of the last layer."""
    return scaled(published, width, divisor=2048)


def _halving_block(net, x, block, first, second, shortcut):
    """Two separable convs and a max pool, plus the shortcut; no activation after the sum."""
    # Made first, as in Keras: that is the order of the variables.
    short = net.conv(
        x, second, 1, 2, 'same', 'conv2d_%d' % shortcut, 'batch_normalization_%d' % shortcut
    )
    if block > 2:  # block 1 has just ended in a ReLU
        x = tf.nn.relu(x)
    x = net.separable(x, first, 'block%d_sepconv1' % block)
    x = net.separable(tf.nn.relu(x), second, 'block%d_sepconv2' % block)
    return tf.add(tf.layers.max_pooling2d(x, 3, 2, 'same', net.data_format), short)


class _Layers:
    """The two kinds of convs, each without bias and followed by batch norm (epsilon 1e-3)."""

    def __init__(self, cfg, training, batch_norm):
        self.data_format, self._width = cfg.data_format, cfg.width
        last = cfg.data_format == 'channels_last'
        self.pixel_axes = [1, 2] if last else [2, 3]
        training = training and not cfg.freeze_bn
        self._norm = batch_norm_layers(
            batch_norm, cfg.bn_decay, 1e-3, training, axis=3 if last else 1
        )

    def conv(self, x, filters, size, stride, padding, name, norm_name):
        filters = filters_at(self._width, filters)
        x = tf.layers.conv2d(
            x, filters, size, stride, padding, self.data_format, use_bias=False, name=name
        )
        return self._norm(x, norm_name)

    def separable(self, x, filters, name):
        """A 3x3 depthwise and a 1x1 conv with nothing between them (section 4.7)."""
        filters = filters_at(self._width, filters)
        x = tf.layers.separable_conv2d(
            x, filters, 3, 1, 'same', self.data_format, use_bias=False, name=name
        )
        return self._norm(x, name + '_bn')
