"""What ResNeSt's two graphs are made of: convs, batch norm, and how a variant makes and names them."""

from typing import List, NamedTuple, Optional

import tensorflow as tf

from common.training.batch_norm import BatchNorm, local


class Variant(NamedTuple):
    kernel: str  # names
    bias: str
    norm: str  # what follows a conv's name
    decay: float
    pad_all_sides: bool
    initializer: tf.keras.initializers.Initializer
    classifier: tf.keras.initializers.Initializer


VARIANTS = {
    # The authors draw kernels with standard deviation sqrt(2 / (size^2 x filters)).
    'paper': Variant(
        'kernel',
        'bias',
        '_bn',
        0.9,
        True,
        tf.variance_scaling_initializer(2.0, 'fan_out', 'untruncated_normal'),
        tf.random_normal_initializer(stddev=0.01),
    ),
    'port': Variant(
        'weights',
        'biases',
        '/BatchNorm',
        0.997,
        False,
        tf.glorot_uniform_initializer(),
        tf.glorot_uniform_initializer(),
    ),
}


def scaled(filters: int, width: float) -> int:
    """A layer's number of filters at `width`: the nearest even number (split attention halves
    them), at least 2.

    width itself is taken to the nearest 1/256, at least 1/256: a checkpoint's last stage then tells
    it exactly.
    """
    return 2 * max(1, int(filters * max(1, int(256 * width + 0.5)) / 512 + 0.5))


class Layers:
    """conv, batch norm and ReLU as one variant has them."""

    def __init__(
        self,
        variant: Variant,
        width: float,
        training: bool,
        freeze_bn: bool,
        batch_norm: Optional[BatchNorm],
    ):
        self.variant, self._width, self._training = variant, width, training
        self._update_bn, self._batch_norm = training and not freeze_bn, batch_norm or local

    def filters(self, published: int) -> int:
        return scaled(published, self._width)

    def conv(
        self,
        x: tf.Tensor,
        filters: int,
        size: int,
        name: str,
        stride: int = 1,
        rate: int = 1,
        bias: bool = False,
        fan: int = 1,
        initializer: Optional[tf.keras.initializers.Initializer] = None,
    ) -> tf.Tensor:
        """fan: in how many convs the authors' grouped conv is stored; its initial kernel counts the
        filters of all.
        """
        variant, padding = self.variant, 'SAME'
        if variant.pad_all_sides and stride == 2:
            x, padding = pad(x, size // 2), 'VALID'
        if fan > 1:
            initializer = tf.variance_scaling_initializer(
                2.0 / fan, 'fan_out', 'untruncated_normal'
            )
        with tf.variable_scope(name):
            kernel = tf.get_variable(
                variant.kernel,
                [size, size, x.shape[-1].value, filters],
                initializer=initializer or variant.initializer,
            )
            gradient = {'Conv2D': 'DilatedConv2D'} if self._training and rate > 1 else {}
            with tf.get_default_graph().gradient_override_map(gradient):
                x = tf.nn.conv2d(x, kernel, stride, padding, dilations=rate)
            return (
                tf.nn.bias_add(
                    x, tf.get_variable(variant.bias, [filters], initializer=tf.zeros_initializer())
                )
                if bias
                else x
            )

    def norm(self, x: tf.Tensor, name: str) -> tf.Tensor:
        return self._batch_norm(x, name, self.variant.decay, 1e-5, self._update_bn)

    def conv_bn(self, x: tf.Tensor, filters: int, size: int, name: str, **options) -> tf.Tensor:
        return self.norm(self.conv(x, filters, size, name, **options), name + self.variant.norm)

    def conv_bn_relu(
        self, x: tf.Tensor, filters: int, size: int, name: str, **options
    ) -> tf.Tensor:
        return tf.nn.relu(self.conv_bn(x, filters, size, name, **options))


def pad(x: tf.Tensor, pixels: int) -> tf.Tensor:
    return tf.pad(x, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]])


@tf.RegisterGradient('DilatedConv2D')
def _dilated_conv_gradient(op: tf.Operation, gradient: tf.Tensor) -> List[tf.Tensor]:
    """Gradients of a "same" conv of stride 1 and odd size by ops that run everywhere: TensorFlow
    has dilated convs for CPUs in the forward direction only, as have older versions of CANN.
    (tf.layers wraps them in SpaceToBatchND instead, also at inference.)
    """
    x, kernel = op.inputs
    rate, size = op.get_attr('dilations')[1], kernel.shape[0].value
    to_x = tf.nn.conv2d(
        gradient, tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2]), 1, 'SAME', dilations=rate
    )
    height, width, channels, filters = (
        x.shape[1].value,
        x.shape[2].value,
        kernel.shape[2].value,
        kernel.shape[3].value,
    )
    taps = []
    for down in range(-(size // 2) * rate, size // 2 * rate + 1, rate):
        for right in range(-(size // 2) * rate, size // 2 * rate + 1, rate):
            if abs(down) >= height or abs(right) >= width:  # this tap saw nothing but padding
                taps.append(tf.zeros([channels, filters], x.dtype))
                continue
            seen = x[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
            made = gradient[
                :, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
            ]
            taps.append(
                tf.matmul(
                    tf.reshape(seen, [-1, channels]),
                    tf.reshape(made, [-1, filters]),
                    transpose_a=True,
                )
            )
    to_kernel = tf.stack(taps)
    return [to_x, tf.reshape(to_kernel, kernel.shape)]
