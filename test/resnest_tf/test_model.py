"""The heads, and the port's graph, against the same written in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from graph_variables import random_weights, session_with
from resnest_networks import TINY, build, close, resnest


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as fresh:
        yield fresh


def pad_same(x, size, stride, rate, value=0.0):
    pads = [(0, 0)]
    for pixels in x.shape[1:3]:
        total = max((-(-pixels // stride) - 1) * stride + (size - 1) * rate + 1 - pixels, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, pads + [(0, 0)], 'constant', constant_values=value)


def windows(x, size, stride=1, rate=1, value=0.0):
    """[size, size, N, H, W, C]: what each output pixel of a "same" layer sees."""
    height, width = [-(-pixels // stride) for pixels in x.shape[1:3]]
    x = pad_same(x, size, stride, rate, value)
    return np.array(
        [
            [
                x[
                    :,
                    rate * i : rate * i + stride * (height - 1) + 1 : stride,
                    rate * j : rate * j + stride * (width - 1) + 1 : stride,
                ]
                for j in range(size)
            ]
            for i in range(size)
        ]
    )


def relu(x):
    return np.maximum(x, 0)


def average(x, size, stride=1):
    """Over the pixels inside the image."""
    return np.nansum(windows(x, size, stride, 1, np.nan), (0, 1)) / windows(
        np.ones_like(x), size, stride
    ).sum((0, 1))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def resize(x, height, width, variant):
    """Bilinear; where output pixel p lies in the input is the variant's."""
    for axis, size in ((1, height), (2, width)):
        pixels, before = np.arange(size), x.shape[axis]
        position = {
            'port': pixels * before / size,
            'paper': pixels * (before - 1) / (size - 1),
            'mmsegmentation': np.clip((pixels + 0.5) * before / size - 0.5, 0, before - 1),
        }[variant]
        low = position.astype(int)
        share = (position - low).reshape([-1, 1] if axis == 2 else [-1, 1, 1])
        x = (
            np.take(x, low, axis) * (1 - share)
            + np.take(x, np.minimum(low + 1, x.shape[axis] - 1), axis) * share
        )
    return x


class Reference:
    """Layers over float64 weights by name; `leaves` as the variant calls them."""

    def __init__(self, weights, kernel, bias, norm):
        self.weights, self.leaves, self.used = (
            {name: value.astype(np.float64) for name, value in weights.items()},
            (kernel, bias, norm),
            set(),
        )

    def get(self, name):
        self.used.add(name)
        return self.weights[name]

    def conv(self, x, name, stride=1, rate=1, bias=False):
        kernel = self.get('%s/%s' % (name, self.leaves[0]))
        y = np.einsum(
            'ijnhwc,ijcf->nhwf', windows(x, len(kernel), stride, rate), kernel, optimize=True
        )
        return y + self.get('%s/%s' % (name, self.leaves[1])) if bias else y

    def norm(self, x, name):
        gamma, beta, mean, variance = [
            self.get('%s/%s' % (name, leaf))
            for leaf in ('gamma', 'beta', 'moving_mean', 'moving_variance')
        ]
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def layer(self, x, name, **options):
        return relu(self.norm(self.conv(x, name, **options), name + self.leaves[2]))

    def head(self, x, names, pool, pool_first=False):
        """names: of four convs, image pooling, the convs after the concatenation, classifier."""
        branches = [self.layer(x, name, rate=rate) for name, rate in zip(names, (1, 12, 24, 36))]
        pooled = self.layer(pool(x), names[4]) + np.zeros_like(branches[0])
        branches = [pooled] + branches if pool_first else branches + [pooled]
        x = np.concatenate(branches, 3)
        for name in names[5:-1]:
            x = self.layer(x, name)
        return self.conv(x, names[-1], bias=True)


