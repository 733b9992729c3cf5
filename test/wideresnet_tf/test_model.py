"""The three graphs against the outputs of the three published implementations, plain numpy and
closed forms.

test/data/wrn_{authors,port,mindspore}.npz hold random weights and batch-norm statistics under the
published names, images, and the logits that the published code computed from them (PyTorch 2.13,
TensorFlow 1.15, MindSpore 2.10, all on a CPU).
"""

import collections
import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from wideresnet_tf import model, model_mindspore, model_port
from wideresnet_tf.checkpoints import from_torch
from wideresnet_tf.config import WideResNetConfig

DATA = pathlib.Path(__file__).resolve().parent.parent / 'data'
VARIANTS = {'paper': model, 'port': model_port, 'mindspore': model_mindspore}


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as fresh:
        yield fresh


def build(batch=2, variant='paper', training=False, dropout=None, **options):
    images = tf.placeholder(tf.float32, [batch, 32, 32, 3], name='inputx')
    cfg = WideResNetConfig(variant=variant, **options)
    return images, VARIANTS[variant].build(images, cfg, training, dropout)


def session_with(weights):
    """A session in which every variable of the graph has its value of `weights`; none may be left
    over.
    """
    session = tf.Session()
    variables = tf.global_variables()
    assert {v.op.name for v in variables} == set(weights)
    session.run(
        tf.global_variables_initializer(),
        {v.initializer.inputs[1]: weights[v.op.name] for v in variables},
    )
    return session


def random_weights(seed):
    """For the variables of the graph: values such that every term of the network matters."""
    random = np.random.RandomState(seed)
    weights = {}
    for v in tf.global_variables():
        shape, leaf = v.shape.as_list(), v.op.name.split('/')[-1]
        if leaf == 'kernel':
            weights[v.op.name] = random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        elif leaf in ('gamma', 'moving_variance'):
            weights[v.op.name] = random.uniform(0.5, 1.5, shape)
        else:
            weights[v.op.name] = random.normal(0, 0.3, shape)
    return weights


def stored(name):
    with np.load(str(DATA / name)) as archive:
        arrays = dict(archive)
    # PyTorch and MindSpore lay images out as NCHW.
    return arrays, (
        arrays['images']
        if arrays['images'].shape[-1] == 3
        else arrays['images'].transpose(0, 2, 3, 1)
    )


# Against the published code


def test_paper_computes_what_the_authors_code_computes():
    arrays, x = stored('wrn_authors.npz')
    state = {
        name: value
        for name, value in arrays.items()
        if name not in ('images', 'logits') and not name.startswith('train')
    }
    images, logits = build(4, depth=16, widen_factor=1, num_classes=10)
    with session_with(from_torch(state)) as session:
        np.testing.assert_allclose(
            session.run(logits, {images: x}), arrays['logits'], rtol=1e-4, atol=1e-4
        )


def test_paper_trains_batch_norm_as_the_authors_code_does():
    arrays, x = stored('wrn_authors.npz')
    state = {
        name: value
        for name, value in arrays.items()
        if name not in ('images', 'logits') and not name.startswith('train')
    }
    images, logits = build(4, depth=16, widen_factor=1, num_classes=10, training=True)
    after = {v.op.name: v for v in tf.global_variables()}
    with session_with(from_torch(state)) as session:
        got, _ = session.run([logits, tf.get_collection(tf.GraphKeys.UPDATE_OPS)], {images: x})
        np.testing.assert_allclose(got, arrays['train_logits'], rtol=1e-4, atol=1e-4)
        for ours, theirs in [
            ('head/bn/moving_mean', 'train.bn.running_mean'),
            ('head/bn/moving_variance', 'train.bn.running_var'),
            ('group2/block1/bn2/moving_mean', 'train.group1.block0.bn1.running_mean'),
            ('group2/block1/bn2/moving_variance', 'train.group1.block0.bn1.running_var'),
        ]:
            np.testing.assert_allclose(
                session.run(after[ours]), arrays[theirs], rtol=1e-4, atol=1e-5
            )


