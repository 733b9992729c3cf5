"""Pictures of a run. Every function is called with the path of the PNG first:
`training(path, run)`.
"""

import functools
import itertools
from typing import Dict, List, Tuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from common.files import atomic
from common.metrics import figures
from common.reporting.run_folder import RunFolder

# Okabe and Ito: distinguishable for colour-blind readers and in print.
COLOURS = '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00'
BLUE, ORANGE = COLOURS[:2]
GREY, DARK = '#8A8A8A', '#333333'
LINES = [(color, line) for line in ('-', '--', ':') for color in COLOURS]  # of runs compared
DASHES = (0, (5, 3))
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
    'axes.labelcolor': DARK,
    'lines.linewidth': 1.6,
    'lines.markersize': 3.5,
    'lines.solid_capstyle': 'round',
}
WIDTH = 8.0  # inches
Panel = Tuple[float, str, str]  # height in inches, title, label of the y axis
LOSS, RATE = (3, 'Training loss', 'loss (nats)'), (2, 'Learning rate', 'learning rate')
BOTH_LOSSES = (2, 'Loss (grey: training, blue: evaluation)', 'loss (nats)')
CELL_TEXT_LIMIT = 20  # with up to this many classes every cell of a confusion matrix is labelled


def as_png(draw):
    """Turns draw(...) -> Figure into a function of (path, ...) that writes a PNG in STYLE."""

    @functools.wraps(draw)
    def save(path, *args):
        with matplotlib.rc_context(STYLE), atomic(path) as temporary:
            draw(*args).savefig(str(temporary))

    return save


@as_png
def training(run: RunFolder) -> Figure:
    """Training loss and learning rate."""
    x, loss = run.x('train'), run.column('train', 'loss')
    rate, smooth = run.column('train', 'learning_rate'), _smoothed(loss)
    figure, (top, bottom) = _panels(run.unit, LOSS, RATE)
    if smooth is loss:
        top.plot(x, loss, color=BLUE, marker=_marker(x))
    else:
        top.plot(x, loss, color=BLUE, alpha=0.25, linewidth=0.9)
        top.plot(x, smooth, color=BLUE)
        top.set_title('Training loss (thin: logged steps, thick: running mean)')
    _from_zero(top, loss)
    bottom.plot(x, rate, color=ORANGE, marker=_marker(x))
    staircase = len(np.unique(rate)) <= len(rate) // 4
    if staircase and rate.min() > 0 and rate.max() >= 20 * rate.min():
        bottom.set_yscale('log')
        bottom.yaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    else:
        _from_zero(bottom, rate)
    return figure


@as_png
def evaluation(run: RunFolder) -> Figure:
    """The main figure of the evaluations, and their loss beside the training loss."""
    x, score, loss = run.x('eval'), run.column('eval', run.score), run.column('eval', 'loss')
    train_x, train_loss = run.x('train'), _smoothed(run.column('train', 'loss'))
    figure, (top, bottom) = _panels(run.unit, _score_panel(run.score), BOTH_LOSSES)
    top.plot(x, score, color=BLUE, marker=_marker(x, 40))
    _percent_axis(top)
    if np.isfinite(score).any():
        best = int(np.nanargmax(score))
        at = (x[best], score[best])
        top.plot(*at, marker='o', markersize=7, markerfacecolor='none', color=ORANGE)
        is_late = x[best] >= np.mean(np.concatenate([x, train_x]))
        text = 'best %.2f %%, %s %g' % (100 * score[best], run.unit, round(x[best], 2))
        _note(top, text, at, (0, 9), color=ORANGE, ha='right' if is_late else 'left')
    bottom.plot(train_x, train_loss, color=GREY)
    bottom.plot(x, loss, color=BLUE, marker=_marker(x, 40))
    _from_zero(bottom, np.concatenate([loss, train_loss]))
    return figure


