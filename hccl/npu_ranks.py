"""The ranks of this machine on Ascend NPU: the variables that give each process its place in the
job, its device and its time limits.
"""

import argparse
import glob
import hashlib
import os
import pathlib
import time
from typing import List, Mapping, Optional, Sequence

from common.ascend import environment
from common.errors import UserError
from hccl import rank_table
from hccl.processes import Rank, say
from hccl.table_fields import by_server

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
        ranks = _ranks_without_table(cm, path, _require_present(devices))
    elif path:
        ranks = _ranks_of_table(path, args.chip, args.server_index, devices)
    elif len(_require_present(devices)) == 1:
        job = 'pid %d at %s' % (os.getpid(), time.time())
        ranks = [_rank('rank 0', devices[0], job, RANK_ID='0', RANK_SIZE='1')]
    else:
        path = str(log_dir / ('hccl_%dp.json' % len(devices)))
        rank_table.write(rank_table.generate(devices, chip=args.chip), path)
        say('rank table generated for devices %s: %s' % (_list(devices), path))
        ranks = _ranks_of_table(path, args.chip, None, devices)
    _check_shell(ranks)
    return ranks


def _require_present(devices: Optional[List[int]]) -> List[int]:
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


def _ranks_of_table(
    path: str, chip: str, index: Optional[int], devices: Optional[List[int]]
) -> List[Rank]:
    table, path = rank_table.load(path, chip), os.path.abspath(path)
    servers = by_server(table)
    names = ', '.join('%d = %s' % item for item in enumerate(servers))
    if index is None and len(servers) > 1:
        raise UserError(
            '%s has %d servers: say which one this is with --server_index (%s)'
            % (path, len(servers), names)
        )
    index = index or 0
    if not 0 <= index < len(servers):
        raise UserError('--server_index %d: %s has %s' % (index, path, names))
    server = list(servers)[index]
    table_devices = sorted(device.device_id for device in servers[server])
    if devices is not None and table_devices != devices:
        raise UserError(
            '--devices %s, but %s gives server %s the devices %s: run those, or make a table with'
            ' python -m hccl.rank_table generate --devices %s'
            % (_list(devices), path, server, _list(table_devices), _list(devices))
        )
    _require_present(table_devices)
    job = pathlib.Path(path).read_text(encoding='utf-8')
    shared = dict(RANK_TABLE_FILE=path, RANK_SIZE=str(len(table)))
    # HCCL finds a process by POD_NAME in a cloud table; with any other it would replace RANK_ID.
    return [
        _rank('rank %d' % rank, number, job, RANK_ID=str(rank), POD_NAME=pod, **shared)
        for number, _, rank, _, pod, *_ in servers[server]
    ]


def _ranks_without_table(
    cm: Mapping[str, str], table: Optional[str], devices: List[int]
) -> List[Rank]:
    """HCCL itself numbers the ranks of all servers."""
    conflicting = {'RANK_TABLE_FILE': table}
    conflicting.update((name, os.environ.get(name)) for name in ('RANK_ID', 'RANK_SIZE'))
    environment.check_cm(dict(cm, **{name: value for name, value in conflicting.items() if value}))
    if int(cm['CM_WORKER_SIZE']) < len(devices):
        raise UserError(
            '--cm_worker_size %s: the number of devices of all servers; this one alone has %d'
            % (cm['CM_WORKER_SIZE'], len(devices))
        )
    # With several servers a process cannot know its rank, and their logs may share a folder.
    is_only_server = int(cm['CM_WORKER_SIZE']) == len(devices)
    name = 'rank %d' if is_only_server else cm['CM_WORKER_IP'] + ' process %d'
    job = ' '.join(cm[name] for name in environment.CM if name != 'CM_WORKER_IP')
    return [_rank(name % number, device, job, **cm) for number, device in enumerate(devices)]


def _rank(name: str, device: int, job: str, **settings: Optional[str]) -> Rank:
    """job: text that all ranks of a job on all servers share; JOB_ID is derived from it."""
    default = 'job-' + hashlib.sha1(job.encode()).hexdigest()[:12]
    timeout = os.environ.get('HCCL_CONNECT_TIMEOUT') or str(environment.CONNECT_TIMEOUT)
    present = _present()
    # DEVICE_ID is the physical number, ASCEND_DEVICE_ID the one that the container sees. Where they
    # differ, the adapter converts the first.
    numbers_match = device not in present or present.index(device) == device
    unset = dict.fromkeys(('RANK_ID', 'RANK_SIZE', 'RANK_TABLE_FILE', 'POD_NAME'))
    variables = dict(
        unset,
        DEVICE_ID=str(device),
        ASCEND_DEVICE_ID=str(device) if numbers_match else None,
        JOB_ID=environment.job_id(default),
        HCCL_CONNECT_TIMEOUT=timeout,
    )
    return Rank(name, 'device %d' % device, dict(variables, **settings))


def _check_shell(ranks: Sequence[Rank]) -> None:
    """Refuses variables that a shell or an outer launcher has set for one process: each rank needs
    its own.
    """
    for name in ('RANK_ID', 'RANK_SIZE', 'DEVICE_ID', 'ASCEND_DEVICE_ID'):
        value, rank_values = os.environ.get(name), [rank.variables[name] for rank in ranks]
        if value and set(rank_values) not in ({value}, {None}):
            raise UserError(
                '%s=%s is set in this shell, and the launcher sets it for each rank (%s): unset %s'
                % (name, value, _list(rank_values), name)
            )


def _list(values: Sequence[object]) -> str:
    return ','.join(map(str, values))
