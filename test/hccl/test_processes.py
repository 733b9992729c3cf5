"""The ranks of a launcher: what they print, and how they end together. Signals:
test_process_signals.py.
"""

import signal
import time

import pytest
from rank_scripts import CHECKPOINT, STUBBORN

NPU = ('--device', 'npu', '--devices')


def test_output_goes_to_the_logs_and_rank_0_to_the_console(ranks):
    launcher = ranks("""
        print('one of', rank)
        sys.stderr.write('error of %s\\n' % rank)
        sys.stdout.write('\\r10%\\r100%')
    """)
    status, out, err = launcher.finish()
    assert status == 0 and err == ''
    assert 'one of 0\n' in out and 'error of 0\n' in out
    assert '\r10%\r100%' in out and 'of 1' not in out
    for rank in (0, 1):
        log = launcher.log(rank)
        assert log.startswith('== 20')
        assert 'one of %d\n' % rank in log and 'error of %d\n' % rank in log


def test_the_console_sees_lines_as_they_come(ranks):
    launcher = ranks("print('now')\ntime.sleep(60)", '0')
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


FAILING = """
while rank == '2' and len([name for name in os.listdir('.') if name.endswith('.pid')]) < 4:
    time.sleep(0.02)
if rank == '2':
    for line in range(30):
        print('line', line)
    print('EJ0001: Failed to initialize the HCCP process. EI0006')
    sys.exit(7)
while True"""


def test_the_first_that_fails_ends_all_and_is_explained(ranks, alive):
    """Even those that ignore SIGTERM, within 10 seconds."""
    launcher = ranks(STUBBORN.replace('while True', FAILING), '0-3')
    pids = launcher.pids('rank', 4)
    begin = time.monotonic()
    status, out, err = launcher.finish()
    assert 7 < time.monotonic() - begin < 10
    assert status == 7 and not any(alive(pid) for pid in pids)
    assert 'rank 2 (device 2) ended with exit status 7: stopping the others' in out
    assert 'rank 0, rank 1, rank 3 did not end in time: killed' in out
    assert 'rank 2 (device 2) failed: exit status 7. The end of logs/rank_2.log:' in err
    lines = [line.strip() for line in err.split('\n')[1:20]]
    assert lines == ['line %d' % line for line in range(11, 30)]
    assert 'launch: EJ0001: the last training process still holds the device: wait 10 s' in err
    assert 'HCCL_CONNECT_TIMEOUT=1200' in err


ASSERTING = """
while rank == '1' and not os.path.exists('rank_0.pid'):
    time.sleep(0.02)
assert rank != '1', 'on purpose'
while True"""


def test_those_that_listen_end_at_once_after_a_failure(ranks):
    launcher = ranks(CHECKPOINT.replace('while True', ASSERTING))
    launcher.pids('rank', 2)
    begin = time.monotonic()
    status, _, err = launcher.finish()
    assert status == 1 and time.monotonic() - begin < 4 and 'AssertionError: on purpose' in err
    assert (launcher.folder / 'checkpoint_0').exists()


def test_what_rank_0_said_is_shown_once(launch):
    status, out, err = launch(*NPU, '0', code="raise SystemExit('on purpose')").finish()
    assert status == 1 and (out + err).count('on purpose\n') == 1
    assert 'rank 0 (device 0) failed: exit status 1. Its log: logs/rank_0.log\n' in err


def test_a_killed_rank_is_128_and_the_signal(ranks):
    status, _, err = ranks("""
        if rank == '1':
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    """).finish()
    assert status == 137 and 'rank 1 (device 1) failed: exit status 137 (SIGKILL)' in err


def test_a_rank_that_is_done_does_not_end_the_others(ranks):
    launcher = ranks("""
        if rank == '0':
            sys.exit(0)
        time.sleep(1)
        print('still at work')
    """)
    assert launcher.finish()[0] == 0 and 'still at work' in launcher.log(1)


def test_a_closed_console_does_not_stop_the_ranks(ranks):
    code = """
        say_pid('rank', os.getpid())
        while not os.path.exists('closed'):
            time.sleep(0.02)
        print('to the log')
        time.sleep(0.5)
        print('and more')
    """
    launcher = ranks(code, '0')
    launcher.pids('rank', 1)
    launcher.process.stdout.close()
    (launcher.folder / 'closed').touch()
    assert launcher.process.wait(10) == 0 and 'and more' in launcher.log(0)


SUM = """
import site
site.main()  # -S left it out
import horovod.tensorflow as hvd, tensorflow as tf
hvd.init()
with tf.Session() as session:
    total = session.run(hvd.allreduce(tf.constant(hvd.rank() + 1.0), op=hvd.Sum))
print('rank', hvd.rank(), 'of', hvd.size(), 'sum', total)
"""


@pytest.mark.processes
def test_two_ranks_sum_with_horovod(ranks):
    pytest.importorskip('horovod')
    launcher = ranks(SUM, device='cpu')
    status, out, err = launcher.finish()
    assert status == 0, err
    assert 'launch: cpu (--device cpu)' in out and 'rank 0 of 2 sum 3.0' in out
    assert 'rank 1 of 2 sum 3.0' in launcher.log(1)


@pytest.mark.processes
def test_a_failing_horovod_rank(ranks):
    pytest.importorskip('horovod')
    code = """
        if rank == '1':
            sys.exit(5)
        time.sleep(60)
    """
    status, out, err = ranks(code, device='cpu').finish()
    assert status == 5 and 'rank 1 (cpu) failed: exit status 5. The end of logs/rank_1.log' in err
