"""Python without the second and a half that importing TensorFlow takes: scripts run in forks.

`server()` starts a process that imports what the commands import and opens no session. While it
runs, `python -ES forked_python.py SCRIPT [ARGUMENT ...]` stands for `python SCRIPT [ARGUMENT ...]`,
and `-m MODULE` for the script of a module: it runs in a fork of the server, with the caller's
arguments, environment, folder and standard files, unbuffered. The caller passes signals on to it
and ends as it does; if the caller is killed, so is the script. Where the environment differs in
what is read at start, it becomes Python itself. Its sessions are those of plain_sessions.py unless
OPTIMISED_SESSIONS is set.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading

ADDRESS = 'FORKED_PYTHON'
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORDS = [sys.executable, '-ES', os.path.abspath(__file__)]
PRELOADED = (
    'common.run',
    'common.reporting.report',
    'plain_sessions',
    'resnest_tf.task',
    'wideresnet_tf.task',
    'xception_tf.task',
)
# How variables begin that Python, its libraries or the C library read once.
READ_AT_START = ('PYTHON', 'LD_PRELOAD', 'LC_', 'LANG', 'OMP_', 'KMP_', 'MKL_', 'TF_CPP_')
# Python's are handed on; scikit-learn sets the next two for itself wherever it is imported, and
# with Intel's build the CPU device the others, which are read with the first session.
NOT_COMPARED = ('PYTHONPATH', 'PYTHONUNBUFFERED', 'KMP_DUPLICATE_LIB_OK', 'KMP_INIT_AT_FORK')
NOT_COMPARED += ('KMP_BLOCKTIME', 'MKL_DEBUG_CPU_TYPE')
PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@contextlib.contextmanager
def server():
    """Serves the processes that are started meanwhile; the environment tells them where."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        os.environ[ADDRESS] = os.path.join(folder, 'socket')
        listener.bind(os.environ[ADDRESS])
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=listener,
            env=dict(os.environ, PYTHONPATH=':'.join([ROOT] + _path()), PYTHONUNBUFFERED='1'),
            start_new_session=True,
        )
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            process.terminate()
            process.wait()


def _read_at_start():
    environment = dict({'TF_CPP_MIN_LOG_LEVEL': '3'}, **os.environ)  # as `common` sets it
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_AT_START) and name not in NOT_COMPARED
    }


def _path():
    return [folder for folder in os.environ.get('PYTHONPATH', '').split(':') if folder]


def _serve():
    """Returns in the fork that is to run a script: its standard files and what was asked for."""
    at_start = _read_at_start()
    for name in PRELOADED:
        importlib.import_module(name)
    util = importlib.import_module('tensorflow.python.util')
    util.deprecation._PRINT_DEPRECATION_WARNINGS = False  # see conftest.py
    util.tf_stack.extract_stack.__defaults__ = (1,)  # likewise
    gc.freeze()  # or each fork's first collection copies every page
    gc.set_threshold(10000)  # see conftest.py
    parent = os.getppid()
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as listener:
        while os.getppid() == parent:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not select.select([listener], [], [], 1)[0]:
                continue
            with listener.accept()[0] as connection:
                if not os.fork():
                    request = _received(connection)
                    if request[1]['read_at_start'] != at_start:
                        connection.sendall(b'0\n')
                        os._exit(0)
                    if not _watch(connection):
                        return request
    sys.exit()


def _received(connection):
    """(three file descriptors, request) of a caller."""
    data, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(12))
    files = [int.from_bytes(ancillary[0][2][at : at + 4], sys.byteorder) for at in (0, 4, 8)]
    with connection.makefile() as lines:
        return files, json.loads(data.decode() + lines.readline())


def _watch(connection):
    """Forks; 0 in the child. The parent tells the caller the child's pid and its exit status."""
    pid = os.fork()
    if not pid:
        return pid

    ended = threading.Event()

    def end_with_caller():
        with contextlib.suppress(ConnectionResetError):  # killed before it has read the pid
            connection.recv(1)
        if not ended.is_set():
            _send(pid, signal.SIGKILL)

    threading.Thread(target=end_with_caller, daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(b'%d\n' % pid)
    _, status = os.waitpid(pid, 0)
    ended.set()
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(b'%d\n' % status)
    os._exit(0)


def _send(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _become(files, request):
    """Makes this fork the process that the caller would have started; returns the context that its
    script runs in.
    """
    import numpy
    import plain_sessions

    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    standard = [path for path in sys.path[1:] if path not in _path()]
    os.environ.clear()
    os.environ.update(request['environment'])
    os.chdir(request['folder'])
    sys.argv = request['words']
    sys.path[:] = [os.path.dirname(os.path.abspath(sys.argv[0]))] + _path() + standard
    numpy.random.seed()
    plain = 'OPTIMISED_SESSIONS' not in os.environ
    return plain_sessions.patched() if plain else contextlib.nullcontext()


def _call(words):
    """Runs the script in a fork of the server and ends as it does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until there is whom to pass them on to
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[ADDRESS])
        request = dict(
            words=words,
            folder=os.getcwd(),
            environment=dict(os.environ),
            read_at_start=_read_at_start(),
        )
        files = b''.join(file.to_bytes(4, sys.byteorder) for file in range(3))
        content = json.dumps(request).encode() + b'\n'
        connection.sendmsg([content[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        connection.sendall(content[1:])
        with connection.makefile() as answers:
            pid = int(answers.readline())
            if pid:
                for number in PASSED_ON:
                    signal.signal(number, lambda number, _: _send(pid, number))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
            if not pid:
                os.execv(sys.executable, [sys.executable] + words)
            status = int(answers.readline())
    if os.WIFSIGNALED(status):
        with contextlib.suppress(OSError):  # of SIGKILL
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    sys.exit(os.WEXITSTATUS(status))


if __name__ == '__main__':
    if sys.argv[1:]:
        _call(sys.argv[1:])
    with _become(*_serve()):
        if sys.argv[0] == '-m':
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name='__main__')
