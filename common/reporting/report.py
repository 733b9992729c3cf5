"""report.md, report.html and plots/*.png of a run's folder, written from the files that training,
evaluation and export left there.

Works on a run that is still going, was killed or was resumed. What is missing is left out, what
cannot be read is named.
"""

import os
import pathlib
from typing import Any, Callable, Container, Dict, Iterable, List, Optional, Union

import numpy as np

from common.errors import UserError
from common.files import write_text
from common.metrics import figures, scores
from common.reporting import facts, plots
from common.reporting.markdown import cell, side_by_side, table, write_page
from common.reporting.run_folder import Row, RunFolder

MOST = 5  # confusions that are listed


def write(run_folder: Union[str, os.PathLike]) -> pathlib.Path:
    """Writes report.md, report.html and plots/*.png into a run's folder; returns the path of
    report.md. The page holds its pictures, and a table of all classes.

    The key `published` of config.yaml is {source: {figure: value}}; fractions are 0..1, and above 1
    in per cent. UserError if the folder does not exist or holds nothing of a run.
    """
    run = read(run_folder)
    sources = run.published()
    parts = [
        '# %s: report of a run' % cell(run.model),
        note_lines(run.notes),
        _results(run),
        figure_table('Published, not measured here', sources),
        table('Training', ['', ''], list(facts.training(run).items()), text_columns=2),
        _offline(run),
        *_pictures(run),
        _confused(run),
        *_galleries(run),
    ]
    path = run.folder / 'report.md'
    write_page(path.with_suffix('.html'), joined(parts + [_classes(run)]))
    write_text(path, joined(parts) + '\n')  # last: who finds it finds all of the report
    return path


def note_lines(notes: Iterable[str]) -> str:
    return joined('**Note.** ' + cell(note) for note in notes)


def joined(parts: Iterable[str]) -> str:
    return '\n\n'.join(filter(None, parts))


def read(run_folder: Union[str, os.PathLike]) -> RunFolder:
    """The run of a folder; UserError if it is not one."""
    folder = pathlib.Path(run_folder)
    if not folder.is_dir():
        raise UserError('%s is not a folder; give the --output_path of a run' % folder)
    run = RunFolder(folder)
    if run.is_empty:
        raise UserError(
            '%s holds no results (metrics.jsonl, eval.json, offline.json, confusion.npy); give the'
            ' --output_path of a run' % folder
        )
    return run


def _results(run: RunFolder) -> str:
    rows = {}
    if run.eval:
        rows['online, ' + facts.checkpoint(run.eval)] = run.eval
    elif run.latest:
        rows['online, while training, step %d' % run.latest['step']] = run.latest
    for result in run.offline:
        online, offline = result.get('online', {}), result.get('offline', {})
        if any(_text(online, key) != _text(run.eval, key) for key in online):
            online_row = dict(result, images_per_second=None, **online)
            rows['online, on the images of the offline run'] = online_row
        if offline:
            label = 'offline, .%s, %s' % (result.get('backend', '?'), facts.checkpoint(result))
            rows[label] = dict(result, **offline)
    parts = [figure_table('Measured here', rows, only=figures.NAMES)]
    if rows and run.session:
        parts.append('Trained and evaluated on %s.' % facts.origin(run.session))
    return joined(parts)


def _offline(run: RunFolder) -> str:
    """One column a backend."""
    columns: Dict[str, Dict[str, str]] = {}
    for result in run.offline:
        columns.setdefault('.%s' % result.get('backend', '?'), {}).update(facts.offline(result))
    return side_by_side('Offline inference', columns)


def _pictures(run: RunFolder) -> List[str]:
    """Draws what the run has data for; returns the links."""
    links: List[str] = []

    def draw(name: str, alt: str, function: Callable, *args: Any) -> None:
        function(run.folder / 'plots' / (name + '.png'), run, *args)
        links.append('![%s](plots/%s.png)' % (alt, name))

    if run.rows['train']:
        draw('training', 'training loss and learning rate', plots.training)
    if run.rows['eval']:
        draw('evaluation', 'evaluation score and loss', plots.evaluation)
    if run.rows['train']:
        draw('throughput', 'training throughput', plots.throughput)
    if run.confusion.size:
        draw('confusion', 'confusion matrix', plots.confusion)
    for key in run.per_class:
        draw(key, '%s of each class' % figures.name(key), plots.bars, key)
    return ['## Figures'] + links if links else []


def _galleries(run: RunFolder) -> List[str]:
    """The pictures that evaluation left, each with its caption."""
    parts = []
    for title, pictures in run.galleries.items():
        parts += ['## ' + cell(title)] if pictures else []
        parts += ['![%s](%s) %s' % (cell(text), path, cell(text)) for path, text in pictures]
    return parts


def _confused(run: RunFolder) -> str:
    """The most frequent confusions; what is known of each class stands on the HTML page."""
    errors = run.confusion - np.diag(np.diag(run.confusion))
    if not errors.any():
        return ''
    names, rows = run.classes, []
    for index in np.argsort(-errors, axis=None, kind='stable')[:MOST]:
        true, predicted = divmod(int(index), len(errors))
        count = errors[true, predicted]
        if count:
            share = _share(count / run.confusion[true].sum())
            rows.append([names[true], names[predicted], '%d' % count, share])
    header = ['true class', 'taken for', run.counted, 'of the class']
    return table('Where it errs', header, rows, text_columns=2)


def _classes(run: RunFolder) -> str:
    """Every class, with all that is known of it."""
    columns = {
        figures.name(key): {name: _share(value) for name, value in values.items()}
        for key, values in run.per_class.items()
    }
    if run.confusion.size:
        for name, values in (('recall', scores.recall), ('precision', scores.precision)):
            columns[name] = dict(zip(run.classes, map(_share, values(run.confusion))))
        totals = map('{:,}'.format, run.confusion.sum(axis=1))
        columns[run.counted] = dict(zip(run.classes, totals))
    names = dict.fromkeys(name for values in columns.values() for name in values)
    rows = [[name, *(values.get(name, '-') for values in columns.values())] for name in names]
    return table('Classes', ['class', *columns], rows)


def figure_table(heading: str, rows: Dict[str, Row], only: Optional[Container[str]] = None) -> str:
    """One row a source and one column a figure that any of them has; `only`: of these."""
    usable = {
        key
        for row in rows.values()
        for key, value in row.items()
        if value is not None and not isinstance(value, dict) and (only is None or key in only)
    }
    columns = [key for key in figures.NAMES if key in usable]
    columns += sorted(map(str, usable - set(columns)))
    body = [[label, *(_text(row, key) for key in columns)] for label, row in rows.items()]
    return table(heading, ['', *map(figures.name, columns)], body if columns else [])


def _text(row: Row, key: str) -> str:
    return figures.text(key, row.get(key))


def _share(value: float) -> str:
    """A share of a class in per cent, '-' for a class that has none."""
    return figures.text('top1', value) if np.isfinite(value) else '-'
