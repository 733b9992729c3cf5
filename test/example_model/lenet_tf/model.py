"""LeNet: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, with ReLU,
batch normalisation and dropout: two convs with pooling, a hidden layer, a linear classifier.
"""

import tensorflow as tf

from common.training.layers import batch_norm_layers, dropout_layers


def build(images, cfg, training=False, dropout=None, batch_norm=None):
    """Builds the network: float32 [N, 16, 16, 3] -> logits [N, cfg.num_classes]."""
    norm = batch_norm_layers(batch_norm, 0.9, 1e-5, training and not cfg.freeze_bn)
    drop = dropout_layers(dropout, 0.2, training)
    x = images
    for number in (1, 2):
        name = 'conv%d' % number
        x = tf.layers.conv2d(x, cfg.filters * number, 3, padding='same', use_bias=False, name=name)
        x = tf.layers.max_pooling2d(tf.nn.relu(norm(x, name + '/bn')), 2, 2)
    x = tf.reshape(x, [-1, 4 * 4 * 2 * cfg.filters])
    x = drop(tf.layers.dense(x, 32, tf.nn.relu, name='hidden'))
    return tf.layers.dense(x, cfg.num_classes, name='output')
