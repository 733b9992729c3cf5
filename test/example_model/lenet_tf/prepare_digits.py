"""Writes scikit-learn's digits as records: `python -m lenet_tf.prepare_digits OUTPUT`."""

import pathlib
import sys

import numpy as np

from common.data import digits, record_writer

SCHEMA = {
    'image': {'kind': 'bytes', 'dtype': 'uint8', 'shape': [16, 16, 3]},
    'label': {'kind': 'int64', 'dtype': 'int64', 'shape': []},
}


def encode(item):
    image, label = item
    return {'image': np.repeat(image[..., None], 3, axis=-1).tobytes(), 'label': int(label)}


def main(output):
    names = [str(digit) for digit in range(10)]
    for split, (images, labels) in digits.load(16).items():
        items = list(zip(images, labels))
        record_writer.write(
            pathlib.Path(output) / split,
            items,
            encode,
            name='digits',
            split=split,
            schema=SCHEMA,
            classes=names,
        )


if __name__ == '__main__':
    main(sys.argv[1])
