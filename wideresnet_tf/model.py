"""Wide residual networks for 32x32 images: Zagoruyko & Komodakis, "Wide Residual Networks", BMVC
2016, arXiv:1605.07146.

WRN-d-k has d = 6n+4 layers: a 3x3 stem of 16 filters, three groups of n pre-activation blocks with
16k, 32k and 64k filters on 32x32, 16x16 and 8x8 pixels, BN-ReLU, the average over the 8x8 pixels
and a linear classifier (table 1). 36.5 M parameters for WRN-28-10, 55.8 M for WRN-40-10.

Three published graphs differ in details that change accuracy and decide which weights fit;
`variant` names them:

                      paper                          port                        mindspore
  published by        the authors (Lua, PyTorch)     TensorFlow port on Ascend   MindSpore model zoo
  after the stem      -                              -                           BN-ReLU
  biases of convs     none                           all                         all but the stem
  a block's stride    in the first conv              in the second               in the first
  its padding         1 on every side                "same": 0 before, 1 after   "same"
  shortcut 1x1 takes  BN-ReLU of the block's input   the block's input           the block's input
  dropout precedes    the second conv                the second conv             the first conv
  BN decay, epsilon   0.9, 1e-5                      0.99 (head 0.9), 1e-3       0.9, 1e-5
  initial kernels     MSRA normal, fan in            Glorot uniform              Glorot uniform,
                      gain sqrt(2)
  initial gamma       uniform in [0, 1)              1                           1
  variable names      group1/block1/conv1/kernel     conv2d_1/kernel
                      group1/block1/conv1/kernel
"""

from typing import Callable, Dict, NamedTuple, Optional

import tensorflow as tf

from common.errors import UserError, suggest


class _Variant(NamedTuple):
    """One column of the table above. `None` as an initializer is the default of tf.layers."""

    readable_names: bool
    stem_norm: bool
    stem_bias: bool
    conv_bias: bool
    strided_conv: int
    pad_all_sides: bool
    preactivated_shortcut: bool
    dropout_before_conv: int
    bn_decay: float
    head_decay: float
    bn_epsilon: float
    kernel: Optional[tf.keras.initializers.Initializer]
    gamma: tf.keras.initializers.Initializer
    classifier: Optional[tf.keras.initializers.Initializer]


# The authors draw every kernel, the classifier's too, with standard deviation sqrt(2 / fan in), and
# gamma from [0, 1).
_MSRA = tf.variance_scaling_initializer(scale=2.0, mode='fan_in', distribution='untruncated_normal')

VARIANTS = {
    'paper': _Variant(
        readable_names=True,
        stem_norm=False,
        stem_bias=False,
        conv_bias=False,
        strided_conv=1,
        pad_all_sides=True,
        preactivated_shortcut=True,
        dropout_before_conv=2,
        bn_decay=0.9,
        head_decay=0.9,
        bn_epsilon=1e-5,
        kernel=_MSRA,
        gamma=tf.random_uniform_initializer(0.0, 1.0),
        classifier=_MSRA,
    ),
    'port': _Variant(
        readable_names=False,
        stem_norm=False,
        stem_bias=True,
        conv_bias=True,
        strided_conv=2,
        pad_all_sides=False,
        preactivated_shortcut=False,
        dropout_before_conv=2,
        bn_decay=0.99,
        head_decay=0.9,
        bn_epsilon=1e-3,
        kernel=None,
        gamma=tf.ones_initializer(),
        classifier=None,
    ),
    'mindspore': _Variant(
        readable_names=True,
        stem_norm=True,
        stem_bias=False,
        conv_bias=True,
        strided_conv=1,
        pad_all_sides=False,
        preactivated_shortcut=False,
        dropout_before_conv=1,
        bn_decay=0.9,
        head_decay=0.9,
        bn_epsilon=1e-5,
        kernel=tf.variance_scaling_initializer(scale=2.0, mode='fan_avg', distribution='uniform'),
        gamma=tf.ones_initializer(),
        classifier=tf.random_normal_initializer(stddev=0.01),
    ),
}


