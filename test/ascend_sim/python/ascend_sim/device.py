"""The life of the device: initialised by the first session that needs it, torn down with the last
session that ran a graph on it, even if one that ran initialize_system() is still open.
"""

import os
from typing import Dict, NamedTuple, Optional

from ascend_sim import environment, errors, rank_table, rendezvous
from ascend_sim.environment import Refused


class Cluster(NamedTuple):
    """What HCCL knows once it is initialised."""

    rank: int
    size: int


_initialised = False
_file = None  # the lock of the device
_cluster: Optional[Cluster] = None
_connected: Optional[int] = None  # the rank under which Horovod was connected
_users = set()  # sessions that ran a graph on the device
_starters = set()  # sessions that ran initialize_system
generation = 0  # counts initialisations
split: Dict[str, object] = {}  # what hccl.split.api was told, by group: ('idx' or 'size', list)


def initialise(at_once: bool) -> None:
    """Takes the device and starts HCCL.

    What is wrong kills the process if `at_once` (initialize_system); a session that runs a graph
    gets tf.errors.InternalError, since there the adapter initialises in the background.
    """
    global _initialised, _file, _cluster, generation
    if _initialised:
        return
    device = environment.device_id()
    path = os.path.join(environment.root(), 'device_%d.lock' % device)
    try:
        environment.check()
        _file = rendezvous.lock(path)
        if _file is None:
            raise Refused(
                'device %d is in use by process %s; one training process per device'
                % (device, rendezvous.holder(path))
            )
        _cluster = _join(device)
    except Refused as refusal:
        _release()
        text = '[GePlugin] Initialize ge failed, ret : -1\nError Message is : \n%s' % refusal
        if at_once:
            errors.fatal(text)
        raise errors.internal(text)
    _initialised = True
    generation += 1


def _join(device: int) -> Optional[Cluster]:
    """The cluster of this process, connected; None without RANK_TABLE_FILE and CM_CHIEF_IP."""
    cm, table = environment.cm_variables(), os.environ.get('RANK_TABLE_FILE')
    if cm:
        return Cluster(_connect('cm ' + cm.chief, device, cm.chief_device, cm.size), cm.size)
    if not table:
        return None
    size, own = rank_table.find(table, device)
    if environment.rank_size() != size:
        raise Refused(
            'RANK_SIZE=%d, but %s has %d ranks: gradients would be averaged over the wrong number'
            % (environment.rank_size(), table, size)
        )
    key = 'table %s %s' % (os.path.realpath(table), os.environ.get('JOB_ID', ''))
    _connect(key, own, 0, size)
    return Cluster(own, size)


def _connect(key: str, me: int, leader: int, size: int) -> int:
    global _connected
    if size > 1 and _connected is None:
        try:
            import horovod.tensorflow  # noqa: F401
        except ImportError as error:
            raise Refused(
                'the stand-in joins %d ranks by Horovod, which does not import: %s' % (size, error)
            )
        _connected = rendezvous.meet(key, me, leader, size)
    return _connected or 0


def finalise() -> None:
    """GePlugin::Finalize: gives the device back and forgets HCCL's state."""
    global _initialised, _cluster
    _initialised, _cluster = False, None
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
    """A session ran shutdown_system."""
    _starters.clear()
    finalise()


def leave(token) -> None:
    """A session was closed."""
    last = any(token in tokens and len(tokens) == 1 for tokens in (_users, _starters))
    _users.discard(token)
    _starters.discard(token)
    if last:
        finalise()


def initialised() -> bool:
    return _initialised


def has_hcom() -> bool:
    """True if the device is up and HCCL knows a cluster."""
    return _initialised and _cluster is not None


def cluster() -> Cluster:
    """HCCL's view; a device without a rank table is rank 0 of 1. RuntimeError before
    initialisation.
    """
    if not _initialised:
        raise RuntimeError(
            'HCCL is not initialised: run npu_ops.initialize_system() in a session first, and again'
            ' after training'
        )
    return _cluster or Cluster(0, 1)


def rank_of_environment() -> int:
    """Rank that a graph is built for: HCCL's once it is up, else RANK_ID."""
    return _cluster.rank if has_hcom() else int(os.environ.get('RANK_ID', '0'))
