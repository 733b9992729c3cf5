"""Transfer from and to object storage: obs:// is a folder of this machine behind a stand-in for
moxing, or plain folders.
"""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import zipfile
from typing import Optional

import pytest

from common.data import modelarts
from common.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[3]
# moxing.file with the functions' real names and rules: a missing source raises, copy_parallel takes
# folders, copy takes files, a listing has folders too.
MOXING = """
import os, pathlib, shutil, time, types
STORE = pathlib.Path(os.environ['TEST_STORE'])


class file:
    @staticmethod
    def _path(url):
        return STORE / url[len('obs://'):] if url.startswith('obs://') else pathlib.Path(url)

    @staticmethod
    def exists(url):
        return file._path(url).exists()

    @staticmethod
    def is_directory(url):
        return file._path(url).is_dir()

    @staticmethod
    def list_directory(url, recursive=False):
        top = file._path(url)
        paths = top.rglob('*') if recursive else top.iterdir()
        return [str(path.relative_to(top)) for path in paths]

    @staticmethod
    def stat(url):
        path = file._path(url)
        found = path.stat()
        return types.SimpleNamespace(
            length=found.st_size, mtime_nsec=found.st_mtime_ns, is_directory=path.is_dir()
        )

    @staticmethod
    def copy(source, target):
        assert file._path(source).is_file(), source
        with open(str(STORE / 'copies.txt'), 'a') as log:
            log.write('%s\\n' % source)
        time.sleep(float(os.environ.get('TEST_SECONDS', '0')))
        file._path(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file._path(source)), str(file._path(target)))

    @staticmethod
    def copy_parallel(source, target):
        assert file._path(source).is_dir(), source
        for path in sorted(file._path(source).rglob('*')):
            if path.is_file():
                place = file._path(target) / path.relative_to(file._path(source))
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(path), str(place))
"""


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The folder that is obs://; moxing and the server's disk are in tmp_path as well."""
    (tmp_path / 'packages').mkdir()
    (tmp_path / 'packages' / 'moxing.py').write_text(MOXING)
    for name in ('store', 'cache'):
        (tmp_path / name).mkdir()
    monkeypatch.setenv('TEST_STORE', str(tmp_path / 'store'))
    monkeypatch.syspath_prepend(str(tmp_path / 'packages'))
    monkeypatch.delitem(sys.modules, 'moxing', raising=False)
    monkeypatch.setattr(modelarts, 'CACHE', str(tmp_path / 'cache'))
    yield tmp_path / 'store'
    sys.modules.pop('moxing', None)


def pack(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(str(path), 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)


@dataclasses.dataclass(frozen=True)
class Settings:
    data_url: Optional[str] = None
    train_url: Optional[str] = None
    data_path: str = './data'
    output_path: Optional[str] = None


def process(tmp_path, code, **environment):
    """A process that runs `code` with the stand-in for moxing; cache is the server's disk."""
    code = 'from common.data import modelarts\nmodelarts.CACHE = %r\n' % str(
        tmp_path / 'cache'
    ) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, '-c', code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        env=dict(os.environ, PYTHONPATH='%s:%s' % (ROOT, tmp_path / 'packages'), **environment),
    )


# Data


def test_a_folder_is_copied_in(store):
    (store / 'bucket' / 'data' / 'train').mkdir(parents=True)
    (store / 'bucket' / 'data' / 'train' / 'a.tfrecord').write_bytes(b'abc')
    cfg = Settings(data_url='obs://bucket/data')
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


def test_two_ranks_of_a_server_copy_once(store, tmp_path):
    pack(store / 'bucket' / 'data.zip', {'train/a.tfrecord': 'a' * 1000, 'test/b.tfrecord': 'b'})
    code = """
        import pathlib
        folder = modelarts.fetch('obs://bucket/data.zip')
        print(folder, len(pathlib.Path(folder, 'train', 'a.tfrecord').read_text()))
    """
    ranks = [process(tmp_path, code, TEST_SECONDS='1') for _ in range(3)]
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
    cfg = Settings(data_url=str(tmp_path / 'data'), train_url=str(tmp_path / 'out'))
    with modelarts.transfer(cfg, 0) as cfg:
        assert pathlib.Path(cfg.data_path, 'train', 'a.tfrecord').read_text() == 'a'
        pathlib.Path(cfg.output_path, 'best').mkdir(parents=True)
        pathlib.Path(cfg.output_path, 'best', 'best.json').write_text('{}')
    assert (tmp_path / 'out' / 'best' / 'best.json').read_text() == '{}'


# Results


def test_results_are_copied_out_by_rank_0_alone(store):
    for rank in (1, 0):
        cfg = Settings(train_url='obs://bucket/run')
        with modelarts.transfer(cfg, rank) as cfg:
            pathlib.Path(cfg.output_path).mkdir(parents=True, exist_ok=True)
            pathlib.Path(cfg.output_path, 'metrics.jsonl').write_text('rank %d' % rank)
        assert (store / 'bucket' / 'run').exists() is (rank == 0)
    assert (store / 'bucket' / 'run' / 'metrics.jsonl').read_text() == 'rank 0'


