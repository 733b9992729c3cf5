"""setup.sh: what it finds, installs and says. The Pythons, uv and the compiler are not real, but in
the last test, which lets a real uv unpack a Python. No network.
"""

import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

import pkg_resources
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYPI = 'https://me:secret@mirror.example/simple'


@pytest.mark.parametrize(
    'place',
    [
        'bin/python3.7',
        'bin/python3',
        'bin/python',
        'home/.pyenv/versions/3.7.9/bin/python3.7',
        'home/miniconda3/envs/old/bin/python3.7',
        'conda root/envs/old/bin/python3.7',
    ],
)
def test_finds_python_behind_others_that_do_not_fit(copy, tmp_path, place):
    for name, kind in (('python3.7', 'shim'), ('python3', '3.11.2'), ('python', 'of .venv')):
        copy.python(name, kind)
    wanted = copy.python(tmp_path / place)
    status, _, err = copy.run(CONDA_EXE=str(tmp_path / 'conda root/bin/conda'))
    assert status == 0, err
    assert '--python %s .venv|' % wanted in copy.environment()


def test_asked_for_python_comes_first_and_must_fit(copy, tmp_path):
    copy.python('python3.7')
    mine, new = copy.python(tmp_path / 'my own/python'), copy.python(tmp_path / 'new', '3.11.2')
    for wrong in (str(new), str(tmp_path / 'nowhere'), 'nothing'):
        assert 'PYTHON=%s is not a CPython 3.7 that runs' % wrong in copy.fails(PYTHON=wrong)
    assert copy.run(PYTHON=str(mine))[0] == 0
    assert '--python %s .venv|' % mine in copy.environment()


def test_without_python37_uv_provides_one(copy, tmp_path):
    copy.python('python3', '3.11.2')
    mirror = tmp_path.as_uri()
    assert copy.run(UV_PYTHON_INSTALL_MIRROR=mirror)[0] == 0
    (download,) = [call for call in copy.calls if call.startswith('uv python install')]
    assert download.startswith('uv python install 3.7.9|') and 'mirror=%s|' % mirror in download
    assert '--python 3.7 .venv|' in copy.environment()
    shutil.rmtree(str(copy.path / '.venv'))
    assert copy.run(MANAGED='/somewhere/python3.7')[0] == 0  # it is there already
    assert 'uv python install' not in ' '.join(copy.calls)


def test_download_of_python_is_verified(copy):
    """The digest of the build is written in setup.sh: no other file passes for it."""
    copy.python('python3', '3.11.2')
    copy.program('curl', '#!/bin/sh\necho "$5" >>"$CALLS"; echo another build >"$4"\n')
    line = copy.fails(UV_PYTHON_INSTALL_MIRROR='https://mirror.example/builds')
    assert 'https://mirror.example/builds/20200822/cpython-3.7.9-x86_64' in line
    for way in ('UV_PYTHON_INSTALL_MIRROR', 'PYTHON'):
        assert way in line
    assert 'uv python install' not in ' '.join(copy.calls)
    assert 'https://github.com/' in copy.fails()


def test_uv_is_installed_beside_the_environment_unless_the_same_is_there(copy):
    copy.python('python3.7')
    assert copy.run()[0] == 0
    assert any('pip install' in call and 'uv==0.5.31' in call for call in copy.calls)
    for version, kept in (('0.5.31', True), ('0.9.1', False)):
        shutil.copy(copy.env['FAKE_UV'], str(copy.bin / 'uv'))
        shutil.rmtree(str(copy.path / '.uv'), ignore_errors=True)
        shutil.rmtree(str(copy.path / '.venv'))
        assert copy.run(UV_VERSION=version)[0] == 0
        assert kept is not any('uv==0.5.31' in call for call in copy.calls)


def test_no_way_to_uv_names_two_others(copy):
    copy.python('python3.7')
    line = copy.fails(FAIL_AT='--target .uv')
    assert 'pipx install uv==0.5.31' in line and 'https://astral.sh/uv/0.5.31/install.sh' in line
    assert not copy.installs()


def test_settings_of_pip_reach_uv_unless_uv_has_its_own(copy):
    copy.python('python3.7')
    settings = "global.index-url='%s'\nglobal.extra-index-url='file:///a file:///b'" % PYPI
    assert copy.run(PIP_SETTINGS=":env:.cert='/ca.crt'\n" + settings)[0] == 0
    expected = '|index=%s|extra=file:///a file:///b|cert=/ca.crt|' % PYPI
    assert all(expected in call for call in copy.installs())
    shutil.rmtree(str(copy.path / '.venv'))
    assert copy.run(PIP_SETTINGS=settings, UV_INDEX_URL='https://own.example')[0] == 0
    assert all('|index=https://own.example|' in call for call in copy.installs())


def test_second_time_does_nothing(installed):
    assert installed.installs()
    status, out, _ = installed.run()
    assert status == 0 and 'ready' in out
    assert {call.split('|')[0] for call in installed.calls} == {'python -V'}


def change_pins(copy):
    with (copy.path / 'requirements.txt').open('a') as pins:
        pins.write('another==1.0\n')


