"""Builds ResNeSt's graphs for tests."""

import contextlib
import pathlib

import numpy as np
import tensorflow as tf

from common.devices import cpu_gradients
from resnest_tf import backbone, model, model_mmsegmentation, model_port
from resnest_tf.config import ResNeStConfig

DATA = pathlib.Path(__file__).resolve().parent.parent / 'data'
TINY = dict(depth=14, width=1 / 32, num_classes=3)
MODELS = {'paper': model, 'mmsegmentation': model_mmsegmentation, 'port': model_port}


def deeplab(images, *, training=False, aux_head=True, dropout=None, batch_norm=None, **fields):
    """Returns (logits, auxiliary logits or None); fields: of the configuration.

    The auxiliary head without training is that of training on frozen batch norm.
    """
    if aux_head and not training:
        training, fields = True, dict(fields, freeze_bn=True)
    cfg = ResNeStConfig(aux_weight=0.4 if aux_head else 0.0, **fields)
    with cpu_gradients.gradients() if training else contextlib.nullcontext():
        outputs = MODELS[cfg.variant].build(images, cfg, training, dropout, batch_norm)
    return outputs if training else (outputs, None)


def resnest(images, *, depth=50, width=1.0, num_classes=None, **options):
    """Returns the backbone's stages and, of num_classes, logits of the last one's mean."""
    net = backbone.network(width, update_bn=False)
    stages = backbone.stages(net, images, depth, **options)
    if not num_classes:
        return stages, None
    return stages, tf.layers.dense(tf.reduce_mean(stages[3], [1, 2]), num_classes, name='fc')


def build(height=48, width_=64, batch=2, **options):
    images = tf.placeholder(tf.float32, [batch, height, width_, 3], name='inputx')
    return (images,) + deeplab(images, **options)


def close(got, expected, tolerance=1e-4):
    assert got.shape == expected.shape
    assert np.ptp(expected) > 1e-2 * np.abs(expected).max()
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()
