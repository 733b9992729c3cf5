"""Records whose files are damaged: what is named, what is left out, what stays readable."""

import concurrent.futures
import json

import numpy as np
import pytest
import tensorflow as tf
from foreign_records import PAYLOADS, STARTS, flip, refusal, write_foreign

from common.data import records, sampling, tfrecord
from common.errors import UserError

pytestmark = pytest.mark.usefixtures('cache')


@pytest.mark.parametrize(
    'name', ['a.tfrecord', 'a.tfrecords-3', 'B.RECORD', 'train-00003-of-00010']
)
def test_a_record_by_name_must_be_one(tmp_path, name):
    write_foreign(tmp_path / 'good')
    (tmp_path / name).write_text('something else entirely')
    refusal(tmp_path, tmp_path / name, 'byte 0', '23 bytes', '--skip_corrupt')
    (tmp_path / name).write_bytes(b'\x1f\x8b' + bytes(30))
    refusal(tmp_path, tmp_path / name, 'gzip')


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


# The first and a middle byte of the payload, and of its checksum.
@pytest.mark.parametrize('damage', [12, 200, 315])
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

    length, checksum_of_length, payload = last_start, last_start + 8, last_start + 12
    for damage in (length, checksum_of_length, payload, len(whole) - 1):
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


@pytest.mark.parametrize('content', [b'', b'junk', None])
def test_own_folder_with_a_damaged_index(tmp_path, content, write):
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
    with tf.Graph().as_default(), pytest.raises(tf.errors.OpError) as caught:
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
