"""The shell scripts, with Pythons, compilers and disks that are not real: finding, failing, going
on. No network.
"""

import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pkg_resources
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = (
    'awk bash cat chmod cp cut df dirname env flock grep head mkdir mv nproc rm sed sha256sum sleep'
    ' tail timeout touch tr uname'
).split()

# Writes every call, with what matters of its environment, to $CALLS. {probe} answers "are you a
# Python 3.7?".
PYTHON = r"""#!{bash}
printf '%s|PYTHONPATH=%s|HOROVOD=%s\n' "$*" "$PYTHONPATH" "$HOROVOD_WITH_TENSORFLOW" >>"$CALLS"
case "$*" in
    "- "*) {probe} ;;
    -V) echo "Python {version}" ;;
    *"import ensurepip"*) exit "${{ENSUREPIP:-0}}" ;;
    *"import tensorflow"*) exit "${{IMPORT:-0}}" ;;
    "-m venv"*) mkdir -p "${{!#}}/bin" && cp "$0" "${{!#}}/bin/python" && echo "home = $0" >"${{!#}}/pyvenv.cfg"
        case "$*" in *--system*) echo "include-system-site-packages = true" >>"${{!#}}/pyvenv.cfg" ;; esac ;;
    *"${{FAIL_AT:-nowhere}}"*) printf '%s\n' "$FAIL_TEXT"; exit "${{FAIL_STATUS:-1}}" ;;
    *"${{HANG_AT:-nowhere}}"*) sleep 60 ;;
    -) ;;
esac
"""
PROBES = {
    '3.7.16': """exec '{real}' "$@" """,
    '3.11.2': """exec '{real}' -c 'import sys; sys.version_info = (3, 11, 2); exec(sys.stdin.read())' "$2" """,
    'of .venv': """exec '{real}' -c 'import sys; sys.prefix = sys.argv[1]; exec(sys.stdin.read())' "$2" """,
    'shim': 'echo "pyenv: python3.7: command not found" >&2; exit 127',
}


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def fake_python(path, kind='3.7.16'):
    return executable(
        path,
        PYTHON.format(
            bash=shutil.which('bash'), version=kind, probe=PROBES[kind].format(real=sys.executable)
        ),
    )


