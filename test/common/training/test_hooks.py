"""What happens now and then during training, on a toy graph with the tensors that a model has."""

import json
import os
import re
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from common.checkpoints import saver as saver_module
from common.errors import UserError
from common.training import hooks


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


def toy(losses=(1.0,), rate=0.1):
    """A train op that counts steps and sets the variable w to the step; the loss of step t is
    losses[t-1] (or the last).
    """
    step = tf.train.get_or_create_global_step()
    w = tf.get_variable('w', [], initializer=tf.zeros_initializer())
    values = tf.constant(losses, tf.float32)
    loss = tf.identity(
        tf.gather(values, tf.minimum(tf.cast(step, tf.int32), len(losses) - 1)), name='train/loss'
    )
    tf.constant(rate, name='train/learning_rate')
    with tf.control_dependencies([loss]):
        train = tf.assign(w, tf.cast(tf.assign_add(step, 1), tf.float32))
    with tf.control_dependencies([train]):
        tf.identity(step, name='train/global_step')
    return train


def rows(folder):
    return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


# The written record


def test_records_are_lines_of_json_and_scalars_of_tensorboard(tmp_path):
    journal = hooks.Journal(str(tmp_path / 'run'), True)
    before = time.time()
    journal.record('run', model='toy')
    journal.record('train', step=3, loss=0.5, note='text')
    run, train = rows(tmp_path / 'run')
    assert (run['kind'], run['model']) == ('run', 'toy') and before - 1 < run[
        'time'
    ] <= time.time() + 1
    assert (train['kind'], train['step'], train['loss'], train['note']) == ('train', 3, 0.5, 'text')
    events = [
        event
        for path in (tmp_path / 'run').glob('events*')
        for event in tf.compat.v1.train.summary_iterator(str(path))
    ]
    assert [
        (event.step, value.tag, value.simple_value)
        for event in events
        for value in event.summary.value
    ] == [(3, 'train/loss', 0.5)]


def test_what_is_said_is_printed_and_logged(tmp_path, capsys):
    for text in ('first', 'second'):
        hooks.Journal(str(tmp_path), True).say(text)
    assert (tmp_path / 'log.txt').read_text() == 'first\nsecond\n'
    assert capsys.readouterr().out == 'first\nsecond\n'


def test_other_ranks_are_silent(tmp_path, capsys):
    journal = hooks.Journal(str(tmp_path / 'run'), False)
    journal.say('text')
    journal.record('train', step=1, loss=1.0)
    assert not (tmp_path / 'run').exists() and capsys.readouterr().out == ''


@pytest.mark.parametrize('again', [False, True])
def test_lines_after_the_checkpoint_are_forgotten(again, tmp_path):
    journal = hooks.Journal(str(tmp_path), True)
    journal.record('run', resumed_from=0)
    for step in (1, 2, 3, 4):
        journal.record('train', step=step, loss=1.0)
        if step % 2 == 0:
            journal.record('eval', step=step, loss=1.0)
    with open(str(tmp_path / 'metrics.jsonl'), 'a') as file:
        file.write('{"kind": "train", "st')
    hooks.Journal(str(tmp_path), True, resumed_from=2, evaluates_again=again).record(
        'train', step=3, loss=2.0
    )
    assert [(row['kind'], row.get('step')) for row in rows(tmp_path)] == [
        ('run', None),
        ('train', 1),
        ('train', 2),
    ] + [('eval', 2)] * (not again) + [('train', 3)]
    assert not list(tmp_path.glob('.*'))


# Progress


