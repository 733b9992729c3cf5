"""Digits: records -> batches of uint8 images, normalised on the device."""

import numpy as np
import tensorflow as tf

from common.data import sampling

DRAWS = 0  # no augmentation


def parse(batch, folder, cfg, training):
    """A batch of record numbers -> image uint8 [B, 16, 16, 3], label int32 [B], mask."""

    def load(ids, draws):
        found = folder.examples(ids, {'image': bytes, 'label': int})
        images = [np.frombuffer(one['image'], np.uint8).reshape(cfg.input_shape) for one in found]
        return np.stack(images), np.array([one['label'] for one in found], np.int32)

    outputs = {'image': (tf.uint8, cfg.input_shape), 'label': (tf.int32, ())}
    return sampling.load(load, batch, training, outputs)


def augment(features, cfg):
    return features


def normalize(images, cfg):
    """0..255 -> -1..1, float32."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def channel_statistics(cfg):
    """(mean, deviation) of the channels that `normalize` applies, for AIPP."""
    return [127.5] * 3, [127.5] * 3


def class_names(metadata, cfg):
    return list(metadata.get('classes', []))
