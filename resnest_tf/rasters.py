"""Raw images and labels in records: read whole and checked the first time in a process, later only
the rows that are needed.
"""

import os
from typing import Dict, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from common.data import tfrecord
from common.data.records import Folder
from resnest_tf.cityscapes import IGNORE

_BYTES = ('image', 'label', 'filename')
_NUMBERS = ('height', 'width', 'channels')
FEATURES = {**dict.fromkeys(_BYTES, bytes), **dict.fromkeys(_NUMBERS, int)}


class Raster(NamedTuple):
    """The pixels of a record: where they begin in its file, or `arrays` if it was just read."""

    height: int
    width: int
    file: str
    image_at: int
    label_at: int
    arrays: Optional[Tuple[np.ndarray, np.ndarray]] = None

    def image(self, first: int, count: int) -> np.ndarray:
        """Returns rows of the image, uint8 BGR [count,W,3]."""
        if self.arrays:
            return self.arrays[0][first : first + count]
        return self._read(self.image_at, first, count, (self.width, 3))

    def label(self, first: int, count: int) -> np.ndarray:
        """Returns rows of the classes, uint8 [count,W]."""
        if self.arrays:
            return self.arrays[1][first : first + count]
        return self._read(self.label_at, first, count, (self.width,))

    def _read(self, at: int, first: int, count: int, row: Tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(row))
        with open(self.file, 'rb', buffering=0) as source:
            data = os.pread(source.fileno(), count * size, at + first * size)
        if len(data) != count * size:
            raise ValueError('its file has become shorter; restore it')
        return np.frombuffer(data, np.uint8).reshape(count, *row)


class Rasters:
    """The rasters of a folder. verify: reads and checks them whole each time."""

    def __init__(self, folder: Folder, num_classes: int, verify: bool):
        self.folder, self._num_classes, self._verify = folder, num_classes, verify
        self._located: Dict[int, Raster] = {}

    def __getitem__(self, id: int) -> Raster:
        """UserError names a record that is corrupt or is not an image with its label."""
        if id in self._located:
            return self._located[id]
        (payload,) = self.folder.read([id])
        file, start = self.folder.location(id)
        name = b''
        try:
            example = tfrecord.parse_example(payload, FEATURES)
            name = example['filename'] or b''
            image, label = _arrays(example, self._num_classes)
        except ValueError as error:
            raise self.folder.record_error(id, error, name.decode('utf-8', 'replace'))
        if not self._verify:
            offsets = [tfrecord.locate(payload, key, example[key]) for key in ('image', 'label')]
            if min(offsets) >= 0:
                at = [start + tfrecord.HEADER + offset for offset in offsets]
                self._located[id] = Raster(*label.shape, str(file), *at)
        return Raster(*label.shape, str(file), 0, 0, (image, label))


def _arrays(example: Dict, num_classes: int) -> Tuple[np.ndarray, np.ndarray]:
    """Views of a record's contents, BGR [H,W,3] and classes [H,W]; ValueError if they are wrong."""
    shape = tuple(example[key] or 0 for key in _NUMBERS)
    height, width, channels = shape
    if min(height, width) < 1 or channels != 3:
        raise ValueError(
            'it has height %d, width %d and %d channels (0: none given), an image has 3 channels;'
            ' give Cityscapes records' % shape
        )
    for key, size in (('image', height * width * 3), ('label', height * width)):
        actual = len(example[key] or b'')
        if actual != size:
            raise ValueError(
                'its %s has %d bytes, %d x %d pixels are %d; prepare the records again'
                % (key, actual, height, width, size)
            )
    classes = np.frombuffer(example['label'], np.uint8).reshape(height, width)
    illegal = cv2.inRange(classes, num_classes, IGNORE - 1)
    if cv2.countNonZero(illegal):
        raise ValueError(
            'it has label %d; with --num_classes %d legal are 0 to %d, and %d for what is not'
            ' scored; are these trainIds?'
            % (classes[illegal > 0][0], num_classes, num_classes - 1, IGNORE)
        )
    return np.frombuffer(example['image'], np.uint8).reshape(height, width, 3), classes
