"""Checkpoints: what is in one, whether it fits, copies that are whole or absent, averages."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from common import checkpoint as checkpoint_command
from common.checkpoints import checkpoint
from common.checkpoints.checkpoint import Checkpoint
from common.checkpoints.restore import AVERAGE, export, match
from common.errors import UserError

SHAPES = {
    'stem/kernel': [3, 3, 3, 4],
    'bn/moving_mean': [4],
    'output/kernel': [4, 10],
    'output/bias': [10],
}


def values(shapes=None, seed=0):
    random = np.random.RandomState(seed)
    return {
        name: random.normal(size=shape).astype(np.float32)
        for name, shape in (shapes or SHAPES).items()
    }


def saved(path, tensors):
    """Writes a checkpoint with TensorFlow's own saver, as training does."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {name: tf.Variable(value) for name, value in tensors.items()}
        session.run(tf.global_variables_initializer())
        return tf.train.Saver(variables).save(session, str(path), write_state=False)


@pytest.fixture
def run_folder(tmp_path):
    """A folder with checkpoints of steps 1, 2 and 3, as training leaves it; returns (folder,
    [tensors of each]).
    """
    everything = []
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        variables = {name: tf.get_variable(name, shape) for name, shape in SHAPES.items()}
        counts = tf.get_variable('counts', [2], tf.int32, tf.zeros_initializer())
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(save_relative_paths=True)
        for number in (1, 2, 3):
            tensors = values(seed=number)
            for name, variable in variables.items():
                variable.load(tensors[name], session)
            step.load(number, session)
            counts.load([number, -number], session)
            saver.save(session, str(tmp_path / 'model.ckpt'), global_step=number)
            everything.append(tensors)
    return tmp_path, everything


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


# Opening


@pytest.mark.parametrize(
    'name',
    ['model.ckpt-2', 'model.ckpt-2.index', 'model.ckpt-2.meta', 'model.ckpt-2.data-00000-of-00001'],
)
def test_a_checkpoint_is_named_by_its_prefix_or_a_file(name, run_folder):
    found = Checkpoint(str(run_folder[0] / name))
    assert found.path == str(run_folder[0] / 'model.ckpt-2')
    assert found.step == 2
    assert found.shapes == dict(SHAPES, counts=[2], global_step=[])
    np.testing.assert_array_equal(found.read('output/kernel'), run_folder[1][1]['output/kernel'])


def test_a_folder_means_its_latest(run_folder):
    assert Checkpoint(str(run_folder[0])).step == 3
    assert checkpoint.latest(str(run_folder[0])) == str(run_folder[0] / 'model.ckpt-3')


def test_latest_is_the_newest_that_is_complete(run_folder, tmp_path_factory):
    (run_folder[0] / 'model.ckpt-3.index').unlink()
    assert checkpoint.latest(str(run_folder[0])) == str(run_folder[0] / 'model.ckpt-2')
    assert checkpoint.latest(str(tmp_path_factory.mktemp('empty'))) is None
    assert checkpoint.latest(str(run_folder[0] / 'nowhere')) is None


def test_a_run_folder_may_be_moved(run_folder, tmp_path_factory):
    moved = tmp_path_factory.mktemp('moved') / 'run'
    shutil.move(str(run_folder[0]), str(moved))
    assert checkpoint.latest(str(moved)) == str(moved / 'model.ckpt-3')


def test_published_checkpoints_have_no_step(tmp_path):
    assert Checkpoint(saved(tmp_path / 'w.ckpt', values())).step is None


@pytest.mark.parametrize(
    'name, message',
    [
        ('model.ckpt-22', "model.ckpt-22: no such checkpoint .*did you mean '.*model.ckpt-2'"),
        ('zzz', 'no such checkpoint .*the folder holds .*model.ckpt-3'),
        ('nowhere/model.ckpt', r'no such checkpoint \(.*nowhere/model.ckpt.index is missing\)'),
    ],
)
def test_missing_checkpoints_name_those_that_are_there(name, message, run_folder):
    with pytest.raises(UserError, match=message):
        Checkpoint(str(run_folder[0] / name))


