"""Two runs never share a folder."""

import errno
import json
import os
import subprocess
import sys
import threading

import pytest

from common.errors import UserError
from common.training import run_lock

HOLD = """
import sys, time
from common.training.run_lock import locked
with locked(sys.argv[1]):
    print('held', flush=True)
    time.sleep(60)
"""


def holder(folder):
    process = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(folder)], stdout=subprocess.PIPE, cwd=os.getcwd()
    )
    assert process.stdout.readline() == b'held\n'
    return process


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path):
    process = holder(tmp_path)
    try:
        with pytest.raises(UserError, match='in use by process %d on ' % process.pid):
            with run_lock.locked(str(tmp_path)):
                pass
    finally:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with run_lock.locked(str(tmp_path)):  # the holder was killed: its lock is taken over
        assert json.loads((tmp_path / run_lock.NAME).read_text())['pid'] == os.getpid()
    process.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_disappears_takes_its_lock_along(tmp_path, monkeypatch):
    """What is shown is the error of what was done there."""

    def unlink(path):
        raise OSError(errno.EROFS, 'the lock stays')

    monkeypatch.setattr(run_lock.pathlib.Path, 'unlink', unlink)
    with pytest.raises(OSError, match='a checkpoint'):
        with run_lock.locked(str(tmp_path)):
            raise OSError(errno.EROFS, 'a checkpoint')


def test_a_process_number_that_was_given_out_again_holds_nothing(tmp_path):
    lock = tmp_path / run_lock.NAME
    own = run_lock._new_entry(os.getpid())
    lock.write_text(json.dumps(dict(own, started=own['started'] + '0')))
    with run_lock.locked(str(tmp_path)):
        pass


def test_a_holder_in_another_container_of_this_host_is_believed(tmp_path):
    """Its process number means nothing here."""
    process = holder(tmp_path)
    lock = tmp_path / run_lock.NAME
    lock.write_text(json.dumps(dict(json.loads(lock.read_text()), pid=2**22 + 1)))
    try:
        with pytest.raises(UserError, match='in use by process 4194305 on '):
            with run_lock.locked(str(tmp_path)):
                pass
    finally:
        process.kill()
        process.wait()
    with run_lock.locked(str(tmp_path)):
        pass


def test_a_holder_on_another_host_is_believed(tmp_path):
    lock = tmp_path / run_lock.NAME
    lock.write_text(json.dumps({'host': 'elsewhere', 'pid': 1, 'started': 0, 'since': 'then'}))
    with pytest.raises(UserError, match='process 1 on elsewhere since then .*remove the file'):
        with run_lock.locked(str(tmp_path)):
            pass


@pytest.mark.parametrize('content', ['', '{"host', '[]', '{}'])
def test_a_lock_that_was_cut_off_is_taken_over(content, tmp_path):
    (tmp_path / run_lock.NAME).write_text(content)
    with run_lock.locked(str(tmp_path)):
        pass


def test_a_folder_that_was_made_for_the_lock_goes_with_it(tmp_path):
    with run_lock.locked(str(tmp_path / 'new')):
        pass
    assert not (tmp_path / 'new').exists()


def test_a_lock_that_is_just_being_written_is_respected(tmp_path):
    lock = tmp_path / run_lock.NAME
    lock.write_text('')
    other = json.dumps({'host': 'elsewhere', 'pid': 1, 'started': 0, 'since': 'then'})
    writer = threading.Timer(0.05, lock.write_text, [other])
    writer.start()
    try:
        with pytest.raises(UserError, match='process 1 on elsewhere'):
            with run_lock.locked(str(tmp_path)):
                pass
    finally:
        writer.join()
    assert json.loads(lock.read_text())['host'] == 'elsewhere'
