"""xception_tf.prepare_imagenet on small archives in the official layouts, read back with
TensorFlow.
"""

import io
import pathlib
import shutil

import pytest
import tensorflow as tf
from imagenet_archives import (
    SYNSETS,
    VAL_LABELS,
    WORDS,
    class_names,
    kit,
    read,
    run,
    synset_list,
    train_images,
    val_images,
)
from PIL import Image
from preparing import contents, described, tar, write_files

from common.data import pipeline, record_writer
from xception_tf import imagenet, imagenet_labels, input_pipeline
from xception_tf.config import XceptionConfig
from xception_tf.task import TASK

pytestmark = pytest.mark.usefixtures('small_imagenet')


def test_official_archives(official, tmp_path):
    write_files(official, {'LOC_synset_mapping.txt': class_names()})
    run(official, tmp_path / 'out')
    expected = {}
    for number, (synset, files) in enumerate(train_images().items(), 1):
        for name, data in files.items():
            width, height = Image.open(io.BytesIO(data)).size
            expected[name] = {
                'encoded': data,
                'format': 'JPEG',
                'colorspace': 'RGB',
                'filename': name,
                'class/synset': synset,
                'class/text': WORDS[synset],
                'class/label': number,
                'height': height,
                'width': width,
                'channels': 3,
            }
    found = read(tmp_path / 'out' / 'train')
    assert len(found) == 12 and {record['filename']: record for record in found} == expected
    labels = [record['class/label'] for record in found]
    assert sorted(labels) == [1] * 4 + [2] * 4 + [3] * 4
    assert labels != sorted(labels) and labels[::-1] != sorted(labels)  # mixed
    found = read(tmp_path / 'out' / 'val')
    assert {record['filename']: record['class/synset'] for record in found} == dict(
        zip(val_images(), VAL_LABELS)
    )


def test_metadata(official, tmp_path):
    write_files(official, {'LOC_synset_mapping.txt': class_names()})
    run(official, tmp_path / 'out')
    for split, count in (('train', 12), ('val', 5)):
        metadata = described(tmp_path / 'out' / split)
        keys = ('name', 'split', 'count', 'label_offset', 'synsets', 'classes')
        expected = ['imagenet', split, count, 1, SYNSETS, list(WORDS.values())]
        assert [metadata[key] for key in keys] == expected
        features = read(tmp_path / 'out' / split)[0]
        assert set(metadata['schema']) == {'image/' + key for key in features}


def test_the_same_source_gives_the_same_bytes(official, tmp_path):
    for output in ('a', 'b'):
        run(official, tmp_path / output, '--shards', 2)
    files = contents(tmp_path / 'a')
    assert sorted(file.name for file in files if file.suffix == '.tfrecord') == [
        '%s-%05d-of-00002.tfrecord' % (split, shard)
        for split in ('train', 'val')
        for shard in range(2)
    ]
    assert files == contents(tmp_path / 'b')


def test_number_of_files_of_the_whole_of_imagenet(official, tmp_path, monkeypatch):
    found, one = {}, imagenet.File('x', 0, 0, 'x')

    def write(path, items, *_, split, shards, **__):
        found[split] = len(items), shards

    def find(source, split, _):
        images = [one] * {'train': 1281, 'val': 50}[split]
        return {'n%08d' % i: images for i in range(1000)}, True

    monkeypatch.setattr(record_writer, 'write', write)
    monkeypatch.setattr(imagenet, 'check', lambda *_: None)
    monkeypatch.setattr(imagenet, 'find', find)
    run(official, tmp_path / 'out')
    assert found == {'train': (1281000, 1024), 'val': (50000, 128)}


@pytest.mark.parametrize('offset', [0, 1])
def test_label_convention_is_honoured_by_the_reader(official, tmp_path, offset):
    run(official, tmp_path / 'out', '--label_offset', offset, '--split', 'val')
    labels = sorted(record['class/label'] for record in read(tmp_path / 'out' / 'val'))
    assert labels == [offset, offset, offset + 1, offset + 2, offset + 2]
    assert described(tmp_path / 'out' / 'val')['label_offset'] == offset
    cfg = XceptionConfig(image_size=71, num_classes=3, data_path=str(tmp_path / 'out'))
    with tf.Graph().as_default(), tf.Session() as session:
        dataset = pipeline.dataset(TASK, pipeline.open_split(TASK, cfg, 'val'), cfg, 5, False)
        features = session.run(dataset.make_one_shot_iterator().get_next())
    found = zip(features['image'], features['label'])
    assert {image.tobytes(): label for image, label in found} == {
        input_pipeline.decode(data, cfg).tobytes(): SYNSETS.index(synset)
        for data, synset in zip(val_images().values(), VAL_LABELS)
    }


@pytest.mark.parametrize(
    'form', ['packed', 'unpacked', 'its data', 'beside', 'a file in it', 'a list of another name']
)
def test_classes_of_the_validation_images(tmp_path, form):
    source, other = tmp_path / 'source', tmp_path / 'elsewhere'
    write_files(source, {'ILSVRC2012_img_val.tar': tar(val_images())})
    flags = []
    if form == 'packed':
        write_files(source, {'ILSVRC2012_devkit_t12.tar.gz': tar(kit(), 'w:gz')})
    elif form == 'unpacked':
        write_files(source, kit())
    elif form == 'beside':
        write_files(source, {pathlib.Path(name).name: data for name, data in kit().items()})
    elif form == 'a list of another name':
        (labels,) = synset_list().values()
        flags = ['--val_labels', write_files(other, {'labels.txt': labels}) / 'labels.txt']
    else:
        folder = write_files(other, kit()) / 'ILSVRC2012_devkit_t12'
        file = folder / 'data' / imagenet_labels.GROUND_TRUTH
        flags = ['--val_labels', folder if form == 'its data' else file]
    run(source, tmp_path / 'out', *flags)
    found = {
        record['filename']: (record['class/synset'], record['class/label'])
        for record in read(tmp_path / 'out' / 'val')
    }
    expected = [(synset, SYNSETS.index(synset) + 1) for synset in VAL_LABELS]
    assert found == dict(zip(val_images(), expected))
    if form in ('packed', 'unpacked', 'beside'):  # the kit tells their names too
        assert described(tmp_path / 'out' / 'val')['classes'] == list(WORDS.values())


def test_extracted_folders(tmp_path):
    source = tmp_path / 'source'
    for synset, files in train_images().items():
        write_files(source / 'train' / synset, files)
    write_files(source / 'val', val_images())  # flat, as val.tar unpacks
    write_files(source, synset_list())
    run(source, tmp_path / 'flat')
    shutil.rmtree(str(source / 'val'))
    for (name, data), synset in zip(val_images().items(), VAL_LABELS):
        write_files(source / 'val' / synset, {name: data})
    run(source, tmp_path / 'sorted')
    for split in ('train', 'val'):
        flat, in_classes = (
            {record['filename']: record for record in read(tmp_path / form / split)}
            for form in ('flat', 'sorted')
        )
        assert flat == in_classes and len(flat) == {'train': 12, 'val': 5}[split]
        assert described(tmp_path / 'sorted' / split)['name'] == 'imagenet'


def test_limit_per_class(official, tmp_path):
    run(official, tmp_path / 'out', '--limit_per_class', 2)
    first = {name for files in train_images().values() for name in sorted(files)[:2]}
    assert {record['filename'] for record in read(tmp_path / 'out' / 'train')} == first
    assert len(first) == 6
    labels = sorted(record['class/label'] for record in read(tmp_path / 'out' / 'val'))
    assert labels == [1, 1, 2, 3, 3]
