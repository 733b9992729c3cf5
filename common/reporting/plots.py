"""The figures of a report: plain arrays in, PNG files out. common/report.py decides what is drawn.

Every figure is called with the path of its PNG first: `training(path, x, loss, rate, unit)`.
"""

import functools
from typing import Dict, List, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

BLUE, ORANGE, GREY = (
    '#0072B2',
    '#D55E00',
    '#8A8A8A',
)  # Okabe & Ito: told apart by colour-blind readers and in print
STYLE = {
    'savefig.dpi': 120,
    'savefig.bbox': 'tight',
    'font.size': 10,
    'axes.titlesize': 11,
    'axes.titlelocation': 'left',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.edgecolor': GREY,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': '#E8E8E8',
    'grid.linewidth': 0.8,
    'xtick.color': '#555555',
    'ytick.color': '#555555',
    'axes.labelcolor': '#333333',
    'lines.linewidth': 1.6,
    'lines.markersize': 3.5,
    'lines.solid_capstyle': 'round',
}
CELL_TEXT_LIMIT = 20  # up to this many classes every cell of a confusion matrix is printed
WIDTH = 8.0  # inches


def _saved(draw):
    """Makes of draw(...) -> Figure a function of (path, ...) that writes a PNG, with STYLE but
    without changing the process's.
    """

    @functools.wraps(draw)
    def save(path, *args):
        with matplotlib.rc_context(STYLE):
            draw(*args).savefig(str(path))

    return save


@_saved
def training(x: np.ndarray, loss: np.ndarray, rate: np.ndarray, unit: str) -> Figure:
    """Training loss and learning rate, each [N], over x in `unit` (epoch or step)."""
    figure, (top, bottom) = _panels([3, 2])
    smooth = _smoothed(loss)
    top.plot(
        x,
        loss,
        color=BLUE,
        alpha=0.25 if smooth is not loss else 1.0,
        linewidth=0.9,
        marker=_marker(x),
    )
    if smooth is not loss:
        top.plot(x, smooth, color=BLUE)
        top.set_title('Training loss (thin: logged steps, thick: running mean)')
    else:
        top.set_title('Training loss')
    top.set_ylabel('loss (nats)')
    _from_zero(top, loss)
    bottom.plot(x, rate, color=ORANGE, marker=_marker(x))
    bottom.set_title('Learning rate')
    bottom.set_ylabel('learning rate')
    staircase = len(np.unique(rate)) <= len(rate) // 4
    if staircase and rate.min() > 0 and rate.max() >= 20 * rate.min():
        bottom.set_yscale('log')
        bottom.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    else:
        _from_zero(bottom, rate)
    bottom.set_xlabel(unit)
    return figure


@_saved
def evaluation(
    x: np.ndarray,
    score: np.ndarray,
    loss: np.ndarray,
    train_x: np.ndarray,
    train_loss: np.ndarray,
    name: str,
    unit: str,
) -> Figure:
    """Score (fraction 0..1) and loss of the evaluations [M], and the training loss [N] beside it."""
    figure, (top, bottom) = _panels([3, 2])
    top.plot(x, score, color=BLUE, marker=_marker(x, 40))
    top.set_title('Evaluation %s' % name)
    top.set_ylabel('%s (%%)' % name)
    top.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=''))
    if np.isfinite(score).any():
        best = int(np.nanargmax(score))
        top.plot(
            x[best], score[best], marker='o', markersize=7, markerfacecolor='none', color=ORANGE
        )
        top.annotate(
            'best %.2f %%, %s %g' % (100 * score[best], unit, round(x[best], 2)),
            (x[best], score[best]),
            (0, 9),
            textcoords='offset points',
            color=ORANGE,
            ha='right' if x[best] >= np.mean(np.concatenate([x, train_x])) else 'left',
        )
        top.margins(y=0.2)
        top.set_ylim(bottom=max(0.0, top.get_ylim()[0]))
        top.set_yticks([tick for tick in top.get_yticks() if 0 <= tick <= 1])
    _say_if_empty(top, score)
    bottom.plot(train_x, _smoothed(train_loss), color=GREY)
    bottom.plot(x, loss, color=BLUE, marker=_marker(x, 40))
    bottom.set_title('Loss')
    bottom.set_ylabel('loss (nats)')
    bottom.set_xlabel(unit)
    _from_zero(bottom, np.concatenate([loss, _smoothed(train_loss)]))
    _end_labels(
        bottom, [(train_x, _smoothed(train_loss), 'training', GREY), (x, loss, 'evaluation', BLUE)]
    )
    return figure


@_saved
def throughput(
    minutes: np.ndarray, rate: np.ndarray, resumed: Sequence[float], ranks: int
) -> Figure:
    """Images per second [N] over training time [N] in minutes; `resumed`: where a session took
    over.
    """
    figure, (axes,) = _panels([2.6])
    scale, unit = (1 / 60, 'hours') if len(minutes) and minutes.max() > 180 else (1, 'minutes')
    axes.plot(minutes * scale, rate, color=BLUE, linewidth=1.2, marker=_marker(minutes))
    _from_zero(axes, rate)
    if np.isfinite(rate).any():
        middle = float(np.nanmedian(rate))
        axes.axhline(middle, color=ORANGE, linewidth=1, linestyle=(0, (5, 3)))
        axes.annotate(
            'median\n%s' % ('%.0f' if middle >= 100 else '%.3g') % middle,
            (1, middle),
            (6, 0),
            va='center',
            xycoords=axes.get_yaxis_transform(),
            textcoords='offset points',
            color=ORANGE,
            annotation_clip=False,
        )
    for moment in resumed:
        axes.axvline(moment * scale, color=GREY, linewidth=1)
        axes.annotate(
            'resumed',
            (moment * scale, 0),
            (4, 5),
            xycoords=axes.get_xaxis_transform(),
            textcoords='offset points',
            color=GREY,
        )
    axes.set_title('Training throughput' + (' of all %d devices' % ranks if ranks > 1 else ''))
    axes.set_ylabel('images/s')
    axes.set_xlabel('%s since the start, pauses between sessions left out' % unit)
    return figure


