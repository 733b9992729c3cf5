"""Views against the same written in NumPy, image by image and window by window, with a network that
knows places and the picture's edge.
"""

import types

import numpy as np
import pytest
import tensorflow as tf
from graph_variables import random_weights, session_with
from numpy_images import resized
from resnest_networks import deeplab

from resnest_tf.test_time_augmentation import inference

CLASSES = 4


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as fresh:
        tf.set_random_seed(0)
        yield fresh


def settings(mode='whole', scales=(1.0,), flip=False, crop=(16, 24), stride=2 / 3):
    return types.SimpleNamespace(
        eval_mode=mode,
        eval_scales=list(scales),
        eval_flip=flip,
        slide_stride=stride,
        crop_height=crop[0],
        crop_width=crop[1],
        num_classes=CLASSES,
    )


# The network, in TensorFlow and in NumPy: a 3x3 conv that sees zeros beyond the edge, the mean of
# the picture, and the distance to its left and upper edge.

KERNEL = np.random.RandomState(7).normal(0, 0.5, [3, 3, 3, CLASSES]).astype(np.float32)
MEAN, LEFT, TOP = [0.0, 3.0, 0.0, -3.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]


def network(images):
    _, height, width, _ = images.shape.as_list()
    kernel = tf.get_variable(
        'conv/kernel', KERNEL.shape, initializer=tf.constant_initializer(KERNEL)
    )
    y = tf.nn.conv2d(images, kernel, 1, 'SAME')
    y += tf.reduce_mean(images, [1, 2, 3], keepdims=True) * MEAN
    y += tf.reshape(tf.range(width, dtype=tf.float32) / 20, [1, 1, width, 1]) * LEFT
    return y + tf.reshape(tf.range(height, dtype=tf.float32) / 20, [1, height, 1, 1]) * TOP


def network_np(image):
    height, width, _ = image.shape
    padded = np.pad(image, [(1, 1), (1, 1), (0, 0)], 'constant')
    y = image.mean() * np.array(MEAN) + sum(
        padded[i : i + height, j : j + width] @ KERNEL[i, j].astype(np.float64)
        for i in range(3)
        for j in range(3)
    )
    y[..., 0] += np.arange(width) / 20
    y[..., 2] += np.arange(height)[:, None] / 20
    return y


def starts(length, window, step):
    """Of windows one step apart, the last one moved back to the edge."""
    found = [0]
    while found[-1] + window < length:
        found.append(min(found[-1] + step, length - window))
    return found


def slide_np(image, window, step):
    height, width, _ = image.shape
    total, seen = np.zeros([height, width, CLASSES]), np.zeros([height, width, 1])
    for y in starts(height, window[0], step[0]):
        for x in starts(width, window[1], step[1]):
            place = slice(y, y + window[0]), slice(x, x + window[1])
            total[place] += network_np(image[place])
            seen[place] += 1
    assert seen.min() > 0
    return total / seen


