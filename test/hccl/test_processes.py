"""The ranks live and end together."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest

NPU = ('--device', 'npu', '--devices')
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Says its process number in a file; `rank` is its number, under HCCL and under Horovod.
BEGIN = """
import os, signal, subprocess, sys, time
rank = os.environ.get('RANK_ID') or os.environ.get('HOROVOD_RANK', '0')
def say_pid(name, pid):
    with open('%s_%s.new' % (name, rank), 'w') as file:
        file.write(str(pid))
    os.rename('%s_%s.new' % (name, rank), '%s_%s.pid' % (name, rank))
"""
CHECKPOINT = (
    BEGIN
    + """
def checkpoint(number, frame):
    time.sleep(0.5)
    open('checkpoint_' + rank, 'w').write(str(number))
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, checkpoint)
signal.signal(signal.SIGINT, checkpoint)
say_pid('rank', os.getpid())
while True:
    time.sleep(0.05)
"""
)
STUBBORN = (
    BEGIN
    + """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say_pid('rank', os.getpid())
while True:
    time.sleep(0.05)
"""
)
WITH_CHILDREN = (
    BEGIN
    + """
code = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); '
code += 'print(1, flush=True); time.sleep(60)'
child = subprocess.Popen([sys.executable, '-S', '-c', code], stdout=subprocess.PIPE)
child.stdout.readline()
say_pid('child', child.pid)
say_pid('rank', os.getpid())
"""
)


def pids(launcher, pattern, count):
    return [int(text) for text in launcher.files(pattern, count)]


def test_output_goes_to_the_logs_and_rank_0_to_the_console(launch):
    launcher = launch(
        *NPU,
        '0-1',
        code=BEGIN
        + """
print('one of', rank)
sys.stderr.write('error of %s\\n' % rank)
sys.stdout.write('\\r10%\\r100%')
""",
    )
    status, out, err = launcher.finish()
    assert status == 0 and err == ''
    assert (
        'one of 0\n' in out and 'error of 0\n' in out and '\r10%\r100%' in out and 'of 1' not in out
    )
    for rank in (0, 1):
        assert 'one of %d\n' % rank in launcher.log(
            rank
        ) and 'error of %d\n' % rank in launcher.log(rank)
        assert launcher.log(rank).startswith('== 20')


def test_the_console_sees_lines_as_they_come(launch):
    launcher = launch(*NPU, '0', code=BEGIN + "print('now')\ntime.sleep(60)")
    begin = time.monotonic()
    while launcher.process.stdout.readline() != b'now\n':
        assert time.monotonic() - begin < 10
    launcher.process.send_signal(signal.SIGTERM)


def test_a_second_run_adds_to_the_log_and_reports_only_itself(launch):
    for code in ("print('EI0006 of the first run')", "print('second'); raise SystemExit(1)"):
        launcher = launch(*NPU, '0', code=code)
        status, out, err = launcher.finish()
    assert 'EI0006 of the first run' in launcher.log(0) and 'second' in launcher.log(0)
    assert status == 1 and 'second' in out and 'EI0006' not in out + err


def test_the_first_that_fails_ends_all_and_is_explained(launch, alive):
    """Even those that ignore SIGTERM, within 10 seconds."""
    launcher = launch(
        *NPU,
        '0-3',
        code=STUBBORN.replace(
            'while True',
            """
while rank == '2' and len([name for name in os.listdir('.') if name.endswith('.pid')]) < 4:
    time.sleep(0.02)
if rank == '2':
    for line in range(30):
        print('line', line)
    print('EJ0001: Failed to initialize the HCCP process. EI0006')
    sys.exit(7)
