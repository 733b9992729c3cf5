"""A fork ends as a process does, and has what the caller has."""

import json
import pathlib
import signal
import time

import pytest

SCRIPT = """
import json, os, signal, sys, time
forked = 'tensorflow' in sys.modules
print(json.dumps([sys.argv[1:], os.getcwd(), os.environ['OF_THE_CALLER'], forked, os.getpid()]))
sys.stdout.flush()
if sys.argv[1] == 'kills itself':
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == 'sleeps':
    time.sleep(60)
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def script(start, tmp_path):
    """script(argument, ..., forked=True): started in `tmp_path`."""
    (tmp_path / 'script.py').write_text(SCRIPT)
    launcher = ['env', 'OF_THE_CALLER=x y']

    def call(*words, script='script.py', **how):
        return start(*words, cwd=tmp_path, launcher=launcher, script=script, **how)

    return call


@pytest.mark.parametrize('forked', [True, False])
@pytest.mark.parametrize('words', [['script.py'], ['-m', 'script']])
def test_arguments_folder_environment_and_status(script, tmp_path, forked, words):
    process = script(*words[1:], 'ends', 7, script=words[0], forked=forked)
    status, out, error = process.finish()
    assert (status, error) == (7, '')
    assert json.loads(out)[:4] == [['ends', '7'], str(tmp_path), 'x y', forked]


def test_signals(script):
    assert script('kills itself').finish()[0] == -signal.SIGKILL
    process = script('sleeps')
    process.wait_for(lambda: process._text()[0])
    process.send(signal.SIGTERM)
    status, out, _ = process.finish()
    assert status == -signal.SIGTERM
    assert not pathlib.Path('/proc', str(json.loads(out)[4])).exists()


def test_it_does_not_outlive_its_caller(script):
    process = script('sleeps')
    process.wait_for(lambda: process._text()[0])
    process.send(signal.SIGKILL)
    _, out, _ = process.finish()
    folder = pathlib.Path('/proc', str(json.loads(out)[4]))
    until = time.time() + 20
    while folder.exists() and time.time() < until:
        time.sleep(0.02)
    assert not folder.exists()