def test_a_folder_without_checkpoint(tmp_path):
    with pytest.raises(UserError, match='folder holds no checkpoint'):
        Checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    'damage',
    [
        lambda content: b'',
        lambda content: content[: len(content) // 2],
        lambda content: os.urandom(len(content)),
        lambda content: b'text\n' * 100,
    ],
)
def test_damaged_index(damage, run_folder):
    path = run_folder[0] / 'model.ckpt-2.index'
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r'model.ckpt-2 is damaged: .*older checkpoint') as error:
        Checkpoint(str(path))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'damage', [lambda content: content[:40], lambda content: bytes(len(content))]
)
def test_damaged_values(damage, run_folder):
    path = run_folder[0] / 'model.ckpt-2.data-00000-of-00001'
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match='model.ckpt-2.*stem/kernel is damaged'):
        Checkpoint(str(path)).read('stem/kernel')


def test_lost_values(run_folder):
    (run_folder[0] / 'model.ckpt-2.data-00000-of-00001').unlink()
    with pytest.raises(UserError, match='model.ckpt-2.data is missing'):
        Checkpoint(str(run_folder[0] / 'model.ckpt-2')).read('stem/kernel')


# Fitting


def test_everything_fits(run_folder):
    found = match(Checkpoint(str(run_folder[0])), SHAPES)
    assert found.names == {name: name for name in SHAPES}
    assert 'restored 4 of 4 variables' in found.report and 'ignored: 2 others' in found.report


def test_order_of_creation_and_optimizer_slots_do_not_matter(tmp_path):
    slots = {name + '/Momentum': np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    found = match(
        Checkpoint(saved(tmp_path / 'c', dict(values(), **slots))),
        dict(reversed(list(SHAPES.items()))),
    )
    assert found.names == {name: name for name in SHAPES}
    assert 'ignored: 4 others' in found.report


def test_missing_variables_are_named(tmp_path):
    path = saved(
        tmp_path / 'c',
        {name: value for name, value in values().items() if name != 'bn/moving_mean'},
    )
    with pytest.raises(
        UserError,
        match=r'c does not fit .*of 4 variables, 1 are missing \(bn/moving_mean\); it is a toy$',
    ) as error:
        match(Checkpoint(path), SHAPES, hint='it is a toy')
    assert 'reinit_head' not in str(error.value)


def test_many_missing_variables_are_counted(tmp_path):
    shapes = {'layer%d/kernel' % i: [1] for i in range(9)}
    with pytest.raises(
        UserError, match=r'9 are missing \(layer0/kernel, layer1/kernel, layer2/kernel, ...\)'
    ):
        match(Checkpoint(saved(tmp_path / 'c', values())), shapes)


def test_other_shapes_are_named_with_both(tmp_path):
    path = saved(tmp_path / 'c', values())
    with pytest.raises(
        UserError,
        match=(r'1 have another shape \(stem/kernel is \[3, 3, 3, 4\] instead of \[3, 3, 3, 8\]\)'),
    ):
        match(Checkpoint(path), dict(SHAPES, **{'stem/kernel': [3, 3, 3, 8]}))


def test_transposed_and_flattened_are_other_shapes(tmp_path):
    path = saved(tmp_path / 'c', values())
    for shape in ([10, 4], [40], [1, 4, 10]):
        with pytest.raises(UserError, match='output/kernel is'):
            match(Checkpoint(path), dict(SHAPES, **{'output/kernel': shape}))


OTHER_HEAD = dict(SHAPES, **{'output/kernel': [4, 7], 'output/bias': [7]})


def test_another_head_says_how_to_start_anew(tmp_path):
    path = saved(tmp_path / 'c', values())
    with pytest.raises(UserError, match='2 have another shape.*--reinit_head True'):
        match(Checkpoint(path), OTHER_HEAD)


@pytest.mark.parametrize(
    'there',
    [SHAPES, {name: shape for name, shape in SHAPES.items() if not name.startswith('output')}],
)
def test_reinit_head_leaves_out_the_head_alone(there, tmp_path):
    path = saved(tmp_path / 'c', values(there))
    found = match(Checkpoint(path), OTHER_HEAD, optional=('output',))
    assert found.names == {'stem/kernel': 'stem/kernel', 'bn/moving_mean': 'bn/moving_mean'}
    assert (
        'restored 2 of 4' in found.report
        and 'newly initialised: output/kernel, output/bias' in found.report
    )
    with pytest.raises(UserError, match='1 have another shape .stem/kernel'):
        match(
            Checkpoint(path),
            dict(OTHER_HEAD, **{'stem/kernel': [1, 1, 3, 4]}),
            optional=('output',),
        )
    with pytest.raises(UserError, match='1 are missing .output_2/kernel'):
        match(Checkpoint(path), dict(OTHER_HEAD, **{'output_2/kernel': [1]}), optional=('output',))


def test_reinit_head_keeps_a_head_that_fits(tmp_path):
    path = saved(tmp_path / 'c', values())
    assert match(Checkpoint(path), SHAPES, optional=('output',)).names == {
        name: name for name in SHAPES
    }


def test_averaged_weights_are_preferred(tmp_path):
    plain, averaged = (
        values(seed=1),
        values(
            {name: SHAPES[name] for name in ('stem/kernel', 'output/kernel', 'output/bias')}, seed=2
        ),
    )
    path = saved(
        tmp_path / 'c', dict(plain, **{name + AVERAGE: value for name, value in averaged.items()})
    )
    found = match(Checkpoint(path), SHAPES)
    assert '3 of them averaged' in found.report
    export(found, str(tmp_path / 'out' / 'w.ckpt'))
    exported = Checkpoint(str(tmp_path / 'out' / 'w.ckpt'))
    assert exported.shapes == SHAPES and exported.step is None
    for name in SHAPES:
        np.testing.assert_array_equal(exported.read(name), averaged.get(name, plain[name]))


# Writing


def test_export_is_weights_and_step(run_folder):
    folder, tensors = run_folder
    export(
        match(Checkpoint(str(folder / 'model.ckpt-2')), SHAPES),
        str(folder / 'new' / 'wideresnet.ckpt'),
    )
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


def test_written_values_read_back_with_their_types(tmp_path):
    tensors = {
        'a/b': np.float32([[1, 2]]),
        'half': np.float16([0.5]),
        'double': np.array(0.1),
        'step': np.array(2**40),
        'flag': np.array([True]),
    }
    checkpoint.write(str(tmp_path / 'c'), tensors)
    found = Checkpoint(str(tmp_path / 'c'))
    assert set(found.shapes) == set(tensors)
    for name, value in tensors.items():
        assert found.read(name).dtype == value.dtype
        np.testing.assert_array_equal(found.read(name), value)


class Stop(Exception):
    pass


@pytest.mark.parametrize('before', [False, True])
@pytest.mark.parametrize('call', range(2))
def test_interrupted_writing_leaves_no_mixture(before, call, tmp_path, monkeypatch):
    """Stopped at the first or the second rename: what was there, or nothing, but never new values
    under an old index.
    """
    if before:
        checkpoint.write(str(tmp_path / 'c'), values(seed=1))
    calls = []

    def replace(source, target):
        calls.append(target)
        if len(calls) > call:
            raise Stop
        return rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, 'replace', replace)
    with pytest.raises(Stop):
        checkpoint.write(str(tmp_path / 'c'), values(seed=2))
    monkeypatch.undo()
    try:
        found = Checkpoint(str(tmp_path / 'c'))
    except UserError as error:
        assert 'no such checkpoint' in str(error)
    else:
        assert before
        for name, value in values(seed=1).items():
            np.testing.assert_array_equal(found.read(name), value)
    assert not [name for name in contents(tmp_path) if name.startswith('.')]
    checkpoint.write(str(tmp_path / 'c'), values(seed=3))
    np.testing.assert_array_equal(
        Checkpoint(str(tmp_path / 'c')).read('output/bias'), values(seed=3)['output/bias']
    )


