"""What each rank's environment holds on Ascend NPU: RANK_* and a rank table, or CM_*, the device,
JOB_ID, time limits.
"""

import argparse
import glob
import hashlib
import os
import pathlib
import re
import time
from typing import Dict, List, NamedTuple, Optional

from common.errors import UserError
from hccl import rank_table
from hccl.processes import say

CM = ('CM_CHIEF_IP', 'CM_CHIEF_PORT', 'CM_CHIEF_DEVICE', 'CM_WORKER_SIZE', 'CM_WORKER_IP')
DEV = '/dev'


class Slot(NamedTuple):
    """One rank's place. settings: variables to set; None unsets one."""

    name: str
    device: int
    settings: Dict[str, Optional[str]]


def slots(
    args: argparse.Namespace, devices: Optional[List[int]], log_dir: pathlib.Path
) -> List[Slot]:
    """The ranks of this machine. UserError for settings in the environment that contradict each
    other or the arguments.

    devices: what --devices says, None without it.
    """
    _check_timeout()
    cm = {name: getattr(args, name.lower()) or os.environ.get(name) for name in CM}
    table = args.rank_table or os.environ.get('RANK_TABLE_FILE')
    if any(cm.values()):
        if table:
            raise UserError(
                'CM_CHIEF_IP and RANK_TABLE_FILE cannot be configured at the same time: --cm_...'
                ' (CM_*) replaces the rank table %s; give one of the two' % table
            )
        return _without_table(cm, _wanted(devices))
    if table:
        return _from_table(rank_table.load(table, args.chip), args.server_index, devices)
    devices = _wanted(devices)
    if len(devices) == 1:
        return _checked(
            [
                _slot(
                    0,
                    1,
                    devices[0],
                    'pid %d at %s' % (os.getpid(), time.time()),
                    {'RANK_TABLE_FILE': None},
                )
            ]
        )
    path = log_dir / ('hccl_%dp.json' % len(devices))
    simulated = os.environ.get('ASCEND_SIM') == '1'
    addresses = (
        [rank_table.FACTORY[device % 8] for device in devices]
        if simulated and len(devices) <= 8
        else None
    )
    rank_table.write(rank_table.generate(devices, device_ips=addresses, chip=args.chip), str(path))
    say('rank table generated for devices %s: %s' % (','.join(map(str, devices)), path))
    return _from_table(rank_table.load(path, args.chip), None, devices)


def _wanted(devices: Optional[List[int]]) -> List[int]:
    if devices is None:
        raise UserError(
            '--devices: say which devices, for example --devices 0-7, or give a --rank_table'
        )
    present = sorted(
        int(path.rsplit('davinci', 1)[1]) for path in glob.glob(DEV + '/davinci[0-9]*')
    )
    missing = [device for device in devices if device not in present]
    if present and missing and os.environ.get('ASCEND_SIM') != '1':
        raise UserError(
            '--devices: there is no device %s on this machine (or in this container); it has %s'
            % (','.join(map(str, missing)), ','.join(map(str, present)))
        )
    return devices


def _from_table(
    table: rank_table.RankTable, index: Optional[int], devices: Optional[List[int]]
) -> List[Slot]:
    names = ', '.join(
        '%d = %s' % (number, server.server_id) for number, server in enumerate(table.servers)
    )
    if index is None and len(table.servers) > 1:
        raise UserError(
            '%s has %d servers: say which one this is with --server_index (%s)'
            % (table.path, len(table.servers), names)
        )
    if not 0 <= (index or 0) < len(table.servers):
        raise UserError('--server_index %d: %s has %s' % (index, table.path, names))
    server = table.servers[index or 0]
    own = [device.device_id for device in server.devices]
    if devices is not None and sorted(own) != devices:
        raise UserError(
            '--devices %s, but %s gives server %s the devices %s: run those, or make a table with'
            ' python -m hccl.rank_table generate --devices %s'
            % (
                ','.join(map(str, devices)),
                table.path,
                server.server_id,
                ','.join(map(str, own)),
                ','.join(map(str, devices)),
            )
        )
    _wanted(sorted(own))
    content = pathlib.Path(table.path).read_text(encoding='utf-8')
    # POD_NAME is how HCCL finds a process in a cloud table; with any other table it would take the
    # place of RANK_ID.
    return _checked(
        [
            _slot(
                device.rank_id,
                table.size,
                device.device_id,
                content,
                {'RANK_TABLE_FILE': table.path, 'POD_NAME': device.pod_name},
            )
            for device in server.devices
        ]
    )


