"""Builds WideResNet's graphs for tests."""

import pathlib

import numpy as np
import tensorflow as tf

from wideresnet_tf import model, model_mindspore, model_port
from wideresnet_tf.config import WideResNetConfig

DATA = pathlib.Path(__file__).resolve().parent.parent / 'data'
VARIANTS = {'paper': model, 'port': model_port, 'mindspore': model_mindspore}
WIDTH_1 = dict(widen_factor=1, num_classes=10)


def build(batch=2, variant='paper', training=False, dropout=None, **options):
    images = tf.placeholder(tf.float32, [batch, 32, 32, 3], name='inputx')
    cfg = WideResNetConfig(variant=variant, **options)
    return images, VARIANTS[variant].build(images, cfg, training, dropout)


def close(found, expected, tolerance=1e-4):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
