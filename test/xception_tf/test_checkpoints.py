"""Recognising checkpoints by their variables, and Keras weights under every name that Keras gave
them.
"""

import collections
import functools
import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from xception_tf import model
from xception_tf.checkpoints import describe, from_keras
from xception_tf.config import XceptionConfig

PORT = pathlib.Path(__file__).resolve().parent.parent / 'data' / 'xception_port_variables.json'
WIDTH, CLASSES = 1 / 16, 5


def port_shapes():
    return {name: shape for name, shape, _ in json.loads(PORT.read_text())}


@functools.lru_cache()
def shapes_of(width=WIDTH, num_classes=CLASSES):
    with tf.Graph().as_default():
        model.build(
            tf.placeholder(tf.float32, [1, 71, 71, 3]),
            XceptionConfig(width=width, num_classes=num_classes),
        )
        return collections.OrderedDict(
            (v.op.name, v.shape.as_list()) for v in tf.global_variables()
        )


@functools.lru_cache()
def values():
    """Our variables, each tensor unlike any other."""
    random = np.random.RandomState(0)
    return collections.OrderedDict(
        (name, random.normal(size=shape).astype(np.float32)) for name, shape in shapes_of().items()
    )


def keras(rename=lambda layer: layer):
    """{layer: {weight: array}} of the network, layers under the names that `rename` gives them."""
    layers = collections.OrderedDict()
    for name, value in values().items():
        layer, leaf = name.split('/')
        layers.setdefault(rename(layer), collections.OrderedDict())[leaf] = value
    return layers


def tf_keras(offset=0):
    """tf.keras's names: shortcuts are conv2d, conv2d_1, ... for the first model of a graph, higher
    for later ones; the classifier is predictions.
    """

    def rename(layer):
        match = re.fullmatch(r'(conv2d|batch_normalization)_(\d)', layer)
        number = int(match.group(2)) - 1 + offset if match else 0
        return (
            match.group(1) + ('_%d' % number if number else '')
            if match
            else {'dense': 'predictions'}.get(layer, layer)
        )

    return keras(rename)


def keras_1():
    """The names in Keras's published file: every layer numbered by its kind, from 1, in the order
    in which the model makes them.
    """
    counts = collections.Counter()
    names = {}
    for layer in keras():
        kind = (
            'batchnormalization'
            if 'bn' in layer or 'batch' in layer
            else (
                'separableconvolution2d'
                if 'sepconv' in layer
                else 'dense'
                if layer == 'dense'
                else 'convolution2d'
            )
        )
        counts[kind] += 1
        names[layer] = '%s_%d' % (
            kind,
            counts[kind] + (kind == 'dense'),
        )  # its classifier is dense_2
    return keras(names.get)


# Description


def test_published_checkpoint_is_described_with_the_flags_it_needs():
    shapes = port_shapes()
    for company in (
        {},
        {
            'global_step': [],
            'beta1_power': [],
            'conv2d_9/kernel': [3, 3, 1, 1],
            'block1_conv1/kernel/Momentum': [3, 3, 3, 32],
            'dense/kernel/ExponentialMovingAverage': [2048, 1000],
        },
    ):
        there = dict(shapes, **company)
        assert str(describe(there)) == 'an Xception with 1000 classes; use --num_classes 1000'


@pytest.mark.parametrize('width, classes', [(1 / 16, 5), (0.3, 2), (1 / 3, 7), (0.001, 3)])
def test_width_and_classes_of_a_checkpoint_are_found(width, classes):
    shapes = shapes_of(width, classes)
    found = describe(shapes)
    assert found.flags['num_classes'] == classes
    assert (
        shapes_of(found.flags['width'], classes) == shapes
    )  # the flag that is told makes the same network
    if width in (1 / 16, 0.3):
        assert str(found) == 'an Xception with %d classes; use --width %s --num_classes %d' % (
            classes,
            width,
            classes,
        )


def test_checkpoint_without_a_classifier_says_how_to_use_it():
    shapes = {name: shape for name, shape in port_shapes().items() if not name.startswith('dense/')}
    assert (
        str(describe(shapes))
        == 'an Xception without a classifier, to train one on; use --do_train True --reinit_head'
        ' True'
    )


@pytest.mark.parametrize(
    'lost',
    [
        'block7_sepconv2/depthwise_kernel',
        'conv2d_3/kernel',
        'block14_sepconv2/pointwise_kernel',
        'batch_normalization_1/beta',
    ],
)
def test_part_of_a_network_is_not_described(lost):
    shapes = port_shapes()
    del shapes[lost]
    assert describe(shapes) is None


