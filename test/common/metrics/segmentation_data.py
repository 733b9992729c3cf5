"""Records of random images with labels and predictions, and what evaluation fetches of them."""

import types

import numpy as np
import tensorflow as tf
from cityscapesscripts.helpers import labels as official
from PIL import Image

from common.data import record_writer, records, tfrecord
from common.metrics import scores as measures
from common.metrics import segmentation
from common.metrics.labels import Labels

NAMES = [official.trainId2label[number].name for number in range(19)]
COLOURS = np.array([official.trainId2label[number].color for number in range(19)], np.uint8)
SCHEMA = {
    'image': {'kind': 'bytes', 'dtype': 'uint8', 'shape': []},
    'label': {'kind': 'bytes', 'dtype': 'uint8', 'shape': []},
    'filename': {'kind': 'bytes', 'dtype': 'string', 'shape': []},
    **{
        key: {'kind': 'int64', 'dtype': 'int64', 'shape': []}
        for key in ('height', 'width', 'channels')
    },
}


def settings(save=None, output=None, classes=19):
    names = NAMES if classes == 19 else ['class %d' % number for number in range(classes)]
    ids = [official.trainId2label[number].id for number in range(19)]
    ids = np.array(ids if classes == 19 else range(classes), np.uint8)
    return types.SimpleNamespace(
        num_classes=classes,
        labels=Labels(names, 255, COLOURS, ids),
        bgr=False,
        save_predictions=save and str(save),
        output_path=output and str(output),
    )


def encode(item):
    image, label, name = item
    return {
        'image': image[..., ::-1].tobytes(),
        'label': label.tobytes(),
        'height': image.shape[0],
        'width': image.shape[1],
        'channels': 3,
        'filename': name.encode(),
    }


class Data:
    """Random RGB images, labels with ignored pixels and predictions, in records of our schema or,
    without names, the published port's.
    """

    def __init__(
        self,
        path,
        names=('ulm_000000_000019', 'ulm_000001_000019', 'bonn_000002_000019'),
        size=(18, 24),
        classes=19,
        seed=0,
    ):
        random = np.random.RandomState(seed)
        count = len(names) or 3
        self.images = random.randint(0, 256, (count,) + size + (3,)).astype(np.uint8)
        self.labels = random.randint(0, classes + 3, (count,) + size)
        self.labels = np.where(self.labels < classes, self.labels, 255).astype(np.uint8)
        wrong = random.randint(0, classes, (count,) + size)
        self.predictions = np.where(
            (random.uniform(size=wrong.shape) < 0.4) | (self.labels == 255), wrong, self.labels
        ).astype(np.uint8)
        self.losses = random.uniform(0.1, 3, count).astype(np.float32)
        if names:
            record_writer.write(
                path,
                list(zip(self.images, self.labels, names)),
                encode,
                name='test',
                split='val',
                schema=SCHEMA,
                workers=1,
            )
        else:
            path.mkdir()
            with tf.io.TFRecordWriter(str(path / 'val.tfrecord')) as writer:
                for item in zip(self.images, self.labels, [''] * count):
                    features = encode(item)
                    del features['filename']
                    writer.write(tfrecord.make_example(features))
        self.folder = records.Folder.open(path)

    def batch(self, number, mask=1.0):
        return {
            'prediction': self.predictions[number : number + 1],
            'label': self.labels[number : number + 1],
            'id': np.array([number], np.int32),
            'loss': self.losses[number : number + 1],
            'mask': np.array([mask], np.float32),
            'finite': np.array([True]),
            'image': self.images[number : number + 1],
        }

    def tally(self, cfg, is_chief=True):
        """Sums over all images."""
        tally, total = segmentation.accumulator(cfg, self.folder, is_chief), {}
        for number in range(len(self.images)):
            total = measures.add(total, tally(self.batch(number)))
        return total


def read(path):
    with Image.open(str(path)) as image:
        return np.array(image)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())
