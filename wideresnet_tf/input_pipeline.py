"""CIFAR records -> batches. Host: uint8 images, decoded once and kept in memory (150 MB), cropped
and mirrored. Device: colour, Cutout, mixup and normalisation.
"""

import functools
import threading
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np
import tensorflow as tf

from common.data import augment as augmentation
from common.data import images, sampling
from common.data.records import Folder

SHAPE = (32, 32, 3)
# --normalization: means and deviations of the channels, of pixels in 0..255.
STATISTICS = {
    # Both data sets in the authors' code.
    'authors': ([125.3, 123.0, 113.9], [63.0, 62.1, 66.7]),
    # The MindSpore model zoo applies its constants, which belong to 0..1, to 0..255.
    'mindspore': ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
    # Widespread: the deviations are means over those of each image, not of all pixels.
    'cifar10': ([125.307, 122.961, 113.8575], [51.5865, 50.847, 51.255]),
    'cifar100': ([129.3105, 124.1085, 112.404], [68.2125, 65.4075, 70.4055]),
    'half': ([127.5] * 3, [127.5] * 3),
}


class Draws(NamedTuple):
    """The uniform numbers [B] that augment images, in the order of the transformations."""

    crop_y: np.ndarray
    crop_x: np.ndarray
    flip: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    cutout_y: np.ndarray
    cutout_x: np.ndarray
    mixup: np.ndarray


DRAWS = len(Draws._fields)


def parse(batch: Dict[str, tf.Tensor], folder: Folder, cfg, training: bool) -> Dict[str, tf.Tensor]:
    """Turns a batch of sampling.batches into image uint8 [B,32,32,3], label int32 [B], mask; in
    training also what `augment` needs: draws float32 [B,DRAWS], mixup float32 [B].

    The records have the published port's schema. UserError (see records.user_error) names a record
    that is not this network's.
    """
    outputs = {'image': (tf.uint8, SHAPE), 'label': (tf.int32, ())}
    if training and cfg.mixup:
        outputs['mixup'] = (tf.float32, ())
    load = functools.partial(_load, folder, cfg, training)
    features = sampling.load(load, batch, training, outputs)
    if training and (cfg.brightness or cfg.contrast or cfg.cutout):
        features['draws'] = batch['draws']
    return features


def _load(folder: Folder, cfg, training: bool, ids: np.ndarray, draws: np.ndarray):
    with _decoding:  # or several threads would decode the first batch's folder
        images, labels = _decoded(folder, cfg.label, cfg.num_classes)
    images, labels = images[ids], labels[ids]
    if not training:
        return images, labels
    drawn = Draws(*draws.T)
    if cfg.crop_pad or cfg.flip:
        images = augmentation.pad_crop_flip(
            images, drawn.crop_y, drawn.crop_x, drawn.flip, cfg.crop_pad, cfg.flip, cfg.crop_padding
        )
    share = [augmentation.mixup_share(drawn.mixup, cfg.mixup)] if cfg.mixup else []
    return (images, labels, *share)


_decoding = threading.Lock()


@functools.lru_cache(maxsize=2)  # of training and of evaluation
def _decoded(folder: Folder, label: str, num_classes: int) -> Tuple[np.ndarray, np.ndarray]:
    """All records of a folder: images uint8 [N,32,32,3] and labels int32 [N]."""
    images = np.empty((folder.count,) + SHAPE, np.uint8)
    labels = np.empty(folder.count, np.int32)
    size = images[0].size
    for start in range(0, folder.count, 1000):  # not all at once, to take the memory once
        ids = range(start, min(start + 1000, folder.count))
        for id, example in zip(ids, folder.examples(ids, {'image': bytes, label: int})):
            image, number = example['image'] or b'', example[label]
            if len(image) != size:
                why = 'its image has %d bytes, not the %d of a 32x32 RGB image; give CIFAR records'
                raise folder.record_error(id, why % (len(image), size))
            if number is None or not 0 <= number < num_classes:
                stated = 'no ' + label if number is None else '%s %d' % (label, number)
                why = 'it has %s; legal with --num_classes %d are 0 to %d'
                raise folder.record_error(id, why % (stated, num_classes, num_classes - 1))
            images[id] = np.frombuffer(image, np.uint8).reshape(SHAPE)
            labels[id] = number
    return images, labels


