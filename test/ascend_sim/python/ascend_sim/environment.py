"""The environment variables that CANN reads, with the rules of each."""

import os
import re
import tempfile
from typing import NamedTuple, Optional

from ascend_sim import errors
from ascend_sim.release import at_least

CHIP = os.environ.get('ASCEND_SIM_CHIP', '910A')
CM_VARIABLES = ('CM_CHIEF_IP', 'CM_CHIEF_PORT', 'CM_CHIEF_DEVICE', 'CM_WORKER_SIZE', 'CM_WORKER_IP')


class Refused(Exception):
    """The device or HCCL cannot be initialised; the text is what ge::GEGetErrorMsg() would hold."""


def device_count() -> int:
    return int(os.environ.get('ASCEND_SIM_DEVICES', '8'))


def root() -> str:
    """Folder of the locks and meeting places of this machine's devices."""
    path = os.environ.get('ASCEND_SIM_DIR') or os.path.join(
        tempfile.gettempdir(), 'ascend_sim_%d' % os.getuid()
    )
    os.makedirs(path, exist_ok=True)
    return path


def rank_size() -> int:
    """RANK_SIZE, or CM_WORKER_SIZE from r1.11.0 on; 1 without either. Both are a ValueError."""
    names = ['RANK_SIZE'] + (['CM_WORKER_SIZE'] if at_least('r1.11.0') else [])
    given = [os.environ[name] for name in names if name in os.environ]
    if len(given) > 1:
        raise ValueError('RANK_SIZE and CM_WORK_SIZE cannot be configured at the same time')
    return int(given[0]) if given and given[0].isdigit() else 1


def device_id() -> int:
    """This process's device: ASCEND_DEVICE_ID, else DEVICE_ID, else 0. Aborts if it is illegal."""
    for name in ('ASCEND_DEVICE_ID', 'DEVICE_ID'):
        text = os.environ.get(name, '')
        if text:
            if not re.match(r'[+-]?\d+\Z', text):
                errors.fatal('%s is invalid, should be int, such as 0, 1, 2.' % name)
            if not 0 <= int(text) < device_count():
                errors.fatal(
                    'get logic device id by %s failed. (%s=%s, but this server has %d devices)'
                    % (name, name, text, device_count())
                )
            return int(text)
    return 0


class Cm(NamedTuple):
    """The variables of a job without a rank table."""

    chief: str
    chief_device: int
    size: int


def cm_variables() -> Optional[Cm]:
    """The CM_* variables, checked; None if the job does not use them."""
    if not at_least('r1.11.0') or not os.environ.get('CM_CHIEF_IP'):
        return None
    if os.environ.get('RANK_TABLE_FILE'):
        raise Refused(
            '[GePlugin] CM_CHIEF_IP and RANK_TABLE_FILE cannot be configured at the same time.'
        )
    for name in ('RANK_ID', 'RANK_SIZE'):
        if name in os.environ:
            raise Refused('%s must not be set together with CM_CHIEF_IP' % name)
    missing = [name for name in CM_VARIABLES if not os.environ.get(name)]
    if missing:
        raise Refused('a job with CM_CHIEF_IP needs %s as well' % ', '.join(missing))
    port = _number('CM_CHIEF_PORT', 0, 65520)
    return Cm(
        '%s:%d' % (os.environ['CM_CHIEF_IP'], port),
        _number('CM_CHIEF_DEVICE', 0, device_count() - 1),
        _number('CM_WORKER_SIZE', 1, 32768),
    )


def check() -> None:
    """Checks the variables that HCCL reads at its initialisation; raises Refused with EI0001."""
    job = os.environ.get('JOB_ID', '')
    if job and (not re.match(r'[A-Za-z0-9_-]+\Z', job) or re.match(r'0\d*\Z', job)):
        raise _bad('JOB_ID', 'it consists of A-Z a-z 0-9 _ - and is no number that starts with 0')
    for name, low, high in (('HCCL_CONNECT_TIMEOUT', 120, 7200), ('HCCL_EXEC_TIMEOUT', 1, 17340)):
        if os.environ.get(name):
            _number(name, low, high)


def connect_timeout() -> float:
    """Seconds that ranks wait for each other at the start: HCCL_CONNECT_TIMEOUT and 20 more, or
    ASCEND_SIM_CONNECT_TIMEOUT.
    """
    return float(
        os.environ.get('ASCEND_SIM_CONNECT_TIMEOUT')
        or int(os.environ.get('HCCL_CONNECT_TIMEOUT') or 120) + 20
    )


def exec_timeout() -> int:
    """Seconds that a rank waits for the others in a collective."""
    return int(os.environ.get('HCCL_EXEC_TIMEOUT') or 1836)


def _number(name: str, low: int, high: int) -> int:
    text = os.environ[name]
    if not text.isdigit() or not low <= int(text) <= high:
        raise _bad(name, 'it is a whole number in [%d, %d]' % (low, high))
    return int(text)


def _bad(name: str, legal: str) -> Refused:
    return Refused(
        'EI0001: Environment variable %s=%s is invalid: %s.' % (name, os.environ[name], legal)
    )