while True""",
        ),
    )
    ranks = pids(launcher, 'rank_*.pid', 4)
    begin = time.monotonic()
    status, out, err = launcher.finish()
    assert 7 < time.monotonic() - begin < 10
    assert status == 7 and not any(alive(pid) for pid in ranks)
    assert 'rank 2 (device 2) ended with exit status 7: stopping the others' in out
    assert 'rank 0, rank 1, rank 3 did not end in time: killed' in out
    assert 'rank 2 (device 2) failed: exit status 7. The end of logs/rank_2.log:' in err
    assert [line.strip() for line in err.split('\n')[1:20]] == [
        'line %d' % line for line in range(11, 30)
    ]
    assert 'launch: EJ0001: the last training process still holds the device: wait 10 s' in err
    assert 'HCCL_CONNECT_TIMEOUT=1200' in err


def test_those_that_listen_end_at_once_after_a_failure(launch):
    launcher = launch(
        *NPU,
        '0-1',
        code=CHECKPOINT.replace(
            'while True',
            """
while rank == '1' and not os.path.exists('rank_0.pid'):
    time.sleep(0.02)
assert rank != '1', 'on purpose'
while True""",
        ),
    )
    pids(launcher, 'rank_*.pid', 2)
    begin = time.monotonic()
    status, _, err = launcher.finish()
    assert status == 1 and time.monotonic() - begin < 4 and 'AssertionError: on purpose' in err
    assert (launcher.folder / 'checkpoint_0').exists()


def test_what_rank_0_said_is_shown_once(launch):
    status, out, err = launch(*NPU, '0', code="raise SystemExit('on purpose')").finish()
    assert status == 1 and (out + err).count('on purpose\n') == 1
    assert 'rank 0 (device 0) failed: exit status 1. Its log: logs/rank_0.log\n' in err


def test_a_killed_rank_is_128_and_the_signal(launch):
    status, _, err = launch(
        *NPU,
        '0-1',
        code=BEGIN
        + """
if rank == '1':
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)""",
    ).finish()
    assert status == 137 and 'rank 1 (device 1) failed: exit status 137 (SIGKILL)' in err


def test_a_rank_that_is_done_does_not_end_the_others(launch):
    launcher = launch(
        *NPU,
        '0-1',
        code=BEGIN
        + """
if rank == '0':
    sys.exit(0)
