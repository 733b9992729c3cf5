"""xception_tf.prepare_imagenet on small archives in the official layouts, read back with
TensorFlow.
"""

import io
import json
import os
import pathlib
import shutil
import tarfile

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_digits

from common.data import digits, pipeline, record_writer, records
from xception_tf import imagenet, imagenet_labels, input_pipeline, prepare_imagenet
from xception_tf.config import XceptionConfig
from xception_tf.task import TASK

SYNSETS = ['n01440764', 'n01443537', 'n02105855']
WORDS = {
    'n01440764': 'tench, Tinca tinca',
    'n01443537': 'goldfish, Carassius auratus',
    'n02105855': 'Shetland sheepdog, Shetland',
}
KIT_ORDER = {
    1: 'n02105855',
    2: 'n01440764',
    3: 'n01443537',
    4: 'n00001740',
}  # not sorted; above the classes: what they belong to
VAL_LABELS = [
    'n02105855',
    'n01440764',
    'n02105855',
    'n01443537',
    'n01440764',
]  # of ILSVRC2012_val_00000001 etc.


@pytest.fixture(autouse=True)
def small_imagenet(monkeypatch):
    """An ImageNet of 3 classes, 12 images to train and 5 to validate. One worker, which saves the
    start of processes.
    """
    monkeypatch.setattr(imagenet_labels, 'CLASSES', 3)
    monkeypatch.setattr(imagenet, 'COUNTS', {'train': 12, 'val': 5})
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0})
    with tf.Graph().as_default():
        yield


def pixels(seed, height=30, width=40):
    small = np.random.RandomState(seed).randint(0, 256, (3, 4, 3)).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def image(seed, kind='JPEG', mode='RGB', **options):
    stream = io.BytesIO()
    Image.fromarray(pixels(seed, 30 + seed % 7, 40 + seed % 5)).convert(mode).save(
        stream, kind, **options
    )
    return stream.getvalue()


def train_images():
    """{synset: {file name: JPEG}}"""
    return {
        synset: {'%s_%d.JPEG' % (synset, 10 * i + 7): image(100 * j + i) for i in range(4)}
        for j, synset in enumerate(SYNSETS)
    }


def val_images():
    return {'ILSVRC2012_val_%08d.JPEG' % (i + 1): image(1000 + i) for i in range(len(VAL_LABELS))}


def tar(files, mode='w'):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def train_tar(content=None):
    return tar(
        {
            synset + '.tar': tar(files)
            for synset, files in reversed(list((content or train_images()).items()))
        }
    )


def meta_mat():
    """The development kit's: a structure array of one column."""
    fields = [
        ('ILSVRC2012_ID', 'O'),
        ('WNID', 'O'),
        ('words', 'O'),
        ('gloss', 'O'),
        ('num_children', 'O'),
        ('children', 'O'),
        ('wordnet_height', 'O'),
        ('num_train_images', 'O'),
    ]
    table = np.empty((len(KIT_ORDER), 1), fields)
    for i, (number, synset) in enumerate(KIT_ORDER.items()):
        table[i, 0] = (
            float(number),
            synset,
            WORDS.get(synset, 'entity'),
            'a gloss',
            0.0,
            np.zeros((1, 0)),
            0.0,
            4.0,
        )
    stream = io.BytesIO()
    savemat(stream, {'synsets': table})
    return stream.getvalue()


def kit():
    numbers = {synset: number for number, synset in KIT_ORDER.items()}
    return {
        'ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt': ''.join(
            '%d\n' % numbers[synset] for synset in VAL_LABELS
        ).encode(),
        'ILSVRC2012_devkit_t12/data/meta.mat': meta_mat(),
        'ILSVRC2012_devkit_t12/readme.txt': b'hello',
    }


def synset_list():
    return {
        'imagenet_2012_validation_synset_labels.txt': ''.join(
            synset + '\n' for synset in VAL_LABELS
        ).encode()
    }


