"""Checkpoints while training."""

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError


def test_saves_at_the_start_every_n_steps_and_at_the_end(toy, saving, saved, tmp_path):
    saving(tmp_path, 2, 5, toy())
    assert saved(tmp_path) == [0, 2, 4, 5]
    for step in saved(tmp_path):
        assert tf.train.load_variable(str(tmp_path / ('model.ckpt-%d' % step)), 'w') == step


def test_does_not_write_again_what_it_restored(toy, saving, saved, tmp_path):
    saving(tmp_path, 2, 4, toy())
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob('model.ckpt-4.*')}
    with tf.Graph().as_default():
        saving(tmp_path, 2, 2, toy())
    assert {
        path.name: path.stat().st_mtime_ns for path in tmp_path.glob('model.ckpt-4.*')
    } == written
    assert saved(tmp_path) == [0, 2, 4, 6]
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / 'model.ckpt-6')


def test_replaces_what_an_abandoned_run_left(toy, saving, tmp_path):
    saving(tmp_path, 2, 4, toy())
    (tmp_path / 'checkpoint').write_text(
        'model_checkpoint_path: "model.ckpt-2"\nall_model_checkpoint_paths: "model.ckpt-2"\n'
    )
    (tmp_path / 'model.ckpt-4.data-00000-of-00001').write_bytes(b'damaged')
    with tf.Graph().as_default():
        saving(tmp_path, 2, 2, toy())
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / 'model.ckpt-4')
    assert tf.train.load_variable(str(tmp_path / 'model.ckpt-4'), 'w') == 4


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('save_steps', [2, 100])
def test_weights_that_are_not_finite_are_not_saved(toy, saving, saved, value, save_steps, tmp_path):
    train = toy()
    bad = tf.get_variable(
        'bn/moving_mean', [3], initializer=tf.zeros_initializer(), trainable=False
    )
    with tf.control_dependencies([train]):
        train = tf.assign(bad, [0, 1, value])
    with pytest.raises(
        UserError,
        match='weights are not finite after step 2; the last good checkpoint is .*model.ckpt-0',
    ):
        saving(tmp_path, save_steps, 2, train)
    assert saved(tmp_path) == [0]


def test_a_folder_that_disappears_is_named(toy, saving, saved, tmp_path):
    """As of a volume that is gone; with it in its place training goes on."""
    folder, moved = tmp_path / 'run', tmp_path / 'moved'

    class Disappears(tf.train.SessionRunHook):
        def after_run(self, context, values):
            folder.rename(moved)
            folder.touch()

    with pytest.raises(UserError, match='run: no such folder any more; with it in its place'):
        saving(folder, 1, 4, toy(), [Disappears()])
    folder.unlink()
    moved.rename(folder)
    with tf.Graph().as_default():
        saving(folder, 1, 4, toy())
    assert saved(folder) == [0, 1, 2, 3, 4]
