"""Pictures of what a segmentation predicted."""

import os
import re
from typing import Dict

import cv2
import numpy as np
import tensorflow as tf

from common.errors import UserError
from common.files import atomic

SAMPLES = 4  # pictures that a run keeps
SAMPLE_WIDTH = 640  # of the image in such a picture, at most


class Pictures:
    """Writes PNGs of the images that evaluation sees.

    With cfg.save_predictions, for every image:
      labelIds/NAME_pred_labelIds.png   cfg.labels.ids of the classes, as cityscapesscripts
                                        (CITYSCAPES_RESULTS=.../labelIds) and its server take them
      color/NAME.png                    in the colours of cfg.labels
      overlay/NAME.png                  the image under these colours
    With cfg.output_path, for the chief's first images: samples/NAME.png: image, truth, prediction
    and overlay side by side. NAME is the record's `filename`, else record_000012 by its number.
    """

    def __init__(self, cfg, folder, is_chief: bool):
        self._folder, self._labels, self._saved = folder, cfg.labels, cfg.save_predictions
        self._bgr = cfg.bgr
        self._samples = os.path.join(cfg.output_path or '', 'samples')
        self._samples_left = SAMPLES if is_chief and cfg.output_path else 0

    @staticmethod
    def wanted(cfg) -> bool:
        """Whether an evaluation under this configuration writes any picture."""
        return bool(cfg.save_predictions or cfg.output_path)

    def write(self, found: Dict[str, np.ndarray]) -> None:
        """found: 'image' uint8 [H,W,3] in the network's order of channels, 'label' and 'prediction'
        uint8 [H,W], 'id' the record's number. UserError for a file that cannot be written.
        """
        if not self._saved and not self._samples_left:
            return
        name = self._name(int(found['id']))
        image = found['image'][..., ::-1] if self._bgr else found['image']
        colours = self._labels.colours(found['prediction'])
        overlay = cv2.addWeighted(np.ascontiguousarray(image), 0.5, colours, 0.5, 0)
        if self._saved:
            for path, picture in (
                ('labelIds/%s_pred_labelIds.png', self._labels.file_ids(found['prediction'])),
                ('color/%s.png', colours),
                ('overlay/%s.png', overlay),
            ):
                _save('--save_predictions', os.path.join(self._saved, path % name), picture)
        if self._samples_left:
            self._samples_left -= 1
            row = {
                'image': image,
                'truth': self._labels.colours(found['label']),
                'prediction': colours,
                'overlay': overlay,
            }
            path = os.path.join(self._samples, name + '.png')
            _save('--output_path', path, _side_by_side(row))

    def _name(self, number: int) -> str:
        record = tf.train.Example.FromString(self._folder.read([number])[0])
        names = record.features.feature['filename'].bytes_list.value
        name = names[0] if names else b'record_%06d' % number
        return re.sub(r'[^\w.-]', '_', name.decode(errors='replace'))


def _save(flag: str, path: str, image: np.ndarray) -> None:
    """Writes a PNG; image: uint8 [H,W] or RGB [H,W,3]."""
    encoded = cv2.imencode('.png', image if image.ndim == 2 else image[..., ::-1])[1]
    try:
        with atomic(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
    except OSError as error:
        raise UserError(
            '%s: %s could not be written: %s; free space there, or give a folder that you may'
            ' write to' % (flag, path, error.strerror)
        )


def _side_by_side(pictures: Dict[str, np.ndarray], margin: int = 8, line: int = 24) -> np.ndarray:
    """RGB pictures [H,W,3] of one size in a row under their captions, on white, each at most
    SAMPLE_WIDTH wide.
    """
    full_height, full_width = pictures['image'].shape[:2]
    width = min(SAMPLE_WIDTH, full_width)
    height = max(1, round(full_height * width / full_width))
    canvas = np.full(
        [line + height + margin, len(pictures) * (width + margin) + margin, 3], 255, np.uint8
    )
    for number, (caption, picture) in enumerate(pictures.items()):
        left = margin + number * (width + margin)
        photograph = caption in ('image', 'overlay')
        canvas[line : line + height, left : left + width] = cv2.resize(
            picture,
            (width, height),
            interpolation=cv2.INTER_AREA if photograph else cv2.INTER_NEAREST,
        )
        at, font = (left, line - 8), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(canvas, caption, at, font, 0.45, (60, 60, 60), 1, cv2.LINE_AA)
    return canvas
