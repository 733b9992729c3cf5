"""xception_tf.input_pipeline against TensorFlow's image ops, Pillow and interpolation written out
in NumPy.
"""

import functools
import io
import itertools
import json
import pathlib
import types

import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image

from common import benchmark
from common.configuration import config
from common.data import pipeline, record_writer, records, sampling
from common.errors import UserError
from xception_tf import decoding, input_pipeline
from xception_tf.config import XceptionConfig
from xception_tf.task import TASK

SIZE, CLASSES = 71, 5
PORT_RECIPE = (
    pathlib.Path(input_pipeline.__file__).parent / 'configs' / 'xception_imagenet_port.yaml'
)


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


def cfg(**changes):
    return XceptionConfig(
        **dict(dict(image_size=SIZE, num_classes=CLASSES, data_path='DATA'), **changes)
    )


@functools.lru_cache(maxsize=None)
def picture(height, width, seed=0):
    """uint8 [height, width, 3]: smooth waves, another mix in each channel."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [
        sum(np.sin(2 * np.pi * (a * y + b * x + c)) for a, b, c in random.uniform(-3, 3, (4, 3)))
        for _ in range(3)
    ]
    image = (127.5 + 30 * np.stack(waves, -1)).clip(0, 255).astype(np.uint8)
    image.setflags(write=False)
    return image


def encoded(pixels, kind='JPEG', mode='RGB', **options):
    stream = io.BytesIO()
    if kind == 'JPEG':
        options = dict(
            dict(quality=95, subsampling=0) if mode == 'RGB' else dict(quality=95), **options
        )
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def photo(height, width, seed=0, **options):
    return encoded(picture(height, width, seed), **options)


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))


def bilinear(pixels, height, width):
    """float64; pixel centres at n + 0.5, edges repeated."""
    pixels = np.asarray(pixels, np.float64)
    for axis, count in ((0, height), (1, width)):
        length = pixels.shape[axis]
        at = (np.arange(count) + 0.5) * length / count - 0.5
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        below, above = (
            np.take(pixels, np.clip(index, 0, length - 1), axis) for index in (low, low + 1)
        )
        pixels = below * (1 - share) + above * share
    return pixels


def feature(value):
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def write(folder, jpegs, labels, schema='slim', names=None):
    """A foreign folder of TFRecords, written by TensorFlow."""
    folder.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / 'a.tfrecord')) as writer:
        for i, (jpeg, label) in enumerate(zip(jpegs, labels)):
            name = (names[i] if names else 'image_%d.JPEG' % i).encode()
            if schema == 'slim':
                values = {
                    'image/encoded': jpeg,
                    'image/format': b'JPEG',
                    'image/class/synset': b'n00000000',
                    'image/filename': name,
                }
                values.update({} if label is None else {'image/class/label': label})
            else:
                values = {'image': jpeg, 'label': label, 'height': 3, 'text': b'', 'filename': name}
            writer.write(
                tf.train.Example(
                    features=tf.train.Features(
                        feature={key: feature(value) for key, value in values.items()}
                    )
                ).SerializeToString()
            )
    return folder


def run(folder, settings, training=False, batch_size=2, steps=None, **position):
    """The features of `steps` batches as NumPy, by the way that training and evaluation take."""
    folder = folder if isinstance(folder, records.Folder) else records.Folder.open(folder)
    with tf.Graph().as_default(), tf.Session() as session:
        dataset = pipeline.dataset(
            TASK, folder, settings, batch_size, training, steps=steps, **position
        )
        features = dataset.make_one_shot_iterator().get_next()
        for key, tensor in features.items():
            assert tensor.shape.is_fully_defined(), key
        found = []
        while True:
            try:
                found.append(session.run(features))
            except tf.errors.OutOfRangeError:
                return found


def complaint(folder, settings, training):
    """The one line that the user sees."""
    with pytest.raises(tf.errors.OpError) as caught:
        run(folder, settings, training, batch_size=1, steps=20)
    found = records.user_error(caught.value)
    assert found is not None, caught.value
    return str(found)


# Records


@pytest.mark.parametrize('schema, first', [('slim', 1), ('port', 0)])
def test_both_schemas(tmp_path, schema, first):
    jpegs = [photo(80, 90 + 5 * i, seed=i) for i in range(5)]
    labels = [3, 0, 4, 1, 2]
    batches = run(write(tmp_path, jpegs, [label + first for label in labels], schema), cfg())
    assert np.concatenate([batch['label'] for batch in batches]).tolist() == labels + [
        3
    ]  # the last batch is filled up with record 0
    assert np.concatenate([batch['mask'] for batch in batches]).tolist() == [1, 1, 1, 1, 1, 0]
    assert {
        (batch['image'].dtype.name, batch['label'].dtype.name, tuple(sorted(batch)))
        for batch in batches
    } == {('uint8', 'int32', ('id', 'image', 'label', 'mask'))}
    for i, pixels in enumerate(np.concatenate([batch['image'] for batch in batches])[:5]):
        assert np.array_equal(pixels, input_pipeline.decode(jpegs[i], cfg()))


def described(path, offset, labels):
    """A folder of our own: with dataset.json."""
    record_writer.write(
        path,
        [{'image/encoded': photo(80, 80), 'image/class/label': label} for label in labels],
        dict,
        name='x',
        split=path.name,
        schema={'image/encoded': {}, 'image/class/label': {}},
        workers=1,
        metadata={'label_offset': offset},
    )
    return path


@pytest.mark.parametrize('offset', [0, 1])
def test_label_offset_of_dataset_json(tmp_path, offset, capsys):
    described(tmp_path / 'train', offset, [offset, offset + 4])
    settings = cfg(data_path=str(tmp_path))
    assert run(pipeline.open_split(TASK, settings, 'train'), settings)[0]['label'].tolist() == [
        0,
        4,
    ]
    described(tmp_path / 'val', 1 - offset, [1])
    with pytest.raises(
        UserError,
        match='label_offset: found %d, but the labels in %s/val start at %d'
        % (offset, tmp_path, 1 - offset),
    ):
        run(
            pipeline.open_split(TASK, settings, 'val'),
            cfg(data_path=str(tmp_path), label_offset=offset),
        )
    assert run(pipeline.open_split(TASK, settings, 'val'), settings)[0]['label'].tolist() == [
        offset,
        offset,
    ]


def test_label_offset_of_the_recipe(tmp_path):
    folder = write(tmp_path, [photo(80, 80)] * 2, [0, 4])
    assert run(folder, cfg(label_offset=0))[0]['label'].tolist() == [0, 4]
    for training in (False, True):
        assert (
            complaint(folder, cfg(), training)
            == '%s/a.tfrecord: record 0 at byte 0 (image_0.JPEG): it has label 0; with'
            ' --num_classes 5 and --label_offset 1 legal are 1 to 5' % folder
        )
    assert (
        '(image_1.JPEG): it has label 4; with --num_classes 4 and --label_offset 0 legal'
        ' are 0 to 3' in complaint(folder, cfg(label_offset=0, num_classes=4), False)
    )
    assert 'record 0 at byte 0 (n.JPEG): it has no label' in complaint(
        write(tmp_path / 'none', [photo(80, 80)], [None], names=['n.JPEG']), cfg(), False
    )


# Images that are not what they should be


def damaged():
    good = photo(100, 120)
    noise = np.random.RandomState(0).bytes(500)
    return {
        'cut': good[: len(good) // 2],
        'header': good[:30],
        'garbage': noise,
        'empty': b'',
        'start': b'\xff\xd8' + noise,
        'flat': good[: good.index(b'\xff\xc0') + 5]
        + bytes(4)
        + good[good.index(b'\xff\xc0') + 9 :],
    }


@pytest.mark.parametrize('way', ['random', 'plain', 'resize_crop'])
@pytest.mark.parametrize('kind', sorted(damaged()))
def test_damaged_images_are_named(tmp_path, kind, way):
    data = damaged()[kind]
    settings = cfg(eval_preprocessing='plain' if way == 'random' else way)
    folder = write(tmp_path, [data], [1], names=['ILSVRC2012_val_00000007.JPEG'])
    line = complaint(folder, settings, training=way == 'random')
    assert (
        line.startswith(
            '%s/a.tfrecord: record 0 at byte 0 (ILSVRC2012_val_00000007.JPEG): ' % folder
        )
        and 'prepare the records again' in line
    )
    if way != 'random':
        with pytest.raises(ValueError):
            input_pipeline.decode(data, settings)


@pytest.mark.parametrize('kind', ['png', 'cmyk', 'grey', 'progressive', '420'])
@pytest.mark.parametrize('way', ['random', 'plain', 'resize_crop'])
def test_unusual_images_are_read(tmp_path, kind, way):
    pixels = picture(140, 150, seed=2)
    if kind == 'grey':
        pixels = pixels[..., :1].repeat(3, -1)
    data = {
        'png': lambda: encoded(pixels, 'PNG'),
        'cmyk': lambda: encoded(pixels, mode='CMYK', quality=100),
        'grey': lambda: encoded(pixels, mode='L'),
        'progressive': lambda: encoded(pixels, progressive=True),
        '420': lambda: encoded(pixels, subsampling=2),
    }[kind]()
    settings = cfg(eval_preprocessing='plain' if way == 'random' else way, flip=False)
    found = run(
        write(tmp_path, [data], [1]), settings, training=way == 'random', batch_size=1, steps=1
    )[0]['image'][0]
    usual = run(
        write(tmp_path / 'usual', [encoded(pixels, quality=100)], [1]),
        settings,
        training=way == 'random',
        batch_size=1,
        steps=1,
    )[0]['image'][0]
    assert np.abs(found.astype(int) - usual).mean() < 2.5 and found.std() > 20


# Evaluation

SHAPES = [(100, 140), (140, 100), (71, 71), (50, 333), (40, 30), (500, 375)]


@pytest.mark.parametrize('height, width', SHAPES)
def test_plain_is_the_published_ports(height, width):
    data = photo(height, width, subsampling=2)
    with tf.Session() as session:
        port = session.run(
            tf.image.resize_images(
                tf.cast(tf.image.decode_jpeg(data, channels=3), tf.float32), [SIZE, SIZE]
            )
            / 127.5
            - 1
        )
        found = session.run(
            input_pipeline.normalize(
                tf.constant(input_pipeline.decode(data, cfg(eval_preprocessing='plain'))), cfg()
            )
        )
    assert np.abs(found - port).max() <= 0.5 / 127.5 + 1e-6  # all that uint8 costs


def test_plain_resize_written_out():
    """Output i of n reads input i x length / n: samples are not centred, the last ones lean on the
    edge.
    """
    pixels = np.random.RandomState(0).randint(0, 256, (30, 40, 3)).astype(np.uint8)
    expected = pixels.astype(np.float64)
    for axis, length in ((0, 30), (1, 40)):
        at = np.arange(SIZE) * length / SIZE
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        expected = (
            np.take(expected, low, axis) * (1 - share)
            + np.take(expected, np.minimum(low + 1, length - 1), axis) * share
        )
    assert (
        np.abs(
            input_pipeline.decode(encoded(pixels, 'PNG'), cfg(eval_preprocessing='plain'))
            - expected
        ).max()
        <= 0.5 + 1e-3
    )


@pytest.mark.parametrize('size', [71, 299])
@pytest.mark.parametrize('height, width', SHAPES)
def test_resize_crop(height, width, size):
    data = photo(height, width)
    short = size * 320 // 299
    tall, wide = (
        (short, width * short // height) if height < width else (height * short // width, short)
    )
    top, left = (tall - size) // 2, (wide - size) // 2
    expected = bilinear(by_pillow(data), tall, wide)[top : top + size, left : left + size]
    found = input_pipeline.decode(data, cfg(eval_preprocessing='resize_crop', image_size=size))
    assert found.shape == (size, size, 3) and np.abs(found - expected).max() <= 1


@pytest.mark.parametrize('size', [71, 299])
@pytest.mark.parametrize('height, width', SHAPES)
def test_bicubic_crop_is_timms(height, width, size):
    data = photo(height, width)
    short = int(np.floor(size / 0.8975))
    assert size != 299 or short == 333
    wide, tall = (
        (int(short * width / height), short)
        if height <= width
        else (short, int(short * height / width))
    )
    resized = np.asarray(Image.open(io.BytesIO(data)).resize((wide, tall), Image.BICUBIC))
    top, left = int(round((tall - size) / 2.0)), int(round((wide - size) / 2.0))
    found = input_pipeline.decode(data, cfg(eval_preprocessing='bicubic_crop', image_size=size))
    assert np.array_equal(found, resized[top : top + size, left : left + size])


def test_training_plain_is_evaluation_plain(tmp_path):
    folder = write(tmp_path, [photo(90, 80 + i, seed=i) for i in range(4)], [1, 2, 3, 4])
    seen = {
        batch['label'][0]: batch['image'][0]
        for batch in run(folder, cfg(train_preprocessing='plain'), True, batch_size=1, steps=4)
    }
    assert sorted(seen) == [0, 1, 2, 3]
    for batch in run(folder, cfg(eval_preprocessing='plain'), False, batch_size=1):
        assert np.array_equal(batch['image'][0], seen[batch['label'][0]])


# Training


def draws_for(area=0.5, aspect=0.5, top=0.5, left=0.5, flip=0.9, attempts=None):
    draws = np.full(input_pipeline.DRAWS, 0.5)
    draws[:20] = (
        np.concatenate([[area] * 10, [aspect] * 10])
        if attempts is None
        else np.transpose(attempts).ravel()
    )
    draws[20:23] = top, left, flip
    return input_pipeline.Draws.of(draws.tolist())


def test_random_windows():
    """Share of the area uniform in [0.3, 1), log-aspect uniform within 3/4..4/3, every place
    equally likely, and the last ones too.
    """
    windows = np.array(
        [
            input_pipeline.random_window(4000, 4000, input_pipeline.Draws.of(row), 0.3)
            for row in np.random.RandomState(0).rand(20000, input_pipeline.DRAWS)
        ]
    )
    top, left, height, width = windows.T
    assert (windows >= 0).all() and (top + height <= 4000).all() and (left + width <= 4000).all()
    share, aspect = height * width / 4000**2, np.log(width / height) / np.log(4 / 3)
    fits = (
        np.sqrt(share * (4 / 3)) < 1
    )  # below this share every aspect fits, so nothing is drawn again
    assert np.abs(np.histogram(share[fits], 9, (0.3, 0.75))[0] / fits.sum() - 1 / 9).max() < 0.01
    assert np.abs(np.histogram(aspect[fits], 10, (-1, 1))[0] / fits.sum() - 0.1).max() < 0.01
    assert share.min() < 0.301 and share.max() > 0.99
    place = (top + 0.5) / (4000 - height + 1)
    assert np.abs(np.histogram(place, 10, (0, 1))[0] / len(place) - 0.1).max() < 0.015
    last = 1 - 2.0**-24  # the largest draw
    assert input_pipeline.random_window(100, 100, draws_for(top=last, left=0, area=0), 0.25) == (
        50,
        0,
        50,
        50,
    )
    assert input_pipeline.random_window(100, 100, draws_for(top=0, left=last, area=0), 0.25) == (
        0,
        50,
        50,
        50,
    )


def test_the_first_crop_that_fits_is_taken():
    attempts = np.full((10, 2), 0.99)  # 0.992 of a square cannot be 4:3
    assert input_pipeline.random_window(100, 100, draws_for(attempts=attempts), 0.08) == (
        0,
        0,
        100,
        100,
    )
    attempts[6] = 0, 0  # 0.09 of the area at 3:4
    attempts[7] = 0, 1
    height, width = round(np.sqrt(900 / 0.75)), round(np.sqrt(900 * 0.75))
    assert input_pipeline.random_window(
        100, 100, draws_for(attempts=attempts, top=0, left=0), 0.09
    ) == (0, 0, height, width)


@pytest.mark.parametrize(
    'height, width, expected',
    [(30, 1000, (0, 480, 30, 40)), (1000, 30, (480, 0, 40, 30)), (1, 1, (0, 0, 1, 1))],
)
def test_of_extreme_images_the_centre_is_taken(height, width, expected):
    assert input_pipeline.random_window(height, width, draws_for(area=0.999), 0.9) == expected


@pytest.mark.parametrize(
    'flip, draw, mirrored', [(True, 0.4, True), (True, 0.6, False), (False, 0.4, False)]
)
@pytest.mark.parametrize('area, top, left', [(0.1, 0.9, 0.2), (0.9, 0.3, 0.999)])
def test_random_resized_crop(flip, draw, mirrored, area, top, left):
    data, draws = photo(100, 130), draws_for(area, 0.3, top, left, draw)
    y, x, height, width = input_pipeline.random_window(100, 130, draws, 0.08)
    with tf.Session() as session:
        whole = session.run(tf.image.decode_jpeg(data, channels=3))
    expected = bilinear(whole[y : y + height, x : x + width], SIZE, SIZE)
    found = input_pipeline.random_resized_crop(data, draws, cfg(flip=flip))
    assert np.abs((found[:, ::-1] if mirrored else found) - expected).max() <= 1
    assert np.abs((found if mirrored else found[:, ::-1]) - expected).max() > 50


@pytest.mark.parametrize('factor', [2, 4, 8, 9])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_large_crops_are_shrunk_without_aliasing(factor, kind, monkeypatch):
    """Against the mean over the pixels that an output pixel covers, with stripes that plain
    interpolation would turn into bands.
    """
    side = SIZE * factor
    pixels = picture(side + 48, side + 64, seed=3).copy()  # the centre begins at multiples of 8
    pixels[::2] = np.minimum(pixels[::2] + 60, 255)
    draws = draws_for(area=0.0, aspect=0.5, top=0.5, left=0.5)
    share = side**2 / (pixels.shape[0] * pixels.shape[1])
    y, x, height, width = input_pipeline.random_window(*pixels.shape[:2], draws, share)
    assert (height, width) == (side, side)
    decoders, shrunk = decoding._jpeg_decoder, []
    monkeypatch.setattr(
        decoding, '_jpeg_decoder', lambda shrink: shrunk.append(shrink) or decoders(shrink)
    )
    expected = (
        pixels[y : y + side, x : x + side].reshape(SIZE, factor, SIZE, factor, 3).mean((1, 3))
    )
    found = input_pipeline.random_resized_crop(
        encoded(pixels, kind), draws, cfg(min_area=share, flip=False)
    )
    assert np.abs(found - expected).mean() < (
        3 if factor < 9 else 5
    )  # JPEGs by 8 and then by 9/8, from an edge half a pixel off
    assert shrunk == (
        [min(factor, 8)] if kind == 'JPEG' else []
    )  # while it is decoded, which is what makes it cheap


def test_augmentation_is_a_function_of_seed_epoch_and_record(tmp_path):
    folder = write(tmp_path, [photo(90, 100 + i, seed=i) for i in range(12)], range(1, 13))
    settings = cfg(num_classes=12, color_jitter=0.4)

    def epoch(batch_size, start, steps, seed=3, **place):
        return {
            int(label): (image.tobytes(), draws.tobytes())
            for batch in run(
                folder, settings, True, batch_size, steps, start_step=start, seed=seed, **place
            )
            for label, image, draws in zip(batch['label'], batch['image'], batch['draws'])
        }

    one = epoch(4, 0, 3)
    assert len(one) == 12 and len({image for image, _ in one.values()}) == 12
    assert epoch(4, 0, 3) == one and epoch(1, 0, 12) == one
    ranks = [epoch(2, 0, 3, rank=rank, size=2) for rank in range(2)]
    assert {**ranks[0], **ranks[1]} == one and not set(ranks[0]) & set(ranks[1])
    resumed = epoch(4, 1, 2)
    assert len(resumed) == 8 and all(one[label] == found for label, found in resumed.items())
    for other in (epoch(4, 3, 3), epoch(4, 0, 3, seed=4)):  # the next epoch, another seed
        assert set(other) == set(one) and all(
            other[label][i] != one[label][i] for label in one for i in range(2)
        )


def test_colour_jitter(tmp_path):
    images = np.stack([picture(6, 8, seed=i) for i in range(4)]).astype(np.float32)
    draws = np.array(
        [[0, 0.5, 0.5], [0.5, 0.999, 0.5], [0.5, 0.5, 0.0], [0.9, 0.1, 0.999]], np.float32
    )
    with tf.Session() as session:
        found = session.run(
            input_pipeline.augment(
                {'image': tf.constant(images), 'draws': tf.constant(draws)}, cfg(color_jitter=0.4)
            )['image']
        )
    for image, draw, result in zip(images.astype(np.float64), draws, found):
        brightness, contrast, saturation = 0.6 + 0.8 * draw.astype(np.float64)
        image = np.clip(image * brightness, 0, 255)
        grey = image @ [0.299, 0.587, 0.114]
        image = np.clip(grey.mean() * (1 - contrast) + image * contrast, 0, 255)
        grey = (image @ [0.299, 0.587, 0.114])[..., None]
        np.testing.assert_allclose(
            result, np.clip(grey * (1 - saturation) + image * saturation, 0, 255), atol=2e-3
        )
    assert np.abs(found - images).max(axis=(1, 2, 3)).min() > 10
    folder = write(tmp_path, [photo(80, 80)] * 2, [1, 2])
    assert (
        'draws' not in run(folder, cfg(), True, steps=1)[0]
        and 'draws' not in run(folder, cfg(color_jitter=0.4), False)[0]
    )
    batch = run(folder, cfg(color_jitter=0.4), True, steps=1, seed=9)[0]
    assert np.array_equal(
        batch['draws'], sampling.uniform(9, 0, batch['label'], 26)[:, 23:]
    )  # those that cropping does not use
    features = {'image': tf.zeros([2, 3, 3, 3])}
    assert input_pipeline.augment(features, cfg()) is features


def test_normalize():
    with tf.Session() as session:
        found = session.run(input_pipeline.normalize(tf.constant([0, 51, 255], tf.uint8), cfg()))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [-1, -0.6, 1], atol=1e-6)


# Configuration and measurement


@pytest.mark.parametrize(
    'flag, value, message',
    [
        ('min_area', '1.5', 'min_area: 1.5 is not legal; give at most 1'),
        ('min_area', '0', 'min_area'),
        ('color_jitter', '2', 'color_jitter: 2.0 is not legal'),
        ('label_offset', '-1', 'label_offset'),
        ('eval_preprocessing', 'resize_corp', "did you mean 'resize_crop'"),
        ('train_preprocessing', 'resize_crop', 'random_resized_crop'),
    ],
)
def test_illegal_values(flag, value, message):
    with pytest.raises(UserError, match=message):
        config.parse(XceptionConfig, ['--' + flag, value])


def test_the_published_ports_recipe_keeps_its_preprocessing():
    values = yaml.safe_load(PORT_RECIPE.read_text())
    assert (values['train_preprocessing'], values['eval_preprocessing'], values['image_size']) == (
        'plain',
        'plain',
        299,
    )


@pytest.mark.parametrize('schema', ['slim', 'port'])
def test_benchmark_compares_with_the_ports_pipeline(tmp_path, capsys, schema, monkeypatch):
    jpegs = [photo(100, 120, seed=i) for i in range(4)]
    write(tmp_path / 'train', jpegs, [1, 2, 3, 4], schema)
    settings = cfg(batch_size=2)
    baselines = input_pipeline.baselines(records.Folder.open(tmp_path / 'train'), settings)
    with tf.Session() as session:
        port, shapes = session.run(
            [
                baselines[key]().make_one_shot_iterator().get_next()['label']
                for key in ('port', 'decode')
            ]
        )
        expected = [
            session.run(
                tf.image.resize_images(tf.image.decode_jpeg(jpeg, channels=3), [SIZE, SIZE]) / 127.5
                - 1
            )
            for jpeg in jpegs[:2]
        ]
    np.testing.assert_allclose(port, expected, atol=1e-6)
    assert shapes.tolist() == [[100, 120, 3]] * 2
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text(
        yaml.safe_dump(
            dict(model='xception', image_size=SIZE, num_classes=CLASSES, batch_size=2, device='cpu')
        )
    )
    clock = (n / 1000 for n in itertools.accumulate(itertools.count(1)))  # milliseconds
    monkeypatch.setattr(benchmark, 'time', types.SimpleNamespace(perf_counter=clock.__next__))
    benchmark.main(
        [
            'input',
            '--config',
            str(recipe),
            '--data_path',
            str(tmp_path),
            '--rounds',
            '1',
            '--round_steps',
            '2',
        ]
    )
    found = json.loads(capsys.readouterr().out)
    assert found['model'] == 'xception' and found['batch_size'] == 2
    for key in ('port', 'decode'):
        ratio = found['input_images_per_second'] / found[key + '_images_per_second']
        assert found['input_to_' + key] == pytest.approx(ratio, abs=0.01, rel=0.01)
