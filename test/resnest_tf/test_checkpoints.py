"""Recognising checkpoints by their variables, and the authors' PyTorch weights."""

import functools
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from resnest_networks import deeplab, resnest

from common.errors import UserError
from resnest_tf.checkpoints import describe, from_torch

DATA = pathlib.Path(__file__).resolve().parent.parent / 'data'


def port_shapes():
    return {
        name: shape
        for name, shape, _ in json.loads((DATA / 'resnest_port_variables.json').read_text())
    }


@functools.lru_cache(maxsize=None)
def shapes_of(network=deeplab, **options):
    with tf.Graph().as_default():
        network(tf.placeholder(tf.float32, [1, 64, 64, 3]), **options)
        return {v.op.name: v.shape.as_list() for v in tf.global_variables()}


def with_company(shapes):
    """What a training checkpoint holds beside the model's variables."""
    company = {'global_step': [], 'beta1_power': [], 'beta2_power': [], 'loss_scale': []}
    for name, shape in shapes.items():
        for slot in ('Momentum', 'Adam', 'Adam_1', 'ExponentialMovingAverage'):
            company[name + '/' + slot] = shape
    return dict(shapes, **company)


def authors_state(drop=()):
    with np.load(str(DATA / 'resnest_authors.npz')) as archive:
        return {
            name: archive[name]
            for name in archive.files
            if '/' not in name and not name.startswith('images') and name not in drop
        }


OURS = [
    dict(depth=14, width=0.1, num_classes=3),
    dict(depth=26, width=3 / 256, num_classes=2, aux_head=False),
    dict(depth=50, width=1.0, num_classes=19),
]


@pytest.mark.parametrize('options', OURS)
def test_own_checkpoints_are_described_with_the_flags_that_build_them(options):
    shapes = shapes_of(**options)
    aux_head = options.get('aux_head', True)
    for there in (shapes, with_company(shapes)):
        found = describe(there)
        flags = found.flags
        assert (flags['variant'], flags['depth']) == ('paper', options['depth'])
        assert shapes_of(aux_head=aux_head, **flags) == shapes
        assert found.missing == ([] if aux_head else ['auxiliary']) and found.unused == []


def test_backbone_is_described_and_lacks_both_heads():
    shapes = shapes_of(resnest, depth=50)
    assert str(describe(shapes)) == (
        "a ResNeSt-50 backbone of the paper's graph, without a head, to train one on; use"
        ' --variant paper --depth 50 --do_train True'
    )
    assert describe(shapes).missing == ['head', 'auxiliary']
    assert {
        name: shape
        for name, shape in shapes_of(depth=50, width=1.0, num_classes=19).items()
        if not name.startswith(('head/', 'auxiliary/'))
    } == shapes


def test_published_checkpoint_is_described_with_the_flags_it_needs():
    assert str(describe(port_shapes())) == (
        "a DeepLabV3-ResNeSt-50 with 19 classes of the published port's graph; use --variant port"
        ' --depth 50 --num_classes 19'
    )
    assert describe(port_shapes()).missing == []


def test_narrow_port_is_described():
    options = dict(variant='port', width=1 / 32, num_classes=5)
    assert describe(with_company(shapes_of(**options))).flags == dict(options, depth=50)


def test_unused_convs_of_the_port_are_what_its_graph_does_not_take():
    shapes = port_shapes()
    live = shapes_of(variant='port', width=1 / 32, num_classes=5)
    gone = describe(shapes).unused
    assert len(gone) == len(set(gone)) == 16 * 5
    assert set(shapes) - set(gone) == set(live)
    kernels = [name for name in gone if name.endswith('/weights')]
    assert len(kernels) == 16 and all(
        shapes[name][:2] == [3, 3] and shapes[name][2] == shapes[name][3] for name in kernels
    )
    assert len(describe(dict(shapes, **{'Conv_1/weights/Adam': [3, 3, 64, 64]})).unused) == 81


