"""resnest_tf.prepare_cityscapes on small archives in the official layout, read back with
TensorFlow.
"""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from cityscapes_archives import (
    HEIGHT,
    IMAGES,
    OFFICIAL,
    WIDTH,
    check_records,
    fine,
    image_files,
    label,
    label_files,
    left,
    picture,
    png,
    read,
    refused,
    run,
    write_zip,
)
from preparing import contents, described, stamps, write_files

from common import host
from common.data import record_writer
from resnest_tf import cityscapes, cityscapes_files, prepare_cityscapes

pytestmark = pytest.mark.usefixtures('small_cityscapes')
COUNTS = dict(cityscapes.COUNTS)


# Constants


def test_constants_are_the_official_ones():
    trained = {name: (id, train_id) for name, id, train_id in OFFICIAL if train_id != 255}
    ids = {name: (cityscapes.LABEL_IDS[i], i) for i, name in enumerate(cityscapes.CLASSES)}
    assert trained == ids and cityscapes.IGNORE == 255
    for table in (cityscapes.TRAIN_IDS, cityscapes.LABEL_IDS, cityscapes.PALETTE):
        assert table.dtype == np.uint8
    table = {id: train_id for _, id, train_id in OFFICIAL}
    assert cityscapes.TRAIN_IDS.tolist() == [table.get(id, 255) for id in range(256)]
    official = {
        'road': (128, 64, 128),
        'traffic light': (250, 170, 30),
        'sky': (70, 130, 180),
        'rider': (255, 0, 0),
        'car': (0, 0, 142),
        'bicycle': (119, 11, 32),
    }
    for name, colour in official.items():
        assert tuple(cityscapes.PALETTE[cityscapes.CLASSES.index(name)]) == colour
    assert len({tuple(colour) for colour in cityscapes.PALETTE}) == 19
    assert COUNTS == {'train': 2975, 'val': 500, 'test': 1525}


def test_constants_need_numpy_alone():
    code = (
        'import sys, resnest_tf.cityscapes; sys.exit(bool({"tensorflow", "cv2"} & {*sys.modules}))'
    )
    root = pathlib.Path(cityscapes.__file__).parent.parent
    assert subprocess.call([sys.executable, '-c', code], cwd=str(root)) == 0


# Official archives


def test_archives(zipped, tmp_path):
    run(zipped, tmp_path / 'out')
    check_records(tmp_path / 'out')
    for split, names in IMAGES.items():
        metadata = described(tmp_path / 'out' / split)
        keys = ('name', 'split', 'count', 'complete', 'ignore', 'channel_order')
        expected = ['cityscapes', split, len(names), True, 255, 'BGR']
        assert [metadata[key] for key in keys] == expected
        assert metadata['classes'] == [name for name, _, train_id in OFFICIAL if train_id < 19]
        schema = metadata['schema']
        assert set(schema) == {'image', 'label', 'height', 'width', 'channels', 'filename'}
        assert schema['image']['shape'] == [HEIGHT, WIDTH, 3]
        assert schema['label']['shape'] == [HEIGHT, WIDTH]


def test_archives_and_folders_give_the_same_bytes(zipped, extracted, tmp_path):
    images, labels = image_files(), label_files()
    apart = [
        write_files(tmp_path / 'a', images) / 'leftImg8bit',
        write_zip(tmp_path / 'b' / 'my labels.zip', labels, zipfile.ZIP_STORED),
    ]
    deeper = {'data/cityscapes/' + name: data for name, data in {**images, **labels}.items()}
    run(zipped, tmp_path / 'zipped_out')
    first = contents(tmp_path / 'zipped_out')
    assert len(first) == 9  # dataset.json, index.npy and one shard a split
    for number, source in enumerate(
        [
            extracted,
            [zipped / name for name in cityscapes_files.ARCHIVES.values()],
            apart,
            write_zip(tmp_path / 'c' / 'all.zip', deeper),
        ]
    ):
        run(source, tmp_path / str(number))
        assert contents(tmp_path / str(number)) == first


def test_several_processes_give_the_same_bytes(zipped, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_cityscapes, 'SHARD_BYTES', 4 * HEIGHT * WIDTH)
    for workers in (1, 2):
        monkeypatch.setattr(host, 'cores', lambda workers=workers: workers)
        run(zipped, tmp_path / str(workers), '--splits', 'train')
    files = contents(tmp_path / '1')
    assert sum(file.suffix == '.tfrecord' for file in files) == 4
    assert contents(tmp_path / '2') == files


def test_files_of_the_whole_of_cityscapes(zipped, tmp_path, monkeypatch, capsys):
    """2975 images of 2048x1024: 25 GB, in files of 100 to 250 MB."""
    shards, one = {}, cityscapes_files.File(None, 'x')

    def find(_):
        return {
            (kind, split): {'ulm_%06d_000019' % i: one for i in range(count)}
            for kind in ('leftImg8bit', 'gtFine')
            for split, count in COUNTS.items()
        }

    def write(path, items, *_, **options):
        shards[options['split']] = options['shards']

    free = shutil._ntuple_diskusage(10**12, 0, 10**12)
    monkeypatch.setattr(cityscapes, 'COUNTS', COUNTS)
    monkeypatch.setattr(cityscapes_files, 'find', find)
    monkeypatch.setattr(prepare_cityscapes, 'image_size', lambda *_: (1024, 2048))
    monkeypatch.setattr(prepare_cityscapes.shutil, 'disk_usage', lambda _: free)
    monkeypatch.setattr(record_writer, 'write', write)
    run(zipped, tmp_path / 'out')
    assert set(shards) == set(COUNTS)
    assert all(100e6 < COUNTS[split] * 1024 * 2048 * 4 / shards[split] < 250e6 for split in shards)
    capsys.readouterr()
    run(zipped, tmp_path / 'out', '--splits', 'train')
    assert 'writing 25 GB, 2975 train records of 8.39 MB' in capsys.readouterr().err