@pytest.mark.parametrize(
    'names',
    [
        [],
        ['global_step'],
        ['conv2d/kernel', 'conv2d/bias', 'batch_normalization/gamma', 'output/kernel'],
        ['stem/conv/kernel', 'group1/block1/conv1/kernel', 'output/kernel'],
        ['conv1_1/weights'],
    ],
)
def test_other_checkpoints_are_not_described(names):
    assert describe({name: [3, 3, 16, 16] for name in names}) is None


# Keras weights


@pytest.mark.parametrize(
    'weights',
    [tf_keras(), tf_keras(1), tf_keras(4), tf_keras(8), keras_1()],
    ids=['first', 'keras', 'second', 'offset', 'keras1'],
)
def test_every_tensor_finds_its_variable(weights):
    variables = from_keras(weights)
    assert set(variables) == set(values())
    for name, value in values().items():
        assert variables[name].dtype == np.float32 and np.array_equal(variables[name], value), name


def test_order_in_the_file_does_not_matter():
    weights = tf_keras(4)
    shuffled = {layer: weights[layer] for layer in sorted(weights, reverse=True)}
    assert all(
        np.array_equal(value, values()[name]) for name, value in from_keras(shuffled).items()
    )


def test_numbers_sort_as_numbers():
    weights = keras_1()  # separableconvolution2d_10 comes after _9
    shuffled = {layer: weights[layer] for layer in sorted(weights)}
    assert all(
        np.array_equal(value, values()[name]) for name, value in from_keras(shuffled).items()
    )


def test_layers_of_a_model_that_was_built_twice_lose_their_number():
    weights = keras(lambda layer: layer + '_1' if layer.startswith('block') else layer)
    assert all(np.array_equal(value, values()[name]) for name, value in from_keras(weights).items())


def test_model_without_top_has_no_classifier():
    weights = tf_keras()
    del weights['predictions']
    assert set(from_keras(weights)) == {name for name in values() if not name.startswith('dense/')}


def test_a_classifier_of_ones_own_on_top_is_taken():
    weights = tf_keras()
    weights['my_flowers'] = weights.pop('predictions')
    assert np.array_equal(from_keras(weights)['dense/kernel'], values()['dense/kernel'])


def test_half_precision_becomes_float32():
    weights = {
        layer: {leaf: value.astype(np.float16) for leaf, value in leaves.items()}
        for layer, leaves in tf_keras().items()
    }
    assert all(value.dtype == np.float32 for value in from_keras(weights).values())


CHANGES = [  # of layers; None: it is lost
    (
        {'block9_sepconv1': None},
        'width 0.0625: missing block9_sepconv1/depthwise_kernel, block9_sepconv1/pointwise_kernel$',
    ),
    ({'conv2d_3': None}, 'missing conv2d_4/kernel'),
    (
        {'dense_7': {'kernel': np.ones([5, 5]), 'bias': np.ones(5)}},
        'left over dense_7/bias, dense_7/kernel$',
    ),
    ({'conv2d_9': {'kernel': np.ones([3, 3, 4, 4])}}, 'left over conv2d_9/kernel$'),
    (
        {'block1_conv1': {'kernel': np.ones([5, 5, 3, 2])}},
        r'block1_conv1/kernel is \[5, 5, 3, 2\] instead of \[3, 3, 3, 2\]$',
    ),
    (
        {'conv2d_2': {'kernel': np.ones([1, 1, 16, 99])}},
        r'conv2d_2/kernel is \[1, 1, 16, 99\] instead of \[1, 1, 16, 46\]$',
    ),
    ({'predictions': {'bias': np.ones(4)}}, r'predictions/bias is \[4\] instead of \[5\]$'),
]


@pytest.mark.parametrize('changes, message', CHANGES)
def test_weights_that_do_not_fit_name_the_tensors(changes, message):
    weights = tf_keras()
    for layer, leaves in changes.items():
        if leaves is None:
            del weights[layer]
        else:
            weights[layer] = {**weights.get(layer, {}), **leaves}
    with pytest.raises(UserError, match=message):
        from_keras(weights)


RESNET = {
    'conv1': {'kernel': np.ones([7, 7, 3, 64]), 'bias': np.ones(64)},
    'fc1000': {'kernel': np.ones([2048, 1000])},
}
ONE_LAYER = {'depthwise_kernel': np.ones([3, 3, 8, 1]), 'pointwise_kernel': np.ones([1, 1, 8, 16])}


@pytest.mark.parametrize(
    'weights, message',
    [
        (
            RESNET,
            'not an Xception: that would have 34 layers with a pointwise_kernel, found none'
            ' among the layers conv1, fc1000',
        ),
        ({}, 'not an Xception.*nothing'),
        ({'separable_conv2d': ONE_LAYER}, 'missing .* and 2[0-9]{2} more'),
    ],
)
def test_weights_of_another_network(weights, message):
    with pytest.raises(UserError, match=message):
        from_keras(weights)
