"""report.md and plots/*.png of a run's folder, written from the files that training, evaluation and
export left there.

Works on a run that is still going, was killed or was resumed: what is missing is left out, what
cannot be read is said.
"""

import datetime
import math
import os
import pathlib
from typing import Any, Dict, List, Optional, Union

import numpy as np

from common.errors import UserError
from common.files import atomic
from common.metrics import scores
from common.reporting import plots
from common.reporting.run_folder import FRACTIONS, Published, RunFolder, number

NAMES = dict(FRACTIONS, loss='loss', images='images', images_per_second='images/s')


def write(
    run_folder: Union[str, os.PathLike],
    published: Optional[Published] = None,
    title: Optional[str] = None,
) -> pathlib.Path:
    """Writes report.md and plots/*.png into a run's folder and returns the path of report.md.

    Args:
        published: {source: {metric: value}} to show beside the measured results; added to
        config.yaml's key `published`.
            Values of fraction metrics are fractions 0..1, as everywhere; above 1 they are taken for
            per cent.
        title: heading; by default names the model.
    Raises:
        UserError: the folder does not exist or holds nothing of a run.
    """
    folder = pathlib.Path(run_folder)
    if not folder.is_dir():
        raise UserError('%s is not a folder; give the --output_path of a run' % folder)
    run = RunFolder(folder)
    if not (any(run.lines.values()) or run.eval or run.offline or run.confusion.size or run.notes):
        raise UserError(
            '%s holds no results (metrics.jsonl, eval.json, offline.json, confusion.npy); give the'
            ' --output_path of a run' % folder
        )
    model = (
        run.eval.get('model')
        or run.config.get('model')
        or run.session.get('model')
        or folder.resolve().name
    )
    sources = dict(run.published(), **(published or {}))
    parts = [
        '# ' + (title or '%s: report of a run' % model),
        *('**Note.** ' + note for note in run.notes),
        _results(run),
        _table('Published, not measured here', sources),
        _training(run),
        _offline(run.offline),
        *_figures(run, folder / 'plots'),
        _confused(run),
    ]
    path = folder / 'report.md'
    with atomic(path) as temporary:
        temporary.write_text('\n\n'.join(part for part in parts if part) + '\n')
    return path


def _results(run: RunFolder) -> str:
    rows, differences = {}, []
    if run.eval:
        rows['online, ' + _checkpoint(run.eval)] = run.eval
    elif run.lines['eval']:
        rows['online, while training, step %d' % run.lines['eval'][-1]['step']] = run.lines['eval'][
            -1
        ]
    for result in run.offline:
        online, offline = result.get('online') or {}, result.get('offline') or {}
        if any(
            _format(key, value) != _format(key, run.eval.get(key)) for key, value in online.items()
        ):
            rows['online, on the images of the offline run'] = dict(
                result, images_per_second=None, **online
            )
        if offline:
            rows['offline, .%s, %s' % (result.get('backend', '?'), _checkpoint(result))] = dict(
                result, **offline
            )
        both = [key for key in NAMES if key in online and key in offline]
        if both:
            differences.append(
                'Difference of .%s, offline minus online: %s.'
                % (
                    result.get('backend', '?'),
                    ', '.join(
                        (
                            '%s %+.2f points' % (NAMES[key], 100 * (offline[key] - online[key]))
                            if key in FRACTIONS
                            else '%s %+.6f' % (NAMES[key], offline[key] - online[key])
                        )
                        for key in both
                    ),
                )
            )
    if not rows:
        return ''
    parts = [
        _table(
            'Measured here',
            {label: {key: row.get(key) for key in NAMES} for label, row in rows.items()},
        )
    ] + differences
    session = run.session
    if session:
        parts.append(
            'Trained and evaluated on %s, started %s; %s.'
            % (_devices(session), _date(session), _software(session))
        )
    return '\n\n'.join(parts)


