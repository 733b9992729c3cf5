"""Signals to the launcher, and what is left of its ranks and their children."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest
from rank_scripts import BEGIN, CHECKPOINT, STUBBORN, WITH_CHILDREN

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('device', ['npu', 'cpu'])
def test_a_signal_reaches_every_rank_and_leaves_time_for_the_checkpoint(
    ranks, alive, device, number
):
    if device == 'cpu':
        pytest.importorskip('horovod')
    launcher = ranks(CHECKPOINT, device=device)
    pids = launcher.pids('rank', 2)
    launcher.process.send_signal(number)
    status, out, err = launcher.finish()
    assert status == 128 + number and err == '' and number.name in out
    for rank in (0, 1):
        assert (launcher.folder / ('checkpoint_%d' % rank)).read_text() == str(int(number))
    assert not any(alive(pid) for pid in pids)


def test_a_second_signal_kills(ranks, alive):
    launcher = ranks(STUBBORN)
    pids = launcher.pids('rank', 2)
    launcher.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert launcher.process.poll() is None
    launcher.process.send_signal(signal.SIGTERM)
    status, out, _ = launcher.finish()
    assert status == 137 and 'rank 0, rank 1 did not end in time: killed' in out
    assert not any(alive(pid) for pid in pids)


def test_after_the_grace_time_ranks_are_killed(tmp_path, alive, wait_for):
    code = (
        'import pathlib, sys; from hccl import processes as p; p.GRACE = 1\n'
        'sys.exit(p.run([sys.executable, "-S", "-c", %r], [p.Rank("rank 0", "", {})],'
        ' pathlib.Path(".")))'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code % (BEGIN + STUBBORN)],
        cwd=str(tmp_path),
        env={'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
    )
    wait_for((tmp_path / 'rank_0.pid').exists)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 137 and 1 <= time.monotonic() - begin < 4
    assert b'rank 0 did not end in time: killed' in out
    assert not alive(int((tmp_path / 'rank_0.pid').read_text()))


@pytest.mark.parametrize('end, status', [('', 0), ('sys.exit(3)', 3), ('time.sleep(60)', 143)])
def test_children_of_ranks_do_not_survive(ranks, alive, wait_for, end, status):
    launcher = ranks(WITH_CHILDREN + end)
    children = launcher.pids('child', 2) if status else None
    if status == 143:
        launcher.pids('rank', 2)
        launcher.process.send_signal(signal.SIGTERM)
    assert launcher.finish()[0] == status
    children = children or [int(path.read_text()) for path in launcher.folder.glob('child_*.pid')]
    assert children
    wait_for(lambda: not any(alive(pid) for pid in children), 2)


@pytest.mark.parametrize('device', ['npu', 'cpu'])
def test_nothing_survives_a_killed_launcher(ranks, alive, wait_for, device):
    if device == 'cpu':
        pytest.importorskip('horovod')
    launcher = ranks(WITH_CHILDREN + 'time.sleep(60)', device=device)
    everyone = launcher.pids('child', 2) + launcher.pids('rank', 2)
    started = [
        int(path.parent.name)
        for path in pathlib.Path('/proc').glob('[0-9]*/environ')
        if _mentions(path, str(launcher.folder))
    ]
    assert all(alive(pid) for pid in everyone) and set(everyone) < set(started)
    launcher.process.kill()
    wait_for(lambda: not any(alive(pid) for pid in started), 10)


def _mentions(path, text):
    """True for the environment of a process that the launcher has started (PATH names the test's
    folder).
    """
    try:
        return text.encode() in path.read_bytes()
    except OSError:
        return False


def test_ignored_signals_stay_ignored(ranks):
    """As after nohup: the end of the terminal does not end the training."""
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        launcher = ranks("say_pid('rank', 1)\ntime.sleep(1)\nprint('done')", '0')
    finally:
        signal.signal(signal.SIGHUP, old)
    launcher.pids('rank', 1)
    launcher.process.send_signal(signal.SIGHUP)
    status, out, _ = launcher.finish()
    assert status == 0 and 'done' in out