def move(copy):
    copy.path.rename(copy.path.parent / 'a new place')
    copy.path = copy.path.parent / 'a new place'


def lose_python(copy):
    (copy.path / '.venv/bin/python').unlink()
    (copy.path / '.venv/bin/python').symlink_to(copy.path / 'gone')


def update_python(copy):
    path = copy.path / '.venv/bin/python'
    path.write_text(path.read_text().replace('3.7.16', '3.7.17'))


def add_cann(copy):
    copy.env['ASCEND_TOOLKIT_HOME'] = str(copy.home)


@pytest.mark.parametrize('happens', [change_pins, move, lose_python, update_python, add_cann])
def test_environment_is_made_anew(installed, happens):
    (installed.path / '.venv/leftover').touch()
    happens(installed)
    status, _, err = installed.run()
    assert status == 0, err
    assert installed.installs() and not (installed.path / '.venv/leftover').exists()
    assert installed.run()[0] == 0 and not installed.installs()


def test_setup_that_stopped_is_completed_by_the_next(copy):
    copy.python('python3.7')
    assert 'UV_INDEX_URL' in copy.fails(FAIL_AT='pins.txt')
    for status in ('132', '1'):
        assert 'exit status %s' % status in copy.fails(IMPORT=status)
    assert copy.run()[0] == 0 and copy.installs()