def test_results_are_copied_out_after_an_error(store):
    cfg = Settings(train_url='obs://bucket/run')
    with pytest.raises(UserError, match='^diverged$'):
        with modelarts.transfer(cfg, 0) as cfg:
            pathlib.Path(cfg.output_path).mkdir(parents=True)
            pathlib.Path(cfg.output_path, 'log.txt').write_text('so far')
            raise UserError('diverged')
    assert (store / 'bucket' / 'run' / 'log.txt').read_text() == 'so far'


def test_an_error_before_there_is_a_folder_stays_that_error(store):
    with pytest.raises(UserError, match='^no data$'):
        with modelarts.transfer(Settings(train_url='obs://bucket/run'), 0):
            raise UserError('no data')
    assert not (store / 'bucket').exists()


def test_results_are_copied_out_after_sigterm(store, tmp_path):
    rank = process(
        tmp_path,
        """
        import pathlib, time
        from common import errors
        from common.configuration import settings
        @errors.entry_point
        def command():
            with modelarts.transfer(settings.Config(train_url='obs://bucket/run'), 0) as cfg:
                pathlib.Path(cfg.output_path).mkdir(parents=True)
                pathlib.Path(cfg.output_path, 'log.txt').write_text('so far')
                print('ready', flush=True)
                time.sleep(60)
        command()
    """,
    )
    assert rank.stdout.readline() == 'ready\n'
    rank.send_signal(signal.SIGTERM)
    _, error = rank.communicate(timeout=30)
    assert rank.returncode == 128 + signal.SIGTERM, error
    assert 'Traceback' not in error and 'results copied to obs://bucket/run' in error
    assert (store / 'bucket' / 'run' / 'log.txt').read_text() == 'so far'


def test_a_new_job_goes_on_from_what_an_earlier_one_copied_out(store):
    (store / 'bucket' / 'run').mkdir(parents=True)
    (store / 'bucket' / 'run' / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-20"')
    seen = []
    for rank in (1, 0):
        cfg = Settings(train_url='obs://bucket/run')
        with modelarts.transfer(cfg, rank) as cfg:
            seen.append(pathlib.Path(cfg.output_path, 'checkpoint').exists())
    assert seen == [False, True]  # rank 0 alone reads checkpoints


def test_what_is_on_the_disk_is_newer_than_what_was_copied_out(store):
    """A job that is started again on the same server."""
    cfg = Settings(train_url='obs://bucket/run')
    with modelarts.transfer(cfg, 0) as cfg:
        pathlib.Path(cfg.output_path).mkdir(parents=True)
        pathlib.Path(cfg.output_path, 'checkpoint').write_text('new')
    (store / 'bucket' / 'run' / 'checkpoint').write_text('old')
    with modelarts.transfer(Settings(train_url='obs://bucket/run'), 0):
        assert pathlib.Path(cfg.output_path, 'checkpoint').read_text() == 'new'
    assert (store / 'bucket' / 'run' / 'checkpoint').read_text() == 'new'


def test_jobs_do_not_share_folders(store):
    paths = set()
    for url in ('obs://bucket/a', 'obs://bucket/b'):
        cfg = Settings(train_url=url)
        with modelarts.transfer(cfg, 0) as cfg:
            paths.add(cfg.output_path)
    assert len(paths) == 2


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


# A job that goes on at another server, and comes back to one that still has its older state


def checkpoint(folder, step):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ('model.ckpt-%d.index' % step)).write_text(str(step))
    (folder / 'state').write_text('at step %d' % step)


def trains(url, step):
    """A job that finds what `url` has, and trains to `step`; returns the state that it found."""
    cfg = Settings(train_url=url)
    with modelarts.transfer(cfg, 0) as cfg:
        output = pathlib.Path(cfg.output_path)
        found = (output / 'state').read_text() if (output / 'state').exists() else None
        if step:
            checkpoint(output, step)
    return found


def test_a_newer_state_elsewhere_replaces_the_cached_one(store):
    assert trains('obs://bucket/run', 20) is None
    checkpoint(store / 'bucket' / 'run', 60)  # by a job on another server
    assert trains('obs://bucket/run', 0) == 'at step 60'
    assert (store / 'bucket' / 'run' / 'state').read_text() == 'at step 60'


def test_results_never_go_backwards(store, capsys):
    """Another server has gone further while this one trained."""
    cfg = Settings(train_url='obs://bucket/run')
    with modelarts.transfer(cfg, 0) as cfg:
        checkpoint(pathlib.Path(cfg.output_path), 20)
        checkpoint(store / 'bucket' / 'run', 60)
    assert (store / 'bucket' / 'run' / 'state').read_text() == 'at step 60'
    assert (store / 'bucket' / 'run-step-20' / 'state').read_text() == 'at step 20'
    assert 'obs://bucket/run is at step 60, this run ended at step 20' in capsys.readouterr().err


def test_what_an_earlier_job_copied_out_and_this_one_lacks_stays(store):
    checkpoint(store / 'bucket' / 'run', 20)
    (store / 'bucket' / 'run' / 'notes.txt').write_text('mine')
    assert trains('obs://bucket/run', 40) == 'at step 20'
    names = {path.name for path in (store / 'bucket' / 'run').iterdir()}
    assert names >= {'notes.txt', 'model.ckpt-20.index', 'model.ckpt-40.index'}


def test_without_urls_nothing_changes():
    cfg = Settings(data_path='d', output_path='o')
    with modelarts.transfer(cfg, 0) as cfg:
        assert (cfg.data_path, cfg.output_path) == ('d', 'o')