time.sleep(1)
print('still at work')""",
    )
    assert launcher.finish()[0] == 0 and 'still at work' in launcher.log(1)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('device', ['npu', 'cpu'])
def test_a_signal_reaches_every_rank_and_leaves_time_for_the_checkpoint(
    launch, alive, device, number
):
    if device == 'cpu':
        pytest.importorskip('horovod')
    launcher = launch('--device', device, '--devices', '0-1', code=CHECKPOINT)
    ranks = pids(launcher, 'rank_*.pid', 2)
    launcher.process.send_signal(number)
    status, out, err = launcher.finish()
    assert status == 128 + number and err == '' and number.name in out
    assert [(launcher.folder / ('checkpoint_%d' % rank)).read_text() for rank in (0, 1)] == [
        str(int(number))
    ] * 2
    assert not any(alive(pid) for pid in ranks)


def test_a_second_signal_kills(launch, alive):
    launcher = launch(*NPU, '0-1', code=STUBBORN)
    ranks = pids(launcher, 'rank_*.pid', 2)
    launcher.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert launcher.process.poll() is None
    launcher.process.send_signal(signal.SIGTERM)
    status, out, _ = launcher.finish()
    assert (
        status == 137
        and 'rank 0, rank 1 did not end in time: killed' in out
        and not any(alive(pid) for pid in ranks)
    )


def test_after_the_grace_time_ranks_are_killed(tmp_path, alive, wait_for):
    code = (
        'import pathlib, sys; from hccl import processes as p\n'
        'sys.exit(p.run([sys.executable, "-S", "-c", %r], [p.Rank("rank 0", "", {})],'
        ' pathlib.Path("."), grace=1))'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code % STUBBORN],
        cwd=str(tmp_path),
        env={'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
    )
    wait_for((tmp_path / 'rank_0.pid').exists)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)
    assert (
        process.returncode == 137
        and 1 <= time.monotonic() - begin < 4
        and b'rank 0 did not end in time: killed' in out
    )
    assert not alive(int((tmp_path / 'rank_0.pid').read_text()))


@pytest.mark.parametrize('end, status', [('', 0), ('sys.exit(3)', 3), ('time.sleep(60)', 143)])
def test_children_of_ranks_do_not_survive(launch, alive, wait_for, end, status):
    launcher = launch(*NPU, '0-1', code=WITH_CHILDREN + end)
    children = pids(launcher, 'child_*.pid', 2) if status else None
    if status == 143:
        pids(launcher, 'rank_*.pid', 2)
        launcher.process.send_signal(signal.SIGTERM)
    assert launcher.finish()[0] == status
    children = children or [int(path.read_text()) for path in launcher.folder.glob('child_*.pid')]
    assert children
    wait_for(lambda: not any(alive(pid) for pid in children), 2)


@pytest.mark.parametrize('device', ['npu', 'cpu'])
def test_nothing_survives_a_killed_launcher(launch, alive, wait_for, device):
    if device == 'cpu':
        pytest.importorskip('horovod')
    launcher = launch('--device', device, '--devices', '0-1', code=WITH_CHILDREN + 'time.sleep(60)')
    everyone = pids(launcher, 'child_*.pid', 2) + pids(launcher, 'rank_*.pid', 2)
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


def test_ignored_signals_stay_ignored(launch):
    """As after nohup: the end of the terminal does not end the training."""
    launcher = launch(*NPU, '0', code=BEGIN + "say_pid('rank', 1)\ntime.sleep(1)\nprint('done')")
    launcher.finish()
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        launcher = launch(
            *NPU, '0', code=BEGIN + "say_pid('again', 1)\ntime.sleep(1)\nprint('done')"
        )
    finally:
        signal.signal(signal.SIGHUP, old)
    launcher.files('again_0.pid', 1)
    launcher.process.send_signal(signal.SIGHUP)
    status, out, _ = launcher.finish()
    assert status == 0 and 'done' in out


def test_a_closed_console_does_not_stop_the_ranks(launch):
    launcher = launch(
        *NPU,
        '0',
        code=BEGIN
        + """
say_pid('rank', os.getpid())
while not os.path.exists('closed'):
    time.sleep(0.02)
print('to the log')
time.sleep(0.5)
print('and more')""",
    )
    launcher.files('rank_0.pid', 1)
    launcher.process.stdout.close()
    (launcher.folder / 'closed').touch()
    assert launcher.process.wait(10) == 0 and 'and more' in launcher.log(0)


@pytest.mark.processes
def test_two_ranks_sum_with_horovod(launch):
    pytest.importorskip('horovod')
    launcher = launch(
        '--device',
        'cpu',
        '--devices',
        '0-1',
        code="""
import site
site.main()  # -S left it out
import horovod.tensorflow as hvd, tensorflow as tf
hvd.init()
with tf.Session() as session:
    total = session.run(hvd.allreduce(tf.constant(hvd.rank() + 1.0), op=hvd.Sum))
print('rank', hvd.rank(), 'of', hvd.size(), 'sum', total)
""",
    )
    status, out, err = launcher.finish()
    assert status == 0, err
    assert (
        'launch: cpu (--device cpu)' in out
        and 'rank 0 of 2 sum 3.0' in out
        and 'rank 1 of 2 sum 3.0' in launcher.log(1)
    )


@pytest.mark.processes
def test_a_failing_horovod_rank(launch):
    pytest.importorskip('horovod')
    status, out, err = launch(
        '--device',
        'cpu',
        '--devices',
        '0-1',
        code=BEGIN
        + """
if rank == '1':
    sys.exit(5)
time.sleep(60)""",
    ).finish()
    assert status == 5 and 'rank 1 (cpu) failed: exit status 5. The end of logs/rank_1.log' in err
