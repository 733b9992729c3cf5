"""A copy of the shell scripts in a world that holds a few tools and what a test puts there."""

import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = (
    'setup.sh quickstart.sh run_tests.sh .ci/run requirements.txt requirements-horovod.txt'
    ' requirements-mkl.txt'
)
TOOLS = (
    'bash cat cp dirname env flock grep head mkdir nproc paste printenv rm sed sha256sum'
    ' sleep sort tail timeout touch tr'
)

PACKAGES = '.venv/lib/python3.7/site-packages/'

# Both write their calls to $CALLS, with what matters of the environment.
PYTHON = r"""#!{bash}
printf 'python %s|PYTHONPATH=%s\n' "$*" "$PYTHONPATH" >>"$CALLS"
case "$*" in
    *version_info*) {probe} ;;
    "- "*) exec '{real}' "$@" ;;
    -V) echo "Python {version}" ;;
    *"import pip") exit "${{NO_PIP:-0}}" ;;
    *"import tensorflow"*) exit "${{IMPORT:-0}}" ;;
    *"pip config list") printf '%s\n' "$PIP_SETTINGS" ;;
    *"pip list"*) printf 'numpy==1.17.0\ntensorflow-cpu==1.15.0\n' ;;
    *"${{FAIL_AT:-nowhere}}"*) exit "${{FAIL_STATUS:-1}}" ;;
    *"--target .uv"*) mkdir -p .uv/bin && cp "$FAKE_UV" .uv/bin/uv ;;
esac
"""
UV = r"""#!{bash}
printf 'uv %s|index=%s|extra=%s|cert=%s|mirror=%s|horovod=%s\n' \
    "$*" "$UV_INDEX_URL" "$UV_EXTRA_INDEX_URL" "$SSL_CERT_FILE" \
    "$UV_PYTHON_INSTALL_MIRROR" "$HOROVOD_WITH_TENSORFLOW" >>"$CALLS"
case "$*" in
    --version) echo "uv ${{UV_VERSION:-0.5.31}}" ;;
    *"${{FAIL_AT:-nowhere}}"*) echo "uv: it failed" >&2; exit 2 ;;
    venv*) mkdir -p .venv/bin && cp "$FAKE_PYTHON" .venv/bin/python ;;
    *.venv/pins.txt) ! grep -q ^intel-tensorflow== .venv/pins.txt || mkdir -p "$INTEL_HEADERS" ;;
    "python find"*) [[ $MANAGED ]] ;;
esac
"""
PROBES = {
    '3.7.16': 'exec \'{real}\' "$@"',
    '3.11.2': 'exec \'{real}\' -c "import sys; sys.version_info = (3, 11); $2" "$3"',
    'of .venv': 'exec \'{real}\' -c "import sys; sys.prefix = sys.argv[1]; $2" "$3"',
    'shim': 'echo "pyenv: python3.7: command not found" >&2; exit 127',
}


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Copy:
    """The copy of the scripts. `run` and `fails` start one and note the calls of programs."""

    def __init__(self, tmp_path):
        self.path, self.bin, self.home = tmp_path / 'copy', tmp_path / 'bin', tmp_path / 'home'
        (self.path / '.ci').mkdir(parents=True)
        self.home.mkdir()
        for name in SCRIPTS.split():
            shutil.copy(str(ROOT / name), str(self.path / name))
        (self.path / 'requirements-ascend.txt').write_text('sympy==1.10.1\n')
        (tmp_path / 'tools').mkdir()
        for name in TOOLS.split():
            (tmp_path / 'tools' / name).symlink_to(shutil.which(name))
        self.calls_file = tmp_path / 'calls'
        self.env = {
            'PATH': '%s:%s' % (self.bin, tmp_path / 'tools'),
            'HOME': str(self.home),
            'CALLS': str(self.calls_file),
            'FAKE_UV': str(self.program('spare/uv', UV.format(bash=shutil.which('bash')))),
            'FAKE_PYTHON': str(self.python('spare/python')),
            # where uv leaves them
            'INTEL_HEADERS': PACKAGES + 'tensorflow-1.15.2.data/purelib/tensorflow_core/include',
            'ASCEND_TOOLKIT_HOME': str(tmp_path / 'no CANN'),
        }
        self.as_user = []
        self.program('uname', '#!/bin/sh\necho ${SYSTEM:-Linux x86_64}\n')

    def program(self, path, text):
        return write_program(self.bin / path, text)

    def python(self, path, kind='3.7.16'):
        """A Python at this path, relative to the folder of programs."""
        probe = PROBES[kind].format(real=sys.executable)
        return self.program(
            path,
            PYTHON.format(
                bash=shutil.which('bash'), version=kind, probe=probe, real=sys.executable
            ),
        )

    def start(self, script='setup.sh', *arguments, **env):
        self.calls_file.write_text('')
        return subprocess.Popen(
            [*self.as_user, str(self.path / script), *arguments],
            env=dict(self.env, **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            cwd='/',
        )

    def run(self, script='setup.sh', *arguments, **env):
        """(exit status, stdout, stderr)"""
        process = self.start(script, *arguments, **env)
        out, err = process.communicate(timeout=120)
        self.calls = self.calls_file.read_text().splitlines()
        return process.returncode, out, err

    def fails(self, *arguments, **env):
        """The one line of setup.sh that says what to do."""
        status, _, err = self.run('setup.sh', *arguments, **env)
        assert status == 1, err
        lines = [line for line in err.splitlines() if line.startswith('setup: error: ')]
        assert len(lines) == 1 and err.splitlines()[-1] == lines[0], err
        return lines[0]

    def has_headers(self):
        """Whether TensorFlow's headers are where Horovod looks for them."""
        return (self.path / PACKAGES / 'tensorflow_core/include').is_dir()

    def installs(self):
        return [call for call in self.calls if call.startswith('uv pip install')]

    def environment(self):
        """The call of uv that made .venv."""
        (call,) = [call for call in self.calls if call.startswith('uv venv')]
        return call


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


@pytest.fixture
def installed(copy):
    """After a setup that worked."""
    copy.python('python3.7')
    status, _, err = copy.run()
    assert status == 0, err
    return copy
