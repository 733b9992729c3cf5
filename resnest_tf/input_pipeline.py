"""Cityscapes records -> batches. Host: uint8, in the order of channels that the network was trained
in; of a training image only the pixels that its crop shows are scaled and distorted. Device:
normalisation.
"""

import functools
import math
from typing import Callable, Dict, List, NamedTuple, Tuple

import cv2
import numpy as np
import tensorflow as tf

from common.data import images, sampling
from common.data.records import Folder
from resnest_tf.cityscapes import IGNORE
from resnest_tf.rasters import FEATURES, Raster, Rasters

# ImageNet's statistics, RGB, in units of 0..255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
_LEVELS = np.arange(256.0)


class Draws(NamedTuple):
    """The uniform numbers that augment an image, in the order of the transformations."""

    scale: float
    top: float
    left: float
    flip: float
    brightness: float
    contrast: float
    contrast_last: float
    saturation: float
    hue: float


DRAWS = len(Draws._fields)


# ---- records -------------------------------------------------------------------------------------


def parse(batch: Dict[str, tf.Tensor], folder: Folder, cfg, training: bool) -> Dict[str, tf.Tensor]:
    """Turns a batch of sampling.batches into image uint8 [B,H,W,3], label uint8 [B,H,W] (255: not
    scored), mask; in evaluation also id int32 [B].

    H x W is the crop's size in training and cfg.image_height x cfg.image_width in evaluation; the
    channels are in RGB order, or BGR if `cfg.bgr`. The records are ours or the published port's,
    which have no `filename`. UserError names a record that cannot be used.
    """
    size = (cfg.crop_height, cfg.crop_width) if training else (cfg.image_height, cfg.image_width)
    outputs = {'image': (tf.uint8, (*size, 3)), 'label': (tf.uint8, size)}
    rasters = Rasters(folder, cfg.num_classes, cfg.verify_records)
    load = functools.partial(_load, rasters, cfg, training, size)
    return sampling.load(load, batch, training, outputs)


