"""Segmentation: training loss, and figures from one confusion matrix over all pixels.

features: 'label' uint8 [B,H,W], 'mask' float32 [B], 'id' int32 [B], the record's number, and
'image' uint8 [B,H,W,3]. Sums: 'images', 'pixels' int64 that have a label, 'loss_sum' float64 of
their cross entropies in nats, 'confusion' int64 [C,C], row = true class. cfg.labels: see labels.py.
"""

from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
import tensorflow as tf

from common.metrics import losses, scores
from common.metrics.pictures import Pictures

BEST = 'miou'
Sums = Dict[str, np.ndarray]


def loss(outputs: Tuple[tf.Tensor, Optional[tf.Tensor]], features: Dict[str, tf.Tensor], cfg):
    """Training loss, a float32 scalar: of the logits, plus cfg.aux_weight x that of the auxiliary
    logits if there are any.
    """
    logits, auxiliary = outputs
    total = _loss(logits, features['label'], cfg)
    if auxiliary is None:
        return total
    return total + cfg.aux_weight * _loss(auxiliary, features['label'], cfg)


def _loss(logits, labels, cfg):
    ignore = cfg.labels.ignore
    if cfg.loss == 'ohem':
        return losses.ohem(logits, labels, cfg.ohem_threshold, cfg.ohem_min_kept, ignore)
    # Over all pixels, ignored ones included, each rank's mean has the same weight, however many of
    # its pixels are labelled. mmsegmentation and the published port do so; the authors do not.
    options = dict(ignore_label=ignore, average=cfg.loss_average)
    if cfg.loss == 'focal':
        return losses.focal(logits, labels, cfg.focal_gamma, **options)
    return losses.cross_entropy(logits, labels, cfg.label_smoothing, **options)


def counts(logits: tf.Tensor, features: Dict[str, tf.Tensor], cfg) -> Dict[str, tf.Tensor]:
    """What evaluation fetches: predictions, and the mean loss of the labelled pixels, by image."""
    label = tf.cast(features['label'], tf.int32)
    valid = tf.cast(tf.not_equal(label, cfg.labels.ignore), tf.float32)
    masked_label = label * tf.cast(valid, tf.int32)
    pixel_losses = losses.elementwise_cross_entropy(logits, masked_label)
    total = tf.reduce_sum(tf.where(valid > 0.0, pixel_losses, tf.zeros_like(valid)), [1, 2])
    fetched = {
        'prediction': tf.cast(tf.argmax(logits, axis=3, output_type=tf.int32), tf.uint8),
        'loss': total / tf.maximum(tf.reduce_sum(valid, [1, 2]), 1.0),
        'finite': losses.finite(logits),
    }
    keys = ['label', 'mask', 'id'] + ['image'] * bool(cfg.save_predictions or cfg.output_path)
    return dict(fetched, **{key: tf.identity(features[key]) for key in keys})


def accumulator(cfg, folder, is_chief: bool) -> Callable[[Dict[str, np.ndarray]], Sums]:
    """Returns a function that turns the `counts` of a batch into sums and writes its pictures.
    UserError for a label that is not a class and for logits that are not finite.
    """
    pictures = Pictures(cfg, folder, is_chief)

    def add_up(batch: Dict[str, np.ndarray]) -> Sums:
        total = _sums(batch, cfg, ' of %s' % folder.path)
        for image in np.flatnonzero(batch['mask'] > 0):
            pictures.write({key: value[image] for key, value in batch.items()})
        return total

    return add_up


def offline_counts(logits: np.ndarray, features: Dict[str, np.ndarray], cfg) -> Sums:
    """The sums of logits [B,H,W,C], any float dtype, that another engine made.

    features: 'label', 'mask' and, for errors, 'id'.
    """
    finite = np.isfinite(logits).all(axis=(1, 2, 3))
    batch = dict(features, finite=finite, prediction=logits.argmax(axis=-1))
    batch['loss'] = np.zeros(len(logits))
    for image in scores.counted(batch):
        label = features['label'][image]
        batch['loss'][image] = _cross_entropy(logits[image], label, cfg.labels.ignore)
    return _sums(batch, cfg)


def _cross_entropy(logits: np.ndarray, label: np.ndarray, ignore: int) -> float:
    """Mean over the labelled pixels of [H,W,C]; class by class, since float64 logits of a whole
    image would take twice the memory.
    """
    valid = label != ignore
    highest = logits.max(axis=-1).astype(np.float64)
    exponentials, target = np.zeros(label.shape), np.zeros(label.shape)
    for number in range(logits.shape[-1]):
        class_logits = logits[..., number].astype(np.float64)
        exponentials += np.exp(class_logits - highest)
        target[label == number] = class_logits[label == number]
    return float((np.log(exponentials) + highest - target)[valid].mean()) if valid.any() else 0.0


def _sums(batch: Dict[str, np.ndarray], cfg, where: str = '') -> Sums:
    """Of the images that count. 'loss' is the mean of an image's labelled pixels; it means nothing
    if there are none.
    """
    images = scores.counted(batch, where)
    labels, ignore = batch['label'][images], cfg.labels.ignore
    pixels = (labels != ignore).sum(axis=(1, 2))
    losses = np.where(pixels, batch['loss'][images], 0).astype(np.float64)
    return {
        'images': np.int64(len(images)),
        'pixels': pixels.sum(),
        'loss_sum': losses.dot(pixels),
        'confusion': scores.confusion(labels, batch['prediction'][images], cfg.num_classes, ignore),
    }


def figures(sums: Sums, cfg) -> Dict[str, Any]:
    """Returns the figures of a split; fractions are 0..1.

    {'images', 'loss': mean cross entropy of a labelled pixel in nats, 'miou', 'accuracy' of a
    pixel, 'mean_accuracy', 'frequency_weighted_iou', 'iou': {class: fraction, None for a class that
    is neither true nor predicted}}; of images without labels (Cityscapes' test split) {'images'}
    alone.
    """
    images = scores.require_images(sums)
    if sums['pixels'] == 0:
        return {'images': images}
    confusion = sums['confusion']
    iou = zip(cfg.labels.names, scores.iou(confusion))
    return {
        'images': images,
        'loss': float(sums['loss_sum']) / int(sums['pixels']),
        'miou': scores.mean_iou(confusion),
        'accuracy': scores.accuracy(confusion),
        'mean_accuracy': scores.mean_accuracy(confusion),
        'frequency_weighted_iou': scores.frequency_weighted_iou(confusion),
        'iou': {name: None if np.isnan(value) else float(value) for name, value in iou},
    }


def eval_line(name: str, figures: Dict[str, Any]) -> str:
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
            'pixel accuracy= %(accuracy).2f, mean accuracy= %(mean_accuracy).2f, miou = %(miou).2f,'
            ' frequency-weighted IoU = %(frequency_weighted_iou).2f' % figures,
            'miou %.6f' % figures['miou'],
        ]
    )
