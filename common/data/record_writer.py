"""Writes TFRecord folders in parallel, with dataset.json and index.npy beside the records;
common/records.py reads them.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import multiprocessing
import numbers
import os
import pathlib
import shutil
import signal
import struct
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import tqdm

from common import files
from common.data.records import FORMAT_VERSION, checksum, frame_header
from common.errors import UserError, some


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF  # two's complement
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def example(features: Dict[str, Any]) -> bytes:
    """Serialises a tf.train.Example, keys in sorted order so that equal features give equal bytes.

    A value is bytes, an int or a float, or a list or tuple of one of them.
    """
    entries = []
    for key in sorted(features):
        values = features[key] if isinstance(features[key], (list, tuple)) else [features[key]]
        if all(isinstance(value, bytes) for value in values):
            feature = _field(1, b''.join(_field(1, value) for value in values))
        elif all(isinstance(value, numbers.Integral) for value in values):
            feature = _field(3, _field(1, b''.join(_varint(int(value)) for value in values)))
        elif all(isinstance(value, numbers.Real) for value in values):
            feature = _field(2, _field(1, struct.pack('<%df' % len(values), *values)))
        else:
            raise TypeError(
                'feature %r: expected bytes, int or float, found %r' % (key, features[key])
            )
        entries.append(_field(1, _field(1, key.encode()) + _field(2, feature)))
    return _field(1, b''.join(entries))


_shared = None  # in a worker: (records written by all workers, the flag that tells them to stop)


def _start_worker(shared, is_process: bool) -> None:
    global _shared
    _shared = shared
    if is_process:
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # Ctrl-C reaches the parent too, which sets the flag


def _write_shard(
    path: pathlib.Path, items: Sequence, encode: Callable, fields: set, skip_corrupt: int
) -> None:
    """Writes one file and, beside it, a note of what it holds; neither if it is told to stop."""
    written, stop = _shared
    starts, size, digest, problems, reported, due = [], 0, hashlib.sha256(), [], 0, 0.0
    partial = path.with_name('.%d-%s' % (os.getpid(), path.name))
    with open(str(partial), 'wb') as shard:
        for done, item in enumerate(items):
            if (
                time.monotonic() > due
            ):  # not for each record: the workers would queue for the counter
                if stop.is_set():
                    return
                with written.get_lock():
                    written.value += done - reported
                reported, due = done, time.monotonic() + 0.1
            try:
                features = encode(item)
            except UserError as error:
                problems.append(str(error))
                if len(problems) > skip_corrupt:
                    raise
                continue
            if set(features) != fields:
                raise ValueError(
                    'encode() gave %s, the schema says %s' % (sorted(features), sorted(fields))
                )
            payload = example(features)
            frame = frame_header(len(payload)) + payload + checksum(payload)
            shard.write(frame)
            digest.update(frame)
            starts.append(size)
            size += len(frame)
    with written.get_lock():
        written.value += len(items) - reported
    _note(path).write_text(
        json.dumps(
            {'starts': starts, 'bytes': size, 'sha256': digest.hexdigest(), 'problems': problems}
        )
    )
    partial.rename(path)  # last: a file of its final name is whole


def _note(path: pathlib.Path) -> pathlib.Path:
    return path.with_name('.' + path.name + '.json')


@contextlib.contextmanager
def _kept(path: pathlib.Path, plan: str) -> Iterator[pathlib.Path]:
    """As files.atomic for a folder, but after an error what is there stays, and is there again the
    next time with the same plan.
    """
    folder = path.with_name('.%s.unfinished' % path.name)
    if folder.is_dir() and not (
        (folder / '.plan').is_file() and (folder / '.plan').read_text() == plan
    ):
        shutil.rmtree(str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / '.plan').write_text(plan)
    try:
        yield folder
    except BaseException:
        sys.stderr.write(
            '%s: what is finished is kept; the same command goes on from there\n' % folder
        )
        raise
    (folder / '.plan').unlink()
    if path.is_dir():
        path.rmdir()
    folder.rename(path)


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
    (nearly) equal count.

    Args:
      items: a sequence of small picklable things, say (file name, label); each is turned into a
      record inside a worker.
      encode: item -> {feature: value} (see `example`); a function of a module, so that it can be
      sent to the workers.
      schema: feature -> {'kind': 'bytes'|'int64'|'float', 'dtype': of the content, 'shape': of the
      content}.
      workers: processes, at most one a shard; default: one a core; 1 writes inside this process.
      The bytes do not depend on it.
      metadata: more keys of dataset.json.
      restartable: files that were finished before an error or a kill are kept, hidden, for the next
      call with equal arguments.
      skip_corrupt: at most so many items for which encode raises UserError are left out, with a
      warning each.
    The folder appears whole, or (after an error or Ctrl-C) not at all.
    """
    path = pathlib.Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(
            '%s already exists and is not empty; remove it or name another folder' % path
        )
    if not len(items):
        raise UserError('%s: there are no records to write' % path)
    if not 1 <= shards <= len(items):
        raise UserError(
            '%s: found %d shards for %d records; legal are 1 to %d'
            % (path, shards, len(items), len(items))
        )
    workers = min(workers or os.cpu_count(), shards)
    began = time.time()
    content = {
        'format_version': FORMAT_VERSION,
        'name': name,
        'split': split,
        'classes': list(classes),
        **(metadata or {}),
        'schema': schema,
    }
    plan = hashlib.sha256(repr((content, shards)).encode())
    for item in items if restartable else ():
        plan.update(repr(item).encode())
    names = ['%s-%05d-of-%05d.tfrecord' % (split, shard, shards) for shard in range(shards)]
    bounds = [len(items) * shard // shards for shard in range(shards + 1)]
    try:
        with _kept(path, plan.hexdigest()) if restartable else files.atomic(path) as folder:
            folder.mkdir(exist_ok=True)
            jobs = [
                (folder / file, items[first:last], encode, set(schema), skip_corrupt)
                for file, first, last in zip(names, bounds, bounds[1:])
                if not (folder / file).exists()
            ]
            _run(jobs, workers, len(items), split)
            notes = [json.loads(_note(folder / file).read_text()) for file in names]
            problems = [problem for note in notes for problem in note['problems']]
            if len(problems) > skip_corrupt:
                for file, note in zip(names, notes):
                    if note['problems']:  # it may be repaired the next time
                        (folder / file).unlink()
                raise UserError(
                    '%d items cannot be used, --skip_corrupt %d allows fewer: %s'
                    % (len(problems), skip_corrupt, some(problems))
                )
            for problem in problems:
                sys.stderr.write('warning: left out: %s\n' % problem)
            for file in folder.glob('.*.tfrecord*'):  # notes, and what a killed process left
                file.unlink()
            count = len(items) - len(problems)
            np.save(
                str(folder / 'index.npy'),
                np.concatenate([np.array(note['starts'], np.int64) for note in notes]),
            )
            (folder / 'dataset.json').write_text(
                json.dumps(
                    {
                        **content,
                        'count': count,
                        'shards': [
                            {
                                'file': file,
                                'records': len(note['starts']),
                                'bytes': note['bytes'],
                                'sha256': note['sha256'],
                            }
                            for file, note in zip(names, notes)
                        ],
                    },
                    indent=1,
                )
                + '\n'
            )
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError(
            '%s: a writing process died (out of memory?); free some, or use less than %d workers'
            % (path, workers)
        )
    except OSError as error:
        raise UserError('%s could not be written: %s' % (path, error))
    sys.stderr.write(
        '%s: %d records in %d files, %.1f s\n' % (path, count, shards, time.time() - began)
    )


def _run(jobs: List[Tuple], workers: int, total: int, title: str) -> None:
    """_write_shard(*job) for all jobs, in processes, while a bar moves. A failure or Ctrl-C stops
    all of them.
    """
    finished, workers = total - sum(len(job[1]) for job in jobs), min(workers, len(jobs)) or 1
    context = multiprocessing.get_context('spawn')  # a fork would copy the parent's threads' locks
    written, stop = shared = context.Value('q', finished), context.Event()
    if workers == 1:
        pool = concurrent.futures.ThreadPoolExecutor(
            1, initializer=_start_worker, initargs=(shared, False)
        )
    else:
        pool = concurrent.futures.ProcessPoolExecutor(
            workers, context, _start_worker, (shared, True)
        )
    with tqdm.tqdm(
        total=total, initial=finished, desc=title, unit=' records', disable=None
    ) as bar, pool:
        try:
            pending = [pool.submit(_write_shard, *job) for job in jobs]
            while pending:
                done, pending = concurrent.futures.wait(
                    pending, 0.2, concurrent.futures.FIRST_EXCEPTION
                )
                bar.update(written.value - bar.n)
                for task in done:
                    task.result()  # raises what the worker raised
        except BaseException:
            stop.set()
            raise
