"""Encoded images and their records for the tests of xception_tf.input_pipeline."""

import io

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_records
from numpy_images import waves
from PIL import Image

from common.data import pipeline, records
from xception_tf.config import XceptionConfig
from xception_tf.input_pipeline import DRAWS, Draws
from xception_tf.task import TASK

SIZE, CLASSES = 71, 5


def cfg(**changes):
    return XceptionConfig(
        **{'image_size': SIZE, 'num_classes': CLASSES, 'data_path': 'DATA', **changes}
    )


def encoded(pixels, kind='JPEG', mode='RGB', **options):
    stream = io.BytesIO()
    if kind == 'JPEG':
        options = {'quality': 95, **({'subsampling': 0} if mode == 'RGB' else {}), **options}
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def photo(height, width, seed=0, **options):
    return encoded(waves(height, width, seed), **options)


def write(folder, jpegs, labels, schema='slim', names=None):
    """A foreign folder of TFRecords, written by TensorFlow."""
    rows = []
    for i, (jpeg, label) in enumerate(zip(jpegs, labels)):
        name = (names[i] if names else 'image_%d.JPEG' % i).encode()
        if schema == 'slim':
            row = {'encoded': jpeg, 'format': b'JPEG', 'class/synset': b'n0', 'filename': name}
            row.update({} if label is None else {'class/label': label})
            rows.append({'image/' + key: value for key, value in row.items()})
        else:
            rows.append(dict(image=jpeg, label=label, height=3, text=b'', filename=name))
    return tensorflow_records.write(folder / 'a.tfrecord', rows)


def run(folder, settings, training=False, batch_size=2, **position):
    """The features of all batches as NumPy, by the way that training and evaluation take."""
    folder = folder if isinstance(folder, records.Folder) else records.Folder.open(folder)
    with tf.Graph().as_default():
        return tensorflow_records.elements_of_known_shape(
            pipeline.dataset(TASK, folder, settings, batch_size, training, **position)
        )


def complaint(folder, settings, training):
    """The one line that the user sees."""
    with pytest.raises(tf.errors.OpError) as caught:
        run(folder, settings, training, batch_size=1, steps=20)
    found = records.user_error(caught.value)
    assert found is not None, caught.value
    return str(found)


def draws_for(area=0.5, aspect=0.5, top=0.5, left=0.5, flip=0.9, attempts=None):
    """attempts: [10, 2] areas and aspects, instead of ten alike."""
    draws = np.full(DRAWS, 0.5)
    draws[:20] = np.transpose([(area, aspect)] * 10 if attempts is None else attempts).ravel()
    draws[20:23] = top, left, flip
    return Draws.of(draws.tolist())
