"""The environment variables that place a process in a job on Ascend: RANK_* with a rank table, or
CM_* without one; DEVICE_ID, JOB_ID and time-outs. The launcher sets them, the device reads them.
"""

import os
import re
from typing import Mapping, NamedTuple

from common.errors import UserError

CM = ('CM_CHIEF_IP', 'CM_CHIEF_PORT', 'CM_CHIEF_DEVICE', 'CM_WORKER_SIZE', 'CM_WORKER_IP')
CONNECT_TIMEOUT = 600  # seconds; HCCL's own 120 are short for 8 compilations
_LARGEST = {'CM_CHIEF_PORT': 65520, 'CM_CHIEF_DEVICE': 15, 'CM_WORKER_SIZE': 1 << 16}


class Rank(NamedTuple):
    """This process in its job. rank -1: HCCL gives it (CM_* mode)."""

    rank: int
    size: int


def read_rank(env: Mapping[str, str] = os.environ) -> Rank:
    """Reads and checks the variables that the adapter and HCCL start from.

    One device needs none. Several need RANK_TABLE_FILE, RANK_ID and RANK_SIZE, or all five CM_* and
    none of these.
    """
    for name in ('DEVICE_ID', 'ASCEND_DEVICE_ID'):
        _number(env, name, '0')
    check_connect_timeout(env)
    if '"cluster"' in env.get('TF_CONFIG', ''):
        raise UserError(
            'TF_CONFIG names a cluster: NPURunConfig takes it for a job with parameter servers,'
            ' which this is not; unset it'
        )
    if any(env.get(name) for name in CM):
        check_cm(env)
        size = int(env['CM_WORKER_SIZE'])
        return Rank(-1 if size > 1 else 0, size)
    return _rank_of_table(env)


def _rank_of_table(env: Mapping[str, str]) -> Rank:
    # The adapter does not accept an empty RANK_SIZE.
    size = _number(env, 'RANK_SIZE') if 'RANK_SIZE' in env else 1
    table = env.get('RANK_TABLE_FILE')
    launcher = 'python -m hccl.launch sets all of them'
    if not size:
        raise UserError('RANK_SIZE=0: give the number of devices of all servers')
    if size > 1 and not table:
        raise UserError('RANK_SIZE=%d but RANK_TABLE_FILE is not set; %s' % (size, launcher))
    if table and not os.path.isfile(table):
        raise UserError(
            'RANK_TABLE_FILE=%s: no such file; python -m hccl.rank_table generate makes one' % table
        )
    if table and not env.get('RANK_ID'):
        raise UserError('RANK_TABLE_FILE is set but RANK_ID is not; %s' % launcher)
    rank = _number(env, 'RANK_ID', '0')
    if rank >= size:
        raise UserError('RANK_ID=%d: with RANK_SIZE=%d legal are 0 to %d' % (rank, size, size - 1))
    return Rank(rank, size)


def check_cm(env: Mapping[str, str]) -> None:
    """Refuses incomplete or illegal CM_* variables, and those of a rank table beside them."""
    for name in ('RANK_TABLE_FILE', 'RANK_ID', 'RANK_SIZE'):
        if name in env:  # the adapter counts an empty one as set
            raise UserError(
                'CM_CHIEF_IP and %s cannot be set at the same time: CM_* variables replace the rank'
                ' table and its ranks; unset one side' % name
            )
    missing = [name for name in CM if not env.get(name)]
    if missing:
        raise UserError(
            '%s missing: without a rank table all of %s are needed'
            % (', '.join(missing), ', '.join(CM))
        )
    for name, largest in _LARGEST.items():
        if _number(env, name) > largest:
            raise UserError('%s=%s: legal are 0 to %d' % (name, env[name], largest))
    if not int(env['CM_WORKER_SIZE']):
        raise UserError('CM_WORKER_SIZE=0: give the number of devices of all servers')


def check_connect_timeout(env: Mapping[str, str]) -> None:
    timeout = env.get('HCCL_CONNECT_TIMEOUT')
    if timeout and not (timeout.isdigit() and 120 <= int(timeout) <= 7200):
        raise UserError(
            'HCCL_CONNECT_TIMEOUT=%s: legal are 120 to 7200 seconds; unset it for %d'
            % (timeout, CONNECT_TIMEOUT)
        )


def job_id(default: str, env: Mapping[str, str] = os.environ) -> str:
    """JOB_ID, which NPUEstimator demands, else the default. UserError if it is illegal."""
    job = env.get('JOB_ID') or default
    if not re.fullmatch(r'[A-Za-z0-9_-]+', job) or re.fullmatch(r'0\d*', job):
        raise UserError(
            'JOB_ID=%s: legal are letters, digits, _ and -, but not a number that begins with 0;'
            ' or unset it' % job
        )
    return job


def _number(env: Mapping[str, str], name: str, default: str = '') -> int:
    text = env.get(name) or default
    if not re.fullmatch('[0-9]+', text):
        raise UserError('%s=%s: give a whole number, 0 or more' % (name, text))
    return int(text)
