"""common.data.records against TensorFlow's own TFRecord code, and folders that are none."""

import concurrent.futures

import numpy as np
import pytest
from foreign_records import PAYLOADS, refusal, write_foreign

from common.data import records
from common.errors import UserError

pytestmark = pytest.mark.usefixtures('cache')


@pytest.fixture(scope='module')
def folder(tmp_path_factory, write):
    """100 records in 7 files; record n has label n."""
    return records.Folder.open(write(tmp_path_factory.mktemp('records') / 'train', 100, shards=7))


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


def test_the_same_file_twice(tmp_path):
    write_foreign(tmp_path / 'a.tfrecord')
    write_foreign(tmp_path / 'b.tfrecord', PAYLOADS[:2])
    write_foreign(tmp_path / 'copy of a.tfrecord')
    refusal(tmp_path, tmp_path / 'a.tfrecord', tmp_path / 'copy of a.tfrecord', 'same 5 records')


def test_another_split_is_noticed(tmp_path, write, capsys):
    write(tmp_path / 'data' / 'train', split='train')
    write(tmp_path / 'data' / 'val', split='train')
    assert records.open_split(tmp_path / 'data', 'train').count == 23
    with pytest.raises(UserError, match='data/val: its dataset.json says that it is the split tr'):
        records.open_split(tmp_path / 'data', 'val')
    assert 'warning' not in capsys.readouterr().err
    assert records.open_split(tmp_path / 'data' / 'train', 'val').count == 23
    assert 'these are the records of train, used as val' in capsys.readouterr().err
