"""ImageNet records -> batches. Host: JPEG -> uint8 image of the input size; of a training image
only the crop is decoded, and at half its size or less where it is that much too large. Device:
colour and normalisation.
"""

import functools
import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
import tensorflow as tf
from PIL import Image

from common import host
from common.data import images, sampling
from common.data.records import Folder
from common.errors import UserError
from xception_tf import decoding

ATTEMPTS = 10  # at a random crop that lies inside the image
ASPECT = 4 / 3  # a random crop is at most this much wider than high, or higher than wide


class Draws(NamedTuple):
    """The uniform numbers that augment an image, in the order of the transformations."""

    areas: Sequence[float]  # of each attempt
    aspects: Sequence[float]
    top: float
    left: float
    flip: float
    brightness: float
    contrast: float
    saturation: float

    @classmethod
    def of(cls, row: Sequence[float]) -> 'Draws':
        """Names a row of `DRAWS` numbers."""
        return cls(row[:ATTEMPTS], row[ATTEMPTS : 2 * ATTEMPTS], *row[2 * ATTEMPTS :])


COLOURS = 3  # the last draws: of brightness, contrast and saturation
DRAWS = 2 * ATTEMPTS + len(Draws._fields) - 2
_SLIM = {'image/encoded': bytes, 'image/class/label': int, 'image/filename': bytes}
_PORT = {'image': bytes, 'label': int, 'filename': bytes}


def parse(batch: Dict[str, tf.Tensor], folder: Folder, cfg, training: bool) -> Dict[str, tf.Tensor]:
    """Turns a batch of sampling.batches into image uint8 [B,S,S,3], label int32 [B] from 0, mask;
    draws [B,3] if `augment` needs them.

    Reads TF-slim's schema, whose labels start at 1 unless cfg.label_offset or dataset.json says
    otherwise, and the published port's, from 0. UserError (see records.user_error) names a record
    that cannot be used.
    """
    outputs = {'image': (tf.uint8, cfg.input_shape), 'label': (tf.int32, ())}
    load = functools.partial(_load, folder, cfg, training, _label_offset(folder, cfg))
    features = sampling.load(load, batch, training, outputs)
    if training and cfg.color_jitter:
        features['draws'] = batch['draws'][:, -COLOURS:]
    return features


def _label_offset(folder: Folder, cfg) -> Optional[int]:
    """The first label, None if only the schema of a record tells."""
    stated = folder.metadata.get('label_offset', cfg.label_offset)
    if cfg.label_offset not in (None, stated):
        raise UserError(
            'label_offset: found %d, but the labels in %s start at %d (its dataset.json says so); '
            'use folders whose labels start alike' % (cfg.label_offset, folder.path, stated)
        )
    return stated


