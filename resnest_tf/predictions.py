"""From predicted classes to figures and pictures. NumPy alone, outside of the graph.

Counts, which add up over images, batches and ranks: 'images' int64, 'pixels' int64 that have a
label, 'loss_sum' float64 of their cross entropies in nats, 'confusion' int64 [C, C], row = true
class.
"""

import os
import re
from typing import Any, Dict

import cv2
import numpy as np
import tensorflow as tf

from common.data import records
from common.errors import UserError
from common.files import atomic
from common.metrics import scores as measures
from resnest_tf.cityscapes import CLASSES, IGNORE, to_colours, to_label_ids

SAMPLES = 4  # pictures that a run keeps
SAMPLE_WIDTH = 640  # of the image in such a picture, at most
Counts = Dict[str, np.ndarray]


class Tally:
    """Turns what evaluation fetches of a batch of one image into counts, and writes pictures of it.

    With cfg.save_predictions, for every image:
      labelIds/NAME_pred_labelIds.png   label ids, as cityscapesscripts
                                        (CITYSCAPES_RESULTS=.../labelIds) and the benchmark's server
                                        take
                                        them; of a data set of other than 19 classes the class
                                        numbers
      color/NAME.png                    in Cityscapes' colours
      overlay/NAME.png                  the image under these colours
    With cfg.output_path, for the chief's first images: samples/NAME.png: image, truth, prediction
    and overlay side by side. NAME is the record's `filename`, else record_000012 by its number.
    """

    def __init__(self, cfg, folder: records.Folder, is_chief: bool):
        self._folder, self._saved, self._classes = folder, cfg.save_predictions, cfg.num_classes
        self._samples = (
            os.path.join(cfg.output_path, 'samples') if is_chief and cfg.output_path else None
        )
        self._samples_left = SAMPLES if self._samples else 0

    def __call__(self, batch: Dict[str, np.ndarray]) -> Counts:
        """Counts of {'prediction', 'label': uint8 [1,H,W], 'mask': float32 [1], 'id': int32 [1],
        'loss': float32 [1], the mean over the labelled pixels}. An image whose mask is 0 counts
        nothing and is not written.

        Raises UserError for a label that is no class and for a file that cannot be written.
        """
        counts = _nothing(self._classes)
        if batch['mask'][0] > 0:
            label, prediction = batch['label'][0], batch['prediction'][0]
            counts = _counts(label, prediction, batch['loss'][0], self._classes)
            if self._saved or self._samples_left:
                self._write(int(batch['id'][0]), label, prediction)
        return counts

    def _write(self, number: int, label: np.ndarray, prediction: np.ndarray) -> None:
        feature = tf.train.Example.FromString(self._folder.read([number])[0]).features.feature
        name = (
            feature['filename'].bytes_list.value[0]
            if feature['filename'].bytes_list.value
            else b'record_%06d' % number
        )
        name = re.sub(r'[^\w.-]', '_', name.decode(errors='replace'))
        image = np.frombuffer(feature['image'].bytes_list.value[0], np.uint8).reshape(
            prediction.shape + (3,)
        )[..., ::-1]
        colours = to_colours(prediction)
        overlay = cv2.addWeighted(image, 0.5, colours, 0.5, 0)
        if self._saved:
            ids = to_label_ids(prediction) if self._classes == len(CLASSES) else prediction
            _save(
                '--save_predictions',
                os.path.join(self._saved, 'labelIds', name + '_pred_labelIds.png'),
                ids,
            )
            _save('--save_predictions', os.path.join(self._saved, 'color', name + '.png'), colours)
            _save(
                '--save_predictions', os.path.join(self._saved, 'overlay', name + '.png'), overlay
            )
        if self._samples_left:
            self._samples_left -= 1
            pictures = {
                'image': image,
                'truth': to_colours(label),
                'prediction': colours,
                'overlay': overlay,
            }
            _save(
                '--output_path', os.path.join(self._samples, name + '.png'), _side_by_side(pictures)
            )


def offline_counts(logits: np.ndarray, features: Dict[str, np.ndarray]) -> Counts:
    """Counts of logits [B, H, W, C], any float dtype, that another engine made; features: label
    uint8 [B, H, W], mask [B].
    """
    total = _nothing(logits.shape[-1])
    for image, label, mask in zip(logits, features['label'], features['mask']):
        if mask > 0:
            prediction = image.argmax(axis=-1).astype(np.uint8)
            total = measures.add(
                total, _counts(label, prediction, _cross_entropy(image, label), image.shape[-1])
            )
    return total