def wideresnet(
    images: tf.Tensor,
    *,
    depth: int,
    widen_factor: int,
    num_classes: int,
    variant: str = 'paper',
    training: bool = False,
    freeze_bn: bool = False,
    dropout_rate: float = 0.0,
    dropout: Optional[Callable[[tf.Tensor, float, int], tf.Tensor]] = None,
) -> tf.Tensor:
    """Builds the graph and returns the logits, float32 [N, num_classes], made by the op
    `output/BiasAdd`.

    Args:
      images: float32 [N, 32, 32, 3], normalised. No other size: the head averages exactly 8x8
      pixels.
      depth: 6n+4, at least 10.
      widen_factor: k, at least 1.
      num_classes: at least 2.
      variant: 'paper', 'port' or 'mindspore'. The port's variables are numbered by the graph: build
      it once a graph.
      training: batch norm uses the batch's statistics and adds its moving averages' updates to
      UPDATE_OPS.
      freeze_bn: batch norm uses the moving averages in training as well and updates nothing; gamma
      and beta still train.
      dropout_rate: share of values that a block drops while training (section 2.4: 0.3 for CIFAR).
      dropout: (x, rate, index of the dropout layer from 0) -> x; needed when training with a rate
      above 0.
    Raises:
      UserError: for an illegal depth, widen_factor, num_classes, variant, dropout_rate or image
      size.
    """
    _check(images, depth, widen_factor, num_classes, variant, dropout_rate)
    if training and dropout_rate > 0 and dropout is None:
        raise ValueError('training with dropout_rate %g needs a dropout function' % dropout_rate)
    layers = _Layers(
        VARIANTS[variant], training and not freeze_bn, dropout_rate if training else 0.0, dropout
    )

    x = layers.conv(images, 16, 3, 1, 'stem/conv', bias=layers.variant.stem_bias)
    if layers.variant.stem_norm:
        x = layers.bn_relu(x, 'stem/bn')
    for group, (filters, stride) in enumerate([(16, 1), (32, 2), (64, 2)], start=1):
        for block in range(1, (depth - 4) // 6 + 1):
            x = _block(
                layers,
                x,
                filters * widen_factor,
                stride if block == 1 else 1,
                'group%d/block%d' % (group, block),
            )
    x = layers.bn_relu(x, 'head/bn', decay=layers.variant.head_decay)
    x = tf.layers.average_pooling2d(x, pool_size=8, strides=1)
    x = tf.reshape(x, [-1, 64 * widen_factor])
    return tf.layers.dense(
        x, num_classes, kernel_initializer=layers.variant.classifier, name='output'
    )


def _block(layers: '_Layers', x: tf.Tensor, filters: int, stride: int, name: str) -> tf.Tensor:
    """BN-ReLU-conv3x3-BN-ReLU-conv3x3 plus shortcut, no activation after the sum (figure 1c, 1d:
    "basic-wide").
    """
    variant = layers.variant
    y = shortcut = x
    for number in (1, 2):
        y = layers.bn_relu(y, '%s/bn%d' % (name, number))
        if number == 1 and variant.preactivated_shortcut:
            shortcut = y
        if number == variant.dropout_before_conv:
            y = layers.drop(y)
        y = layers.conv(
            y,
            filters,
            3,
            stride if number == variant.strided_conv else 1,
            '%s/conv%d' % (name, number),
            bias=variant.conv_bias,
        )
    if (
        x.shape[-1].value == filters
    ):  # in these networks the stride changes only where the width does
        return tf.add(y, x)
    # Made after the second conv: that order is what numbers the port's variables.
    return tf.add(
        y, layers.conv(shortcut, filters, 1, stride, name + '/shortcut', bias=variant.conv_bias)
    )


class _Layers:
    """conv, BN-ReLU and dropout as one variant has them."""

    def __init__(
        self, variant: _Variant, update_bn: bool, dropout_rate: float, dropout: Optional[Callable]
    ):
        self.variant = variant
        self._update_bn = update_bn
        self._dropout_rate = dropout_rate
        self._dropout = dropout
        self._dropped = 0
        self._numbers: Dict[str, int] = {}

    def conv(
        self, x: tf.Tensor, filters: int, size: int, stride: int, name: str, bias: bool
    ) -> tf.Tensor:
        padding = 'same'
        if self.variant.pad_all_sides and size == 3 and stride == 2:
            # "same" pads an even image after its last row only; that shifts the window of each
            # output by one pixel.
            x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
            padding = 'valid'
        return tf.layers.conv2d(
            x,
            filters,
            size,
            stride,
            padding,
            use_bias=bias,
            kernel_initializer=self.variant.kernel,
            name=self._name(name, 'conv2d'),
        )

    def bn_relu(self, x: tf.Tensor, name: str, decay: Optional[float] = None) -> tf.Tensor:
        x = tf.layers.batch_normalization(
            x,
            momentum=decay or self.variant.bn_decay,
            epsilon=self.variant.bn_epsilon,
            gamma_initializer=self.variant.gamma,
            training=self._update_bn,
            fused=True,
            name=self._name(name, 'batch_normalization'),
        )
        return tf.nn.relu(x)

    def drop(self, x: tf.Tensor) -> tf.Tensor:
        if self._dropout_rate > 0:
            x = self._dropout(x, self._dropout_rate, self._dropped)
            self._dropped += 1
        return x

    def _name(self, name: str, kind: str) -> str:
        """The port's variables are numbered as tf.layers does; counted here, so that the graph can
        be built again with the same variables.
        """
        if self.variant.readable_names:
            return name
        number = self._numbers[kind] = self._numbers.get(kind, -1) + 1
        return '%s_%d' % (kind, number) if number else kind


def _check(
    images: tf.Tensor,
    depth: int,
    widen_factor: int,
    num_classes: int,
    variant: str,
    dropout_rate: float,
) -> None:
    if variant not in VARIANTS:
        raise UserError(
            'variant %r is unknown: choose %s%s'
            % (variant, ', '.join(VARIANTS), suggest(variant, VARIANTS))
        )
    if depth < 10 or (depth - 4) % 6:
        lower = max(10, depth - (depth - 4) % 6)
        upper = max(16, lower + 6)
        raise UserError(
            'depth %d is not a wide residual network: it is 6n+4 and at least 10; nearest are %d'
            ' and %d' % (depth, lower, upper)
        )
    if widen_factor < 1:
        raise UserError('widen_factor %s is too small: it is a whole number from 1' % widen_factor)
    if num_classes < 2:
        raise UserError('num_classes %s is too small: a classifier has at least 2' % num_classes)
    if not 0 <= dropout_rate < 1:
        raise UserError(
            'dropout_rate %s is not a share of the values: it is at least 0 and below 1'
            % dropout_rate
        )
    if images.shape.ndims != 4 or images.shape.as_list()[1:] != [32, 32, 3]:
        raise UserError(
            'images are %s: wideresnet takes [N, 32, 32, 3] only, its head averages 8x8 pixels'
            % images.shape
        )