@pytest.fixture
def official(tmp_path):
    return write(
        tmp_path / 'official',
        {
            'ILSVRC2012_img_train.tar': train_tar(),
            'ILSVRC2012_img_val.tar': tar(val_images()),
            **synset_list(),
        },
    )


def run(source, output, *flags):
    prepare_imagenet.main(['--source', str(source), '--output', str(output), *map(str, flags)])


def refused(capsys, source, output, *flags):
    """The last line of what the command prints when it refuses."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(source, output, *flags)
    assert caught.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith('\r')]
    assert (
        lines[-1].startswith('error: ')
        and not (output / 'train').exists()
        and not (output / 'val').exists()
    )
    return lines[-1]


def read(folder):
    """The records as {feature: value}, by TensorFlow."""
    kinds = {
        'image/encoded': tf.string,
        'image/format': tf.string,
        'image/colorspace': tf.string,
        'image/filename': tf.string,
        'image/class/synset': tf.string,
        'image/class/text': tf.string,
        'image/height': tf.int64,
        'image/width': tf.int64,
        'image/channels': tf.int64,
        'image/class/label': tf.int64,
    }
    files = sorted(str(file) for file in folder.glob('*.tfrecord'))
    element = tf.data.TFRecordDataset(files).map(
        lambda record: tf.io.parse_single_example(
            record, {key: tf.io.FixedLenFeature([], kind) for key, kind in kinds.items()}
        )
    )
    found, element = [], element.make_one_shot_iterator().get_next()
    with tf.Session() as session:
        while True:
            try:
                found.append(
                    {
                        key.replace('image/', ''): (
                            value.decode()
                            if isinstance(value, bytes) and key != 'image/encoded'
                            else value
                        )
                        for key, value in session.run(element).items()
                    }
                )
            except tf.errors.OutOfRangeError:
                return found


def described(folder):
    return json.loads((folder / 'dataset.json').read_text())


# Official archives


def test_official_archives(official, tmp_path):
    write(
        official,
        {'LOC_synset_mapping.txt': ''.join('%s %s\n' % item for item in WORDS.items()).encode()},
    )
    run(official, tmp_path / 'out')
    content = {
        name: (synset, data)
        for synset, files in train_images().items()
        for name, data in files.items()
    }
    found = read(tmp_path / 'out' / 'train')
    assert sorted(record['filename'] for record in found) == sorted(content)
    for record in found:
        synset, data = content[record['filename']]
        assert (
            record['encoded'] == data
            and record['class/synset'] == synset
            and record['class/text'] == WORDS[synset]
        )
        assert record['class/label'] == SYNSETS.index(synset) + 1
        width, height = Image.open(io.BytesIO(data)).size
        assert (
            record['height'],
            record['width'],
            record['channels'],
            record['colorspace'],
            record['format'],
        ) == (height, width, 3, 'RGB', 'JPEG')
    labels = [record['class/label'] for record in found]
    assert (
        sorted(labels) == [1] * 4 + [2] * 4 + [3] * 4
        and labels != sorted(labels)
        and labels[::-1] != sorted(labels)
    )  # mixed
    assert {
        record['filename']: record['class/synset'] for record in read(tmp_path / 'out' / 'val')
    } == dict(zip(val_images(), VAL_LABELS))
    for split, count in (('train', 12), ('val', 5)):
        metadata = described(tmp_path / 'out' / split)
        assert (
            metadata['name'],
            metadata['split'],
            metadata['count'],
            metadata['label_offset'],
        ) == ('imagenet', split, count, 1)
        assert metadata['synsets'] == SYNSETS and metadata['classes'] == [
            WORDS[synset] for synset in SYNSETS
        ]
        assert set(metadata['schema']) == {
            key if key.startswith('image') else 'image/' + key for key in found[0]
        }


def test_the_same_source_gives_the_same_bytes(official, tmp_path):
    for output in ('a', 'b'):
        run(official, tmp_path / output, '--shards', 2)
    files = sorted(
        path.relative_to(tmp_path / 'a') for path in (tmp_path / 'a').rglob('*') if path.is_file()
    )
    assert [file.name for file in files if file.suffix == '.tfrecord'] == [
        '%s-%05d-of-00002.tfrecord' % (split, shard)
        for split in ('train', 'val')
        for shard in range(2)
    ]
    assert all(
        (tmp_path / 'a' / file).read_bytes() == (tmp_path / 'b' / file).read_bytes()
        for file in files
    )


def test_number_of_files_of_the_whole_of_imagenet(official, tmp_path, monkeypatch):
    found, one = {}, imagenet.File('x', 0, 0, 'x')
    monkeypatch.setattr(
        record_writer,
        'write',
        lambda path, items, *_, split, shards, **__: found.update({split: (len(items), shards)}),
    )
    monkeypatch.setattr(imagenet, 'check', lambda *_: None)
    monkeypatch.setattr(
        imagenet,
        'find',
        lambda source, split, _: (
            {'n%08d' % i: [one] * {'train': 1281, 'val': 50}[split] for i in range(1000)},
            True,
        ),
    )
    run(official, tmp_path / 'out')
    assert found == {'train': (1281000, 1024), 'val': (50000, 128)}


@pytest.mark.parametrize('offset', [0, 1])
def test_label_convention_is_honoured_by_the_reader(official, tmp_path, offset):
    run(official, tmp_path / 'out', '--label_offset', offset, '--split', 'val')
    assert sorted(record['class/label'] for record in read(tmp_path / 'out' / 'val')) == [
        offset,
        offset,
        offset + 1,
        offset + 2,
        offset + 2,
    ]
    assert described(tmp_path / 'out' / 'val')['label_offset'] == offset
    cfg = XceptionConfig(image_size=71, num_classes=3, data_path=str(tmp_path / 'out'))
    folder = pipeline.open_split(TASK, cfg, 'val')
    dataset = pipeline.dataset(TASK, folder, cfg, 5, False)
    iterator = dataset.make_one_shot_iterator().get_next()
    with tf.Session() as session:
        features = session.run(iterator)
    wanted = {
        input_pipeline.decode(data, cfg).tobytes(): SYNSETS.index(synset)
        for data, synset in zip(val_images().values(), VAL_LABELS)
    }
    assert {
        pixels.tobytes(): label for pixels, label in zip(features['image'], features['label'])
    } == wanted


@pytest.mark.parametrize(
    'form', ['packed', 'unpacked', 'its data', 'beside', 'a file in it', 'a list of another name']
)
def test_classes_of_the_validation_images(tmp_path, form):
    source, other = tmp_path / 'source', tmp_path / 'elsewhere'
    write(source, {'ILSVRC2012_img_val.tar': tar(val_images())})
    flags = []
    if form == 'packed':
        write(source, {'ILSVRC2012_devkit_t12.tar.gz': tar(kit(), 'w:gz')})
    elif form == 'unpacked':
        write(source, kit())
    elif form == 'beside':
        write(source, {pathlib.Path(name).name: content for name, content in kit().items()})
    elif form == 'a list of another name':
        flags = [
            '--val_labels',
            write(other, {'labels.txt': list(synset_list().values())[0]}) / 'labels.txt',
        ]
    else:
        data = write(other, kit()) / 'ILSVRC2012_devkit_t12'
        flags = [
            '--val_labels',
            data if form == 'its data' else data / 'data' / imagenet_labels.GROUND_TRUTH,
        ]
    run(source, tmp_path / 'out', *flags)
    found = read(tmp_path / 'out' / 'val')
    assert {
        record['filename']: (record['class/synset'], record['class/label']) for record in found
    } == {
        name: (synset, SYNSETS.index(synset) + 1) for name, synset in zip(val_images(), VAL_LABELS)
    }
    if form in ('packed', 'unpacked', 'beside'):  # the kit tells their names too
        assert described(tmp_path / 'out' / 'val')['classes'] == [
            WORDS[synset] for synset in SYNSETS
        ]


def test_validation_labels_that_are_of_no_use(tmp_path, capsys):
    source = write(tmp_path / 'source', {'ILSVRC2012_img_val.tar': tar(val_images())})
    assert 'imagenet_2012_validation_synset_labels.txt or ILSVRC2012_devkit_t12.tar.gz' in refused(
        capsys, source, tmp_path / 'out'
    )
    truth = source / 'ILSVRC2012_validation_ground_truth.txt'
    truth.write_text('1\n2\n3\n1\n2\n')
    line = refused(capsys, source, tmp_path / 'out')
    assert (
        'own order' in line
        and 'meta.mat' in line
        and 'imagenet_2012_validation_synset_labels.txt' in line
    )
    (source / 'meta.mat').write_bytes(meta_mat()[:100])
    assert 'meta.mat' in refused(capsys, source, tmp_path / 'out')
    (source / 'meta.mat').write_bytes(meta_mat())
    truth.write_text('1\n2\n3\n1\n4\n')  # in meta.mat, but no class
    assert "does not fit the kit's meta.mat (KeyError: 4)" in refused(
        capsys, source, tmp_path / 'out'
    )
    truth.write_text('1\n2\n3\n')
    assert (
        'ILSVRC2012_val_00000004.JPEG is not one of ILSVRC2012_val_00000001.JPEG to'
        ' ILSVRC2012_val_00000003.JPEG' in refused(capsys, source, tmp_path / 'out')
    )
    write(source, {'imagenet_2012_validation_synset_labels.txt': b'65\n970\n'})
    assert "expected one synset such as n01440764 a line, found '65 970'" in refused(
        capsys, source, tmp_path / 'out'
    )


def test_extracted_folders(tmp_path):
    source = tmp_path / 'source'
    for synset, files in train_images().items():
        write(source / 'train' / synset, files)
    write(source / 'val', val_images())  # flat, as val.tar unpacks
    write(source, synset_list())
    run(source, tmp_path / 'flat')
    shutil.rmtree(str(source / 'val'))
    for (name, data), synset in zip(val_images().items(), VAL_LABELS):
        write(source / 'val' / synset, {name: data})
    run(source, tmp_path / 'sorted')
    for split in ('train', 'val'):
        one, two = (
            sorted(read(tmp_path / form / split), key=lambda record: record['filename'])
            for form in ('flat', 'sorted')
        )
        assert one == two and described(tmp_path / 'sorted' / split)['name'] == 'imagenet'


@pytest.mark.parametrize(
    'damage, message',
    [
        (
            'a class',
            (
                r'8 images of 2 classes, ILSVRC2012 train has 12 of 3 (missing: n01443537);'
                r' complete it, or use what is there with --no_verify'
            ),
        ),
        ('an image', '11 images of 3 classes, ILSVRC2012 train has 12 of 3; complete it'),
    ],
)
def test_incomplete_archives(official, tmp_path, capsys, damage, message):
    content = train_images()
    if damage == 'a class':
        content.pop('n01443537')
    else:
        content['n01443537'].popitem()
    write(
        official,
        {
            'ILSVRC2012_img_train.tar': train_tar(content),
            'synset_words.txt': ''.join('%s %s\n' % item for item in WORDS.items()).encode(),
        },
    )
    assert message in refused(capsys, official, tmp_path / 'out')
    run(official, tmp_path / 'out', '--no_verify', '--split', 'train')
    assert described(tmp_path / 'out' / 'train')['count'] == sum(map(len, content.values()))


@pytest.mark.parametrize(
    'content, message',
    [
        (lambda: train_tar()[:20000], 'not a whole tar archive'),
        (lambda: b'hello' * 1000, 'not a whole tar archive'),
        (lambda: tar(val_images()), 'it is not the ILSVRC2012 training archive'),
    ],
)
def test_archives_that_are_none(official, tmp_path, capsys, content, message):
    write(official, {'ILSVRC2012_img_train.tar': content()})
    line = refused(capsys, official, tmp_path / 'out')
    assert message in line and 'ILSVRC2012_img_train.tar' in line


def test_limit_per_class(official, tmp_path):
    run(official, tmp_path / 'out', '--limit_per_class', 2)
    first = {name for synset, files in train_images().items() for name in sorted(files)[:2]}
    assert {record['filename'] for record in read(tmp_path / 'out' / 'train')} == first and len(
        first
    ) == 6
    assert sorted(record['class/label'] for record in read(tmp_path / 'out' / 'val')) == [
        1,
        1,
        2,
        3,
        3,
    ]


# Odd and damaged images


def test_odd_images_become_rgb_jpegs(official, tmp_path):
    """ImageNet has a PNG that is called .JPEG and JPEGs in CMYK; grey ones are legal. What they are
    is told by content.
    """
    content = train_images()
    odd = {
        'n02105855_2933.JPEG': image(1, 'PNG'),
        'n02105855_1.JPEG': image(2, mode='CMYK', quality=100),
        'n02105855_2.JPEG': image(3, mode='L'),
        'n02105855_3.JPEG': image(4, 'PNG', 'RGBA'),
    }
    content['n02105855'] = odd
    write(official, {'ILSVRC2012_img_train.tar': train_tar(content)})
    run(official, tmp_path / 'out', '--split', 'train')
    found = {record['filename']: record for record in read(tmp_path / 'out' / 'train')}
    assert (
        found['n02105855_2.JPEG']['encoded'] == odd['n02105855_2.JPEG']
        and found['n01440764_7.JPEG']['encoded'] == content['n01440764']['n01440764_7.JPEG']
    )
    for name, seed in (
        ('n02105855_2933.JPEG', 1),
        ('n02105855_1.JPEG', 2),
        ('n02105855_3.JPEG', 4),
    ):
        decoded = Image.open(io.BytesIO(found[name]['encoded']))
        original = pixels(seed, 30 + seed % 7, 40 + seed % 5)
        assert (
            decoded.format == 'JPEG'
            and decoded.mode == 'RGB'
            and (found[name]['height'], found[name]['width']) == original.shape[:2]
        )
        assert np.abs(np.asarray(decoded).astype(int) - original).mean() < 2


def damage(official, *names):
    content = train_images()
    for name in names:
        content[name[:9]][name] = content[name[:9]][name][:-100]
    write(official, {'ILSVRC2012_img_train.tar': train_tar(content)})


def test_unreadable_images_are_named(official, tmp_path, capsys):
    damage(official, 'n01443537_17.JPEG')
    line = refused(capsys, official, tmp_path / 'out', '--split', 'train')
    assert (
        'ILSVRC2012_img_train.tar: n01443537_17.JPEG is not a usable image (image file is truncated'
        in line
        and '--skip_corrupt N' in line
    )
    run(official, tmp_path / 'out', '--split', 'train', '--skip_corrupt', 1, '--shards', 3)
    assert 'warning: left out: ' in capsys.readouterr().err
    assert 'n01443537_17.JPEG' not in {
        record['filename'] for record in read(tmp_path / 'out' / 'train')
    }
    metadata = described(tmp_path / 'out' / 'train')
    assert (
        metadata['count']
        == 11
        == sum(shard['records'] for shard in metadata['shards'])
        == records.Folder.open(tmp_path / 'out' / 'train').count
    )


def test_more_unreadable_images_than_allowed(official, tmp_path, capsys):
    names = ['n01443537_17.JPEG', 'n01440764_7.JPEG', 'n02105855_37.JPEG']
    damage(official, *names)
    line = refused(
        capsys, official, tmp_path / 'out', '--split', 'train', '--skip_corrupt', 2, '--shards', 12
    )
    assert '3 items cannot be used, --skip_corrupt 2 allows fewer' in line and all(
        name in line for name in names
    )


# Restart


def test_finished_files_survive_an_interruption(tmp_path, capsys):
    for synset, files in train_images().items():
        write(tmp_path / 'source' / 'train' / synset, files)
    run(tmp_path / 'source', tmp_path / 'clean', '--shards', 4)
    last = read(tmp_path / 'clean' / 'train')[-1]
    file = tmp_path / 'source' / 'train' / last['class/synset'] / last['filename']
    file.write_bytes(b'broken')
    assert str(file) in refused(capsys, tmp_path / 'source', tmp_path / 'out', '--shards', 4)
    unfinished = tmp_path / 'out' / '.train.unfinished'
    kept = {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in unfinished.glob('train-*.tfrecord')
    }
    assert sorted(kept) == ['train-%05d-of-00004.tfrecord' % shard for shard in range(3)]
    file.write_bytes(last['encoded'])
    run(tmp_path / 'source', tmp_path / 'out', '--shards', 4)
    for path in (tmp_path / 'clean' / 'train').iterdir():
        assert path.read_bytes() == (tmp_path / 'out' / 'train' / path.name).read_bytes()
    assert {
        name: (
            (tmp_path / 'out' / 'train' / name).stat().st_ino,
            (tmp_path / 'out' / 'train' / name).stat().st_mtime_ns,
        )
        for name in kept
    } == kept
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['train']
    assert len(list((tmp_path / 'out' / 'train').iterdir())) == len(
        list((tmp_path / 'clean' / 'train').iterdir())
    )


def test_a_prepared_split_stays(official, tmp_path, capsys):
    run(official, tmp_path / 'out')
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*')}
    capsys.readouterr()
    run(official, tmp_path / 'out', '--limit_per_class', 1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / 'out').rglob('*')} == before
    assert 'train: already there (12 records), left as it is' in capsys.readouterr().err
    shutil.rmtree(str(tmp_path / 'out' / 'val'))
    (tmp_path / 'empty').mkdir()
    run(tmp_path / 'empty', tmp_path / 'out')
    assert 'empty: holds neither ILSVRC2012_img_val.tar nor val/\n' in capsys.readouterr().err
    assert (tmp_path / 'out' / 'train').is_dir()
    write(tmp_path / 'other' / 'train', {'a.txt': b'mine'})
    with pytest.raises(SystemExit):
        run(official, tmp_path / 'other')
    assert list((tmp_path / 'other').rglob('*')) == [
        tmp_path / 'other' / 'train',
        tmp_path / 'other' / 'train' / 'a.txt',
    ]


# One's own images


def own(folder, **counts):
    for j, (name, count) in enumerate(sorted(counts.items())):
        write(
            folder / name,
            {
                '%s %d.%s' % (name, i, ['jpg', 'png', 'JPG'][i % 3]): image(
                    j * 50 + i, ['JPEG', 'PNG', 'JPEG'][i % 3]
                )
                for i in range(count)
            },
        )
    return folder


def test_own_images(tmp_path, capsys):
    own(tmp_path / 'pets' / 'train', dog=4, cat=3, bird=5)
    own(tmp_path / 'pets' / 'val', dog=2, bird=1)
    write(tmp_path / 'pets' / 'train' / 'dog', {'notes.txt': b'x', '.DS_Store': b'x'})
    run(tmp_path / 'pets', tmp_path / 'out', '--label_offset', 0)
    err = capsys.readouterr().err
    assert (
        'notes.txt' in err
        and '.DS_Store' not in err
        and 'warning: val has no image of 1 of the 3 classes: cat' in err
    )
    for split, counts in (('train', [5, 3, 4]), ('val', [1, 0, 2])):
        found = read(tmp_path / 'out' / split)
        assert (
            np.bincount([record['class/label'] for record in found], minlength=3).tolist() == counts
        )
        assert all(
            record['filename'].startswith(['bird', 'cat', 'dog'][record['class/label']])
            for record in found
        )
        metadata = described(tmp_path / 'out' / split)
        assert (
            metadata['classes'] == metadata['synsets'] == ['bird', 'cat', 'dog']
            and metadata['name'] == 'pets'
        )


def test_splits_number_classes_alike(tmp_path, capsys):
    own(tmp_path / 'pets' / 'train', dog=4, cat=3)
    own(tmp_path / 'pets' / 'val', dog=2, ant=1)
    assert 'val has classes that the other split lacks: ant' in refused(
        capsys, tmp_path / 'pets', tmp_path / 'out'
    )
    run(tmp_path / 'pets', tmp_path / 'out', '--split', 'train')
    shutil.rmtree(str(tmp_path / 'pets' / 'val' / 'ant'))
    with pytest.raises(SystemExit):
        run(tmp_path / 'pets', tmp_path / 'out', '--label_offset', 0)
    assert (
        '--label_offset 0: the other split in %s was prepared with 1' % (tmp_path / 'out')
        in capsys.readouterr().err
    )
    run(tmp_path / 'pets', tmp_path / 'out')  # without cat: dog keeps its number
    assert [record['class/label'] for record in read(tmp_path / 'out' / 'val')] == [2, 2]


def test_names_of_own_classes(tmp_path):
    source = own(tmp_path / 'pets' / 'train', d1=2, c1=1).parent
    write(source, {'words.txt': 'd1\tDackel, böse\nx1 unused\n'.encode()})
    run(source, tmp_path / 'out')
    metadata = described(tmp_path / 'out' / 'train')
    assert metadata['classes'] == ['c1', 'Dackel, böse'] and metadata['synsets'] == ['c1', 'd1']
    assert {record['class/text'] for record in read(tmp_path / 'out' / 'train')} == {
        'c1',
        'Dackel, böse',
    }


def test_folders_of_classes_need_a_split(tmp_path, capsys):
    source = own(tmp_path / 'pets', dog=10, cat=6, bird=1)
    assert 'give --split train or --split val' in refused(capsys, source, tmp_path / 'out')
    run(source, tmp_path / 'all', '--split', 'val')
    assert len(read(tmp_path / 'all' / 'val')) == 17 and not (tmp_path / 'all' / 'train').exists()


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--limit_per_class', '0'], '--limit_per_class: found 0, give a whole number, 1 or more'),
        ([], 'no image'),
        (['--source', 'absent'], 'absent: no such folder'),
    ],
)
def test_mistakes(tmp_path, capsys, flags, message):
    source = own(tmp_path / 'pets' / 'train', dog=2).parent
    write(source / 'train' / 'cat', {'cat.txt': b'no image'})
    assert message in refused(capsys, source, tmp_path / 'out', *flags)


# Digits


def nearest_digits(images):
    """Which of scikit-learn's digits each image shows; a few are so alike that it is another of the
    same class.
    """
    known = load_digits().data
    small = [
        cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).ravel() * (16 / 255)
        for image in images
    ]
    return [int(np.square(known - one).sum(1).argmin()) for one in small]


def test_digits(tmp_path):
    run('digits', tmp_path / 'out')
    seen = {}
    for split, count in (('train', 1437), ('val', 360)):
        found = read(tmp_path / 'out' / split)
        assert len(found) == count == described(tmp_path / 'out' / split)['count'] and {
            record['height'] for record in found
        } == {72}
        seen[split] = nearest_digits(
            [
                cv2.imdecode(np.frombuffer(record['encoded'], np.uint8), cv2.IMREAD_GRAYSCALE)
                for record in found
            ]
        )
        assert np.array_equal(
            load_digits().target[seen[split]] + 1, [record['class/label'] for record in found]
        )
        assert described(tmp_path / 'out' / split)['classes'] == [str(i) for i in range(10)]
    assert (
        len(set(seen['train']) | set(seen['val'])) >= 1790
        and len(set(seen['train']) & set(seen['val'])) <= 5
    )
    assert (
        len(set(nearest_digits(digits.load(32)['test'][0])) ^ set(seen['val'])) <= 5
    )  # WideResNet's digits are split alike
