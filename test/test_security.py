"""What SECURITY.md says of all modules; test_faults.py lists its other tests."""

import ast
import os
import pathlib

import numpy as np
import pytest

from common.checkpoints.importers import torch
from common.configuration import config
from common.data import scanning
from common.errors import UserError
from common.reporting import run_folder

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Calls and imports that no file may have, but for those named.
NEVER = {'eval', 'exec', 'os.system', 'os.popen', 'subprocess.getoutput', 'pickle.load'}
NEVER |= {'pickle.loads', 'yaml.unsafe_load', 'yaml.full_load', 'tf.train.import_meta_graph'}
NEVER |= {'shutil.unpack_archive', 'archive.extract', 'archive.extractall', 'yaml.load'}
ALLOWED = {
    ('common.data.modelarts', 'archive.extractall'),  # a zip
    ('common.configuration.config', 'yaml.load'),  # with a SafeLoader
}
NETWORK = {'urllib', 'http', 'requests', 'ftplib', 'smtplib', 'xmlrpc', 'asyncio', 'socketserver'}


def _name(node):
    if isinstance(node, ast.Attribute):
        return '%s.%s' % (_name(node.value), node.attr)
    return getattr(node, 'id', '')


@pytest.mark.parametrize('folder', ['common', 'hccl', 'offline_inference', '*_tf'])
def test_what_the_product_never_calls(folder):
    for path in ROOT.glob(folder + '/**/*.py'):
        module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        require_harmless(module, ast.parse(path.read_text()))


def require_harmless(module, tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name, words = _name(node.func), {word.arg: word.value for word in node.keywords}
            assert name not in NEVER or (module, name) in ALLOWED, name
            assert 'shell' not in words, name
            assert not getattr(words.get('allow_pickle'), 'value', False), name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, 'module', None) or '']
            assert not NETWORK & {name.split('.')[0] for name in names}, names


def test_a_recipe_runs_no_code(tmp_path):
    recipe, owned = tmp_path / 'config.yaml', tmp_path / 'owned'
    recipe.write_text('seed: !!python/object/apply:os.mkdir [%s]\n' % owned)
    with pytest.raises(UserError, match='is not valid YAML'):
        config.read_yaml(recipe)
    run_folder.RunFolder(tmp_path)
    assert not owned.exists()


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_arrays_are_plain(tmp_path):
    owned = tmp_path / 'owned'
    np.savez(str(tmp_path / 'x.npz'), w=np.array([Evil(str(owned))], object))
    with pytest.raises(UserError, match='not an .npz archive of plain arrays'):
        torch.read(tmp_path / 'x.npz')
    assert not owned.exists()


def test_the_cache_of_checked_records_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    with scanning._locked(tmp_path / 'checked_records' / 'x.npz') as writable:
        assert writable
    assert (tmp_path / 'checked_records').stat().st_mode & 0o777 == 0o700