def augment(features: Dict[str, tf.Tensor], cfg) -> Dict[str, tf.Tensor]:
    """Applies colour, Cutout and mixup to float32 images in 0..255, on the device."""
    images = features['image']
    drawn = Draws(*tf.unstack(features['draws'], axis=1)) if 'draws' in features else None
    if cfg.brightness:
        images = augmentation.brightness(images, drawn.brightness, cfg.brightness)
    if cfg.contrast:
        limits = 1.0 - cfg.contrast, 1.0 + cfg.contrast
        images = augmentation.contrast(images, drawn.contrast, *limits)
    if cfg.cutout:
        images = augmentation.cutout(
            images, drawn.cutout_y, drawn.cutout_x, cfg.cutout, _mean(images, cfg)
        )
    features = dict(features, image=images)
    if cfg.mixup:
        features['image'], features['label_b'] = augmentation.mixup(
            images, features['label'], features['mixup']
        )
    return features


def _mean(images: tf.Tensor, cfg) -> tf.Tensor:
    """The pixel value that normalisation maps to 0."""
    if cfg.normalization == 'per_image':
        return tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return tf.constant(STATISTICS[cfg.normalization][0])


def normalize(images: tf.Tensor, cfg) -> tf.Tensor:
    """Turns [B,32,32,3] in 0..255 into the network's float32 input."""
    images = tf.cast(images, tf.float32)
    if cfg.normalization == 'half':
        return images / 127.5 - 1.0
    if cfg.normalization == 'per_image':  # as tf.image.per_image_standardization
        centred = images - _mean(images, cfg)
        deviation = tf.sqrt(tf.reduce_mean(tf.square(centred), axis=[1, 2, 3], keepdims=True))
        return centred / tf.maximum(deviation, 1.0 / np.prod(SHAPE) ** 0.5)
    mean, std = STATISTICS[cfg.normalization]
    return (images - tf.constant(mean)) / tf.constant(std)


def channel_statistics(cfg) -> Optional[Tuple[List[float], List[float]]]:
    """Returns (mean, deviation) of the channels, in units of 0..255, if `normalize` is (x - mean) /
    deviation, else None (per_image).
    """
    return STATISTICS.get(cfg.normalization)


def baselines(folder: Folder, cfg) -> Dict[str, Callable[[], tf.data.Dataset]]:
    """Returns `port`, the published port's pipeline, which crops and mirrors image by image."""
    schema = {
        'image': tf.io.FixedLenFeature([], tf.string),
        cfg.label: tf.io.FixedLenFeature([], tf.int64),
    }

    def parse_record(record):
        features = tf.io.parse_single_example(record, schema)
        image = tf.reshape(tf.decode_raw(features['image'], tf.uint8), SHAPE)
        side = SHAPE[0] + 2 * cfg.crop_pad
        image = tf.random_crop(tf.image.resize_image_with_crop_or_pad(image, side, side), SHAPE)
        image = tf.image.random_flip_left_right(image) if cfg.flip else image
        return {'image': image, 'label': tf.cast(features[cfg.label], tf.int32)}

    return {'port': lambda: sampling.stream(folder, parse_record, cfg.batch_size, 2)}


def class_names(metadata: Dict, cfg) -> List[str]:
    """Returns the names of the classes, of which a dataset.json has the fine ones; else []."""
    return list(metadata.get('classes', [])) if cfg.label == 'fine_label' else []


def decode(data: bytes, cfg) -> np.ndarray:
    """Returns an image file as evaluation sees it, uint8 [32,32,3]; ValueError if it is not one."""
    return cv2.resize(images.decode(data), SHAPE[:2], interpolation=cv2.INTER_AREA)
