"""What setup.sh installs and says. The Pythons, uv and the compiler are not real. No network.
test_setup_python.py: where it finds Python.
"""

import fcntl
import os
import re
import shutil
import subprocess

import pytest

PYPI = 'https://me:secret@mirror.example/simple'


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
    assert not installed.has_headers()
    assert installed.run('setup.sh', '--mkl', '--horovod')[0] == 0
    assert 'requirements-horovod.txt' in installed.installs()[-1] and installed.has_headers()


def test_mkl_build_and_cann_exclude_each_other(installed):
    assert installed.run('setup.sh', '--mkl')[0] == 0
    add_cann(installed)
    for arguments in ((), ('--mkl',)):
        line = installed.fails(*arguments)
        assert 'CANN (%s)' % installed.home in line and 'rm -r .venv && ./setup.sh' in line
    assert tensorflows(installed) == ['intel-tensorflow==1.15.2']
