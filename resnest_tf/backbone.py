"""ResNeSt. Zhang et al., "ResNeSt: Split-Attention Networks", 2020, arXiv:2004.08955.

As its authors published it in PyTorch: radix 2, one group, deep stem, average pooling for every
stride ("ResNet-D").

  stage   filters      blocks (50, 101)   stride   what
  stem    64 (128)     -                  4        three 3x3 convs, a 3x3 max pool
  1       256          3, 3               4        blocks: 1x1 conv, split-attention conv 3x3, 1x1
  2       512          4, 4               8        conv; plus shortcut, ReLU
  3       1024         6, 23              8        dilation 2, its first block 1
  4       2048         3, 3               8        dilation 4, its first block 2

With 1000 classes it has 27.5 M parameters (50) or 48.3 M (101).
"""

import tensorflow as tf

from common.training.layers import batch_norm_layers, pad
from resnest_tf.layers import Layers

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
BLOCKS.update({14: (1, 1, 1, 1), 26: (2, 2, 2, 2)})  # not published: for tests and small recipes


def network(width, update_bn, batch_norm=None) -> Layers:
    """The layers of a network at `width` times the published filters. Kernels are drawn as the
    authors do, with standard deviation sqrt(2 / (size^2 x filters)).
    """
    return Layers(batch_norm_layers(batch_norm, 0.9, 1e-5, update_bn), width, _fan_out(1))


def _fan_out(convs):
    """convs: in how many convs the authors' grouped conv is stored; all their filters count."""
    return tf.variance_scaling_initializer(2.0 / convs, 'fan_out', 'untruncated_normal')


def stages(
    net: Layers, x: tf.Tensor, depth: int, output_stride: int = 8, smooth_dilated: bool = True
):
    """ResNeSt, table 1: the features of stages 1 to 4.

    output_stride: 8 by dilation as for segmentation, or 32 as for classification.
    smooth_dilated: whether a stage that dilation made of stride 1 pools as the strided one does; it
    does in the authors' code, not in mmsegmentation's.
    """
    stem = net.filters(64 if depth == 101 else 32)
    x = net.conv_bn_relu(pad(x, 1), stem, 3, 'stem/conv1', stride=2, padding='VALID')
    x = net.conv_bn_relu(x, stem, 3, 'stem/conv2')
    x = net.conv_bn_relu(x, 2 * stem, 3, 'stem/conv3')
    x = tf.nn.max_pool2d(pad(x, 1), 3, 2, 'VALID')  # after a ReLU the zeros never win
    outputs, rate = [], 1
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        filters, dilated = net.filters(32 * 2**stage), stage > 2 and output_stride == 8
        for block in range(1, blocks + 1):
            first = block == 1 and stage > 1
            stride = 2 if first and not dilated else 1
            smooth = first and (smooth_dilated or not dilated)
            x = _block(net, x, filters, 'stage%d/block%d' % (stage, block), stride, rate, smooth)
            if block == 1 and dilated:  # the first block has the dilation of the stage before
                rate *= 2
        outputs.append(x)
    return outputs


def _block(net, x, filters, name, stride, rate, smooth):
    """A bottleneck with split attention; smooth: average pooling takes the place of a stride."""
    y = net.conv_bn_relu(x, filters, 1, name + '/conv1')
    y = _split_attention(net, y, filters, name + '/split', rate)
    if smooth:
        y = tf.nn.avg_pool2d(pad(y, 1), 3, stride, 'VALID')  # the padding counts
    y = net.conv_bn(y, 4 * filters, 1, name + '/conv3')
    if x.shape[-1].value != 4 * filters or stride > 1:
        if stride > 1:
            x = tf.nn.avg_pool2d(x, 2, 2, 'SAME')
        x = net.conv_bn(x, 4 * filters, 1, name + '/shortcut')
    return tf.nn.relu(tf.add(y, x))


def _split_attention(net, x, filters, name, rate):
    """Section 3.1, figure 2: each half of the channels through a conv of its own, then a mix of
    both, weighted by channel and image.
    """
    a, b = [
        net.conv_bn_relu(half, filters, 3, name + conv, rate=rate, initializer=_fan_out(2))
        for half, conv in zip(tf.split(x, 2, 3), ('/conv1', '/conv2'))
    ]
    gap = tf.reduce_mean(tf.add(a, b), [1, 2], keepdims=True)
    gap = net.conv_bn_relu(
        gap, max(filters // 2, 32), 1, name + '/fc1', bias=tf.zeros_initializer()
    )
    for_a, for_b = tf.split(
        net.conv(gap, 2 * filters, 1, name + '/fc2', bias=tf.zeros_initializer()), 2, 3
    )
    # Equation 2: the r-softmax of two numbers is a sigmoid of their difference.
    return tf.add(tf.sigmoid(for_a - for_b) * a, tf.sigmoid(for_b - for_a) * b)
