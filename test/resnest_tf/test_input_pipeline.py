"""resnest_tf.input_pipeline against scaling, cropping and colour written out in NumPy, and whole
images scaled by OpenCV and then cropped.
"""

import colorsys
import dataclasses
import functools

import cv2
import numpy as np
import pytest
import tensorflow as tf

from common import benchmark
from common.data import records, sampling
from common.errors import UserError
from resnest_tf import input_pipeline
from resnest_tf.config import ResNeStConfig
from resnest_tf.input_pipeline import DRAWS, Draws
from resnest_tf.rasters import Raster, Rasters

MEAN, STD = (
    np.array([0.485, 0.456, 0.406]) * 255,
    np.array([0.229, 0.224, 0.225]) * 255,
)  # ImageNet's, RGB
LAST = 1 - 2.0**-24  # the largest draw


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


def cfg(**changes):
    return ResNeStConfig(
        **dict(
            dict(
                crop_height=48,
                crop_width=96,
                image_height=128,
                image_width=256,
                data_path='DATA',
                batch_size=2,
            ),
            **changes,
        )
    )


@functools.lru_cache(maxsize=None)
def picture(height=128, width=256, seed=0):
    """uint8 BGR: smooth waves, another mix in each channel."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [
        sum(np.sin(2 * np.pi * (a * y + b * x + c)) for a, b, c in random.uniform(-3, 3, (4, 3)))
        for _ in range(3)
    ]
    image = (127.5 + 30 * np.stack(waves, -1)).clip(0, 255).astype(np.uint8)
    image.setflags(write=False)
    return image


def classes(height=128, width=256, seed=0):
    """uint8, 0..18 and 255: no pixel is as the next, so that a label that is off shows."""
    random = np.random.RandomState(seed)
    label = (
        7 * np.arange(height)[:, None]
        + 3 * np.arange(width)
        + 2 * random.randint(2, size=(height, width))
    ) % 20
    return np.where(label == 19, 255, label).astype(np.uint8)


def feature(value):
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def write(folder, pairs, named=True, **changes):
    """A folder of TFRecords, written by TensorFlow; changes: features to replace in all records,
    None: to leave out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / 'a.tfrecord')) as writer:
        for i, (image, label) in enumerate(pairs):
            values = dict(
                image=image.tobytes(),
                label=label.tobytes(),
                height=image.shape[0],
                width=image.shape[1],
                channels=3,
            )
            values.update({'filename': b'frankfurt_000000_%06d' % i} if named else {}, **changes)
            writer.write(
                tf.train.Example(
                    features=tf.train.Features(
                        feature={
                            key: feature(value)
                            for key, value in values.items()
                            if value is not None
                        }
                    )
                ).SerializeToString()
            )
    return folder


def pipeline(folder, settings, training, batch_size, **position):
    batches = sampling.batches(
        folder, batch_size, training=training, draws=DRAWS if training else 0, **position
    )
    return batches.map(
        lambda batch: input_pipeline.parse(batch, folder, settings, training), num_parallel_calls=2
    )


def run(folder, settings, training=False, batch_size=2, **position):
    """The features of all batches as NumPy."""
    with tf.Graph().as_default(), tf.Session() as session:
        features = (
            pipeline(records.Folder.open(folder), settings, training, batch_size, **position)
            .make_one_shot_iterator()
            .get_next()
        )
        for key, tensor in features.items():
            assert tensor.shape.is_fully_defined(), key
        found = []
        while True:
            try:
                found.append(session.run(features))
            except tf.errors.OutOfRangeError:
                return found


def draws_for(**columns):
    """By default scale 1.25, in the middle, neither mirrored nor distorted."""
    draws = Draws(*[0.0] * DRAWS)._replace(scale=0.5, top=0.5, left=0.5, flip=0.9)
    return draws._replace(**columns)


