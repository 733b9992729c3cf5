"""Writes the folders of TFRecords that common/data/records.py reads, in parallel."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import sys
import time
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np
import tqdm

from common import files, host, signals
from common.data import tfrecord
from common.data.records import FORMAT_VERSION
from common.errors import UserError, first_few, warn


def write(
    path,
    items: Sequence,
    encode: Callable[[Any], Dict[str, Any]],
    *,
    name: str,
    split: str,
    schema: Dict[str, Dict],
    classes: Sequence[str] = (),
    shards: int = 1,
    workers: Optional[int] = None,
    metadata: Optional[Dict[str, Any]] = None,
    restartable: bool = False,
    skip_corrupt: int = 0,
) -> None:
    """Writes the folder `path` with the records encode(item), in order, in `shards` files of
    (nearly) equal count. It appears whole, or (after an error or Ctrl-C) not at all.

    items: small picklable things. encode: item -> {feature: value}, see tfrecord.make_example, a
    function of a module; UserError: the item cannot be used. schema: feature -> {'kind': 'bytes'|
    'int64'|'float', 'dtype' and 'shape' of the content}. workers: processes, default one a core, 1:
    this one. metadata: more keys of dataset.json. restartable: what an error or a kill leaves is
    kept for the next call with equal arguments. skip_corrupt: at most so many items are left out.
    """
    path = pathlib.Path(path)
    _check(path, len(items), shards)
    start = time.monotonic()
    content = dict(format_version=FORMAT_VERSION, name=name, split=split, classes=list(classes))
    content.update(metadata or {}, schema=schema)
    workers = min(workers or host.cores(), shards)
    try:
        with _resume(path, content, shards, items) if restartable else files.atomic(path) as folder:
            folder.mkdir(exist_ok=True)
            jobs = _jobs(folder, items, encode, content, shards, skip_corrupt)
            _run(jobs, workers, split)
            notes = _notes(jobs, skip_corrupt)
            _describe(folder, content, notes)
    except BrokenProcessPool:
        raise UserError(
            '%s: a writing process died (out of memory?); free some, or let it have less than %d'
            ' cores: taskset -c 0 python -m ...' % (path, workers)
        )
    except OSError as error:
        raise UserError('%s could not be written: %s' % (path, error))
    seconds = time.monotonic() - start
    count, size = (sum(note[key] for note in notes.values()) for key in ('records', 'bytes'))
    sys.stderr.write(
        '%s: %d records in %d files, %.1f s, %.1f MB/s\n'
        % (path, count, shards, seconds, size / 1e6 / seconds)
    )


def require_empty(path: pathlib.Path) -> None:
    """Raises UserError unless `path` is free or an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(
            '%s already exists and is not empty; remove it or name another folder' % path
        )


def _check(path: pathlib.Path, count: int, shards: int) -> None:
    require_empty(path)
    if not count:
        raise UserError('%s: there are no records to write' % path)
    if not 1 <= shards <= count:
        raise UserError(
            '%s: found %d shards for %d records; legal are 1 to %d' % (path, shards, count, count)
        )


@contextlib.contextmanager
def _resume(
    path: pathlib.Path, content: Dict, shards: int, items: Sequence
) -> Iterator[pathlib.Path]:
    """As files.atomic, but what an error leaves stays, for the next call with equal arguments."""
    digest = hashlib.sha256()
    for part in (content, shards, *items):
        digest.update(repr(part).encode())
    plan = digest.hexdigest()
    folder = path.with_name('.%s.unfinished' % path.name)
    stored = folder / '.plan'
    if folder.is_dir() and not (stored.is_file() and stored.read_text() == plan):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stored.write_text(plan)
    try:
        yield folder
    except BaseException:
        sys.stderr.write(
            '%s: finished files are kept; the same command goes on from there\n' % folder
        )
        raise
    stored.unlink()
    if path.is_dir():
        path.rmdir()
    folder.rename(path)


def _notes(jobs: Sequence['_Job'], skip_corrupt: int) -> Dict[str, Dict]:
    """{file: note of _write_shard}. UserError if too many items could not be used."""
    notes = {job.path.name: files.read_json(job.note) for job in jobs}
    problems = [problem for note in notes.values() for problem in note['problems']]
    if len(problems) > skip_corrupt:
        for job in jobs:
            if notes[job.path.name]['problems']:  # it may be repaired the next time
                job.path.unlink()
        raise UserError(
            '%d items cannot be used, --skip_corrupt %d allows fewer: %s'
            % (len(problems), skip_corrupt, first_few(problems))
        )
    for problem in problems:
        warn('left out: ' + problem)
    return notes


