"""common.records against TensorFlow's own TFRecord code, plain arithmetic and damaged files."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from common.data import record_writer, records, sampling, tfrecord
from common.errors import UserError

SCHEMA = {
    'image': {'kind': 'bytes', 'dtype': 'uint8', 'shape': [4]},
    'label': {'kind': 'int64', 'dtype': 'int64', 'shape': []},
}
LENGTHS = [5, 0, 300, 17, 40]  # payloads of the foreign files
PAYLOADS = [bytes((7 * i + j) % 256 for j in range(length)) for i, length in enumerate(LENGTHS)]
STARTS = [0, 21, 37, 353, 386]  # each record takes 16 bytes more than its payload


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


@pytest.fixture(scope='module', autouse=True)
def worker_module(tmp_path_factory):
    """Other processes cannot import a test file, so what they run is a module of its own."""
    folder = tmp_path_factory.mktemp('modules')
    (folder / 'things_worker.py').write_text(WORKER)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def write(path, count=23, kind='good', **options):
    """Record n: n % 50 bytes of value n, label n."""
    from things_worker import encode

    options = dict(
        dict(name='things', split='train', schema=SCHEMA, classes=['a', 'b'], shards=3, workers=1),
        **options,
    )
    record_writer.write(path, [(kind, n) for n in range(count)], encode, **options)
    return path


def write_foreign(path, payloads=PAYLOADS):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    return path


def flip(path, offset):
    """Damages one byte of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x40
    path.write_bytes(bytes(content))


def run(dataset):
    """The elements of a tf.data.Dataset as NumPy."""
    element = dataset.make_one_shot_iterator().get_next()
    found = []
    with tf.Session() as session:
        while True:
            try:
                found.append(session.run(element))
            except tf.errors.OutOfRangeError:
                return found


def tensorflow_reads(paths):
    with tf.Graph().as_default():
        return run(tf.data.TFRecordDataset([str(path) for path in paths]))


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """100 records in 7 files; record n has label n."""
    return records.Folder.open(write(tmp_path_factory.mktemp('records') / 'train', 100, shards=7))


def refusal(path, *parts, **options):
    with pytest.raises(UserError) as caught:
        records.Folder.open(path, **options)
    message = str(caught.value)
    for part in parts:
        assert str(part) in message, message
    assert '\n' not in message
    return message


# ---- records and writing -------------------------------------------------------------------------


def test_example_equals_tensorflows():
    features = {
        'z': b'\x00\xff',
        'many': [b'', b'ab'],
        'int': -3,
        'big': 2**62,
        'ints': [0, 127, 128, np.int64(300)],
        'float': 0.25,
        'floats': (1.5, -2.0),
        'é': 1,
    }
    expected = tf.train.Example()
    for key, value in features.items():
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        kind = {bytes: 'bytes_list', float: 'float_list'}.get(type(values[0]), 'int64_list')
        getattr(expected.features.feature[key], kind).value.extend(values)
    assert tf.train.Example.FromString(tfrecord.make_example(features)) == expected
    assert tfrecord.make_example(features) == tfrecord.make_example(
        dict(reversed(list(features.items())))
    )
    with pytest.raises(TypeError, match='name'):
        tfrecord.make_example({'name': 'text'})


def test_tensorflow_reads_what_we_write(tmp_path):
    path = write(tmp_path / 'train', 23, shards=3)
    found = tensorflow_reads(sorted(path.glob('*.tfrecord')))
    found = [tf.train.Example.FromString(record).features.feature for record in found]
    assert [feature['label'].int64_list.value[0] for feature in found] == list(range(23))
    assert [feature['image'].bytes_list.value[0] for feature in found] == [
        bytes([n]) * n for n in range(23)
    ]


def test_dataset_json_describes_the_files(tmp_path):
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


def test_bytes_do_not_depend_on_workers(tmp_path):
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
def test_nothing_remains_after_an_error(tmp_path, kind, workers, message):
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
    root = pathlib.Path(records.__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / 'slow.py'), str(output / 'train')],
        start_new_session=True,
        env=dict(os.environ, PYTHONPATH=str(root)),
        stderr=subprocess.PIPE,
    )
    deadline = time.time() + 30
    while not list(output.glob('.*/*.tfrecord')) and time.time() < deadline:
        time.sleep(0.05)
    assert process.poll() is None and not (output / 'train').exists()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode and b'KeyboardInterrupt' in errors
    assert list(output.iterdir()) == []
    with pytest.raises(
        ProcessLookupError
    ):  # no worker is left, once multiprocessing's own helper has seen the end
        while time.time() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def test_write_refuses(tmp_path):
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