def _without_table(cm: Dict[str, Optional[str]], devices: List[int]) -> List[Slot]:
    missing = ['--' + name.lower() for name in CM if not cm[name]]
    if missing:
        raise UserError(
            '%s missing: without a rank table all five --cm_... are needed' % ', '.join(missing)
        )
    for name, highest in (
        ('CM_CHIEF_PORT', 65520),
        ('CM_CHIEF_DEVICE', 15),
        ('CM_WORKER_SIZE', 1 << 16),
    ):
        if not re.fullmatch('[0-9]+', cm[name]) or int(cm[name]) > highest:
            raise UserError('--%s %s: legal are 0 to %d' % (name.lower(), cm[name], highest))
    if int(cm['CM_WORKER_SIZE']) < len(devices):
        raise UserError(
            '--cm_worker_size %s: the number of devices of all servers; this one alone has %d'
            % (cm['CM_WORKER_SIZE'], len(devices))
        )
    for name in ('RANK_ID', 'RANK_SIZE', 'POD_NAME'):
        if os.environ.get(name):
            raise UserError(
                '%s=%s is set in this shell, and --cm_... (CM_*) gives ranks itself: unset %s'
                % (name, os.environ[name], name)
            )
    settings = dict(cm, RANK_ID=None, RANK_SIZE=None, RANK_TABLE_FILE=None)
    identity = ' '.join(cm[name] for name in CM[:4])
    # HCCL gives the ranks; with several servers the launcher cannot know them, and their logs may
    # go to one shared folder.
    name = (
        'rank %d'
        if int(cm['CM_WORKER_SIZE']) == len(devices)
        else cm['CM_WORKER_IP'] + ' process %d'
    )
    return _checked(
        [
            Slot(name % number, device, dict(settings, **_common(device, identity)))
            for number, device in enumerate(devices)
        ]
    )


def _slot(
    rank: int, size: int, device: int, identity: str, settings: Dict[str, Optional[str]]
) -> Slot:
    return Slot(
        'rank %d' % rank,
        device,
        dict(settings, RANK_ID=str(rank), RANK_SIZE=str(size), **_common(device, identity)),
    )


def _common(device: int, identity: str) -> Dict[str, Optional[str]]:
    """identity: text that is the same for all ranks of a job on all servers, and makes its JOB_ID."""
    job = os.environ.get('JOB_ID') or 'job-' + hashlib.sha1(identity.encode()).hexdigest()[:12]
    if not re.fullmatch('[A-Za-z0-9_-]+', job) or re.fullmatch('0[0-9]*', job):
        raise UserError(
            'JOB_ID=%s: legal are letters, digits, _ and -, and no number that starts with 0; or'
            ' unset it' % job
        )
    present = sorted(
        int(path.rsplit('davinci', 1)[1]) for path in glob.glob(DEV + '/davinci[0-9]*')
    )
    # DEVICE_ID counts physically, ASCEND_DEVICE_ID what the container sees. Where they differ, the
    # adapter converts the first.
    logical = str(device) if device not in present or present.index(device) == device else None
    return {
        'DEVICE_ID': str(device),
        'ASCEND_DEVICE_ID': logical,
        'JOB_ID': job,
        'HCCL_CONNECT_TIMEOUT': os.environ.get('HCCL_CONNECT_TIMEOUT') or '600',
    }


def _check_timeout() -> None:
    timeout = os.environ.get('HCCL_CONNECT_TIMEOUT')
    if timeout and not (re.fullmatch('[0-9]+', timeout) and 120 <= int(timeout) <= 7200):
        raise UserError(
            'EI0001: HCCL_CONNECT_TIMEOUT=%s: legal are 120 to 7200 (seconds); or unset it for 600'
            % timeout
        )


def _checked(result: List[Slot]) -> List[Slot]:
    """What a shell, or an outer launcher, has set for one process must not differ from what this
    one sets for each.
    """
    for name in ('RANK_ID', 'RANK_SIZE', 'DEVICE_ID', 'ASCEND_DEVICE_ID'):
        found, ours = os.environ.get(name), [slot.settings[name] for slot in result]
        if found and set(ours) not in ({found}, {None}):
            raise UserError(
                '%s=%s is set in this shell, and the launcher sets it for each rank (%s): unset %s'
                % (name, found, ','.join(str(value) for value in ours), name)
            )
    return result