def test_port_computes_what_the_published_port_computes():
    arrays, x = stored('wrn_port.npz')
    images, logits = build(depth=10, widen_factor=1, num_classes=100, variant='port')
    with session_with(
        {name: value for name, value in arrays.items() if name not in ('images', 'logits')}
    ) as session:
        np.testing.assert_allclose(
            session.run(logits, {images: x}), arrays['logits'], rtol=1e-4, atol=1e-4
        )


def test_mindspore_computes_what_the_model_zoo_computes():
    arrays, x = stored('wrn_mindspore.npz')
    weights = {}
    for name, value in arrays.items():
        if name in ('images', 'logits'):
            continue
        scope, leaf = name.rsplit('.', 1)
        block = re.match(r'conv(\d)\.(\d)\.(\w+)', scope)
        if block:  # conv2..4 are the groups
            scope = 'group%d/block%d/%s' % (
                int(block.group(1)) - 1,
                int(block.group(2)) + 1,
                block.group(3),
            )
        else:
            scope = {'conv1': 'stem/conv', 'bn1': 'stem/bn', 'bn': 'head/bn', 'linear': 'output'}[
                scope
            ]
        weights[scope + '/' + {'weight': 'kernel'}.get(leaf, leaf)] = (
            value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        )
    images, logits = build(depth=10, widen_factor=1, num_classes=10, variant='mindspore')
    with session_with(weights) as session:
        np.testing.assert_allclose(
            session.run(logits, {images: x}), arrays['logits'], rtol=1e-4, atol=1e-4
        )


# Against plain numpy, with identity and widening blocks in every group


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
            y += np.tensordot(
                x[:, i : i + stride * out : stride, j : j + stride * out : stride], kernel[i, j], 1
            )
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
            x = y + (
                next_conv(x, stride) if not block else x
            )  # widen factor 2: every group's first block widens
    x = next_bn_relu(x).mean(axis=(1, 2))
    return x @ weights['output/kernel'] + weights['output/bias']


def numpy_mindspore(x, weights, blocks):
    x = bn_relu(conv(x, weights['stem/conv/kernel']), weights, 'stem/bn', 1e-5)
    for group in (1, 2, 3):
        for block in range(1, blocks + 1):

            def at(x, layer, stride=1, of=(group, block)):
                scope = 'group%d/block%d/' % of + layer
                return conv(x, weights[scope + '/kernel'], weights[scope + '/bias'], stride)

            stride = 2 if group > 1 and block == 1 else 1
            y = at(
                bn_relu(x, weights, 'group%d/block%d/bn1' % (group, block), 1e-5), 'conv1', stride
            )
            y = at(bn_relu(y, weights, 'group%d/block%d/bn2' % (group, block), 1e-5), 'conv2')
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
        np.testing.assert_allclose(
            session.run(logits, {images: x}), reference(x, weights, blocks=2), rtol=1e-4, atol=1e-4
        )


# Variables


def parameters():
    return sum(int(np.prod(v.shape.as_list())) for v in tf.trainable_variables())


@pytest.mark.parametrize('depth, classes, published', [(28, 100, '36.5'), (40, 10, '55.8')])
def test_parameters_are_the_published_number(depth, classes, published):
    build(depth=depth, widen_factor=10, num_classes=classes)
    assert '%.1f' % (parameters() / 1e6) == published


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('depth, k, classes', [(10, 1, 10), (16, 3, 5)])
def test_parameters_are_the_closed_form(variant, depth, k, classes):
    n = (depth - 4) // 6
    widths = [16 * k, 32 * k, 64 * k]
    inputs = [16, 16 * k, 32 * k]
    shortcuts = [(i, o) for i, o in zip(inputs, widths) if i != o]
    kernels = (
        27 * 16
        + sum(9 * i * o + 9 * o * o * (2 * n - 1) for i, o in zip(inputs, widths))
        + sum(i * o for i, o in shortcuts)
    )
    norms = sum(2 * i + 2 * o * (2 * n - 1) for i, o in zip(inputs, widths)) + 2 * 64 * k
    biases = sum(2 * n * o for o in widths) + sum(o for _, o in shortcuts)
    extra = {'paper': 0, 'port': 16 + biases, 'mindspore': 2 * 16 + biases}[variant]
    build(depth=depth, widen_factor=k, num_classes=classes, variant=variant)
    assert parameters() == kernels + norms + extra + 64 * k * classes + classes


