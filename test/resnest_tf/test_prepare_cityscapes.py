"""resnest_tf.prepare_cityscapes on small archives in the official layout, read back with
TensorFlow.
"""

import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from common import host
from common.data import record_writer
from resnest_tf import cityscapes, cityscapes_files, prepare_cityscapes

# The official list of labels: name, label id, train id (255: ignored).
OFFICIAL = [
    ('unlabeled', 0, 255),
    ('ego vehicle', 1, 255),
    ('rectification border', 2, 255),
    ('out of roi', 3, 255),
    ('static', 4, 255),
    ('dynamic', 5, 255),
    ('ground', 6, 255),
    ('road', 7, 0),
    ('sidewalk', 8, 1),
    ('parking', 9, 255),
    ('rail track', 10, 255),
    ('building', 11, 2),
    ('wall', 12, 3),
    ('fence', 13, 4),
    ('guard rail', 14, 255),
    ('bridge', 15, 255),
    ('tunnel', 16, 255),
    ('pole', 17, 5),
    ('polegroup', 18, 255),
    ('traffic light', 19, 6),
    ('traffic sign', 20, 7),
    ('vegetation', 21, 8),
    ('terrain', 22, 9),
    ('sky', 23, 10),
    ('person', 24, 11),
    ('rider', 25, 12),
    ('car', 26, 13),
    ('truck', 27, 14),
    ('bus', 28, 15),
    ('caravan', 29, 255),
    ('trailer', 30, 255),
    ('train', 31, 16),
    ('motorcycle', 32, 17),
    ('bicycle', 33, 18),
    ('license plate', 255, 255),
]
IMAGES = {
    'train': [
        'aachen_000000_000019',
        'aachen_000001_000019',
        'ulm_000094_000019',
        'zurich_000121_000019',
    ],
    'val': ['frankfurt_000000_000294', 'munster_000173_000019'],
    'test': ['berlin_000000_000019', 'bonn_000045_000019', 'mainz_000000_000021'],
}
HEIGHT, WIDTH = 16, 32
COUNTS = dict(cityscapes.COUNTS)


@pytest.fixture(autouse=True)
def small_cityscapes(monkeypatch):
    """A Cityscapes of 4, 2 and 3 images. One worker, which saves the start of processes."""
    monkeypatch.setattr(
        cityscapes, 'COUNTS', {split: len(names) for split, names in IMAGES.items()}
    )
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0})
    with tf.Graph().as_default():
        yield


def png(pixels, mode=None):
    """A PNG by Pillow, of RGB or grey pixels."""
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(stream, 'PNG')
    return stream.getvalue()


def picture(name, height=HEIGHT, width=WIDTH):
    """RGB"""
    return (
        np.random.RandomState(sum(name.encode()))
        .randint(0, 256, (height, width, 3))
        .astype(np.uint8)
    )


def label(name, height=HEIGHT, width=WIDTH):
    """Label ids: every one of them somewhere."""
    ids = np.array([id for _, id, _ in OFFICIAL], np.uint8)
    return np.resize(np.random.RandomState(sum(name.encode())).permutation(ids), (height, width))


def place(kind, split, name, ending):
    return '%s/%s/%s/%s_%s' % (kind, split, name.split('_')[0], name, ending)


def left(split, name):
    return place('leftImg8bit', split, name, 'leftImg8bit.png')


def fine(split, name):
    return place('gtFine', split, name, 'gtFine_labelIds.png')


def image_files():
    return {
        left(split, name): png(picture(name)) for split, names in IMAGES.items() for name in names
    }


def label_files():
    """Also what else is beside them; the labels of test are dummies."""
    content = {}
    for split, names in IMAGES.items():
        for name in names:
            content[fine(split, name)] = png(
                np.full((HEIGHT, WIDTH), 3, np.uint8) if split == 'test' else label(name)
            )
            content[place('gtFine', split, name, 'gtFine_color.png')] = png(picture(name[::-1]))
            content[place('gtFine', split, name, 'gtFine_instanceIds.png')] = png(
                label(name).astype(np.uint16)
            )
            content[place('gtFine', split, name, 'gtFine_polygons.json')] = b'{}'
    return content


