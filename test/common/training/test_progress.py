"""Lines of progress, throughput, and a loss that is not finite."""

import re
import time

import pytest
import tensorflow as tf

from common.errors import UserError
from common.training.metrics_logger import MetricsLogger
from common.training.plan import Plan
from common.training.progress import Progress, ThroughputMeter


class Time:
    """time.perf_counter() that a step advances by what the test says."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(time, 'perf_counter', lambda: self.now)


def progress(folder, meter=None, interval=2):
    plan = Plan(
        global_batch=8, steps_per_epoch=3, total=5, save_every=1, evaluate_every=5, evaluates=False
    )
    return Progress(
        MetricsLogger(str(folder), True),
        meter or ThroughputMeter(),
        plan,
        interval=interval,
        show_bar=False,
        model_dir=str(folder),
    )


class Lasts(tf.train.SessionRunHook):
    """The steps take so many seconds. Stands last, so that Progress starts its watch before and
    reads it after.
    """

    def __init__(self, clock, seconds):
        self._clock, self._seconds = clock, iter(seconds)

    def before_run(self, run_context):
        self._clock.now += next(self._seconds)


def test_lines_of_progress(toy, rows, tmp_path, capsys, monkeypatch):
    """Five steps of 100 (warm-up), 2, 2, 2 and 1 seconds, 8 images each."""
    train, fake, clock = (
        toy([1.5, 0.25, 3.0, 4.0, 0.125], rate=0.0123),
        Time(monkeypatch),
        ThroughputMeter(),
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


def test_a_session_s_first_step_has_no_speed(toy, rows, tmp_path, capsys):
    train = toy([0.5], rate=0.1)
    with tf.train.MonitoredSession(hooks=[progress(tmp_path, interval=1)]) as session:
        session.run(train)
    said = 'epoch: 1 step: 1, loss is 0.5000000, - img/s, lr 0.1, ETA -\n'
    assert capsys.readouterr().out == said
    assert rows(tmp_path)[0]['images_per_second'] is None


def test_steps_that_loss_scaling_skips_are_counted(graph, rows, tmp_path, capsys):
    """Of four runs the second and third do not count; the images of all of them do."""
    step = tf.train.get_or_create_global_step()
    tf.constant(1.0, name='train/loss')
    tf.constant(0.1, name='train/learning_rate')
    counts = tf.get_variable('counts', [], tf.int64, tf.zeros_initializer())
    train = tf.assign_add(step, counts)
    with tf.control_dependencies([train]):
        tf.identity(step, name='train/global_step')
    clock = ThroughputMeter()
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
def test_a_loss_that_is_not_finite_stops(toy, loss, tmp_path):
    train = toy([1.0, loss])
    for suffix in ('index', 'data-00000-of-00001'):
        (tmp_path / ('model.ckpt-7.' + suffix)).write_text('')
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


def test_the_error_says_if_there_is_no_checkpoint(toy, tmp_path):
    train = toy([float('nan')])
    with pytest.raises(UserError, match='the last good checkpoint is none yet'):
        with tf.train.MonitoredSession(hooks=[progress(tmp_path)]) as session:
            session.run(train)
