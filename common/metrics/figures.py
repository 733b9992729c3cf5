"""Names, order and form of the figures of an evaluation, as reports print them."""

import math
from typing import Any, Container

NAMES = {
    'top1': 'top-1',
    'miou': 'mIoU',
    'top5': 'top-5',
    'mean_accuracy': 'mean accuracy',
    'accuracy': 'accuracy',
    'frequency_weighted_iou': 'frequency-weighted IoU',
    'iou': 'intersection over union',  # of each class: {class name: fraction}
    'loss': 'loss',  # nats
    'images': 'images',
    'images_per_second': 'images/s',
}
_FORMATS = {'loss': '%.4f', 'images': '%d', 'images_per_second': '%.1f'}


def name(key: str) -> str:
    """The name of a figure; one that is unknown prints under its own key."""
    return NAMES.get(key, key)


def is_fraction(key: str) -> bool:
    """Whether a figure is 0..1 in every file, and printed as per cent."""
    return key in NAMES and key not in _FORMATS


def score(present: Container[str]) -> str:
    """The main figure among the keys of an evaluation: the first fraction that it has."""
    return next((key for key in NAMES if is_fraction(key) and key in present), 'top1')


def number(value: Any) -> float:
    """`value` as a float; NaN for anything that is not a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float('nan')


def text(key: str, value: Any) -> str:
    """A value as printed, '' for None. A fraction above 1 is taken to be in per cent already."""
    if value is None:
        return ''
    value = number(value)
    if not math.isfinite(value):
        return 'NaN' if math.isnan(value) else str(value)
    if is_fraction(key):
        return '%.2f %%' % (value if value > 1 else 100 * value)
    return _FORMATS.get(key, '%g') % value
