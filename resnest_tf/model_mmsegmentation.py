"""DeepLabV3 on ResNeSt as mmsegmentation has it (configs/resnest, its ResNeSt-101 reaches 79.67).

It differs from the authors' network in model.py:

  - ASPP and the head have 512 filters; one 3x3 conv after the concatenation (no 1x1 conv) leads to
    the classifier; image pooling comes first in the concatenation;
  - dropout before both classifiers takes whole channels, and there is none after ASPP;
  - a stage that dilation made of stride 1 has no average pooling;
  - upsampling takes half-pixel centres (PyTorch's align_corners=False);
  - kernels are drawn as the backbone's, those of the classifiers normal with deviation 0.01.
"""

import tensorflow as tf

from resnest_tf import backbone
from resnest_tf.layers import dropout_channels
from resnest_tf.model import aspp

_CLASSIFIER = tf.random_normal_initializer(stddev=0.01)


def build(images, cfg, training=False, dropout=None, batch_norm=None):
    """Builds the network; arguments and result are those of `model.build`, but cfg.aspp_dropout."""
    net = backbone.network(cfg.width, training and not cfg.freeze_bn, batch_norm)

    def classify(x, name, index, resize):
        if training:
            x = dropout_channels(dropout, x, cfg.dropout_rate, index)
        zeros = tf.zeros_initializer()
        x = net.conv(x, cfg.num_classes, 1, name, bias=zeros, initializer=_CLASSIFIER)
        return tf.image.resize_bilinear(x, images.shape[1:3], half_pixel_centers=True, name=resize)

    stages = backbone.stages(net, images, cfg.depth, smooth_dilated=False)
    filters = net.filters(512)
    *convs, pooled = aspp(net, stages[3], filters, cfg.image_pooling)
    x = net.conv_bn_relu(tf.concat([pooled] + convs, 3), filters, 3, 'head/bottleneck')
    logits = classify(x, 'head/logits', 0, 'resize/ResizeBilinear')
    if not training:
        return logits
    if not cfg.aux_weight:
        return logits, None
    x = net.conv_bn_relu(stages[2], net.filters(256), 3, 'auxiliary/conv')
    return logits, classify(x, 'auxiliary/logits', 1, 'auxiliary/ResizeBilinear')