class House:
    """A copy of the scripts, in a world that holds nothing but a few tools and what a test puts
    there.
    """

    def __init__(self, tmp_path):
        self.path, self.bin, self.home = tmp_path / 'house', tmp_path / 'bin', tmp_path / 'home'
        (self.path / '.ci').mkdir(parents=True)
        self.home.mkdir()
        for name in (
            'setup.sh',
            'quickstart.sh',
            'run_tests.sh',
            '.ci/run',
            'requirements.txt',
            'requirements-horovod.txt',
        ):
            shutil.copy(str(ROOT / name), str(self.path / name))
        for name in TOOLS:
            (tmp_path / 'tools').mkdir(exist_ok=True)
            (tmp_path / 'tools' / name).symlink_to(shutil.which(name))
        self.calls_file = tmp_path / 'calls'
        self.env = {
            'PATH': '%s:%s' % (self.bin, tmp_path / 'tools'),
            'HOME': str(self.home),
            'TMPDIR': str(tmp_path),
            'CALLS': str(self.calls_file),
        }
        executable(self.bin / 'df', '#!/bin/sh\necho head; echo "disk 9 9 ${FREE_MB:-9000} 0% /"\n')
        executable(
            self.bin / 'uname',
            '#!/bin/sh\n[ "$1" = -m ] && echo ${MACHINE:-x86_64} || echo ${SYSTEM:-Linux}\n',
        )

    def start(self, script='setup.sh', *arguments, **env):
        return subprocess.Popen(
            [str(self.path / script), *arguments],
            env=dict(self.env, **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            start_new_session=True,
            cwd='/',
        )

    def run(self, script='setup.sh', *arguments, **env):
        """(exit status, stdout, stderr); the calls of the fake Pythons during this run are in
        self.calls.
        """
        self.calls_file.write_text('')
        process = self.start(script, *arguments, **env)
        out, err = process.communicate(timeout=30)
        self.calls = self.calls_file.read_text().splitlines()
        return process.returncode, out, err

    def fails(self, *arguments, **env):
        """The one line that says what to do."""
        status, _, err = self.run(*(arguments or ['setup.sh']), **env)
        assert status == 1, err
        self.err = err
        lines = [line for line in err.splitlines() if line.startswith('setup: error: ')]
        assert len(lines) == 1 and err.splitlines()[-1] == lines[0], err
        return lines[0]

    def installs(self):
        return [call for call in self.calls if '-m pip' in call and ' install ' in call]


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


@pytest.fixture
def furnished(house):
    fake_python(house.bin / 'python3.7')
    status, _, err = house.run()
    assert status == 0, err
    return house


# ---- finding a Python 3.7 ------------------------------------------------------------------------


@pytest.mark.parametrize(
    'place',
    [
        'bin/python3.7',
        'bin/python3',
        'bin/python',
        'home/.pyenv/versions/3.7.9/bin/python3.7',
        'home/.local/share/uv/python/cpython-3.7.9-linux-x86_64-gnu/bin/python3.7',
        'home/miniconda3/envs/old/bin/python3.7',
        'elsewhere/env/bin/python3.7',
    ],
)
def test_finds_python_behind_others_that_do_not_fit(house, tmp_path, place):
    for name, kind in (('python3.7', 'shim'), ('python3', '3.11.2'), ('python', '3.11.2')):
        fake_python(house.bin / name, kind)
    wanted = fake_python(tmp_path / place)
    (house.home / '.conda').mkdir()
    (house.home / '.conda/environments.txt').write_text('%s\n' % (tmp_path / 'elsewhere/env'))
    status, out, err = house.run()
    assert status == 0, err
    assert 'setup: Python 3.7.16: %s\n' % wanted in out


def test_pyenv_root_and_uv_folder_may_be_elsewhere(house, tmp_path):
    pyenv = fake_python(tmp_path / 'p/versions/3.7.1/bin/python3.7')
    uv = fake_python(tmp_path / 'u/cpython-3.7.1/bin/python3.7')
    assert str(pyenv) in house.run(PYENV_ROOT=str(tmp_path / 'p'))[1]
    shutil.rmtree(str(house.path / '.venv'))
    assert str(uv) in house.run(UV_PYTHON_INSTALL_DIR=str(tmp_path / 'u'))[1]


def test_asked_for_python_comes_first_and_must_fit(house, tmp_path):
    fake_python(house.bin / 'python3.7')
    mine, new = fake_python(tmp_path / 'my own/python'), fake_python(tmp_path / 'new', '3.11.2')
    for wrong in (str(new), str(tmp_path / 'nowhere'), 'nothing'):
        assert 'PYTHON=%s is not a Python 3.7 that runs' % wrong in house.fails(PYTHON=wrong)
    assert str(mine) in house.run(PYTHON=str(mine))[1]


def test_no_python(house):
    line = house.fails()
    for way in ('pyenv install 3.7', 'uv python install 3.7', 'conda create', 'PYTHON=/path'):
        assert way in line


def test_python_of_the_environment_itself_does_not_count(house):
    fake_python(house.path / '.venv/bin/python', 'of .venv')
    line = house.fails(PATH='%s:%s' % (house.path / '.venv/bin', house.env['PATH']))
    assert 'no Python 3.7 found' in line
    assert (house.path / '.venv/bin/python').exists()


# ---- once, and only once -------------------------------------------------------------------------


def test_second_time_does_nothing_and_is_quick(furnished):
    assert len(furnished.installs()) == 2  # pip itself, the packages
    begin = time.time()
    status, out, _ = furnished.run()
    assert status == 0 and 'ready' in out and time.time() - begin < 2
    assert furnished.calls and all(call.startswith('-V|') for call in furnished.calls)


def change_pins(house):
    with (house.path / 'requirements.txt').open('a') as pins:
        pins.write('another==1.0\n')


def move(house):
    house.path.rename(house.path.parent / 'a new house')
    house.path = house.path.parent / 'a new house'


def lose_python(house):
    (house.path / '.venv/bin/python').unlink()
    (house.path / '.venv/bin/python').symlink_to(house.path / 'gone')


def update_python(house):
    path = house.path / '.venv/bin/python'
    path.write_text(path.read_text().replace('3.7.16', '3.7.17'))


@pytest.mark.parametrize('happens', [change_pins, move, lose_python, update_python])
def test_environment_is_made_anew(furnished, happens):
    (furnished.path / '.venv/leftover').touch()
    happens(furnished)
    status, out, err = furnished.run()
    assert status == 0, err
    assert 'anew' in out and len(furnished.installs()) == 2
    assert not (furnished.path / '.venv/leftover').exists()
    assert 'anew' not in furnished.run()[1]


def test_interrupted_setup_says_so_and_is_completed_by_the_next(house):
    fake_python(house.bin / 'python3.7')
    process = house.start(HANG_AT='requirements.txt')
    while 'requirements.txt' not in (
        house.calls_file.read_text() if house.calls_file.exists() else ''
    ):
        time.sleep(0.05)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130 and 'interrupted' in err
    status, out, err = house.run()
    assert status == 0 and len(house.installs()) == 2, err


def test_two_at_once_wait_for_each_other(house):
    fake_python(house.bin / 'python3.7')
    with (house.path / '.setup.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = house.start()
        assert 'waiting' in process.stdout.readline()
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0 and 'ready' in out, err


def test_pythonpath_of_the_machine_is_kept(house):
    fake_python(house.bin / 'python3.7')
    house.run(PYTHONPATH='/usr/local/Ascend/tfplugin')
    assert house.installs() and all(
        'PYTHONPATH=/usr/local/Ascend/tfplugin|' in call for call in house.installs()
    )


# ---- failing -------------------------------------------------------------------------------------

RETRY = (
    "WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError(...)':"
    ' /simple/pip/\n'
)
NONE = 'ERROR: No matching distribution found for %s==1.0'


@pytest.mark.parametrize(
    'text, expected',
    [
        (
            RETRY + NONE % 'pip',
            'cannot reach the package index https://mirror.example/simple: check the network',
        ),
        (
            'ERROR: Could not find a version (from versions: 1, 2)\n' + NONE % 'wrapt',
            'https://mirror.example/simple has no wrapt==1.0',
        ),
        (
            (
                'ERROR: Could not install packages due to an OSError: [Errno 28] No space left on'
                ' device'
            ),
            'the disk is full',
        ),
        ('ERROR: something nobody foresaw', '.venv/setup.log'),
    ],
)
@pytest.mark.parametrize('at', ['pip==', '-r requirements.txt'])
def test_pip_fails(house, text, expected, at):
    fake_python(house.bin / 'python3.7')
    broken = dict(
        FAIL_AT=at, FAIL_TEXT=text, PIP_INDEX_URL='https://me:secret@mirror.example/simple'
    )
    line = house.fails(**broken)
    assert expected in line and 'secret' not in line
    assert '    %s\n' % text.splitlines()[-1] in house.err
    assert house.run()[0] == 0


def test_what_is_missing_is_said_before_anything_is_installed(house):
    fake_python(house.bin / 'python3.7')
    for env, expected in (
        (dict(FREE_MB='500'), 'has 500 MB of free disk space'),
        (dict(ENSUREPIP='1'), 'apt install python3.7-venv'),
        (dict(MACHINE='aarch64'), 'SYSTEM_SITE_PACKAGES=1'),
        (dict(SYSTEM='Darwin'), 'Linux'),
        (dict(SYSTEM_SITE_PACKAGES='1', IMPORT='1'), 'imports TensorFlow 1.15'),
    ):
        assert expected in house.fails(**env)
        assert not house.installs()
    assert "'--horovot'" in house.fails('setup.sh', '--horovot') and not house.calls


def test_tensorflow_built_by_hand_is_kept(house):
    fake_python(house.bin / 'python3.7')
    status, _, err = house.run(MACHINE='aarch64', SYSTEM_SITE_PACKAGES='1')
    assert status == 0, err
    assert any('-m venv' in call and '--system-site-packages' in call for call in house.calls)
    assert '-r requirements.txt' not in ' '.join(house.installs())
    status, out, _ = house.run(MACHINE='aarch64')  # and stays, for scripts that do not say it again
    assert status == 0 and not house.installs()


def test_environment_without_system_packages_does_not_pass_for_one_with(furnished):
    assert 'anew' in furnished.run(SYSTEM_SITE_PACKAGES='1')[1]


def test_tensorflow_does_not_import(house):
    fake_python(house.bin / 'python3.7')
    assert 'AVX' in house.fails(IMPORT='132')
    assert 'importing TensorFlow failed' in house.fails(IMPORT='1')
    assert house.run()[0] == 0 and house.installs()


# ---- Horovod -------------------------------------------------------------------------------------


def test_horovod_needs_a_compiler(furnished):
    assert (
        'there is no g++' in furnished.fails('setup.sh', '--horovod') and not furnished.installs()
    )
    executable(furnished.bin / 'g++', '#!/bin/sh\n')
    assert 'there is no make' in furnished.fails('setup.sh', '--horovod')
    executable(furnished.bin / 'make', '#!/bin/sh\n')
    failed = furnished.fails(
        'setup.sh',
        '--horovod',
        FAIL_AT='requirements-horovod.txt',
        FAIL_TEXT='gloo.cc:1: error: no',
    )
    assert 'building Horovod failed' in failed and 'one process works' in failed
    assert '    gloo.cc:1: error: no\n' in furnished.err
    assert furnished.run('setup.sh', '--horovod')[0] == 0
    build = furnished.installs()[-1]
    assert 'HOROVOD=1' in build and '--no-build-isolation' in build and '--no-cache-dir' in build
    assert furnished.run('setup.sh', '--horovod')[0] == 0 and not furnished.installs()
    change_pins(furnished)  # another TensorFlow perhaps: Horovod is compiled against it
    assert (
        furnished.run('setup.sh', '--horovod')[0] == 0
        and 'requirements-horovod.txt' in furnished.installs()[-1]
    )


def test_horovod_does_not_compile_in_a_path_with_a_space(furnished):
    move(furnished)
    assert 'a space in its path (%s)' % furnished.path in furnished.fails('setup.sh', '--horovod')
    assert furnished.run()[0] == 0 and not furnished.installs()


# ---- the scripts above setup.sh ------------------------------------------------------------------


def test_run_tests_goes_on_without_horovod(furnished):
    status, out, err = furnished.run('run_tests.sh', '-k', 'two words', OMP_NUM_THREADS='1')
    assert status == 0 and 'no g++' in err and 'skipped' in out
    call = furnished.calls[-1]
    assert re.match(
        r'-m pytest -n %d .*-k two words\|PYTHONPATH=%s\|'
        % (min(4, len(os.sched_getaffinity(0))), re.escape(str(furnished.path))),
        call,
    )
    assert furnished.run('run_tests.sh', FAIL_AT='-m pytest', FAIL_STATUS='5')[0] == 5
    shutil.rmtree(str(furnished.path / '.venv'))
    assert furnished.run('run_tests.sh', FREE_MB='1')[0] == 1 and '-m pytest' not in ' '.join(
        furnished.calls
    )


@pytest.fixture
def results(furnished):
    """What the commands of the quick start, which are fakes here, would have written."""
    out = furnished.path / 'runs/quickstart'
    (out / 'offline').mkdir(parents=True)
    (out / 'eval.json').write_text('{"step": 528, "images": 360, "top1": 0.9875}')
    (out / 'offline/offline.json').write_text(
        '{"results": {"pb": {"offline": {"top1": 0.9875}, "equal_predictions": 1, "latency_ms":'
        ' {"p50": 4.25}, "batch_size": 8}}}'
    )
    return furnished


def test_quickstart_runs_the_steps_in_order(results):
    furnished = results
    status, out, err = furnished.run('quickstart.sh', '--epochs', '1')
    assert status == 0, err
    steps = [
        re.match(r'(?:-m )?(\S+)', call).group(1)
        for call in furnished.calls
        if 'runs/quickstart' in call
    ]
    assert steps == [
        'wideresnet_tf.prepare_cifar',
        'wideresnet_tf/run_wideresnet.py',
        'offline_inference.run',
        'offline_inference.run',
        'common.report',
        '-',
    ]
    assert any('--do_train True --epochs 1|' in call for call in furnished.calls)
    assert 'report      %s/runs/quickstart/report.md\n' % furnished.path in out
    assert 'checkpoint  top-1 98.75 % of 360 images (step 528)\n' in out
    assert (
        'pb          top-1 98.75 %, the same prediction for 100.00 % of the images, 4.25 ms a batch'
        ' of 8\n' in out
    )
    status, out, _ = furnished.run('quickstart.sh')
    assert (
        status == 0
        and 'rm -r runs/quickstart' in out
        and 'run_wideresnet' not in ' '.join(furnished.calls)
    )


@pytest.mark.parametrize(
    'broken', ['prepare_cifar', 'run_wideresnet', '--backend pb', 'common.report']
)
def test_quickstart_stops_at_a_step_that_fails(results, broken):
    furnished = results
    status, out, _ = furnished.run('quickstart.sh', FAIL_AT=broken, FAIL_STATUS='2')
    assert status == 2 and 'report.md' not in out and broken in furnished.calls[-1]
    assert furnished.run('quickstart.sh')[0] == 0 and broken in ' '.join(
        furnished.calls
    )  # it is not taken for done


@pytest.mark.parametrize('quickstart, tests', [(0, 0), (3, 0), (0, 1), (3, 1)])
def test_ci_runs_both_and_fails_with_either(house, quickstart, tests):
    executable(house.path / 'quickstart.sh', '#!/bin/sh\necho quick $CI\nexit %d\n' % quickstart)
    executable(house.path / 'run_tests.sh', '#!/bin/sh\necho 3 passed\nexit %d\n' % tests)
    status, out, err = house.run('.ci/run')
    assert status == int(bool(quickstart or tests))
    assert out == 'quick true\n3 passed\n'
    assert ('quickstart.sh' in err, 'run_tests.sh' in err) == (bool(quickstart), bool(tests))


# ---- the pins ------------------------------------------------------------------------------------


def pins():
    lines = [
        line.strip()
        for name in ('requirements.txt', 'requirements-horovod.txt')
        for line in (ROOT / name).open()
    ]
    return [line for line in lines if line and not line.startswith('#')]


def test_every_package_is_pinned_once():
    assert all(re.match(r'[\w.-]+==[\w.]+$', line) for line in pins())
    names = [pkg_resources.Requirement.parse(line).key for line in pins()]
    assert len(names) == len(set(names))


def test_pins_are_complete_and_agree():
    """What a pinned package needs is pinned too, at a version it accepts: they are installed
    without resolving.
    """
    versions = {
        requirement.key: requirement.specs[0][1]
        for requirement in map(pkg_resources.Requirement.parse, pins())
    }
    wrong = []
    for name, version in versions.items():
        found = pkg_resources.working_set.by_key.get(name)
        for needed in found.requires() if found and found.version == version else ():
            if versions.get(needed.key) not in needed:
                wrong.append('%s needs %s, pinned is %s' % (name, needed, versions.get(needed.key)))
    assert not wrong
