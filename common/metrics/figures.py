"""Names, units and order of the figures of an evaluation, as reports print them."""

import math
from typing import Any, Container, Dict, NamedTuple


class Figure(NamedTuple):
    name: str
    unit: str
    form: str = '%g'


PERCENT = '%'  # a fraction 0..1 in every file, printed as per cent
FIGURES: Dict[str, Figure] = {
    'top1': Figure('top-1', PERCENT),
    'miou': Figure('mIoU', PERCENT),
    'top5': Figure('top-5', PERCENT),
    'mean_accuracy': Figure('mean accuracy', PERCENT),
    'accuracy': Figure('accuracy', PERCENT),
    'frequency_weighted_iou': Figure('frequency-weighted IoU', PERCENT),
    'iou': Figure('intersection over union', PERCENT),  # of each class: {class name: fraction}
    'loss': Figure('loss', 'nats', '%.4f'),
    'images': Figure('images', '', '%d'),
    'images_per_second': Figure('images/s', 'images/s', '%.1f'),
}


def figure(key: str) -> Figure:
    """The figure of a key; one that is unknown prints under its own name."""
    return FIGURES.get(key, Figure(key, ''))


def score(present: Container[str]) -> str:
    """The main figure among the keys of an evaluation: the first fraction that it has."""
    return next((key for key in FIGURES if is_fraction(key) and key in present), 'top1')


def is_fraction(key: str) -> bool:
    return figure(key).unit == PERCENT


def number(value: Any) -> float:
    """`value` as a float; NaN for None and for anything that is not a number."""
    try:
        return float('nan') if value is None else float(value)
    except (TypeError, ValueError):
        return float('nan')


def text(key: str, value: Any) -> str:
    """A value in print, '' for None. A fraction above 1 is taken to be in per cent already."""
    if value is None:
        return ''
    value = number(value)
    if not math.isfinite(value):
        return 'NaN' if math.isnan(value) else str(value)
    if is_fraction(key):
        return '%.2f %%' % (value if value > 1 else 100 * value)
    return figure(key).form % value
