"""What a command says of a mistake in its words."""

import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

from common import errors

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    'words, message',
    [
        (
            ['train', '--output', 'x', '--round', '2'],
            r"--round 2 is unknown; did you mean '--rounds'\?",
        ),
        (['trains'], r"what: trains is not legal; legal: train, input; did you mean 'train'\?"),
        (['train', '--rounds', 'two'], "--rounds: invalid int value: 'two'"),
        (['--output', 'x'], 'required: what'),
        (['train'], r'required: --output(?!; found)'),
        (['train', '--other', '--outptu=x', '--rounds', '2'], 'required: --output; found --outptu'),
    ],
)
def test_a_mistake_names_the_nearest(words, message):
    parser = errors.Parser()
    parser.add_argument('what', choices=['train', 'input'])
    parser.add_argument('--rounds', type=int)
    parser.add_argument('--output', required=True)
    with pytest.raises(errors.UserError, match=message + '.*; --help lists the flags'):
        parser.parse_args(words)


def ends(error, capsys):
    """The status and the standard error of a command that raises an error."""

    @errors.entry_point
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    'error, line',
    [
        (errors.UserError('a\nb/c\x1b: no'), 'a b/c : no'),
        (OSError(28, 'No space left on device', '/run/a'), '/run/a: No space left on device'),
        (tf.errors.ResourceExhaustedError(None, None, '/run/a; full\nat node'), '/run/a; full'),
        (tf.errors.FailedPreconditionError(None, None, '/run; Is a directory'), None),
        (tf.errors.OutOfRangeError(None, None, '/run; File too large'), None),
        (
            tf.errors.InvalidArgumentError(None, None, '/a\nb; File name too long\n\t [[node s]]'),
            '/a b; File name too long',
        ),
        (MemoryError('Unable to allocate 9 GiB'), 'out of memory: Unable to allocate 9 GiB'),
    ],
)
def test_an_error_of_the_machine_is_one_line(error, line, capsys):
    assert ends(error, capsys) == (2, 'error: %s\n' % (line or error.message))


@pytest.mark.parametrize('error', [ValueError('x'), tf.errors.InternalError(None, None, 'x')])
def test_a_fault_of_the_program_keeps_its_traceback(error, capsys):
    with pytest.raises(type(error)):
        ends(error, capsys)


@pytest.mark.parametrize(
    'code, words',
    [
        ('import common, package_that_is_missing', "No module named 'package_that_is_missing'"),
        ('import common, tensorflow; tensorflow.train.Optimizer', 'TensorFlow is 2.8.4, not 1.15'),
    ],
)
def test_a_python_without_our_packages_is_one_line(code, words, tmp_path):
    (tmp_path / 'tensorflow.py').write_text("__version__ = '2.8.4'\ntrain = None\n")
    done = subprocess.run(
        [sys.executable, '-c', code],
        stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH='%s:%s' % (ROOT, tmp_path)),
    )
    (line,) = done.stderr.decode().splitlines()
    assert words in line and sys.executable in line and './setup.sh' in line
    assert done.returncode == 1
