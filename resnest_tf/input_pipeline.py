"""Cityscapes records -> batches: scaling, cropping, photometric distortion, normalisation, and the
published port's pipeline.

Host: uint8 RGB; of a training image only the pixels that its crop shows are worked on. Device:
normalisation, so that uint8 crosses to it.
"""

import concurrent.futures
import os
from typing import Callable, Dict, List, Sequence, Tuple

import cv2
import numpy as np
import tensorflow as tf

from common.data import images, records
from common.errors import UserError
from resnest_tf.cityscapes import IGNORE

# ImageNet's statistics, RGB, in units of 0..255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
# Columns of the draws.
SCALE, TOP, LEFT, FLIP, BRIGHTNESS, CONTRAST, CONTRAST_LAST, SATURATION, HUE = range(9)
DRAWS = 9
_LEVELS = np.arange(256.0)

cv2.setNumThreads(
    0
)  # images are worked on side by side; threads within one would get in each other's way
_POOL_SIZE = min(8, len(os.sched_getaffinity(0)))
_POOL = concurrent.futures.ThreadPoolExecutor(_POOL_SIZE)


# ---- records -------------------------------------------------------------------------------------

_SCHEMA = {
    **{key: tf.io.FixedLenFeature([], tf.string, '') for key in ('image', 'label', 'filename')},
    **{key: tf.io.FixedLenFeature([], tf.int64, -1) for key in ('height', 'width', 'channels')},
}


@tf.autograph.experimental.do_not_convert  # or `load` would run rewritten, and slower
def parse(batch: Dict[str, tf.Tensor], cfg, training: bool) -> Dict[str, tf.Tensor]:
    """A batch of serialised examples -> image uint8 RGB [B,H,W,3], label uint8 [B,H,W] (255: not
    scored), mask; evaluation: id int32 [B].

    H x W is the crop's size in training and cfg.image_height x cfg.image_width in evaluation. The
    records are ours or the published port's, which have no `filename`. UserError (see
    records.user_error) names the record that cannot be used.
    """
    batch_size = batch['mask'].shape.as_list()[0]
    size = (cfg.crop_height, cfg.crop_width) if training else (cfg.image_height, cfg.image_width)
    found = tf.io.parse_example(batch['record'], _SCHEMA)

    def load(photos, labels, heights, widths, channels, names, ids, draws):
        pixels, classes = (
            images.aligned((batch_size,) + size + (3,)),
            images.aligned((batch_size,) + size),
        )

        def fill(part: np.ndarray) -> None:
            for i in part:
                try:
                    image, label = _arrays(
                        photos[i], labels[i], (heights[i], widths[i], channels[i]), cfg
                    )
                    if training:
                        random_crop(image, label, draws[i].tolist(), cfg, pixels[i], classes[i])
                    elif label.shape != size:
                        raise ValueError(
                            'it is %d x %d (height x width), evaluation takes %d x %d; give'
                            ' --image_height %d --image_width %d'
                            % (label.shape + size + label.shape)
                        )
                    else:
                        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=pixels[i])
                        classes[i] = label
                except ValueError as error:
                    raise UserError(
                        '--data_path %s: record %d (%s): %s'
                        % (
                            cfg.data_path,
                            ids[i],
                            names[i].decode('utf-8', 'replace') or 'without a name',
                            error,
                        )
                    )

        list(_POOL.map(fill, np.array_split(np.arange(batch_size), _POOL_SIZE)))
        return pixels, classes

    pixels, classes = tf.numpy_function(
        load,
        [
            found['image'],
            found['label'],
            found['height'],
            found['width'],
            found['channels'],
            found['filename'],
            batch['id'],
            batch['draws'],
        ],
        [tf.uint8, tf.uint8],
    )
    pixels.set_shape((batch_size,) + size + (3,))
    classes.set_shape((batch_size,) + size)
    features = {'image': pixels, 'label': classes, 'mask': batch['mask']}
    if not training:
        features['id'] = tf.cast(batch['id'], tf.int32)
    return features


