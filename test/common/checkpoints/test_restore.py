"""Whether a checkpoint fits a network, and the export of weights."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from toy_checkpoints import OTHER_HEAD, SHAPES, contents, saved, values

from common.checkpoints import checkpoint, restore
from common.checkpoints.checkpoint import Checkpoint
from common.checkpoints.restore import AVERAGE, export, match
from common.errors import UserError


def test_everything_fits(run_folder):
    found = match(Checkpoint(str(run_folder[0])), SHAPES)
    assert found.names == {name: name for name in SHAPES}
    assert 'restored 4 of 4 variables' in found.report and 'ignored: 2 others' in found.report


def test_order_of_creation_and_optimizer_slots_do_not_matter(tmp_path):
    slots = {name + '/Momentum': np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    there = Checkpoint(saved(tmp_path / 'c', dict(values(), **slots)))
    found = match(there, dict(reversed(list(SHAPES.items()))))
    assert found.names == {name: name for name in SHAPES}
    assert 'ignored: 4 others' in found.report


def test_missing_variables_are_named(tmp_path):
    there = {name: value for name, value in values().items() if name != 'bn/moving_mean'}
    path = saved(tmp_path / 'c', there)
    said = r'c does not fit .*of 4 variables, 1 are missing \(bn/moving_mean\); it is a toy$'
    with pytest.raises(UserError, match=said) as error:
        match(Checkpoint(path), SHAPES, hint='it is a toy')
    assert 'reinit_head' not in str(error.value)


def test_many_missing_variables_are_counted(tmp_path):
    shapes = {'layer%d/kernel' % i: [1] for i in range(9)}
    said = r'9 are missing \(layer0/kernel, layer1/kernel, layer2/kernel, ...\)'
    with pytest.raises(UserError, match=said):
        match(Checkpoint(saved(tmp_path / 'c', values())), shapes)


def test_other_shapes_are_named_with_both(tmp_path):
    path = saved(tmp_path / 'c', values())
    said = r'1 have another shape \(stem/kernel is \[3, 3, 3, 4\] instead of \[3, 3, 3, 8\]\)'
    with pytest.raises(UserError, match=said) as error:
        match(
            Checkpoint(path), dict(SHAPES, **{'stem/kernel': [3, 3, 3, 8]}), classifier=['output']
        )
    assert 'reinit_head' not in str(error.value)


def test_transposed_and_flattened_are_other_shapes(tmp_path):
    path = saved(tmp_path / 'c', values())
    for shape in ([10, 4], [40], [1, 4, 10]):
        with pytest.raises(UserError, match='output/kernel is'):
            match(Checkpoint(path), dict(SHAPES, **{'output/kernel': shape}))


def test_another_head_says_how_to_start_anew(tmp_path):
    """However many variables it has, and whatever their names are."""
    shapes = {'head/weights': [4, 10], 'head/biases': [10], 'auxiliary/weights': [4, 10]}
    path = saved(tmp_path / 'c', values(dict(SHAPES, **shapes)))
    said = '%d have another shape.*; it is a toy; --reinit_head True'
    with pytest.raises(UserError, match=said % 2):
        match(Checkpoint(path), OTHER_HEAD, hint='it is a toy', classifier=['output'])
    other = dict(SHAPES, **{name: shape[:-1] + [7] for name, shape in shapes.items()})
    with pytest.raises(UserError, match=said % 3):
        match(Checkpoint(path), other, hint='it is a toy', classifier=['head', 'auxiliary'])


@pytest.mark.parametrize(
    'there',
    [SHAPES, {name: shape for name, shape in SHAPES.items() if not name.startswith('output')}],
)
def test_reinit_head_leaves_out_the_head_alone(there, tmp_path):
    path = saved(tmp_path / 'c', values(there))
    found = match(Checkpoint(path), OTHER_HEAD, optional=('output',))
    assert found.names == {'stem/kernel': 'stem/kernel', 'bn/moving_mean': 'bn/moving_mean'}
    assert 'restored 2 of 4' in found.report
    assert 'newly initialised: output/kernel, output/bias' in found.report
    other_stem = dict(OTHER_HEAD, **{'stem/kernel': [1, 1, 3, 4]})
    with pytest.raises(UserError, match='1 have another shape .stem/kernel'):
        match(Checkpoint(path), other_stem, optional=('output',))
    with pytest.raises(UserError, match='1 are missing .output_2/kernel'):
        match(Checkpoint(path), dict(OTHER_HEAD, **{'output_2/kernel': [1]}), optional=('output',))


def test_reinit_head_keeps_a_head_that_fits(tmp_path):
    found = match(Checkpoint(saved(tmp_path / 'c', values())), SHAPES, optional=('output',))
    assert found.names == {name: name for name in SHAPES}


def test_averaged_weights_are_preferred(tmp_path):
    plain, averaged = values(seed=1), values(seed=2)
    del averaged['bn/moving_mean']
    both = dict(plain, **{name + AVERAGE: value for name, value in averaged.items()})
    found = match(Checkpoint(saved(tmp_path / 'c', both)), SHAPES)
    assert '3 of them averaged' in found.report
    export(found, str(tmp_path / 'out' / 'w.ckpt'))
    exported = Checkpoint(str(tmp_path / 'out' / 'w.ckpt'))
    assert exported.shapes == SHAPES and exported.step is None
    for name in SHAPES:
        np.testing.assert_array_equal(exported.read(name), averaged.get(name, plain[name]))


def test_export_is_weights_and_step(run_folder):
    folder, tensors = run_folder
    found = match(Checkpoint(str(folder / 'model.ckpt-2')), SHAPES)
    export(found, str(folder / 'new' / 'wideresnet.ckpt'))
    assert sorted(contents(folder / 'new')) == [
        'wideresnet.ckpt.data-00000-of-00001',
        'wideresnet.ckpt.index',
    ]
    exported = Checkpoint(str(folder / 'new' / 'wideresnet.ckpt'))
    assert exported.shapes == dict(SHAPES, global_step=[]) and exported.step == 2
    for name in SHAPES:
        np.testing.assert_array_equal(exported.read(name), tensors[1][name])
        assert exported.read(name).dtype == np.float32
    assert checkpoint.latest(str(folder)) == str(folder / 'model.ckpt-3')


def test_the_network_that_training_builds_is_not_built_again(configured, monkeypatch):
    """Its variables alone, in their order; wherever the run is; a wider one is another."""
    task, cfg = configured()
    monkeypatch.setattr(restore, '_SHAPES', {})
    expected = restore.network_variables(task, cfg, training=True)
    monkeypatch.setattr(restore, '_SHAPES', {})
    with tf.Graph().as_default():
        tf.train.get_or_create_global_step()
        images = tf.zeros([2, 32, 32, 3])
        restore.build_training(task, images, cfg, dropout=lambda x, rate, index: x)
    monkeypatch.delattr(restore, 'variable_shapes')
    elsewhere = dataclasses.replace(cfg, output_path='elsewhere')
    found = restore.network_variables(task, elsewhere, training=True)
    assert list(found.items()) == list(expected.items())
    with pytest.raises(NameError):
        restore.network_variables(task, dataclasses.replace(cfg, widen_factor=2), training=True)