# A part of it


def splits(output):
    return sorted(path.name for path in output.iterdir())


def test_asked_for_splits(zipped, tmp_path):
    run(zipped, tmp_path / 'out', '--splits', 'val', 'test')
    assert splits(tmp_path / 'out') == ['test', 'val']


def test_without_test_images(tmp_path, capsys):
    files = {**image_files(), **label_files()}
    source = write_files(
        tmp_path / 'source', {name: files[name] for name in files if 'leftImg8bit/test' not in name}
    )
    line = refused(capsys, source, tmp_path / 'out', '--splits', 'test')
    assert 'found 0 test images, 3 are missing' in line
    run(source, tmp_path / 'out')
    assert splits(tmp_path / 'out') == ['train', 'val']
    before = stamps(tmp_path / 'out')
    run(source, tmp_path / 'out')  # nothing is left to do
    assert stamps(tmp_path / 'out') == before


def test_test_split_needs_no_labels(tmp_path, capsys):
    source = write_files(tmp_path / 'source', image_files())
    line = refused(capsys, source, tmp_path / 'out')
    assert 'holds no gtFine/' in line and 'gtFine_trainvaltest.zip' in line
    run(source, tmp_path / 'out', '--splits', 'test')
    found = read(tmp_path / 'out' / 'test')
    assert list(found) == IMAGES['test']
    assert all((classes == 255).all() for _, classes in found.values())


def test_missing_files_are_named(extracted, tmp_path, capsys):
    (extracted / fine('train', 'ulm_000094_000019')).unlink()
    (extracted / left('val', 'munster_000173_000019')).unlink()
    line = refused(capsys, extracted, tmp_path / 'out')
    for part in (
        '1 train images have no label (ulm_000094_000019)',
        '1 val labels have no image (munster_000173_000019)',
        'found 3 train images with labels, 1 are missing',
        'found 1 val images with labels, 1 are missing',
        '--allow_partial',
    ):
        assert part in line
    assert 'test' not in line
    run(extracted, tmp_path / 'out', '--allow_partial')
    err = capsys.readouterr().err
    assert 'warning: 1 train images have no label (ulm_000094_000019)' in err
    expected = dict(IMAGES, val=IMAGES['val'][:1])
    expected['train'] = [name for name in IMAGES['train'] if name != 'ulm_000094_000019']
    for split, names in expected.items():
        assert list(read(tmp_path / 'out' / split)) == names
    train, test = (described(tmp_path / 'out' / split) for split in ('train', 'test'))
    assert train['complete'] is False and train['name'] == 'extracted'
    assert test['complete'] is True


def test_too_many_images(extracted, tmp_path, capsys):
    lindau = 'val', 'lindau_000000_000000'
    write_files(extracted, {left(*lindau): png(picture('x')), fine(*lindau): png(label('x'))})
    line = refused(capsys, extracted, tmp_path / 'out')
    assert 'found 3 val images with labels, 1 are too many' in line


def test_a_missing_split_is_an_error(extracted, tmp_path, capsys):
    shutil.rmtree(str(extracted / 'leftImg8bit' / 'val'))
    line = refused(capsys, extracted, tmp_path / 'out')
    assert 'found 0 val images with labels, 2 are missing' in line
    line = refused(capsys, extracted, tmp_path / 'out', '--splits', 'val', '--allow_partial')
    assert 'found 0 val images' in line
    run(extracted, tmp_path / 'out', '--allow_partial')
    assert splits(tmp_path / 'out') == ['test', 'train']


def test_what_is_prepared_stays(zipped, extracted, tmp_path, capsys):
    out = tmp_path / 'out'
    run(zipped, out, '--splits', 'val')
    before = stamps(out / 'val')
    capsys.readouterr()
    run(zipped, out)
    assert 'val: already there (2 records), left as it is' in capsys.readouterr().err
    assert stamps(out / 'val') == before
    check_records(out)
    (extracted / left('train', IMAGES['train'][0])).unlink()
    run(extracted, tmp_path / 'part', '--allow_partial', '--splits', 'train')
    with pytest.raises(SystemExit):  # a part is not taken for the whole
        run(zipped, tmp_path / 'part')
    assert (
        'part/train: found 3 records of extracted, expected all of Cityscapes; remove it'
        in capsys.readouterr().err
    )
    mine = write_files(tmp_path / 'mine', {'train/notes.txt': b'mine'})
    with pytest.raises(SystemExit):
        run(zipped, mine)
    assert list(mine.rglob('*')) == [mine / 'train', mine / 'train' / 'notes.txt']
