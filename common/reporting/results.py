"""RESULTS.md from run folders: mean and spread over seeds, with hardware, software and duration.

Runs whose configurations differ in nothing but the seed and config.LOCAL are one section.
"""

import os
import pathlib
import re
import statistics
from typing import Dict, List, Sequence

import numpy as np

from common.configuration import config
from common.errors import UserError
from common.files import write_text
from common.metrics import figures
from common.reporting import facts, report
from common.reporting.markdown import table
from common.reporting.run_folder import RunFolder

BEGIN, END = '<!-- written by python -m common.report -->', '<!-- end of what it wrote -->'
INTRODUCTION = (
    'Every figure under "measured" was written by `python -m common.report --results RUN ...`'
    " from the runs' own files; with several seeds it is mean ± sample standard deviation."
    ' "Published" figures are targets and were not measured here.'
)


def write(folders: Sequence[str], output: str) -> pathlib.Path:
    """Writes the results of finished runs as Markdown and returns the file's path.

    In a file that holds the lines BEGIN and END only what is between them is written anew. Raises
    UserError for a run without eval.json: only final evaluations count.
    """
    groups: Dict[str, List[RunFolder]] = {}
    for run in map(report.read, folders):
        if run.score not in run.eval:
            raise UserError(
                '%s has no final evaluation (eval.json with %s); leave it out or finish it'
                % (run.folder, run.score)
            )
        free = ('seed', *config.LOCAL)
        settings = sorted(item for item in run.config.items() if item[0] not in free)
        groups.setdefault(str(settings), []).append(run)
    path = pathlib.Path(output)
    sections = [part for runs in groups.values() for part in _section(runs, path.parent)]
    text = report.joined([BEGIN, INTRODUCTION, *sections, END])
    old = path.read_text(encoding='utf-8') if path.exists() else ''
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        before, after = '# Results\n\n', '\n'
    write_text(path, before + text + after)
    return path


def _section(runs: List[RunFolder], base: pathlib.Path) -> List[str]:
    """The table of a group of runs, and the conditions that they were measured under."""
    keys = [key for key in figures.NAMES if all(key in run.eval for run in runs)]
    keys = [key for key in keys if figures.is_fraction(key) and key not in runs[0].per_class]
    percentages = [[100 * figures.number(run.eval[key]) for run in runs] for key in keys]
    rows = [['measured', len(runs), *(spread(values) + ' %' for values in percentages)]]
    if len(runs) > 1:
        limits = ['%.2f to %.2f %%' % (min(values), max(values)) for values in percentages]
        rows.append(['lowest to highest', '', *limits])
    for source, values in runs[0].published().items():
        rows.append(['published: %s' % source, '', *(figures.text(k, values.get(k)) for k in keys)])
    session = runs[0].session
    finished = [run for run in runs if run.rows['end']]
    minutes = [np.nansum(run.column('end', 'seconds')) / 60 for run in finished]
    conditions = {
        'model': runs[0].model,
        'hardware': facts.devices(session),
        'software': facts.software(session),
        'minutes a run': spread(minutes),
        'device-hours a run': spread([session.get('ranks', 1) * time / 60 for time in minutes]),
        'training images/s': spread([run.speed for run in finished]),
        'seeds': ', '.join(_link(run, base) for run in runs),
        'pictures': next(filter(None, (_pictures(run, base) for run in runs)), ''),
    }
    return [
        table(_name(runs), ['', 'runs', *map(figures.name, keys)], rows),
        '\n'.join('- %s: %s' % item for item in conditions.items() if item[1]),
    ]


def spread(values: Sequence[float]) -> str:
    """'mean ± sample standard deviation', the mean alone of one value, '' of none."""
    if len(values) < 2:
        return ''.join('%.2f' % value for value in values)
    return '%.2f ± %.2f' % (statistics.mean(values), statistics.stdev(values))


def _name(runs: List[RunFolder]) -> str:
    """What the folders' names begin with, else the model."""
    names = [os.path.basename(os.path.abspath(str(run.folder))) for run in runs]
    if len(names) == 1:
        return names[0]
    return re.sub(r'[-_]*(seed)?[-_\d]*$', '', os.path.commonprefix(names)) or runs[0].model


def _link(run: RunFolder, base: pathlib.Path) -> str:
    """The seed, with a link to the run's report, or to its figures where none was written."""
    name = 'report.md' if (run.folder / 'report.md').exists() else 'eval.json'
    seed = run.config.get('seed', '?')
    return '[%s](%s)' % (seed, os.path.relpath(str(run.folder / name), str(base)))


def _pictures(run: RunFolder, base: pathlib.Path) -> str:
    paths = sorted(run.folder.glob('plots/*.png'))
    return ', '.join('[%s](%s)' % (p.stem, os.path.relpath(str(p), str(base))) for p in paths)