def port_in_numpy(net, x):
    for number in (1, 2, 3):
        x = net.layer(x, 'conv1_%d' % number, stride=2 if number == 1 else 1)
    x = windows(x, 3, 2, 1, -np.inf).max((0, 1))
    numbers = iter(['Conv'] + ['Conv_%d' % number for number in range(1, 64)])
    for scope in '1_0 1_1 1_2 1_4 2_0 2_1 2_2 2_4 3_0 3_1 3_2 3_3 3_4 3_5 4_0 4_1'.split():
        reduce, _, shortcut, expand = [next(numbers) for _ in range(4)]
        scope, stride = 'resnest' + scope, 2 if scope == '1_4' else 1
        y = net.layer(x, reduce)
        y = average(y, 3, 2) if stride == 2 else y
        halves = [
            net.conv(half, scope + name, bias=True)
            for half, name in zip(np.split(y, 2, 3), ('/Conv', '/Conv_1'))
        ]
        a, b = np.split(relu(net.norm(np.concatenate(halves, 3), scope + '/BatchNorm')), 2, 3)
        attention = net.conv(
            net.layer((a + b).mean((1, 2), keepdims=True), scope + '/Conv_2'), scope + '/Conv_3'
        )
        for_a, for_b = np.split(attention, 2, 3)
        x = net.layer(x, shortcut, stride=stride) + net.layer(
            softmax(for_a) * a + softmax(for_b) * b, expand
        )
    return net.head(x, ['Conv_%d' % number for number in range(64, 72)], lambda y: average(y, 7))


@pytest.mark.parametrize('height, width', [(32, 48), (66, 35)])
def test_port_computes_its_published_graph(height, width):
    x, logits, aux = build(height, width, variant='port', width=1 / 32, num_classes=4)
    assert aux is None
    weights = random_weights(1, highest=1.2)
    image = np.random.RandomState(2).normal(0, 1, (2, height, width, 3)).astype(np.float32)
    net = Reference(weights, 'weights', 'biases', '/BatchNorm')
    expected = resize(port_in_numpy(net, image), height, width, 'port')
    assert net.used == set(weights)
    with session_with(weights) as session:
        close(session.run(logits, {x: image}), expected)


@pytest.mark.parametrize('pooling', [[], [3, 3]])
@pytest.mark.parametrize('variant', ['paper', 'mmsegmentation'])
def test_heads_compute_deeplab_and_fcn(graph, pooling, variant):
    x, logits, aux = build(64, 80, image_pooling=pooling, variant=variant, **TINY)
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        stages, _ = resnest(x, depth=14, width=1 / 32, smooth_dilated=variant == 'paper')
    weights = random_weights(3, highest=1.2)
    with session_with(weights) as session:
        image = np.random.RandomState(4).normal(0, 1, (2, 64, 80, 3))
        found, found_aux, third, fourth = session.run([logits, aux] + stages[2:], {x: image})
    assert third.shape[1:3] == fourth.shape[1:3] == (8, 10)
    net = Reference(weights, 'kernel', 'bias', '_bn')
    last = 'project conv logits' if variant == 'paper' else 'bottleneck logits'
    names = ['head/' + name for name in ('aspp1 aspp2 aspp3 aspp4 pool ' + last).split()]
    pool = (lambda y: y.mean((1, 2), keepdims=True)) if not pooling else (lambda y: average(y, 3))
    scores = net.head(fourth, names, pool, pool_first=variant == 'mmsegmentation')
    close(found, resize(scores, 64, 80, variant))
    scores = net.conv(net.layer(third, 'auxiliary/conv'), 'auxiliary/logits', bias=True)
    close(found_aux, resize(scores, 64, 80, variant))
    assert net.used == {name for name in weights if name.startswith(('head/', 'auxiliary/'))}


def test_mmsegmentation_pools_nothing_where_dilation_took_the_stride(graph):
    def pools(**options):
        with tf.Graph().as_default() as plain:
            resnest(tf.placeholder(tf.float32, [1, 64, 64, 3]), depth=14, width=1 / 32, **options)
            return sum(op.type == 'AvgPool' for op in plain.get_operations())

    assert (pools(), pools(smooth_dilated=False)) == (4, 2)  # two of them in stage 2
