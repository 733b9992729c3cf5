"""Drawn blobs of 64x96 pixels in the published port's schema, and run_resnest.py on them inside
this process.
"""

import contextlib
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_records

from common import run as command
from resnest_tf import cityscapes
from resnest_tf.task import TASK

HEIGHT, WIDTH = 64, 96


def blobs(count, seed):
    """(BGR image, trainIds): four classes in rectangles, each of its own colour under noise, a
    border that does not count.
    """
    random = np.random.RandomState(seed)
    colours = np.array([[60, 60, 60], [180, 40, 40], [40, 180, 40], [60, 60, 200]])
    for _ in range(count):
        label = np.zeros([HEIGHT, WIDTH], np.uint8)
        for kind in (1, 2, 3):
            top, left = random.randint(0, HEIGHT - 24), random.randint(0, WIDTH - 24)
            label[top : top + 24, left : left + 24] = kind
        image = colours[label] + random.normal(0, 20, [HEIGHT, WIDTH, 3])
        label[-4:] = cityscapes.IGNORE
        yield image.clip(0, 255).astype(np.uint8), label


def write_records(folder):
    """train/ (9 records) and val/ (3), written by TensorFlow."""
    size = dict(height=HEIGHT, width=WIDTH, channels=3)
    for split, count, seed in (('train', 9, 1), ('val', 3, 2)):
        tensorflow_records.write(
            folder / split / ('cityscapes_%s.tfrecords' % split),
            (
                dict(size, image=image.tobytes(), label=label.tobytes())
                for image, label in blobs(count, seed)
            ),
        )


def call(*words, report=False):
    """The command with these words, which are split at spaces."""
    with tf.Graph().as_default(), contextlib.ExitStack() as stack:
        if not report:
            stack.enter_context(mock.patch('common.reporting.report.write'))
        command.main(TASK, ' '.join(map(str, ('--device cpu',) + words)).split())
