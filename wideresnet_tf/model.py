"""Wide residual networks for 32x32 images: Zagoruyko & Komodakis, "Wide Residual Networks", BMVC
2016, arXiv:1605.07146, as the authors' code builds them.

WRN-d-k has d = 6n+4 layers (table 1):

  group   filters   pixels   what
  stem    16        32       one 3x3 conv
  1       16k       32       n blocks
  2       32k       16       n blocks, the first of stride 2
  3       64k       8        n blocks, the first of stride 2
  head              1        BN-ReLU, the average over the 8x8 pixels, a linear classifier

36.5 M parameters for WRN-28-10, 55.8 M for WRN-40-10. Two other published graphs stand in
model_port.py and model_mindspore.py; they differ in details that change the accuracy and decide
which weights fit.
"""

import tensorflow as tf

from common.training.layers import batch_norm_layers, dropout_layers, pad

# The authors' "MSR" initialisation: a normal distribution of standard deviation sqrt(2 / fan in),
# for the classifier's kernel too. Torch draws the scale of a batch norm from [0, 1).
_KERNEL = tf.variance_scaling_initializer(2.0, 'fan_in', 'untruncated_normal')
_GAMMA = tf.random_uniform_initializer(0.0, 1.0)


def build(images, cfg, training=False, dropout=None, batch_norm=None):
    """Builds the network and returns its logits, float32 [N, cfg.num_classes], the output of the op
    `output/BiasAdd`.

    Args:
      images: float32 [N, 32, 32, 3], normalised; N may be unknown.
      cfg: a WideResNetConfig: depth, widen_factor, num_classes, dropout_rate, freeze_bn.
      training: batch norm uses the batch's statistics (unless cfg.freeze_bn) and dropout is on.
      dropout: (x, rate, index of the layer) -> x; needed when training at a rate above 0.
      batch_norm: see `common.training.batch_norm.local`, the default.
    """
    drop = dropout_layers(dropout, cfg.dropout_rate, training)
    norm = batch_norm_layers(batch_norm, 0.9, 1e-5, training and not cfg.freeze_bn, gamma=_GAMMA)

    x = _conv(images, 16, 3, 1, 'stem/conv')
    for group, (filters, stride) in enumerate([(16, 1), (32, 2), (64, 2)], start=1):
        for block in range(1, (cfg.depth - 4) // 6 + 1):
            name = 'group%d/block%d' % (group, block)
            x = _block(x, filters * cfg.widen_factor, stride if block == 1 else 1, name, norm, drop)
    x = tf.nn.relu(norm(x, 'head/bn'))
    x = tf.layers.average_pooling2d(x, pool_size=8, strides=1)
    x = tf.reshape(x, [-1, x.shape[-1].value])
    return tf.layers.dense(x, cfg.num_classes, kernel_initializer=_KERNEL, name='output')


def _block(x, filters, stride, name, norm, drop):
    """The basic wide block with dropout, figure 1d: BN-ReLU-conv, BN-ReLU-dropout-conv.

    A block that widens has a 1x1 conv as its shortcut, which takes the input after BN-ReLU. Nothing
    follows the sum: the next block begins with its own BN-ReLU (section 2).
    """
    shortcut = x
    y = tf.nn.relu(norm(x, name + '/bn1'))
    widens = x.shape[-1].value != filters
    if widens:
        shortcut = y
    y = _conv(y, filters, 3, stride, name + '/conv1')
    y = drop(tf.nn.relu(norm(y, name + '/bn2')))  # section 2.4: between the convs, 0.3 for CIFAR
    y = _conv(y, filters, 3, 1, name + '/conv2')
    if widens:
        shortcut = _conv(shortcut, filters, 1, stride, name + '/shortcut')
    return tf.add(y, shortcut)


def _conv(x, filters, size, stride, name):
    padding = 'same'
    if stride == 2 and size == 3:
        x, padding = pad(x, 1), 'valid'
    return tf.layers.conv2d(
        x, filters, size, stride, padding, use_bias=False, kernel_initializer=_KERNEL, name=name
    )