def _training(run: RunFolder) -> str:
    session, total = run.session, run.session.get('total_steps')
    facts = {}
    if run.last_step is not None:
        state = (
            'finished'
            if run.ended and run.last_step >= (total or 0)
            else 'stopped'
            if run.ended
            else 'not finished'
        )
        facts['state'] = '%s at step %d%s' % (
            state,
            run.last_step,
            ' of %d' % total if total else '',
        )
    for key, label, unit in (
        ('parameters', 'parameters', ''),
        ('global_batch', 'global batch', ' images'),
        ('steps_per_epoch', 'epoch', ' steps'),
    ):
        if key in session:
            facts[label] = '{:,}{}'.format(session[key], unit)
    seconds = [end['seconds'] for end in run.lines['end'] if 'seconds' in end]
    if seconds:
        more = (
            ', sessions that were killed not counted'
            if len(seconds) < len(run.lines['run'])
            else ''
        )
        facts['duration'] = '%s (h:mm:ss)%s' % (
            datetime.timedelta(seconds=round(sum(seconds))),
            more,
        )
    speed = run.column('end', 'images_per_second')
    if run.ended and np.isfinite(speed[-1]):
        facts['training throughput'] = '%.1f images/s' % speed[-1]
    score = run.column('eval', run.score)
    if np.isfinite(score).any():
        best = int(np.nanargmax(score))
        facts['best %s while training' % NAMES[run.score]] = '%s at step %d' % (
            _format(run.score, score[best]),
            run.lines['eval'][best]['step'],
        )
    if len(run.lines['run']) > 1:
        facts['sessions'] = '%d, resumed at step %s' % (
            len(run.lines['run']),
            ', '.join(str(row.get('resumed_from', '?')) for row in run.lines['run'][1:]),
        )
    return _facts('Training', facts)


def _offline(results: List[Dict[str, Any]]) -> str:
    """One column a backend."""
    columns = {}
    for result in results:
        facts = columns.setdefault('.%s' % result.get('backend', '?'), {})
        if 'equal_predictions' in result:
            facts['same prediction as online'] = '%.2f %% of the %s' % (
                100 * result['equal_predictions'],
                'pixels' if result.get('predictions', 0) > result.get('images', 0) else 'images',
            )
        if 'max_abs_logit_difference' in result:
            facts['largest difference of a logit'] = '%.3g' % result['max_abs_logit_difference']
        latency = result.get('latency_ms') or {}
        if latency:
            facts['latency of a batch of %s' % result.get('batch_size', '?')] = ', '.join(
                '%s %.2f ms' % (key, latency[key])
                for key in ('mean', 'p50', 'p90', 'p99')
                if key in latency
            )
        for kind, size in (result.get('size_bytes') or {}).items():
            facts['size of the .%s' % kind] = '%.2f MB' % (size / 1e6)
        if result.get('software'):
            facts['measured with'] = _software(result)
    labels = list(dict.fromkeys(label for facts in columns.values() for label in facts))
    if not labels:
        return ''
    return '\n'.join(
        [
            '## Offline inference',
            '',
            '| | %s |' % ' | '.join(columns),
            '|---' * (len(columns) + 1) + '|',
        ]
        + [
            '| %s | %s |' % (label, ' | '.join(facts.get(label, '') for facts in columns.values()))
            for label in labels
        ]
    )


def _figures(run: RunFolder, folder: pathlib.Path) -> List[str]:
    unit = 'epoch' if run.has_epochs else 'step'
    train_x, eval_x = run.column('train', unit), run.column('eval', unit)
    loss = run.column('train', 'loss')
    drawn = []

    def draw(name, alt, function, *args):
        with atomic(folder / name) as temporary:
            function(temporary, *args)
        drawn.append('![%s](plots/%s)' % (alt, name))

    if len(train_x):
        draw(
            'training.png',
            'training loss and learning rate',
            plots.training,
            train_x,
            loss,
            run.column('train', 'learning_rate'),
            unit,
        )
    if len(eval_x):
        draw(
            'evaluation.png',
            'evaluation score and loss',
            plots.evaluation,
            eval_x,
            run.column('eval', run.score),
            run.column('eval', 'loss'),
            train_x,
            loss,
            NAMES[run.score],
            unit,
        )
    if len(train_x):
        draw(
            'throughput.png',
            'training throughput',
            plots.throughput,
            run.column('train', 'minutes'),
            run.column('train', 'images_per_second'),
            [row['minutes'] for row in run.lines['run'][1:]],
            run.session.get('ranks', 1),
        )
    if run.confusion.size:
        draw(
            'confusion.png',
            'confusion matrix',
            plots.confusion,
            run.confusion,
            run.classes,
            run.counted,
        )
    if isinstance(run.eval.get('iou'), dict):
        draw(
            'iou.png',
            'intersection over union of each class',
            plots.iou,
            {name: number(value) for name, value in run.eval['iou'].items()},
        )
    drawn += ['![sample %s](samples/%s)' % (name, name) for name in run.samples]
    return ['## Figures'] + drawn if drawn else []


