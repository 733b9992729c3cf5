"""Checkpoints: what is in one, and copies that are whole or absent."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from toy_checkpoints import SHAPES, contents, saved, values

from common.checkpoints import checkpoint
from common.checkpoints.checkpoint import Checkpoint
from common.errors import UserError


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

    monkeypatch.setattr(tf.Session, 'run', save)
    with pytest.raises(Stop):
        checkpoint.write(str(tmp_path / 'c'), values(seed=2))
    assert contents(tmp_path) == before


@pytest.mark.parametrize('keep', [True, False])
def test_move_and_copy(keep, run_folder, tmp_path_factory):
    folder, target = run_folder[0], tmp_path_factory.mktemp('target')
    (folder / 'model.ckpt-1.meta').write_bytes(b'graph')  # the savers of tests leave it out
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
