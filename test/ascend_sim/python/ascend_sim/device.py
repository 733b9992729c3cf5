"""The life of the imaginary device: initialised by the first session that needs it, torn down with
the last one.

As in the real adapter (GePlugin): npu_resource_init() makes it global, else it goes when no session
is left that ran a graph on it, even if a session that ran initialize_system() is still open.
Differs: what is torn down is bookkeeping, for Horovod stays connected to the end of the process;
and a device is held by a lock file, so a second process on it is refused at once.
"""

import os
import threading
from typing import Dict, List, NamedTuple, Optional

from ascend_sim import environment, errors, rank_table, rendezvous
from ascend_sim.environment import Refused


class Cluster(NamedTuple):
    """What HCCL knows once it is initialised."""

    rank: int
    size: int
    local_rank: int
    local_size: int


_lock = threading.RLock()
_initialised = False
_global = False
_file = None
_cluster: Optional[Cluster] = None
_connected: Optional[int] = None  # the rank under which Horovod was connected
_users = set()  # sessions that ran a graph on the device
_starters = set()  # sessions that ran initialize_system
_plain = Cluster(0, 1, 0, 1)
generation = 0  # counts initialisations
groups: Dict[str, List[int]] = {}
split: Dict[str, object] = {}  # what hccl.split.api was told, by group: ('idx'|'size', list)


def initialise(
    at_once: bool, session_device_id: Optional[int] = None, make_global: bool = False
) -> None:
    """Takes the device and starts HCCL. What is wrong kills the process if `at_once`
    (initialize_system, npu_resource_init); a session that runs a graph gets errors.Internal, for
    there the real adapter initialises in the background.
    """
    global _initialised, _global, _file, _cluster, generation
    with _lock:
        if _initialised:
            return
        if _global and not make_global:
            if at_once:
                return  # the kernel of initialize_system skips a global device, alive or not
            raise errors.internal(
                '[GEOP] the device was shut down by npu_resource_shutdown() and the adapter does'
                ' not start it again'
            )
        device = environment.device_id(session_device_id)
        try:
            environment.check()
            _file = rendezvous.lock(os.path.join(environment.root(), 'device_%d.lock' % device))
            if _file is None:
                raise Refused(
                    'device %d is in use by process %s; one training process per device'
                    % (
                        device,
                        rendezvous.holder(
                            os.path.join(environment.root(), 'device_%d.lock' % device)
                        ),
                    )
                )
            _cluster = _join(device)
        except Refused as refusal:
            _release()
            text = '[GePlugin] Initialize ge failed, ret : -1\nError Message is : \n%s' % refusal
            if at_once:
                errors.fatal(text)
            raise errors.internal(text)
        _initialised, _global = True, make_global
        generation += 1


def _join(device: int) -> Optional[Cluster]:
    """The cluster this process belongs to, connected; None without RANK_TABLE_FILE and CM_CHIEF_IP."""
    cm, table = environment.cm_variables(), os.environ.get('RANK_TABLE_FILE')
    if cm:
        rank = _connect('cm ' + cm.chief, device, cm.chief_device, cm.size)
        return Cluster(rank, cm.size, rank, cm.size)
    if not table:
        return None
    ranks, own = rank_table.find(table, device)
    if environment.rank_size() != len(ranks):
        raise Refused(
            'RANK_SIZE=%d, but %s has %d ranks: gradients would be averaged over the wrong number'
            % (environment.rank_size(), table, len(ranks))
        )
    _connect(
        'table %s %s' % (os.path.realpath(table), os.environ.get('JOB_ID', '')), own, 0, len(ranks)
    )
    local = [rank.rank for rank in ranks if rank.server == ranks[own].server]
    return Cluster(own, len(ranks), local.index(own), len(local))


def _connect(key: str, me: int, leader: int, size: int) -> int:
    global _connected
    if size == 1 or _connected is not None:
        return _connected or 0
    try:
        import horovod.tensorflow as hvd
    except ImportError as error:
        raise Refused(
            'the stand-in joins %d ranks by Horovod, which does not import: %s' % (size, error)
        )
    if os.environ.get('HOROVOD_SIZE'):
        hvd.init()
        rank = hvd.rank()
        if hvd.size() != size:
            raise Refused(
                'Horovod was launched with %d processes, the job has %d ranks' % (hvd.size(), size)
            )
    else:
        rank = rendezvous.meet(key, me, leader, size)
    _connected = rank
    return rank


def finalise() -> None:
    """GePlugin::Finalize: gives the device back and forgets HCCL's state."""
    global _initialised, _cluster
    with _lock:
        _initialised, _cluster = False, None
        groups.clear()
        _release()


def _release() -> None:
    global _file
    if _file is not None:
        _file.close()
        _file = None


def enter(token) -> None:
    """A session runs a graph on the device."""
    _users.add(token)


def started(token) -> None:
    """A session ran initialize_system."""
    _starters.add(token)


def shut_down() -> None:
    """A session ran shutdown_system; without effect on a device that npu_resource_init() made
    global.
    """
    _starters.clear()
    if not _global:
        finalise()


def leave(token) -> None:
    """A session was closed."""
    last_user = token in _users and len(_users) == 1
    last_starter = token in _starters and len(_starters) == 1
    _users.discard(token)
    _starters.discard(token)
    if (last_user or last_starter) and not _global:
        finalise()


def initialised() -> bool:
    return _initialised


def has_hcom() -> bool:
    """True if the device is up and HCCL knows a cluster."""
    return _initialised and _cluster is not None


def cluster() -> Cluster:
    """HCCL's view; a device without rank table is rank 0 of 1. Raises RuntimeError before
    initialisation.
    """
    if not _initialised:
        raise RuntimeError(
            'HCCL is not initialised: run npu_ops.initialize_system() in a session first, and again'
            ' after training'
        )
    return _cluster or _plain


def rank_of_environment() -> int:
    """Rank that a graph is built for: HCCL's once it is up, else RANK_ID."""
    if has_hcom():
        return _cluster.rank
    return int(os.environ.get('RANK_ID', '0'))
