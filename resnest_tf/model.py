"""DeepLabV3 on ResNeSt. Chen et al., "Rethinking Atrous Convolution for Semantic Image
Segmentation", 2017, arXiv:1706.05587, on the backbone of Zhang et al., 2020, arXiv:2004.08955, as
the latter's authors train it (PyTorch-Encoding, encoding/models/sseg/deeplab.py and fcn.py).

  backbone    ResNeSt at output stride 8, see backbone.py
  ASPP        256 filters: 1x1, 3x3 at rates 12, 24, 36, image pooling; concatenated, 1x1 conv
  head        3x3 conv with 256 filters, linear classifier, bilinear upsampling
  auxiliary   the head's layers on the backbone's stage 3, with a loss of its own while training

Two other published graphs stand in model_mmsegmentation.py and model_port.py.
"""

import tensorflow as tf

from common.training.layers import dropout_layers
from resnest_tf import backbone
from resnest_tf.layers import dropout_channels

ASPP_RATES = (12, 24, 36)  # DeepLabV3 section 4.1, for output stride 8
# The head's kernels and biases are PyTorch's defaults: uniform within 1 / sqrt(fan in).
_KERNEL = tf.variance_scaling_initializer(1 / 3, 'fan_in', 'uniform')


def build(images, cfg, training=False, dropout=None, batch_norm=None):
    """Builds the network.

    Args:
      images: float32 [N, H, W, 3], normalised; H and W known; N may be unknown.
      cfg: a ResNeStConfig: depth, width, num_classes, image_pooling, dropout_rate, aspp_dropout,
      aux_weight, freeze_bn.
      training: batch norm uses the batch's statistics (unless cfg.freeze_bn), which takes two
      images or more: split attention and image pooling normalise one pixel an image.
      dropout: (x, rate, index of the layer) -> x; needed when training at a rate above 0.
      batch_norm: see `common.training.batch_norm.local`, the default.
    Returns:
      Logits, float32 [N, H, W, cfg.num_classes], the output of the op `resize/ResizeBilinear`; in
      training (logits, the auxiliary head's logits of the same shape, None if cfg.aux_weight is 0).
    """
    net = backbone.network(cfg.width, training and not cfg.freeze_bn, batch_norm)
    drop = dropout_layers(dropout, cfg.dropout_rate, training)

    def classify(x, scope, resize):
        x = net.conv_bn_relu(x, net.filters(256), 3, scope + '/conv', initializer=_KERNEL)
        bound = x.shape[-1].value ** -0.5
        uniform = tf.random_uniform_initializer(-bound, bound)
        x = net.conv(
            drop(x), cfg.num_classes, 1, scope + '/logits', bias=uniform, initializer=_KERNEL
        )
        return tf.image.resize_bilinear(x, images.shape[1:3], align_corners=True, name=resize)

    stages = backbone.stages(net, images, cfg.depth)
    x = tf.concat(aspp(net, stages[3], net.filters(256), cfg.image_pooling, _KERNEL), 3)
    x = net.conv_bn_relu(x, net.filters(256), 1, 'head/project', initializer=_KERNEL)
    if training:
        x = dropout_channels(dropout, x, cfg.aspp_dropout, index=2)
    logits = classify(x, 'head', 'resize/ResizeBilinear')
    if not training:
        return logits
    if not cfg.aux_weight:
        return logits, None
    return logits, classify(stages[2], 'auxiliary', 'auxiliary/ResizeBilinear')


def aspp(net, x, filters, image_pooling, initializer=None):
    """The branches of atrous spatial pyramid pooling, DeepLabV3 section 3.3: 1x1, 3x3 at
    ASPP_RATES, image pooling, each [N, h, w, filters].

    image_pooling: [] pools over all pixels; [h, w] over the h x w pixels of x around each one, so
    that a larger image than in training is pooled over the same area.
    """
    options = {'initializer': initializer}
    branches = [net.conv_bn_relu(x, filters, 1, 'head/aspp1', **options)]
    for number, rate in enumerate(ASPP_RATES, start=2):
        name = 'head/aspp%d' % number
        branches.append(net.conv_bn_relu(x, filters, 3, name, rate=rate, **options))
    if image_pooling:  # "same" averages what is inside the image only
        pooled = tf.nn.avg_pool2d(x, image_pooling, 1, 'SAME')
    else:
        pooled = tf.reduce_mean(x, [1, 2], keepdims=True)
    pooled = net.conv_bn_relu(pooled, filters, 1, 'head/pool', **options)
    if not image_pooling:
        pooled = tf.image.resize_bilinear(pooled, x.shape[1:3], name='broadcast')
    return branches + [pooled]