@_saved
def confusion(matrix: np.ndarray, classes: List[str], counted: str) -> Figure:
    """Confusion matrix [C, C] (row = true class) as shares of each row; counted: 'images' or
    'pixels'.
    """
    size = len(matrix)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    few = size <= CELL_TEXT_LIMIT
    side = max(4.0, 0.62 * size + 1) if few else 11.0
    figure = Figure(figsize=(side, side))
    axes = figure.subplots()
    axes.grid(False)
    # The square root shows the rare confusions that a linear scale would paint white.
    image = axes.imshow(np.sqrt(share), cmap='Blues', vmin=0, vmax=1, interpolation='nearest')
    if few:
        for row, column in np.ndindex(size, size):
            if matrix[row, column]:
                axes.text(
                    column,
                    row,
                    _percent(share[row, column]),
                    ha='center',
                    va='center',
                    fontsize=8,
                    color='white' if share[row, column] > 0.35 else '#333333',
                )
    named = classes != [str(index) for index in range(size)]
    every = 1 if few or named else 10
    ticks = np.arange(0, size, every)
    font = 9 if few else 5.5 if named else 9
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.set_xticklabels(
        [classes[index] for index in ticks], rotation=90 if named else 0, fontsize=font
    )
    axes.set_yticklabels([classes[index] for index in ticks], fontsize=font)
    axes.tick_params(length=2 if few or not named else 1, pad=2)
    axes.set_xlabel('predicted class')
    axes.set_ylabel('true class')
    axes.set_title(
        'Confusion: %% of the %s of each true class (%s %s)'
        % (counted, '{:,}'.format(int(matrix.sum())), counted)
    )
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.set_ticks(np.sqrt([0, 0.01, 0.05, 0.2, 0.5, 1]))
    bar.set_ticklabels(['0 %', '1 %', '5 %', '20 %', '50 %', '100 %'])
    bar.outline.set_visible(False)
    return figure


@_saved
def iou(values: Dict[str, float]) -> Figure:
    """Intersection over union (fraction 0..1) of each class as bars, best first, with the mean."""
    known = sorted(
        (item for item in values.items() if np.isfinite(item[1])), key=lambda item: item[1]
    )
    figure = Figure(figsize=(WIDTH, 0.27 * len(known) + 1.2))
    axes = figure.subplots()
    axes.grid(axis='y', b=False)
    names, heights = [name for name, _ in known], np.array([value for _, value in known])
    axes.barh(names, heights, color=BLUE, height=0.66)
    for row, value in enumerate(heights):
        axes.annotate(
            '%.1f' % (100 * value),
            (value, row),
            (4, 0),
            textcoords='offset points',
            va='center',
            fontsize=9,
        )
    if known:
        mean = heights.mean()
        axes.axvline(mean, color=ORANGE, linewidth=1.2, linestyle=(0, (5, 3)))
        axes.annotate(
            'mean %.2f %%' % (100 * mean),
            (mean, 1),
            (0, 4),
            xycoords=axes.get_xaxis_transform(),
            textcoords='offset points',
            color=ORANGE,
            ha='center',
        )
    axes.set_xlim(0, 1.05)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=''))
    axes.set_xlabel('intersection over union (%)')
    axes.tick_params(axis='y', length=0)
    return figure


def _panels(heights: Sequence[float]):
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.6 * len(heights)))
    axes = figure.subplots(
        len(heights),
        sharex=True,
        squeeze=False,
        gridspec_kw={'height_ratios': heights, 'hspace': 0.22},
    )
    return figure, axes[:, 0]


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Centred running mean over about 2 % of the values, NaN left out; the values themselves if
    there are few.
    """
    half = len(values) // 100
    if half < 1:
        return values
    finite = np.isfinite(values)
    kernel = np.ones(2 * half + 1)
    count = np.convolve(finite, kernel, 'same')
    total = np.convolve(np.where(finite, values, 0.0), kernel, 'same')
    return np.where(finite, total / np.maximum(count, 1), np.nan)


def _marker(x: np.ndarray, most: int = 12) -> str:
    return 'o' if len(x) <= most else ''


def _from_zero(axes: Axes, values: np.ndarray) -> None:
    """Starts the axis at 0 and ends it above the largest finite value."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() >= 0 and finite.max() > 0:
        axes.set_ylim(0, 1.08 * finite.max())
    _say_if_empty(axes, values)


def _say_if_empty(axes: Axes, values: np.ndarray) -> None:
    if not np.isfinite(values).any():
        axes.set_yticks([])
        axes.text(0.5, 0.5, 'no finite value', transform=axes.transAxes, ha='center', color=GREY)


def _end_labels(axes: Axes, lines) -> None:
    """Labels each line at its right end, the labels kept apart."""
    ends = [
        (y[np.isfinite(y)][-1], name, color) for x, y, name, color in lines if np.isfinite(y).any()
    ]
    low, high = axes.get_ylim()
    previous = None
    for value, name, color in sorted(ends):
        place = value if previous is None else max(value, previous + 0.11 * (high - low))
        axes.annotate(
            name,
            (1, place),
            (6, 0),
            xycoords=axes.get_yaxis_transform(),
            textcoords='offset points',
            color=color,
            va='center',
            annotation_clip=False,
        )
        previous = place


def _percent(share: float) -> str:
    return '<1' if share < 0.01 else '%.0f' % (100 * share)
