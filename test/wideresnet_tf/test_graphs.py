"""Variables and ops of WideResNet's graphs, and what the caller hands in."""

import collections
import json

import numpy as np
import pytest
import tensorflow as tf
from graph_variables import parameters, random_weights, session_with, variables
from pytest import approx
from wideresnet_networks import DATA, VARIANTS, WIDTH_1, build, close


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as fresh:
        yield fresh


# Variables


@pytest.mark.parametrize('depth, classes, published', [(28, 100, '36.5'), (40, 10, '55.8')])
def test_parameters_are_the_published_number(depth, classes, published):
    build(depth=depth, widen_factor=10, num_classes=classes)
    assert '%.1f' % (parameters() / 1e6) == published


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('depth, k, classes', [(10, 1, 10), (16, 3, 5)])
def test_parameters_are_the_closed_form(variant, depth, k, classes):
    n = (depth - 4) // 6
    groups = list(zip([16, 16 * k, 32 * k], [16 * k, 32 * k, 64 * k]))
    shortcuts = [(i, o) for i, o in groups if i != o]
    kernels = 27 * 16 + sum(i * o for i, o in shortcuts)
    kernels += sum(9 * i * o + 9 * o * o * (2 * n - 1) for i, o in groups)
    norms = sum(2 * i + 2 * o * (2 * n - 1) for i, o in groups) + 2 * 64 * k
    biases = sum(2 * n * o for _, o in groups) + sum(o for _, o in shortcuts)
    extra = {'paper': 0, 'port': 16 + biases, 'mindspore': 2 * 16 + biases}[variant]
    build(depth=depth, widen_factor=k, num_classes=classes, variant=variant)
    assert parameters() == kernels + norms + extra + 64 * k * classes + classes


def test_port_has_the_variables_of_the_published_checkpoint_in_their_order():
    build(depth=28, widen_factor=10, num_classes=100, variant='port')
    assert variables() == json.loads((DATA / 'wrn_port_variables.json').read_text())


@pytest.mark.parametrize('variant', ['paper', 'mindspore'])
def test_names_are_readable(variant):
    build(depth=10, widen_factor=2, num_classes=10, variant=variant)
    names = {name for name, _, _ in variables()}
    expected = (
        'stem/conv/kernel group1/block1/bn1/gamma group1/block1/conv1/kernel'
        ' group3/block1/shortcut/kernel head/bn/moving_variance output/kernel output/bias'
    )
    assert set(expected.split()) <= names
    for name in ('group1/block1/conv1/bias', 'stem/bn/beta'):
        assert (name in names) == (variant == 'mindspore')


def test_initial_values_are_each_publications():
    def initial(variant, conv, norm):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(1)
            build(depth=10, widen_factor=4, num_classes=100, variant=variant)
            session.run(tf.global_variables_initializer())
            return session.run([conv + '/kernel:0', 'output/kernel:0', norm + '/gamma:0'])

    uniform = np.sqrt(6 / (9 * 128 + 9 * 256))  # 128 -> 256 channels
    kernel, classifier, gamma = initial('paper', 'group3/block1/conv1', 'head/bn')
    assert kernel.std() == approx(np.sqrt(2 / (9 * 128)), rel=0.02)  # fan in, not fan out
    assert np.abs(kernel).max() > 3 * kernel.std()  # a normal's tail is not cut at two deviations
    assert classifier.std() == approx(np.sqrt(2 / 256), rel=0.02)
    assert 0 <= gamma.min() < 0.1 and 0.9 < gamma.max() < 1
    kernel, classifier, gamma = initial('mindspore', 'group3/block1/conv1', 'head/bn')
    assert np.abs(kernel).max() == approx(np.sqrt(2) * uniform, rel=0.01)
    assert classifier.std() == approx(0.01, rel=0.02) and (gamma == 1).all()
    kernel, classifier, gamma = initial('port', 'conv2d_7', 'batch_normalization_6')
    assert np.abs(kernel).max() == approx(uniform, rel=0.01)
    assert np.abs(classifier).max() == approx(np.sqrt(6 / 356), rel=0.01) and (gamma == 1).all()


