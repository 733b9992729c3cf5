"""From records of the published port to batches, which the host augments by seed, epoch and record
alone.
"""

import numpy as np
import pytest
import tensorflow as tf

from common.data import pipeline, record_writer, records, sampling, tfrecord
from common.errors import UserError
from wideresnet_tf import input_pipeline
from wideresnet_tf.config import WideResNetConfig


def take(dataset, count):
    """The first elements of a dataset, each a dict of arrays."""
    with tf.Session() as session:
        element = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
        return [session.run(element) for _ in range(count)]


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


def features(
    data, cfg, batch_size, count, training=True, split='train', with_ids=False, **position
):
    folder = records.Folder.open(data / split)
    draws = input_pipeline.DRAWS if training else 0
    batches = sampling.batches(folder, batch_size, training=training, draws=draws, **position)

    def parse(batch):
        parsed = input_pipeline.parse(batch, folder, cfg, training)
        return dict(parsed, id=batch['id']) if with_ids else parsed

    return take(batches.map(parse), count)


# The published schema


def test_evaluation_batches_are_the_records_in_order(data, images_and_labels):
    images, labels = images_and_labels(21, seed=2)
    cfg = WideResNetConfig(crop_pad=4, flip=True, mixup=0.5, brightness=63.0)
    batches = features(data, cfg, 8, 3, training=False, split='test')
    assert [sorted(batch) for batch in batches] == [['id', 'image', 'label', 'mask']] * 3
    found = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    dtypes = {'image': np.uint8, 'label': np.int32, 'mask': np.float32}
    assert {key: found[key].dtype for key in dtypes} == dtypes
    assert found['id'][:21].tolist() == list(range(21))
    assert found['mask'].tolist() == [1] * 21 + [0] * 3
    np.testing.assert_array_equal(found['image'][:21], images)
    np.testing.assert_array_equal(found['label'][:21], labels)


def test_image_is_rows_columns_channels(tmp_path, port_records):
    image = np.arange(3072).astype(np.uint8).reshape(32, 32, 3)
    port_records(tmp_path / 'train' / 'a.tfrecord', [image], [3])
    found = features(tmp_path, WideResNetConfig(), 1, 1, training=False)[0]['image'][0]
    assert found[0, 1].tolist() == [3, 4, 5] and found[1, 0].tolist() == [96, 97, 98]


@pytest.mark.parametrize('label', ['fine_label', 'coarse_label'])
def test_label_is_the_feature_that_is_asked_for(label, tmp_path, port_records, images_and_labels):
    labels = {'fine_label': [40, 41, 42, 99], 'coarse_label': [0, 1, 2, 19]}
    images, _ = images_and_labels(4, seed=0)
    port_records(tmp_path / 'train' / 'a.tfrecord', images, *labels.values())
    (found,) = features(tmp_path, WideResNetConfig(label=label), 4, 1, training=False)
    assert found['label'].tolist() == labels[label]


def test_shapes_are_static(data):
    folder = records.Folder.open(data / 'train')
    cfg = WideResNetConfig(mixup=0.2, brightness=1.0)
    dataset = sampling.batches(folder, 8, training=True, draws=8).map(
        lambda batch: input_pipeline.parse(batch, folder, cfg, True)
    )
    shapes = tf.compat.v1.data.get_output_shapes(dataset)
    expected = dict(image=[8, 32, 32, 3], label=[8], mask=[8], mixup=[8], draws=[8, 8])
    assert {key: shape.as_list() for key, shape in shapes.items()} == expected


# Augmentation of the host


def test_without_augmentation_training_images_are_the_records(data, images_and_labels):
    images, labels = images_and_labels(64, seed=1)
    for batch in features(data, WideResNetConfig(crop_pad=0, flip=False), 16, 4, with_ids=True):
        np.testing.assert_array_equal(batch['image'], images[batch['id']])
        np.testing.assert_array_equal(batch['label'], labels[batch['id']])


def test_training_images_are_crops_of_their_records(data, images_and_labels):
    images, labels = images_and_labels(64, seed=1)
    seen = set()
    for batch in features(data, WideResNetConfig(), 16, 4, with_ids=True):
        for image, label, number in zip(batch['image'], batch['label'], batch['id']):
            assert label == labels[number]
            padded = np.pad(images[number], [(4, 4), (4, 4), (0, 0)], 'constant')
            places = [
                (top, left, mirror)
                for top in range(9)
                for left in range(9)
                for mirror in (1, -1)
                if np.array_equal(image[:, ::mirror], padded[top : top + 32, left : left + 32])
            ]
            assert len(places) == 1
            seen.add(places[0])
    assert len(seen) > 30 and {mirror for _, _, mirror in seen} == {1, -1}


def by_record(batches):
    """{record: what it became}, with everything that augmentation on the device will use."""
    return {
        number: {key: batch[key][i] for key in ('image', 'label', 'draws', 'mixup')}
        for batch in batches
        for i, number in enumerate(batch['id'])
    }