def _confused(run: RunFolder, most: int = 5) -> str:
    """The most frequent confusions and the classes of lowest recall."""
    wrong = run.confusion - np.diag(np.diag(run.confusion))
    if not wrong.any():
        return ''
    recall, precision = scores.recall(run.confusion), scores.precision(run.confusion)
    lines = [
        '## Where it errs',
        '',
        '| true class | taken for | %s | of the class |' % run.counted,
        '|---|---|--:|--:|',
    ]
    for cell in np.argsort(-wrong, axis=None, kind='stable')[:most]:
        row, column = divmod(int(cell), len(wrong))
        if wrong[row, column]:
            lines.append(
                '| %s | %s | %d | %s |'
                % (
                    _cell(run.classes[row]),
                    _cell(run.classes[column]),
                    wrong[row, column],
                    _format('top1', wrong[row, column] / run.confusion[row].sum()),
                )
            )
    lines += ['', '| lowest recall | recall | precision |', '|---|--:|--:|']
    for row in np.argsort(recall, kind='stable')[:most]:  # NaN, a class without images, sorts last
        if np.isfinite(recall[row]):
            lines.append(
                '| %s | %s | %s |'
                % (
                    _cell(run.classes[row]),
                    _format('top1', recall[row]),
                    _format('top1', precision[row]),
                )
            )
    return '\n'.join(lines)


def _table(heading: str, rows: Dict[str, Dict[str, Any]]) -> str:
    """A section with one row a source and one column a metric that any of them has."""
    keys = [key for row in rows.values() for key, value in row.items() if value is not None]
    columns = [key for key in NAMES if key in keys] + sorted(set(keys) - set(NAMES))
    if not columns:
        return ''
    lines = [
        '## ' + heading,
        '',
        '| | %s |' % ' | '.join(_cell(NAMES.get(key, key)) for key in columns),
        '|---|' + '--:|' * len(columns),
    ]
    lines += [
        '| %s | %s |' % (_cell(label), ' | '.join(_format(key, row.get(key)) for key in columns))
        for label, row in rows.items()
    ]
    return '\n'.join(lines)


def _facts(heading: str, facts: Dict[str, str]) -> str:
    return (
        '\n'.join(
            ['## ' + heading, '', '| | |', '|---|---|']
            + ['| %s | %s |' % fact for fact in facts.items()]
        )
        if facts
        else ''
    )


def _format(key: str, value: Any) -> str:
    if value is None:
        return ''
    value = number(value)
    if not math.isfinite(value):
        return 'NaN' if math.isnan(value) else str(value)
    if key in FRACTIONS:
        return '%.2f %%' % (value if value > 1 else 100 * value)
    return {'images': '%d', 'loss': '%.4f', 'images_per_second': '%.1f'}.get(key, '%g') % value


def _cell(text: str) -> str:
    return str(text).replace('|', '\\|')


def _checkpoint(source: Dict[str, Any]) -> str:
    return 'checkpoint %s' % pathlib.PurePath(str(source.get('checkpoint', 'unknown'))).name


def _devices(session: Dict[str, Any]) -> str:
    return '%s x %s' % (
        session.get('ranks', 1),
        session.get('hardware') or session.get('device', 'unknown device'),
    )


def _date(session: Dict[str, Any]) -> str:
    moment = (
        datetime.datetime.fromtimestamp(session['time'], datetime.timezone.utc)
        if 'time' in session
        else None
    )
    return moment.strftime('%Y-%m-%d %H:%M UTC') if moment else 'at an unknown time'


def _software(session: Dict[str, Any]) -> str:
    software = session.get('software') or {}
    return (
        ', '.join('%s %s' % item for item in software.items()) if software else 'software unknown'
    )