def test_port_has_the_variables_of_the_published_checkpoint_in_their_order():
    build(depth=28, widen_factor=10, num_classes=100, variant='port')
    trainable = set(tf.trainable_variables())
    ours = [[v.op.name, v.shape.as_list(), v in trainable] for v in tf.global_variables()]
    assert ours == json.loads((DATA / 'wrn_port_variables.json').read_text())


@pytest.mark.parametrize('variant', ['paper', 'mindspore'])
def test_names_are_readable(variant):
    build(depth=10, widen_factor=2, num_classes=10, variant=variant)
    names = {v.op.name for v in tf.global_variables()}
    assert {
        'stem/conv/kernel',
        'group1/block1/bn1/gamma',
        'group1/block1/conv1/kernel',
        'group3/block1/shortcut/kernel',
        'head/bn/moving_variance',
        'output/kernel',
        'output/bias',
    } <= names
    assert (
        ('group1/block1/conv1/bias' in names)
        == ('stem/bn/beta' in names)
        == (variant == 'mindspore')
    )


def test_initial_values_are_each_publications():
    def initial(variant, names):
        with tf.Graph().as_default():
            tf.set_random_seed(1)
            build(depth=10, widen_factor=4, num_classes=100, variant=variant)
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                return session.run([name + ':0' for name in names])

    names = ['group3/block1/conv1/kernel', 'output/kernel', 'head/bn/gamma']
    kernel, classifier, gamma = initial('paper', names)
    assert kernel.std() == pytest.approx(
        np.sqrt(2 / (9 * 128)), rel=0.02
    )  # fan in, not fan out: 128 -> 256 channels
    assert np.abs(kernel).max() > 3 * kernel.std()  # a normal's tail is not cut at two deviations
    assert classifier.std() == pytest.approx(np.sqrt(2 / 256), rel=0.02)
    assert 0 <= gamma.min() < 0.1 and 0.9 < gamma.max() < 1
    kernel, classifier, gamma = initial('mindspore', names)
    assert np.abs(kernel).max() == pytest.approx(
        np.sqrt(2) * np.sqrt(6 / (9 * 128 + 9 * 256)), rel=0.01
    )
    assert classifier.std() == pytest.approx(0.01, rel=0.02) and (gamma == 1).all()
    kernel, classifier, gamma = initial(
        'port', ['conv2d_7/kernel', 'output/kernel', 'batch_normalization_6/gamma']
    )
    assert np.abs(kernel).max() == pytest.approx(np.sqrt(6 / (9 * 128 + 9 * 256)), rel=0.01)
    assert (
        np.abs(classifier).max() == pytest.approx(np.sqrt(6 / 356), rel=0.01) and (gamma == 1).all()
    )


# The graph


@pytest.mark.parametrize('variant', VARIANTS)
def test_inference_graph_has_plain_ops_and_the_known_output(variant, graph):
    _, logits = build(None, depth=16, widen_factor=1, num_classes=10, variant=variant)
    assert (
        logits.name == 'output/BiasAdd:0'
        and logits.shape.as_list() == [None, 10]
        and logits.dtype == tf.float32
    )
    nodes = tf.graph_util.extract_sub_graph(graph.as_graph_def(), ['output/BiasAdd']).node
    count = collections.Counter(node.op for node in nodes)
    assert set(count) <= {
        'Placeholder',
        'Const',
        'VariableV2',
        'Identity',
        'Conv2D',
        'BiasAdd',
        'FusedBatchNormV3',
        'Relu',
        'Add',
        'Pad',
        'AvgPool',
        'Reshape',
        'MatMul',
    }
    assert count['Conv2D'] == 1 + 12 + 2 and count['Add'] == 6
    assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)


