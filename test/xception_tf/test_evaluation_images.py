"""xception_tf.input_pipeline's three ways of evaluation against TensorFlow's image ops, Pillow and
interpolation written out in NumPy.
"""

import io

import numpy as np
import pytest
import tensorflow as tf
from numpy_images import bilinear, resized
from photos import SIZE, cfg, encoded, photo, run, write
from PIL import Image

from xception_tf import input_pipeline

SHAPES = [(100, 140), (140, 100), (71, 71), (50, 333), (40, 30), (500, 375)]


@pytest.mark.parametrize('height, width', SHAPES)
def test_plain_is_the_published_ports(height, width):
    data = photo(height, width, subsampling=2)
    pixels = input_pipeline.decode(data, cfg(eval_preprocessing='plain'))
    with tf.Graph().as_default(), tf.Session() as session:
        port = tf.cast(tf.image.decode_jpeg(data, channels=3), tf.float32)
        port = tf.image.resize_images(port, [SIZE, SIZE]) / 127.5 - 1
        port, found = session.run([port, input_pipeline.normalize(tf.constant(pixels), cfg())])
    assert np.abs(found - port).max() <= 0.5 / 127.5 + 1e-6  # all that uint8 costs


def test_plain_resize_written_out():
    """Output i of n reads input i x length / n: samples are not centred, the last ones lean on the
    edge.
    """
    pixels = np.random.RandomState(0).randint(0, 256, (30, 40, 3)).astype(np.uint8)
    rows, columns = (np.arange(SIZE) * length / SIZE for length in (30, 40))
    found = input_pipeline.decode(encoded(pixels, 'PNG'), cfg(eval_preprocessing='plain'))
    assert np.abs(found - bilinear(pixels, rows, columns)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize('size', [71, 299])
@pytest.mark.parametrize('height, width', SHAPES)
def test_resize_crop(height, width, size):
    data, short = photo(height, width), size * 320 // 299
    if height < width:
        tall, wide = short, width * short // height
    else:
        tall, wide = height * short // width, short
    top, left = (tall - size) // 2, (wide - size) // 2
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))
    expected = resized(pixels, tall, wide)[top : top + size, left : left + size]
    found = input_pipeline.decode(data, cfg(eval_preprocessing='resize_crop', image_size=size))
    assert found.shape == (size, size, 3) and np.abs(found - expected).max() <= 1


@pytest.mark.parametrize('size', [71, 299])
@pytest.mark.parametrize('height, width', SHAPES)
def test_bicubic_crop_is_timms(height, width, size):
    data, short = photo(height, width), int(np.floor(size / 0.8975))
    assert size != 299 or short == 333
    if height <= width:
        wide, tall = int(short * width / height), short
    else:
        wide, tall = short, int(short * height / width)
    pixels = np.asarray(Image.open(io.BytesIO(data)).resize((wide, tall), Image.BICUBIC))
    top, left = int(round((tall - size) / 2.0)), int(round((wide - size) / 2.0))
    found = input_pipeline.decode(data, cfg(eval_preprocessing='bicubic_crop', image_size=size))
    assert np.array_equal(found, pixels[top : top + size, left : left + size])


def test_training_plain_is_evaluation_plain(tmp_path):
    folder = write(tmp_path, [photo(90, 80 + i, seed=i) for i in range(4)], [1, 2, 3, 4])
    seen = {
        batch['label'][0]: batch['image'][0]
        for batch in run(folder, cfg(train_preprocessing='plain'), True, batch_size=1, steps=4)
    }
    assert sorted(seen) == [0, 1, 2, 3]
    for batch in run(folder, cfg(eval_preprocessing='plain'), False, batch_size=1):
        assert np.array_equal(batch['image'][0], seen[batch['label'][0]])
