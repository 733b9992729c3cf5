"""DeepLabV3 on ResNeSt. Zhang et al., "ResNeSt: Split-Attention Networks", 2020, arXiv:2004.08955;
Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017,
arXiv:1706.05587.

ResNeSt-50 as its authors published it in PyTorch: radix 2, one group, deep stem, average pooling
for every stride.

  stage   filters    blocks (50, 101)   stride, dilation   what
  stem    64 (128)   -                  4                  three 3x3 convs (32-32-64; 64-64-128 for
          101), 3x3 max pool
  1       256        3, 3               4                  1x1 conv, split-attention conv 3x3, 1x1
          conv; plus shortcut, ReLU
  2       512        4, 4               8
  3       1024       6, 23              8, dilation 2      its first block 1
  4       2048       3, 3               8, dilation 4      its first block 2
  head    256        -                  8                  ASPP: 1x1, 3x3 at rates 12, 24, 36, image
          pooling; 1x1; 3x3; classifier

Each conv but the classifiers is without bias and followed by batch norm (epsilon 1e-5). The
backbone alone, at output stride 32 and with 1000 classes, has 27.5 M parameters (50) or 48.3 M
(101). An auxiliary FCN head on stage 3 helps training.

The published Ascend port differs; `variant` names the two graphs:

                              paper                                    port
  split attention's softmax   across the radix: the halves compete     over the channels of each
                              half
  dilation                    in the split-attention convs and ASPP    in ASPP only: its blocks'
                              dilated convs fed nothing
  strided block               split attention, then 3x3 average pool   3x3 average pool, then split
                              attention
  shortcut                    1x1 conv-BN where the shape changes,     1x1 conv-BN-ReLU in every
                              block, strided itself
                              after a 2x2 average pool
  after a block's sum         ReLU                                     -
  stem                        32-32-64                                 64-64-128
  padding of strided layers   1 on every side                          "same": 0 before, 1 after an
                              even image
  image pooling               all pixels                               the 7x7 pixels around each
  auxiliary head              on stage 3                               -
  BN decay                    0.9                                      0.997
  initial kernels             MSRA normal, fan out                     Glorot uniform
  variable names              stage1/block1/conv1/kernel               Conv/weights
"""

import math
from typing import Callable, List, Optional, Sequence, Tuple, Union

import tensorflow as tf

from common.errors import UserError, suggest
from resnest_tf.layers import VARIANTS, BatchNorm, Layers, pad

BLOCKS = {
    14: (1, 1, 1, 1),
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}  # 14 and 26 are for tests and small recipes
ASPP_RATES = (12, 24, 36)  # for output stride 8
SMALLEST = 32
PORT_POOLING = [7, 7]


def build(images, cfg, training=False, dropout=None, batch_norm=None):
    """Returns the logits; in training (logits, logits of the auxiliary head or None)."""
    outputs = deeplab_resnest(
        images,
        depth=cfg.depth,
        width=cfg.width,
        num_classes=cfg.num_classes,
        variant=cfg.variant,
        training=training,
        freeze_bn=cfg.freeze_bn,
        aux_head=training and cfg.aux_weight > 0,
        image_pooling=cfg.image_pooling or 0,
        dropout_rate=cfg.dropout_rate,
        dropout=dropout,
        batch_norm=batch_norm,
    )
    return outputs if training else outputs[0]


