"""How far two engines agree on the same images: pure functions over NumPy arrays of logits."""

from typing import Iterator, NamedTuple, Tuple

import numpy as np

PIECE = 1 << 16  # logits that are compared at a time


class Agreement(NamedTuple):
    """Agreement of two engines; sums over batches with `add`."""

    predictions: int = 0  # images, or pixels where a model labels each
    equal: int = 0  # predictions of the same class
    largest: float = 0.0  # largest absolute difference of a logit; NaN if one is NaN

    def add(self, other: 'Agreement') -> 'Agreement':
        return Agreement(
            self.predictions + other.predictions,
            self.equal + other.equal,
            float(np.maximum(self.largest, other.largest)),
        )

    @property
    def share(self) -> float:
        """Fraction 0..1 of the predictions that are equal."""
        return self.equal / self.predictions if self.predictions else float('nan')


def compare_logits(online: np.ndarray, offline: np.ndarray, mask: np.ndarray) -> Agreement:
    """Compares the logits [B, ..., C] of one batch; mask [B] is 0 for padding, which is left out.

    A prediction is the class of the largest logit, the first of equals. One with a NaN among its
    logits equals nothing.
    """
    total = Agreement()
    for online_image, offline_image, keep in zip(online, offline, mask):
        if keep > 0:
            for expected, actual in _pieces(online_image, offline_image):
                difference = np.abs(expected - actual)
                equal = (expected.argmax(-1) == actual.argmax(-1)) & ~np.isnan(difference).any(-1)
                total = total.add(Agreement(equal.size, int(equal.sum()), float(difference.max())))
    return total


def relative_difference(reference: np.ndarray, logits: np.ndarray) -> float:
    """Returns the largest difference of a logit, relative to the largest magnitude among the same
    image's reference logits; both [B, ..., C]. NaN if anything is not finite.
    """
    worst = 0.0
    for reference_image, image in zip(reference, logits):
        difference = largest = 0.0
        for expected, actual in _pieces(reference_image, image):
            if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
                return float('nan')
            difference = max(difference, np.abs(actual - expected).max())
            largest = max(largest, np.abs(expected).max())
        worst = max(worst, difference / max(largest, np.finfo(np.float64).tiny))
    return float(worst)


def _pieces(a: np.ndarray, b: np.ndarray) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Yields two arrays [..., C] in float64, some [n, C] at a time: the logits of one street scene
    take 160 MB in float32.
    """
    a, b = (array.reshape(-1, array.shape[-1]) for array in (a, b))
    rows = max(1, PIECE // a.shape[1])
    for start in range(0, len(a), rows):
        yield tuple(array[start : start + rows].astype(np.float64) for array in (a, b))