def _load(
    rasters: Rasters, cfg, training: bool, size: Tuple[int, int], ids: np.ndarray, draws: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    pixels = images.aligned((len(ids),) + size + (3,))
    classes = images.aligned((len(ids),) + size)

    def fill(i: int) -> None:
        raster = rasters[ids[i]]
        try:
            if training:
                random_crop(raster, Draws(*draws[i].tolist()), cfg, pixels[i], classes[i])
            else:
                _whole_image(raster, cfg, pixels[i], classes[i])
        except (OSError, ValueError) as error:
            raise rasters.folder.record_error(ids[i], error)

    images.for_each(fill, len(ids))
    return pixels, classes


def _whole_image(raster: Raster, cfg, pixels: np.ndarray, classes: np.ndarray) -> None:
    shape, expected = (raster.height, raster.width), classes.shape
    if shape != expected:
        raise ValueError(
            'it is %d x %d (height x width), evaluation takes %d x %d; give --image_height %d'
            ' --image_width %d' % (shape + expected + shape)
        )
    pixels[:] = _ordered(raster.image(0, raster.height), cfg)
    classes[:] = raster.label(0, raster.height)


def _ordered(bgr: np.ndarray, cfg) -> np.ndarray:
    """The channels in the network's order."""
    return bgr if cfg.bgr else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


# ---- training ------------------------------------------------------------------------------------


def window(length: int, crop: int, scale: float, draw: float) -> Tuple[int, int, int]:
    """One axis of a crop of a scaled image: the first source pixel that it shows, their number, and
    how many pixels of the crop they fill.
    """
    count = max(1, int(round(crop / scale)))
    if count <= length:
        return int(draw * (length - count + 1)), count, crop
    return 0, length, max(1, int(round(length * scale)))


def _choose_window(raster: Raster, scale: float, draws: Draws, cfg) -> Tuple[Tuple, Tuple]:
    """A crop's windows of rows and of columns, drawn again up to 10 times while one class fills
    cfg.crop_max_share or more of it (mmsegmentation's cat_max_ratio).
    """
    positions = [[draws.top, draws.left]]
    if cfg.crop_max_share < 1:
        seeds = int(draws.top * 2**24), int(draws.left * 2**24)
        positions += sampling.uniform(*seeds, np.arange(10), 2).tolist()
    for top, left in positions:
        rows = window(raster.height, cfg.crop_height, scale, top)
        columns = window(raster.width, cfg.crop_width, scale, left)
        if cfg.crop_max_share == 1:
            break
        part = raster.label(*rows[:2])[:, columns[0] : columns[0] + columns[1]]
        if _is_varied(part, cfg.crop_max_share):
            break
    return rows, columns


def _is_varied(label: np.ndarray, share: float) -> bool:
    counts = np.bincount(label.ravel(), minlength=256)[:IGNORE]
    return np.count_nonzero(counts) > 1 and counts.max() < share * counts.sum()


def random_crop(raster: Raster, draws: Draws, cfg, pixels: np.ndarray, classes: np.ndarray) -> None:
    """Fills pixels, uint8 [h,w,3], and classes, uint8 [h,w], from a BGR image and its label.

    As if the image were scaled by a factor uniform in [min_scale, max_scale] (bilinearly, the label
    to the nearest pixel), cropped at a uniform place, mirrored and distorted. But a crop takes
    whole source pixels: its ends are up to half of one from where the factor puts them. An image
    that is smaller than the crop is padded on the right and below, with black or with the mean
    colour, which normalisation makes 0, and the label 255.
    """
    scale = cfg.min_scale + draws.scale * (cfg.max_scale - cfg.min_scale)
    (y, height, filled_height), (x, width, filled_width) = _choose_window(raster, scale, draws, cfg)
    size = filled_width, filled_height
    image, label = raster.image(y, height), raster.label(y, height)
    crop = cv2.resize(image[:, x : x + width], size, interpolation=cv2.INTER_LINEAR)
    # INTER_NEAREST would be half a pixel of the crop further left and up than INTER_LINEAR.
    crop_label = cv2.resize(label[:, x : x + width], size, interpolation=cv2.INTER_NEAREST_EXACT)
    crop = _ordered(distort(crop, draws) if cfg.photometric else crop, cfg)
    if cfg.flip and draws.flip < 0.5:
        crop, crop_label = cv2.flip(crop, 1), cv2.flip(crop_label, 1)
    if size != (cfg.crop_width, cfg.crop_height):
        mean = np.rint(channel_statistics(cfg)[0])
        pixels[:], classes[:] = 0 if cfg.crop_fill == 'black' else mean, IGNORE
    pixels[:filled_height, :filled_width] = crop
    classes[:filled_height, :filled_width] = crop_label


def distort(pixels: np.ndarray, draws: Draws) -> np.ndarray:
    """Returns uint8 BGR [h,w,3] in other colours, as mmsegmentation's PhotoMetricDistortion.

    In this order: brightness +-32, contrast x 0.5 to 1.5, saturation x 0.5 to 1.5, hue -18 to 17 of
    180 (2 degrees each); for one image in two contrast comes last. Each is done to one image in
    two, and truncates to whole levels of 0..255.
    """

    def amount(draw: float, low: float, high: float, none: float) -> float:
        return low + (2 * draw - 1) * (high - low) if draw >= 0.5 else none

    contrast, contrast_last = amount(draws.contrast, 0.5, 1.5, 1.0), draws.contrast_last >= 0.5
    saturation = amount(draws.saturation, 0.5, 1.5, 1.0)
    hue = math.floor(amount(draws.hue, -18, 18, 0))  # theirs is a whole number below 18
    table = _levels(_LEVELS + amount(draws.brightness, -32, 32, 0))
    pixels = _look_up(pixels, table if contrast_last else _levels(table * contrast))
    if hue or saturation != 1:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
        table = np.stack([(_LEVELS + hue) % 180, _levels(_LEVELS * saturation), _LEVELS], 1)
        pixels = cv2.cvtColor(_look_up(hsv, table), cv2.COLOR_HSV2BGR)
    return _look_up(pixels, _levels(_LEVELS * contrast)) if contrast_last else pixels


def _levels(values: np.ndarray) -> np.ndarray:
    return np.floor(values.clip(0, 255))


def _look_up(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """table[pixels]; table: [256] for all channels or [256,3] for each."""
    return cv2.LUT(pixels, table.astype(np.uint8)[None]) if (table.T != _LEVELS).any() else pixels


# ---- on the device -------------------------------------------------------------------------------


def augment(features: Dict[str, tf.Tensor], cfg) -> Dict[str, tf.Tensor]:
    """Does nothing: crop, mirror and colours are the host's."""
    return features


def normalize(images: tf.Tensor, cfg) -> tf.Tensor:
    """Turns [B,H,W,3] in 0..255 into float32, less the mean, by the deviation."""
    mean, deviation = channel_statistics(cfg)
    return (tf.cast(images, tf.float32) - tf.constant(mean)) / tf.constant(deviation)


def class_names(metadata: Dict, cfg) -> List[str]:
    """Returns the names of the classes by a dataset.json, [] if it does not say."""
    return list(metadata.get('classes', []))


def channel_statistics(cfg) -> Tuple[List[float], List[float]]:
    """Returns (mean, deviation) of the channels in units of 0..255, in the order of `parse`."""
    order = -1 if cfg.bgr else 1
    return list(MEAN[::order]), list(STD[::order])


# ---- what the pipeline is measured against -------------------------------------------------------


def baselines(folder: Folder, cfg) -> Dict[str, Callable[[], tf.data.Dataset]]:
    """Returns `port`, the published port's pipeline: one size, all in float32 on the host."""
    schema = {
        key: tf.io.FixedLenFeature([], tf.string if kind is bytes else tf.int64)
        for key, kind in FEATURES.items()
        if key != 'filename'
    }

    def parse_record(record):
        features = tf.io.parse_single_example(record, schema)
        shape = tf.stack([features['height'], features['width'], features['channels']])
        image = tf.reshape(tf.decode_raw(features['image'], tf.uint8), shape)
        label = tf.reshape(tf.decode_raw(features['label'], tf.uint8), shape[:2])
        stacked = tf.random_crop(
            tf.concat([image, label[..., None]], 2), [cfg.crop_height, cfg.crop_width, 4]
        )
        stacked = tf.image.random_flip_left_right(tf.cast(stacked, tf.float32))
        image = tf.image.random_brightness(stacked[..., :3] / 255.0, 32 / 255)
        image = tf.image.random_contrast(tf.image.random_saturation(image, 0.5, 1.5), 0.5, 1.5)
        image = (image - np.float32(MEAN[::-1]) / 255) / (np.float32(STD[::-1]) / 255)
        return {'image': image, 'label': tf.cast(stacked[..., 3], tf.int32)}

    return {'port': lambda: sampling.stream(folder, parse_record, cfg.batch_size, 2)}
