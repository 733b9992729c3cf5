"""What evaluation scores: the network's logits of the whole image, or of several views of it that
are averaged.

  cfg.eval_mode 'whole'    the network sees the whole image at once
  cfg.eval_mode 'slide'    it sees overlapping windows; where they overlap their logits are averaged
  cfg.eval_scales          it sees the image at each of these scales; the probabilities are averaged
  cfg.eval_flip            it sees the mirrored image as well, at every scale

Windows and averages follow mmsegmentation, so that its published figures compare. Views are taken
one after another, so that memory is that of one. 'whole' has no control flow, however many scales:
use it on an NPU. The windows of 'slide' go through a tf.while_loop, which has run on CPUs only.
"""

import math
from typing import Callable, List, Tuple

import numpy as np
import tensorflow as tf

Network = Callable[[tf.Tensor], tf.Tensor]


def logits(network: Network, images: tf.Tensor, cfg) -> tf.Tensor:
    """Builds the views' graph. With 'whole', scale 1 and no mirror it is that of network(images).

    Args:
      network: float32 [1, h, w, 3] -> logits [1, h, w, C], for any h and w; its variables are
      shared by all calls.
      images: float32 [1, H, W, 3], normalised; the shape is static.
      cfg: num_classes, eval_mode, eval_scales, eval_flip; slide_height, slide_width (None:
      crop_height, crop_width), slide_stride.
    Returns:
      float32 [1, H, W, C]: logits if there is one scale and no mirror, else the logarithm of the
      mean probability.
    """
    size = images.shape.as_list()[1:3]
    views = [
        (_scaled(size, scale), mirrored)
        for scale in cfg.eval_scales
        for mirrored in ([False, True] if cfg.eval_flip else [False])
    ]

    def score(view):
        return _slide(network, view, cfg) if cfg.eval_mode == 'slide' else network(view)

    if len(views) == 1:
        return _resize(score(_resize(images, views[0][0])), size)
    total = None
    for view_size, mirrored in views:
        with tf.control_dependencies([] if total is None else [total]), tf.variable_scope(
            tf.get_variable_scope(), reuse=tf.AUTO_REUSE
        ):
            view = _mirror(_resize(images, view_size), mirrored)
            probabilities = _mirror(tf.nn.softmax(_resize(score(view), size)), mirrored)
            total = probabilities if total is None else tf.add(total, probabilities)
    # A class may have no probability left in float32; its logarithm stays finite, about -87.
    return tf.log(tf.maximum(total / len(views), np.finfo(np.float32).tiny))


def _scaled(size: List[int], scale: float) -> List[int]:
    """[height, width] at a scale, to the nearest pixel."""
    return [int(side * scale + 0.5) for side in size]


def _resize(x: tf.Tensor, size: List[int]) -> tf.Tensor:
    return (
        x
        if x.shape.as_list()[1:3] == size
        else tf.image.resize_bilinear(x, size, half_pixel_centers=True)
    )


def _mirror(x: tf.Tensor, mirrored: bool) -> tf.Tensor:
    return tf.reverse(x, [2]) if mirrored else x


def _slide(network: Network, images: tf.Tensor, cfg) -> tf.Tensor:
    """[1, h, w, 3] -> logits [1, h, w, C], averaged over windows. A side that is shorter than a
    window is taken whole.
    """
    _, height, width, _ = images.shape.as_list()
    window_height, tops = _windows(height, cfg.slide_height or cfg.crop_height, cfg.slide_stride)
    window_width, lefts = _windows(width, cfg.slide_width or cfg.crop_width, cfg.slide_stride)
    corners = [(top, left) for top in tops for left in lefts]
    if len(corners) == 1:
        return network(images)

    def body(index, total):
        top, left = tf.unstack(tf.gather(corners, index))
        found = network(tf.slice(images, [0, top, left, 0], [1, window_height, window_width, 3]))
        places = tf.stack(
            tf.meshgrid(
                top + tf.range(window_height), left + tf.range(window_width), indexing='ij'
            ),
            axis=2,
        )
        return index + 1, tf.tensor_scatter_nd_add(
            total, places, found[0]
        )  # in place; padded windows would each take the whole's memory

    # Zeros, but of the image: TensorFlow would make those of all views at once, before it starts,
    # if it knew them for constants.
    start = tf.fill([height, width, cfg.num_classes], tf.minimum(tf.abs(images[0, 0, 0, 0]), 0.0))
    # TensorFlow creates variables outside of the loop even if the network is built in the loop
    # alone.
    _, total = tf.while_loop(
        lambda index, _: index < len(corners),
        body,
        (0, start),
        parallel_iterations=1,
        back_prop=False,
    )
    covered = [
        np.sum(
            [(np.arange(side) >= first) & (np.arange(side) < first + window) for first in starts],
            axis=0,
            dtype=np.float32,
        )
        for side, window, starts in ((height, window_height, tops), (width, window_width, lefts))
    ]
    # Multiplied in the graph, which would hold a constant of [h, w, 1] otherwise.
    return tf.expand_dims(total / tf.multiply(covered[0][:, None, None], covered[1][:, None]), 0)


def _windows(side: int, window: int, share: float) -> Tuple[int, List[int]]:
    """(size of a window, where each starts) along a side: every share x window pixels; the last is
    moved back to end with the side.
    """
    window, step = min(window, side), max(1, int(round(share * window)))
    return window, [
        min(number * step, side - window) for number in range(math.ceil((side - window) / step) + 1)
    ]
