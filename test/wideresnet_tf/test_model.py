"""The three graphs against the outputs of the three published implementations and plain NumPy.

test/data/wrn_{authors,port,mindspore}.npz hold random weights and batch-norm statistics under the
published names, images, and the logits that the published code computed from them (PyTorch 2.13,
TensorFlow 1.15, MindSpore 2.10, all on a CPU).
"""

import re

import numpy as np
import pytest
import tensorflow as tf
from graph_variables import random_weights, session_with
from wideresnet_networks import DATA, WIDTH_1, build, close

from wideresnet_tf.checkpoints import from_torch


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


def stored(name):
    """(weights, images in NHWC, logits, the rest) of a file."""
    with np.load(str(DATA / name)) as archive:
        weights = dict(archive)
    images, logits = weights.pop('images'), weights.pop('logits')
    # PyTorch and MindSpore lay images out as NCHW.
    images = images if images.shape[-1] == 3 else images.transpose(0, 2, 3, 1)
    rest = {key: weights.pop(key) for key in list(weights) if key.startswith('train')}
    return weights, images, logits, rest


# Against the published code


def test_paper_computes_what_the_authors_code_computes():
    weights, x, expected, _ = stored('wrn_authors.npz')
    images, logits = build(4, depth=16, **WIDTH_1)
    with session_with(from_torch(weights)) as session:
        close(session.run(logits, {images: x}), expected)


def test_paper_trains_batch_norm_as_the_authors_code_does():
    weights, x, _, trained = stored('wrn_authors.npz')
    images, logits = build(4, depth=16, training=True, **WIDTH_1)
    after = {v.op.name: v for v in tf.global_variables()}
    with session_with(from_torch(weights)) as session:
        found, _ = session.run([logits, tf.get_collection(tf.GraphKeys.UPDATE_OPS)], {images: x})
        close(found, trained['train_logits'])
        for ours, theirs in (('head/bn', 'bn'), ('group2/block1/bn2', 'group1.block0.bn1')):
            for our, their in (('mean', 'mean'), ('variance', 'var')):
                found = session.run(after['%s/moving_%s' % (ours, our)])
                expected = trained['train.%s.running_%s' % (theirs, their)]
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_port_computes_what_the_published_port_computes():
    weights, x, expected, _ = stored('wrn_port.npz')
    images, logits = build(depth=10, widen_factor=1, num_classes=100, variant='port')
    with session_with(weights) as session:
        close(session.run(logits, {images: x}), expected)


def of_mindspore(name):
    """Our name of its variable; its conv2..4 are the groups."""
    scope, leaf = name.rsplit('.', 1)
    scopes = {'conv1': 'stem/conv', 'bn1': 'stem/bn', 'bn': 'head/bn', 'linear': 'output'}
    block = re.match(r'conv(\d)\.(\d)\.(\w+)', scope)
    if block:
        group, number = int(block.group(1)) - 1, int(block.group(2)) + 1
        scopes[scope] = 'group%d/block%d/%s' % (group, number, block.group(3))
    return '%s/%s' % (scopes[scope], {'weight': 'kernel'}.get(leaf, leaf))


def test_mindspore_computes_what_the_model_zoo_computes():
    theirs, x, expected, _ = stored('wrn_mindspore.npz')
    weights = {
        of_mindspore(name): value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        for name, value in theirs.items()
    }
    images, logits = build(depth=10, variant='mindspore', **WIDTH_1)
    with session_with(weights) as session:
        close(session.run(logits, {images: x}), expected)


# Against plain NumPy, with identity and widening blocks in every group


def conv(x, kernel, bias=None, stride=1):
    """TensorFlow's "same": an even image with stride 2 is padded after its last row and column
    only.
    """
    size = kernel.shape[0]
    before, after = {(3, 1): (1, 1), (3, 2): (0, 1), (1, 1): (0, 0), (1, 2): (0, 0)}[size, stride]
    x = np.pad(x, [(0, 0), (before, after), (before, after), (0, 0)], 'constant')
    out = (x.shape[1] - size) // stride + 1
    y = np.zeros((x.shape[0], out, out, kernel.shape[3]))
    for i in range(size):
        for j in range(size):
            seen = x[:, i : i + stride * out : stride, j : j + stride * out : stride]
            y += np.tensordot(seen, kernel[i, j], 1)
    return y if bias is None else y + bias


def bn_relu(x, weights, scope, epsilon):
    gamma, beta, mean, variance = (
        weights[scope + '/' + leaf] for leaf in ('gamma', 'beta', 'moving_mean', 'moving_variance')
    )
    return np.maximum((x - mean) / np.sqrt(variance + epsilon) * gamma + beta, 0)


def numpy_port(x, weights, blocks):
    convs = norms = 0

    def next_conv(x, stride=1):
        nonlocal convs
        scope = 'conv2d' + ('_%d' % convs if convs else '')
        convs += 1
        return conv(x, weights[scope + '/kernel'], weights[scope + '/bias'], stride)

    def next_bn_relu(x):
        nonlocal norms
        scope = 'batch_normalization' + ('_%d' % norms if norms else '')
        norms += 1
        return bn_relu(x, weights, scope, 1e-3)

    x = next_conv(x)
    for group in range(3):
        for block in range(blocks):
            stride = 2 if group and not block else 1
            y = next_conv(next_bn_relu(next_conv(next_bn_relu(x))), stride)
            # Widen factor 2: every group's first block widens.
            x = y + (next_conv(x, stride) if not block else x)
    x = next_bn_relu(x).mean(axis=(1, 2))
    return x @ weights['output/kernel'] + weights['output/bias']


def numpy_mindspore(x, weights, blocks):
    x = bn_relu(conv(x, weights['stem/conv/kernel']), weights, 'stem/bn', 1e-5)
    for group in (1, 2, 3):
        for block in range(1, blocks + 1):

            def at(x, layer, stride=1, of=(group, block)):
                scope = 'group%d/block%d/%s' % (*of, layer)
                if layer.startswith('bn'):
                    return bn_relu(x, weights, scope, 1e-5)
                return conv(x, weights[scope + '/kernel'], weights[scope + '/bias'], stride)

            stride = 2 if group > 1 and block == 1 else 1
            y = at(at(at(at(x, 'bn1'), 'conv1', stride), 'bn2'), 'conv2')
            x = y + (at(x, 'shortcut', stride) if block == 1 else x)
    x = bn_relu(x, weights, 'head/bn', 1e-5).mean(axis=(1, 2))
    return x @ weights['output/kernel'] + weights['output/bias']


@pytest.mark.parametrize(
    'variant, reference', [('port', numpy_port), ('mindspore', numpy_mindspore)]
)
def test_graph_is_the_numpy_network(variant, reference):
    images, logits = build(depth=16, widen_factor=2, num_classes=7, variant=variant)
    weights = random_weights(3)
    x = np.random.RandomState(4).normal(size=(2, 32, 32, 3))
    with session_with(weights) as session:
        close(session.run(logits, {images: x}), reference(x, weights, blocks=2))
