"""Image files -> pixels, and work on the images of a batch side by side."""

import concurrent.futures
from typing import Callable, Tuple

import cv2
import numpy as np

from common import host

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.tif', '.tiff', '.webp')

cv2.setNumThreads(0)  # images are worked on side by side instead
_THREADS = min(8, host.cores())  # more than any of the devices takes
_POOL = concurrent.futures.ThreadPoolExecutor(_THREADS)


def decode(data: bytes) -> np.ndarray:
    """Returns the pixels of an image file, uint8 RGB [H,W,3], not rotated by EXIF, as TensorFlow
    does it. ValueError for what is not an image or is cut off, which OpenCV would fill with grey.
    """
    if not data:
        raise ValueError('the file is empty')
    # Inside a scan 00 or a restart marker follows FF, so these are markers wherever they stand.
    if data[:2] == b'\xff\xd8' and data.rfind(b'\xff\xd9') < data.rfind(b'\xff\xda'):
        raise ValueError('the JPEG is cut off')
    try:
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error as error:
        raise ValueError('it cannot be decoded: %s' % ' '.join(str(error).split()))
    if pixels is None:
        raise ValueError('it is not an image that OpenCV can decode')
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def for_each(function: Callable[[int], None], count: int) -> None:
    """Calls function(0), ..., function(count - 1) on several threads; raises the first error."""

    def work(numbers: np.ndarray) -> None:
        for number in numbers.tolist():
            function(number)

    list(_POOL.map(work, np.array_split(np.arange(count), _THREADS)))


def aligned(shape: Tuple[int, ...]) -> np.ndarray:
    """Returns uninitialised uint8 so aligned that TensorFlow need not copy it, which costs as much
    as resizing.
    """
    size = int(np.prod(shape))
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].reshape(shape)
