"""ModelArts: data and results travel between object storage (obs://) and the server's local disk.

ModelArts starts a run script with `--data_url obs://... --train_url obs://...` and offers moxing to
copy. Plain folders work as well, for dry runs.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import stat
import sys
import tempfile
import time
import zipfile
from typing import Any, Dict, Iterator, Tuple

from common.errors import UserError, warn
from common.files import ZIP_ERRORS, atomic

CACHE = '/cache'  # the large local disk of a ModelArts server


def _cache_folder() -> pathlib.Path:
    """This user's own folder on the large local disk."""
    root = CACHE if os.path.isdir(CACHE) and os.access(CACHE, os.W_OK) else tempfile.gettempdir()
    path = pathlib.Path(root, 'modelarts-%d' % os.getuid())
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise UserError('%s is not a folder of this user; remove it' % path)
    path.chmod(0o700)
    return path


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _moxing(url: str):
    try:
        import moxing

        return moxing
    except ImportError:
        raise UserError(
            '%s: the package moxing, which reads obs://, is not installed; it exists on ModelArts'
            ' only. Elsewhere give folders' % url
        )


def exists(url: str) -> bool:
    """Returns whether a folder or file is there, in object storage or on disk."""
    return _moxing(url).file.exists(url) if url.startswith('obs://') else os.path.exists(url)


def _require(url: str) -> None:
    if not exists(url):
        raise UserError('%s does not exist; give an obs:// folder or zip, or a local one' % url)


def copy(source: str, target: str) -> None:
    """Copies a folder's content or a file; either side may be obs://."""
    _require(source)
    remote = [url for url in (source, target) if url.startswith('obs://')]
    if remote:
        file = _moxing(remote[0]).file
        (file.copy_parallel if file.is_directory(source) else file.copy)(source, target)
    elif os.path.isfile(source):
        shutil.copyfile(source, target)
    else:
        pathlib.Path(target).mkdir(parents=True, exist_ok=True)
        for path in sorted(pathlib.Path(source).rglob('*')):  # a folder before what is in it
            copied = pathlib.Path(target, path.relative_to(source))
            if path.is_dir():
                copied.mkdir(exist_ok=True)
            else:
                shutil.copyfile(path, copied)


def _versions(url: str) -> Dict[str, Tuple[int, int]]:
    """{name: (bytes, time of the last change)} of a file, or of all files below a folder."""
    _require(url)
    if url.startswith('obs://'):
        file = _moxing(url).file
        names = file.list_directory(url, recursive=True) if file.is_directory(url) else ['']
        entries = {name: file.stat('/'.join(filter(None, (url, name)))) for name in names}
        return {
            name: (entry.length, entry.mtime_nsec)
            for name, entry in entries.items()
            if not entry.is_directory
        }
    top = pathlib.Path(url)
    paths = [path for path in [top, *top.rglob('*')] if path.is_file()]
    return {
        str(path.relative_to(top)): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths
    }


def fetch(url: str) -> str:
    """Copies data to the local disk, once a server for all ranks, unpacks a .zip, and returns the
    local folder. A copy of an earlier job is used if sizes and times are the same.
    """
    folder, key = _cache_folder(), 'data-' + _digest(url)
    with open(str(folder / key) + '.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first rank copies, the others wait here
        target = folder / ('%s-%s' % (key, _digest(repr(sorted(_versions(url).items())))))
        if not target.exists():
            for outdated in folder.glob(key + '-*'):
                shutil.rmtree(outdated)
            sys.stderr.write('copying %s to %s\n' % (url, target))
            with atomic(target) as temporary:
                temporary.mkdir()
                if url.endswith('.zip'):
                    _fetch_zip(url, temporary)
                else:
                    copy(url, str(temporary))
    entries = [path for path in target.iterdir() if not path.name.startswith('.')]
    if url.endswith('.zip') and len(entries) == 1 and entries[0].is_dir():
        if entries[0].name not in ('train', 'test', 'val'):
            return str(entries[0])  # a zip of one folder, which holds the records
    return str(target)


def _fetch_zip(url: str, folder: pathlib.Path) -> None:
    packed = folder / '.download.zip'
    copy(url, str(packed))
    try:
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(folder)  # zipfile drops '..' and leading '/' from names
    except ZIP_ERRORS as error:
        raise UserError('%s is not a zip file that can be unpacked (%s)' % (url, error))
    packed.unlink()


def _step(url: str) -> int:
    """The step of the latest checkpoint in a run's folder; -1 without one."""
    if not exists(url):
        return -1
    names = [re.fullmatch(r'model\.ckpt-(\d+)\.index', name) for name in _versions(url)]
    return max((int(name.group(1)) for name in names if name), default=-1)


def _copy_in(url: str, output: str) -> None:
    """Brings the run's local folder to the state of `url`, if that has more steps."""
    if os.path.exists(output):
        local_step, remote_step = _step(output), _step(url)
        if local_step >= remote_step:
            return
        # The run was continued elsewhere.
        os.replace(output, '%s.step-%d.%d' % (output, local_step, time.time()))
    if exists(url):
        with atomic(output) as temporary:
            temporary.mkdir()
            copy(url, str(temporary))


def _copy_out(output: str, url: str) -> None:
    """Merges the run's folder into `url`; a run with more steps there stays as it is."""
    local_step, remote_step = _step(output), _step(url)
    if remote_step > local_step:
        kept = '%s-step-%d' % (url.rstrip('/'), max(local_step, 0))
        warn(
            '%s is at step %d, this run ended at step %d; its results go to %s'
            % (url, remote_step, local_step, kept)
        )
        url = kept
    copy(output, url)
    sys.stderr.write('results copied to %s\n' % url)


@contextlib.contextmanager
def transfer(cfg, rank: int) -> Iterator[Any]:
    """Yields the configuration with local copies of --data_url and --train_url as its folders.

    What an earlier job left in --train_url is copied in, to resume there. At the end, also after an
    error or a signal, rank 0 copies the run's folder out.
    """
    if cfg.data_url:
        cfg = dataclasses.replace(cfg, data_path=fetch(cfg.data_url))
    if not cfg.train_url:
        yield cfg
        return
    output = str(_cache_folder() / ('run-' + _digest(cfg.train_url)))
    try:
        if rank == 0:
            _copy_in(cfg.train_url, output)
        yield dataclasses.replace(cfg, output_path=output)
    finally:
        if rank == 0 and os.path.isdir(output):
            _copy_out(output, cfg.train_url)