def test_two_at_once_wait_for_each_other(copy):
    copy.python('python3.7')
    with (copy.path / '.setup.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = copy.start()
        with pytest.raises(Exception, match='timed out'):
            process.wait(1)
        assert not copy.calls_file.read_text()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and 'ready' in out, err


def test_link_to_another_environment_is_left_alone(installed, tmp_path):
    (installed.path / '.venv').rename(tmp_path / 'shared')
    (installed.path / '.venv').symlink_to(tmp_path / 'shared')
    change_pins(installed)
    assert installed.run('setup.sh', '--horovod')[0] == 0 and not installed.installs()


def test_link_to_an_environment_that_does_not_run_is_an_error(copy, tmp_path):
    (copy.path / '.venv').symlink_to(tmp_path / 'of another user')
    assert "'rm .venv'" in copy.fails()


def test_folder_without_write_permission(installed):
    """An environment that is there serves; one that is missing is an error."""
    if not os.geteuid():  # root is not held by permissions unless it gives up that capability
        setpriv = str(shutil.which('setpriv'))
        installed.as_user = [setpriv, '--bounding-set', '-dac_override']
        if subprocess.call(['env', *installed.as_user, 'true'], stderr=subprocess.DEVNULL):
            pytest.skip('root keeps its capabilities here')
    installed.path.chmod(0o555)
    assert installed.run()[0] == 0
    installed.path.chmod(0o755)
    shutil.rmtree(str(installed.path / '.venv'))
    installed.path.chmod(0o555)
    assert 'no write permission in %s' % installed.path in installed.fails()
    installed.path.chmod(0o755)


def test_mistakes_are_said_before_anything_is_installed(copy):
    copy.python('python3.7')
    assert 'SYSTEM_SITE_PACKAGES=1' in copy.fails(SYSTEM='Linux aarch64')
    assert 'Linux' in copy.fails(SYSTEM='Darwin arm64')
    assert "'--horovot'" in copy.fails('--horovot') and "'--fast'" in copy.fails('--mkl', '--fast')
    assert 'SYSTEM_SITE_PACKAGES' in copy.fails('--mkl', SYSTEM_SITE_PACKAGES='1')
    assert 'x86_64' in copy.fails('--mkl', SYSTEM='Linux aarch64', SYSTEM_SITE_PACKAGES='1')
    assert not copy.calls


def test_tensorflow_built_by_hand_is_kept(copy):
    """And with it the packages it was built against."""
    copy.python('python3.7')
    assert copy.run(SYSTEM='Linux aarch64', SYSTEM_SITE_PACKAGES='1')[0] == 0
    assert '--system-site-packages' in copy.environment()
    wanted = (copy.path / '.venv/pins.txt').read_text().splitlines()
    assert 'scipy==1.7.3' in wanted and 'tensorflow-estimator==1.15.1' in wanted
    assert not [line for line in wanted if re.match('(numpy|tensorflow)==', line)]


def test_packages_of_cann_are_installed_where_cann_is(copy):
    copy.python('python3.7')
    add_cann(copy)
    assert copy.run()[0] == 0
    wanted = (copy.path / '.venv/pins.txt').read_text()
    assert 'sympy==1.10.1\n' in wanted and 'tensorflow==1.15.0\n' in wanted


def test_horovod_is_compiled_once_for_each_tensorflow(installed):
    assert 'needs g++ and make' in installed.fails('--horovod')
    for name in ('g++', 'make'):
        installed.program(name, '#!/bin/sh\n')
    failed = installed.fails('--horovod', FAIL_AT='requirements-horovod.txt')
    assert 'training in one process works without' in failed
    assert installed.run('setup.sh', '--horovod')[0] == 0
    build = installed.installs()[-1]
    assert '--no-cache' in build and build.endswith('horovod=1')
    assert installed.run('setup.sh', '--horovod')[0] == 0 and not installed.installs()
    change_pins(installed)
    assert installed.run('setup.sh', '--horovod')[0] == 0
    assert 'requirements-horovod.txt' in installed.installs()[-1]
    move(installed)
    assert 'a space in its path (%s)' % installed.path in installed.fails('--horovod')


def tensorflows(copy):
    lines = (copy.path / '.venv/pins.txt').read_text().splitlines()
    return [line for line in lines if re.match('(intel-)?tensorflow==', line)]


def test_mkl_build_takes_the_place_of_the_stock_one_and_stays(installed):
    for name in ('g++', 'make'):
        installed.program(name, '#!/bin/sh\n')
    assert tensorflows(installed) == ['tensorflow==1.15.0']
    status, out, err = installed.run('setup.sh', '--mkl')
    assert status == 0 and 'MKL build' in out, err
    assert installed.installs() and tensorflows(installed) == ['intel-tensorflow==1.15.2']
    assert installed.run()[0] == 0 and not installed.installs()
    status, out, err = installed.run('setup.sh', '--horovod')
    assert status == 0 and 'MKL build' in out, err
    assert ['horovod.txt' in call for call in installed.installs()] == [False, True]  # after cmake
    change_pins(installed)
    assert installed.run()[0] == 0 and installed.installs()
    assert tensorflows(installed) == ['intel-tensorflow==1.15.2']
    shutil.rmtree(str(installed.path / '.venv'))  # the way back
    assert installed.run()[0] == 0 and tensorflows(installed) == ['tensorflow==1.15.0']


def test_horovod_is_compiled_anew_for_the_mkl_build(installed):
    for name in ('g++', 'make'):
        installed.program(name, '#!/bin/sh\n')
    assert installed.run('setup.sh', '--horovod')[0] == 0
    assert installed.run('setup.sh', '--mkl', '--horovod')[0] == 0
    assert 'requirements-horovod.txt' in installed.installs()[-1]


def test_mkl_build_and_cann_exclude_each_other(installed):
    assert installed.run('setup.sh', '--mkl')[0] == 0
    add_cann(installed)
    for arguments in ((), ('--mkl',)):
        line = installed.fails(*arguments)
        assert 'CANN (%s)' % installed.home in line and 'rm -r .venv && ./setup.sh' in line
    assert tensorflows(installed) == ['intel-tensorflow==1.15.2']


# ---- a real uv, and a mirror packed from this Python ---------------------------------------------


def write_zst(path, content):
    """A Zstandard frame (RFC 8878) of uncompressed blocks."""
    size = 1 << 16
    frame = b'\x28\xb5\x2f\xfd\xa0' + len(content).to_bytes(4, 'little')
    for begin in range(0, len(content), size):
        block = content[begin : begin + size]
        last = begin + size >= len(content)
        frame += (len(block) << 3 | last).to_bytes(3, 'little') + block
    path.write_bytes(frame)


def test_python_of_a_mirror_packed_from_a_local_one(copy, tmp_path):
    uv = shutil.which('uv', path='%s:/usr/local/bin:/usr/bin' % (ROOT / '.uv/bin'))
    if not uv:
        pytest.skip('no uv in .uv/bin: ./setup.sh puts it there where .venv is not made yet')
    python = tmp_path / 'python/install/bin/python3.7'
    python.parent.mkdir(parents=True)
    library = tmp_path / 'python/install/lib/python3.7'
    library.mkdir(parents=True)
    for path in pathlib.Path(sys.base_prefix).glob('lib/python3.7/_sysconfigdata_*.py'):
        shutil.copy(str(path), str(library))
    python.symlink_to('%s/bin/python3.7' % sys.base_prefix)
    (python.parent / 'python3').symlink_to('python3.7')
    build = re.search('^build=(.*)', (copy.path / 'setup.sh').read_text(), re.M).group(1)
    (tmp_path / 'mirror' / build).parent.mkdir(parents=True)
    with tarfile.open(str(tmp_path / 'python.tar'), 'w') as archive:
        archive.add(str(tmp_path / 'python'), 'python')
    write_zst(tmp_path / 'mirror' / build, (tmp_path / 'python.tar').read_bytes())

    (copy.path / '.uv/bin').mkdir(parents=True)
    shutil.copy(uv, str(copy.path / '.uv/bin/uv'))
    (copy.path / 'requirements.txt').write_text('')
    module = tmp_path / 'modules/tensorflow.py'
    module.parent.mkdir()
    module.write_text("__version__ = '1.15.0'")
    status, out, err = copy.run(
        UV_PYTHON_INSTALL_MIRROR=(tmp_path / 'mirror').as_uri(),
        UV_OFFLINE='1',
        PYTHONPATH=str(module.parent),
    )
    assert status == 0 and 'ready: .venv/bin/python (Python 3.7.' in out, err
    assert (copy.home / '.local/share/uv/python/cpython-3.7.9-linux-x86_64-gnu').is_dir()


# ---- the pins ------------------------------------------------------------------------------------


def pins():
    lines = [
        line.strip()
        for path in sorted(ROOT.glob('requirements*.txt'))
        for line in path.read_text().splitlines()
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