def _cross_entropy(logits: np.ndarray, label: np.ndarray) -> float:
    """Mean over the labelled pixels; class by class, as all in float64 would be twice the size of
    the logits.
    """
    valid = label != IGNORE
    highest = logits.max(axis=-1).astype(np.float64)
    exponentials, true = np.zeros(label.shape), np.zeros(label.shape)
    for number in range(logits.shape[-1]):
        one = logits[..., number].astype(np.float64)
        exponentials += np.exp(one - highest)
        true[label == number] = one[label == number]
    return float((np.log(exponentials) + highest - true)[valid].mean()) if valid.any() else 0.0


def _nothing(classes: int) -> Counts:
    return {
        'images': np.int64(0),
        'pixels': np.int64(0),
        'loss_sum': np.float64(0),
        'confusion': np.zeros([classes, classes], np.int64),
    }


def _counts(label: np.ndarray, prediction: np.ndarray, loss: float, classes: int) -> Counts:
    """Of one image; loss: the mean over its labelled pixels, of no meaning if there are none."""
    confusion = measures.confusion(label, prediction, classes, IGNORE)
    pixels = confusion.sum()
    return {
        'images': np.int64(1),
        'pixels': pixels,
        'loss_sum': np.float64(loss) * pixels if pixels else np.float64(0),
        'confusion': confusion,
    }


def metrics(counts: Counts) -> Dict[str, Any]:
    """Summed counts -> figures; fractions are 0..1.

    Returns {'images', 'loss': mean cross entropy of a labelled pixel in nats, 'miou', 'accuracy' of
    a pixel, 'mean_accuracy', 'frequency_weighted_iou', 'iou': {class: fraction, None for a class
    that is neither true nor predicted}}; of images without labels (Cityscapes' test split)
    {'images'} alone. Classes that do not occur are left out of the means, as cityscapesscripts
    does.
    """
    images, pixels, confusion = (
        int(counts.get('images', 0)),
        int(counts.get('pixels', 0)),
        counts.get('confusion'),
    )
    if images == 0:
        raise UserError(
            'no image was evaluated: the split holds no records; point --data_path at a folder with'
            ' some'
        )
    if pixels == 0:
        return {'images': images}
    iou = measures.iou(confusion)
    names = (
        CLASSES if len(iou) == len(CLASSES) else ['class %d' % number for number in range(len(iou))]
    )
    return {
        'images': images,
        'loss': float(counts['loss_sum']) / pixels,
        'miou': measures.mean_iou(confusion),
        'accuracy': measures.accuracy(confusion),
        'mean_accuracy': measures.mean_accuracy(confusion),
        'frequency_weighted_iou': measures.frequency_weighted_iou(confusion),
        'iou': {name: None if np.isnan(value) else float(value) for name, value in zip(names, iou)},
    }


def eval_line(figures: Dict[str, Any]) -> str:
    """Each class's IoU in per cent, then the lines that scripts around the published port search
    for.
    """
    if 'miou' not in figures:
        return '%d images, none of whose pixels has a label: nothing to score' % figures['images']
    cells = [
        '%-15s%6s' % (name, '-' if value is None else '%.2f' % (100 * value))
        for name, value in figures['iou'].items()
    ]
    rows = -(-len(cells) // 3)
    return '\n'.join(
        ['IoU in per cent; %d images, loss %.5f' % (figures['images'], figures['loss'])]
        + ['   '.join(cells[row::rows]) for row in range(rows)]
        + [
            'pixel accuracy= %.2f, mean accuracy= %.2f, miou = %.2f, frequency-weighted IoU = %.2f'
            % (
                figures['accuracy'],
                figures['mean_accuracy'],
                figures['miou'],
                figures['frequency_weighted_iou'],
            ),
            'miou %.6f' % figures['miou'],
        ]
    )


def _save(flag: str, path: str, image: np.ndarray) -> None:
    """Writes a PNG; image: uint8 [H, W] or RGB [H, W, 3]."""
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
    """RGB pictures [H, W, 3] of one size in a row under their captions, on white, each at most
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
        shrunk = cv2.resize(
            picture,
            (width, height),
            interpolation=cv2.INTER_AREA if caption in ('image', 'overlay') else cv2.INTER_NEAREST,
        )
        canvas[line : line + height, left : left + width] = shrunk
        cv2.putText(
            canvas,
            caption,
            (left, line - 8),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.45,
            (60, 60, 60),
            1,
            cv2.LINE_AA,
        )
    return canvas
