"""Starting the launcher as a user does, with small scripts as ranks."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))
import rank_scripts  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# A laptop whatever runs the tests: no device settings of this shell, no hccn_tool.
FOREIGN = (
    'RANK_',
    'CM_',
    'HCCL_',
    'DEVICE_',
    'ASCEND_',
    'HOROVOD_',
    'CUDA_',
    'JOB_ID',
    'POD_NAME',
    'OMP_NUM_THREADS',
    'DEVICES',
)


def alive(pid):
    try:
        return pathlib.Path('/proc/%d/stat' % pid).read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError:
        return False


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'still waiting'
        time.sleep(0.02)


class Launcher:
    """python -m hccl.launch FLAGS -- python -c CODE, in `folder`. Ranks write files of their own
    there.
    """

    def __init__(self, folder, flags, code, environment):
        self.folder = folder
        clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'hccl.launch']
            + flags
            + ['--', sys.executable, '-S', '-c', textwrap.dedent(code)],
            cwd=str(folder),
            env=dict(
                clean,
                PYTHONPATH=str(ROOT),
                PATH='%s:%s' % (folder / 'bin', os.environ['PATH']),
                **environment,
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def files(self, pattern, count):
        """Waits until `count` files of the ranks are there, then returns what each holds."""
        wait_for(
            lambda: (
                len([path for path in self.folder.glob(pattern) if path.read_text()]) >= count
                or self.process.poll() is not None
            )
        )
        return [path.read_text() for path in sorted(self.folder.glob(pattern))]

    def pids(self, name, count):
        """The process numbers that so many ranks have said under this name."""
        return [int(text) for text in self.files(name + '_*.pid', count)]

    def finish(self):
        """(exit status, standard output, standard error)"""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out.decode(), err.decode()

    def log(self, rank):
        return (self.folder / 'logs' / ('rank_%d.log' % rank)).read_text()


@pytest.fixture(name='alive')
def alive_fixture():
    """alive(pid): True if this process exists and is not a zombie."""
    return alive


@pytest.fixture(name='wait_for')
def wait_for_fixture():
    """wait_for(condition, seconds): until it is true, or a failed test."""
    return wait_for


@pytest.fixture
def launch(tmp_path):
    """launch(flag, ..., code=text, NAME=value): a started Launcher with these variables."""
    started = []
    tool = tmp_path / 'bin' / 'hccn_tool'  # hides a real one
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "ipaddr:192.168.0.$(($2 + 1))"\n')
    tool.chmod(0o755)

    def start(*flags, code, **environment):
        started.append(Launcher(tmp_path, list(flags), code, environment))
        return started[-1]

    yield start
    for launcher in started:
        if launcher.process.poll() is None:
            os.killpg(launcher.process.pid, signal.SIGKILL)
        launcher.process.communicate()


@pytest.fixture
def ranks(launch):
    """ranks(code, devices, device): a started Launcher whose ranks run rank_scripts.BEGIN and the
    code.
    """

    def start(code, devices='0-1', device='npu'):
        code = rank_scripts.BEGIN + textwrap.dedent(code)
        return launch('--device', device, '--devices', devices, code=code)

    return start
