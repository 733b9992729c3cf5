"""CANN has a Python package `hccl` too. Whichever of the two comes first on the path, CANN's is
imported, and its modules do what they do.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOG = 'import sys\nsys.cann = getattr(sys, "cann", []) + [__name__]\n'
CANN = {
    'hccl/__init__.py': LOG + 'from hccl.version import VERSION\n',
    'hccl/version.py': LOG + 'VERSION = "6.0"\n',
    'hccl/manage/__init__.py': LOG,
    'hccl/manage/api.py': LOG + 'def get_rank_size():\n    return 8\n',
    'hccl/split/__init__.py': LOG + 'from hccl.split.api import set_split_strategy_by_idx\n',
    'hccl/split/api.py': LOG + 'def set_split_strategy_by_idx(indices):\n    return indices\n',
}
USE = """
from hccl.manage.api import get_rank_size
from hccl.split.api import set_split_strategy_by_idx
import hccl, hccl.manage, hccl.split, sys
print(get_rank_size(), hccl.VERSION, hccl.__file__, hccl.__spec__.origin, *sys.cann)
"""
EXPECTED = 'hccl hccl.version hccl.manage hccl.manage.api hccl.split hccl.split.api'.split()


@pytest.fixture
def cann(tmp_path):
    for name, text in CANN.items():
        path = tmp_path / 'cann' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / 'cann'


def python(*words, path, cwd='/'):
    """Standard output of a Python with this PYTHONPATH."""
    return subprocess.check_output(
        [sys.executable, *words],
        cwd=str(cwd),
        env={'PYTHONPATH': os.pathsep.join(map(str, path))},
        stderr=subprocess.STDOUT,
    ).decode()


@pytest.mark.parametrize('repository_first', [True, False])
def test_cann_has_its_own_package(cann, repository_first):
    path = [ROOT, cann] if repository_first else [cann, ROOT]
    init = str(cann / 'hccl' / '__init__.py')
    assert python('-c', USE, path=path).split() == ['8', '6.0', init, init] + EXPECTED


def test_the_repository_may_come_twice_and_as_the_current_folder(cann):
    init = str(cann / 'hccl' / '__init__.py')
    output = python('-c', USE, path=[ROOT, str(ROOT) + '/hccl/..', cann], cwd=ROOT)
    assert output.split()[2:4] == [init, init]


def test_another_copy_of_the_repository_may_be_on_the_path(cann, tmp_path):
    shutil.copytree(str(ROOT / 'hccl'), str(tmp_path / 'copy' / 'hccl'))
    code = 'import hccl.rank_table; print(hccl.rank_table.__file__)'
    for path in ([ROOT, tmp_path / 'copy'], [ROOT, tmp_path / 'copy', cann]):
        assert python('-c', code, path=path).strip() == str(ROOT / 'hccl' / 'rank_table.py')
    init = str(cann / 'hccl' / '__init__.py')
    assert python('-c', USE, path=path).split()[2:4] == [init, init]


def test_ours_run_beside_it(cann):
    code = 'import hccl.rank_table, hccl.manage.api; print(hccl.rank_table.__file__)'
    assert python('-c', code, path=[ROOT, cann]).strip() == str(ROOT / 'hccl' / 'rank_table.py')
    for module in ('hccl.rank_table', 'hccl.launch'):
        assert 'usage: python -m ' + module in python('-m', module, '--help', path=[ROOT, cann])


def test_an_error_of_cann_is_shown(cann):
    (cann / 'hccl' / '__init__.py').write_text('raise ImportError("libhccl.so: not found")')
    with pytest.raises(subprocess.CalledProcessError) as error:
        python('-c', 'import hccl.manage', path=[ROOT, cann])
    assert b'ImportError: libhccl.so: not found' in error.value.output


def test_a_package_without_init(cann):
    (cann / 'hccl' / '__init__.py').unlink()
    code = 'import hccl.rank_table, hccl.manage.api as api; print(api.get_rank_size())'
    assert python('-c', code, path=[ROOT, cann]).strip() == '8'
