"""Pictures of what evaluation found for each class.

Every function is called with the path of the PNG first: `confusion(path, run)`.
"""

from typing import List

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from common.metrics import figures
from common.reporting.run_folder import RunFolder
from common.reporting.style import BLUE, DARK, ORANGE, WIDTH, as_png, note

CELL_TEXT_LIMIT = 20  # with up to this many classes every cell of a confusion matrix is labelled


@as_png
def confusion(run: RunFolder) -> Figure:
    """Confusion matrix [C, C], row = true class, as shares of each row."""
    matrix = run.confusion
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    few = len(matrix) <= CELL_TEXT_LIMIT
    side = max(4.0, 0.62 * len(matrix) + 1) if few else 11.0
    figure = Figure(figsize=(side, side))
    axes = figure.subplots()
    axes.grid(False)
    # The square root shows the rare confusions that a linear scale would paint white.
    image = axes.imshow(np.sqrt(share), cmap='Blues', vmin=0, vmax=1, interpolation='nearest')
    if few:
        for row, column in np.argwhere(matrix):
            value = share[row, column]
            text = '<1' if value < 0.01 else '%.0f' % (100 * value)
            color = 'white' if value > 0.35 else DARK
            axes.text(column, row, text, ha='center', va='center', fontsize=8, color=color)
    _class_ticks(axes, run.classes, few)
    axes.set_xlabel('predicted class')
    axes.set_ylabel('true class')
    total = '{:,}'.format(int(matrix.sum()))
    title = 'Confusion: %% of the %s of each true class (%s %s)'
    axes.set_title(title % (run.counted, total, run.counted))
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.set_ticks(np.sqrt([0, 0.01, 0.05, 0.2, 0.5, 1]))
    bar.set_ticklabels(['0 %', '1 %', '5 %', '20 %', '50 %', '100 %'])
    bar.outline.set_visible(False)
    return figure


def _class_ticks(axes: Axes, classes: List[str], few: bool) -> None:
    """Names at both axes; of many classes without names every tenth number."""
    named = classes != [str(index) for index in range(len(classes))]
    ticks = np.arange(0, len(classes), 1 if few or named else 10)
    labels = [classes[index] for index in ticks]
    size = 5.5 if named and not few else 9
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.set_xticklabels(labels, rotation=90 if named else 0, fontsize=size)
    axes.set_yticklabels(labels, fontsize=size)
    axes.tick_params(length=1 if named and not few else 2, pad=2)


@as_png
def bars(run: RunFolder, key: str) -> Figure:
    """A fraction of each class as bars, best first, with the mean."""
    finite = {name: value for name, value in run.per_class[key].items() if np.isfinite(value)}
    names = sorted(finite, key=finite.get)
    lengths = np.array([finite[name] for name in names])
    figure = Figure(figsize=(WIDTH, 0.27 * len(names) + 1.2))
    axes = figure.subplots()
    axes.grid(axis='y', b=False)
    axes.barh(names, lengths, color=BLUE, height=0.66)
    for row, value in enumerate(lengths):
        text, under = '%.1f' % (100 * value), dict(facecolor='white', edgecolor='none', pad=0.5)
        note(axes, text, (value, row), (4, 0), va='center', fontsize=9, bbox=under)
    if names:
        mean = lengths.mean()
        axes.axvline(mean, color=ORANGE, linewidth=1.2, linestyle=(0, (5, 3)))
        top = axes.get_xaxis_transform()
        text = 'mean %.2f %%' % (100 * mean)
        note(axes, text, (mean, 1), (0, 4), xycoords=top, color=ORANGE, ha='center')
    axes.set_xlim(0, 1.05)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=''))
    axes.set_xlabel('%s (%%)' % figures.figure(key).name)
    axes.tick_params(axis='y', length=0)
    return figure
