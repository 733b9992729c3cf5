"""How the ranks of a job find each other: files in a folder of this machine, then Horovod (Gloo)
over the loopback. A rank that never comes is EI0006 after the connect timeout, as with HCCL.
"""

import fcntl
import hashlib
import json
import os
import time
from typing import Dict, Optional

from ascend_sim import environment
from ascend_sim.environment import Refused

_held = []  # open files; their locks live as long as the process


def lock(path: str):
    """Opens and locks a file that names this process; returns the file, or None if another process
    holds it.
    """
    file = open(path, 'a+')
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def holder(path: str) -> Optional[int]:
    """Process that holds the lock of a file, None if nobody does."""
    try:
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except BlockingIOError:
                text = file.read()
                return int(text) if text.isdigit() else None
    except FileNotFoundError:
        return None


def meet(key: str, me: int, leader: int, size: int) -> int:
    """Waits for the `size` processes of job `key` and connects Horovod; returns this one's rank, in
    the order of `me`.

    me: this process's number, unlike the others'; leader: the number of the one that hosts the
    rendezvous.
    """
    folder = os.path.join(environment.root(), 'job_' + hashlib.sha1(key.encode()).hexdigest()[:12])
    os.makedirs(folder, exist_ok=True)
    mine = lock(os.path.join(folder, 'member_%d' % me))
    if mine is None:
        raise Refused(
            'EI0004: The ranktable or rank is invalid,Reason:[rank %d of this job (JOB_ID=%s) is'
            ' running already].' % (me, os.environ.get('JOB_ID', ''))
        )
    _held.append(mine)
    until = time.time() + environment.connect_timeout()
    plan = (
        _gather(folder, size, until) if me == leader else _follow(folder, me, leader, size, until)
    )
    ids = sorted(int(name) for name in plan['members'])
    rank = ids.index(me)
    _connect_horovod(rank, size, plan['port'])
    return rank


def _late(folder: str, size: int) -> Refused:
    here = sum(
        holder(os.path.join(folder, name)) is not None
        for name in os.listdir(folder)
        if name.startswith('member_')
    )
    return Refused(
        'EI0006: Getting socket times out. Reason: %d of %d ranks were there within %g s'
        ' (HCCL_CONNECT_TIMEOUT).' % (here, size, environment.connect_timeout())
    )


def _gather(folder: str, size: int, until: float) -> Dict:
    """The leader's part: waits for all, starts Horovod's rendezvous server, publishes its port and
    who is meant.
    """
    while True:
        members = {
            name[len('member_') :]: holder(os.path.join(folder, name))
            for name in os.listdir(folder)
            if name.startswith('member_')
        }
        members = {name: process for name, process in members.items() if process}
        if len(members) == size:
            break
        if time.time() > until:
            raise _late(folder, size)
        time.sleep(0.02)
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.http.http_server import RendezvousServer

    server = RendezvousServer()
    plan = {'port': server.start(), 'members': members}
    server.init(get_host_assignments(parse_hosts('localhost:%d' % size), size))
    path = os.path.join(folder, 'meeting')
    with open(path + '.part', 'w') as file:
        json.dump(plan, file)
    os.replace(path + '.part', path)
    return plan


def _follow(folder: str, me: int, leader: int, size: int, until: float) -> Dict:
    """Waits for a plan that names this very process; one that was left over from an earlier run
    does not.
    """
    while True:
        try:
            with open(os.path.join(folder, 'meeting')) as file:
                plan = json.load(file)
            if plan['members'].get(str(me)) == os.getpid() and holder(
                os.path.join(folder, 'member_%d' % leader)
            ):
                return plan
        except FileNotFoundError:
            pass
        if time.time() > until:
            raise _late(folder, size)
        time.sleep(0.02)


def _connect_horovod(rank: int, size: int, port: int) -> None:
    os.environ.update(
        {
            'HOROVOD_RANK': str(rank),
            'HOROVOD_SIZE': str(size),
            'HOROVOD_LOCAL_RANK': str(rank),
            'HOROVOD_LOCAL_SIZE': str(size),
            'HOROVOD_CROSS_RANK': '0',
            'HOROVOD_CROSS_SIZE': '1',
            'HOROVOD_HOSTNAME': 'localhost',
            'HOROVOD_CONTROLLER': 'gloo',
            'HOROVOD_CPU_OPERATIONS': 'gloo',
            'HOROVOD_GLOO_RENDEZVOUS_ADDR': '127.0.0.1',
            'HOROVOD_GLOO_RENDEZVOUS_PORT': str(port),
            'HOROVOD_GLOO_IFACE': 'lo',
            'HOROVOD_GLOO_TIMEOUT_SECONDS': str(max(1, int(environment.connect_timeout()))),
            'HOROVOD_STALL_SHUTDOWN_TIME_SECONDS': str(environment.exec_timeout()),
            'HOROVOD_LOG_LEVEL': os.environ.get('HOROVOD_LOG_LEVEL', 'error'),
        }
    )
    import horovod.tensorflow as hvd

    hvd.init()
