"""Windows of JPEGs, decoded at the size that is needed; and TensorFlow's kernels as functions."""

import atexit
import functools
from typing import Callable, List, Tuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from common.data import images

Window = Tuple[int, int, int, int]  # top, left, height, width


def decode(data: bytes, choose: Callable[[int, int], Window], shrink_above: int = 0) -> np.ndarray:
    """Returns the window choose(height, width) of an image file, uint8 RGB [H,W,3].

    A JPEG's is decoded at 1/2, 1/4 or 1/8 of its size as long as it stays at least `shrink_above`
    high and wide; 0: never. ValueError for what is not a whole image.
    """
    if data[:2] != b'\xff\xd8':  # a PNG that is named JPEG, say
        pixels = images.decode(data)
        top, left, height, width = choose(*pixels.shape[:2])
        return pixels[top : top + height, left : left + width]
    top, left, height, width = choose(*_jpeg_size(data))
    fits = (n for n in (8, 4, 2) if shrink_above and min(height, width) >= n * shrink_above)
    shrink = next(fits, 1)
    edges = (top, left, top + height, left + width)
    top, left, bottom, right = (int(round(edge / shrink)) for edge in edges)
    window = np.array([top, left, bottom - top, right - left], np.int32)
    try:
        return _jpeg_decoder(shrink)(np.array(data, object), window)
    except tf.errors.InvalidArgumentError:
        raise ValueError('the JPEG is cut off or damaged')


def _jpeg_size(jpeg: bytes) -> Tuple[int, int]:
    """(height, width) by the frame header. ValueError if there is none.

    By hand, in 1 us: Pillow takes 120 us to open an image, 5 % of decoding it, and holds the GIL.
    """
    at = 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        is_table = marker in (0xC4, 0xC8, 0xCC)  # among the markers of frame headers
        if 0xC0 <= marker <= 0xCF and not is_table:
            height, width = jpeg[at + 5] << 8 | jpeg[at + 6], jpeg[at + 7] << 8 | jpeg[at + 8]
            if height and width:
                return height, width
            break
        segment = 2 + (jpeg[at + 2] << 8 | jpeg[at + 3])
        at += 1 if marker == 0xFF else segment  # FF repeated is padding
    raise ValueError('the JPEG has no readable header')


@functools.lru_cache(maxsize=None)
def _jpeg_decoder(shrink: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """(JPEG, window int32 of the shrunk image) -> its pixels, uint8 RGB. shrink: 1, 2, 4 or 8."""
    with tf.Graph().as_default():
        jpeg, window = tf.placeholder(tf.string, []), tf.placeholder(tf.int32, [4])
        # With a window and fancy_upscaling=False libjpeg writes outside of its memory.
        return _callable(
            tf.image.decode_and_crop_jpeg(jpeg, window, channels=3, ratio=shrink), [jpeg, window]
        )


@functools.lru_cache(maxsize=None)
def uncentred_resizer(size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the published port's resize, TensorFlow 1's, whose samples are not centred: uint8
    [H,W,3] -> float32 [size,size,3].
    """
    with tf.Graph().as_default():
        pixels = tf.placeholder(tf.uint8, [None, None, 3])
        return _callable(tf.image.resize_images(pixels, [size, size]), [pixels])


def _callable(output: tf.Tensor, inputs: List[tf.Tensor]) -> Callable[..., np.ndarray]:
    """A function of NumPy arrays that runs TensorFlow kernels in the thread that calls it."""
    session = tf.Session(
        graph=output.graph,
        config=tf.ConfigProto(inter_op_parallelism_threads=-1, device_count={'GPU': 0}),
    )
    atexit.register(session.close)  # or its destructor complains when Python shuts down
    options = config_pb2.CallableOptions(feed=[value.name for value in inputs], fetch=[output.name])
    # The public make_callable spends 0.1 ms a call in Python.
    run = session._make_callable_from_options(options)
    return lambda *arrays: run(*arrays)[0]
