"""Recognising checkpoints by their variables, and the authors' PyTorch weights."""

import json
import pathlib

import numpy as np
import pytest

from common.checkpoints import restore
from common.errors import UserError
from wideresnet_tf.checkpoints import describe, from_torch
from wideresnet_tf.config import WideResNetConfig
from wideresnet_tf.task import TASK

DATA = pathlib.Path(__file__).resolve().parent.parent / 'data'


def port_shapes():
    return {
        name: shape for name, shape, _ in json.loads((DATA / 'wrn_port_variables.json').read_text())
    }


def shapes_of(variant, depth, widen_factor, num_classes):
    cfg = WideResNetConfig(
        variant=variant, depth=depth, widen_factor=widen_factor, num_classes=num_classes
    )
    return restore.network_variables(TASK, cfg)


def with_company(shapes):
    """What a training checkpoint holds beside the model's variables."""
    company = {
        'global_step': [],
        'beta1_power': [],
        'beta2_power': [],
        'loss_scale': [],
        'conv2d_99/kernel/Adam': [3, 3, 1, 1],
    }
    for name, shape in shapes.items():
        for slot in ('Momentum', 'Adam', 'Adam_1', 'ExponentialMovingAverage'):
            company[name + '/' + slot] = shape
    return dict(shapes, **company)


def authors_state():
    with np.load(str(DATA / 'wrn_authors.npz')) as archive:
        return {
            name: archive[name]
            for name in archive.files
            if name not in ('images', 'logits') and not name.startswith('train')
        }


@pytest.mark.parametrize('variant', ['paper', 'mindspore', 'port'])
@pytest.mark.parametrize('depth, k, classes', [(10, 1, 2), (16, 2, 7), (22, 1, 100)])
def test_own_checkpoints_are_recognised_and_described(variant, depth, k, classes):
    shapes = shapes_of(variant, depth, k, classes)
    for there in (shapes, with_company(shapes)):
        assert describe(there).flags == dict(
            variant=variant, depth=depth, widen_factor=k, num_classes=classes
        )


def test_published_checkpoint_is_described_with_the_flags_it_needs():
    shapes = port_shapes()
    assert (
        str(describe(shapes)) == "a WRN-28-10 with 100 classes of the published port's graph; "
        'use --variant port --depth 28 --widen_factor 10 --num_classes 100'
    )


@pytest.mark.parametrize(
    'names',
    [
        set(),
        {'global_step', 'beta1_power'},
        {
            'conv2d_1/kernel',
            'batch_normalization_1/gamma',
            'block1_conv1/kernel',
            'block14_sepconv2_bn/gamma',
            'dense/kernel',
        },
        {'conv2d/kernel', 'conv2d/bias', 'batch_normalization/gamma', 'dense/kernel', 'dense/bias'},
        {
            'conv2d/kernel',
            'batch_normalization/gamma',
            'conv2d_1/kernel',
            'output/kernel',
            'output/bias',
        },  # no biases in its convs
        {'conv1_1/weights', 'conv1_1/BatchNorm/gamma', 'resnest1_0/Conv/weights'},
        {'stem/conv/kernel', 'output/kernel'},
        {
            'stem/conv/kernel/Momentum',
            'group1/block1/conv1/kernel/Momentum',
            'output/kernel/Momentum',
        },
    ],
)
def test_other_checkpoints_are_unknown(names):
    assert describe({name: [3, 3, 16, 16] for name in names}) is None


@pytest.mark.parametrize('variant', ['paper', 'port', 'mindspore'])
def test_part_of_a_network_is_not_described(variant):
    shapes = shapes_of(variant, 16, 1, 10)
    lost = {'port': 'batch_normalization_5/gamma'}.get(variant, 'group2/block2/conv1/kernel')
    del shapes[lost]
    assert describe(shapes) is None


def test_torch_weights_make_every_variable_of_the_paper_variant():
    state = authors_state()
    variables = from_torch(state)
    assert {name: list(value.shape) for name, value in variables.items()} == shapes_of(
        'paper', 16, 1, 10
    )
    assert all(value.dtype == np.float32 for value in variables.values())
    assert (
        variables['group2/block1/conv1/kernel'][0, 2, 5, 30]
        == state['group1.block0.conv0'][30, 5, 0, 2]
    )
    assert (
        variables['group3/block1/shortcut/kernel'][0, 0, 7, 60]
        == state['group2.block0.convdim'][60, 7, 0, 0]
    )
    assert variables['output/kernel'][50, 3] == state['fc.weight'][3, 50]
    assert (variables['group1/block2/bn1/beta'] == state['group0.block1.bn0.bias']).all()
    assert (variables['head/bn/moving_variance'] == state['bn.running_var']).all()


def test_torch_weights_of_half_precision_become_float32():
    variables = from_torch(
        {name: value.astype(np.float16) for name, value in authors_state().items()}
    )
    assert all(value.dtype == np.float32 for value in variables.values())


def without(*names):
    return {name: value for name, value in authors_state().items() if name not in names}


@pytest.mark.parametrize(
    'state, message',
    [
        (
            lambda: without('bn.bias', 'group1.block0.convdim'),
            'missing bn.bias, group1.block0.convdim$',
        ),
        (lambda: dict(authors_state(), **{'ema.decay': np.ones(1)}), 'left over ema.decay$'),
        (
            lambda: dict(authors_state(), **{'conv0': np.ones([16, 3, 5, 5])}),
            r'conv0 is \[16, 3, 5, 5\] instead of \[16, 3, 3, 3\]',
        ),
        (
            lambda: dict(authors_state(), **{'fc.bias': np.ones(3)}),
            r'fc.bias is \[3\] instead of \[10\]',
        ),
        (
            lambda: dict(authors_state(), **{'group0.block0.conv0': np.ones([24, 16, 3, 3])}),
            '24 filters.*multiple of 16',
        ),
        (lambda: {}, 'not a wide residual network.*found nothing'),
        (
            lambda: {
                'layer1.0.conv1.weight': np.ones([64, 64, 3, 3]),
                'fc.weight': np.ones([10, 64]),
            },
            'found fc.weight, layer1.0.conv1.weight',
        ),
    ],
)
def test_torch_weights_that_do_not_fit_name_the_tensors(state, message):
    with pytest.raises(UserError, match=message):
        from_torch(state())


def test_many_missing_tensors_are_counted():
    with pytest.raises(UserError, match='missing group0.block1.*and 5 more'):
        from_torch(without(*[name for name in authors_state() if name.startswith('group0.block1')]))
