"""common.data.record_writer: what it writes, TensorFlow reads; after errors, kills and restarts."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil
import pytest
import tensorflow as tf

from common.data import record_writer, records
from common.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCHEMA = {
    'image': {'kind': 'bytes', 'dtype': 'uint8', 'shape': [4]},
    'label': {'kind': 'int64', 'dtype': 'int64', 'shape': []},
}


def test_tensorflow_reads_what_we_write(tmp_path, write, tensorflow_reads):
    path = write(tmp_path / 'train', 23, shards=3)
    found = tensorflow_reads(sorted(path.glob('*.tfrecord')))
    found = [tf.train.Example.FromString(record).features.feature for record in found]
    assert [feature['label'].int64_list.value[0] for feature in found] == list(range(23))
    assert [feature['image'].bytes_list.value[0] for feature in found] == [
        bytes([n]) * n for n in range(23)
    ]


def test_dataset_json_describes_the_files(tmp_path, write):
    path = write(tmp_path / 'train', 23, shards=3)
    metadata = json.loads((path / 'dataset.json').read_text())
    assert (metadata['name'], metadata['split'], metadata['count']) == ('things', 'train', 23)
    assert (metadata['classes'], metadata['schema'], metadata['format_version']) == (
        ['a', 'b'],
        SCHEMA,
        1,
    )
    assert [shard['records'] for shard in metadata['shards']] == [7, 8, 8]
    assert [shard['file'] for shard in metadata['shards']] == [
        'train-%05d-of-00003.tfrecord' % i for i in range(3)
    ]
    for shard in metadata['shards']:
        content = (path / shard['file']).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            shard['bytes'],
            shard['sha256'],
        )


def test_bytes_do_not_depend_on_workers(tmp_path, write):
    one, two = write(tmp_path / '1', workers=1), write(tmp_path / '2', workers=2)
    assert sorted(file.name for file in one.iterdir()) == sorted(
        file.name for file in two.iterdir()
    )
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes()


@pytest.mark.parametrize(
    'kind, workers, message',
    [
        ('bad', 1, 'item-9.jpg: not an image'),
        ('bad', 2, 'item-9.jpg: not an image'),
        ('dead', 2, 'process died'),
    ],
)
def test_nothing_remains_after_an_error(tmp_path, kind, workers, message, write):
    with pytest.raises(UserError, match=message):
        write(tmp_path / 'train', kind=kind, workers=workers)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('workers', [1, 2])
def test_nothing_remains_after_ctrl_c(tmp_path, workers):
    (tmp_path / 'slow.py').write_text(
        'import sys, time\nfrom common.data import record_writer, records\ndef encode(n):\n   '
        ' time.sleep(0.01)\n    return {"label": n}\nif __name__ == "__main__":\n   '
        ' record_writer.write(sys.argv[1], range(20000), encode, name="x", split="x",'
        ' schema={"label": {}}, shards=4,\n                  workers=%d)\n' % workers
    )
    output = tmp_path / 'output'
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / 'slow.py'), str(output / 'train')],
        start_new_session=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stderr=subprocess.PIPE,
    )
    deadline = time.time() + 30
    while not list(output.glob('.*/*.tfrecord')) and time.time() < deadline:
        time.sleep(0.05)
    assert process.poll() is None and not (output / 'train').exists()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and b'interrupted' in errors
    assert list(output.iterdir()) == []
    deadline = time.time() + 30
    with pytest.raises(
        ProcessLookupError
    ):  # no worker is left, once multiprocessing's own helper has seen the end
        while time.time() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def test_write_refuses(tmp_path, write):
    write(tmp_path / 'train')
    before = (tmp_path / 'train' / 'dataset.json').read_bytes()
    with pytest.raises(UserError, match='already exists'):
        write(tmp_path / 'train', 5)
    assert (tmp_path / 'train' / 'dataset.json').read_bytes() == before
    with pytest.raises(UserError, match='found 6 shards for 5 records; legal are 1 to 5'):
        write(tmp_path / 'other', 5, shards=6)
    with pytest.raises(UserError, match='no records'):
        write(tmp_path / 'other', 0)
    with pytest.raises(ValueError, match='schema'):
        write(tmp_path / 'other', 5, schema={'image': {}})
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='could not be written'):
        write(tmp_path / 'file' / 'train', 5)


def test_corrupt_items_are_left_out_if_allowed(tmp_path, capsys, write, tensorflow_reads):
    path = write(tmp_path / 'train', kind='bad', skip_corrupt=1, metadata={'label_offset': 1})
    assert 'warning: left out: item-9.jpg: not an image' in capsys.readouterr().err
    folder = records.Folder.open(path)
    assert (folder.count, folder.metadata['count'], folder.metadata['label_offset']) == (22, 22, 1)
    assert [shard['records'] for shard in folder.metadata['shards']] == [7, 7, 8]
    found = tensorflow_reads(folder.files)
    assert folder.read(range(22)) == found
    labels = [
        tf.train.Example.FromString(record).features.feature['label'].int64_list.value[0]
        for record in found
    ]
    assert labels == [n for n in range(23) if n != 9]


RESTARTABLE = """
import sys, time
from common.data import record_writer

