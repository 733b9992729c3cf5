"""Classification: training loss with label smoothing and mixup, top-1 and top-5.

features: 'label' int32 [B], 'mask' float32 [B], in training with mixup also 'label_b' and 'mixup'
float32 [B], the share of the image's own label. Logits are [B, C]. Sums: 'images', 'top1', 'top5'
int64, 'loss_sum' float64 in nats, and up to scores.CONFUSION_LIMIT classes 'confusion' int64
[C, C], row = true class.

The classes of an image are ranked by falling logit, equal ones by rising index; the true class is
in the top k if its rank is below k. Top 1 is therefore exactly argmax.
"""

import functools
import os
from typing import Callable, Dict

import numpy as np
import tensorflow as tf

from common.metrics import losses, scores
from common.metrics.pictures import Gallery, enlarged
from common.task import Features

BEST = 'top1'
WORST = 24  # images that a run keeps
Sums = Dict[str, np.ndarray]


def loss(outputs: tf.Tensor, features: Features, cfg) -> tf.Tensor:
    """Training loss of logits: float32 scalar, mean over the batch."""
    if cfg.loss == 'focal':
        return losses.focal(outputs, features['label'], cfg.focal_gamma)
    return losses.cross_entropy(
        outputs,
        features['label'],
        cfg.label_smoothing,
        labels_b=features.get('label_b'),
        lam=features.get('mixup'),
    )


def counts(logits: tf.Tensor, features: Features, cfg) -> Dict[str, tf.Tensor]:
    """What evaluation fetches: the logits in float32, 'finite' [B], and of the features 'label',
    'mask', 'id' and, for the pictures of the worst, 'image'.

    Nothing is counted on the device: sums on the host are exact, whatever the device's precision.
    """
    keys = ['label', 'mask', 'id'] + ['image'] * bool(cfg.output_path)
    fetched = {key: tf.identity(features[key]) for key in keys if key in features}
    return dict(fetched, logits=tf.cast(logits, tf.float32), finite=losses.finite(logits))


def accumulator(cfg, folder, is_chief: bool) -> Callable[[Dict[str, np.ndarray]], Sums]:
    """Returns a function that turns the `counts` of a batch into sums and keeps the worst images.
    UserError for a label that is not a class and for logits that are not finite.
    """
    worst, names = None, list(range(cfg.num_classes))
    if is_chief and cfg.output_path:
        worst = Gallery(os.path.join(cfg.output_path, 'worst'), 'Worst images', WORST)
        class_names = folder.metadata.get('classes', [])
        names = class_names if len(class_names) == len(names) else names

    def add_up(batch: Dict[str, np.ndarray]) -> Sums:
        batch = _judged(batch, ' of %s' % folder.path)
        errors = np.flatnonzero(batch['rank']) if worst and 'id' in batch else []
        for image in errors:
            label, predicted = batch['label'][image], batch['predicted'][image]
            caption = '%s taken for %s, loss %.2f'
            worst.offer(
                -batch['loss'][image],
                'record_%06d' % batch['id'][image],
                caption % (names[label], names[predicted], batch['loss'][image]),
                functools.partial(enlarged, batch['image'][image]),
            )
        return _sums(batch)

    return add_up


def offline_counts(logits: np.ndarray, features: Dict[str, np.ndarray], cfg) -> Sums:
    """The sums of logits [B, C], any float dtype, that another engine made.

    features: 'label', 'mask' and, for errors, 'id'.
    """
    return _sums(_judged(dict(features, logits=logits, finite=np.isfinite(logits).all(axis=1))))


def _judged(batch: Dict[str, np.ndarray], where: str = '') -> Dict[str, np.ndarray]:
    """Returns the images of a batch that count, with their 'loss' and 'predicted' class, and the
    'rank' of the true one.
    """
    counted = scores.counted(batch, where)
    batch = {key: value[counted] for key, value in batch.items()}
    logits, labels = batch['logits'].astype(np.float64), batch['label'].astype(np.int64)
    scores.require_labels(labels, logits.shape[1])
    true_logit = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    beats = (logits > true_logit) | ((logits == true_logit) & earlier)
    highest = logits.max(axis=1)
    log_sum = np.log(np.exp(logits - highest[:, None]).sum(axis=1)) + highest
    cross_entropy = log_sum - true_logit[:, 0]
    return dict(batch, loss=cross_entropy, rank=beats.sum(axis=1), predicted=logits.argmax(axis=1))


def _sums(batch: Dict[str, np.ndarray]) -> Sums:
    labels, rank, classes = batch['label'], batch['rank'], batch['logits'].shape[1]
    total = {
        'images': np.int64(len(rank)),
        'loss_sum': batch['loss'].sum(),
        'top1': np.int64((rank < 1).sum()),
        'top5': np.int64((rank < min(5, classes)).sum()),
    }
    if classes <= scores.CONFUSION_LIMIT:
        total['confusion'] = scores.confusion(labels, batch['predicted'], classes)
    return total


def figures(sums: Sums, cfg) -> Dict[str, float]:
    """{'images', 'loss': mean cross entropy in nats, 'top1', 'top5': fractions 0..1} of a split."""
    images = scores.require_images(sums)
    return {
        'images': images,
        'loss': float(sums['loss_sum']) / images,
        'top1': int(sums['top1']) / images,
        'top5': int(sums['top5']) / images,
    }


def eval_line(name: str, figures: Dict[str, float]) -> str:
    """The Ascend ports' line and the MindSpore models': scripts search logs for either."""
    result = {'Loss': figures['loss'], 'Top_1_Acc': figures['top1'], 'Top_5_Acc': figures['top5']}
    line = '%s eval  loss=%.5f   acc=%.4f\nresult: %s'
    return line % (name, figures['loss'], figures['top1'], result)
