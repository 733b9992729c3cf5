"""How a command ends upon a signal."""

import os
import signal
import subprocess
import sys
import time

import pytest

from common import signals
from common.errors import entry_point


@pytest.mark.parametrize('number', signals.SIGNALS)
def test_signals_wait_for_a_process_that_starts(number):
    reached = []

    @entry_point
    def main():
        with signals.deferred():
            os.kill(os.getpid(), number)
            code = 'import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))'
            blocked = subprocess.check_output([sys.executable, '-c', code])
            reached.append(blocked.decode().count('Signals.SIG'))
        time.sleep(5)

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 128 + number and reached == [2]


@pytest.mark.parametrize('number', signals.SIGNALS)
def test_a_crash_while_python_is_taken_down_changes_nothing(number):
    """TensorFlow's threads may call Python then; here it is an object whose destructor crashes."""
    code = (
        'import os, time\n'
        'from common.errors import entry_point\n'
        'class Crash:\n'
        '    def __del__(self, abort=os.abort): abort()\n'
        'keep = Crash()\n'
        '@entry_point\n'
        'def main():\n'
        '    print("begun")\n'
        '    os.kill(os.getpid(), %d)\n'
        '    time.sleep(9)\n'
        'main()\n' % number
    )
    done = subprocess.run([sys.executable, '-c', code], stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (128 + number, b'begun\n')


@pytest.mark.parametrize('number, said', [(signal.SIGTERM, b''), (signal.SIGINT, b'interrupted\n')])
def test_what_a_signal_finds_half_made_says_nothing(number, said):
    code = (
        'import os, time\n'
        'from common.errors import entry_point\n'
        'class Half:\n'
        '    def __init__(self):\n'
        '        os.kill(os.getpid(), %d)\n'
        '        self.whole = 1\n'
        '    def __del__(self): self.whole\n'
        '@entry_point\n'
        'def main(): Half()\n'
        'main()\n' % number
    )
    done = subprocess.run([sys.executable, '-c', code], stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (128 + number, said)


def test_sigterm_removes_what_is_half_done(tmp_path):
    code = (
        'import os, signal, sys\n'
        'from common.errors import entry_point\n'
        'from common.files import atomic, temporary_folder\n'
        '@entry_point\n'
        'def main():\n'
        '    with temporary_folder("x", sys.argv[1]), atomic(sys.argv[1] + "/f") as file:\n'
        '        file.write_text("half")\n'
        '        assert len(os.listdir(sys.argv[1])) == 2\n'
        '        os.kill(os.getpid(), signal.SIGTERM)\n'
        'main()\n'
    )
    done = subprocess.run([sys.executable, '-c', code, str(tmp_path)], stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, b'')
    assert not list(tmp_path.iterdir())