def deeplab_resnest(
    images: tf.Tensor,
    *,
    depth: int = 50,
    width: float = 1.0,
    num_classes: int = 19,
    variant: str = 'paper',
    training: bool = False,
    freeze_bn: bool = False,
    aux_head: bool = True,
    image_pooling: Union[int, Sequence[int]] = 0,
    dropout_rate: float = 0.0,
    dropout: Optional[Callable[[tf.Tensor, float, int], tf.Tensor]] = None,
    batch_norm: Optional[BatchNorm] = None,
) -> Tuple[tf.Tensor, Optional[tf.Tensor]]:
    """Builds the graph. Returns logits, float32 [N, H, W, num_classes] made by the op
    `resize/ResizeBilinear`, and those of the auxiliary head, of the same shape, or None.

    Args:
      images: float32 [N, H, W, 3], normalised; H and W known and at least 32. N may be unknown.
      depth: 14, 26, 50 or 101; the port's graph is 50.
      width: every layer but the classifiers has width x the published number of filters, see
      `layers.scaled`.
      num_classes: at least 2.
      variant: 'paper' or 'port'.
      training: batch norm uses the batch's statistics. It needs at least two images over all that
      normalise together: split attention
        and image pooling normalise one pixel an image.
      freeze_bn: batch norm uses the moving averages in training as well and updates nothing; gamma
      and beta still train.
      aux_head: adds the auxiliary head, where the variant has one.
      image_pooling: 0: the mean over all pixels; [h, w]: the mean over the h x w feature pixels
      (8x8 image pixels each) around each
        one, so that a larger image than in training is pooled over the same area. The port's is [7,
        7], for which 0 stands too.
      dropout_rate: share of values that are dropped before the classifiers while training.
      dropout: (x, rate, index of the dropout layer from 0) -> x; needed when training with a rate
      above 0.
      batch_norm: (x, name, decay, epsilon, training) -> x, which makes the variables NAME/gamma,
      beta, moving_mean, moving_variance
        and adds their updates to UPDATE_OPS; None: TensorFlow's, over this device's images alone.
    Raises:
      UserError: for an illegal argument or image size.
    """
    _check(images, depth, width, variant)
    if not isinstance(num_classes, int) or num_classes < 2:
        raise UserError('num_classes %s is too small: a segmentation has at least 2' % num_classes)
    if not 0 <= dropout_rate < 1:
        raise UserError('dropout_rate %s is not legal: it is at least 0 and below 1' % dropout_rate)
    pooling = _pooling(image_pooling, variant)
    if variant == 'port' and depth != 50:
        raise UserError(
            "depth %s: the port's graph has depth 50 only; use --depth 50 or --variant paper"
            % depth
        )
    if training and dropout_rate > 0 and dropout is None:
        raise ValueError('training with dropout_rate %g needs a dropout function' % dropout_rate)
    layers = Layers(VARIANTS[variant], width, training, freeze_bn, batch_norm)

    def classify(x, name, index):
        if training and dropout_rate > 0:
            x = dropout(x, dropout_rate, index)
        return layers.conv(
            x, num_classes, 1, name, bias=True, initializer=layers.variant.classifier
        )

    if variant == 'port':
        x, names = _port_features(layers, images), [_slim(number) for number in range(64, 72)]
    else:
        stages = _stages(layers, images, depth, output_stride=8)
        x, names = (
            stages[3],
            [
                'head/' + leaf
                for leaf in (
                    'aspp1',
                    'aspp2',
                    'aspp3',
                    'aspp4',
                    'pool',
                    'project',
                    'conv',
                    'logits',
                )
            ],
        )
    x = _aspp(layers, x, names, pooling)
    x = layers.conv_bn_relu(x, layers.filters(256), 3, names[6])
    # Where a layer of stride 2 pads 1 on every side, its output i lies on its input 2i. So pixel i
    # of the logits lies on pixel 8i of the image, which is where this op puts it with neither
    # aligned corners nor half-pixel centres.
    logits = tf.image.resize_bilinear(
        classify(x, names[7], 0), images.shape[1:3], name='resize/ResizeBilinear'
    )
    if variant == 'port' or not aux_head:
        return logits, None
    x = layers.conv_bn_relu(stages[2], layers.filters(256), 3, 'auxiliary/conv')
    return logits, tf.image.resize_bilinear(
        classify(x, 'auxiliary/logits', 1), images.shape[1:3], name='auxiliary/ResizeBilinear'
    )


def backbone(
    images: tf.Tensor,
    *,
    depth: int = 50,
    width: float = 1.0,
    output_stride: int = 8,
    num_classes: Optional[int] = None,
    training: bool = False,
    freeze_bn: bool = False,
    batch_norm: Optional[BatchNorm] = None,
) -> Tuple[List[tf.Tensor], Optional[tf.Tensor]]:
    """The paper's ResNeSt alone: the features of stages 1 to 4 and, if num_classes is given, logits
    [N, num_classes] of their mean.

    output_stride: 8 as for segmentation, by dilation, or 32 as for classification. Other arguments
    as in `deeplab_resnest`.
    """
    _check(images, depth, width, 'paper')
    if output_stride not in (8, 32):
        raise UserError('output_stride %s is not legal: choose 8 or 32' % output_stride)
    stages = _stages(
        Layers(VARIANTS['paper'], width, training, freeze_bn, batch_norm),
        images,
        depth,
        output_stride,
    )
    return stages, (
        tf.layers.dense(tf.reduce_mean(stages[3], [1, 2]), num_classes, name='fc')
        if num_classes
        else None
    )


