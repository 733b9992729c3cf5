"""DeepLabV3 on ResNeSt. Chen et al., "Rethinking Atrous Convolution for Semantic Image
Segmentation", 2017, arXiv:1706.05587, on the backbone of Zhang et al., 2020, arXiv:2004.08955.

  backbone    ResNeSt at output stride 8, see backbone.py
  ASPP        256 filters: 1x1, 3x3 at rates 12, 24, 36, image pooling; concatenated, then 1x1
  head        3x3 conv with 256 filters, a linear classifier, bilinear upsampling
  auxiliary   the head's layers on the backbone's stage 3, a loss of their own while training

model_port.py is the published Ascend port's other network.
"""

import tensorflow as tf

from common.training.layers import dropout_layers
from resnest_tf import backbone

ASPP_RATES = (12, 24, 36)  # DeepLabV3 section 4.1, for output stride 8
_CLASSIFIER = tf.random_normal_initializer(stddev=0.01)


def build(images, cfg, training=False, dropout=None, batch_norm=None):
    """Builds the network.

    Args:
      images: float32 [N, H, W, 3], normalised; H and W known; N may be unknown.
      cfg: a ResNeStConfig: depth, width, num_classes, image_pooling, dropout_rate, aux_weight,
      freeze_bn.
      training: batch norm uses the batch's statistics (unless cfg.freeze_bn), which takes two
      images or more: split attention and image pooling normalise one pixel an image.
      dropout: (x, rate, index of the layer) -> x; needed when training at a rate above 0.
      batch_norm: see `common.training.batch_norm.local`, the default.
    Returns:
      Logits, float32 [N, H, W, cfg.num_classes], the output of the op `resize/ResizeBilinear`; in
      training (logits, the auxiliary head's logits of the same shape, None if cfg.aux_weight is 0).
    """
    drop = dropout_layers(dropout, cfg.dropout_rate, training)
    net = backbone.network(cfg.width, training, training and not cfg.freeze_bn, batch_norm)

    def classify(x, name, resize):
        x = net.conv(drop(x), cfg.num_classes, 1, name, bias=True, initializer=_CLASSIFIER)
        # A layer of stride 2 that pads 1 on every side puts its output i on its input 2i. So
        # pixel i of the logits lies on pixel 8i of the image, where this op puts it with neither
        # aligned corners nor half-pixel centres.
        return tf.image.resize_bilinear(x, images.shape[1:3], name=resize)

    stages = backbone.stages(net, images, cfg.depth)
    x = _aspp(net, stages[3], cfg.image_pooling)
    x = net.conv_bn_relu(x, net.filters(256), 3, 'head/conv')
    logits = classify(x, 'head/logits', 'resize/ResizeBilinear')
    if not training:
        return logits
    if not cfg.aux_weight:
        return logits, None
    x = net.conv_bn_relu(stages[2], net.filters(256), 3, 'auxiliary/conv')
    return logits, classify(x, 'auxiliary/logits', 'auxiliary/ResizeBilinear')


def _aspp(net, x, image_pooling):
    """Atrous spatial pyramid pooling, DeepLabV3 section 3.3.

    image_pooling: [] pools over all pixels; [h, w] over the h x w pixels of x around each one, so
    that a larger image than in training is pooled over the same area.
    """
    filters = net.filters(256)
    branches = [net.conv_bn_relu(x, filters, 1, 'head/aspp1')]
    for number, rate in enumerate(ASPP_RATES, start=2):
        branches.append(net.conv_bn_relu(x, filters, 3, 'head/aspp%d' % number, rate=rate))
    if image_pooling:  # "same" averages what is inside the image only
        pooled = tf.nn.avg_pool2d(x, image_pooling, 1, 'SAME')
    else:
        pooled = tf.reduce_mean(x, [1, 2], keepdims=True)
    pooled = net.conv_bn_relu(pooled, filters, 1, 'head/pool')
    if not image_pooling:
        pooled = tf.image.resize_bilinear(pooled, x.shape[1:3], name='broadcast')
    return net.conv_bn_relu(tf.concat(branches + [pooled], 3), filters, 1, 'head/project')
