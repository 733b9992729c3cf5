"""ImageNet records -> batches: decoding, augmentation, normalisation, and the published ways of
preprocessing.

Host: JPEG -> uint8 image of the input size; of a training image only the crop is decoded, and at
half its size or less where it is that much too large. Device: colour and normalisation, so that
uint8 crosses to it.
"""

import atexit
import concurrent.futures
import functools
import math
import os
from typing import Callable, Dict, List, Sequence, Tuple

import cv2
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import config_pb2

from common.data import images, records
from common.errors import UserError

ATTEMPTS = 10  # at a random crop that lies inside the image
ASPECT = 4 / 3  # a random crop is at most this much wider than high, or higher than wide
# Columns of the draws: area and aspect of each attempt, the place, mirroring, then what the device
# takes.
TOP, LEFT, FLIP, BRIGHTNESS = range(2 * ATTEMPTS, 2 * ATTEMPTS + 4)
DRAWS = BRIGHTNESS + 3  # brightness, contrast, saturation

cv2.setNumThreads(
    0
)  # images are worked on side by side; threads within one would get in each other's way
_POOL_SIZE = min(
    8, len(os.sched_getaffinity(0))
)  # 8 threads give more images/s than any of the devices takes
_POOL = concurrent.futures.ThreadPoolExecutor(_POOL_SIZE)


# ---- records -------------------------------------------------------------------------------------


def check(folder: records.Folder, cfg) -> None:
    """Sets cfg.label_offset, if it is None, to what the folder's dataset.json says. UserError if
    the two disagree.
    """
    offset = folder.metadata.get('label_offset')
    if cfg.label_offset is None:
        cfg.label_offset = offset
    elif offset not in (None, cfg.label_offset):
        raise UserError(
            'label_offset: found %d, but the labels in %s start at %d (its dataset.json says so); '
            'use folders whose labels start alike' % (cfg.label_offset, folder.path, offset)
        )


@tf.autograph.experimental.do_not_convert  # or `load` would run rewritten, and slower
def parse(batch: Dict[str, tf.Tensor], cfg, training: bool) -> Dict[str, tf.Tensor]:
    """A batch of serialised examples -> image uint8 [B,S,S,3], label int32 [B] from 0, mask; draws
    [B,3] if the device needs them.

    Reads TF-slim's schema (image/encoded, image/class/label, whose labels start at 1 unless
    cfg.label_offset says otherwise) and the published port's (image, label, from 0). UserError (see
    records.user_error) names the record that cannot be used.
    """
    batch_size, size = batch['mask'].shape.as_list()[0], cfg.image_size
    text, number = tf.io.FixedLenFeature([], tf.string, ''), tf.io.FixedLenFeature([], tf.int64, -1)
    found = tf.io.parse_example(
        batch['record'],
        {
            'image/encoded': text,
            'image/class/label': number,
            'image/filename': text,
            'image': text,
            'label': number,
            'filename': text,
        },
    )
    is_slim = tf.logical_or(
        tf.not_equal(found['image/encoded'], ''), tf.not_equal(found['image/class/label'], -1)
    )

    def load(jpegs, labels, names, ids, draws, is_slim):
        offsets = (
            is_slim.astype(np.int64)
            if cfg.label_offset is None
            else np.full(batch_size, cfg.label_offset)
        )
        pixels = images.aligned((batch_size, size, size, 3))

        def refuse(i: int, why: str) -> None:
            raise UserError(
                '--data_path %s: record %d (%s): %s'
                % (
                    cfg.data_path,
                    ids[i],
                    names[i].decode('utf-8', 'replace') or 'without a name',
                    why,
                )
            )

        for i in np.flatnonzero((labels < offsets) | (labels - offsets >= cfg.num_classes))[:1]:
            refuse(
                i,
                'it has %s; with --num_classes %d and --label_offset %d legal are %d to %d'
                % (
                    'no label' if labels[i] < 0 else 'label %d' % labels[i],
                    cfg.num_classes,
                    offsets[i],
                    offsets[i],
                    offsets[i] + cfg.num_classes - 1,
                ),
            )

        def fill(part: np.ndarray) -> None:
            for i in part:
                try:
                    if training and cfg.train_preprocessing == 'random_resized_crop':
                        pixels[i] = random_resized_crop(jpegs[i], draws[i].tolist(), cfg)
                    else:
                        pixels[i] = _preprocess(
                            jpegs[i],
                            size,
                            cfg.train_preprocessing if training else cfg.eval_preprocessing,
                        )
                except ValueError as error:
                    refuse(i, '%s; replace the image and prepare the records again' % error)

        list(_POOL.map(fill, np.array_split(np.arange(batch_size), _POOL_SIZE)))
        return pixels, (labels - offsets).astype(np.int32)

    pixels, labels = tf.numpy_function(
        load,
        [
            tf.where(is_slim, found['image/encoded'], found['image']),
            tf.where(is_slim, found['image/class/label'], found['label']),
            tf.where(is_slim, found['image/filename'], found['filename']),
            batch['id'],
            batch['draws'],
            is_slim,
        ],
        [tf.uint8, tf.int32],
    )
    pixels.set_shape([batch_size, size, size, 3])
    labels.set_shape([batch_size])
    features = {'image': pixels, 'label': labels, 'mask': batch['mask']}
    if training and cfg.color_jitter:
        features['draws'] = batch['draws'][:, BRIGHTNESS:]
    return features


