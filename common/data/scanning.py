"""Finds the records of files that have no index, and the corrupt ones, once."""

import concurrent.futures
import contextlib
import fcntl
import functools
import hashlib
import os
import pathlib
from typing import Callable, Dict, Iterator, List, Tuple

import numpy as np
import tqdm

from common.data import tfrecord
from common.errors import UserError, warn
from common.files import atomic

SKIP = '; restore the file, or leave out up to N corrupt records with --skip_corrupt N'

ScanResult = Tuple[List[np.ndarray], List[str]]  # frames of each file, problems


def scan(files: List[pathlib.Path], skip_corrupt: int, distinct: bool) -> List[np.ndarray]:
    """Returns the frames of each file, see tfrecord.Scan.

    skip_corrupt: above 0 payloads are checked too, and so many corrupt records may be left out with
    a warning. UserError if there are more, or if `distinct` files are equal.
    """
    work = functools.partial(_scan_all, files, skip_corrupt > 0, distinct)
    frames, problems = _cached(files, work) if skip_corrupt else work()
    if len(problems) > skip_corrupt:
        raise UserError(
            '%d corrupt records, more than --skip_corrupt %d allows; the first: %s'
            % (len(problems), skip_corrupt, problems[0])
            if skip_corrupt
            else problems[0] + SKIP
        )
    for problem in problems:
        warn('left out: ' + problem)
    return frames


def _scan_all(files: List[pathlib.Path], payloads: bool, distinct: bool) -> ScanResult:
    frames, problems = [], []
    seen: Dict[str, pathlib.Path] = {}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        scans = pool.map(functools.partial(tfrecord.scan, payloads=payloads), files)
        bar = tqdm.tqdm(scans, 'checking', len(files), unit=' files', disable=None, delay=2)
        for file, file_scan in zip(files, bar):
            if distinct and len(file_scan.frames) and file_scan.fingerprint in seen:
                raise UserError(
                    '%s and %s hold the same %d records; remove one of them'
                    % (seen[file_scan.fingerprint], file, len(file_scan.frames))
                )
            seen[file_scan.fingerprint] = file
            frames.append(file_scan.frames)
            problems += file_scan.problems
    return frames, problems


def _cached(paths: List[pathlib.Path], scan_all: Callable[[], ScanResult]) -> ScanResult:
    """scan_all(), or what it returned before for these files, by size and time.

    Of the processes of a machine one scans and the others wait for it. The results are in the
    user's cache ($XDG_CACHE_HOME); if that cannot be written to, each scans.
    """
    key = hashlib.sha256()
    for path in paths:
        status = path.stat()
        key.update(repr((str(path.resolve()), status.st_size, status.st_mtime_ns)).encode())
    cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
    cache_file = cache / 'checked_records' / (key.hexdigest() + '.npz')
    with _locked(cache_file) as writable:
        try:
            with np.load(cache_file) as stored:
                bounds = np.cumsum(stored['counts'])[:-1]
                return np.split(stored['frames'], bounds), stored['problems'].tolist()
        except Exception:  # not there, or damaged
            frames, problems = scan_all()
        if writable:
            content = {'counts': np.array([len(part) for part in frames])}
            content.update(frames=np.concatenate(frames), problems=np.array(problems, 'U'))
            with contextlib.suppress(OSError), atomic(cache_file) as temporary:
                np.savez(temporary, **content)
    return frames, problems


@contextlib.contextmanager
def _locked(cache_file: pathlib.Path) -> Iterator[bool]:
    """Waits for other processes that scan the same; False where there is no place for a lock."""
    try:
        cache_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = open(cache_file.with_suffix('.lock'), 'w')
    except OSError:
        yield False
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield True
