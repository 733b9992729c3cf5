"""Data that come from object storage, which is a folder of this machine behind a stand-in for
moxing, or from plain folders. Results: test_modelarts_results.py.
"""

import os
import pathlib
import sys
import zipfile

import pytest

from common.configuration.settings import Config
from common.data import modelarts
from common.errors import UserError


def pack(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(str(path), 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_a_folder_is_copied_in(store):
    (store / 'bucket' / 'data' / 'train').mkdir(parents=True)
    (store / 'bucket' / 'data' / 'train' / 'a.tfrecord').write_bytes(b'abc')
    cfg = Config(data_url='obs://bucket/data')
    with modelarts.transfer(cfg, 0) as cfg:
        assert (pathlib.Path(cfg.data_path) / 'train' / 'a.tfrecord').read_bytes() == b'abc'
        assert cfg.output_path is None and str(store) not in cfg.data_path


@pytest.mark.parametrize(
    'files, records',
    [
        ({'train/a.tfrecord': 'a', 'test/b.tfrecord': 'b'}, 'train/a.tfrecord'),
        ({'cifar/train/a.tfrecord': 'a', 'cifar/test/b': 'b'}, 'train/a.tfrecord'),
        ({'train/a.tfrecord': 'a'}, 'train/a.tfrecord'),
        ({'a.tfrecord': 'a'}, 'a.tfrecord'),
    ],
)
def test_a_zip_is_unpacked(store, files, records):
    pack(store / 'bucket' / 'data.zip', files)
    folder = pathlib.Path(modelarts.fetch('obs://bucket/data.zip'))
    assert (folder / records).read_text() == 'a' and not list(folder.parent.glob('**/*.zip'))


def test_names_in_a_zip_cannot_leave_its_folder(store, tmp_path):
    pack(store / 'bucket' / 'data.zip', {'../../evil.txt': 'x', '/train/a.tfrecord': 'a'})
    folder = pathlib.Path(modelarts.fetch('obs://bucket/data.zip'))
    assert not list(tmp_path.glob('evil.txt')) and (folder / 'train' / 'a.tfrecord').exists()


def test_two_ranks_of_a_server_copy_once(store, process):
    pack(store / 'bucket' / 'data.zip', {'train/a.tfrecord': 'a' * 1000, 'test/b.tfrecord': 'b'})
    code = """
        import pathlib
        folder = modelarts.fetch('obs://bucket/data.zip')
        print(folder, len(pathlib.Path(folder, 'train', 'a.tfrecord').read_text()))
    """
    ranks = [process(code, TEST_SECONDS='1') for _ in range(3)]
    found = [rank.communicate(timeout=60) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0, 0], found
    assert len({out for out, _ in found}) == 1 and found[0][0].strip().endswith(' 1000')
    assert (store / 'copies.txt').read_text() == 'obs://bucket/data.zip\n'
    assert ''.join(error for _, error in found).count('copying obs://bucket/data.zip') == 1


def test_a_copy_that_fails_leaves_nothing_and_is_tried_again(store, tmp_path):
    (store / 'bucket').mkdir()
    (store / 'bucket' / 'data.zip').write_bytes(b'no zip')
    with pytest.raises(UserError, match='obs://bucket/data.zip is not a zip file'):
        modelarts.fetch('obs://bucket/data.zip')
    assert not [
        path
        for path in (tmp_path / 'cache').rglob('*')
        if path.is_file() and not path.name.endswith('.lock')
    ]
    pack(store / 'bucket' / 'data.zip', {'train/a.tfrecord': 'a'})
    assert pathlib.Path(modelarts.fetch('obs://bucket/data.zip'), 'train', 'a.tfrecord').exists()


@pytest.mark.parametrize(
    'offset, value',
    [(6, b'\1'), (8, b'\x63'), (30 + len('train/a'), b'\xff\xff')],
    ids=['encrypted', 'another compression', 'damaged'],
)
def test_a_zip_that_cannot_be_unpacked(store, offset, value):
    """Offsets are those of a member's header; the list at the end repeats it from 4 bytes on."""
    path = store / 'bucket' / 'data.zip'
    path.parent.mkdir()
    with zipfile.ZipFile(str(path), 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('train/a', 'abc' * 100)
    content = bytearray(path.read_bytes())
    content[offset : offset + len(value)] = value
    if offset < 30:
        listed = content.index(b'PK\1\2') + 2 + offset
        content[listed : listed + len(value)] = value
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match='obs://bucket/data.zip is not a zip file that can be unp'):
        modelarts.fetch('obs://bucket/data.zip')


def test_what_is_missing_is_named(store):
    with pytest.raises(
        UserError, match='obs://bucket/nothing does not exist; give an obs:// folder or zip'
    ):
        modelarts.fetch('obs://bucket/nothing')
    with pytest.raises(UserError, match='/no/such/folder does not exist'):
        modelarts.fetch('/no/such/folder')


def test_without_moxing_the_error_says_where_it_exists(store, monkeypatch):
    monkeypatch.setitem(sys.modules, 'moxing', None)
    with pytest.raises(
        UserError,
        match=(
            'obs://bucket/data: the package moxing, .* is not installed; it exists on ModelArts'
            ' only'
        ),
    ):
        modelarts.fetch('obs://bucket/data')


def test_plain_folders_need_no_moxing(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'moxing', None)
    (tmp_path / 'data' / 'train').mkdir(parents=True)
    (tmp_path / 'data' / 'train' / 'a.tfrecord').write_text('a')
    cfg = Config(data_url=str(tmp_path / 'data'), train_url=str(tmp_path / 'out'))
    with modelarts.transfer(cfg, 0) as cfg:
        assert pathlib.Path(cfg.data_path, 'train', 'a.tfrecord').read_text() == 'a'
        pathlib.Path(cfg.output_path, 'best').mkdir(parents=True)
        pathlib.Path(cfg.output_path, 'best', 'best.json').write_text('{}')
    assert (tmp_path / 'out' / 'best' / 'best.json').read_text() == '{}'


def test_data_that_has_changed_is_copied_again(store, tmp_path):
    """The same name and size, another time; and another file."""
    record = store / 'bucket' / 'data' / 'train' / 'a.tfrecord'
    record.parent.mkdir(parents=True)
    record.write_text('old')
    os.utime(str(record), (1, 1))
    folders = [modelarts.fetch('obs://bucket/data') for _ in range(2)]
    assert folders[0] == folders[1]
    record.write_text('new')
    folders.append(modelarts.fetch('obs://bucket/data'))
    assert pathlib.Path(folders[2], 'train', 'a.tfrecord').read_text() == 'new'
    record.with_name('b.tfrecord').write_text('more')
    folders.append(modelarts.fetch('obs://bucket/data'))
    assert pathlib.Path(folders[3], 'train', 'b.tfrecord').exists()
    kept = [path for path in pathlib.Path(folders[3]).parent.iterdir() if path.is_dir()]
    assert kept == [pathlib.Path(folders[3])]  # the outdated copies are gone


def test_plain_data_that_has_changed_is_copied_again(store, tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'a.tfrecord').write_text('old')
    os.utime(str(tmp_path / 'data' / 'a.tfrecord'), (1, 1))
    first = modelarts.fetch(str(tmp_path / 'data'))
    (tmp_path / 'data' / 'a.tfrecord').write_text('new')
    assert modelarts.fetch(str(tmp_path / 'data')) != first


def test_the_cache_is_private(store, tmp_path):
    (store / 'bucket' / 'data').mkdir(parents=True)
    (store / 'bucket' / 'data' / 'a.tfrecord').write_text('a')
    cache = pathlib.Path(modelarts.fetch('obs://bucket/data')).parent
    assert cache.parent == tmp_path / 'cache' and cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o755)
    modelarts.fetch('obs://bucket/data')
    assert cache.stat().st_mode & 0o777 == 0o700


def test_a_cache_that_somebody_else_has_prepared_is_refused(store, tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'cache' / ('modelarts-%d' % os.getuid())).symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match='is not a folder of this user; remove it'):
        modelarts.fetch('obs://bucket/data')


def test_without_urls_nothing_changes():
    cfg = Config(data_path='d', output_path='o')
    with modelarts.transfer(cfg, 0) as cfg:
        assert (cfg.data_path, cfg.output_path) == ('d', 'o')