def encode(n):
    time.sleep(0.02)
    return {'label': n}

if __name__ == '__main__':
    record_writer.write(sys.argv[1], range(100), encode, name='x', split='train',
                        schema={'label': {}}, shards=10, workers=int(sys.argv[2]), restartable=True)
"""


def slow_process(folder, workers):
    """A process that writes folder/train for two seconds."""
    (folder / 'restartable.py').write_text(RESTARTABLE)
    return subprocess.Popen(
        [sys.executable, str(folder / 'restartable.py'), str(folder / 'train'), str(workers)],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )


def test_a_killed_preparation_goes_on(tmp_path):
    def write(folder):
        record_writer.write(
            tmp_path / folder,
            range(100),
            lambda n: {'label': n},
            name='x',
            split='train',
            schema={'label': {}},
            shards=10,
            workers=1,
            restartable=True,
        )

    write('clean')
    process = slow_process(tmp_path, 1)
    deadline = time.time() + 30
    unfinished = tmp_path / '.train.unfinished'
    while not list(unfinished.glob('train-00002-*')) and time.time() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = {path.name: path.stat().st_ino for path in unfinished.glob('train-*.tfrecord')}
    assert 3 <= len(kept) < 10 and not (tmp_path / 'train').exists()
    write('train')
    assert {path.name: path.read_bytes() for path in (tmp_path / 'train').iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / 'clean').iterdir()
    }
    assert {
        name: (tmp_path / 'train' / name).stat().st_ino for name in kept
    } == kept and not unfinished.exists()


def test_workers_die_with_their_parent(tmp_path):
    """Killed without a chance to tell them, as by the kernel when memory runs out."""
    process = slow_process(tmp_path, 2)
    deadline = time.time() + 60
    while not list(tmp_path.glob('.train.unfinished/.*.tfrecord')) and time.time() < deadline:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_what_is_kept_is_of_the_same_items(tmp_path, capsys, write):
    options = dict(shards=5, restartable=True)
    with pytest.raises(UserError, match='item-9.jpg'):
        write(tmp_path / 'train', kind='bad', **options)
    unfinished = tmp_path / '.train.unfinished'
    assert str(unfinished) in capsys.readouterr().err
    kept = {path.name: path.stat().st_mtime_ns for path in unfinished.glob('train-*')}
    # Other workers may have finished the shards behind the bad one as well.
    assert {'train-00000-of-00005.tfrecord', 'train-00001-of-00005.tfrecord'} <= set(
        kept
    ) and 'train-00002-of-00005.tfrecord' not in kept
    with pytest.raises(UserError, match='item-9.jpg'):
        write(tmp_path / 'train', kind='bad', **options)
    again = {path.name: path.stat().st_mtime_ns for path in unfinished.glob('train-*')}
    assert {name: again[name] for name in kept} == kept
    path, other = write(tmp_path / 'train', 20, **options), write(tmp_path / 'other', 20, **options)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == {
        file.name: file.read_bytes() for file in other.iterdir()
    }
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ['other', 'train']


def test_a_kill_before_the_folder_gets_its_name(tmp_path, write, monkeypatch):
    """With the notes of its files gone, or emptied by a power failure."""
    options, describe = dict(shards=5, restartable=True), record_writer._describe

    def end(*args):
        describe(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(record_writer, '_describe', end)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / 'train', 20, **options)
    monkeypatch.undo()
    note = tmp_path / '.train.unfinished' / '.train-00001-of-00005.tfrecord.json'
    note.write_text('')
    path, other = write(tmp_path / 'train', 20, **options), write(tmp_path / 'other', 20, **options)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == {
        file.name: file.read_bytes() for file in other.iterdir()
    }