def test_corrupt_items_are_left_out_if_allowed(tmp_path, capsys):
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
import pathlib, sys, time
from common.data import record_writer, records

def encode(n):
    time.sleep(0.02 if SLOW else 0)
    return {'label': n}

SLOW = len(sys.argv) > 2
if __name__ == '__main__':
    record_writer.write(sys.argv[1], range(100), encode, name='x', split='train', schema={'label': {}}, shards=10, workers=1, restartable=True)
"""


def test_a_killed_preparation_goes_on(tmp_path):
    (tmp_path / 'restartable.py').write_text(RESTARTABLE)
    environment = dict(
        os.environ, PYTHONPATH=str(pathlib.Path(records.__file__).resolve().parents[2])
    )
    start = [sys.executable, str(tmp_path / 'restartable.py')]
    subprocess.run(start + [str(tmp_path / 'clean')], env=environment, check=True)
    process = subprocess.Popen(start + [str(tmp_path / 'train'), 'slow'], env=environment)
    deadline = time.time() + 30
    unfinished = tmp_path / '.train.unfinished'
    while not list(unfinished.glob('train-00002-*')) and time.time() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = {path.name: path.stat().st_ino for path in unfinished.glob('train-*.tfrecord')}
    assert 3 <= len(kept) < 10 and not (tmp_path / 'train').exists()
    subprocess.run(start + [str(tmp_path / 'train')], env=environment, check=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / 'train').iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / 'clean').iterdir()
    }
    assert {
        name: (tmp_path / 'train' / name).stat().st_ino for name in kept
    } == kept and not unfinished.exists()


def test_what_is_kept_is_of_the_same_items(tmp_path, capsys):
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


# ---- opening and reading -------------------------------------------------------------------------


def test_reads_what_tensorflow_writes(tmp_path):
    write_foreign(tmp_path / 'part10', PAYLOADS[3:])
    write_foreign(
        tmp_path / 'part9', PAYLOADS[:3]
    )  # natural order: 9 before 10; no suffix is needed
    folder = records.Folder.open(tmp_path)
    assert (folder.count, folder.metadata, [file.name for file in folder.files]) == (
        5,
        {},
        ['part9', 'part10'],
    )
    order = [4, 0, 2, 2, 1, 3, 0]
    assert folder.read(order) == [PAYLOADS[i] for i in order]
    assert folder.read([]) == []


def test_index_gives_the_records_a_scan_gives(folder, tmp_path):
    for file in folder.files:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    foreign = records.Folder.open(tmp_path)
    everything = tensorflow_reads(folder.files)
    assert folder.read(range(100)) == foreign.read(range(100)) == everything
    assert folder.metadata['count'] == folder.count == foreign.count == 100


def test_reading_is_thread_safe(folder):
    orders = [np.random.RandomState(i).permutation(100) for i in range(40)]
    expected = tensorflow_reads(folder.files)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for order, found in zip(orders, pool.map(folder.read, orders)):
            assert found == [expected[i] for i in order]


def test_split_path(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'test').write_text('a file, not a folder')
    assert records.has_split(tmp_path, 'train') and not records.has_split(tmp_path, 'test')
    assert records.split_path(str(tmp_path), 'train') == tmp_path / 'train'
    assert records.split_path(str(tmp_path), 'test') == tmp_path


def test_folders_that_are_none(tmp_path):
    refusal(tmp_path / 'absent', tmp_path / 'absent', 'no such folder')
    refusal(tmp_path, tmp_path, 'no TFRecord', 'empty')
    (tmp_path / 'train').mkdir()
    (tmp_path / 'cat.jpg').write_bytes(b'\xff\xd8' + bytes(100))
    refusal(tmp_path, 'no TFRecord', 'cat.jpg, train/')
    refusal(tmp_path / 'cat.jpg', 'is not a TFRecord', 'one TFRecord file')
    write_foreign(tmp_path / 'train' / 'a.tfrecord', [])
    refusal(tmp_path / 'train', 'no TFRecord', 'a.tfrecord')


def test_one_file_among_others(tmp_path):
    """The published ResNeSt port names the file itself."""
    write_foreign(tmp_path / 'cityscapes_train.tfrecords', [b'a', b'bc'])
    write_foreign(tmp_path / 'cityscapes_val.tfrecords', [b'd'])
    folder = records.Folder.open(tmp_path / 'cityscapes_train.tfrecords')
    assert folder.count == 2 and folder.read([1, 0]) == [b'bc', b'a']


def test_several_sets_in_one_folder(tmp_path):
    """As TF-slim writes ImageNet: training on it all would train on the validation images."""
    for name in ('train-00000-of-00002', 'train-00001-of-00002', 'validation-00000-of-00001'):
        write_foreign(tmp_path / name)
    refusal(
        tmp_path,
        'holds several sets of records: train-*-of-00002, validation-*-of-00001; move each into a'
        ' folder of its own',
    )


def test_stray_files_are_named_once_and_skipped(tmp_path, capsys):
    write_foreign(tmp_path / 'a.tfrecord')
    for name in ('.hidden', 'README.md', 'labels.txt', 'info.json', 'a.tfrecord.idx', 'photo'):
        (tmp_path / name).write_text('not records at all')
    assert records.Folder.open(tmp_path).count == 5
    warning = capsys.readouterr().err
    assert warning.count('\n') == 1 and warning.startswith('warning: ')
    assert '.hidden, README.md, a.tfrecord.idx, info.json, labels.txt and 1 more' in warning


@pytest.mark.parametrize(
    'name', ['a.tfrecord', 'a.tfrecords-3', 'B.RECORD', 'train-00003-of-00010']
)
def test_a_record_by_name_must_be_one(tmp_path, name):
    write_foreign(tmp_path / 'good')
    (tmp_path / name).write_text('something else entirely')
    refusal(tmp_path, tmp_path / name, 'byte 0', '23 bytes', '--skip_corrupt')
    (tmp_path / name).write_bytes(b'\x1f\x8b' + bytes(30))
    refusal(tmp_path, tmp_path / name, 'gzip')


def test_the_same_file_twice(tmp_path):
    write_foreign(tmp_path / 'a.tfrecord')
    write_foreign(tmp_path / 'b.tfrecord', PAYLOADS[:2])
    write_foreign(tmp_path / 'copy of a.tfrecord')
    refusal(tmp_path, tmp_path / 'a.tfrecord', tmp_path / 'copy of a.tfrecord', 'same 5 records')


@pytest.mark.parametrize('size, offset', [(442 - 1, 386), (386 + 11, 386), (353 + 15, 353), (3, 0)])
def test_truncated_file(tmp_path, size, offset, capsys):
    path = write_foreign(tmp_path / 'a.tfrecord')
    assert path.stat().st_size == 442
    path.write_bytes(path.read_bytes()[:size])
    refusal(
        tmp_path,
        path,
        'byte %d is cut off' % offset,
        '(%d bytes lost)' % (size - offset),
        '--skip_corrupt N',
    )
    if offset:
        found = records.Folder.open(tmp_path, skip_corrupt=1)
        assert found.count == STARTS.index(offset)
        assert 'byte %d is cut off' % offset in capsys.readouterr().err
    else:
        refusal(tmp_path, 'no readable record', skip_corrupt=1)


@pytest.mark.parametrize(
    'damage', [12, 200, 315]
)  # first and middle byte of the payload, its checksum
def test_corrupt_payload(tmp_path, damage, capsys):
    path = write_foreign(tmp_path / 'a.tfrecord')
    flip(path, STARTS[2] + damage)
    folder = records.Folder.open(tmp_path)
    assert folder.read([0, 1, 3, 4]) == PAYLOADS[:2] + PAYLOADS[3:]
    with pytest.raises(UserError) as caught:
        folder.read([4, 2])
    for part in (str(path), 'byte 37 ', '316 bytes', '--skip_corrupt N'):
        assert part in str(caught.value)
    assert capsys.readouterr().err == ''
    folder = records.Folder.open(tmp_path, skip_corrupt=1)
    assert folder.read(range(folder.count)) == PAYLOADS[:2] + PAYLOADS[3:]
    warning = capsys.readouterr().err
    assert (
        warning.count('\n') == 1
        and str(path) in warning
        and 'byte 37 ' in warning
        and '316 bytes' in warning
    )


@pytest.mark.parametrize('damage', range(12))
def test_corrupt_length_loses_the_rest_of_the_file(tmp_path, damage, capsys):
    path = write_foreign(tmp_path / 'a.tfrecord')
    write_foreign(tmp_path / 'b.tfrecord', [b'next'])
    flip(path, STARTS[2] + damage)
    refusal(tmp_path, path, 'byte 37 has a damaged length', '(405 bytes lost)', '--skip_corrupt N')
    folder = records.Folder.open(tmp_path, skip_corrupt=1)
    assert folder.read(range(folder.count)) == PAYLOADS[:2] + [b'next']
    assert '(405 bytes lost)' in capsys.readouterr().err


def test_more_corrupt_records_than_allowed(tmp_path, capsys):
    path = write_foreign(tmp_path / 'a.tfrecord')
    for start in (STARTS[0], STARTS[2], STARTS[3]):
        flip(path, start + 13)
    refusal(tmp_path, '3 corrupt records', '--skip_corrupt 2', path, 'byte 0 ', skip_corrupt=2)
    assert records.Folder.open(tmp_path, skip_corrupt=3).read([0, 1]) == [PAYLOADS[1], PAYLOADS[4]]
    assert capsys.readouterr().err.count('warning: left out') == 3


def test_own_folder_that_is_damaged(tmp_path, capsys):
    path = write(tmp_path / 'train')
    last = path / 'train-00002-of-00003.tfrecord'
    whole = last.read_bytes()
    last_start = len(whole) - (16 + len(records.Folder.open(path).read([22])[0]))

    for damage in (
        last_start,
        last_start + 8,
        last_start + 12,
        len(whole) - 1,
    ):  # length, its checksum, payload, checksum
        last.write_bytes(whole)
        flip(last, damage)  # opening trusts sizes; reading checks
        folder = records.Folder.open(path)
        assert len(folder.read(range(22))) == 22
        with pytest.raises(
            UserError, match=r'train-00002-of-00003.tfrecord: the record at byte %d ' % last_start
        ):
            folder.read([22])
        assert records.Folder.open(path, skip_corrupt=4).count == 22

    last.write_bytes(whole[:-1])
    refusal(path, last, 'found %d bytes' % (len(whole) - 1), 'says %d' % len(whole))
    refusal(path, last, 'found', skip_corrupt=9)
    last.unlink()
    refusal(path, 'dataset.json', '1 of its files', last.name)
    last.write_bytes(whole)

    (path / 'train-00000-of-00009.tfrecord').write_bytes(b'left over')
    capsys.readouterr()
    assert records.Folder.open(path).count == 23
    assert 'train-00000-of-00009.tfrecord' in capsys.readouterr().err


@pytest.mark.parametrize(
    'content, part', [(b'', 'index.npy'), (b'junk', 'index.npy'), (None, None)]
)
def test_own_folder_with_a_damaged_index(tmp_path, content, part):
    path = write(tmp_path / 'train')
    expected = records.Folder.open(path).read(range(23))
    (path / 'index.npy').unlink()
    if content is not None:
        (path / 'index.npy').write_bytes(content)
        refusal(path, path / 'index.npy', 'remove it')
    else:
        assert records.Folder.open(path).read(range(23)) == expected


def test_index_of_another_dataset(tmp_path):
    path = write(tmp_path / 'train')
    (path / 'index.npy').write_bytes((write(tmp_path / 'other', 24) / 'index.npy').read_bytes())
    refusal(path, path / 'index.npy', 'does not belong')
    np.save(str(path / 'index.npy'), np.arange(23)[::-1])
    refusal(path, path / 'index.npy', 'does not belong')


@pytest.mark.parametrize(
    'change, part',
    [
        (lambda m: '{', 'not a description'),
        (lambda m: '[]', 'not a description'),
        (lambda m: '{"my": "own"}', 'format_version'),
        (lambda m: json.dumps(dict(m, format_version=2)), 'found format_version 2, legal is 1'),
        (lambda m: json.dumps(dict(m, count=24)), 'found count 24'),
        (lambda m: json.dumps(dict(m, shards=[])), 'sum of its shards'),
        (lambda m: json.dumps(dict(m, shards=m['shards'] + m['shards'], count=46)), 'twice'),
    ],
)
def test_damaged_dataset_json(tmp_path, change, part):
    path = write(tmp_path / 'train')
    (path / 'dataset.json').write_text(change(json.loads((path / 'dataset.json').read_text())))
    refusal(path, path / 'dataset.json', part)


def test_a_readers_error_survives_tensorflow(tmp_path):
    path = write_foreign(tmp_path / 'größe: 1' / 'a.tfrecord')
    folder = records.Folder.open(path.parent)
    flip(path, STARTS[2] + 20)
    with pytest.raises(tf.errors.OpError) as caught:
        run(
            sampling.batches(folder, 5, training=False).map(
                lambda batch: tf.numpy_function(
                    lambda ids: np.array(folder.read(ids)), [batch['id']], tf.string
                )
            )
        )
    with pytest.raises(UserError) as direct:
        folder.read([2])
    assert str(records.user_error(caught.value)) == str(direct.value)
    assert 'byte 37 ' in str(direct.value)
    assert records.user_error(direct.value) is direct.value
    assert records.user_error(ValueError('something else')) is None