# Ops


@pytest.mark.parametrize('variant', VARIANTS)
def test_inference_graph_has_plain_ops_and_the_known_output(variant, graph):
    _, logits = build(None, depth=16, variant=variant, **WIDTH_1)
    assert logits.name == 'output/BiasAdd:0'
    assert logits.shape.as_list() == [None, 10] and logits.dtype == tf.float32
    nodes = tf.graph_util.extract_sub_graph(graph.as_graph_def(), ['output/BiasAdd']).node
    count = collections.Counter(node.op for node in nodes)
    plain = (
        'Placeholder Const VariableV2 Identity Conv2D BiasAdd FusedBatchNormV3 Relu Add Pad AvgPool'
        ' Reshape MatMul'
    )
    assert set(count) <= set(plain.split())
    assert count['Conv2D'] == 1 + 12 + 2 and count['Add'] == 6
    assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)


@pytest.mark.parametrize(
    'variant, norms, decays',
    [('paper', 13, {'0.9'}), ('port', 13, {'0.99', '0.9'}), ('mindspore', 14, {'0.9'})],
)
def test_training_updates_every_batch_norm_and_every_weight(variant, norms, decays):
    images, logits = build(depth=16, variant=variant, training=True, **WIDTH_1)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    assert len(updates) == 2 * norms
    assert None not in tf.gradients(tf.reduce_sum(logits**2), tf.trainable_variables())
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
    images, logits = build(depth=10, variant=variant, **WIDTH_1)
    weights = random_weights(5)
    x = np.random.RandomState(6).normal(size=(2, 32, 32, 3))
    with session_with(weights) as session:
        expected = session.run(logits, {images: x})
    with tf.Graph().as_default():
        images, logits = build(depth=10, variant=variant, training=True, freeze_bn=True, **WIDTH_1)
        assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        assert None not in tf.gradients(logits, tf.trainable_variables())
        with session_with(weights) as session:
            close(session.run(logits, {images: x}), expected, 1e-5)


# Dropout


class Marker:
    """Stands in for dropout and leaves a trace in the graph."""

    def __init__(self):
        self.rates = []

    def __call__(self, x, rate, index):
        assert index == len(self.rates)
        self.rates.append(rate)
        return tf.identity(x, name='marker%d' % index)


BLOCKS = ['group%d/block%d/' % (g, b) for g in (1, 2, 3) for b in (1, 2)]
CONSUMERS = {
    'paper': [block + 'conv2/Conv2D' for block in BLOCKS],
    'mindspore': [block + 'conv1/Conv2D' for block in BLOCKS],
    # 3, 8 and 13 are the shortcuts.
    'port': ['conv2d_%d/Conv2D' % i for i in (2, 5, 7, 10, 12, 15)],
}


@pytest.mark.parametrize('variant', CONSUMERS)
def test_dropout_sits_where_the_publication_has_it(variant, graph):
    marker, options = Marker(), dict(depth=16, widen_factor=2, num_classes=10, dropout_rate=0.3)
    build(variant=variant, training=True, dropout=marker, **options)
    assert marker.rates == [0.3] * 6
    for index, consumer in enumerate(CONSUMERS[variant]):
        mark = graph.get_operation_by_name('marker%d' % index)
        assert mark.inputs[0].op.type == 'Relu'
        assert [op.name for op in mark.outputs[0].consumers()] == [consumer]


@pytest.mark.parametrize(
    'options', [dict(training=False, dropout_rate=0.3), dict(training=True, dropout_rate=0.0)]
)
def test_dropout_is_absent_without_training_or_rate(options):
    marker = Marker()
    build(depth=10, dropout=marker, **WIDTH_1, **options)
    assert not marker.rates


def test_dropout_must_be_given():
    with pytest.raises(ValueError, match='needs a dropout function'):
        build(depth=10, training=True, dropout_rate=0.3, **WIDTH_1)
