"""Batch normalisation (Ioffe & Szegedy 2015) with the statistics of one device's images, or of all
ranks' images.
"""

from typing import Callable, List, Optional

import tensorflow as tf

from common.devices.base import Device

BatchNorm = Callable[..., tf.Tensor]  # see `local`


def local(
    x: tf.Tensor,
    name: str,
    decay: float,
    epsilon: float,
    training: bool,
    gamma: Optional[tf.keras.initializers.Initializer] = None,
    axis: int = 3,
) -> tf.Tensor:
    """Normalises each channel of x, float32 or float16 [N, H, W, C], over this device's images.

    gamma: its initial value, 1 by default. axis: of the channels, 1 for x [N, C, H, W].
    Makes or reuses the float32 variables NAME/gamma, beta, moving_mean and moving_variance. The
    statistics are those of x in training, which adds the updates of the moving averages to
    UPDATE_OPS, the variance with Bessel's correction; else they are these averages.
    """
    return tf.layers.batch_normalization(
        x,
        axis,
        decay,
        epsilon,
        gamma_initializer=gamma or tf.ones_initializer(),
        training=training,
        fused=True,
        name=name,
    )


def synchronised(device: Device) -> BatchNorm:
    """A `local` whose statistics in training, float32, are those of x on all ranks; every rank must
    have a batch of the same shape. Call it once for each network that is built.

    It is exact: ranks with per-rank mean losses, whose gradients are then averaged, take the step
    that one rank with all images takes. Each layer sends one message in the forward pass, size x 2C
    numbers, and one in the backward pass, 2C.
    """
    if device.size == 1:
        return local
    last: List[tf.Tensor] = []

    def allreduce_sum(tensor, name):
        # HCCL pairs what the ranks send by order alone, and some layers do not wait for each other.
        # So every message waits for the one that was built before it: the order is that of the
        # Python code, whatever the graph's compiler makes of it. Horovod pairs by name, and sends
        # as one message what layers that do not wait for each other have ready: five branches then
        # took a fifth of the time (two CPU ranks, forward and backward).
        with tf.control_dependencies(last if device.pairs_by_order else []):
            last[:] = [device.allreduce_sum(tensor, name)]
        return last[0]

    def batch_norm(x, name, decay, epsilon, training, gamma=None, axis=3):
        if axis != 3:
            raise ValueError('synchronised batch norm takes channels_last only')
        if not training:
            return local(x, name, decay, epsilon, training, gamma)
        channels, zeros, ones = x.shape[-1].value, tf.zeros_initializer(), tf.ones_initializer()
        with tf.variable_scope(name):  # as tf.layers makes them, in its order
            scale = tf.get_variable('gamma', [channels], initializer=gamma or ones)
            beta = tf.get_variable('beta', [channels], initializer=zeros)
            moving_mean, moving_variance = (
                tf.get_variable(key, [channels], initializer=initial, trainable=False)
                for key, initial in (('moving_mean', zeros), ('moving_variance', ones))
            )
            count = device.size * tf.cast(tf.size(x) // channels, tf.float32)
            y, mean, variance = _normalise(device, allreduce_sum, x, scale, beta, count, epsilon)
            unbiased = variance * (count / tf.maximum(count - 1.0, 1.0))
            for moving, value in ((moving_mean, mean), (moving_variance, unbiased)):
                update = tf.assign_sub(moving, (moving - value) * (1.0 - decay)).op
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
        return y

    return batch_norm


def _normalise(device: Device, allreduce_sum: Callable, x, gamma, beta, count, epsilon: float):
    """(y, mean, variance) over the `count` values that each channel has on all ranks."""

    def centred(values, mean):
        return tf.cast(values, tf.float32) - mean

    @tf.custom_gradient
    def normalise(x, gamma, beta):
        with device.full_precision():
            # Each rank's two-pass moments travel in a row of their own and are combined as Chan et
            # al. (1979) do. One sum of x and x^2 would lose the variance of channels that are far
            # from 0.
            moments = tf.stack([tf.concat(tf.nn.moments(tf.cast(x, tf.float32), [0, 1, 2]), 0)])
            paddings = [[device.rank, device.size - 1 - device.rank], [0, 0]]
            rows = allreduce_sum(tf.pad(moments, paddings), 'moments')
            means, variances = tf.split(rows, 2, axis=1)
            mean = tf.reduce_mean(means, 0)
            variance = tf.reduce_mean(variances + tf.squared_difference(means, mean), 0)
            scale = tf.rsqrt(variance + epsilon)
            y = tf.cast(centred(x, mean) * (scale * gamma) + beta, x.dtype)

        def gradient(to_y, *_):
            with device.full_precision():
                to_y, normal = tf.cast(to_y, tf.float32), centred(x, mean) * scale
                to_beta = tf.reduce_sum(to_y, [0, 1, 2])
                to_gamma = tf.reduce_sum(to_y * normal, [0, 1, 2])
                # Every rank's loss depends on this rank's x through mean and variance: hence the
                # sums over all ranks. gamma and beta are copies, one on each rank, whose gradients
                # the optimizer averages.
                sums = allreduce_sum(tf.concat([to_beta, to_gamma], 0), 'gradients')
                mean_to_y, mean_to_scale = tf.split(sums / count, 2)
                to_x = (to_y - mean_to_y - normal * mean_to_scale) * (scale * gamma)
            return tf.cast(to_x, x.dtype), to_gamma, to_beta

        return (y, mean, variance), gradient

    return normalise(x, gamma, beta)
