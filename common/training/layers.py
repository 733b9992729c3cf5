"""Pieces of networks that the models share: widths, padding, dropout and batch normalisation."""

import itertools
from typing import Callable, Optional

import tensorflow as tf

from common.training.batch_norm import BatchNorm, local

Dropout = Callable[[tf.Tensor, float, int], tf.Tensor]  # (x, rate, index of the layer) -> x


def scaled(filters: int, width: float, *, divisor: int, multiple: int = 1) -> int:
    """The number of filters, at `width`, of a layer that has `filters` in the publication: the
    multiple of `multiple` nearest to filters x width, a half rounded up, never 0.

    The width is first rounded to a positive multiple of 1 / divisor: a layer of `divisor` filters
    then tells the width of a checkpoint exactly.
    """
    numerator = filters * max(1, int(divisor * width + 0.5))
    return multiple * max(1, int(numerator / (divisor * multiple) + 0.5))


def pad(x: tf.Tensor, pixels: int) -> tf.Tensor:
    """Pads x [N, H, W, C] with zeros on all four sides, as PyTorch does.

    Where the stride is 2, TensorFlow's "same" pads an even image after its last row and column
    only, which shifts the window of every output by one pixel.
    """
    return tf.pad(x, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]])


def dropout_layers(
    dropout: Optional[Dropout], rate: float, training: bool
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the dropout layers of one network as one function of x, which counts its calls; it
    returns x itself unless training at a rate above 0.
    """
    if not training or not rate:
        return lambda x: x
    if dropout is None:
        raise ValueError('training with a dropout rate of %g needs a dropout function' % rate)
    numbers = itertools.count()
    return lambda x: dropout(x, rate, next(numbers))


def batch_norm_layers(
    batch_norm: Optional[BatchNorm], decay: float, epsilon: float, training: bool, **options
) -> Callable[..., tf.Tensor]:
    """Returns norm(x, name), the batch normalisation of one network; norm(x, name, decay) overrides
    the decay of the moving averages for one layer.

    batch_norm: None stands for `batch_norm.local`. training: False under --freeze_bn also: the
    moving averages are used and not updated. options: `gamma`, the initial scale, and `axis`, of
    the channels.
    """

    def norm(x: tf.Tensor, name: str, decay: float = decay) -> tf.Tensor:
        return (batch_norm or local)(x, name, decay, epsilon, training, **options)

    return norm
