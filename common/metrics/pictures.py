"""Pictures of what a segmentation predicted."""

import os
import re
from typing import Dict

import cv2
import numpy as np
import tensorflow as tf

from common.metrics.gallery import Gallery, save_png, sheet
from common.metrics.labels import Labels

SAMPLES, WORST = 4, 6  # pictures that a run keeps
SAMPLE_WIDTH = 640  # of the image in such a picture, at most


class Pictures:
    """Writes PNGs of the images that evaluation sees.

    With cfg.save_predictions, for every image:
      labelIds/NAME_pred_labelIds.png   cfg.labels.ids of the classes, as cityscapesscripts
                                        (CITYSCAPES_RESULTS=.../labelIds) and its server take them
      color/NAME.png                    in the colours of cfg.labels
      overlay/NAME.png                  the image under these colours
    With cfg.output_path, the galleries samples/ and worst/ show the chief's first images and those
    with the most wrong pixels: image, truth, prediction and overlay side by side.
    NAME is the record's `filename`, else record_000012 by its number.
    """

    def __init__(self, cfg, folder, is_chief: bool):
        self._folder, self._labels, self._saved = folder, cfg.labels, cfg.save_predictions
        self._bgr = cfg.bgr
        self._seen = 0
        self._galleries = []
        if is_chief and cfg.output_path:
            samples, worst = (os.path.join(cfg.output_path, name) for name in ('samples', 'worst'))
            self._galleries.append((Gallery(samples, 'Samples', SAMPLES), lambda share: self._seen))
            self._galleries.append((Gallery(worst, 'Worst images', WORST), lambda share: share))

    @staticmethod
    def wanted(cfg) -> bool:
        """Whether an evaluation under this configuration writes any picture."""
        return bool(cfg.save_predictions or cfg.output_path)

    def write(self, found: Dict[str, np.ndarray]) -> None:
        """found: 'image' uint8 [H,W,3] in the network's order of channels, 'label' and 'prediction'
        uint8 [H,W], 'id' the record's number. UserError for a file that cannot be written.
        """
        if not self._saved and not self._galleries:
            return
        name, labels, prediction = self._name(int(found['id'])), self._labels, found['prediction']
        image = np.ascontiguousarray(found['image'][..., ::-1] if self._bgr else found['image'])
        if self._saved:
            save_prediction('--save_predictions', self._saved, name, image, prediction, labels)

        def draw():
            colours = labels.colours(prediction)
            overlay = cv2.addWeighted(image, 0.5, colours, 0.5, 0)
            truth = labels.colours(found['label'])
            row = [('image', image), ('truth', truth), ('prediction', colours)]
            row.append(('overlay', overlay))
            return sheet(row, SAMPLE_WIDTH, sharp=('truth', 'prediction'))

        labelled = found['label'] != labels.ignore
        right = (prediction == found['label'])[labelled]
        share = right.mean() if right.size else 1.0
        for gallery, order in self._galleries:
            caption = '%s: %.1f %% of the pixels correct' % (name, 100 * share)
            gallery.offer(order(share), name, caption, draw)
        self._seen += 1

    def _name(self, number: int) -> str:
        record = tf.train.Example.FromString(self._folder.read([number])[0])
        names = record.features.feature['filename'].bytes_list.value
        name = names[0] if names else b'record_%06d' % number
        return re.sub(r'[^\w.-]', '_', name.decode(errors='replace'))


def save_prediction(
    flag: str, folder: str, name: str, image: np.ndarray, prediction: np.ndarray, labels: Labels
) -> np.ndarray:
    """Writes the three PNGs of a prediction uint8 [H,W] on an RGB image [H,W,3], see Pictures, and
    returns the overlay.
    """
    colours = labels.colours(prediction)
    overlay = cv2.addWeighted(image, 0.5, colours, 0.5, 0)
    for path, picture in (
        ('labelIds/%s_pred_labelIds.png', labels.file_ids(prediction)),
        ('color/%s.png', colours),
        ('overlay/%s.png', overlay),
    ):
        save_png(flag, os.path.join(folder, path % name), picture)
    return overlay
