"""resnest_tf.input_pipeline from records to batches, and what it does on the device; crops and
colours have files of their own.
"""

import functools
import itertools
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_records
from crops import cfg, classes, crop, picture

from common import benchmark
from common.data import records, sampling
from common.errors import UserError
from resnest_tf import input_pipeline
from resnest_tf.input_pipeline import DRAWS, Draws
from resnest_tf.rasters import Rasters


def write(folder, pairs, named=True, **changes):
    """A folder of TFRecords, written by TensorFlow; changes: features to replace in all records,
    None: to leave out.
    """
    rows = []
    for i, (image, label) in enumerate(pairs):
        height, width = image.shape[:2]
        values = dict(image=image.tobytes(), label=label.tobytes(), height=height, width=width)
        values.update({'filename': b'frankfurt_000000_%06d' % i} if named else {})
        values.update({'channels': 3, **changes})
        rows.append({key: value for key, value in values.items() if value is not None})
    return tensorflow_records.write(folder / 'a.tfrecord', rows)


def pipeline(folder, settings, training, batch_size, **position):
    draws = DRAWS if training else 0
    return sampling.batches(folder, batch_size, training=training, draws=draws, **position).map(
        lambda batch: input_pipeline.parse(batch, folder, settings, training), num_parallel_calls=2
    )


def run(folder, settings, training=False, batch_size=2, **position):
    """The features of all batches as NumPy."""
    opened = records.Folder.open(folder)
    with tf.Graph().as_default():
        return tensorflow_records.elements_of_known_shape(
            pipeline(opened, settings, training, batch_size, **position)
        )


# Records


@pytest.mark.parametrize('named', [True, False])
@pytest.mark.parametrize('variant, step', [('paper', -1), ('port', 1)])
def test_evaluation_gives_whole_images(tmp_path, named, variant, step):
    pairs = [(picture(seed=i), classes(seed=i)) for i in range(3)]
    batches = run(write(tmp_path, pairs, named), cfg(variant=variant))
    assert [{key: value.dtype.name for key, value in batch.items()} for batch in batches] == [
        {'image': 'uint8', 'label': 'uint8', 'mask': 'float32', 'id': 'int32'}
    ] * 2
    everything = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    assert everything['id'].tolist() == [0, 1, 2, 0] and everything['mask'].tolist() == [1, 1, 1, 0]
    for i, number in enumerate([0, 1, 2, 0]):
        assert np.array_equal(everything['image'][i], pairs[number][0][..., ::step])
        assert np.array_equal(everything['label'][i], pairs[number][1])


@pytest.mark.parametrize('named', [True, False])
def test_training_gives_crops(tmp_path, named):
    """Images of several sizes, one smaller than the crop."""
    sizes = [(128, 256), (60, 300), (90, 80), (20, 30)]
    pairs = [(picture(*size), classes(*size)) for size in sizes]
    settings = cfg(photometric=False)
    folder = write(tmp_path, pairs, named)
    batches = run(folder, settings, training=True, steps=2, seed=5)
    for batch in batches:
        assert {key: (value.dtype.name, value.shape) for key, value in batch.items()} == {
            'image': ('uint8', (2, 48, 96, 3)),
            'label': ('uint8', (2, 48, 96)),
            'mask': ('float32', (2,)),
        }
    images, labels = (
        np.concatenate([batch[key] for batch in batches]) for key in ('image', 'label')
    )
    order = np.random.RandomState([5, 0]).permutation(4)
    for image, label, number in zip(images, labels, order):
        draws = Draws(*sampling.uniform(5, 0, [number], DRAWS)[0].tolist())
        pixels, found = crop(*pairs[number], draws, settings)
        assert np.array_equal(image, pixels) and np.array_equal(label, found)
    settings = cfg(photometric=False, variant='port')  # the same pixels, in its order
    port = run(folder, settings, training=True, steps=2, seed=5)
    assert np.array_equal(np.concatenate([batch['image'] for batch in port]), images[..., ::-1])


def test_later_reads_are_of_the_rows_alone(tmp_path):
    """Whole and checked the first time, or each time with --verify_records."""
    pairs = [(picture(seed=i), classes(seed=i)) for i in range(2)]
    folder = records.Folder.open(write(tmp_path, pairs))
    rasters, checked = Rasters(folder, 19, False), Rasters(folder, 19, True)
    for raster in (rasters[1], rasters[1], checked[1], checked[1]):
        assert np.array_equal(raster.image(30, 50), pairs[1][0][30:80])
        assert np.array_equal(raster.label(30, 50), pairs[1][1][30:80])
    assert rasters[1].arrays is None and checked[1].arrays is not None
    content = bytearray((tmp_path / 'a.tfrecord').read_bytes())
    content[-1000] ^= 1
    (tmp_path / 'a.tfrecord').write_bytes(bytes(content))
    rasters[1].image(0, 5)  # not noticed any more
    for fresh in (checked, Rasters(folder, 19, False)):
        with pytest.raises(UserError, match='does not match its checksum'):
            fresh[1]
    (tmp_path / 'a.tfrecord').write_bytes(bytes(content[:-5000]))
    with pytest.raises(ValueError, match='its file has become shorter'):
        rasters[1].label(0, 128), rasters[1].image(0, 128)


SMALL = picture(10, 20), np.zeros((10, 20), np.uint8)


