"""How the pictures of a report look, and how they become PNG files."""

import functools

import matplotlib
from matplotlib.axes import Axes

# Okabe and Ito: distinguishable for colour-blind readers and in print.
COLOURS = '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00'
BLUE, ORANGE = COLOURS[:2]
GREY, DARK = '#8A8A8A', '#333333'
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


def as_png(draw):
    """Turns draw(...) -> Figure into a function of (path, ...) that writes a PNG in STYLE. The
    process's own style does not change.
    """

    @functools.wraps(draw)
    def save(path, *args):
        with matplotlib.rc_context(STYLE):
            draw(*args).savefig(str(path))

    return save


def note(axes: Axes, text: str, at, offset, **how) -> None:
    """Writes text at a position in data coordinates (or `xycoords`), moved by points."""
    how.setdefault('annotation_clip', False)
    axes.annotate(text, at, offset, textcoords='offset points', **how)