def write(folder, content):
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_zip(path, content, compression=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(str(path), 'w', compression) as archive:
        for name, data in {'README': b'read me', 'license.txt': b'licence', **content}.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def zipped(tmp_path):
    """A folder with the two official archives."""
    write_zip(tmp_path / 'zipped' / 'leftImg8bit_trainvaltest.zip', image_files())
    return write_zip(tmp_path / 'zipped' / 'gtFine_trainvaltest.zip', label_files()).parent


@pytest.fixture
def extracted(tmp_path):
    """A folder with the extracted archives."""
    return write(tmp_path / 'extracted', {**image_files(), **label_files()})


def run(source, output, *flags):
    sources = source if isinstance(source, list) else [source]
    prepare_cityscapes.main(
        ['--source', *map(str, sources), '--output', str(output), *map(str, flags)]
    )


def refused(capsys, source, output, *flags):
    """The last line of what the command prints when it refuses; nothing is prepared then."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(source, output, *flags)
    assert caught.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith('\r')]
    assert lines[-1].startswith('error: ') and not any(
        (output / split).exists() for split in IMAGES
    )
    return lines[-1]


def read(folder):
    """The records as {feature: value}, by TensorFlow; pixels as arrays."""
    kinds = {
        'image': tf.string,
        'label': tf.string,
        'filename': tf.string,
        'height': tf.int64,
        'width': tf.int64,
        'channels': tf.int64,
    }
    found = []
    for file in sorted(folder.glob('*.tfrecord')):
        for record in tf.io.tf_record_iterator(str(file)):
            feature = tf.train.Example.FromString(record).features.feature
            assert set(feature) == set(kinds)
            one = {
                key: (
                    feature[key].bytes_list if kind == tf.string else feature[key].int64_list
                ).value[0]
                for key, kind in kinds.items()
            }
            one['image'] = np.frombuffer(one['image'], np.uint8).reshape(
                one['height'], one['width'], one['channels']
            )
            one['label'] = np.frombuffer(one['label'], np.uint8).reshape(
                one['height'], one['width']
            )
            found.append(one)
    return found


def described(folder):
    return json.loads((folder / 'dataset.json').read_text())


# Constants


def test_constants_are_the_official_ones():
    assert {name: (id, train_id) for name, id, train_id in OFFICIAL if train_id != 255} == {
        name: (cityscapes.LABEL_IDS[i], i) for i, name in enumerate(cityscapes.CLASSES)
    }
    assert (
        cityscapes.TRAIN_IDS.dtype
        == cityscapes.LABEL_IDS.dtype
        == cityscapes.PALETTE.dtype
        == np.uint8
        and cityscapes.IGNORE == 255
    )
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
        'import sys, resnest_tf.cityscapes; sys.exit(bool({"tensorflow", "cv2"} &'
        ' set(sys.modules)))'
    )
    assert (
        subprocess.call(
            [sys.executable, '-c', code], cwd=str(pathlib.Path(cityscapes.__file__).parent.parent)
        )
        == 0
    )


# Official archives


def check_records(output):
    to_train_id = {id: train_id for _, id, train_id in OFFICIAL}
    for split, names in IMAGES.items():
        found = read(output / split)
        assert [record['filename'].decode() for record in found] == names
        for record, name in zip(found, names):
            assert (record['height'], record['width'], record['channels']) == (HEIGHT, WIDTH, 3)
            assert np.array_equal(record['image'], picture(name)[:, :, ::-1])
            wanted = (
                255 * np.ones((HEIGHT, WIDTH))
                if split == 'test'
                else np.vectorize(to_train_id.get)(label(name))
            )
            assert np.array_equal(record['label'], wanted)


def test_archives(zipped, tmp_path):
    run(zipped, tmp_path / 'out')
    check_records(tmp_path / 'out')
    for split, names in IMAGES.items():
        metadata = described(tmp_path / 'out' / split)
        assert (metadata['name'], metadata['split'], metadata['count'], metadata['complete']) == (
            'cityscapes',
            split,
            len(names),
            True,
        )
        assert metadata['classes'] == [name for name, _, train_id in OFFICIAL if train_id < 19]
        assert metadata['ignore'] == 255 and metadata['channel_order'] == 'BGR'
        assert metadata['schema']['image']['shape'] == [HEIGHT, WIDTH, 3] and metadata['schema'][
            'label'
        ]['shape'] == [HEIGHT, WIDTH]
        assert set(metadata['schema']) == {
            'image',
            'label',
            'height',
            'width',
            'channels',
            'filename',
        }


def test_archives_and_folders_give_the_same_bytes(zipped, extracted, tmp_path):
    apart = [
        write(tmp_path / 'a', image_files()) / 'leftImg8bit',
        write_zip(tmp_path / 'b' / 'my labels.zip', label_files(), zipfile.ZIP_STORED),
    ]
    everything = {**image_files(), **label_files()}
    inside = write_zip(
        tmp_path / 'c' / 'all.zip',
        {'data/cityscapes/' + name: data for name, data in everything.items()},
    )
    sources = {
        'zipped': zipped,
        'extracted': extracted,
        'files': [zipped / name for name in cityscapes_files.ARCHIVES.values()],
        'apart': apart,
        'inside': inside,
    }
    for name, source in sources.items():
        run(source, tmp_path / 'out' / name)
    first = {
        path.relative_to(tmp_path / 'out' / 'zipped'): path.read_bytes()
        for path in (tmp_path / 'out' / 'zipped').rglob('*')
        if path.is_file()
    }
    assert len(first) == 9  # dataset.json, index.npy and one shard a split
    for name in sources:
        assert {
            path.relative_to(tmp_path / 'out' / name): path.read_bytes()
            for path in (tmp_path / 'out' / name).rglob('*')
            if path.is_file()
        } == first


def test_several_processes_give_the_same_bytes(zipped, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_cityscapes, 'SHARD_BYTES', 4 * HEIGHT * WIDTH)
    for workers in (1, 2):
        monkeypatch.setattr(host, 'cores', lambda workers=workers: workers)
        run(zipped, tmp_path / str(workers), '--splits', 'train')
    files = {path.name: path.read_bytes() for path in (tmp_path / '1' / 'train').iterdir()}
    assert sum(name.endswith('.tfrecord') for name in files) == 4
    assert {path.name: path.read_bytes() for path in (tmp_path / '2' / 'train').iterdir()} == files


def test_files_of_the_whole_of_cityscapes(zipped, tmp_path, monkeypatch, capsys):
    """2975 images of 2048x1024: 25 GB, in files of 100 to 250 MB."""
    counts, shards = {'train': 2975, 'val': 500, 'test': 1525}, {}
    one = cityscapes_files.File(None, 'x')
    monkeypatch.setattr(cityscapes, 'COUNTS', counts)
    monkeypatch.setattr(
        cityscapes_files,
        'find',
        lambda _: {
            (kind, split): {'ulm_%06d_000019' % i: one for i in range(count)}
            for kind in ('leftImg8bit', 'gtFine')
            for split, count in counts.items()
        },
    )
    monkeypatch.setattr(prepare_cityscapes, 'image_size', lambda *_: (1024, 2048))
    monkeypatch.setattr(
        prepare_cityscapes.shutil,
        'disk_usage',
        lambda _: shutil._ntuple_diskusage(10**12, 0, 10**12),
    )
    monkeypatch.setattr(
        record_writer,
        'write',
        lambda path, items, *_, **options: shards.update({options['split']: options['shards']}),
    )
    run(zipped, tmp_path / 'out')
    assert all(100e6 < counts[split] * 1024 * 2048 * 4 / shards[split] < 250e6 for split in counts)
    capsys.readouterr()
    run(zipped, tmp_path / 'out', '--splits', 'train')
    assert 'writing 25 GB, 2975 train records of 8.39 MB' in capsys.readouterr().err


def test_asked_for_splits(zipped, tmp_path):
    run(zipped, tmp_path / 'out', '--splits', 'val', 'test')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['test', 'val']


def test_without_test_images(tmp_path, capsys):
    source = write(
        tmp_path / 'source',
        {
            name: data
            for name, data in {**image_files(), **label_files()}.items()
            if 'leftImg8bit/test' not in name
        },
    )
    assert 'found 0 test images, 3 are missing' in refused(
        capsys, source, tmp_path / 'out', '--splits', 'test'
    )
    run(source, tmp_path / 'out')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['train', 'val']
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*')}
    run(source, tmp_path / 'out')  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*')} == before


def test_test_split_needs_no_labels(tmp_path, capsys):
    source = write(tmp_path / 'source', image_files())
    line = refused(capsys, source, tmp_path / 'out')
    assert 'holds no gtFine/' in line and 'gtFine_trainvaltest.zip' in line
    run(source, tmp_path / 'out', '--splits', 'test')
    assert all((record['label'] == 255).all() for record in read(tmp_path / 'out' / 'test'))


# A part of it


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
    found = {
        split: [record['filename'].decode() for record in read(tmp_path / 'out' / split)]
        for split in IMAGES
    }
    assert found == {
        'train': IMAGES['train'][:2] + IMAGES['train'][3:],
        'val': IMAGES['val'][:1],
        'test': IMAGES['test'],
    }
    assert (
        described(tmp_path / 'out' / 'train')['complete'] is False
        and described(tmp_path / 'out' / 'train')['name'] == 'extracted'
    )
    assert described(tmp_path / 'out' / 'test')['complete'] is True


def test_too_many_images(extracted, tmp_path, capsys):
    write(
        extracted,
        {
            left('val', 'lindau_000000_000019'): png(picture('x')),
            fine('val', 'lindau_000000_000019'): png(label('x')),
        },
    )
    assert 'found 3 val images with labels, 1 are too many' in refused(
        capsys, extracted, tmp_path / 'out'
    )


def test_a_missing_split_is_an_error(extracted, tmp_path, capsys):
    shutil.rmtree(str(extracted / 'leftImg8bit' / 'val'))
    assert 'found 0 val images with labels, 2 are missing' in refused(
        capsys, extracted, tmp_path / 'out'
    )
    assert 'found 0 val images' in refused(
        capsys, extracted, tmp_path / 'out', '--splits', 'val', '--allow_partial'
    )
    run(extracted, tmp_path / 'out', '--allow_partial')
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['test', 'train']


def test_what_is_prepared_stays(zipped, extracted, tmp_path, capsys):
    run(zipped, tmp_path / 'out', '--splits', 'val')
    before = (tmp_path / 'out' / 'val' / 'dataset.json').stat().st_mtime_ns
    capsys.readouterr()
    run(zipped, tmp_path / 'out')
    assert 'val: already there (2 records), left as it is' in capsys.readouterr().err
    assert (tmp_path / 'out' / 'val' / 'dataset.json').stat().st_mtime_ns == before
    check_records(tmp_path / 'out')
    (extracted / left('train', IMAGES['train'][0])).unlink()
    run(extracted, tmp_path / 'part', '--allow_partial', '--splits', 'train')
    with pytest.raises(SystemExit):  # a part is not taken for the whole
        run(zipped, tmp_path / 'part')
    assert (
        'part/train: found 3 records of extracted, expected all of Cityscapes; remove it'
        in capsys.readouterr().err
    )
    write(tmp_path / 'mine' / 'train', {'notes.txt': b'mine'})
    with pytest.raises(SystemExit):
        run(zipped, tmp_path / 'mine')
    assert list((tmp_path / 'mine').rglob('*')) == [
        tmp_path / 'mine' / 'train',
        tmp_path / 'mine' / 'train' / 'notes.txt',
    ]


# Files that are not right


def grey(value, height=HEIGHT, width=WIDTH):
    return np.full((height, width), value, np.uint8)


def train_ids(name):
    return np.vectorize({id: train_id for _, id, train_id in OFFICIAL}.get)(label(name)).astype(
        np.uint8
    )


NAME = 'aachen_000001_000019'
WRONG = {
    'an id above 33': (
        fine,
        lambda: png(np.where(label(NAME) == 7, 34, label(NAME)).astype(np.uint8)),
        ['ids 34, where label ids are 0 to 33'],
    ),
    'train ids': (fine, lambda: png(train_ids(NAME)), ['looks like train ids']),
    'nothing but 255': (fine, lambda: png(grey(255)), ['looks like train ids']),
    'colours': (fine, lambda: png(picture(NAME)), ['8 bits RGB, where label ids have 8 bits grey']),
    'a palette': (fine, lambda: png(grey(7), 'P'), ['8 bits palette']),
    'alpha': (fine, lambda: png(picture(NAME), 'RGBA'), ['8 bits RGB and alpha']),
    '16 bits': (fine, lambda: png(grey(26).astype(np.uint16) * 1000), ['16 bits grey']),
    '1 bit': (fine, lambda: png(grey(255), '1'), ['1 bits grey']),
    'a label of another size': (
        fine,
        lambda: png(label(NAME, 8, 32)),
        ['found 32x8 pixels, expected 32x16'],
    ),
    'a label that is cut off': (fine, lambda: png(label(NAME))[:-30], ['cut off']),
    'an image of another size': (
        left,
        lambda: png(picture(NAME, 16, 30)),
        ['found 30x16 pixels, expected 32x16'],
    ),
    'an image that is cut off': (left, lambda: png(picture(NAME))[:500], ['cut off']),
    'a damaged image': (
        left,
        lambda: png(picture(NAME))[:500] + b'damage' + png(picture(NAME))[506:],
        ['damaged'],
    ),
    'a JPEG': (left, lambda: cv2.imencode('.jpg', picture(NAME))[1].tobytes(), ['not a PNG']),
    'an empty image': (left, lambda: b'', ['is empty']),
}


@pytest.mark.parametrize('what', WRONG)
@pytest.mark.parametrize('form', ['folder', 'zip'])
def test_files_that_cannot_be_used(tmp_path, capsys, form, what):
    kind, content, parts = WRONG[what]
    files, name = (
        {**image_files(), **label_files(), kind('train', NAME): content()},
        kind('train', NAME),
    )
    source = (
        write(tmp_path / 'source', files)
        if form == 'folder'
        else write_zip(tmp_path / 'source.zip', files)
    )
    line = refused(capsys, source, tmp_path / 'out')
    assert (
        '%s is not usable' % (source / name if form == 'folder' else '%s: %s' % (source, name))
        in line
        and '--skip_corrupt' in line
    )
    assert all(part in line for part in parts)
    run(source, tmp_path / 'out', '--skip_corrupt', 1)
    assert 'warning: left out' in capsys.readouterr().err
    assert [record['filename'].decode() for record in read(tmp_path / 'out' / 'train')] == [
        one for one in IMAGES['train'] if one != NAME
    ]


def test_no_more_than_skip_corrupt_allows(extracted, tmp_path, capsys):
    for name in IMAGES['train'][:3]:  # also the first, whose size the others must have
        (extracted / left('train', name)).write_bytes(b'no image')
    assert all(
        name in refused(capsys, extracted, tmp_path / 'out', '--skip_corrupt', 2)
        for name in IMAGES['train'][2:3]
    )
    run(extracted, tmp_path / 'out', '--skip_corrupt', 3)
    assert [record['filename'].decode() for record in read(tmp_path / 'out' / 'train')] == IMAGES[
        'train'
    ][3:]


def test_finished_files_survive_an_interruption(extracted, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prepare_cityscapes, 'SHARD_BYTES', 4 * HEIGHT * WIDTH)
    run(extracted, tmp_path / 'clean')
    file = extracted / fine('train', IMAGES['train'][-1])
    whole = file.read_bytes()
    file.write_bytes(whole[:50])
    assert str(file) in refused(capsys, extracted, tmp_path / 'out')
    kept = {
        path.name: path.stat().st_ino
        for path in (tmp_path / 'out' / '.train.unfinished').glob('train-*.tfrecord')
    }
    assert len(kept) == 3
    file.write_bytes(whole)
    run(extracted, tmp_path / 'out')
    for path in (tmp_path / 'clean').rglob('*'):
        assert (
            path.is_dir()
            or path.read_bytes()
            == (tmp_path / 'out' / path.relative_to(tmp_path / 'clean')).read_bytes()
        )
    assert {name: (tmp_path / 'out' / 'train' / name).stat().st_ino for name in kept} == kept
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['test', 'train', 'val']


# Archives that are not right


def test_damage_inside_an_archive(zipped, tmp_path, capsys):
    archive = zipped / 'leftImg8bit_trainvaltest.zip'
    name = left('val', 'munster_000173_000019')
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(str(archive)) as opened:
        data[opened.getinfo(name).header_offset + 30 + len(name) + 300] ^= 255
    archive.write_bytes(bytes(data))
    assert '%s: %s is not usable: it cannot be read' % (archive, name) in refused(
        capsys, zipped, tmp_path / 'out', '--splits', 'val'
    )
    run(zipped, tmp_path / 'out', '--splits', 'val', '--skip_corrupt', 1)
    assert [record['filename'] for record in read(tmp_path / 'out' / 'val')] == [
        b'frankfurt_000000_000294'
    ]


@pytest.mark.parametrize(
    'content, part',
    [
        (lambda whole: whole[: len(whole) // 2], 'not a whole zip archive'),
        (lambda whole: b'', 'not a whole zip archive'),
        (
            lambda whole: b'\n<!DOCTYPE html><html>please log in</html>',
            'a web page, not a zip archive: the download needs a login',
        ),
    ],
)
def test_archives_that_are_not_whole(zipped, tmp_path, capsys, content, part):
    archive = zipped / 'gtFine_trainvaltest.zip'
    archive.write_bytes(content(archive.read_bytes()))
    line = refused(capsys, zipped, tmp_path / 'out')
    assert '%s: %s' % (archive, part) in line and 'download it again' in line


@pytest.mark.parametrize(
    'wrong, inside',
    [
        (
            {'gtCoarse/train/aachen/aachen_000000_000019_gtCoarse_labelIds.png': b'x'},
            'gtCoarse/train',
        ),
        (
            {'leftImg8bit/train_extra/augsburg/augsburg_000000_000000_leftImg8bit.png': b'x'},
            'leftImg8bit/train_extra',
        ),
        (
            {'leftImg8bit_blurred/train/ulm/ulm_000000_000019_leftImg8bit_blurred.png': b'x'},
            'leftImg8bit_blurred/train',
        ),
        ({'gtFine/train/ulm/ulm_000000_000019_gtFine_labelTrainIds.png': b'x'}, 'gtFine/train'),
    ],
)
def test_other_archives_of_cityscapes(zipped, tmp_path, capsys, wrong, inside):
    archive = write_zip(tmp_path / 'other.zip', wrong)
    line = refused(capsys, [zipped, archive], tmp_path / 'out')
    assert str(archive) in line and '(found: %s' % inside in re.sub(
        'README, |license.txt, ', '', line
    )
    assert 'leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip' in line


def test_sources_that_are_not_right(zipped, extracted, tmp_path, capsys):
    out = tmp_path / 'out'
    assert '--source %s: no such file or folder' % (tmp_path / 'absent') in refused(
        capsys, tmp_path / 'absent', out
    )
    write(tmp_path / 'other', {'gtCoarse.zip': b'x'})
    line = refused(capsys, tmp_path / 'other', out)
    assert (
        'leftImg8bit_trainvaltest.zip' in line
        and 'gtFine_trainvaltest.zip' in line
        and 'found: gtCoarse.zip' in line
    )
    assert 'is also in %s' % (zipped / 'leftImg8bit_trainvaltest.zip') in refused(
        capsys, [zipped, extracted], out
    )
    line = refused(capsys, zipped / 'gtFine_trainvaltest.zip', out)
    assert 'holds no leftImg8bit/' in line and 'leftImg8bit_trainvaltest.zip' in line


def test_disk_space(zipped, tmp_path, capsys, monkeypatch):
    needed = 4 * HEIGHT * WIDTH * sum(map(len, IMAGES.values()))
    monkeypatch.setattr(
        prepare_cityscapes.shutil,
        'disk_usage',
        lambda place: shutil._ntuple_diskusage(10**9, 0, free[str(place)]),
    )
    free = {str(tmp_path.resolve()): needed - 1}
    line = refused(capsys, zipped, tmp_path / 'new' / 'out')
    assert '--output' in line and 'are needed' in line and 'are free' in line
    write(
        tmp_path / 'new' / 'out' / '.train.unfinished', {'train-00000-of-00001.tfrecord': b'x'}
    )  # what is there counts
    free[str((tmp_path / 'new' / 'out').resolve())] = needed - 1
    run(zipped, tmp_path / 'new' / 'out')
    check_records(tmp_path / 'new' / 'out')