def _arrays(
    image: bytes, label: bytes, shape: Tuple[int, int, int], cfg
) -> Tuple[np.ndarray, np.ndarray]:
    """The contents of a record -> views of them, BGR [H,W,3] and classes [H,W]. ValueError says
    what is wrong with them.
    """
    height, width, channels = shape
    if min(height, width) < 1 or channels != 3:
        raise ValueError(
            'it has height %d, width %d and %d channels (-1: none given), an image has 3 channels;'
            ' give Cityscapes records' % shape
        )
    for what, data, size in (
        ('image', image, height * width * 3),
        ('label', label, height * width),
    ):
        if len(data) != size:
            raise ValueError(
                'its %s has %d bytes, %d x %d pixels are %d; prepare the records again'
                % (what, len(data), height, width, size)
            )
    classes = np.frombuffer(label, np.uint8).reshape(height, width)
    wrong = cv2.inRange(classes, cfg.num_classes, IGNORE - 1)
    if cv2.countNonZero(wrong):
        raise ValueError(
            'it has label %d; with --num_classes %d legal are 0 to %d, and %d for what is not'
            ' scored; are these trainIds?'
            % (classes[wrong > 0][0], cfg.num_classes, cfg.num_classes - 1, IGNORE)
        )
    return np.frombuffer(image, np.uint8).reshape(height, width, 3), classes


# ---- training ------------------------------------------------------------------------------------


def window(length: int, crop: int, scale: float, draw: float) -> Tuple[int, int, int, int]:
    """One axis of a crop of a scaled image: the first of the source pixels it shows, their number,
    and the part of the crop they fill.
    """
    count = max(1, int(round(crop / scale)))
    if count <= length:
        return int(draw * (length - count + 1)), count, 0, crop
    filled = max(1, int(round(length * scale)))
    return 0, length, int(draw * (crop - filled + 1)), filled


def random_crop(
    image: np.ndarray,
    label: np.ndarray,
    draws: Sequence[float],
    cfg,
    pixels: np.ndarray,
    classes: np.ndarray,
) -> None:
    """Fills pixels, uint8 RGB [h,w,3], and classes, uint8 [h,w], from a BGR image and its label;
    `draws` as in DRAWS.

    As if the image were scaled by a factor uniform in [min_scale, max_scale] (bilinearly, the label
    to the nearest pixel), cropped at a uniform place, mirrored and distorted. But a crop starts and
    ends between two source pixels, so that no others are read: its ends are up to half a source
    pixel from where the factor puts them. An image that is then smaller than the crop lies whole in
    it at a uniform place; around it are the mean colour, which normalisation makes 0, and the label
    255.
    """
    scale = cfg.min_scale + draws[SCALE] * (cfg.max_scale - cfg.min_scale)
    y, height, top, filled_height = window(image.shape[0], cfg.crop_height, scale, draws[TOP])
    x, width, left, filled_width = window(image.shape[1], cfg.crop_width, scale, draws[LEFT])
    size = filled_width, filled_height
    crop = cv2.resize(image[y : y + height, x : x + width], size, interpolation=cv2.INTER_LINEAR)
    # Not INTER_NEAREST, whose places are half a pixel of the crop further left and up than
    # INTER_LINEAR's.
    crop_label = cv2.resize(
        label[y : y + height, x : x + width], size, interpolation=cv2.INTER_NEAREST_EXACT
    )
    crop = distort(crop, draws) if cfg.photometric else cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)
    if cfg.flip and draws[FLIP] < 0.5:
        crop, crop_label, left = (
            cv2.flip(crop, 1),
            cv2.flip(crop_label, 1),
            cfg.crop_width - left - filled_width,
        )
    if size != (cfg.crop_width, cfg.crop_height):
        pixels[:], classes[:] = np.rint(MEAN), IGNORE
    pixels[top : top + filled_height, left : left + filled_width] = crop
    classes[top : top + filled_height, left : left + filled_width] = crop_label


