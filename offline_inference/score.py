"""Scores of logits: pure functions over NumPy arrays, the same whichever engine made them."""
from typing import NamedTuple

import numpy as np


class Agreement(NamedTuple):
    """How far two engines agree; sums over batches with `add`."""
    predictions: int = 0        # images, or pixels where a model labels each
    equal: int = 0              # of them with the same class
    largest: float = 0.0        # largest absolute difference of a logit; NaN if one is NaN

    def add(self, other: 'Agreement') -> 'Agreement':
        return Agreement(self.predictions + other.predictions, self.equal + other.equal, float(np.maximum(self.largest, other.largest)))

    @property
    def share(self) -> float:
        """Fraction 0..1 of the predictions that are equal."""
        return self.equal / self.predictions if self.predictions else float('nan')


def agreement(online: np.ndarray, offline: np.ndarray, mask: np.ndarray) -> Agreement:
    """Compares the logits of one batch.

    Args:
        online, offline: [B, ..., C], any float dtype.
        mask: [B], 0 for padding, which is left out.
    A prediction is the class of the largest logit, the first of equals; where a logit is NaN there is none, so nothing equals it.
    """
    keep = np.asarray(mask) > 0
    online, offline = np.asarray(online, np.float64)[keep], np.asarray(offline, np.float64)[keep]
    if not online.size:
        return Agreement()
    difference = np.abs(online - offline)
    equal = (online.argmax(axis=-1) == offline.argmax(axis=-1)) & ~np.isnan(difference).any(axis=-1)
    return Agreement(equal.size, int(equal.sum()), float(difference.max()))


def relative_difference(reference: np.ndarray, logits: np.ndarray) -> float:
    """Largest difference of a logit, of the largest magnitude among the same image's reference logits; both [B, ...].

    Zero logits that should be zero differ by 0; NaN or infinity in either array gives NaN.
    """
    reference, logits = (np.asarray(array, np.float64).reshape(len(array), -1) for array in (reference, logits))
    with np.errstate(invalid='ignore'):
        difference = np.abs(logits - reference).max(axis=1) / np.maximum(np.abs(reference).max(axis=1), np.finfo(np.float64).tiny)
    return float(difference.max()) if np.isfinite(logits).all() and np.isfinite(reference).all() else float('nan')


def published_line(images: int, accuracy: float) -> str:
    """The line in which the published ports report an offline run; accuracy is a fraction 0..1."""
    return '>>>>>  共 %d 测试样本    accuracy:%.6f' % (images, accuracy)
