"""Variables and ops of ResNeSt's graphs, and what the caller hands in.

data/resnest_port_variables.json: [name, shape, trainable] of the published port's checkpoint.
"""

import collections
import json

import numpy as np
import pytest
import tensorflow as tf
from graph_variables import variables
from resnest_networks import DATA, TINY, build

from resnest_tf.checkpoints import describe


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as fresh:
        yield fresh


def test_variables_of_the_port_are_those_of_its_checkpoint_in_their_order():
    build(512, 512, 1, variant='port')
    published = json.loads((DATA / 'resnest_port_variables.json').read_text())
    assert (
        len(published) == 596
        and sum(np.prod(shape) for _, shape, trainable in published if trainable) == 67563539
    )
    left_out = set(describe({name: shape for name, shape, _ in published}).unused)
    assert variables() == [row for row in published if row[0] not in left_out]
    assert len(variables()) == 596 - 16 * 5
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        build(512, 512, 1, variant='port', training=True)
    assert len(variables()) == 596 - 16 * 5


def test_width_scales_every_layer_but_the_classifiers():
    build(width=0.25, depth=14, num_classes=7)
    found = {name: shape for name, shape, _ in variables()}
    assert found['stem/conv1/kernel'] == [3, 3, 3, 8] and found['stem/conv3/kernel'] == [
        3,
        3,
        8,
        16,
    ]
    assert found['stage1/block1/split/conv2/kernel'] == [3, 3, 8, 16]
    assert found['stage1/block1/split/fc1/kernel'] == [
        1,
        1,
        16,
        32,
    ]  # never fewer than 32 (the authors' code)
    assert found['stage4/block1/split/fc1/kernel'] == [1, 1, 128, 64]
    assert found['stage4/block1/conv3/kernel'] == [1, 1, 128, 512]
    assert found['head/project/kernel'] == [1, 1, 5 * 64, 64]
    assert found['head/logits/kernel'] == [1, 1, 64, 7] and found['auxiliary/logits/kernel'] == [
        1,
        1,
        64,
        7,
    ]


def test_built_again_with_reuse_it_has_the_same_variables():
    build(**TINY)
    before = variables()
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        build(training=True, **TINY)
    assert variables() == before


@pytest.mark.parametrize(
    'variant, depth, pooling, dilated',
    [('paper', 50, [], {2: 2 * 6, 4: 2 * 2}), ('paper', 14, [5, 9], {2: 2}), ('port', 50, [], {})],
)
def test_inference_graph_has_plain_ops_and_the_known_output(
    graph, variant, depth, pooling, dilated
):
    _, logits, _ = build(
        variant=variant, depth=depth, width=1 / 32, image_pooling=pooling, aux_head=False
    )
    assert logits.name == 'resize/ResizeBilinear:0' and logits.shape.as_list() == [2, 48, 64, 19]
    needed = tf.graph_util.extract_sub_graph(graph.as_graph_def(), ['resize/ResizeBilinear']).node
    plain = {
        'Placeholder',
        'Const',
        'VariableV2',
        'Identity',
        'Conv2D',
        'FusedBatchNormV3',
        'Relu',
        'BiasAdd',
        'Split',
        'Add',
        'Mul',
        'Mean',
        'ConcatV2',
        'ResizeBilinear',
        'AvgPool',
        'MaxPool',
    } | ({'Sub', 'Sigmoid', 'Pad'} if variant == 'paper' else {'Softmax'})
    assert {node.op for node in needed} - plain == set()
    assert not any('_gradient_op_type' in node.attr for node in needed)
    rates = collections.Counter(
        node.attr['dilations'].list.i[1] for node in needed if node.op == 'Conv2D'
    )
    assert {rate: count for rate, count in rates.items() if rate > 1} == {
        12: 1,
        24: 1,
        36: 1,
        **dilated,
    }


def test_without_auxiliary_head_there_are_none_of_its_variables():
    _, _, aux = build(aux_head=False, **TINY)
    assert aux is None and not any(name.startswith('auxiliary') for name, _, _ in variables())


def test_every_variable_is_trained_on_a_cpu():
    x, logits, aux = build(training=True, **dict(TINY, depth=26))
    loss = tf.reduce_mean(tf.square(logits - 1)) + tf.reduce_mean(tf.square(aux - 1))
    gradients = tf.gradients(loss, tf.trainable_variables())
    assert not any(gradient is None for gradient in gradients)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        found = session.run(
            gradients, {x: np.random.RandomState(0).normal(0, 1, x.shape.as_list())}
        )
    assert all(np.isfinite(gradient).all() for gradient in found)
    zero = [
        v.op.name
        for v, gradient in zip(tf.trainable_variables(), found)
        if not gradient.any() and v.shape.ndims == 4
    ]
    assert zero == []


@pytest.mark.parametrize(
    'variant, decay, flags, updates',
    [
        ('paper', 0.9, dict(), False),
        ('paper', 0.9, dict(training=True), True),
        ('paper', 0.9, dict(training=True, freeze_bn=True), False),
        ('port', 0.997, dict(training=True), True),
    ],
)
def test_batch_norm_of_the_caller_takes_the_place_of_every_one(variant, decay, flags, updates):
    calls = []

    def batch_norm(x, name, decay, epsilon, training):
        calls.append((name, decay, epsilon, training))
        return tf.identity(x)

    options = dict(TINY, variant=variant, depth=14 if variant == 'paper' else 50, **flags)
    build(**options)
    names = [name[: -len('/gamma')] for name, _, _ in variables() if name.endswith('/gamma')]
    assert len(tf.get_collection(tf.GraphKeys.UPDATE_OPS)) == (2 * len(names) if updates else 0)
    with tf.Graph().as_default() as without:
        build(batch_norm=batch_norm, **options)
        assert not any('BatchNorm' in op.type for op in without.get_operations())
    assert calls == [(name, decay, 1e-5, updates) for name in names]


def test_dropout_precedes_both_classifiers_while_training():
    taken = []

    def dropout(x, rate, index):
        taken.append((x.op.type, rate, index))
        return x

    build(training=True, dropout_rate=0.1, dropout=dropout, **TINY)
    assert taken == [('Relu', 0.1, 0), ('Relu', 0.1, 1)]
    with tf.Graph().as_default():
        build(dropout_rate=0.1, dropout=dropout, aux_head=False, **TINY)
        assert len(taken) == 2
        with pytest.raises(ValueError, match='dropout function'):
            build(training=True, dropout_rate=0.1, **TINY)


def test_channels_are_dropped_whole():
    """After ASPP as the authors do, before the classifiers as mmsegmentation does."""
    taken = []

    def dropout(x, rate, index):
        taken.append((x.shape.as_list()[1:3], rate, index))
        return x

    build(training=True, aspp_dropout=0.5, dropout=dropout, **TINY)
    assert taken == [([1, 1], 0.5, 2)]
    with tf.Graph().as_default():
        build(training=True, variant='mmsegmentation', dropout_rate=0.1, dropout=dropout, **TINY)
    assert taken[1:] == [([1, 1], 0.1, 0), ([1, 1], 0.1, 1)]
    with tf.Graph().as_default():
        build(variant='mmsegmentation', dropout_rate=0.1, dropout=dropout, **TINY)
    assert len(taken) == 5  # frozen batch norm is training too
