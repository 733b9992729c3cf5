"""Test-time augmentation, as in mmsegmentation, so that its published figures compare:

  cfg.eval_mode 'whole'    the network sees the whole image at once
  cfg.eval_mode 'slide'    it sees overlapping windows; where they overlap their logits are averaged
  cfg.eval_scales          it sees the image at each of these scales; the probabilities are averaged
  cfg.eval_flip            it sees the mirrored image as well, at every scale

Windows and views are unrolled, without control flow, and chained, so that the memory is that of one
view or, with 'slide', of one row of windows, which is one batch.
"""

import contextlib
from typing import Callable, Iterator, List, Optional, Tuple

import numpy as np
import tensorflow as tf

Network = Callable[[tf.Tensor], tf.Tensor]


def inference(network: Network, images: tf.Tensor, cfg) -> tf.Tensor:
    """Builds the graph. With 'whole', scale 1 and no mirror it is that of network(images).

    Args:
      network: float32 [n, h, w, 3] -> logits [n, h, w, C], for any h and w; all calls share its
      variables.
      images: float32 [1, H, W, 3], normalised; the shape is static.
    Returns:
      float32 [1, H, W, C]: logits if there is one view, else the logarithm of the mean probability.
    """
    size = images.shape.as_list()[1:3]
    views = [
        ([int(side * scale + 0.5) for side in size], mirrored)
        for scale in cfg.eval_scales
        for mirrored in ([False, True] if cfg.eval_flip else [False])
    ]

    def score(view):
        return _slide(network, view, cfg) if cfg.eval_mode == 'slide' else network(view)

    if len(views) == 1:
        return _resize(score(_resize(images, views[0][0])), size)
    total = None
    for view_size, mirrored in views:
        with _after(total):
            view = _mirror(_resize(images, view_size), mirrored)
            probabilities = _mirror(tf.nn.softmax(_resize(score(view), size)), mirrored)
            total = probabilities if total is None else tf.add(total, probabilities)
    # A class may have no probability left in float32; its logarithm stays finite, about -87.
    return tf.log(tf.maximum(total / len(views), np.finfo(np.float32).tiny))


@contextlib.contextmanager
def _after(tensor: Optional[tf.Tensor]) -> Iterator[None]:
    """The scope of a call of the network, which waits for the result of the calls before it."""
    with tf.control_dependencies([] if tensor is None else [tensor]):
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            yield


def _resize(x: tf.Tensor, size: List[int]) -> tf.Tensor:
    if x.shape.as_list()[1:3] == size:
        return x
    return tf.image.resize_bilinear(x, size, half_pixel_centers=True)


def _mirror(x: tf.Tensor, mirrored: bool) -> tf.Tensor:
    return tf.reverse(x, [2]) if mirrored else x


def _slide(network: Network, image: tf.Tensor, cfg) -> tf.Tensor:
    """[1, h, w, 3] -> logits [1, h, w, C], averaged over windows; a shorter side is taken whole."""
    _, height, width, _ = image.shape.as_list()
    window_height, tops = _windows(height, cfg.crop_height, cfg.slide_stride)
    window_width, lefts = _windows(width, cfg.crop_width, cfg.slide_stride)
    if len(tops) == len(lefts) == 1:
        return network(image)
    total = None
    for top in tops:
        with _after(total):
            windows = [
                image[:, top : top + window_height, left : left + window_width] for left in lefts
            ]
            scores = tf.split(network(tf.concat(windows, 0)), len(lefts))
            row = tf.add_n([_place(score, 2, left, width) for score, left in zip(scores, lefts)])
            row = _place(row, 1, top, height)
            total = row if total is None else tf.add(total, row)
    rows, columns = _covered(height, window_height, tops), _covered(width, window_width, lefts)
    # Multiplied in the graph, or that would hold a constant of [h, w, 1].
    return total / tf.multiply(rows[:, None, None], columns[:, None])


def _place(x: tf.Tensor, axis: int, first: int, length: int) -> tf.Tensor:
    """Pads an axis of x with zeros, so that x begins at `first` of `length`."""
    paddings = [[0, 0] for _ in x.shape]
    paddings[axis] = [first, length - first - x.shape[axis].value]
    return tf.pad(x, paddings)


def _windows(length: int, window: int, share: float) -> Tuple[int, List[int]]:
    """(size of a window, where each starts) along an axis: every share x window pixels; the last is
    moved back to end with the axis.
    """
    window, step = min(window, length), max(1, int(round(share * window)))
    last = length - window
    return window, [*range(0, last, step), last]


def _covered(length: int, window: int, starts: List[int]) -> np.ndarray:
    """How many windows cover each pixel of an axis, float32."""
    pixels = np.arange(length)
    is_covered = [(pixels >= start) & (pixels < start + window) for start in starts]
    return np.sum(is_covered, axis=0, dtype=np.float32)