@pytest.mark.parametrize(
    'names',
    [
        set(),
        {'global_step', 'beta1_power'},
        {'stem/conv/kernel', 'group1/block1/conv1/kernel', 'output/kernel'},
        {'block1_conv1/kernel', 'block14_sepconv2_bn/gamma', 'dense/kernel'},
        {'conv1_1/weights', 'Conv/weights', 'Conv_71/weights'},
        {
            'stem/conv1/kernel/Momentum',
            'stage1/block1/split/conv1/kernel/Momentum',
            'head/logits/kernel/Momentum',
        },
    ],
)
def test_other_checkpoints_are_unknown(names):
    assert describe({name: [3, 3, 16, 16] for name in names}) is None


@pytest.mark.parametrize(
    'options, lost',
    [
        (dict(depth=26, width=1 / 32), 'stage3/block2/conv3/kernel'),
        (dict(variant='port', width=1 / 32, num_classes=5), 'resnest3_5/Conv_3/weights'),
    ],
)
def test_part_of_a_network_is_not_described(options, lost):
    shapes = dict(shapes_of(**options))
    del shapes[lost]
    assert describe(shapes) is None


# PyTorch


def test_published_weights_make_every_variable_of_the_backbone():
    published = json.loads((DATA / 'resnest_authors_variables.json').read_text())['resnest50']
    state = {
        name: np.zeros(shape, np.int64 if name.endswith('tracked') else np.float32)
        for name, shape in published
    }
    assert {name: list(value.shape) for name, value in from_torch(state).items()} == shapes_of(
        resnest, depth=50
    )


def test_weights_are_transposed_and_split():
    state = authors_state()
    variables = from_torch(state)
    assert {name: list(value.shape) for name, value in variables.items()} == shapes_of(
        resnest, depth=26, width=1 / 16
    )
    assert all(value.dtype == np.float32 for value in variables.values())
    assert (
        variables['stage2/block2/conv1/kernel'][0, 0, 5, 3]
        == state['layer2.1.conv1.weight'][3, 5, 0, 0]
    )
    whole = state['layer3.1.conv2.conv.weight']  # 32 filters of 8 channels each
    assert variables['stage3/block2/split/conv1/kernel'][0, 2, 5, 3] == whole[3, 5, 0, 2]
    assert variables['stage3/block2/split/conv2/kernel'][0, 2, 5, 3] == whole[16 + 3, 5, 0, 2]
    assert (
        variables['stage1/block1/split/conv2_bn/moving_variance']
        == state['layer1.0.conv2.bn0.running_var'][4:]
    ).all()
    assert (variables['stem/conv3_bn/beta'] == state['bn1.bias']).all()
    assert (
        variables['stage4/block1/shortcut_bn/gamma'] == state['layer4.0.downsample.2.weight']
    ).all()


def test_weights_without_classifier_are_enough():
    assert set(from_torch(authors_state(('fc.weight', 'fc.bias')))) == set(
        from_torch(authors_state())
    )


@pytest.mark.parametrize(
    'state, message',
    [
        (
            lambda: authors_state(('bn1.bias', 'layer3.0.conv2.fc1.bias')),
            'do not make a ResNeSt-26: missing bn1.bias, layer3.0.conv2.fc1.bias$',
        ),
        (lambda: dict(authors_state(), **{'head.weight': np.ones(3)}), 'left over head.weight$'),
        (
            lambda: dict(authors_state(), **{'conv1.0.weight': np.ones([2, 3, 7, 7])}),
            r'conv1.0.weight is \[2, 3, 7, 7\] instead of \[2, 3, 3, 3\]',
        ),
        (
            lambda: authors_state(('layer2.1.conv3.weight',)),
            'not a ResNeSt .* with 14 or 26 or 50 or 101 layers.*and .* more',
        ),
        (lambda: {}, 'not a ResNeSt.*found nothing'),
        (
            lambda: {
                name: value for name, value in authors_state().items() if '.conv2.' not in name
            },
            'not a ResNeSt',
        ),  # a plain ResNet
    ],
)
def test_weights_that_do_not_fit_name_the_tensors(state, message):
    with pytest.raises(UserError, match=message):
        from_torch(state())