# ---- decoding ------------------------------------------------------------------------------------


def _callable(output: tf.Tensor, inputs: List[tf.Tensor]) -> Callable[..., np.ndarray]:
    """A function of NumPy arrays that runs TensorFlow kernels in the thread that calls it, apart
    from any training graph.
    """
    session = tf.Session(
        graph=output.graph,
        config=tf.ConfigProto(inter_op_parallelism_threads=-1, device_count={'GPU': 0}),
    )
    atexit.register(session.close)  # or its destructor complains when Python shuts down
    options = config_pb2.CallableOptions(feed=[value.name for value in inputs], fetch=[output.name])
    run = session._make_callable_from_options(
        options
    )  # the public make_callable spends 0.1 ms a call in Python
    return lambda *arrays: run(*arrays)[0]


@functools.lru_cache(maxsize=None)
def _jpeg_decoder(shrink: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """(JPEG, window [top, left, height, width] int32 of the shrunk image) -> its pixels, uint8 RGB.
    shrink: 1, 2, 4 or 8.
    """
    with tf.Graph().as_default():
        jpeg, window = tf.placeholder(tf.string, []), tf.placeholder(tf.int32, [4])
        # Not fancy_upscaling=False: with a window, TensorFlow 1.15's libjpeg then writes outside of
        # its memory.
        return _callable(
            tf.image.decode_and_crop_jpeg(jpeg, window, channels=3, ratio=shrink), [jpeg, window]
        )


def _jpeg_size(jpeg: bytes) -> Tuple[int, int]:
    """(height, width) by the frame header, without decoding. ValueError if there is none."""
    at = 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (
            0xC4,
            0xC8,
            0xCC,
        ):  # tables and extensions among the frame headers
            height, width = jpeg[at + 5] << 8 | jpeg[at + 6], jpeg[at + 7] << 8 | jpeg[at + 8]
            if height and width:
                return height, width
            break
        at += (
            1 if marker == 0xFF else 2 + (jpeg[at + 2] << 8 | jpeg[at + 3])
        )  # fill byte, or a segment
    raise ValueError('the JPEG has no readable header')


def _decode(
    data: bytes, choose: Callable[[int, int], Tuple[int, int, int, int]], shrink_above: int
) -> np.ndarray:
    """The window choose(height, width) -> (top, left, height, width) of an image file's content,
    uint8 RGB.

    A JPEG's window is decoded at 1/2, 1/4 or 1/8 of its size as long as it stays at least
    `shrink_above` high and wide; 0: never.
    """
    if data[:2] != b'\xff\xd8':  # a PNG that is named JPEG, say
        pixels = images.decode(data)
        top, left, height, width = choose(*pixels.shape[:2])
        return pixels[top : top + height, left : left + width]
    top, left, height, width = choose(*_jpeg_size(data))
    shrink = next(
        (n for n in (8, 4, 2) if shrink_above and min(height, width) >= n * shrink_above), 1
    )
    top, left, bottom, right = (
        int(round(edge / shrink)) for edge in (top, left, top + height, left + width)
    )
    try:
        return _jpeg_decoder(shrink)(
            np.array(data, object), np.array([top, left, bottom - top, right - left], np.int32)
        )
    except tf.errors.InvalidArgumentError:
        raise ValueError('the JPEG is cut off or damaged')


# ---- training ------------------------------------------------------------------------------------


def random_window(
    height: int, width: int, draws: Sequence[float], min_area: float
) -> Tuple[int, int, int, int]:
    """(top, left, height, width) of a crop: share of the area uniform in [min_area, 1), logarithm
    of the aspect uniform.

    As torchvision's RandomResizedCrop and MindSpore's RandomCropDecodeResize: of ten crops the
    first that fits; if none does, the centre, cut to the nearest legal aspect.
    """
    for area, aspect in zip(draws[:ATTEMPTS], draws[ATTEMPTS:]):
        area = height * width * (min_area + (1 - min_area) * area)
        aspect = ASPECT ** (2 * aspect - 1)
        crop_height, crop_width = (
            int(round(math.sqrt(area / aspect))),
            int(round(math.sqrt(area * aspect))),
        )
        if 0 < crop_height <= height and 0 < crop_width <= width:
            return (
                int(draws[TOP] * (height - crop_height + 1)),
                int(draws[LEFT] * (width - crop_width + 1)),
                crop_height,
                crop_width,
            )
    crop_height, crop_width = (
        min(height, int(round(width * ASPECT))),
        min(width, int(round(height * ASPECT))),
    )
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def random_resized_crop(data: bytes, draws: Sequence[float], cfg) -> np.ndarray:
    """An image file's content -> a random crop, resized and mirrored, uint8 [S,S,3]; `draws` as in
    DRAWS. ValueError: no image.
    """
    size = cfg.image_size
    pixels = _decode(
        data, lambda height, width: random_window(height, width, draws, cfg.min_area), size
    )
    too_large = min(pixels.shape[:2]) >= 2 * size  # no JPEG
    pixels = cv2.resize(
        pixels, (size, size), interpolation=cv2.INTER_AREA if too_large else cv2.INTER_LINEAR
    )
    return cv2.flip(pixels, 1) if cfg.flip and draws[FLIP] < 0.5 else pixels


def augment_on_device(features: Dict[str, tf.Tensor], cfg) -> Dict[str, tf.Tensor]:
    """Colour jitter of float32 images in 0..255: brightness, contrast, saturation, in this order,
    each within 1 +- cfg.color_jitter.
    """
    if not cfg.color_jitter:
        return features
    pixels = features['image']
    factors = tf.unstack(
        1.0 + cfg.color_jitter * (2.0 * features['draws'][:, :, None, None, None] - 1.0), axis=1
    )
    black = tf.zeros_like(pixels)
    for factor, pale in zip(
        factors,
        (lambda x: black, lambda x: tf.reduce_mean(_grey(x), axis=[1, 2], keepdims=True), _grey),
    ):
        other = pale(pixels)
        pixels = tf.clip_by_value(other + factor * (pixels - other), 0.0, 255.0)
    return dict(features, image=pixels)


def _grey(pixels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(pixels * [0.299, 0.587, 0.114], axis=3, keepdims=True)


# ---- evaluation ----------------------------------------------------------------------------------


def decode_eval(data: bytes, cfg) -> np.ndarray:
    """An image file's content -> uint8 [S,S,3], S = cfg.image_size, as evaluation sees it.
    ValueError for what is no image.
    """
    return _preprocess(data, cfg.image_size, cfg.eval_preprocessing)


def _preprocess(data: bytes, size: int, method: str) -> np.ndarray:
    if method == 'plain':
        resized = _plain_resizer(size)(
            _decode(data, lambda height, width: (0, 0, height, width), 0)
        )
        return cv2.convertScaleAbs(
            resized
        )  # rounds, which moves a value by 0.5 of 255 at most; tf.round is far slower
    pixels = images.decode(data)
    shorter, short = (
        min(pixels.shape[:2]),
        (size * 320 // 299 if method == 'resize_crop' else math.floor(size / 0.8975)),
    )
    height, width = (length * short // shorter for length in pixels.shape[:2])
    if method == 'resize_crop':
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        top, left = (height - size) // 2, (width - size) // 2
    else:
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.BICUBIC))
        top, left = int(round((height - size) / 2)), int(round((width - size) / 2))
    return pixels[top : top + size, left : left + size]


@functools.lru_cache(maxsize=None)
def _plain_resizer(size: int) -> Callable[[np.ndarray], np.ndarray]:
    """The published port's resize, TensorFlow 1's, whose samples are not centred: uint8 [H,W,3] ->
    float32 [size,size,3].
    """
    with tf.Graph().as_default():
        pixels = tf.placeholder(tf.uint8, [None, None, 3])
        return _callable(tf.image.resize_images(pixels, [size, size]), [pixels])


def normalize(pixels: tf.Tensor) -> tf.Tensor:
    """0..255 -> float32 in -1..1."""
    return tf.cast(pixels, tf.float32) / 127.5 - 1.0


# ---- what the pipeline is measured against -------------------------------------------------------


def baselines(folder: records.Folder, cfg) -> Dict[str, Callable[[], tf.data.Dataset]]:
    """For common.benchmark: `port` is the published port's pipeline on the same records, `decode`
    only decodes whole JPEGs, on all cores.
    """

    def pipeline(finish: Callable[[tf.Tensor], tf.Tensor], calls: int) -> tf.data.Dataset:
        def one(record):
            text = tf.io.FixedLenFeature([], tf.string, '')
            found = tf.io.parse_single_example(record, {'image/encoded': text, 'image': text})
            return {
                'label': finish(
                    tf.image.decode_jpeg(found['image/encoded'] + found['image'], channels=3)
                )
            }

        return (
            tf.data.TFRecordDataset([str(file) for file in folder.files])
            .repeat()
            .map(one, calls)
            .batch(cfg.batch_size, True)
            .prefetch(2)
        )

    return {
        'port': lambda: pipeline(
            lambda pixels: normalize(
                tf.image.resize_images(tf.cast(pixels, tf.float32), [cfg.image_size] * 2)
            ),
            2,
        ),
        'decode': lambda: pipeline(lambda pixels: tf.shape(pixels), len(os.sched_getaffinity(0))),
    }