@as_png
def throughput(run: RunFolder) -> Figure:
    """Images per second over the time of training, and where a session was resumed."""
    minutes, rate = run.column('train', 'minutes'), run.column('train', 'images_per_second')
    ranks = run.session.get('ranks', 1)
    scale, unit = (1 / 60, 'hours') if minutes.max() > 180 else (1, 'minutes')
    title = 'Training throughput' + (' of all %d devices' % ranks if ranks > 1 else '')
    x_label = unit + ' since the start, pauses between sessions left out'
    figure, (axes,) = _panels(x_label, (2.6, title, 'images/s'))
    axes.plot(minutes * scale, rate, color=BLUE, linewidth=1.2, marker=_marker(minutes))
    _from_zero(axes, rate)
    if np.isfinite(rate).any():
        median = float(np.nanmedian(rate))
        axes.axhline(median, color=ORANGE, linewidth=1, linestyle=DASHES)
        text = ('%.0f' if median >= 100 else '%.3g') % median
        axes.set_title('%s (dashed: median %s)' % (title, text))
    for moment in [row['minutes'] * scale for row in run.rows['run'][1:]]:
        axes.axvline(moment, color=GREY, linewidth=1)
        transform = axes.get_xaxis_transform()
        _note(axes, 'resumed', (moment, 0), (4, 5), xycoords=transform, color=GREY)
    return figure


@as_png
def comparison(runs: Dict[str, RunFolder]) -> Figure:
    """Evaluation figure, training loss and learning rate of several runs, {label: run}."""
    unit = 'epoch' if all(run.unit == 'epoch' for run in runs.values()) else 'step'
    scores = list(dict.fromkeys(run.score for run in runs.values() if run.rows['eval']))
    figure, panels = _panels(unit, *map(_score_panel, scores), LOSS, RATE)
    for (label, run), (color, line) in zip(runs.items(), itertools.cycle(LINES)):
        x, style = run.column('train', unit), dict(color=color, linestyle=line, label=label)
        for axes, score in zip(panels, scores):
            if score == run.score:
                evaluated = run.column('eval', unit)
                axes.plot(evaluated, run.column('eval', score), marker=_marker(evaluated), **style)
        panels[-2].plot(x, _smoothed(run.column('train', 'loss')), **style)
        panels[-1].plot(x, run.column('train', 'learning_rate'), **style)
    for axes in panels[:-2]:
        _percent_axis(axes)
    for axes in panels[-2:]:
        axes.set_ylim(bottom=0)
    handles = panels[-1].get_legend_handles_labels()
    panels[0].legend(*handles, loc='upper left', bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


@as_png
def confusion(run: RunFolder) -> Figure:
    """Confusion matrix [C, C], row = true class, as shares of each row."""
    matrix = run.confusion
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    few_classes = len(matrix) <= CELL_TEXT_LIMIT
    side = max(4.0, 0.62 * len(matrix) + 1) if few_classes else 11.0
    figure = Figure(figsize=(side, side))
    axes = figure.subplots()
    axes.grid(False)
    # The square root shows the rare confusions that a linear scale would paint white.
    image = axes.imshow(np.sqrt(share), cmap='Blues', vmin=0, vmax=1, interpolation='nearest')
    for row, column in np.argwhere(matrix) if few_classes else ():
        value = share[row, column]
        text = '<1' if value < 0.01 else '%.0f' % (100 * value)
        color = 'white' if value > 0.35 else DARK
        axes.text(column, row, text, ha='center', va='center', fontsize=8, color=color)
    _class_ticks(axes, run.classes, few_classes)
    axes.set_xlabel('predicted class')
    axes.set_ylabel('true class')
    title = 'Confusion: %% of the %s of each true class (%s %s)'
    axes.set_title(title % (run.counted, '{:,}'.format(int(matrix.sum())), run.counted))
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    marks = [0, 1, 5, 20, 50, 100]
    bar.set_ticks(np.sqrt(np.array(marks) / 100), labels=['%d %%' % mark for mark in marks])
    bar.outline.set_visible(False)
    return figure


def _class_ticks(axes: Axes, classes: List[str], few_classes: bool) -> None:
    """Names at both axes; of many classes without names every tenth number."""
    named = classes != [str(index) for index in range(len(classes))]
    ticks = np.arange(0, len(classes), 1 if few_classes or named else 10)
    small = named and not few_classes
    for axis in (axes.xaxis, axes.yaxis):
        labels = [classes[index] for index in ticks]
        axis.set_ticks(ticks, labels, fontsize=5.5 if small else 9)
    axes.tick_params(axis='x', rotation=90 if named else 0)
    axes.tick_params(length=1 if small else 2, pad=2)


@as_png
def bars(run: RunFolder, key: str) -> Figure:
    """A fraction of each class as bars, best first, with the mean."""
    finite = {name: value for name, value in run.per_class[key].items() if np.isfinite(value)}
    names = sorted(finite, key=finite.get)
    lengths = np.array([finite[name] for name in names])
    figure = Figure(figsize=(WIDTH, 0.27 * len(names) + 1.2))
    axes = figure.subplots()
    axes.grid(axis='y', b=False)
    drawn = axes.barh(names, lengths, color=BLUE, height=0.66)
    background = dict(facecolor='white', edgecolor='none', pad=0.5)
    labels = ['%.1f' % (100 * value) for value in lengths]
    axes.bar_label(drawn, labels, padding=4, fontsize=9, bbox=background)
    if names:
        mean = lengths.mean()
        axes.axvline(mean, color=ORANGE, linewidth=1.2, linestyle=DASHES)
        top, text = axes.get_xaxis_transform(), 'mean %.2f %%' % (100 * mean)
        _note(axes, text, (mean, 1), (0, 4), xycoords=top, color=ORANGE, ha='center')
    axes.set_xlim(0, 1.05)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=''))
    axes.set_xlabel('%s (%%)' % figures.name(key))
    axes.tick_params(axis='y', length=0)
    return figure


