"""Runs side by side: their figures, the configuration keys that differ, curves over each other."""

import os
import pathlib
from typing import Any, Dict, List, Sequence

from common.errors import UserError
from common.files import write_text
from common.metrics import figures
from common.reporting import facts, plots, report
from common.reporting.markdown import side_by_side, write_page
from common.reporting.run_folder import RunFolder


def write(folders: Sequence[str], output: str) -> pathlib.Path:
    """Writes comparison.md, comparison.html and comparison.png into `output`; returns the page's
    path. UserError for fewer than two runs or a folder that is not one.
    """
    if len(folders) < 2:
        raise UserError('--compare needs two runs or more')
    runs = dict(zip(labels(folders), map(report.read, folders)))
    page = pathlib.Path(output) / 'comparison.html'
    notes = ['%s: %s' % (label, note) for label, run in runs.items() for note in run.notes]
    latest = {label: run.latest for label, run in runs.items()}
    parts = [
        '# Comparison of %d runs' % len(runs),
        report.note_lines(notes),
        report.figure_table('Figures', latest, only=figures.NAMES),
        side_by_side('Training', {label: facts.training(run) for label, run in runs.items()}),
        side_by_side('Configuration keys that differ', differences(runs)),
    ]
    if any(run.rows['train'] or run.rows['eval'] for run in runs.values()):
        plots.comparison(page.with_suffix('.png'), runs)
        parts.append('## Curves\n\n![curves of the runs](comparison.png)')
    text = report.joined(parts) + '\n'
    write_text(page.with_suffix('.md'), text)
    write_page(page, text)
    return page


def labels(folders: Sequence[str]) -> List[str]:
    """The shortest ends of the paths that tell the folders apart."""
    paths = [pathlib.Path(os.path.abspath(folder)).parts for folder in folders]
    for length in range(1, max(map(len, paths)) + 1):
        names = ['/'.join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    raise UserError('--compare: a run is named twice: %s' % ', '.join(folders))


def differences(runs: Dict[str, RunFolder]) -> Dict[str, Dict[str, Any]]:
    """{label: {key: value}} of the keys in which the runs' configurations are not all the same."""
    keys = dict.fromkeys(key for run in runs.values() for key in run.config)
    differing = [
        key
        for key in keys
        if key not in ('output_path', 'published')
        and len({str(run.config.get(key, '')) for run in runs.values()}) > 1
    ]
    return {
        label: {key: run.config.get(key, '') for key in differing} for label, run in runs.items()
    }