class Time:
    """time.perf_counter() that a step advances by what the test says."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(time, 'perf_counter', lambda: self.now)


def progress(folder, clock=None, **changes):
    settings = dict(
        interval=2,
        steps_per_epoch=3,
        total_steps=5,
        global_batch=8,
        chief=True,
        model_dir=str(folder),
    )
    return hooks.Progress(
        hooks.Journal(str(folder), True), clock or hooks.Clock(), **dict(settings, **changes)
    )


class Lasts(tf.train.SessionRunHook):
    """The steps take so many seconds. Stands last, so that Progress starts its watch before and
    reads it after.
    """

    def __init__(self, clock, seconds):
        self._clock, self._seconds = clock, iter(seconds)

    def before_run(self, run_context):
        self._clock.now += next(self._seconds)


def test_lines_of_progress(tmp_path, capsys, monkeypatch):
    """Five steps of 100 (warm-up), 2, 2, 2 and 1 seconds, 8 images each."""
    train, fake, clock = (
        toy([1.5, 0.25, 3.0, 4.0, 0.125], rate=0.0123),
        Time(monkeypatch),
        hooks.Clock(),
    )
    with tf.train.MonitoredSession(
        hooks=[progress(tmp_path, clock), Lasts(fake, [100, 2, 2, 2, 1])]
    ) as session:
        for _ in range(5):
            session.run(train)
    assert capsys.readouterr().out.splitlines() == [
        'epoch: 1 step: 2, loss is 0.2500000, 4.0 img/s, lr 0.0123, ETA 0:00:06',
        'epoch: 2 step: 1, loss is 4.0000000, 4.0 img/s, lr 0.0123, ETA 0:00:02',
        'epoch: 2 step: 2, loss is 0.1250000, 8.0 img/s, lr 0.0123, ETA 0:00:00',
    ]
    found = rows(tmp_path)
    assert [
        (row['step'], row['epoch'], row['loss'], row['images_per_second']) for row in found
    ] == [(2, 0.6667, 0.25, 4.0), (4, 1.3333, 4.0, 4.0), (5, 1.6667, 0.125, 8.0)]
    assert all(row['learning_rate'] == pytest.approx(0.0123) for row in found)
    assert (clock.steps, clock.seconds) == (4, 7.0)


def test_steps_that_loss_scaling_skips_are_counted(tmp_path, capsys):
    """Of four runs the second and third do not count; the images of all of them do."""
    step = tf.train.get_or_create_global_step()
    tf.constant(1.0, name='train/loss')
    tf.constant(0.1, name='train/learning_rate')
    counts = tf.get_variable('counts', [], tf.int64, tf.zeros_initializer())
    train = tf.assign_add(step, counts)
    with tf.control_dependencies([train]):
        tf.identity(step, name='train/global_step')
    clock = hooks.Clock()
    with tf.train.MonitoredSession(hooks=[progress(tmp_path, clock)]) as session:
        for increment in (1, 0, 0, 1):
            counts.load(increment, session._tf_sess())
            session.run(train)
    assert [(row['step'], row['skipped_steps']) for row in rows(tmp_path)] == [(2, 2)]
    assert re.search(
        '^epoch: 1 step: 2, .*, 2 steps skipped by loss scaling$', capsys.readouterr().out, re.M
    )
    assert clock.steps == 3


@pytest.mark.parametrize('loss', [float('nan'), float('inf'), -float('inf')])
def test_a_loss_that_is_not_finite_stops(loss, tmp_path):
    train = toy([1.0, loss])
    (tmp_path / 'model.ckpt-7.index').write_text('')
    (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-7"')
    with pytest.raises(
        UserError,
        match=(
            r'loss is (nan|-?inf) at step 2 \(learning rate 0.1\); the last good checkpoint is'
            r' .*model.ckpt-7'
        ),
    ):
        with tf.train.MonitoredSession(hooks=[progress(tmp_path, interval=100)]) as session:
            for _ in range(2):
                session.run(train)


def test_the_error_says_if_there_is_no_checkpoint(tmp_path):
    train = toy([float('nan')])
    with pytest.raises(UserError, match='the last good checkpoint is none yet'):
        with tf.train.MonitoredSession(hooks=[progress(tmp_path)]) as session:
            session.run(train)


# Checkpoints


def saving(folder, save_steps, steps, train, others=()):
    scaffold = tf.train.Scaffold(saver=tf.train.Saver(max_to_keep=100, save_relative_paths=True))
    saver = saver_module.CheckpointSaver(str(folder), save_steps, scaffold)
    with tf.train.MonitoredTrainingSession(
        checkpoint_dir=str(folder),
        scaffold=scaffold,
        hooks=[*others, saver],
        save_checkpoint_secs=None,
        save_checkpoint_steps=None,
        save_summaries_steps=None,
        log_step_count_steps=None,
    ) as session:
        for _ in range(steps):
            if not session.should_stop():
                session.run(train)


def saved(folder):
    return sorted(int(path.stem.split('-')[-1]) for path in folder.glob('model.ckpt-*.index'))


def test_saves_at_the_start_every_n_steps_and_at_the_end(tmp_path):
    saving(tmp_path, 2, 5, toy())
    assert saved(tmp_path) == [0, 2, 4, 5]
    for step in saved(tmp_path):
        assert tf.train.load_variable(str(tmp_path / ('model.ckpt-%d' % step)), 'w') == step


def test_does_not_write_again_what_it_restored(tmp_path):
    saving(tmp_path, 2, 4, toy())
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob('model.ckpt-4.*')}
    with tf.Graph().as_default():
        saving(tmp_path, 2, 2, toy())
    assert {
        path.name: path.stat().st_mtime_ns for path in tmp_path.glob('model.ckpt-4.*')
    } == written
    assert saved(tmp_path) == [0, 2, 4, 6]
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / 'model.ckpt-6')


def test_replaces_what_an_abandoned_run_left(tmp_path):
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
def test_weights_that_are_not_finite_are_not_saved(value, save_steps, tmp_path):
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


# Signals


class OneProcess:
    size, rank = 1, 0

    def allreduce_sum(self, tensor, name):
        return tensor


class TwoProcesses:
    """This one and another, whose wish to stop is the variable `other`."""

    size, rank = 2, 0

    def allreduce_sum(self, tensor, name):
        self.other = tf.get_variable(
            'other',
            [],
            tf.int32,
            tf.zeros_initializer(),
            collections=[tf.GraphKeys.LOCAL_VARIABLES],
        )
        return tensor + self.other


class At(tf.train.SessionRunHook):
    """Calls action(session) within a step."""

    def __init__(self, step, action):
        self._step, self._action, self._count = step, action, 0

    def before_run(self, run_context):
        self._count += 1
        if self._count == self._step:
            self._action(run_context.session)


def kill(number):
    return lambda session: os.kill(os.getpid(), number)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('step', [1, 3])
def test_a_signal_ends_training_after_the_step_and_a_checkpoint(number, step, tmp_path):
    train, previous = toy(), signal.getsignal(number)
    with hooks.StopOnSignal(OneProcess()) as stop:
        saving(tmp_path, 100, 10, train, [At(step, kill(number)), stop])
        assert signal.getsignal(number) != previous
    assert signal.getsignal(number) == previous
    assert stop.signal == number and saved(tmp_path) == [0, step]


def test_a_signal_before_the_session_counts(tmp_path):
    train = toy()
    with hooks.StopOnSignal(OneProcess()) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        saving(tmp_path, 100, 10, train, [stop])
    assert saved(tmp_path) == [0, 1]


def test_without_a_signal_nothing_stops(tmp_path):
    for device in (OneProcess(), TwoProcesses()):
        with tf.Graph().as_default(), hooks.StopOnSignal(device) as stop:
            saving(tmp_path / device.__class__.__name__, 100, 5, toy(), [stop])
        assert stop.signal is None and saved(tmp_path / device.__class__.__name__) == [0, 5]


def test_handlers_are_restored_after_an_error():
    previous = signal.getsignal(signal.SIGTERM)
    with pytest.raises(UserError):
        with hooks.StopOnSignal(OneProcess()):
            raise UserError('x')
    assert signal.getsignal(signal.SIGTERM) == previous


def test_the_wish_of_one_rank_stops_all(tmp_path):
    train, device = toy(), TwoProcesses()
    with hooks.StopOnSignal(device) as stop:
        saving(
            tmp_path, 100, 10, train, [At(4, lambda session: device.other.load(1, session)), stop]
        )
    assert saved(tmp_path) == [0, 4] and stop.signal == signal.SIGTERM


def test_the_own_wish_is_told_to_the_others(tmp_path):
    """The signal comes within step 2 after the wish was read, so that step 3 is the last: the first
    that all know of.
    """
    train, device = toy(), TwoProcesses()
    with hooks.StopOnSignal(device) as stop:
        saving(tmp_path, 100, 10, train, [stop, At(2, kill(signal.SIGINT))])
    assert saved(tmp_path) == [0, 3] and stop.signal == signal.SIGINT


def test_a_wish_holds_over_sessions_that_follow(tmp_path):
    """The signal came while an evaluation ran between two sessions."""
    device = TwoProcesses()
    with hooks.StopOnSignal(device) as stop:
        saving(tmp_path, 100, 2, toy(), [stop])
        os.kill(os.getpid(), signal.SIGTERM)
        with tf.Graph().as_default():
            saving(tmp_path, 100, 10, toy(), [stop])
    assert saved(tmp_path) == [0, 2, 3]