def _load(
    folder: Folder, cfg, training: bool, offset: Optional[int], ids: np.ndarray, draws: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    examples = folder.examples(ids, {**_SLIM, **_PORT})
    pixels, labels = images.aligned((len(ids), *cfg.input_shape)), np.empty(len(ids), np.int32)

    def fill(i: int) -> None:
        example = examples[i]
        is_slim = any(example[key] is not None for key in ('image/encoded', 'image/class/label'))
        jpeg, label, name = (example[key] for key in (_SLIM if is_slim else _PORT))
        jpeg, name = jpeg or b'', (name or b'').decode('utf-8', 'replace')
        first = int(is_slim) if offset is None else offset
        last = first + cfg.num_classes - 1
        if label is None or not first <= label <= last:
            stated = 'no label' if label is None else 'label %d' % label
            why = 'it has %s; with --num_classes %d and --label_offset %d legal are %d to %d'
            why %= (stated, cfg.num_classes, first, first, last)
            raise folder.record_error(ids[i], why, name)
        labels[i] = label - first
        try:
            if training and cfg.train_preprocessing == 'random_resized_crop':
                pixels[i] = random_resized_crop(jpeg, Draws.of(draws[i].tolist()), cfg)
            else:
                method = cfg.train_preprocessing if training else cfg.eval_preprocessing
                pixels[i] = _preprocess(jpeg, cfg.image_size, method)
        except ValueError as error:
            why = '%s; replace the image and prepare the records again' % error
            raise folder.record_error(ids[i], why, name)

    images.for_each(fill, len(ids))
    return pixels, labels


# ---- training ------------------------------------------------------------------------------------


def random_window(height: int, width: int, draws: Draws, min_area: float) -> decoding.Window:
    """Returns a random crop: share of the area uniform in [min_area, 1), logarithm of the aspect
    uniform; of ten crops the first that fits, else the centre, cut to the nearest legal aspect.

    As torchvision's RandomResizedCrop and MindSpore's RandomCropDecodeResize.
    """
    for area, aspect in zip(draws.areas, draws.aspects):
        area = height * width * (min_area + (1 - min_area) * area)
        aspect = ASPECT ** (2 * aspect - 1)
        crop_height = int(round(math.sqrt(area / aspect)))
        crop_width = int(round(math.sqrt(area * aspect)))
        if 0 < crop_height <= height and 0 < crop_width <= width:
            top = int(draws.top * (height - crop_height + 1))
            left = int(draws.left * (width - crop_width + 1))
            return top, left, crop_height, crop_width
    crop_height = min(height, int(round(width * ASPECT)))
    crop_width = min(width, int(round(height * ASPECT)))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def random_resized_crop(data: bytes, draws: Draws, cfg) -> np.ndarray:
    """Returns a random crop of an image file, resized and mirrored, uint8 [S,S,3]; ValueError for
    what is not an image.
    """
    size = cfg.image_size
    pixels = decoding.decode(
        data, lambda height, width: random_window(height, width, draws, cfg.min_area), size
    )
    too_large = min(pixels.shape[:2]) >= 2 * size  # not a JPEG
    pixels = cv2.resize(
        pixels, (size, size), interpolation=cv2.INTER_AREA if too_large else cv2.INTER_LINEAR
    )
    return cv2.flip(pixels, 1) if cfg.flip and draws.flip < 0.5 else pixels


def augment(features: Dict[str, tf.Tensor], cfg) -> Dict[str, tf.Tensor]:
    """Changes brightness, contrast and saturation of float32 images in 0..255, in this order, each
    by a factor within 1 +- cfg.color_jitter.
    """
    if not cfg.color_jitter:
        return features
    pixels = features['image']
    black = tf.zeros_like(pixels)
    degenerate_functions = (
        lambda x: black,
        lambda x: tf.reduce_mean(_grey(x), axis=[1, 2], keepdims=True),
        _grey,
    )
    factors = 1.0 + cfg.color_jitter * (2.0 * features['draws'][:, :, None, None, None] - 1.0)
    for factor, degenerate_of in zip(tf.unstack(factors, axis=1), degenerate_functions):
        degenerate = degenerate_of(pixels)
        pixels = tf.clip_by_value(degenerate + factor * (pixels - degenerate), 0.0, 255.0)
    return dict(features, image=pixels)


def _grey(pixels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(pixels * [0.299, 0.587, 0.114], axis=3, keepdims=True)


# ---- evaluation ----------------------------------------------------------------------------------


def decode(data: bytes, cfg) -> np.ndarray:
    """Returns an image file as evaluation sees it, uint8 [S,S,3]; ValueError if it is not one."""
    return _preprocess(data, cfg.image_size, cfg.eval_preprocessing)


def _preprocess(data: bytes, size: int, method: str) -> np.ndarray:
    if method == 'plain':
        pixels = decoding.decode(data, lambda height, width: (0, 0, height, width))
        # It rounds, which moves a value by 0.5 of 255 at most; tf.round is far slower.
        return cv2.convertScaleAbs(decoding.uncentred_resizer(size)(pixels))
    pixels = images.decode(data)
    shorter = min(pixels.shape[:2])
    short = size * 320 // 299 if method == 'resize_crop' else math.floor(size / 0.8975)
    height, width = (length * short // shorter for length in pixels.shape[:2])
    if method == 'resize_crop':
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        top, left = (height - size) // 2, (width - size) // 2
    else:
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.BICUBIC))
        top, left = int(round((height - size) / 2)), int(round((width - size) / 2))
    return pixels[top : top + size, left : left + size]


def normalize(images: tf.Tensor, cfg) -> tf.Tensor:
    """Turns 0..255 into float32 in -1..1."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def channel_statistics(cfg) -> Tuple[List[float], List[float]]:
    """Returns (mean, deviation) of the channels for `normalize`."""
    return [127.5] * 3, [127.5] * 3


def class_names(metadata: Dict[str, Any], cfg) -> List[str]:
    """Returns the names of the classes by a dataset.json, [] if it does not say."""
    return list(metadata.get('classes', []))


# ---- what the pipeline is measured against -------------------------------------------------------


def baselines(folder: Folder, cfg) -> Dict[str, Callable[[], tf.data.Dataset]]:
    """Returns `port`, the published port's pipeline, and `decode`, which only decodes whole JPEGs
    on all cores.
    """

    def pipeline(postprocess: Callable[[tf.Tensor], tf.Tensor], calls: int) -> tf.data.Dataset:
        def parse_record(record):
            text = tf.io.FixedLenFeature([], tf.string, '')
            features = tf.io.parse_single_example(record, {'image/encoded': text, 'image': text})
            pixels = tf.image.decode_jpeg(features['image/encoded'] + features['image'], channels=3)
            return {'label': postprocess(pixels)}

        return sampling.stream(folder, parse_record, cfg.batch_size, calls)

    def resized(pixels: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(pixels, tf.float32)
        return normalize(tf.image.resize_images(pixels, cfg.input_shape[:2]), cfg)

    return {
        'port': lambda: pipeline(resized, 2),
        'decode': lambda: pipeline(tf.shape, host.cores()),
    }
