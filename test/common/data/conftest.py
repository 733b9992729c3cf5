"""Folders of records, and a ModelArts server, for the tests of common.data."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest
import tensorflow as tf
import tensorflow_records

from common.data import modelarts, record_writer

ROOT = pathlib.Path(__file__).resolve().parents[3]
ON_MODELARTS = ROOT / 'test' / 'common' / 'data' / 'on_modelarts'  # has moxing
sys.path.append(str(pathlib.Path(__file__).parent))  # for foreign_records

SCHEMA = {
    'image': {'kind': 'bytes', 'dtype': 'uint8', 'shape': [4]},
    'label': {'kind': 'int64', 'dtype': 'int64', 'shape': []},
}
WORKER = """
import os
from common.errors import UserError

def encode(item):
    kind, n = item
    if kind == 'bad' and n == 9:
        raise UserError('item-9.jpg: not an image')
    if kind == 'dead' and n == 9:
        os._exit(1)
    return {'image': bytes([n]) * (n % 50), 'label': n}
"""


@pytest.fixture(scope='session', autouse=True)
def worker_module(tmp_path_factory):
    """Other processes cannot import a test file, so what they run is a module of its own."""
    folder = tmp_path_factory.mktemp('modules')
    (folder / 'things_worker.py').write_text(WORKER)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.fixture
def cache(tmp_path_factory, monkeypatch):
    """A cache of checked records that is empty."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))


@pytest.fixture(scope='session')
def write():
    """write(path, count, kind, **options): a folder of records; record n holds n % 50 bytes of
    value n, and label n.
    """

    def call(path, count=23, kind='good', **options):
        from things_worker import encode

        defaults = dict(
            name='things', split='train', schema=SCHEMA, classes=['a', 'b'], shards=3, workers=1
        )
        items = [(kind, n) for n in range(count)]
        record_writer.write(path, items, encode, **{**defaults, **options})
        return path

    return call


@pytest.fixture(scope='session')
def elements():
    """elements(dataset): the elements of a tf.data.Dataset as NumPy."""
    return tensorflow_records.elements


@pytest.fixture(scope='session')
def tensorflow_reads(elements):
    """tensorflow_reads(paths): the records of TFRecord files, as TensorFlow reads them."""

    def read(paths):
        with tf.Graph().as_default():
            return elements(tf.data.TFRecordDataset([str(path) for path in paths]))

    return read


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The folder that is obs://; the server's disk is cache beside it."""
    for name in ('store', 'cache'):
        (tmp_path / name).mkdir()
    monkeypatch.setenv('TEST_STORE', str(tmp_path / 'store'))
    monkeypatch.syspath_prepend(str(ON_MODELARTS))
    monkeypatch.delitem(sys.modules, 'moxing', raising=False)
    monkeypatch.setattr(modelarts, 'CACHE', str(tmp_path / 'cache'))
    yield tmp_path / 'store'
    sys.modules.pop('moxing', None)


@pytest.fixture
def process(store):
    """process(code, NAME=value, ...): a process of that server, which runs the code."""

    def start(code, **environment):
        begin = 'from common.data import modelarts\nmodelarts.CACHE = %r\n' % modelarts.CACHE
        return subprocess.Popen(
            [sys.executable, '-c', begin + textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            env=dict(os.environ, PYTHONPATH='%s:%s' % (ROOT, ON_MODELARTS), **environment),
        )

    return start
