"""Signals end training after a step, with a checkpoint, on every rank at the same one."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from common import errors
from common.training.stop import StopOnSignal

ROOT = pathlib.Path(__file__).resolve().parents[3]


class OneProcess:
    size, rank = 1, 0


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

    def all_gather(self, values, name):
        return tf.stack([values, values])


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
def test_a_signal_ends_training_after_the_step_and_a_checkpoint(
    toy, saving, saved, number, step, tmp_path
):
    train, previous = toy(), signal.getsignal(number)
    with StopOnSignal(OneProcess()) as stop:
        with stop.deferred():
            saving(tmp_path, 100, 10, train, [At(step, kill(number)), stop])
    assert signal.getsignal(number) == previous
    assert stop.signal == number and saved(tmp_path) == [0, step]


def test_a_signal_before_the_session_counts(toy, saving, saved, tmp_path):
    train = toy()
    with StopOnSignal(OneProcess()) as stop:
        with stop.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            saving(tmp_path, 100, 10, train, [stop])
    assert saved(tmp_path) == [0, 1]


def test_without_a_signal_nothing_stops(toy, saving, saved, tmp_path):
    for device in (OneProcess(), TwoProcesses()):
        with tf.Graph().as_default(), StopOnSignal(device) as stop:
            saving(tmp_path / device.__class__.__name__, 100, 5, toy(), [stop])
        assert stop.signal is None and saved(tmp_path / device.__class__.__name__) == [0, 5]


def test_handlers_are_restored_after_an_error():
    previous = signal.getsignal(signal.SIGTERM)
    with pytest.raises(errors.UserError):
        with StopOnSignal(OneProcess()):
            raise errors.UserError('x')
    assert signal.getsignal(signal.SIGTERM) == previous


def test_the_wish_of_one_rank_stops_all(toy, saving, saved, tmp_path):
    train, device = toy(), TwoProcesses()
    with StopOnSignal(device) as stop:
        saving(
            tmp_path, 100, 10, train, [At(4, lambda session: device.other.load(1, session)), stop]
        )
    assert saved(tmp_path) == [0, 4] and stop.signal == signal.SIGTERM


def test_the_own_wish_is_told_to_the_others(toy, saving, saved, tmp_path):
    """The signal comes within step 2 after the wish was read, so that step 3 is the last: the first
    that all know of.
    """
    train, device = toy(), TwoProcesses()
    with StopOnSignal(device) as stop, stop.deferred():
        saving(tmp_path, 100, 10, train, [stop, At(2, kill(signal.SIGINT))])
    assert saved(tmp_path) == [0, 3] and stop.signal == signal.SIGINT


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_outside_a_training_session_a_signal_ends_the_process_at_once(number):
    @errors.entry_point
    def command():
        with StopOnSignal(OneProcess()):
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            except BaseException:
                raise SystemError('what C code makes of an exception in a call of its own')

    with pytest.raises(SystemExit) as stopped:
        command()
    assert stopped.value.code == 128 + number


def test_a_second_signal_kills():
    code = (
        'import os, signal, time\nfrom common.training.stop import StopOnSignal\n'
        'class One: size, rank = 1, 0\n'
        'with StopOnSignal(One()) as stop, stop.deferred():\n'
        '    for _ in range(2): os.kill(os.getpid(), signal.SIGTERM)\n'
        '    time.sleep(60)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=str(ROOT), timeout=50)
    assert done.returncode == -signal.SIGTERM
