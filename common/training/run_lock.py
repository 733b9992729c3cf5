"""A lock on a run's folder, so that two runs never mix their weights."""

import contextlib
import json
import os
import pathlib
import socket
import time
from typing import Any, Dict, Iterator

import psutil

from common.errors import UserError
from common.files import parse_json

NAME = 'run.lock'


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Holds the lock of a folder; UserError if another process does.

    The lock is a file made with O_EXCL, which is atomic on NFS as well. It names host, process and
    start. A holder on this host that is gone loses its lock; on another host nobody can tell.
    """
    path = pathlib.Path(folder, NAME)
    is_new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    own = _identity(os.getpid())
    while not _acquire(path, own):
        holder = _holder(path)
        if not _is_gone(holder):
            raise UserError(
                '%s is in use by process %s on %s since %s (%s); give another --output_path, or, if'
                ' that run has ended, remove the file'
                % (folder, holder.get('pid'), holder.get('host'), holder.get('since'), path)
            )
        stale = path.with_name('%s.%d' % (NAME, os.getpid()))
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.rename(stale)
            stale.unlink()
    try:
        yield
    finally:
        if _read(path) == own:
            path.unlink()
        if is_new:  # a run that was refused leaves no trace
            with contextlib.suppress(OSError):
                path.parent.rmdir()


def _identity(pid: int) -> Dict[str, Any]:
    started = psutil.Process(pid).create_time()
    since = time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(started))
    return {'host': socket.gethostname(), 'pid': pid, 'started': started, 'since': since}


def _acquire(path: pathlib.Path, own: Dict[str, Any]) -> bool:
    try:
        with open(str(path), 'x') as file:
            file.write(json.dumps(own))
            file.flush()
            os.fsync(file.fileno())
        return True
    except FileExistsError:
        return False


def _read(path: pathlib.Path) -> Dict[str, Any]:
    """Returns who holds the lock; {} if it is gone or was cut off as it was written."""
    try:
        content = parse_json(path.read_text())
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}


def _holder(path: pathlib.Path) -> Dict[str, Any]:
    """Returns who holds the lock; {} if nobody does, or one that ended as it was written."""
    holder = _read(path)
    if not holder:  # its maker may be about to write it
        time.sleep(0.2)
        holder = _read(path)
    return holder


def _is_gone(holder: Dict[str, Any]) -> bool:
    if not holder:
        return True
    if holder.get('host') != socket.gethostname():
        return False
    try:
        return abs(psutil.Process(holder['pid']).create_time() - holder['started']) > 1
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return True
