"""What a run's files say, in words: {label: text} for the tables of a report."""

import datetime
import pathlib
from typing import Dict

import numpy as np

from common.metrics import figures
from common.metrics.figures import number
from common.reporting.run_folder import Row, RunFolder


def training(run: RunFolder) -> Dict[str, str]:
    """State, size, duration, throughput and best evaluation of the training."""
    session, sessions = run.session, run.rows['run']
    facts = {}
    if run.last_step is not None:
        total = session.get('total_steps', 0)
        state = 'finished' if run.last_step >= total else 'stopped'
        facts['state'] = '%s at step %d' % (state if run.ended else 'not finished', run.last_step)
        if total:
            facts['state'] += ' of %d' % total
    for key, label, template in (
        ('parameters', 'parameters', '{:,}'),
        ('global_batch', 'global batch', '{:,} images'),
        ('steps_per_epoch', 'epoch', '{:,} steps'),
    ):
        if key in session:
            facts[label] = template.format(session[key])
    if session.get('warnings'):
        facts['warnings'] = '; '.join(map(str, session['warnings']))
    seconds = [number(end['seconds']) for end in run.rows['end'] if 'seconds' in end]
    if seconds:
        facts['duration'] = '%s (h:mm:ss)' % datetime.timedelta(seconds=round(sum(seconds)))
        if len(seconds) < len(sessions):
            facts['duration'] += ', sessions that were killed not counted'
    if run.ended and np.isfinite(run.speed):
        facts['training throughput'] = '%.1f images/s' % run.speed
    score = run.column('eval', run.score)
    if np.isfinite(score).any():
        best = int(np.nanargmax(score))
        step, text = run.rows['eval'][best]['step'], figures.text(run.score, score[best])
        facts['best %s while training' % figures.name(run.score)] = '%s at step %d' % (text, step)
    if len(sessions) > 1:
        steps = ', '.join(str(row.get('resumed_from', '?')) for row in sessions[1:])
        facts['sessions'] = '%d, resumed at step %s' % (len(sessions), steps)
    return facts


def offline(result: Row) -> Dict[str, str]:
    """Agreement, latency and size of an exported model, an entry of offline.json."""
    facts = {}
    if 'equal_predictions' in result:
        dense = number(result.get('predictions')) > number(result.get('images'))
        share = '%.3f %% of the ' % (100 * number(result['equal_predictions']))
        facts['same prediction as online'] = share + ('pixels' if dense else 'images')
    if 'max_abs_logit_difference' in result:
        largest = number(result['max_abs_logit_difference'])
        facts['largest difference of a logit'] = '%.3g' % largest
    latency = result.get('latency_ms', {})
    if latency:
        label = 'latency of a batch of %s' % result.get('batch_size', '?')
        keys = [key for key in ('mean', 'p50', 'p90', 'p99') if key in latency]
        facts[label] = ', '.join('%s %.2f ms' % (key, number(latency[key])) for key in keys)
    for kind, size in result.get('size_bytes', {}).items():
        facts['size of the .%s' % kind] = '%.2f MB' % (number(size) / 1e6)
    if 'software' in result:
        facts['measured with'] = software(result)
    return facts


def checkpoint(row: Row) -> str:
    return 'checkpoint %s' % pathlib.PurePath(row.get('checkpoint', 'unknown')).name


def devices(session: Row) -> str:
    return '%s x %s' % (session.get('ranks', 1), session.get('device', 'unknown device'))


def origin(session: Row) -> str:
    """Devices, date and software of a session."""
    date = 'at an unknown time'
    if 'time' in session:
        moment = datetime.datetime.fromtimestamp(session['time'], datetime.timezone.utc)
        date = moment.strftime('%Y-%m-%d %H:%M UTC')
    return '%s, started %s; %s' % (devices(session), date, software(session))


def software(row: Row) -> str:
    versions = row.get('software', {}).items()
    return ', '.join('%s %s' % item for item in versions) or 'software unknown'