def distort(pixels: np.ndarray, draws: Sequence[float]) -> np.ndarray:
    """uint8 BGR [h,w,3] -> RGB in other colours, as mmsegmentation's PhotoMetricDistortion, in its
    order:

    brightness +-32, contrast x 0.5 to 1.5, saturation x 0.5 to 1.5, hue +-18 of 180 (2 degrees
    each); for one image in two contrast comes last instead. Each is done to one image in two: a
    draw below 1/2 leaves it out. Every step rounds to 0..255.
    """

    def amount(column: int, low: float, high: float, none: float) -> float:
        return low + (2 * draws[column] - 1) * (high - low) if draws[column] >= 0.5 else none

    contrast, contrast_last = amount(CONTRAST, 0.5, 1.5, 1.0), draws[CONTRAST_LAST] >= 0.5
    saturation, hue = amount(SATURATION, 0.5, 1.5, 1.0), round(amount(HUE, -18, 18, 0))
    table = _levels(_LEVELS + amount(BRIGHTNESS, -32, 32, 0))
    pixels = _look_up(pixels, table if contrast_last else _levels(table * contrast))
    if hue or saturation != 1:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
        hsv = _look_up(
            hsv, np.stack([(_LEVELS + hue) % 180, _levels(_LEVELS * saturation), _LEVELS], 1)
        )
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    else:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return _look_up(pixels, _levels(_LEVELS * contrast)) if contrast_last else pixels


def _levels(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255)


def _look_up(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """table[pixels]; table: [256] for all channels or [256,3] for each."""
    return cv2.LUT(pixels, table.astype(np.uint8)[None]) if (table.T != _LEVELS).any() else pixels


# ---- on the device -------------------------------------------------------------------------------


def normalize(images: tf.Tensor, cfg) -> tf.Tensor:
    """RGB in 0..255, uint8 or float [B,H,W,3] -> float32, less the mean, by the deviation; for
    variant 'port', which learnt from BGR, in BGR.
    """
    images = tf.cast(images, tf.float32)
    mean, deviation = constants(cfg)
    return (
        (images[..., ::-1] if cfg.variant == 'port' else images) - tf.constant(mean)
    ) / tf.constant(deviation)


def constants(cfg) -> Tuple[List[float], List[float]]:
    """(mean, deviation) of the channels in units of 0..255, in the order in which `normalize` gives
    them.
    """
    order = -1 if cfg.variant == 'port' else 1
    return list(MEAN[::order]), list(STD[::order])


# ---- what the pipeline is measured against -------------------------------------------------------


def baselines(folder: records.Folder, cfg) -> Dict[str, Callable[[], tf.data.Dataset]]:
    """For common.benchmark: `port` is the published port's pipeline on the same records: one size,
    all in float32 on the host.
    """

    def one(record):
        found = tf.io.parse_single_example(record, _SCHEMA)
        shape = tf.stack([found['height'], found['width'], found['channels']])
        image = tf.reshape(tf.decode_raw(found['image'], tf.uint8), shape)
        label = tf.reshape(tf.decode_raw(found['label'], tf.uint8), shape[:2])
        both = tf.random_crop(
            tf.concat([image, label[..., None]], 2), [cfg.crop_height, cfg.crop_width, 4]
        )
        both = tf.image.random_flip_left_right(tf.cast(both, tf.float32))
        image = tf.image.random_brightness(both[..., :3] / 255.0, 32 / 255)
        image = tf.image.random_contrast(tf.image.random_saturation(image, 0.5, 1.5), 0.5, 1.5)
        image = (image - np.float32(MEAN[::-1]) / 255) / (np.float32(STD[::-1]) / 255)
        return {'image': image, 'label': tf.cast(both[..., 3], tf.int32)}

    def port():
        return (
            tf.data.TFRecordDataset([str(file) for file in folder.files])
            .repeat()
            .map(one, 2)
            .batch(cfg.batch_size, True)
            .prefetch(2)
        )

    return {'port': port}