def test_error_while_saving_leaves_what_was_there(tmp_path, monkeypatch):
    checkpoint.write(str(tmp_path / 'c'), values(seed=1))
    before = contents(tmp_path)

    def save(*args, **kwargs):
        raise Stop

    monkeypatch.setattr(tf.train.Saver, 'save', save)
    with pytest.raises(Stop):
        checkpoint.write(str(tmp_path / 'c'), values(seed=2))
    assert contents(tmp_path) == before


@pytest.mark.parametrize('keep', [True, False])
def test_move_and_copy(keep, run_folder, tmp_path_factory):
    folder, target = run_folder[0], tmp_path_factory.mktemp('target')
    before = contents(folder)
    checkpoint.move(str(folder / 'model.ckpt-1'), target / 'best.ckpt-1', keep=keep)
    assert sorted(contents(target)) == [
        'best.ckpt-1.data-00000-of-00001',
        'best.ckpt-1.index',
        'best.ckpt-1.meta',
    ]
    assert Checkpoint(str(target / 'best.ckpt-1')).step == 1
    left = {name: content for name, content in before.items() if keep or 'ckpt-1.' not in name}
    assert contents(folder) == left


def test_a_prefix_is_not_a_pattern(tmp_path):
    for name, seed in (('run[1].ckpt-1', 1), ('run1.ckpt-1', 2), ('run[1].ckpt-10', 3)):
        checkpoint.write(str(tmp_path / name), values(seed=seed))
    checkpoint.move(str(tmp_path / 'run[1].ckpt-1'), tmp_path / 'new' / 'c')
    np.testing.assert_array_equal(
        Checkpoint(str(tmp_path / 'new' / 'c')).read('output/bias'), values(seed=1)['output/bias']
    )
    assert sorted(
        {name.rsplit('.', 1)[0] for name in contents(tmp_path) if not name.startswith('new')}
    ) == ['run1.ckpt-1', 'run[1].ckpt-10']