def _describe(folder: pathlib.Path, content: Dict[str, Any], notes: Dict[str, Dict]) -> None:
    """Writes index.npy and dataset.json, then removes what is not part of the result."""
    starts = np.concatenate([np.array(note['starts'], np.int64) for note in notes.values()])
    np.save(folder / 'index.npy', starts)
    shards = [
        {'file': file, **{key: note[key] for key in ('records', 'bytes', 'sha256')}}
        for file, note in notes.items()
    ]
    description = {**content, 'count': len(starts), 'shards': shards}
    (folder / 'dataset.json').write_text(json.dumps(description, indent=1) + '\n')
    for file in folder.glob('.*.tfrecord*'):  # notes, and what a killed process left
        file.unlink()


# ---- in the workers ------------------------------------------------------------------------------

_shared = None  # in a worker: (items done by all workers, event that tells them to stop)


class _Job(NamedTuple):
    """One file to write."""

    path: pathlib.Path
    items: Sequence
    encode: Callable
    fields: set
    skip_corrupt: int

    @property
    def note(self) -> pathlib.Path:
        return self.path.with_name('.' + self.path.name + '.json')

    @property
    def is_done(self) -> bool:
        """Whether file and note are there; a power failure may have emptied the note."""
        try:
            return self.path.exists() and bool(files.read_json(self.note))
        except (OSError, ValueError):
            return False


def _jobs(
    folder: pathlib.Path,
    items: Sequence,
    encode: Callable,
    content: Dict[str, Any],
    shards: int,
    skip_corrupt: int,
) -> List[_Job]:
    bounds = [len(items) * shard // shards for shard in range(shards + 1)]
    return [
        _Job(
            folder / ('%s-%05d-of-%05d.tfrecord' % (content['split'], shard, shards)),
            items[bounds[shard] : bounds[shard + 1]],
            encode,
            set(content['schema']),
            skip_corrupt,
        )
        for shard in range(shards)
    ]


def _run(jobs: Sequence[_Job], workers: int, title: str) -> None:
    """Runs the unfinished jobs in processes; a failure or Ctrl-C stops all of them."""
    remaining = [job for job in jobs if not job.is_done]
    total = sum(len(job.items) for job in jobs)
    finished = total - sum(len(job.items) for job in remaining)
    context = multiprocessing.get_context('spawn')  # a fork would copy the parent's threads' locks
    written: Any = context.Value('q', finished)
    stop = context.Event()
    workers = min(workers, len(remaining)) or 1
    shared: Any = (written, stop, os.getpid())
    pool: futures.Executor
    if workers == 1:
        pool = futures.ThreadPoolExecutor(1, '', _start_worker, shared)
    else:
        pool = futures.ProcessPoolExecutor(workers, context, _start_worker, shared)
    bar = tqdm.tqdm(total=total, initial=finished, desc=title, unit=' records', disable=None)
    with bar, pool:
        try:
            with signals.deferred():
                pending = {pool.submit(_write_shard, job) for job in remaining}
            while pending:
                done, pending = futures.wait(pending, 0.2, futures.FIRST_EXCEPTION)
                bar.update(written.value - bar.n)
                for task in done:
                    task.result()  # raises what the worker raised
        except BaseException:
            stop.set()
            raise


def _start_worker(written, stop, parent: int) -> None:
    """parent: the process that this one must not outlive, or whose thread this is."""
    global _shared
    _shared = written, stop
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches the parent too, which says stop
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
        signals.end_with_parent()
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


def _write_shard(job: _Job) -> None:
    """Writes one file and a note of what it holds; neither if it is told to stop."""
    starts, size, digest, problems = [], 0, hashlib.sha256(), []
    partial = job.path.with_name('.%d-%s' % (os.getpid(), job.path.name))
    with open(partial, 'wb') as shard:
        for item in _until_stopped(job.items):
            try:
                features = job.encode(item)
            except UserError as error:
                problems.append(str(error))
                if len(problems) > job.skip_corrupt:
                    raise
                continue
            if set(features) != job.fields:
                raise ValueError(
                    'encode() gave %s, the schema says %s' % (sorted(features), sorted(job.fields))
                )
            frame = tfrecord.frame(tfrecord.make_example(features))
            shard.write(frame)
            digest.update(frame)
            starts.append(size)
            size += len(frame)
        if len(starts) + len(problems) < len(job.items):
            return
        shard.flush()
        os.fsync(shard.fileno())
    note = {'starts': starts, 'records': len(starts), 'bytes': size}
    note.update(sha256=digest.hexdigest(), problems=problems)
    job.note.write_text(json.dumps(note))
    partial.rename(job.path)  # last: a file of its final name is whole


def _until_stopped(items: Sequence) -> Iterator[Any]:
    """Yields the items until the workers are told to stop; counts them for the bar."""
    written, stop = _shared
    reported, due = 0, 0.0
    for number, item in enumerate(items):
        if time.monotonic() > due:  # not for each item: the workers would queue for the counter
            if stop.is_set():
                return
            with written.get_lock():
                written.value += number - reported
            reported, due = number, time.monotonic() + 0.1
        yield item
    with written.get_lock():
        written.value += len(items) - reported