@pytest.mark.parametrize(
    'variant, norms, decays',
    [('paper', 13, {'0.9'}), ('port', 13, {'0.99', '0.9'}), ('mindspore', 14, {'0.9'})],
)
def test_training_updates_every_batch_norm_and_every_weight(variant, norms, decays):
    images, logits = build(depth=16, widen_factor=1, num_classes=10, variant=variant, training=True)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    assert len(updates) == 2 * norms
    assert all(
        gradient is not None
        for gradient in tf.gradients(tf.reduce_sum(logits**2), tf.trainable_variables())
    )
    moving = [v for v in tf.global_variables() if v.op.name.endswith('moving_variance')]
    with tf.Session() as session:
        # Far above the batch's variance: what is left of it is the decay.
        large = {v.initializer.inputs[1]: np.full(v.shape.as_list(), 1e6) for v in moving}
        session.run(tf.global_variables_initializer(), large)
        session.run(updates, {images: np.random.RandomState(0).normal(size=(2, 32, 32, 3))})
        left = [value[0] / 1e6 for value in session.run(moving)]
    assert {'%.3g' % value for value in left} == decays
    assert '%.3g' % left[-1] == '0.9'


@pytest.mark.parametrize('variant', VARIANTS)
def test_freeze_bn_uses_and_keeps_the_moving_statistics(variant):
    options = dict(depth=10, widen_factor=1, num_classes=10, variant=variant)
    images, logits = build(**options)
    weights = random_weights(5)
    x = np.random.RandomState(6).normal(size=(2, 32, 32, 3))
    with session_with(weights) as session:
        expected = session.run(logits, {images: x})
    with tf.Graph().as_default():
        images, logits = build(training=True, freeze_bn=True, **options)
        assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        assert all(
            gradient is not None for gradient in tf.gradients(logits, tf.trainable_variables())
        )
        with session_with(weights) as session:
            np.testing.assert_allclose(
                session.run(logits, {images: x}), expected, rtol=1e-5, atol=1e-5
            )


# Dropout


class Marker:
    """Stands in for dropout and leaves a trace in the graph."""

    def __init__(self):
        self.rates = []

    def __call__(self, x, rate, index):
        assert index == len(self.rates)
        self.rates.append(rate)
        return tf.identity(x, name='marker%d' % index)


@pytest.mark.parametrize(
    'variant, consumers',
    [
        ('paper', ['group%d/block%d/conv2/Conv2D' % (g, b) for g in (1, 2, 3) for b in (1, 2)]),
        ('mindspore', ['group%d/block%d/conv1/Conv2D' % (g, b) for g in (1, 2, 3) for b in (1, 2)]),
        (
            'port',
            ['conv2d_%d/Conv2D' % i for i in (2, 5, 7, 10, 12, 15)],
        ),  # 3, 8, 13 are the shortcuts
    ],
)
def test_dropout_sits_where_the_publication_has_it(variant, consumers, graph):
    marker = Marker()
    build(
        depth=16,
        widen_factor=2,
        num_classes=10,
        variant=variant,
        training=True,
        dropout_rate=0.3,
        dropout=marker,
    )
    assert marker.rates == [0.3] * 6
    for index, consumer in enumerate(consumers):
        mark = graph.get_operation_by_name('marker%d' % index)
        assert mark.inputs[0].op.type == 'Relu'
        assert [op.name for op in mark.outputs[0].consumers()] == [consumer]


@pytest.mark.parametrize(
    'options', [dict(training=False, dropout_rate=0.3), dict(training=True, dropout_rate=0.0)]
)
def test_dropout_is_absent_without_training_or_rate(options):
    marker = Marker()
    build(depth=10, widen_factor=1, num_classes=10, dropout=marker, **options)
    assert not marker.rates


def test_dropout_must_be_given():
    with pytest.raises(ValueError, match='needs a dropout function'):
        build(depth=10, widen_factor=1, num_classes=10, training=True, dropout_rate=0.3)
