"""ModelArts: data and results travel between object storage (obs://) and the server's local disk,
through moxing where it exists.

ModelArts starts a run script with `--data_url obs://... --train_url obs://...`. Plain folders work
as well, for dry runs.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import zipfile
from typing import Any, Iterator

from common.errors import UserError
from common.files import atomic

CACHE = '/cache'  # the large local disk of a ModelArts server


def _cache() -> pathlib.Path:
    root = CACHE if os.path.isdir(CACHE) and os.access(CACHE, os.W_OK) else tempfile.gettempdir()
    path = pathlib.Path(root, 'modelarts')
    path.mkdir(exist_ok=True)
    return path


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
    """True if a folder or file is there, in object storage or on disk."""
    return _moxing(url).file.exists(url) if url.startswith('obs://') else os.path.exists(url)


def copy(source: str, target: str) -> None:
    """Copies a folder's content or a file; either side may be obs://."""
    remote = next((url for url in (source, target) if url.startswith('obs://')), None)
    if not exists(source):
        raise UserError(
            '%s: there is nothing; give an obs:// folder or zip, or a local one' % source
        )
    if remote:
        file = _moxing(remote).file
        (file.copy_parallel if file.is_directory(source) else file.copy)(source, target)
    elif os.path.isfile(source):
        shutil.copyfile(source, target)
    else:
        pathlib.Path(target).mkdir(parents=True, exist_ok=True)
        for path in sorted(pathlib.Path(source).rglob('*')):
            place = pathlib.Path(target, path.relative_to(source))
            if path.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(path), str(place))


def fetch(url: str) -> str:
    """Copies data to the local disk, once per server however many ranks ask, and unpacks a .zip.
    Returns the local folder.
    """
    place = _cache() / ('data-' + hashlib.sha256(url.encode()).hexdigest()[:16])
    with open(str(place) + '.lock', 'w') as lock:
        fcntl.flock(
            lock, fcntl.LOCK_EX
        )  # the first rank copies, the others wait here and find it done
        if not place.exists():
            sys.stderr.write('copying %s to %s\n' % (url, place))
            with atomic(place) as temporary:
                temporary.mkdir()
                if url.endswith('.zip'):
                    packed = temporary.with_name(temporary.name + '.zip')
                    try:
                        copy(url, str(packed))
                        _unpack(packed, temporary, url)
                    finally:
                        if packed.exists():
                            packed.unlink()
                else:
                    copy(url, str(temporary))
    inside = [path for path in place.iterdir() if not path.name.startswith('.')]
    # A zip of one folder: the records are in that folder.
    return str(
        inside[0]
        if url.endswith('.zip')
        and len(inside) == 1
        and inside[0].is_dir()
        and inside[0].name not in ('train', 'test', 'val')
        else place
    )


def _unpack(packed: pathlib.Path, folder: pathlib.Path, url: str) -> None:
    try:
        with zipfile.ZipFile(str(packed)) as archive:
            archive.extractall(str(folder))  # zipfile drops '..' and leading '/' from names
    except zipfile.BadZipFile as error:
        raise UserError('%s is no zip file (%s)' % (url, error))


@contextlib.contextmanager
def transfer(cfg, rank: int) -> Iterator[Any]:
    """Yields the configuration with local copies of --data_url and --train_url as its folders.

    What an earlier job left in --train_url is copied in first, so that the job resumes there. At
    the end, also after an error or a signal, rank 0 copies the run's folder out.
    """
    if cfg.data_url:
        cfg = dataclasses.replace(cfg, data_path=fetch(cfg.data_url))
    if not cfg.train_url:
        yield cfg
        return
    output = str(_cache() / ('run-' + hashlib.sha256(cfg.train_url.encode()).hexdigest()[:16]))
    previous = signal.signal(signal.SIGTERM, _stop)  # while it trains, training stops by itself
    try:
        if rank == 0 and not os.path.exists(output) and exists(cfg.train_url):
            with atomic(output) as temporary:
                temporary.mkdir()
                copy(cfg.train_url, str(temporary))
        yield dataclasses.replace(cfg, output_path=output)
    finally:
        if rank == 0 and os.path.isdir(output):
            copy(output, cfg.train_url)
            sys.stderr.write('results copied to %s\n' % cfg.train_url)
        signal.signal(signal.SIGTERM, previous)


def _stop(number, _frame):
    sys.exit(128 + number)
