"""Sums of counts over images, and figures of a confusion matrix. NumPy alone."""

from typing import Any, Dict, Optional, Sequence

import numpy as np

from common.errors import UserError

CONFUSION_LIMIT = 100  # a C x C matrix is counted and stored up to this many classes
Counts = Dict[str, Any]


def add(counts_a: Counts, counts_b: Counts) -> Counts:
    """The sum of two counts, in int64 and float64, as of batches or ranks. {} is neutral."""
    if counts_a and counts_b and set(counts_a) != set(counts_b):
        raise ValueError(
            'counts differ in their keys: %s and %s' % (sorted(counts_a), sorted(counts_b))
        )
    return {
        key: _as_64_bit(counts_a.get(key, 0)) + _as_64_bit(counts_b.get(key, 0))
        for key in counts_a or counts_b
    }


def require_images(counts: Counts) -> int:
    """Returns the number of images of summed counts; UserError if there are none."""
    if not counts.get('images', 0):
        raise UserError(
            'no image was evaluated: the split holds no records; point --data_path at a folder with'
            ' some'
        )
    return int(counts['images'])


def require_finite(finite: bool, image: str) -> None:
    """UserError if the logits of an image, 'record 12 of DATA', are not finite."""
    if not finite:
        raise UserError(
            "%s: the network's output is not finite (NaN or infinite), so nothing can be scored;"
            ' the weights or the input are damaged, or the training has diverged: evaluate an'
            ' earlier checkpoint, or train with a smaller --learning_rate' % image
        )


def counted(batch: Dict[str, np.ndarray], where: str = '') -> np.ndarray:
    """Indices of a batch's images that count, by its 'mask'; their 'finite' must be true.

    where: of the records, such as ' of DATA', for the UserError.
    """
    images = np.flatnonzero(np.asarray(batch['mask']) > 0)
    for image in images:
        record = batch['id'][image] if 'id' in batch else image
        require_finite(batch['finite'][image], 'record %d%s' % (record, where))
    return images


def confusion(
    true: np.ndarray, predicted: np.ndarray, num_classes: int, ignore: Optional[int] = None
) -> np.ndarray:
    """Confusion matrix, int64 [num_classes, num_classes]; row = true class, column = predicted.

    true, predicted: integers of one shape. ignore: a true label that does not count (Cityscapes:
    255); any other outside [0, num_classes) is a UserError.
    """
    true, predicted = np.asarray(true).ravel(), np.asarray(predicted).ravel()
    if true.shape != predicted.shape:
        raise ValueError('%d true but %d predicted labels' % (true.size, predicted.size))
    if ignore is not None:
        keep = true != ignore
        true, predicted = true[keep], predicted[keep]
    require_labels(true, num_classes)
    if predicted.size and not 0 <= predicted.min() <= predicted.max() < num_classes:
        raise ValueError('predicted classes must lie in 0..%d' % (num_classes - 1))
    cells = true.astype(np.int64) * num_classes + predicted.astype(np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


# Per-class values are float64 [C], NaN where a class has nothing to be measured on; the means leave
# such classes out, as the Cityscapes scorer does.


def recall(matrix: np.ndarray) -> np.ndarray:
    """Correct / true, per class: the class accuracy. NaN for a class that is never true."""
    return _divide(np.diag(matrix), matrix.sum(axis=1))


def precision(matrix: np.ndarray) -> np.ndarray:
    """Correct / predicted, per class. NaN for a class that is never predicted."""
    return _divide(np.diag(matrix), matrix.sum(axis=0))


def iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union, TP / (TP + FP + FN), per class. 0 for a class that is predicted and
    never true, NaN for one that is neither.
    """
    return _divide(np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix))


def accuracy(matrix: np.ndarray) -> float:
    """Correct / all, over the whole matrix (pixel accuracy). NaN for an empty matrix."""
    return float(_divide(np.trace(matrix), matrix.sum()))


def mean_accuracy(matrix: np.ndarray) -> float:
    """Mean recall over the classes that occur."""
    return _mean(recall(matrix))


def mean_iou(matrix: np.ndarray) -> float:
    """Mean intersection over union over the classes that are true or predicted somewhere."""
    return _mean(iou(matrix))


def frequency_weighted_iou(matrix: np.ndarray) -> float:
    """Intersection over union weighted by each class's share of the true labels."""
    share = _divide(matrix.sum(axis=1), matrix.sum())
    return float(np.sum(share * np.nan_to_num(iou(matrix))))


def latency(milliseconds: Sequence[float]) -> Dict[str, float]:
    """{'mean', 'p50', 'p90', 'p99'} of latencies in ms; percentiles interpolate linearly."""
    if not len(milliseconds):
        raise ValueError('no latency was measured')
    result = {'p%d' % p: float(np.percentile(milliseconds, p)) for p in (50, 90, 99)}
    return dict(mean=float(np.mean(milliseconds)), **result)


def require_labels(labels: np.ndarray, num_classes: int) -> None:
    """UserError for a label outside [0, num_classes)."""
    illegal = labels[(labels < 0) | (labels >= num_classes)]
    if illegal.size:
        raise UserError(
            'label %d is not one of the %d classes 0..%d: %d labels of the data set lie outside;'
            ' does it have another number of classes, or labels that start at 1?'
            % (illegal[0], num_classes, num_classes - 1, illegal.size)
        )


def _as_64_bit(value):
    value = np.asarray(value)
    return value.astype(np.float64 if value.dtype.kind == 'f' else np.int64)


def _divide(part, whole):
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.true_divide(part, whole)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float('nan')
