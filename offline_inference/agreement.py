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
    """Compares the logits of one batch.

    Args:
        online, offline: [B, ..., C], any float dtype.
        mask: [B], 0 for padding, which is left out.
    A prediction is the class of the largest logit, the first of equals. A prediction with a NaN
    among its logits equals nothing.
    """
    total = Agreement()
    for image, other, keep in zip(online, offline, mask):
        if keep > 0:
            for one, two in _pieces(image, other):
                difference = np.abs(one - two)
                equal = (one.argmax(axis=-1) == two.argmax(axis=-1)) & ~np.isnan(difference).any(
                    axis=-1
                )
                total = total.add(Agreement(equal.size, int(equal.sum()), float(difference.max())))
    return total


def relative_difference(reference: np.ndarray, logits: np.ndarray) -> float:
    """Largest difference of a logit, relative to the largest magnitude among the same image's
    reference logits; both arrays are [B, ..., C].

    Equal zeros differ by 0; NaN or infinity in either array gives NaN.
    """
    worst = 0.0
    for image, other in zip(reference, logits):
        difference = largest = 0.0
        for one, two in _pieces(image, other):
            if not (np.isfinite(one).all() and np.isfinite(two).all()):
                return float('nan')
            difference = max(difference, np.abs(two - one).max())
            largest = max(largest, np.abs(one).max())
        worst = max(worst, difference / max(largest, np.finfo(np.float64).tiny))
    return float(worst)


def _pieces(one: np.ndarray, two: np.ndarray) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Two arrays [..., C] in float64, some [n, C] at a time: the logits of one street scene take
    160 MB in float32.
    """
    one, two = (array.reshape(-1, array.shape[-1]) for array in (one, two))
    rows = max(1, PIECE // one.shape[1])
    for start in range(0, len(one), rows):
        yield (
            one[start : start + rows].astype(np.float64),
            two[start : start + rows].astype(np.float64),
        )