def marked(value):
    label = SMALL[1].copy()
    label[7, 3] = value
    return label.tobytes()


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(image=bytes(599)), 'its image has 599 bytes, 10 x 20 pixels are 600'),
        (dict(image=None), 'its image has 0 bytes'),
        (dict(label=bytes(201)), 'its label has 201 bytes, 10 x 20 pixels are 200'),
        (dict(label=None), 'its label has 0 bytes'),
        (dict(height=11), 'its image has 600 bytes, 11 x 20 pixels are 660'),
        (dict(channels=1), 'width 20 and 1 channels'),
        (dict(channels=4, image=bytes(800)), '4 channels'),
        (dict(height=None), 'height 0'),
        (dict(width=0, image=b'', label=b''), 'width 0'),
        (
            dict(label=marked(19)),
            'it has label 19; with --num_classes 19 legal are 0 to 18, and 255',
        ),
        (dict(label=marked(254)), 'it has label 254'),
    ],
)
def test_bad_records_are_named(tmp_path, changes, message, training):
    settings = cfg(image_height=10, image_width=20)
    write(tmp_path / 'good', [SMALL])
    write(tmp_path / 'bad', [SMALL], **changes)
    both = write(tmp_path / 'both', [])
    parts = [(tmp_path / part / 'a.tfrecord').read_bytes() for part in ('good', 'bad')]
    (both / 'a.tfrecord').write_bytes(b''.join(parts))
    with pytest.raises(tf.errors.OpError) as caught:
        run(both, settings, training, batch_size=1, steps=20)
    line = str(records.user_error(caught.value))
    assert line.startswith('%s/a.tfrecord: record 1 at byte ' % both)
    assert ' (frankfurt_000000_000000): ' in line and message in line


@pytest.mark.parametrize('value', [0, 18, 255])
def test_legal_labels(tmp_path, value):
    folder = write(tmp_path, [SMALL], label=marked(value))
    (batch,) = run(folder, cfg(image_height=10, image_width=20), batch_size=1)
    assert batch['label'][0, 7, 3] == value


def test_evaluation_refuses_another_size(tmp_path):
    folder = write(tmp_path, [SMALL], named=False)
    with pytest.raises(tf.errors.OpError) as caught:
        run(folder, cfg(image_height=20, image_width=10))
    assert (
        str(records.user_error(caught.value))
        == '%s/a.tfrecord: record 0 at byte 0: it is 10 x 20 (height x width), evaluation'
        ' takes 20 x 10; give --image_height 10 --image_width 20' % folder
    )


# Randomness


def test_augmentation_is_a_function_of_seed_epoch_and_record(tmp_path):
    pairs = [(picture(64, 100 + i, seed=i), np.full((64, 100 + i), i, np.uint8)) for i in range(12)]
    folder, settings = write(tmp_path, pairs), cfg(crop_height=32, crop_width=32)

    def epoch(batch_size, start, steps, seed=3, **place):
        place.update(start_step=start, steps=steps, seed=seed)
        return {
            int(label.min()): (image.tobytes(), label.tobytes())
            for batch in run(folder, settings, True, batch_size, **place)
            for label, image in zip(batch['label'], batch['image'])
        }

    one = epoch(4, 0, 3)
    assert sorted(one) == list(range(12)) and len({image for image, _ in one.values()}) == 12
    assert epoch(4, 0, 3) == one and epoch(1, 0, 12) == one
    ranks = [epoch(2, 0, 3, rank=rank, size=2) for rank in range(2)]
    assert {**ranks[0], **ranks[1]} == one and not set(ranks[0]) & set(ranks[1])
    resumed = epoch(4, 1, 2)
    assert len(resumed) == 8 and all(one[record] == found for record, found in resumed.items())
    for other in (epoch(4, 3, 3), epoch(4, 0, 3, seed=4)):  # the next epoch, another seed
        assert set(other) == set(one) and all(other[record][0] != one[record][0] for record in one)


# On the device


@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
def test_normalize(dtype):
    images = np.random.RandomState(0).randint(0, 256, (2, 5, 7, 3)).astype(dtype)
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet's, RGB
    for variant, order in (('paper', 1), ('port', -1)):
        with tf.Graph().as_default(), tf.Session() as session:
            tensor = input_pipeline.normalize(tf.constant(images), cfg(variant=variant))
            found = session.run(tensor)
        expected = (images.astype(np.float64) / 255 - mean[::order]) / deviation[::order]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
        by_channel = input_pipeline.channel_statistics(cfg(variant=variant))
        expected = (images - np.array(by_channel[0])) / by_channel[1]
        np.testing.assert_allclose(found, expected, atol=1e-5)


# Measurement


def test_baseline_is_the_ports_way(tmp_path, monkeypatch):
    """Fixed size crops of both schemas, float32; image and label are cropped and mirrored alike."""
    clock = itertools.count()  # seconds
    monkeypatch.setattr(benchmark, 'time', types.SimpleNamespace(perf_counter=clock.__next__))
    labels = [np.random.RandomState(i).randint(0, 2, (60, 110)).astype(np.uint8) for i in range(4)]
    pairs = [(np.repeat(200 * label[..., None] + 20, 3, -1), label) for label in labels]
    for named in (True, False):
        folder = records.Folder.open(write(tmp_path / str(named), pairs, named))
        port = input_pipeline.baselines(folder, cfg())['port']
        with tf.Graph().as_default(), tf.Session() as session:
            features = port().make_one_shot_iterator().get_next()
            # More than the four records: it repeats.
            found = [session.run(features) for _ in range(5)]
        for batch in found:
            assert batch['image'].shape == (2, 48, 96, 3) and batch['image'].dtype == np.float32
            assert batch['label'].shape == (2, 48, 96)
            for image, label in zip(batch['image'], batch['label']):
                assert image[label == 1].min() > image[label == 0].max() + 0.5
        assert len({batch['label'].tobytes() for batch in found}) == 5
        for dataset in (port, functools.partial(pipeline, folder, cfg(), True, 2)):
            assert benchmark.input_rate(dataset, 2, 1) == 2
