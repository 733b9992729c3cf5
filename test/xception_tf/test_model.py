"""Xception against tf.keras.applications.Xception, the published port's checkpoint and closed
forms.
"""

import collections
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from graph_variables import parameters, random_value, random_weights, session_with, variables

from xception_tf import model
from xception_tf.checkpoints import from_keras
from xception_tf.config import XceptionConfig

PORT = pathlib.Path(__file__).resolve().parent.parent / 'data' / 'xception_port_variables.json'
SMALL = dict(num_classes=5, width=1 / 16)


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as fresh:
        yield fresh


def build(size=71, batch=2, training=False, dropout=None, **options):
    images = tf.placeholder(tf.float32, [batch, size, size, 3], name='inputx')
    return images, model.build(images, XceptionConfig(**options), training, dropout)


# Against Keras


def keras_on(images, random):
    """({layer: {weight: random values}}, logits of each array of images) of Keras's network."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.keras.backend.set_session(session)
        network = tf.keras.applications.Xception(
            weights=None, input_tensor=tf.keras.Input((None, None, 3))
        )
        weights, values = {}, []
        for variable in network.weights:
            layer, leaf = variable.name.split(':')[0].split('/')
            values.append(random_value(random, leaf, variable.shape.as_list()))
            weights.setdefault(layer, {})[leaf] = values[-1]
        network.set_weights(values)
        logits = network.output.op.inputs[0]
        assert network.output.op.type == 'Softmax' and logits.op.type == 'BiasAdd'
        return weights, [session.run(logits, {network.input: x}) for x in images]


def test_computes_what_keras_computes_at_other_sizes_too():
    random = np.random.RandomState(0)
    images = [random.uniform(-1, 1, shape) for shape in ((1, 299, 299, 3), (2, 128, 96, 3))]
    weights, expected = keras_on(images, random)
    inputs = [tf.placeholder(tf.float32, x.shape) for x in images]
    outputs = []
    for x in inputs:
        with tf.variable_scope(tf.get_variable_scope(), reuse=bool(outputs)):
            outputs.append(model.build(x, XceptionConfig()))
    with session_with(from_keras(weights)) as session:
        for x, y, image, keras in zip(inputs, outputs, images, expected):
            found = session.run(y, {x: image})
            assert np.ptp(keras) > 1e-3 * np.abs(keras).max()
            assert np.abs(found - keras).max() <= 1e-5 * np.abs(keras).max()


# Variables


def test_variables_are_those_of_the_published_checkpoint_in_their_order():
    build(299)
    assert variables() == json.loads(PORT.read_text())
    assert parameters() == 22855952  # published: 22.86 M


@pytest.mark.parametrize('width, classes', [(0.0625, 5), (0.3, 2), (0.01, 3)])
def test_width_scales_every_layer_but_the_classifier(width, classes):
    def w(filters):
        """The nearest whole number, a half upwards, at least 1; of width to the nearest 1/2048."""
        return max(1, int(np.floor(filters * np.floor(2048 * width + 0.5) / 2048 + 0.5)))

    entry = [(64, 128), (128, 128), (128, 256), (256, 256), (256, 728), (728, 728)]
    separable = entry + 25 * [(728, 728)] + [(728, 1024), (1024, 1536), (1536, 2048)]
    shortcuts = [(64, 128), (128, 256), (256, 728), (728, 1024)]
    kernels = 27 * w(32) + 9 * w(32) * w(64)
    kernels += sum(9 * w(i) + w(i) * w(o) for i, o in separable)
    kernels += sum(w(i) * w(o) for i, o in shortcuts)
    norms = 2 * (w(32) + w(64) + sum(w(o) for _, o in separable + shortcuts))
    build(num_classes=classes, width=width)
    assert parameters() == kernels + norms + classes * (w(2048) + 1)


def test_half_a_filter_is_rounded_upwards():
    assert [model.filters_at(width, 32) for width in (1, 0.046875, 0.0001, 1.25)] == [32, 2, 1, 40]


def test_built_again_with_reuse_it_has_the_same_variables():
    build(**SMALL)
    before = variables()
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        build(training=True, **SMALL)
    assert variables() == before


def layer_shapes():
    return [
        op.outputs[0].shape.as_list()
        for op in tf.get_default_graph().get_operations()
        if op.type in ('Conv2D', 'DepthwiseConv2dNative', 'FusedBatchNormV3', 'MaxPool')
    ]


def test_channels_first_has_the_same_variables_and_shapes():
    """It is built only: TensorFlow 1.15 has no CPU kernels to run it."""
    build(299, **SMALL)
    last, shapes = variables(), layer_shapes()
    assert len(shapes) == 40 + 34 + 40 + 4
    # Block 13 still sees figure 5's middle flow: 728 / 16.
    assert [shape for shape in shapes if shape[3] == 46][-1] == [2, 19, 19, 46]
    with tf.Graph().as_default() as graph:
        _, logits = build(299, data_format='channels_first', **SMALL)
        assert variables() == last
        assert logits.shape.as_list() == [2, 5] and logits.name == 'dense/BiasAdd:0'
        assert [[n, h, w, c] for n, c, h, w in layer_shapes()] == shapes
        assert {
            op.get_attr('data_format')
            for op in graph.get_operations()
            if op.type in ('Conv2D', 'MaxPool')
        } == {b'NCHW'}


# The graph


def test_inference_graph_has_plain_ops_and_the_known_output(graph):
    _, logits = build(batch=None, **SMALL)
    assert logits.name == 'dense/BiasAdd:0'
    assert logits.shape.as_list() == [None, 5] and logits.dtype == tf.float32
    nodes = tf.graph_util.extract_sub_graph(graph.as_graph_def(), ['dense/BiasAdd']).node
    count = collections.Counter(node.op for node in nodes)
    layers = 'Conv2D DepthwiseConv2dNative FusedBatchNormV3 MaxPool Add'.split()
    plain = 'Placeholder Const VariableV2 Identity Relu Mean MatMul BiasAdd'.split()
    assert set(count) <= {*layers, *plain}
    assert [count[op] for op in layers] == [40, 34, 40, 4, 12]
    assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)


def test_training_updates_every_batch_norm_and_every_weight():
    images, logits = build(training=True, **SMALL)
    updates = {0.99: tf.get_collection(tf.GraphKeys.UPDATE_OPS)}  # Keras's decay
    assert None not in tf.gradients(tf.reduce_sum(logits**2), tf.trainable_variables())
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        model.build(images, XceptionConfig(bn_decay=0.9, **SMALL), training=True)
    updates[0.9] = tf.get_collection(tf.GraphKeys.UPDATE_OPS)[80:]
    moving = [v for v in tf.global_variables() if v.op.name.endswith('moving_variance')]
    # Far above the batch's variance: what is left of it is the decay.
    huge = [tf.assign(v, tf.fill(v.shape, 1e6)) for v in moving]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for decay, ops in updates.items():
            assert len(ops) == 80
            session.run(huge)
            session.run(ops, {images: np.random.RandomState(0).normal(size=(2, 71, 71, 3))})
            left = [value[0] / 1e6 for value in session.run(moving)]
            np.testing.assert_allclose(left, decay, rtol=1e-3)


def test_freeze_bn_uses_and_keeps_the_moving_statistics():
    images, logits = build(**SMALL)
    weights = random_weights(5)
    x = np.random.RandomState(6).normal(size=(2, 71, 71, 3))
    with session_with(weights) as session:
        expected = session.run(logits, {images: x})
    with tf.Graph().as_default():
        images, logits = build(training=True, freeze_bn=True, **SMALL)
        assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        assert None not in tf.gradients(logits, tf.trainable_variables())
        with session_with(weights) as session:
            found = session.run(logits, {images: x})
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


# Dropout


def test_dropout_is_before_the_classifier(graph):
    calls = []

    def marker(x, rate, index):
        calls.append((rate, index, x.op.type, x.shape.as_list()))
        return tf.identity(x, name='marker')

    build(training=True, dropout_rate=0.5, dropout=marker, **SMALL)
    assert calls == [(0.5, 0, 'Mean', [2, 128])]
    (mark,) = graph.get_operation_by_name('marker').outputs
    assert [op.type for op in mark.consumers()] == ['MatMul']


@pytest.mark.parametrize(
    'options', [dict(training=False, dropout_rate=0.5), dict(training=True, dropout_rate=0.0)]
)
def test_dropout_is_absent_without_training_or_rate(options):
    def never(*_):
        raise AssertionError

    build(dropout=never, **SMALL, **options)


def test_dropout_must_be_given():
    with pytest.raises(ValueError, match='needs a dropout function'):
        build(training=True, dropout_rate=0.5, **SMALL)
