"""common.data.records against TensorFlow's own TFRecord code, and damaged files."""

import concurrent.futures
import json

import numpy as np
import pytest
import tensorflow as tf

from common.data import records, sampling, tfrecord
from common.errors import UserError

LENGTHS = [5, 0, 300, 17, 40]  # payloads of the foreign files
PAYLOADS = [bytes((7 * i + j) % 256 for j in range(length)) for i, length in enumerate(LENGTHS)]
STARTS = [0, 21, 37, 353, 386]  # each record takes 16 bytes more than its payload


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


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


@pytest.fixture(scope='module')
def folder(tmp_path_factory, write):
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


def test_index_gives_the_records_a_scan_gives(folder, tmp_path, tensorflow_reads):
    for file in folder.files:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    foreign = records.Folder.open(tmp_path)
    everything = tensorflow_reads(folder.files)
    assert folder.read(range(100)) == foreign.read(range(100)) == everything
    assert folder.metadata['count'] == folder.count == foreign.count == 100


def test_reading_is_thread_safe(folder, tensorflow_reads):
    orders = [np.random.RandomState(i).permutation(100) for i in range(40)]
    expected = tensorflow_reads(folder.files)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for order, found in zip(orders, pool.map(folder.read, orders)):
            assert found == [expected[i] for i in order]


def test_content_is_that_of_the_records_that_count(tmp_path):
    other = PAYLOADS[:4] + [bytes(len(PAYLOADS[4]))]
    one, two, three = (
        records.Folder.open(write_foreign(tmp_path / name / 'a.tfrecord', payloads).parent)
        for name, payloads in (('one', PAYLOADS), ('two', PAYLOADS), ('three', other))
    )
    assert one.content() == two.content() != three.content()
    one.count = three.count = 4
    assert one.content() == three.content() != two.content()


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


def test_own_folder_that_is_damaged(tmp_path, capsys, write):
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

    last.write_bytes(whole)
    flip(last, 0)  # the length of the file's first record: all of its records are lost
    lost = len([id for id in range(23) if records.Folder.open(path).location(id)[0] == last])
    refusal(path, 'found %d records, dataset.json says 23' % (23 - lost), skip_corrupt=lost - 1)
    assert records.Folder.open(path, skip_corrupt=lost).count == 23 - lost

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
def test_own_folder_with_a_damaged_index(tmp_path, content, part, write):
    path = write(tmp_path / 'train')
    expected = records.Folder.open(path).read(range(23))
    (path / 'index.npy').unlink()
    if content is not None:
        (path / 'index.npy').write_bytes(content)
        refusal(path, path / 'index.npy', 'remove it')
    else:
        assert records.Folder.open(path).read(range(23)) == expected


def test_index_of_another_dataset(tmp_path, write):
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
        (lambda m: '[' * 10**5, 'not a description'),
        (lambda m: json.dumps(dict(m, shards=5)), 'not a description'),
        (lambda m: json.dumps(dict(m, shards=[dict(m['shards'][0], file='../a')])), 'not a desc'),
        (lambda m: json.dumps(dict(m, shards=[dict(m['shards'][0], bytes=1e400)])), 'not a desc'),
        (lambda m: json.dumps(dict(m, classes=[1])), 'not a description'),
        (lambda m: json.dumps(dict(m, split=['train'])), 'not a description'),
        (lambda m: '{"my": "own"}', 'format_version'),
        (lambda m: json.dumps(dict(m, format_version=2)), 'found format_version 2, legal is 1'),
        (lambda m: json.dumps(dict(m, count=24)), 'found count 24'),
        (lambda m: json.dumps(dict(m, shards=[])), 'sum of its shards'),
        (lambda m: json.dumps(dict(m, shards=m['shards'] + m['shards'], count=46)), 'twice'),
    ],
)
def test_damaged_dataset_json(tmp_path, change, part, write):
    path = write(tmp_path / 'train')
    (path / 'dataset.json').write_text(change(json.loads((path / 'dataset.json').read_text())))
    refusal(path, path / 'dataset.json', part)


def test_a_readers_error_survives_tensorflow(tmp_path, elements):
    path = write_foreign(tmp_path / 'größe: 1' / 'a.tfrecord')
    folder = records.Folder.open(path.parent)
    flip(path, STARTS[2] + 20)
    with pytest.raises(tf.errors.OpError) as caught:
        elements(
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


def test_a_record_that_is_not_an_example_is_named(tmp_path):
    """Its checksum is right, so that only its content tells."""
    good = tfrecord.make_example({'label': 3})
    path = write_foreign(tmp_path / 'a.tfrecord', [good, b'\xff' * 50, good])
    folder = records.Folder.open(tmp_path)
    assert folder.examples([0, 2], {'label': int}) == [{'label': 3}] * 2
    with pytest.raises(UserError) as caught:
        folder.examples([2, 1], {'label': int})
    line = '%s: record 1 at byte %d: it is not a tf.train.Example; another program wrote it'
    assert str(caught.value) == line % (path, len(good) + 16)


def test_another_split_is_noticed(tmp_path, write, capsys):
    write(tmp_path / 'data' / 'train', split='train')
    write(tmp_path / 'data' / 'val', split='train')
    assert records.open_split(tmp_path / 'data', 'train').count == 23
    with pytest.raises(UserError, match='data/val: its dataset.json says that it is the split tr'):
        records.open_split(tmp_path / 'data', 'val')
    assert 'warning' not in capsys.readouterr().err
    assert records.open_split(tmp_path / 'data' / 'train', 'val').count == 23
    assert 'these are the records of train, used as val' in capsys.readouterr().err


def test_every_byte_is_checked_once(tmp_path, monkeypatch, capsys):
    """--skip_corrupt on several ranks and at each start."""
    path = write_foreign(tmp_path / 'records' / 'a.tfrecord')
    flip(path, STARTS[2] + 20)
    scans, scan = [], tfrecord.scan
    monkeypatch.setattr(tfrecord, 'scan', lambda *a, **k: scans.append(a) or scan(*a, **k))
    with concurrent.futures.ThreadPoolExecutor(4) as ranks:
        opened = list(ranks.map(lambda _: records.Folder.open(path.parent, 1), range(4)))
    for folder in opened + [records.Folder.open(path.parent, skip_corrupt=2)]:
        assert folder.count == 4 and folder.read(range(4)) == PAYLOADS[:2] + PAYLOADS[3:]
    assert len(scans) == 1 and capsys.readouterr().err.count('byte 37 does not match') == 5
    flip(path, STARTS[0] + 14)  # another time of change
    refusal(path.parent, '2 corrupt records, more than --skip_corrupt 1 allows', skip_corrupt=1)
    assert len(scans) == 2
    monkeypatch.setenv('XDG_CACHE_HOME', str(path))  # no folder can be made there
    assert records.Folder.open(path.parent, skip_corrupt=2).count == 3 and len(scans) == 3
