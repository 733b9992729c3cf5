"""Ranks on CPU and GPU: horovodrun assigns them and runs their rendezvous server, the launcher runs
their processes.

horovodrun starts placeholder.py for each rank, which hands its HOROVOD_* variables over and waits
for the launcher's end. The ranks are not children of horovodrun because it ends them with SIGSTOP
and SIGKILL, which leaves no time for a last checkpoint.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Dict, Iterator, List

from common.errors import UserError

PLACEHOLDER = str(pathlib.Path(__file__).resolve().with_name('placeholder.py'))
WAIT = 120  # seconds until all placeholders have reported; usually a few


@contextlib.contextmanager
def environments(size: int, log_dir: pathlib.Path) -> Iterator[List[Dict[str, str]]]:
    """Yields the variables of each rank, in order of rank; horovodrun runs until the block ends.
    UserError if it does not start.
    """
    program = _program(size)
    log_path = log_dir / 'horovodrun.log'
    with contextlib.ExitStack() as cleanup:
        folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix='launch-'))
        server = cleanup.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(os.path.join(folder, 'socket'))
        server.listen(size)
        server.settimeout(0.2)
        log = cleanup.enter_context(open(str(log_path), 'wb'))
        placeholder = [sys.executable, PLACEHOLDER, server.getsockname()]
        process = subprocess.Popen(
            [program, '-np', str(size), '--gloo', *placeholder],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        cleanup.callback(_end, process)
        # Closed before _end(): the placeholders then end by themselves.
        connections = cleanup.enter_context(contextlib.ExitStack())
        yield _collect(size, server, process, log_path, connections)


def _program(size: int) -> str:
    sibling = os.path.join(os.path.dirname(sys.executable), 'horovodrun')
    program = sibling if os.path.exists(sibling) else shutil.which('horovodrun')
    if not program:
        raise UserError(
            '%d processes on CPU or GPU need Horovod, and there is no horovodrun beside %s or on'
            ' PATH: run ./setup.sh --horovod (or start 1 process)' % (size, sys.executable)
        )
    if os.environ.get('HOROVOD_RANK'):
        raise UserError(
            'HOROVOD_RANK=%s is set: hccl.launch starts horovodrun itself; start it outside'
            % os.environ['HOROVOD_RANK']
        )
    return program


def _collect(
    size: int,
    server: socket.socket,
    process: subprocess.Popen,
    log_path: pathlib.Path,
    connections: contextlib.ExitStack,
) -> List[Dict[str, str]]:
    """Waits for all placeholders; returns what each has sent, in order of rank."""
    received: List[Dict[str, str]] = []
    deadline = time.monotonic() + WAIT
    while len(received) < size:
        with contextlib.suppress(socket.timeout):
            connection = connections.enter_context(server.accept()[0])
            connection.settimeout(WAIT)
            with connection.makefile() as stream:
                received.append(json.loads(stream.readline()))
        if process.poll() is not None or time.monotonic() > deadline:
            last = log_path.read_text(errors='replace').strip().split('\n')[-1]
            raise UserError(
                'horovodrun did not start %d processes: %s (all of it is in %s); is Horovod'
                ' installed here? ./setup.sh --horovod' % (size, last or 'no message', log_path)
            )
    return sorted(received, key=lambda variables: int(variables['HOROVOD_RANK']))


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
