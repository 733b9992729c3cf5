"""RESULTS.md from run folders: mean and spread over seeds, with hardware, software and duration.

Runs whose configurations differ in nothing but the seed and in paths are one row.
"""

import os
import pathlib
import re
import statistics
from typing import Dict, List, Sequence

import numpy as np

from common.errors import UserError
from common.files import atomic
from common.metrics import figures
from common.reporting import facts, report
from common.reporting.markdown import table
from common.reporting.run_folder import RunFolder

FREE = ('seed', 'output_path', 'data_path', 'model_path', 'published')


def write(folders: Sequence[str], output: str) -> pathlib.Path:
    """Writes the results of finished runs as Markdown and returns the file's path.

    Raises UserError for a run without eval.json: only final evaluations count.
    """
    groups: Dict[str, List[RunFolder]] = {}
    for run in map(report.read, folders):
        if run.score not in run.eval:
            raise UserError(
                '%s has no final evaluation (eval.json with %s); leave it out or finish it'
                % (run.folder, run.score)
            )
        settings = {key: value for key, value in run.config.items() if key not in FREE}
        groups.setdefault(str(sorted(settings.items())), []).append(run)
    path = pathlib.Path(output)
    parts = [
        '# Results',
        'Every figure under "measured" was written by `python -m common.report --results RUN ...`'
        " from the runs' own files; with several seeds it is mean ± sample standard deviation."
        ' "Published" figures are targets and were not measured here.',
    ]
    for runs in groups.values():
        parts += _section(runs, path.parent)
    with atomic(path) as temporary:
        temporary.write_text('\n\n'.join(part for part in parts if part) + '\n', encoding='utf-8')
    return path


def _section(runs: List[RunFolder], base: pathlib.Path) -> List[str]:
    keys = [key for key in figures.FIGURES if all(key in run.eval for run in runs)]
    keys = [key for key in keys if figures.is_fraction(key) and key not in runs[0].per_class]
    row = [spread([100 * figures.number(run.eval[key]) for run in runs]) + ' %' for key in keys]
    rows = [['measured', len(runs), *row]]
    for source, values in runs[0].published().items():
        rows.append(['published: %s' % source, '', *(figures.text(k, values.get(k)) for k in keys)])
    header = ['', 'runs', *(figures.of(key).name for key in keys)]
    session = runs[0].session
    ended = [run for run in runs if run.rows['end']]
    minutes = [np.nansum(run.column('end', 'seconds')) / 60 for run in ended]
    speed = [run.column('end', 'images_per_second')[-1] for run in ended]
    conditions = {
        'model': runs[0].model,
        'hardware': facts.devices(session),
        'software': facts.software(session),
        'minutes': spread(minutes),
        'training images/s': spread(speed),
        'seeds': ', '.join(str(run.config.get('seed', '?')) for run in runs),
        'reports': ', '.join(_link(run, base) for run in runs),
    }
    return [
        table(_name(runs), header, rows),
        table('', ['', ''], [item for item in conditions.items() if item[1]], left=2),
    ]


def spread(values: Sequence[float]) -> str:
    """'mean ± sample standard deviation', the mean alone of one value, '' of none."""
    if len(values) < 2:
        return ''.join('%.2f' % value for value in values)
    return '%.2f ± %.2f' % (statistics.mean(values), statistics.stdev(values))


def _name(runs: List[RunFolder]) -> str:
    """What the folders' names begin with, else the model."""
    names = [os.path.basename(os.path.abspath(str(run.folder))) for run in runs]
    common = os.path.commonprefix(names)
    return (
        common if len(names) == 1 else re.sub(r'[-_]*(seed)?[-_\d]*$', '', common) or runs[0].model
    )


def _link(run: RunFolder, base: pathlib.Path) -> str:
    target = os.path.relpath(str(run.folder / 'report.md'), str(base))
    return '[%s](%s)' % (run.folder.name, target)