def _panels(x_label: str, *panels: Panel):
    """A figure and its axes, one above the other over one x axis."""
    heights = [height for height, _, _ in panels]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.6 * len(heights)))
    grid = {'height_ratios': heights, 'hspace': 0.22}
    all_axes = figure.subplots(len(heights), sharex=True, squeeze=False, gridspec_kw=grid)[:, 0]
    for axes, (_, title, label) in zip(all_axes, panels):
        axes.set_title(title)
        axes.set_ylabel(label)
    all_axes[-1].set_xlabel(x_label)
    return figure, all_axes


def _score_panel(score: str) -> Panel:
    name = figures.name(score)
    return 3, 'Evaluation %s' % name, '%s (%%)' % name


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Centred running mean over about 2 % of the values, NaN left out. Few values come back as they
    are.
    """
    half = len(values) // 100
    if half < 1:
        return values
    finite, kernel = np.isfinite(values), np.ones(2 * half + 1)
    count = np.convolve(finite, kernel, 'same')
    total = np.convolve(np.where(finite, values, 0.0), kernel, 'same')
    return np.where(finite, total / np.maximum(count, 1), np.nan)


def _marker(x: np.ndarray, most: int = 12) -> str:
    return 'o' if len(x) <= most else ''


def _percent_axis(axes: Axes) -> None:
    """An axis of fractions in per cent, with room for a note above the curve."""
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=''))
    axes.margins(y=0.2)
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 1])


def _from_zero(axes: Axes, values: np.ndarray) -> None:
    """Starts the axis at 0 and ends it above the largest finite value."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() >= 0 and finite.max() > 0:
        axes.set_ylim(0, 1.08 * finite.max())


def _note(axes: Axes, text: str, at, offset, **style) -> None:
    """Writes text at a position in data coordinates (or `xycoords`), moved by points."""
    style.setdefault('annotation_clip', False)
    axes.annotate(text, at, offset, textcoords='offset points', **style)
