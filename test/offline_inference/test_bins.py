"""Batches on disk: their bytes against the records, and folders that cannot be used."""

import shutil
from collections import namedtuple

import numpy as np
import pytest

from common.errors import UserError
from offline_inference import bins
from offline_inference.reference import Batch

COUNT, SIZE = 21, 8


@pytest.fixture(scope='module')
def written(command, tmp_path_factory):
    """{dtype: folder}: the whole split."""
    folders = {dtype: tmp_path_factory.mktemp('bins') / dtype for dtype in ('float32', 'uint8')}
    for dtype, folder in folders.items():
        bins.main(command(folder, input_dtype=dtype))
    return folders


@pytest.fixture
def copy(written, tmp_path):
    """A folder of its own, to be spoiled."""
    shutil.copytree(str(written['uint8']), str(tmp_path / 'copy'))
    return tmp_path / 'copy'


@pytest.mark.parametrize('dtype', ['float32', 'uint8'])
def test_content(dtype, written, images_and_labels):
    images, labels = images_and_labels(COUNT, seed=2)
    files = sorted((written[dtype] / 'batches').iterdir())
    assert [path.name for path in files] == ['000000.bin', '000001.bin', '000002.bin']
    values = np.concatenate([np.fromfile(str(path), dtype) for path in files]).reshape(
        -1, 32, 32, 3
    )
    assert len(values) == 24  # every batch is full
    if dtype == 'uint8':
        assert np.array_equal(values[:COUNT], images)
    else:
        np.testing.assert_allclose(values[:COUNT], images / 127.5 - 1.0, atol=1e-6)
    mask = np.load(str(written[dtype] / 'mask.npy'))
    assert mask.tolist() == [1] * COUNT + [0] * 3
    assert np.array_equal(np.load(str(written[dtype] / 'labels.npy'))[:COUNT], labels)
    found = bins.Bins.open(written[dtype]).description
    assert found['logits_shape'] == [SIZE, 4] and found['images'] == COUNT


def test_complete_folder_is_not_written_again(written, command, capsys, monkeypatch):
    monkeypatch.setattr(bins, 'write', None)
    bins.main(command(written['uint8'], input_dtype='uint8'))
    assert 'already complete' in capsys.readouterr().out


def test_another_folder_of_ours_is_replaced(copy, command):
    (copy / 'batches' / '000009.bin').write_text('left over')
    bins.main(command(copy, input_dtype='uint8', image_num=5))
    assert [path.name for path in (copy / 'batches').iterdir()] == ['000000.bin']
    assert bins.Bins.open(copy).description['images'] == 5


def test_folder_with_the_manifest_of_an_older_version_is_replaced(copy, command):
    manifest, description = copy / 'manifest.json', bins.Bins.open(copy).description
    manifest.write_text(manifest.read_text().replace('"sources"', '"made_of"'))
    bins.main(command(copy, input_dtype='uint8'))
    assert bins.Bins.open(copy).description == description


def test_other_records_of_the_same_size_are_written_again(
    command, port_records, images_and_labels, tmp_path
):
    """As a data set that was prepared again, in the same place."""
    source, output = tmp_path / 'data', tmp_path / 'b'
    for seed in (2, 3):
        images, labels = images_and_labels(COUNT, seed=seed)
        port_records(source / 'test' / 'test.tfrecord', images, labels)
        bins.main(command(output, input_dtype='uint8', data_path=source))
        values = np.fromfile(str(output / 'batches' / '000000.bin'), np.uint8)
        assert np.array_equal(values.reshape(SIZE, 32, 32, 3), images[:SIZE])


def test_interrupted_folder(copy, command):
    def batches():
        yield from (
            Batch(
                {
                    'image': np.zeros((8, 32, 32, 3), np.uint8),
                    'label': np.zeros(8, np.int32),
                    'mask': np.ones(8),
                },
                None,
                None,
            )
            for _ in range(2)
        )
        raise KeyboardInterrupt

    description = bins.Bins.open(copy).description
    with pytest.raises(KeyboardInterrupt):
        bins.write(copy, description, batches(), 3)
    assert not copy.exists() and not list(copy.parent.glob('.*'))
    assert not bins.existing(copy, description)
    bins.main(command(copy, input_dtype='uint8'))
    assert bins.existing(copy, description)


def test_things_of_the_users_are_left_alone(command, fails, tmp_path):
    (tmp_path / 'thesis').mkdir()
    (tmp_path / 'thesis' / 'main.tex').write_text('')
    assert 'holds other files; give a new folder' in fails(bins.main, command(tmp_path / 'thesis'))
    assert (tmp_path / 'thesis' / 'main.tex').exists()


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    'spoil',
    [
        lambda folder: (folder / 'batches' / '000001.bin').unlink(),
        lambda folder: (folder / 'batches' / '000001.bin').write_bytes(b'short'),
        lambda folder: flip_a_bit(folder / 'batches' / '000001.bin'),
        lambda folder: (folder / 'batches' / '000001.bin').rename(folder / '000001.bin'),
    ],
)
def test_batches_that_are_not_all_there(spoil, copy):
    spoil(copy)
    with pytest.raises(UserError, match='batches/000001.bin is missing, or not the file that was'):
        bins.Bins.open(copy)


