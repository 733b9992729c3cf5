"""Pictures for tests, and interpolation written out in NumPy."""

import functools

import numpy as np


@functools.lru_cache(maxsize=None)
def waves(height, width, seed=0):
    """uint8 [height, width, 3]: smooth waves, another mix in each channel."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    channels = [
        sum(np.sin(2 * np.pi * (a * y + b * x + c)) for a, b, c in random.uniform(-3, 3, (4, 3)))
        for _ in range(3)
    ]
    image = (127.5 + 30 * np.stack(channels, -1)).clip(0, 255).astype(np.uint8)
    image.setflags(write=False)
    return image


def places(start, count, size):
    """Source coordinates of the centres of `size` pixels over `count` source pixels from `start`
    on; source pixel n's centre is at n.
    """
    return start + (np.arange(size) + 0.5) * count / size - 0.5


def bilinear(image, rows, columns):
    """float64, of the whole image at these coordinates; its edges are repeated."""
    image = np.asarray(image, np.float64)
    for axis, at in ((0, rows), (1, columns)):
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        below, above = (
            np.take(image, np.clip(index, 0, image.shape[axis] - 1), axis)
            for index in (low, low + 1)
        )
        image = below * (1 - share) + above * share
    return image


def resized(image, height, width):
    """float64, bilinear about the pixels' centres."""
    rows, columns = image.shape[:2]
    return bilinear(image, places(0, rows, height), places(0, columns, width))