# The paper's network


def _stages(layers: Layers, x: tf.Tensor, depth: int, output_stride: int) -> List[tf.Tensor]:
    stem = layers.filters(64 if depth == 101 else 32)
    for number, filters in ((1, stem), (2, stem), (3, 2 * stem)):
        x = layers.conv_bn_relu(
            x, filters, 3, 'stem/conv%d' % number, stride=2 if number == 1 else 1
        )
    x = tf.nn.max_pool2d(pad(x, 1), 3, 2, 'VALID')  # after a ReLU the zeros never win
    stages, rate = [], 1
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        stride, first_rate = 1 if stage == 1 else 2, rate
        if stage > 2 and output_stride == 8:
            stride, rate = (
                1,
                2 * rate,
            )  # as the authors' code: the first block has the dilation of the stage before
        for block in range(1, blocks + 1):
            x = _block(
                layers,
                x,
                layers.filters(32 * 2**stage),
                'stage%d/block%d' % (stage, block),
                stride if block == 1 else 1,
                first_rate if block == 1 else rate,
                smooth=block == 1 and stage > 1,
            )
        stages.append(x)
    return stages


def _block(
    layers: Layers, x: tf.Tensor, filters: int, name: str, stride: int, rate: int, smooth: bool
) -> tf.Tensor:
    """smooth: 3x3 average pooling takes the place of the stride; it is there in a first block even
    where dilation made the stride 1.
    """
    y = layers.conv_bn_relu(x, filters, 1, name + '/conv1')
    y = _split_attention(layers, y, filters, name + '/split', rate)
    if smooth:
        y = tf.nn.avg_pool2d(pad(y, 1), 3, stride, 'VALID')  # the padding counts
    y = layers.conv_bn(y, 4 * filters, 1, name + '/conv3')
    if x.shape[-1].value != 4 * filters or stride > 1:
        if stride > 1:
            x = tf.nn.avg_pool2d(x, 2, 2, 'SAME')
        x = layers.conv_bn(x, 4 * filters, 1, name + '/shortcut')
    return tf.nn.relu(tf.add(y, x))


