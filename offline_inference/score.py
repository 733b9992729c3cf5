"""Scores of logits: pure functions over NumPy arrays, the same whichever engine made them; and a
command that scores result files.

    python -m offline_inference.score --model wideresnet --config C --bins BINS --results RESULTS

RESULTS is what offline_inference.msame wrote, or a folder that msame or ais_bench, started by hand,
wrote for BINS/batches.
"""

import json
import pathlib
import sys
from typing import Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from common.errors import entry_point

PIECE = 1 << 16  # logits that are compared at a time


class Agreement(NamedTuple):
    """How far two engines agree; sums over batches with `add`."""

    predictions: int = 0  # images, or pixels where a model labels each
    equal: int = 0  # of them with the same class
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


def agreement(online: np.ndarray, offline: np.ndarray, mask: np.ndarray) -> Agreement:
    """Compares the logits of one batch.

    Args:
        online, offline: [B, ..., C], any float dtype.
        mask: [B], 0 for padding, which is left out.
    A prediction is the class of the largest logit, the first of equals; where a logit is NaN there
    is none, so nothing equals it.
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
    """Largest difference of a logit, of the largest magnitude among the same image's reference
    logits; both [B, ..., C].

    Zero logits that should be zero differ by 0; NaN or infinity in either array gives NaN.
    """
    worst = 0.0
    for image, other in zip(reference, logits):
        difference = largest = 0.0
        for one, two in _pieces(image, other):
            if not (np.isfinite(one).all() and np.isfinite(two).all()):
                return float('nan')
            difference, largest = (
                max(difference, np.abs(two - one).max()),
                max(largest, np.abs(one).max()),
            )
        worst = max(worst, difference / max(largest, np.finfo(np.float64).tiny))
    return float(worst)


def _pieces(one: np.ndarray, two: np.ndarray) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Two arrays [..., C] in float64, some [n, C] at a time: a photograph's logits, a class for
    each pixel, have 160 MB in float32.
    """
    one, two = (array.reshape(-1, array.shape[-1]) for array in (one, two))
    rows = max(1, PIECE // one.shape[1])
    for start in range(0, len(one), rows):
        yield (
            one[start : start + rows].astype(np.float64),
            two[start : start + rows].astype(np.float64),
        )


def published(images: int, figures: Dict[str, float]) -> str:
    """The line in which the published ports report an offline run of a classifier or a segmenter,
    fractions 0..1; '' for another kind.
    """
    if 'top1' in figures:
        return '>>>>>  共 %d 测试样本    accuracy:%.6f' % (images, figures['top1'])
    if 'miou' in figures:
        rest = [
            figures[key] for key in ('accuracy', 'mean_accuracy', 'miou', 'frequency_weighted_iou')
        ]
        return '>>>>>  共 %d 测试样本    MIoU: %.6f %s' % (
            images,
            figures['miou'],
            ' '.join(map(str, rest)),
        )
    return ''


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    from offline_inference import freeze, results  # which need the functions above

    parser = freeze.Parser('python -m offline_inference.score', __doc__)
    parser.add_argument(
        '--bins', required=True, help='the folder that offline_inference.bins wrote'
    )
    parser.add_argument('--results', required=True, help='the folder of the results')
    args, task, _ = parser.parse(sys.argv[1:] if argv is None else argv)
    found = results.compare(task, pathlib.Path(args.bins), pathlib.Path(args.results))
    figures = task.metrics(found.offline)
    line = published(figures['images'], figures)
    if found.online:
        figures = dict(
            figures,
            online=task.metrics(found.online),
            equal_predictions=found.agreement.share,
            max_abs_logit_difference=found.agreement.largest,
        )
    print(json.dumps(figures, indent=2))
    print(line)


if __name__ == '__main__':
    main()