def crop(image, label, draws, settings):
    pixels = np.full((settings.crop_height, settings.crop_width, 3), 77, np.uint8)
    found = np.full((settings.crop_height, settings.crop_width), 77, np.uint8)
    raster = Raster(*label.shape, '', 0, 0, (image, label))
    input_pipeline.random_crop(raster, draws, settings, pixels, found)
    return pixels, found


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
    pairs = [
        (picture(*size), classes(*size)) for size in [(128, 256), (60, 300), (90, 80), (20, 30)]
    ]
    settings = cfg(photometric=False)
    folder = write(tmp_path, pairs, named)
    batches = run(folder, settings, training=True, steps=2, seed=5)
    assert [
        {key: (value.dtype.name, value.shape) for key, value in batch.items()} for batch in batches
    ] == [
        {
            'image': ('uint8', (2, 48, 96, 3)),
            'label': ('uint8', (2, 48, 96)),
            'mask': ('float32', (2,)),
        }
    ] * 2
    order = np.random.RandomState([5, 0]).permutation(4)
    for i, number in enumerate(order):
        pixels, label = crop(
            *pairs[number], Draws(*sampling.uniform(5, 0, [number], DRAWS)[0].tolist()), settings
        )
        assert np.array_equal(batches[i // 2]['image'][i % 2], pixels) and np.array_equal(
            batches[i // 2]['label'][i % 2], label
        )
    settings = cfg(photometric=False, variant='port')  # the same pixels, in its order
    for batch, port in zip(batches, run(folder, settings, training=True, steps=2, seed=5)):
        assert np.array_equal(port['image'], batch['image'][..., ::-1])


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
    (both / 'a.tfrecord').write_bytes(
        b''.join((tmp_path / part / 'a.tfrecord').read_bytes() for part in ('good', 'bad'))
    )
    with pytest.raises(tf.errors.OpError) as caught:
        run(both, settings, training, batch_size=1, steps=20)
    line = str(records.user_error(caught.value))
    assert (
        line.startswith('%s/a.tfrecord: record 1 at byte ' % both)
        and ' (frankfurt_000000_000000): ' in line
        and message in line
    )


@pytest.mark.parametrize('value', [0, 18, 255])
def test_legal_labels(tmp_path, value):
    folder = write(tmp_path, [SMALL], label=marked(value))
    assert (
        run(folder, cfg(image_height=10, image_width=20), batch_size=1)[0]['label'][0, 7, 3]
        == value
    )


def test_evaluation_refuses_another_size(tmp_path):
    folder = write(tmp_path, [SMALL], named=False)
    with pytest.raises(tf.errors.OpError) as caught:
        run(folder, cfg(image_height=20, image_width=10))
    assert (
        str(records.user_error(caught.value))
        == '%s/a.tfrecord: record 0 at byte 0: it is 10 x 20 (height x width), evaluation'
        ' takes 20 x 10; give --image_height 10 --image_width 20' % folder
    )


# Geometry


def places(start, count, size):
    """Source coordinates of the centres of `size` pixels over `count` source pixels from `start`
    on; source pixel n's centre is at n.
    """
    return start + (np.arange(size) + 0.5) * count / size - 0.5


def bilinear(image, rows, columns):
    """float64, of the whole image, whose edges are repeated."""
    image = np.asarray(image, np.float64)
    for axis, at in ((0, rows), (1, columns)):
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        below, above = (
            np.take(image, np.clip(index, 0, image.shape[axis] - 1), axis)
            for index in (low, low + 1)
        )
        image = below * (1 - share) + above * share
    return image


def is_nearest(found, label, rows, columns):
    """Whether each found pixel is the label's nearest to its place; halfway between two, either."""

    def at(places, shift, length):
        return np.clip(np.floor(places + 0.5 + shift).astype(int), 0, length - 1)

    options = [
        label[at(rows, a, label.shape[0])[:, None], at(columns, b, label.shape[1])]
        for a in (-1e-3, 1e-3)
        for b in (-1e-3, 1e-3)
    ]
    return np.any([found == option for option in options], axis=0).all()


@pytest.mark.parametrize('seed', range(8))
def test_scaled_and_cropped_at_once(seed):
    """As many source pixels as the factor says, at a place of whole source pixels, and nothing else
    moved.
    """
    settings, image, label = (
        cfg(photometric=False, flip=False),
        picture(seed=seed),
        classes(seed=seed),
    )
    for draws in np.random.RandomState(seed).rand(10, DRAWS).tolist():
        scale = 0.5 + 1.5 * draws[0]
        rows, columns = (
            places(int(draw * (length - count + 1)), count, size)
            for draw, length, size, count in (
                (draws[1], 128, 48, int(round(48 / scale))),
                (draws[2], 256, 96, int(round(96 / scale))),
            )
        )
        pixels, found = crop(image, label, Draws(*draws), settings)
        assert is_nearest(found, label, rows, columns)
        error = np.abs(pixels - bilinear(image[..., ::-1], rows, columns))
        assert (
            error[1:-1, 1:-1].max() <= 1.5 and error.max() <= 6
        )  # the outermost half pixel reads nothing outside of the crop


@pytest.mark.parametrize('scale', [0.5, 0.75, 1.0, 1.5, 2.0])
@pytest.mark.parametrize('top, left', [(0.0, 0.0), (0.3, 0.7), (LAST, LAST)])
def test_as_the_whole_image_scaled_and_then_cropped(scale, top, left):
    settings, image, label = (
        cfg(min_scale=scale, max_scale=scale, photometric=False, flip=False),
        picture(seed=2),
        classes(seed=2),
    )
    height, width, count_y, count_x = (
        int(128 * scale),
        int(256 * scale),
        int(48 / scale),
        int(96 / scale),
    )
    whole = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)[..., ::-1].astype(
        int
    )
    # A place that is a whole pixel before and after scaling.
    y, x = (
        int(draw * (length - count + 1)) // 4 * 4
        for draw, length, count in ((top, 128, count_y), (left, 256, count_x))
    )
    draws = draws_for(top=(y + 0.5) / (128 - count_y + 1), left=(x + 0.5) / (256 - count_x + 1))
    pixels, found = crop(image, label, Draws(*draws), settings)
    rows, columns = (
        slice(int(y * scale), int(y * scale) + 48),
        slice(int(x * scale), int(x * scale) + 96),
    )
    assert is_nearest(found, label, places(0, 128, height)[rows], places(0, 256, width)[columns])
    error = np.abs(pixels - whole[rows, columns])
    assert error[1:-1, 1:-1].max() <= 1 and error.max() <= 6


@pytest.mark.parametrize('axis', [0, 1])
def test_image_and_label_stay_together(axis):
    """Stripes of both: the pixel nearest to a place is the one that has the most weight in
    interpolation.
    """
    stripes = np.random.RandomState(0).randint(0, 2, 256).astype(np.uint8)
    label = np.broadcast_to(stripes if axis else stripes[:128, None], (128, 256)).copy()
    image = np.repeat(200 * label[..., None], 3, -1)
    for draws in np.random.RandomState(1).rand(50, DRAWS).tolist():
        pixels, found = crop(image, label, Draws(*draws), cfg(photometric=False))
        clear = np.abs(pixels[..., 0] - 100.0) > 2
        assert np.array_equal((pixels[..., 0] > 100)[clear], found[clear] == 1)
        assert clear.mean() > 0.4 and 0 < found.mean() < 1


def test_scales_and_places_cover_their_ranges():
    """Read from pixels that say where they are from; the factor's distribution is uniform, so is
    the place's given the factor.
    """
    y, x = np.mgrid[:128, :256].astype(np.uint8)
    image = np.stack([np.zeros_like(x), y, x], -1)
    settings = cfg(photometric=False, flip=False, crop_height=32, crop_width=48)
    scales, tops, lefts = [], [], []
    for draws in np.random.RandomState(1).rand(3000, DRAWS).tolist():
        pixels, _ = crop(image, y, Draws(*draws), settings)
        span_y, span_x = (
            float(values.max()) - values.min() for values in (pixels[..., 1], pixels[..., 0])
        )
        count_y, count_x = (
            span_y * 32 / 31,
            span_x * 48 / 47,
        )  # roughly: between the centres of the outermost pixels
        assert abs(32 / count_y - 48 / count_x) < 0.1 * 48 / count_x
        scales.append(48 / count_x)
        tops.append(pixels[..., 1].min() / (128 - count_y))
        lefts.append(pixels[..., 0].min() / (256 - count_x))
    assert 0.48 < min(scales) < 0.52 and 1.9 < max(scales) < 2.1
    assert np.abs(np.histogram(scales, 5, (0.5, 2.0))[0] / 3000 - 0.2).max() < 0.04
    for place in (tops, lefts):
        assert min(place) < 0.01 and max(place) > 0.99
        assert np.abs(np.histogram(place, 5, (0, 1))[0] / 3000 - 0.2).max() < 0.04


@pytest.mark.parametrize('draw, first', [(0.0, (0, 0)), (LAST, (128 - 96, 256 - 192))])
def test_the_outermost_crops(draw, first):
    label = np.zeros((128, 256), np.uint8)
    label[first[0] : first[0] + 96, first[1] : first[1] + 192] = 1
    found = crop(picture(), label, draws_for(scale=0.0, top=draw, left=draw), cfg())[1]
    assert (found == 1).all()


# Padding


@pytest.mark.parametrize(
    'height, width, scale',
    [(20, 30, 0.5), (20, 30, 1.3), (20, 400, 0.9), (400, 30, 1.7), (1, 1, 0.5), (95, 191, 0.5)],
)
def test_small_images_are_padded_on_the_right_and_below(height, width, scale):
    settings = cfg(min_scale=scale, max_scale=scale)
    image = np.zeros((height, width, 3), np.uint8)
    filled = [
        min(size, max(1, int(round(length * scale))))
        for size, length in ((48, height), (96, width))
    ]
    for draws in np.random.RandomState(0).rand(20, DRAWS):
        draws[4:] = 0.9, 0.9, 0.9, 0.9, 0.9  # distorted, all of it
        pixels, label = crop(image, np.zeros((height, width), np.uint8), Draws(*draws), settings)
        expected = np.full((48, 96), 255)
        expected[: filled[0], : filled[1]] = 0
        np.testing.assert_array_equal(label, expected)
        inside = label == 0
        assert np.abs((pixels[~inside] - MEAN) / STD).max(initial=0) < 0.01
        assert np.abs(pixels[inside] / 255.0 - MEAN / 255).min() > 0.1  # brightened


def test_small_images_in_black():
    settings = cfg(min_scale=0.5, max_scale=0.5, crop_fill='black', photometric=False)
    image = np.full((20, 30, 3), 200, np.uint8)
    pixels, label = crop(image, np.ones((20, 30), np.uint8), draws_for(), settings)
    np.testing.assert_array_equal(pixels == 0, np.repeat((label == 255)[..., None], 3, 2))


def test_crops_of_one_class_are_drawn_again():
    """Three quarters of the image are class 0, the rest is split between 1 and what is ignored."""
    label = np.zeros((128, 256), np.uint8)
    label[:, 192:224], label[:, 224:] = 1, 255
    settings = cfg(min_scale=1.0, max_scale=1.0, crop_max_share=0.75, photometric=False)
    every, chosen = [], []
    for draws in np.random.RandomState(0).rand(400, DRAWS).tolist():
        for found, changes in ((every, {'crop_max_share': 1.0}), (chosen, {})):
            crops = crop(picture(), label, Draws(*draws), dataclasses.replace(settings, **changes))
            counts = np.bincount(crops[1].ravel(), minlength=256)[:255]
            found.append(counts.max() / max(1, counts.sum()))
    enough = np.mean(np.array(every) < 0.75)
    assert 0.1 < enough < 0.5
    # One of 11 places suffices, and if none does the last one is taken.
    expected = 1 - (1 - enough) ** 11
    assert abs(np.mean(np.array(chosen) < 0.75) - expected) < 0.08
    unchanged = np.array(every) < 0.75
    assert np.array_equal(np.array(chosen)[unchanged], np.array(every)[unchanged])


@pytest.mark.parametrize('height, width', [(128, 256), (20, 30), (300, 20)])
def test_flip(height, width):
    image, label = picture(height, width), classes(height, width)
    for rest in np.random.RandomState(3).rand(20, DRAWS):
        outcomes = {}
        for draw in (0.0, 0.499, 0.5, LAST):
            rest[3] = draw
            outcomes[draw] = crop(image, label, Draws(*rest), cfg())
        plain = crop(image, label, Draws(*rest), cfg(flip=False))
        for draw, found in outcomes.items():
            for part, expected in zip(found, plain):
                shown = min(96, int(round(width * (0.5 + 1.5 * rest[0]))))  # the rest is padding
                mirrored = expected[:, :shown][:, ::-1] if draw < 0.5 else expected[:, :shown]
                assert np.array_equal(part[:, :shown], mirrored)
                assert np.array_equal(part[:, shown:], expected[:, shown:])
        rest[3] = 0.0
        assert np.array_equal(crop(image, label, Draws(*rest), cfg(flip=False))[0], plain[0])


# Colour


def by_colorsys(pixels, brightness=0, contrast=1, contrast_last=False, saturation=1, hue=0):
    """uint8 BGR -> RGB, float64; hue in degrees."""

    def scaled(values, factor, shift=0):
        return np.clip(values * factor + shift, 0, 255)

    image = scaled(pixels[..., ::-1].astype(np.float64), 1, brightness)
    if not contrast_last:
        image = scaled(image, contrast)
    if saturation != 1 or hue:
        flat = [colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3) / 255]
        flat = [
            colorsys.hsv_to_rgb((h + hue / 360) % 1, min(1, s * saturation), v) for h, s, v in flat
        ]
        image = 255 * np.reshape(flat, image.shape)
    return scaled(image, contrast) if contrast_last else image