def _split_attention(layers: Layers, x: tf.Tensor, filters: int, name: str, rate: int) -> tf.Tensor:
    """Section 3.1, figure 2: each half of the channels through a conv of its own, then a mix of
    both, weighted by channel and image.
    """
    a, b = [
        layers.conv_bn_relu(half, filters, 3, '%s/conv%d' % (name, number), rate=rate, fan=2)
        for number, half in enumerate(tf.split(x, 2, 3), start=1)
    ]
    gap = tf.reduce_mean(tf.add(a, b), [1, 2], keepdims=True)
    gap = layers.conv_bn_relu(gap, max(filters // 2, 32), 1, name + '/fc1', bias=True)
    for_a, for_b = tf.split(layers.conv(gap, 2 * filters, 1, name + '/fc2', bias=True), 2, 3)
    # The softmax of two numbers is a sigmoid of their difference.
    return tf.add(tf.sigmoid(for_a - for_b) * a, tf.sigmoid(for_b - for_a) * b)


def _aspp(
    layers: Layers, x: tf.Tensor, names: Sequence[str], pooling: Optional[Sequence[int]]
) -> tf.Tensor:
    """Atrous spatial pyramid pooling, DeepLabV3 section 3.3."""
    filters = layers.filters(256)
    branches = [layers.conv_bn_relu(x, filters, 1, names[0])]
    branches += [
        layers.conv_bn_relu(x, filters, 3, name, rate=rate)
        for name, rate in zip(names[1:4], ASPP_RATES)
    ]
    if pooling is None:
        pooled = layers.conv_bn_relu(tf.reduce_mean(x, [1, 2], keepdims=True), filters, 1, names[4])
        branches.append(tf.image.resize_bilinear(pooled, x.shape[1:3], name='broadcast'))
    else:  # "same" averages what is inside the image only
        branches.append(
            layers.conv_bn_relu(tf.nn.avg_pool2d(x, pooling, 1, 'SAME'), filters, 1, names[4])
        )
    return layers.conv_bn_relu(tf.concat(branches, 3), filters, 1, names[5])


# The port's network


def _port_features(layers: Layers, x: tf.Tensor) -> tf.Tensor:
    for number, (filters, stride) in enumerate([(64, 2), (64, 1), (128, 1)], start=1):
        x = layers.conv_bn_relu(x, layers.filters(filters), 3, 'conv1_%d' % number, stride=stride)
    x = tf.nn.max_pool2d(x, 3, 2, 'SAME')
    scopes = (
        ['resnest1_0', 'resnest1_1', 'resnest1_2']
        + ['resnest1_4', 'resnest2_0', 'resnest2_1', 'resnest2_2']
        + ['resnest2_4']
        + ['resnest3_%d' % block for block in range(6)]
        + ['resnest4_0', 'resnest4_1']
    )
    for block, scope in enumerate(scopes):
        filters = layers.filters(
            64 if block < 3 else 128 if block < 7 else 256 if block < 13 else 512
        )
        stride = 2 if block == 3 else 1
        y = layers.conv_bn_relu(x, filters, 1, _slim(4 * block))
        # Number 4 x block + 1 was the dilated conv whose output nothing took.
        y = _port_split_attention(
            layers, tf.nn.avg_pool2d(y, 3, 2, 'SAME') if stride == 2 else y, filters, scope
        )
        shortcut = layers.conv_bn_relu(x, 4 * filters, 1, _slim(4 * block + 2), stride=stride)
        x = tf.add(shortcut, layers.conv_bn_relu(y, 4 * filters, 1, _slim(4 * block + 3)))
    return x


def _port_split_attention(layers: Layers, x: tf.Tensor, filters: int, name: str) -> tf.Tensor:
    halves = [
        layers.conv(half, filters, 3, '%s/%s' % (name, _slim(number)), bias=True)
        for number, half in enumerate(tf.split(x, 2, 3))
    ]
    halves = tf.split(tf.nn.relu(layers.norm(tf.concat(halves, 3), name + '/BatchNorm')), 2, 3)
    gap = tf.reduce_mean(tf.add(*halves), [1, 2], keepdims=True)
    gap = layers.conv_bn_relu(gap, filters // 2, 1, name + '/Conv_2')
    weights = tf.split(layers.conv(gap, 2 * filters, 1, name + '/Conv_3'), 2, 3)
    return tf.add(*[tf.nn.softmax(weight) * half for weight, half in zip(weights, halves)])


def _slim(number: int) -> str:
    """tf.contrib.slim's name of the conv of that number in a scope."""
    return 'Conv_%d' % number if number else 'Conv'


def _check(images: tf.Tensor, depth: int, width: float, variant: str) -> None:
    if variant not in VARIANTS:
        raise UserError(
            'variant %r is unknown: choose %s%s'
            % (variant, ' or '.join(VARIANTS), suggest(variant, VARIANTS))
        )
    if depth not in BLOCKS:
        raise UserError(
            'depth %s is not legal: choose %s' % (depth, ', '.join(map(str, sorted(BLOCKS))))
        )
    if not (width > 0 and math.isfinite(width)):
        raise UserError(
            'width %s is not legal: it is a number above 0 that the filters are multiplied by'
            % width
        )
    shape = images.shape.as_list() if images.shape.ndims == 4 else []
    if shape[3:] != [3] or any(pixels is None or pixels < SMALLEST for pixels in shape[1:3]):
        raise UserError(
            'images are %s: resnest takes [N, H, W, 3] with H and W of at least %d'
            % (images.shape, SMALLEST)
        )


def _pooling(image_pooling: Union[int, Sequence[int]], variant: str) -> Optional[List[int]]:
    """[h, w], or None for all pixels."""
    pair = list(image_pooling) if isinstance(image_pooling, (list, tuple)) else image_pooling
    if pair != 0 and not (
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(n, int) and n > 0 for n in pair)
    ):
        raise UserError(
            'image_pooling %s is not legal: give 0 for all pixels, or [height, width] in pixels of'
            ' the features, such as [33, 65]' % (image_pooling,)
        )
    if variant == 'port':
        if pair not in (0, PORT_POOLING):
            raise UserError(
                "image_pooling %s: the port's graph pools over [7, 7]; leave it out or use"
                ' --variant paper' % pair
            )
        return PORT_POOLING
    return pair or None
