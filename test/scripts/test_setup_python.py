"""Where setup.sh takes Python and uv from. Neither is real, but in the last test, where a real uv
unpacks a Python. No network.
"""

import pathlib
import re
import shutil
import sys
import tarfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


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