def test_a_record_is_augmented_alike_on_any_number_of_ranks_and_after_a_restart(data):
    cfg = WideResNetConfig(mixup=0.3, brightness=63.0)

    def epoch(batch_size, size=1, number=0):
        steps, batches = 64 // (batch_size * size), []
        for rank in range(size):
            position = dict(seed=5, rank=rank, size=size, start_step=number * steps)
            batches += features(data, cfg, batch_size, steps, with_ids=True, **position)
        return by_record(batches)

    base = epoch(16)
    assert len(base) == 64
    for other in (epoch(8), epoch(8, size=2), epoch(4, size=4), epoch(64)):
        assert sorted(other) == sorted(base)
        for number in base:
            for key, value in base[number].items():
                np.testing.assert_array_equal(other[number][key], value)
    later = epoch(16, number=1)
    same = [np.array_equal(later[number]['image'], base[number]['image']) for number in base]
    assert np.mean(same) < 0.1
    assert all((later[number]['draws'] != base[number]['draws']).any() for number in base)


def test_a_restart_goes_on_with_the_batches_that_were_next(data):
    cfg = WideResNetConfig(mixup=0.3, brightness=63.0)
    whole = features(data, cfg, 16, 6, seed=9)
    for first, batch in zip(whole[3:], features(data, cfg, 16, 3, seed=9, start_step=3)):
        for key in first:
            np.testing.assert_array_equal(batch[key], first[key])


def test_draws_and_mixup_are_there_only_if_they_are_used(data):
    assert sorted(features(data, WideResNetConfig(), 8, 1)[0]) == ['image', 'label', 'mask']
    for changes, key in (
        (dict(mixup=0.2), 'mixup'),
        (dict(brightness=1.0), 'draws'),
        (dict(contrast=0.1), 'draws'),
        (dict(cutout=8), 'draws'),
    ):
        (found,) = features(data, WideResNetConfig(**changes), 8, 1)
        assert set(found) == {'image', 'label', 'mask', key}


# Records that are not what the task needs, through the task that training uses


def drain(task, cfg, training=False):
    folder = pipeline.open_split(task, cfg, 'train')
    dataset = pipeline.dataset(task, folder, cfg, 4, training)
    try:
        take(dataset, 1)
    except tf.errors.OpError as error:
        raise records.user_error(error) or error


def test_metadata_with_other_classes_is_refused(tmp_path, configured):
    record_writer.write(
        tmp_path / 'train',
        [0, 1, 2, 3],
        example,
        name='x',
        split='train',
        classes=['a', 'b', 'c'],
        workers=1,
        schema={'image': {}, 'fine_label': {}, 'coarse_label': {}},
    )
    with pytest.raises(UserError, match='--num_classes 4: .* has 3 classes'):
        pipeline.open_split(*configured(data_path=str(tmp_path)), 'train')
    for changes in (dict(num_classes=3), dict(label='coarse_label')):
        pipeline.open_split(*configured(data_path=str(tmp_path), **changes), 'train')


def example(label):
    return {'image': bytes(3072), 'fine_label': label, 'coarse_label': 0}


@pytest.mark.parametrize('training', [True, False])
def test_labels_beyond_the_classes_are_named(
    training, tmp_path, port_records, images_and_labels, configured
):
    port_records(tmp_path / 'train' / 'a.tfrecord', images_and_labels(4, seed=0)[0], [0, 1, 2, 57])
    with pytest.raises(UserError, match='fine_label 57; legal with --num_classes 4 are 0 to 3'):
        drain(*configured(data_path=str(tmp_path), batch_size=4), training=training)


def test_a_negative_label_is_one(tmp_path, port_records, images_and_labels, configured):
    port_records(tmp_path / 'train' / 'a.tfrecord', images_and_labels(4, seed=0)[0], [0, 1, -5, 2])
    with pytest.raises(UserError, match='a.tfrecord: record 2 at byte .* it has fine_label -5'):
        drain(*configured(data_path=str(tmp_path), batch_size=4))


def test_records_of_another_schema_are_named(tmp_path, configured):
    path = tmp_path / 'train' / 'a.tfrecord'
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(4):
            writer.write(tfrecord.make_example({'image': bytes(3072), 'label': 1}))
    with pytest.raises(UserError, match=r'a.tfrecord: record 0 at byte 0: it has no fine_label'):
        drain(*configured(data_path=str(tmp_path)))


def test_images_of_another_size_are_named(tmp_path, port_records, configured):
    port_records(
        tmp_path / 'train' / 'a.tfrecord', [np.zeros((28, 28, 3), np.uint8)] * 4, [0, 1, 2, 3]
    )
    with pytest.raises(
        UserError, match='a.tfrecord: record 0 at byte 0: its image has 2352 bytes, not the 3072'
    ):
        drain(*configured(data_path=str(tmp_path)))
