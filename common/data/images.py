"""Image files -> pixels."""

from typing import Tuple

import cv2
import numpy as np

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.tif', '.tiff', '.webp')


def decode(data: bytes) -> np.ndarray:
    """Returns the pixels of an image file, uint8 [H,W,3], RGB, as they are stored: no rotation by
    EXIF, as TensorFlow does it.

    Raises ValueError saying what is wrong: no image, or a JPEG that is cut off, which OpenCV would
    fill with grey.
    """
    if not data:
        raise ValueError('the file is empty')
    # Inside a scan FF is always followed by 00 or a restart marker, so these are markers wherever
    # they stand.
    if data[:2] == b'\xff\xd8' and data.rfind(b'\xff\xd9') < data.rfind(b'\xff\xda'):
        raise ValueError('the JPEG is cut off')
    try:
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as error:
        raise ValueError('it cannot be decoded: %s' % ' '.join(str(error).split()))
    if pixels is None:
        raise ValueError('it is no image that OpenCV can decode')
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def aligned(shape: Tuple[int, ...]) -> np.ndarray:
    """Uninitialised uint8, where TensorFlow takes it over: an array that starts elsewhere is
    copied, which costs as much as resizing.
    """
    size = int(np.prod(shape))
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].reshape(shape)