def softmax_np(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def views_np(image, score, scales, flip):
    """Probabilities averaged over scales and, if flip, mirrors."""
    height, width, _ = image.shape
    probabilities = []
    for scale in scales:
        view = resized(image, *(int(np.floor(scale * size + 0.5)) for size in (height, width)))
        probabilities.append(softmax_np(resized(score(view), height, width)))
        if flip:
            mirrored = softmax_np(resized(score(view[:, ::-1]), height, width))
            probabilities.append(mirrored[:, ::-1])
    return np.mean(probabilities, axis=0)


def picture(height, width, seed=1):
    return np.random.RandomState(seed).normal(0, 1, [1, height, width, 3]).astype(np.float32)


def run(cfg, image, net=network):
    """The views' result; the image's shape is the graph's."""
    x = tf.placeholder(tf.float32, image.shape)
    y = inference(net, x, cfg)
    assert y.shape.as_list()[:3] == list(image.shape[:3])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(y, {x: image})


def close(found, expected, tolerance=2e-5):
    assert found.shape == expected.shape and np.isfinite(found).all()
    assert np.abs(found - expected).max() <= tolerance * max(1, np.abs(expected).max())


# One view


def test_whole_image_is_the_network_and_nothing_else(graph):
    x = tf.placeholder(tf.float32, [1, 21, 34, 3])
    inference(network, x, settings())
    with tf.Graph().as_default() as plain:
        network(tf.placeholder(tf.float32, [1, 21, 34, 3]))
    assert graph.as_graph_def() == plain.as_graph_def()


@pytest.mark.parametrize('size', [(21, 34), (16, 24)])
def test_whole_image(size):
    image = picture(*size)
    close(run(settings(), image)[0], network_np(image[0].astype(np.float64)))


@pytest.mark.parametrize('scale', [0.5, 0.7, 1.75])
def test_one_scale_gives_resized_logits(scale):
    image = picture(25, 42)
    view = resized(image[0], int(25 * scale + 0.5), int(42 * scale + 0.5))
    close(run(settings(scales=[scale]), image)[0], resized(network_np(view), 25, 42))


@pytest.mark.parametrize(
    'height, width, window, step',
    [
        (32, 48, (16, 24), (11, 16)),  # last windows moved back
        (27, 40, (16, 24), (11, 16)),  # they fit exactly
        (28, 41, (16, 24), (11, 16)),  # one pixel more than fits
        (37, 53, (16, 24), (11, 16)),
        (16, 70, (16, 24), (11, 16)),  # one row of windows
        (12, 70, (16, 24), (11, 16)),  # an image lower than the windows
        (40, 20, (16, 24), (11, 16)),  # an image narrower than the windows
        (29, 31, (13, 9), (9, 6)),
    ],
)
def test_windows_average_their_logits(height, width, window, step):
    image = picture(height, width)
    expected = slide_np(image[0].astype(np.float64), window, step)
    close(run(settings('slide', crop=window), image)[0], expected)


def test_windows_default_to_the_crop_and_their_distance_to_a_share_of_it():
    image = picture(33, 50)
    double = image[0].astype(np.float64)
    for crop, stride, step in (
        ((20, 30), 1.0, (20, 30)),
        ((20, 30), 0.5, (10, 15)),
        ((32, 49), 0.001, (1, 1)),  # never less than a pixel
    ):
        with tf.Graph().as_default():
            found = run(settings('slide', crop=crop, stride=stride), image)[0]
        close(found, slide_np(double, crop, step))


@pytest.mark.parametrize('size', [(16, 24), (10, 24), (10, 20)])
def test_an_image_no_larger_than_a_window_is_one_view(graph, size):
    inference(network, tf.placeholder(tf.float32, [1, *size, 3]), settings('slide'))
    with tf.Graph().as_default() as plain:
        network(tf.placeholder(tf.float32, [1, *size, 3]))
    assert graph.as_graph_def() == plain.as_graph_def()


# Several


@pytest.mark.parametrize('mode', ['whole', 'slide'])
@pytest.mark.parametrize(
    'scales, flip',
    [([1.0], True), ([0.5, 1.0, 1.75], False), ([0.5, 0.75, 1.0, 1.3], True), ([1.5], True)],
)
def test_probabilities_are_averaged(mode, scales, flip):
    image = picture(27, 41)
    score = network_np if mode == 'whole' else lambda view: slide_np(view, (16, 24), (11, 16))
    expected = views_np(image[0].astype(np.float64), score, scales, flip)
    found = run(settings(mode, scales, flip), image)[0]
    close(np.exp(found), expected)
    close(found, np.log(expected), 1e-4)


def test_a_class_without_any_probability_has_a_finite_logarithm():
    def net(x):
        return tf.concat([x * 0 + 1000, x[..., :1] * 0 - 1000], 3)

    found = run(settings(flip=True), picture(8, 8), net)
    assert np.isfinite(found).all() and found[..., 3].max() < -80
    close(found[..., :3], np.full([1, 8, 8, 3], -np.log(3)))


def convs(graph):
    return [op for op in graph.get_operations() if op.type == 'Conv2D']


def before(op):
    """All that has run when `op` runs."""
    found, left = set(), [op]
    while left:
        inputs = [tensor.op for tensor in left[0].inputs] + left[0].control_inputs
        left = left[1:] + [other for other in inputs if other not in found]
        found.update(inputs)
    return found


LOOP = {'Enter', 'Exit', 'NextIteration', 'LoopCond', 'Switch', 'Merge', 'While'}
DYNAMIC = {'Slice', 'GatherV2', 'TensorScatterAdd'}


@pytest.mark.parametrize('mode, calls', [('whole', 6), ('slide', 2 * (2 + 4 + 5))])
def test_views_and_rows_of_windows_come_one_after_another_without_control_flow(graph, mode, calls):
    x = tf.placeholder(tf.float32, [1, 40, 40, 3])
    inference(network, x, settings(mode, [0.5, 1.0, 1.5], True))
    assert not (LOOP | DYNAMIC) & {op.type for op in graph.get_operations()}
    assert len(convs(graph)) == calls and len(tf.global_variables()) == 1
    for earlier, later in zip(convs(graph), convs(graph)[1:]):
        assert earlier in before(later) and later not in before(earlier)


def test_no_constant_has_the_size_of_an_image():
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [1, 320, 320, 3])
        inference(network, x, settings('slide', flip=True, crop=(160, 160)))
        assert graph.as_graph_def().ByteSize() < 100000


# The real network


def resnest(images):
    return deeplab(images, depth=14, width=1 / 32, num_classes=CLASSES, aux_head=False)[0]


def test_whole_image_of_the_real_network():
    image = picture(64, 64)
    x = tf.placeholder(tf.float32, image.shape)
    found, expected = inference(resnest, x, settings()), None
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        expected = resnest(x)
    with session_with(random_weights(3, highest=1.2)) as session:
        found, expected = session.run([found, expected], {x: image})
    assert np.ptp(expected) > 0.1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_views_of_the_real_network(mode):
    """Each view fed to the network by itself; then the mirrored image, whose result is the mirrored
    one where windows lie evenly.
    """
    image = picture(64, 64)
    x = tf.placeholder(tf.float32, image.shape)
    y = inference(resnest, x, settings(mode, flip=True, crop=(64, 40), stride=0.6))
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        part = tf.placeholder(tf.float32, [1, 64, 40 if mode == 'slide' else 64, 3])
        alone = resnest(part)
    with session_with(random_weights(3, highest=1.2)) as session:

        def score(view):
            if mode == 'whole':
                return session.run(alone, {part: view})
            left, right = (
                session.run(alone, {part: view[:, :, start : start + 40]}) for start in (0, 24)
            )
            both = (left[:, :, 24:] + right[:, :, :16]) / 2
            return np.concatenate([left[:, :, :24], both, right[:, :, 16:]], axis=2)

        mirrored = softmax_np(score(image[:, :, ::-1]))[:, :, ::-1]
        expected = np.log((softmax_np(score(image)) + mirrored) / 2)
        found, mirrored = (session.run(y, {x: value}) for value in (image, image[:, :, ::-1]))
    assert np.ptp(expected) > 0.1
    close(found, expected, 1e-4)
    close(mirrored, found[:, :, ::-1], 1e-5)
    assert np.abs(mirrored - found).max() > 0.01