def test_a_batch_too_many(copy):
    (copy / 'batches' / '000003.bin').write_bytes(b'')
    with pytest.raises(UserError, match='batches/000003.bin is not one of its batches; remove it'):
        bins.Bins.open(copy)


def test_labels_of_something_else(copy):
    np.save(str(copy / 'labels.npy'), np.zeros(24, np.int32))
    with pytest.raises(UserError, match='labels.npy is missing, or not the file that was'):
        bins.Bins.open(copy)


def test_folders_that_are_not_batches(tmp_path):
    with pytest.raises(UserError, match='holds no batches of this program'):
        bins.Bins.open(tmp_path)
    (tmp_path / 'manifest.json').write_text('{"sources": tr')
    with pytest.raises(UserError, match='cannot be read'):
        bins.Bins.open(tmp_path)
    for content in ('true', '{"sources": {}}', '{"sources": [], "files": {}}'):
        (tmp_path / 'manifest.json').write_text(content)
        with pytest.raises(UserError, match='manifest'):
            bins.Bins.open(tmp_path)


def test_disk_space(command, fails, tmp_path, monkeypatch):
    """3 batches of 98 304 bytes in float32, 24 576 as uint8, each with labels and mask of 64 and
    results of 128 bytes.
    """
    usage = namedtuple('usage', 'total used free')

    def leave(free):
        monkeypatch.setattr(bins.shutil, 'disk_usage', lambda path: usage(10**9, 0, 10**8 + free))

    leave(100000)
    text = fails(bins.main, command(tmp_path / 'b'))
    assert '24 float32 images of 32x32x3' in text and 'has 0.10 GB free' in text
    assert '--input_dtype uint8 (0.00 GB)' in text and '--chunk 1 ' in text
    assert not (tmp_path / 'b').exists()
    bins.main(command(tmp_path / 'b', input_dtype='uint8'))
    each = 24576 + 64 + 128
    for free, fix in ((3 * each - 1, '--chunk 2 '), (each - 1, 'give another --output')):
        leave(free)
        text = fails(bins.main, command(tmp_path / 'c', input_dtype='uint8'))
        assert fix in text and '--input_dtype' not in text
        assert ('--chunk' in fix) == ('--chunk' in text)
    leave(3 * each)
    bins.main(command(tmp_path / 'c', input_dtype='uint8'))
    assert sum(path.stat().st_size for path in (tmp_path / 'c' / 'batches').iterdir()) == 3 * 24576


def test_size_of_imagenet_is_told():
    facts = dict(
        input_shape=[50, 299, 299, 3],
        input_dtype='float32',
        logits_shape=[50, 1000],
        label_bytes=200,
        checkpoint='',
    )
    assert (
        bins.size_text(facts, 1000)
        == '50000 float32 images of 299x299x3 and their results take 54.04 GB'
    )  # 53.64 GB of them images


def test_size_of_photographs_with_a_class_for_each_pixel():
    """Image in float32, label and mask, logits twice: the checkpoint's and the device's."""
    facts = dict(
        input_shape=[1, 1024, 2048, 3],
        input_dtype='float32',
        logits_shape=[1, 1024, 2048, 19],
        label_bytes=1024 * 2048,
    )
    assert bins.batch_bytes(dict(facts, checkpoint='')) == 1024 * 2048 * (12 + 1 + 2 * 76) + 4
    assert bins.batch_bytes(dict(facts, input_dtype='uint8')) == 1024 * 2048 * (3 + 1 + 76) + 4


def test_what_is_known_comes_batch_by_batch(written, images_and_labels):
    _, labels = images_and_labels(COUNT, seed=2)
    rows = list(bins.Bins.open(written['uint8']).rows())
    assert [set(row) for row in rows] == [{'labels', 'mask'}] * 3
    assert np.concatenate([row['labels'] for row in rows])[:COUNT].tolist() == labels.tolist()
    assert np.concatenate([row['mask'] for row in rows]).tolist() == [1] * COUNT + [0] * 3


def test_memory_does_not_grow_with_the_batches(tmp_path, resident):
    """60 batches with 5 MB of logits each, written and read again."""
    facts, sizes = (
        dict(
            input_shape=[1, 256, 256, 3],
            input_dtype='uint8',
            logits_shape=[1, 256, 256, 19],
            label_bytes=65536,
            checkpoint='',
        ),
        [],
    )

    def batches():
        for number in range(60):
            label = np.full([1, 256, 256], number, np.uint8)
            features = {
                'image': np.zeros([1, 256, 256, 3], np.uint8),
                'label': label,
                'mask': np.ones(1, np.float32),
            }
            yield Batch(features, None, np.full([1, 256, 256, 19], number, np.float32))
            sizes.append(resident())

    bins.write(tmp_path / 'b', facts, batches(), 60)
    for number, rows in enumerate(bins.Bins.open(tmp_path / 'b').rows()):
        assert (
            (rows['labels'] == number).all()
            and (rows['logits'] == number).all()
            and rows['mask'].tolist() == [1]
        )
        sizes.append(resident())
    written = sum(path.stat().st_size for path in (tmp_path / 'b').rglob('*.*'))
    assert len(sizes) == 60 + 60 and written > 300e6 and max(sizes) - sizes[3] < 100e6
