"""Curves of a run over its steps: loss, learning rate, evaluation figures, throughput.

Every function is called with the path of the PNG first: `training(path, run)`.
"""

import itertools
from typing import Dict, List, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from common.metrics import figures
from common.reporting.run_folder import RunFolder
from common.reporting.style import BLUE, COLOURS, GREY, ORANGE, WIDTH, as_png, note

LINES = [(color, line) for line in ('-', '--', ':') for color in COLOURS]  # of runs compared
Line = Tuple[np.ndarray, np.ndarray, str, str]  # x, y, label, colour


@as_png
def training(run: RunFolder) -> Figure:
    """Training loss and learning rate."""
    x, loss, rate = (
        run.x('train'),
        run.column('train', 'loss'),
        run.column('train', 'learning_rate'),
    )
    figure, (top, bottom) = _panels([3, 2], run.unit)
    smooth = _smoothed(loss)
    if smooth is loss:
        top.plot(x, loss, color=BLUE, marker=_marker(x))
        top.set_title('Training loss')
    else:
        top.plot(x, loss, color=BLUE, alpha=0.25, linewidth=0.9)
        top.plot(x, smooth, color=BLUE)
        top.set_title('Training loss (thin: logged steps, thick: running mean)')
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
    return figure


@as_png
def evaluation(run: RunFolder) -> Figure:
    """The main figure of the evaluations, and their loss beside the training loss."""
    x, score, loss = run.x('eval'), run.column('eval', run.score), run.column('eval', 'loss')
    train_x, train_loss = run.x('train'), _smoothed(run.column('train', 'loss'))
    name = figures.figure(run.score).name
    figure, (top, bottom) = _panels([3, 2], run.unit)
    top.plot(x, score, color=BLUE, marker=_marker(x, 40))
    top.set_title('Evaluation %s' % name)
    _percent_axis(top, name)
    if np.isfinite(score).any():
        best = int(np.nanargmax(score))
        at = (x[best], score[best])
        top.plot(*at, marker='o', markersize=7, markerfacecolor='none', color=ORANGE)
        late = x[best] >= np.mean(np.concatenate([x, train_x]))
        text = 'best %.2f %%, %s %g' % (100 * score[best], run.unit, round(x[best], 2))
        note(top, text, at, (0, 9), color=ORANGE, ha='right' if late else 'left')
    _mark_if_empty(top, score)
    bottom.plot(train_x, train_loss, color=GREY)
    bottom.plot(x, loss, color=BLUE, marker=_marker(x, 40))
    bottom.set_title('Loss')
    bottom.set_ylabel('loss (nats)')
    _from_zero(bottom, np.concatenate([loss, train_loss]))
    _label_ends(bottom, [(train_x, train_loss, 'training', GREY), (x, loss, 'evaluation', BLUE)])
    return figure


@as_png
def throughput(run: RunFolder) -> Figure:
    """Images per second over the time of training, and where a session was resumed."""
    minutes, rate = run.column('train', 'minutes'), run.column('train', 'images_per_second')
    hours = minutes.max() > 180
    scale, ranks = 1 / 60 if hours else 1, run.session.get('ranks', 1)
    unit = 'hours' if hours else 'minutes'
    figure, (axes,) = _panels([2.6], unit + ' since the start, pauses between sessions left out')
    axes.plot(minutes * scale, rate, color=BLUE, linewidth=1.2, marker=_marker(minutes))
    _from_zero(axes, rate)
    if np.isfinite(rate).any():
        middle = float(np.nanmedian(rate))
        axes.axhline(middle, color=ORANGE, linewidth=1, linestyle=(0, (5, 3)))
        text = 'median\n%s' % ('%.0f' if middle >= 100 else '%.3g') % middle
        right = axes.get_yaxis_transform()
        note(axes, text, (1, middle), (6, 0), xycoords=right, color=ORANGE, va='center')
    for moment in [row['minutes'] * scale for row in run.rows['run'][1:]]:
        axes.axvline(moment, color=GREY, linewidth=1)
        foot = axes.get_xaxis_transform()
        note(axes, 'resumed', (moment, 0), (4, 5), xycoords=foot, color=GREY)
    axes.set_title('Training throughput' + (' of all %d devices' % ranks if ranks > 1 else ''))
    axes.set_ylabel('images/s')
    return figure


@as_png
def comparison(runs: Dict[str, RunFolder]) -> Figure:
    """Evaluation figure, training loss and learning rate of several runs, {label: run}."""
    unit = 'epoch' if all(run.unit == 'epoch' for run in runs.values()) else 'step'
    scores = list(dict.fromkeys(run.score for run in runs.values() if run.rows['eval']))
    figure, panels = _panels([3] * len(scores) + [3, 2], unit)
    for (label, run), (color, line) in zip(runs.items(), itertools.cycle(LINES)):
        x, how = run.column('train', unit), dict(color=color, linestyle=line, label=label)
        for axes, score in zip(panels, scores):
            if score == run.score:
                evaluated = run.column('eval', unit)
                axes.plot(evaluated, run.column('eval', score), marker=_marker(evaluated), **how)
        panels[-2].plot(x, _smoothed(run.column('train', 'loss')), **how)
        panels[-1].plot(x, run.column('train', 'learning_rate'), **how)
    for axes, score in zip(panels, scores):
        name = figures.figure(score).name
        axes.set_title('Evaluation %s' % name)
        _percent_axis(axes, name)
    panels[-2].set_title('Training loss')
    panels[-2].set_ylabel('loss (nats)')
    panels[-1].set_title('Learning rate')
    panels[-1].set_ylabel('learning rate')
    for axes in panels[-2:]:
        axes.set_ylim(bottom=0)
    handles = panels[-1].get_legend_handles_labels()
    panels[0].legend(*handles, loc='upper left', bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


def _panels(heights: Sequence[float], x_label: str):
    """A figure and its panels, one above the other over one x axis."""
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.6 * len(heights)))
    grid = {'height_ratios': heights, 'hspace': 0.22}
    axes = figure.subplots(len(heights), sharex=True, squeeze=False, gridspec_kw=grid)[:, 0]
    axes[-1].set_xlabel(x_label)
    return figure, axes


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Centred running mean over about 2 % of the values, NaN left out. Few values come back as they
    are.
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


def _percent_axis(axes: Axes, name: str) -> None:
    """An axis of fractions in per cent, with room for a note above the curve."""
    axes.set_ylabel('%s (%%)' % name)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=''))
    axes.margins(y=0.2)
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 1])


def _from_zero(axes: Axes, values: np.ndarray) -> None:
    """Starts the axis at 0 and ends it above the largest finite value."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() >= 0 and finite.max() > 0:
        axes.set_ylim(0, 1.08 * finite.max())
    _mark_if_empty(axes, values)


def _mark_if_empty(axes: Axes, values: np.ndarray) -> None:
    if not np.isfinite(values).any():
        axes.set_yticks([])
        axes.text(0.5, 0.5, 'no finite value', transform=axes.transAxes, ha='center', color=GREY)


def _label_ends(axes: Axes, lines: List[Line]) -> None:
    """Labels each line at its right end, the labels kept apart."""
    ends = [(y[np.isfinite(y)][-1], *how) for _, y, *how in lines if np.isfinite(y).any()]
    low, high = axes.get_ylim()
    previous = -np.inf
    for value, name, color in sorted(ends):
        previous = max(value, previous + 0.11 * (high - low))
        right = axes.get_yaxis_transform()
        note(axes, name, (1, previous), (6, 0), xycoords=right, color=color, va='center')