# Averaging


def command(*words):
    checkpoint_command.main([str(word) for word in words])


@pytest.mark.parametrize('last', [1, 2, 3])
def test_average_of_the_last(last, run_folder, capsys):
    folder, tensors = run_folder
    command('average', folder, '--last', last, '--output', folder / 'average' / 'a.ckpt')
    found = Checkpoint(str(folder / 'average' / 'a.ckpt'))
    assert found.step == 3 and found.read('counts').tolist() == [3, -3]
    for name in SHAPES:
        mean = np.mean([t[name].astype(np.float64) for t in tensors[-last:]], axis=0)
        np.testing.assert_allclose(found.read(name), mean, rtol=1e-6, atol=1e-7)
        assert found.read(name).dtype == np.float32
    assert 'model.ckpt-3' in capsys.readouterr().out


def test_average_is_not_rounded_on_the_way(tmp_path):
    for number, value in enumerate([2.0**24, 1.0, 1.0, 1.0]):
        checkpoint.write(str(tmp_path / str(number)), {'w': np.float32([value])})
    checkpoint.average([str(tmp_path / str(number)) for number in range(4)], str(tmp_path / 'mean'))
    assert Checkpoint(str(tmp_path / 'mean')).read('w')[0] == np.float32((2**24 + 3) / 4) != 2**22


@pytest.mark.parametrize(
    'last, said',
    [(4, 'has 3 checkpoints'), (0, 'whole number, 1 or more'), (-1, 'whole number, 1 or more')],
)
def test_average_of_more_than_there_are(last, said, run_folder, capsys):
    with pytest.raises(SystemExit) as stop:
        command('average', run_folder[0], '--last', last, '--output', run_folder[0] / 'a.ckpt')
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(run_folder[0].glob('a.ckpt*'))


def test_average_leaves_the_initial_weights_out(run_folder, capsys):
    folder, _ = run_folder
    checkpoint.move(folder / 'model.ckpt-1', folder / 'model.ckpt-0')
    with pytest.raises(SystemExit):
        command('average', folder, '--last', 3, '--output', folder / 'a.ckpt')
    assert 'has 2 checkpoints of a trained network' in capsys.readouterr().err
    command('average', folder, '--last', 2, '--output', folder / 'a.ckpt')
    assert 'model.ckpt-2, model.ckpt-3' in capsys.readouterr().out


def test_average_never_becomes_a_checkpoint_of_the_run(run_folder, capsys):
    with pytest.raises(SystemExit):
        command('average', run_folder[0], '--last', 1, '--output', run_folder[0] / 'model.ckpt-9')
    assert 'a run would resume from it' in capsys.readouterr().err
    assert not list(run_folder[0].glob('model.ckpt-9*'))
    with pytest.raises(SystemExit):
        command('average', run_folder[0], '--last', 1, '--output', run_folder[0])
    assert 'is a folder; name a checkpoint in it' in capsys.readouterr().err


def test_average_of_an_empty_folder(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command('average', tmp_path, '--output', tmp_path / 'a.ckpt')
    assert 'has 0 checkpoints' in capsys.readouterr().err


def test_average_of_different_runs(tmp_path):
    paths = [saved(tmp_path / 'a', values()), saved(tmp_path / 'b', values(OTHER_HEAD))]
    with pytest.raises(UserError, match='a and .*b are not of the same run'):
        checkpoint.average(paths, str(tmp_path / 'c'))


def test_average_with_a_damaged_one(run_folder, capsys):
    folder = run_folder[0]
    path = folder / 'model.ckpt-2.data-00000-of-00001'
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(SystemExit):
        command('average', folder, '--last', 3, '--output', folder / 'a.ckpt')
    assert 'damaged' in capsys.readouterr().err and not list(folder.glob('a.ckpt*'))
