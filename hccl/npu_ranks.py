"""The ranks of this machine on Ascend NPU: the variables that give each process its place in the
job, its device and its time limits.
"""

import argparse
import glob
import hashlib
import os
import pathlib
import time
from typing import Dict, List, Mapping, Optional, Sequence

from common.ascend import environment
from common.errors import UserError
from hccl import rank_table
from hccl.processes import Rank, say

DEVICE_FILES = '/dev/davinci[0-9]*'


def local_ranks(
    args: argparse.Namespace, devices: Optional[List[int]], log_dir: pathlib.Path
) -> List[Rank]:
    """The ranks of this machine, from the launcher's arguments and the environment.

    devices: what --devices says, None without it. UserError for settings that contradict each
    other or the arguments. Without a rank table and CM_*, one is generated in `log_dir`.
    """
    environment.check_connect_timeout(os.environ)
    cm = {name: getattr(args, name.lower()) or os.environ.get(name, '') for name in environment.CM}
    path = args.rank_table or os.environ.get('RANK_TABLE_FILE')
    if any(cm.values()):
        ranks = _without_table(cm, path, _existing(devices))
    elif path:
        ranks = _of_table(rank_table.load(path, args.chip), args.server_index, devices)
    elif len(_existing(devices)) == 1:
        job = 'pid %d at %s' % (os.getpid(), time.time())
        ranks = [_ranked(0, 1, devices[0], job, RANK_TABLE_FILE=None)]
    else:
        path = str(log_dir / ('hccl_%dp.json' % len(devices)))
        rank_table.write(rank_table.generate(devices, chip=args.chip), path)
        say('rank table generated for devices %s: %s' % (_list(devices), path))
        ranks = _of_table(rank_table.load(path, args.chip), None, devices)
    _check_shell(ranks)
    return ranks


def _existing(devices: Optional[List[int]]) -> List[int]:
    """The devices, if this machine has them; where it has no device files nothing is known."""
    if devices is None:
        raise UserError(
            '--devices is missing: say which devices, such as --devices 0-7, or give --rank_table'
        )
    present = _present()
    missing = [device for device in devices if device not in present]
    if present and missing:
        raise UserError(
            '--devices: this machine (or container) has no device %s; it has %s'
            % (_list(missing), _list(present))
        )
    return devices


def _present() -> List[int]:
    return sorted(int(path.rpartition('davinci')[2]) for path in glob.glob(DEVICE_FILES))


def _of_table(
    table: rank_table.RankTable, index: Optional[int], devices: Optional[List[int]]
) -> List[Rank]:
    servers = table.servers
    names = ', '.join('%d = %s' % (number, item.server_id) for number, item in enumerate(servers))
    if index is None and len(servers) > 1:
        raise UserError(
            '%s has %d servers: say which one this is with --server_index (%s)'
            % (table.path, len(servers), names)
        )
    if not 0 <= (index or 0) < len(servers):
        raise UserError('--server_index %d: %s has %s' % (index, table.path, names))
    server = servers[index or 0]
    own = sorted(device.device_id for device in server.devices)
    if devices is not None and own != devices:
        raise UserError(
            '--devices %s, but %s gives server %s the devices %s: run those, or make a table with'
            ' python -m hccl.rank_table generate --devices %s'
            % (_list(devices), table.path, server.server_id, _list(own), _list(devices))
        )
    _existing(own)
    job = pathlib.Path(table.path).read_text(encoding='utf-8')
    # HCCL finds a process by POD_NAME in a cloud table; with any other it would replace RANK_ID.
    return [
        _ranked(
            device.rank_id,
            table.size,
            device.device_id,
            job,
            RANK_TABLE_FILE=table.path,
            POD_NAME=device.pod_name,
        )
        for device in server.devices
    ]


def _without_table(cm: Mapping[str, str], table: Optional[str], devices: List[int]) -> List[Rank]:
    """HCCL itself numbers the ranks of all servers."""
    others = {'RANK_TABLE_FILE': table}
    others.update((name, os.environ.get(name)) for name in ('RANK_ID', 'RANK_SIZE'))
    environment.check_cm(dict(cm, **{name: value for name, value in others.items() if value}))
    if int(cm['CM_WORKER_SIZE']) < len(devices):
        raise UserError(
            '--cm_worker_size %s: the number of devices of all servers; this one alone has %d'
            % (cm['CM_WORKER_SIZE'], len(devices))
        )
    # With several servers a process cannot know its rank, and their logs may share a folder.
    alone = int(cm['CM_WORKER_SIZE']) == len(devices)
    name = 'rank %d' if alone else cm['CM_WORKER_IP'] + ' process %d'
    unset = dict.fromkeys(('RANK_ID', 'RANK_SIZE', 'RANK_TABLE_FILE', 'POD_NAME'))
    job = ' '.join(cm[name] for name in environment.CM if name != 'CM_WORKER_IP')
    return [
        Rank(name % number, 'device %d' % device, dict(unset, **cm, **_common(device, job)))
        for number, device in enumerate(devices)
    ]


def _ranked(rank: int, size: int, device: int, job: str, **more: Optional[str]) -> Rank:
    variables = dict(_common(device, job), RANK_ID=str(rank), RANK_SIZE=str(size), **more)
    return Rank('rank %d' % rank, 'device %d' % device, variables)


def _common(device: int, job: str) -> Dict[str, Optional[str]]:
    """job: text that all ranks of a job on all servers share; JOB_ID is derived from it."""
    default = 'job-' + hashlib.sha1(job.encode()).hexdigest()[:12]
    present = _present()
    # DEVICE_ID is the physical number, ASCEND_DEVICE_ID the one that the container sees. Where they
    # differ, the adapter converts the first.
    same = device not in present or present.index(device) == device
    return {
        'DEVICE_ID': str(device),
        'ASCEND_DEVICE_ID': str(device) if same else None,
        'JOB_ID': environment.job_id(default),
        'HCCL_CONNECT_TIMEOUT': os.environ.get('HCCL_CONNECT_TIMEOUT')
        or str(environment.CONNECT_TIMEOUT),
    }


def _check_shell(ranks: Sequence[Rank]) -> None:
    """Refuses variables that a shell or an outer launcher has set for one process: each rank needs
    its own.
    """
    for name in ('RANK_ID', 'RANK_SIZE', 'DEVICE_ID', 'ASCEND_DEVICE_ID'):
        found, ours = os.environ.get(name), [rank.variables[name] for rank in ranks]
        if found and set(ours) not in ({found}, {None}):
            raise UserError(
                '%s=%s is set in this shell, and the launcher sets it for each rank (%s): unset %s'
                % (name, found, _list(ours), name)
            )


def _list(values: Sequence[object]) -> str:
    return ','.join(map(str, values))