PATCH = np.random.RandomState(7).randint(0, 256, (24, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    'column, draw, name, value',
    [
        ('brightness', 0.5, 'brightness', -32),
        ('brightness', LAST, 'brightness', 32),
        ('brightness', 0.75, 'brightness', 0),
        ('brightness', 0.875, 'brightness', 16),
        ('contrast', 0.5, 'contrast', 0.5),
        ('contrast', LAST, 'contrast', 1.5),
        ('contrast', 0.625, 'contrast', 0.75),
        ('saturation', 0.5, 'saturation', 0.5),
        ('saturation', LAST, 'saturation', 1.5),
        ('hue', 0.5, 'hue', -36),
        ('hue', LAST, 'hue', 34),
        ('hue', 0.875, 'hue', 18),
    ],
)
@pytest.mark.parametrize('last', [0.0, 0.9])
def test_each_distortion_and_its_bounds(column, draw, name, value, last):
    found = input_pipeline.distort(PATCH, draws_for(contrast_last=last, **{column: draw}))[
        ..., ::-1
    ]
    error = by_colorsys(PATCH, **{name: value}) - found
    if name in ('brightness', 'contrast'):  # truncated, and LAST is a little less than its value
        assert error.min() >= 0 and error.max() <= 1.001
    else:  # OpenCV's 8-bit hue has steps of 2 degrees
        assert np.abs(error).max() <= 8 and np.abs(error).mean() < 1.5
    for below in (0.0, 0.499):  # a draw below 1/2: not done
        assert np.array_equal(
            input_pipeline.distort(PATCH, draws_for(contrast_last=last, **{column: below})), PATCH
        )


@pytest.mark.parametrize('last', [False, True])
@pytest.mark.parametrize(
    'brightness, contrast, saturation, hue',
    [
        (32, 1.5, 1.5, 34),
        (-32, 1.5, 0.5, -36),
        (32, 0.5, 1.5, 0),
        (20, 1.4, 1, 0),
        (0, 0.6, 0.7, 20),
    ],
)
def test_distortions_in_their_order(last, brightness, contrast, saturation, hue):
    def draw(value, low, high):
        return min(LAST, 0.5 + 0.5 * (value - low) / (high - low))

    draws = draws_for(
        brightness=draw(brightness, -32, 32),
        contrast=draw(contrast, 0.5, 1.5),
        contrast_last=0.5 if last else 0.499,
        saturation=draw(saturation, 0.5, 1.5),
        hue=draw(hue + 1, -36, 36),  # in the middle of a step of 2 degrees
    )
    amounts = dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
    found = input_pipeline.distort(PATCH, draws)[..., ::-1]
    assert found.dtype == np.uint8
    error = np.abs(found - by_colorsys(PATCH, contrast_last=last, **amounts))
    assert error.max() <= 14 and error.mean() < 2
    if (
        contrast > 1 and saturation != 1
    ):  # what is clipped before saturation is another colour after it
        assert np.abs(found - by_colorsys(PATCH, contrast_last=not last, **amounts)).mean() > 4


def test_distortion_leaves_the_label_alone_and_its_input():
    image, label = picture(), classes()
    before = image.copy(), label.copy()
    for draws in np.random.RandomState(4).rand(20, DRAWS).tolist():
        draws = Draws(*draws)._replace(brightness=0.95, hue=0.9)
        (pixels, found), (plain, expected) = (
            crop(image, label, draws, cfg()),
            crop(image, label, Draws(*draws), cfg(photometric=False)),
        )
        assert np.array_equal(found, expected) and np.abs(pixels.astype(int) - plain).mean() > 5
    assert np.array_equal(image, before[0]) and np.array_equal(label, before[1])


# Randomness


def test_augmentation_is_a_function_of_seed_epoch_and_record(tmp_path):
    pairs = [(picture(64, 100 + i, seed=i), np.full((64, 100 + i), i, np.uint8)) for i in range(12)]
    folder, settings = write(tmp_path, pairs), cfg(crop_height=32, crop_width=32)

    def epoch(batch_size, start, steps, seed=3, **place):
        return {
            int(label.min()): (image.tobytes(), label.tobytes())
            for batch in run(
                folder,
                settings,
                True,
                batch_size,
                steps=steps,
                start_step=start,
                seed=seed,
                **place,
            )
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


@pytest.mark.parametrize('column', Draws._fields)
def test_every_draw_matters(column):
    draws = draws_for(
        scale=0.6,
        flip=0.3,
        brightness=0.8,
        contrast=0.9,
        saturation=0.95,
        hue=0.8,
        contrast_last=0.3,
    )
    base = crop(picture(), classes(), draws, cfg())[0]
    changed = draws._replace(**{column: 0.55})
    assert not np.array_equal(crop(picture(), classes(), changed, cfg())[0], base)


# On the device


@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
def test_normalize(dtype):
    images = np.random.RandomState(0).randint(0, 256, (2, 5, 7, 3)).astype(dtype)
    expected = (images.astype(np.float64) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with tf.Session() as session:
        paper, port = session.run(
            [
                input_pipeline.normalize(tf.constant(images), cfg(variant=variant))
                for variant in ('paper', 'port')
            ]
        )
    assert paper.dtype == port.dtype == np.float32
    np.testing.assert_allclose(paper, expected, atol=1e-5)
    expected = (images.astype(np.float64) / 255 - [0.406, 0.456, 0.485]) / [0.225, 0.224, 0.229]
    np.testing.assert_allclose(port, expected, atol=1e-5)
    for variant, normalised in (('paper', paper), ('port', port)):
        mean, deviation = input_pipeline.channel_statistics(cfg(variant=variant))
        np.testing.assert_allclose(normalised, (images - np.array(mean)) / deviation, atol=1e-5)


# Measurement


def test_baseline_is_the_ports_way(tmp_path):
    """Fixed size crops of both schemas, float32; image and label are cropped and mirrored alike."""
    labels = [np.random.RandomState(i).randint(0, 2, (60, 110)).astype(np.uint8) for i in range(4)]
    pairs = [
        (np.repeat(200 * label[..., None] + 20, 3, -1).astype(np.uint8), label) for label in labels
    ]
    for named in (True, False):
        folder = records.Folder.open(write(tmp_path / str(named), pairs, named))
        port = input_pipeline.baselines(folder, cfg())['port']
        with tf.Graph().as_default(), tf.Session() as session:
            features = port().make_one_shot_iterator().get_next()
            found = [
                session.run(features) for _ in range(5)
            ]  # more than the four records: it repeats
        for batch in found:
            assert (
                batch['image'].shape == (2, 48, 96, 3)
                and batch['image'].dtype == np.float32
                and batch['label'].shape == (2, 48, 96)
            )
            for image, label in zip(batch['image'], batch['label']):
                assert image[label == 1].min() > image[label == 0].max() + 0.5
        assert len({batch['label'].tobytes() for batch in found}) == 5
        assert benchmark.input_rate(port, 2, 1) > 0
        assert benchmark.input_rate(functools.partial(pipeline, folder, cfg(), True, 2), 2, 1) > 0
