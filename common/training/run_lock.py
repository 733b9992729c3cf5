"""A lock on a run's folder, so that two runs never mix their weights."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import time
from typing import Any, Dict, Iterator, Optional, TextIO

from common.errors import UserError
from common.files import read_json

NAME = 'run.lock'


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Holds the lock of a folder; UserError if another process does.

    The lock is a file made with O_EXCL, which is atomic on NFS as well. It names host, process and
    start. A holder on this host that is gone loses its lock; on another host nobody can tell. The
    holder also has the file locked (flock), which tells among containers of one host.
    """
    path = pathlib.Path(folder, NAME)
    is_new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = _new_entry(os.getpid())
    file = _acquire(path, entry)
    while file is None:
        holder = _read(path)
        if not holder:  # its maker may be about to write it
            time.sleep(0.2)
            holder = _read(path)
        if _is_flocked(path) or not _is_gone(holder):
            raise UserError(
                '%s is in use by process %s on %s since %s (%s); give another --output_path, or, if'
                ' that run has ended, remove the file'
                % (folder, holder.get('pid'), holder.get('host'), holder.get('since'), path)
            )
        stale = path.with_name('%s.%d' % (NAME, os.getpid()))
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.rename(stale)
            stale.unlink()
        file = _acquire(path, entry)
    try:
        yield
    finally:
        file.close()
        with contextlib.suppress(OSError):  # a disk that is gone has its own error
            if _read(path) == entry:
                path.unlink()
            if is_new:  # a run that was refused leaves no trace
                path.parent.rmdir()


def _new_entry(pid: int) -> Dict[str, Any]:
    since = time.strftime('%Y-%m-%d %H:%M:%S')
    return {'host': socket.gethostname(), 'pid': pid, 'started': _started(pid), 'since': since}


def _started(pid: int) -> str:
    """Returns when a process was started, in ticks of its boot: clocks of the day may be set.
    ProcessLookupError for one that has ended, also if nobody has asked for its status.
    """
    boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    # Field 22; the second, the program's name in brackets, may hold blanks.
    fields = pathlib.Path('/proc/%d/stat' % pid).read_text().rpartition(')')[2].split()
    if fields[0] in 'ZX':
        raise ProcessLookupError
    return '%s %s' % (boot, fields[19])


def _acquire(path: pathlib.Path, entry: Dict[str, Any]) -> Optional[TextIO]:
    """Returns the new file, open; None if there is one."""
    try:
        file = open(str(path), 'x')
    except FileExistsError:
        return None
    with contextlib.suppress(OSError):  # not every file system can
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.write(json.dumps(entry))
    file.flush()
    os.fsync(file.fileno())
    return file


def _is_flocked(path: pathlib.Path) -> bool:
    try:
        with open(str(path)) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


def _read(path: pathlib.Path) -> Dict[str, Any]:
    """Returns who holds the lock; {} if it is gone or was cut off as it was written."""
    try:
        return dict(read_json(path))
    except (OSError, ValueError, TypeError):
        return {}


def _is_gone(holder: Dict[str, Any]) -> bool:
    if not holder:
        return True
    if holder.get('host') != socket.gethostname():
        return False
    try:
        return _started(holder['pid']) != holder['started']
    except (OSError, KeyError, TypeError, ValueError):
        return True
