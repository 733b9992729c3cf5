"""TFRecord folders: validated when opened, read by record number, in batches that are functions of
(seed, step).

Random access is what makes shuffling and resuming exact: step t reads the records that (seed,
epoch) say, whatever ran before. A record is `length uint64 | masked crc32c of length | payload |
masked crc32c of payload`, little endian (TFRecord format). A folder that common/record_writer.py
wrote also holds `dataset.json` (what it is) and `index.npy` (where each record starts, so that a
million of them open at once); a folder without them is scanned. TensorFlow is imported only where
tensors are made, so that writers start fast.
"""

import concurrent.futures
import functools
import itertools
import json
import os
import pathlib
import re
import struct
import sys
from typing import Dict, List, Optional, Sequence, Tuple

import google_crc32c
import numpy as np
import tqdm

from common.errors import UserError, some

FORMAT_VERSION = 1
_RECORD_NAME = re.compile(r'\.(tf)?record|-\d{5}-of-\d{5}', re.IGNORECASE)
_NOTE_SUFFIXES = {
    '.json',
    '.txt',
    '.md',
    '.csv',
    '.yaml',
    '.yml',
    '.log',
    '.npy',
    '.idx',
    '.index',
    '.md5',
    '.sha256',
}
_BAD_CONTENT = 'does not match its checksum'
_AGAIN = 'remove the folder and prepare it again'
_READ_AHEAD = 4  # batches read at once: reads wait for the disk, not for a core


def checksum(data: bytes) -> bytes:
    """The masked crc32c of TFRecord files, 4 bytes."""
    crc = google_crc32c.value(data)
    return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def frame_header(length: int) -> bytes:
    """What stands before a payload of `length` bytes: 12 bytes."""
    packed = struct.pack('<Q', length)
    return packed + checksum(packed)


def split_path(data_path, split: str) -> pathlib.Path:
    """data_path/<split> if that folder exists, else data_path itself (the published ports point
    straight at the records).
    """
    return (
        pathlib.Path(data_path) / split if has_split(data_path, split) else pathlib.Path(data_path)
    )


def has_split(data_path, split: str) -> bool:
    """Whether there is a folder data_path/<split>."""
    return (pathlib.Path(data_path) / split).is_dir()


class Folder:
    """A validated folder of TFRecords, or one such file. `read` gives any records by number;
    numbers count through the files in order.

    Attributes: path; metadata (the content of dataset.json, {} without one); files (in
    dataset.json's order, else in the natural order of their names); count (records that can be
    read: corrupt ones that were left out have no number).
    """

    def __init__(
        self,
        path: pathlib.Path,
        metadata: Dict,
        paths: List[pathlib.Path],
        frames: List[np.ndarray],
    ):
        self.path, self.metadata, self.files = path, metadata, paths
        self._shard = np.repeat(np.arange(len(paths)), [len(shard) for shard in frames])
        self._start, self._length = np.concatenate(frames).T
        self.count = len(self._start)

    @classmethod
    def open(cls, path, skip_corrupt: int = 0) -> 'Folder':
        """Opens and checks a folder.

        With skip_corrupt > 0 every byte is checked now and up to that many corrupt records are left
        out, a warning each; without it payloads are checked as they are read. UserError says what
        is wrong, where, and the cure.
        """
        path = pathlib.Path(path)
        try:
            return cls._open(path, skip_corrupt)
        except OSError as error:
            raise UserError('%s could not be read: %s' % (path, error))

    @classmethod
    def _open(cls, path: pathlib.Path, skip_corrupt: int) -> 'Folder':
        if not path.is_dir() and not (path.is_file() and _is_record_file(path)):
            raise UserError(
                '%s: %s; name the folder that holds the TFRecords, or one TFRecord file'
                % (path, 'is no TFRecord' if path.exists() else 'no such folder')
            )
        metadata = _metadata(path)
        paths = (
            [path]
            if path.is_file()
            else [path / shard['file'] for shard in metadata['shards']]
            if metadata
            else _find(path)
        )
        _warn_strays(path, paths)
        if metadata and not skip_corrupt and (path / 'index.npy').exists():
            frames = _load_index(path / 'index.npy', metadata['shards'])
        else:
            frames = _scan_all(paths, skip_corrupt, distinct=not metadata)
            if metadata and not skip_corrupt and sum(map(len, frames)) != metadata['count']:
                raise UserError(
                    '%s: found %d records, dataset.json says %d; %s'
                    % (path, sum(map(len, frames)), metadata['count'], _AGAIN)
                )
        if not sum(map(len, frames)):
            raise UserError('%s: holds no readable record' % path)
        return cls(path, metadata, paths, frames)

    def read(self, ids: Sequence[int]) -> List[bytes]:
        """The payloads of the records `ids` (0..count-1, any order, repeats too). Thread safe.
        UserError if one is corrupt.
        """
        ids = np.asarray(ids, np.int64)
        shard, start, length = (
            self._shard[ids].tolist(),
            self._start[ids].tolist(),
            self._length[ids].tolist(),
        )
        payloads = [b''] * len(ids)
        # Files are opened for each call: a thousand kept open would hit the usual limit, and
        # opening costs microseconds.
        for file, group in itertools.groupby(
            np.argsort(ids, kind='stable').tolist(), key=shard.__getitem__
        ):
            try:
                with open(str(self.files[file]), 'rb', buffering=0) as source:
                    for i in group:
                        frame = os.pread(source.fileno(), length[i] + 16, start[i])
                        payloads[i] = frame[12:-4]
                        if frame[:12] != frame_header(length[i]) or frame[-4:] != checksum(
                            payloads[i]
                        ):
                            raise UserError(
                                _advice(
                                    _corrupt(
                                        self.files[file], start[i], length[i] + 16, _BAD_CONTENT
                                    )
                                )
                            )
            except OSError as error:
                raise UserError('%s could not be read: %s' % (self.files[file], error))
        return payloads


def _corrupt(path, offset: int, lost: int, why: str) -> str:
    return '%s: the record at byte %d %s (%d bytes lost)' % (path, offset, why, lost)


def _advice(problem: str) -> str:
    return (
        problem + '; restore the file, or leave out up to N corrupt records with --skip_corrupt N'
    )


def _metadata(path: pathlib.Path) -> Dict:
    """dataset.json's content, {} if there is none; UserError if it is not ours or the shards are
    not the ones it lists.
    """
    file = path / 'dataset.json'
    if not file.exists():
        return {}
    try:
        metadata = json.loads(file.read_text())
        version, count = metadata['format_version'], metadata['count']
        shards = [
            (str(shard['file']), int(shard['bytes']), int(shard['records']))
            for shard in metadata['shards']
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            '%s: not a description of a dataset (%s: %s); restore it, or remove it to read the'
            ' records as they are' % (file, type(error).__name__, error)
        )
    if version != FORMAT_VERSION:
        raise UserError(
            '%s: found format_version %r, legal is %d; %s' % (file, version, FORMAT_VERSION, _AGAIN)
        )
    if not shards or count != sum(records for _, _, records in shards):
        raise UserError(
            '%s: found count %r, which is not the sum of its shards; %s' % (file, count, _AGAIN)
        )
    if len({name for name, _, _ in shards}) < len(shards):
        raise UserError('%s: lists a shard twice; %s' % (file, _AGAIN))
    missing = [name for name, _, _ in shards if not (path / name).is_file()]
    if missing:
        raise UserError(
            '%s: %d of its files are missing: %s; copy them here, or %s'
            % (file, len(missing), some(missing), _AGAIN)
        )
    for name, expected, _ in shards:
        found = (path / name).stat().st_size
        if found != expected:
            raise UserError(
                '%s: found %d bytes, dataset.json says %d (an incomplete copy?); copy it again,'
                ' or %s' % (path / name, found, expected, _AGAIN)
            )
    return metadata


def _is_record_file(file: pathlib.Path) -> bool:
    """Whether a file starts as a TFRecord does."""
    with open(str(file), 'rb') as source:
        head = source.read(12)
    return len(head) == 12 and head[8:] == checksum(head[:8])


def _find(path: pathlib.Path) -> List[pathlib.Path]:
    """The TFRecord files of a folder without dataset.json, by name or else by content, in the
    natural order of their names.
    """
    found = []
    for file in path.iterdir():
        if file.is_file() and not file.name.startswith('.') and file.stat().st_size:
            named = _RECORD_NAME.search(file.name) and file.suffix.lower() not in _NOTE_SUFFIXES
            if named or _is_record_file(file):
                with open(str(file), 'rb') as source:
                    if source.read(2) == b'\x1f\x8b':
                        raise UserError(
                            '%s: is gzip-compressed, which cannot be read at random; decompress it'
                            ' (gunzip)' % file
                        )
                found.append(file)
    if not found:
        inside = [entry.name + '/' * entry.is_dir() for entry in path.iterdir()]
        raise UserError(
            '%s: holds no TFRecord (%s); name the folder that holds them'
            % (path, 'found ' + some(inside) if inside else 'it is empty')
        )
    sets = {
        re.sub(r'-\d{5}(-of-\d{5}).*', r'-*\1', file.name)
        for file in found
        if re.search(r'-\d{5}-of-\d{5}', file.name)
    }
    if len(sets) > 1:
        raise UserError(
            '%s: holds several sets of records: %s; move each into a folder of its own'
            % (path, some(sets))
        )
    return sorted(
        found,
        key=lambda file: (
            [int(part) if i % 2 else part for i, part in enumerate(re.split(r'(\d+)', file.name))],
            file.name,
        ),
    )


def _warn_strays(path: pathlib.Path, used: List[pathlib.Path]) -> None:
    strays = (
        {entry.name for entry in (path.iterdir() if path.is_dir() else ())}
        - {file.name for file in used}
        - {'dataset.json', 'index.npy'}
    )
    if strays:
        sys.stderr.write(
            'warning: %s: not used, as they are no TFRecords of this dataset: %s\n'
            % (path, some(strays))
        )


def _load_index(file: pathlib.Path, shards: List[Dict]) -> List[np.ndarray]:
    """[records, 2] (start, length) for each shard, from the stored starts."""
    try:
        starts = np.load(str(file))
    except (ValueError, OSError) as error:
        raise UserError(
            '%s: not readable (%s); remove it and the records are scanned instead' % (file, error)
        )
    ends = np.cumsum([shard['records'] for shard in shards])
    if starts.dtype == np.int64 and starts.shape == (ends[-1],):
        frames = [
            np.stack([start, np.diff(start, append=shard['bytes']) - 16], axis=1)
            for start, shard in zip(np.split(starts, ends[:-1]), shards)
        ]
        if all((frame >= 0).all() for frame in frames):
            return frames
    raise UserError(
        '%s: does not belong to dataset.json; remove it and the records are scanned instead' % file
    )


def _scan(path: pathlib.Path, payloads: bool) -> Tuple[np.ndarray, List[Tuple[str, int]], Tuple]:
    """Walks one file. Returns (start, length) of the good records [n, 2], the problems, and what
    tells the file from others.
    """
    size, offset, frames, problems, first, last = path.stat().st_size, 0, [], [], b'', b''
    with open(str(path), 'rb', buffering=0) as source:
        while offset < size:
            header = os.pread(source.fileno(), 12, offset)
            length = int.from_bytes(header[:8], 'little')
            if len(header) == 12 and header != frame_header(length):
                problems.append(
                    _corrupt(
                        path,
                        offset,
                        size - offset,
                        'has a damaged length field, so the rest cannot be read',
                    )
                )
                break
            if len(header) < 12 or offset + 16 + length > size:
                problems.append(
                    _corrupt(path, offset, size - offset, 'is cut off by the end of the file')
                )
                break
            if payloads:
                body = os.pread(source.fileno(), length + 4, offset + 12)
            if payloads and body[-4:] != checksum(body[:-4]):
                problems.append(_corrupt(path, offset, length + 16, _BAD_CONTENT))
            else:
                frames.append((offset, length))
            offset += 16 + length
        if frames:
            first, last = (
                os.pread(source.fileno(), 4, start + 12 + length)
                for start, length in (frames[0], frames[-1])
            )
    return np.array(frames, np.int64).reshape(-1, 2), problems, (size, len(frames), first, last)


def _scan_all(paths: List[pathlib.Path], skip_corrupt: int, distinct: bool) -> List[np.ndarray]:
    """Scans files, several at once. UserError if they have more than `skip_corrupt` problems, or if
    `distinct` ones are equal.
    """
    frames, problems, seen = [], [], {}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        scans = pool.map(functools.partial(_scan, payloads=skip_corrupt > 0), paths)
        bar = tqdm.tqdm(scans, 'checking', len(paths), unit=' files', disable=None, delay=2)
        for path, (found, wrong, identity) in zip(paths, bar):
            if distinct and len(found) and identity in seen:
                raise UserError(
                    '%s and %s hold the same %d records; remove one of them'
                    % (seen[identity], path, len(found))
                )
            seen[identity] = path
            frames.append(found)
            problems += wrong
    if len(problems) > skip_corrupt:
        raise UserError(
            '%d corrupt records, more than --skip_corrupt %d allows; the first: %s'
            % (len(problems), skip_corrupt, problems[0])
            if skip_corrupt
            else _advice(problems[0])
        )
    for problem in problems:
        sys.stderr.write('warning: left out: %s\n' % problem)
    return frames


# ---- batches -------------------------------------------------------------------------------------


def steps_per_epoch(count: int, global_batch: int) -> int:
    """Full batches in an epoch; the remainder is dropped (other records each epoch). UserError if
    there is not even one.
    """
    if count < global_batch:
        raise UserError(
            'found %d training records, which do not fill one global batch of %d; lower'
            ' --batch_size or the number of devices' % (count, global_batch)
        )
    return count // global_batch


def splitmix64(state: np.ndarray) -> np.ndarray:
    """The output of the SplitMix64 generator (Steele et al. 2014) in each state, uint64 -> uint64:
    a good hash of counters.
    """
    with np.errstate(over='ignore'):
        mixed = np.asarray(state, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ mixed >> np.uint64(31)


def uniform(seed: int, epoch: int, ids: np.ndarray, columns: int) -> np.ndarray:
    """float32 [len(ids), columns] in [0, 1): a function of (seed, epoch, id, column) alone, not of
    batch, rank or devices.
    """
    key = splitmix64(splitmix64(np.uint64(seed)) ^ np.uint64(epoch))
    bits = splitmix64(
        splitmix64(key ^ np.asarray(ids, np.uint64))[:, None] ^ np.arange(columns, dtype=np.uint64)
    )
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def batches(
    folder: Folder,
    batch_size: int,
    *,
    training: bool,
    seed: int = 0,
    rank: int = 0,
    size: int = 1,
    start_step: int = 0,
    steps: Optional[int] = None,
    draws: int = 0,
):
    """A tf.data.Dataset of this rank's batches, B = batch_size records each, in the same order on
    every run.

    Elements: 'record' string [B], 'id' int64 [B], 'draws' float32 [B, draws] in [0, 1), 'mask'
    float32 [B].
    Training: step t, counted from the start of training, is batch t % steps_per_epoch of a
    permutation drawn from (seed, t // steps_per_epoch); it starts at `start_step` and ends after
    `steps` batches (None: never). Otherwise every record comes once, in order; ranks get equally
    many full batches, filled up with record 0 at mask 0. A global batch is cut into `size`
    contiguous parts, one a rank.
    """
    import tensorflow as tf

    if not 0 <= seed < 2**32:
        raise UserError('seed: found %d, legal are 0 to %d' % (seed, 2**32 - 1))
    global_batch = batch_size * size
    epoch_steps = (
        steps_per_epoch(folder.count, global_batch)
        if training
        else -(-folder.count // global_batch)
    )
    stop = np.iinfo(np.int64).max if training else epoch_steps
    stop = stop if steps is None else min(stop, start_step + steps)

    @functools.lru_cache(maxsize=2)  # read-ahead straddles two epochs
    def permutation(epoch: int) -> np.ndarray:
        return np.random.RandomState([seed, epoch]).permutation(folder.count)

    def load(step):
        epoch, index = divmod(int(step), epoch_steps)
        positions = np.arange(batch_size) + (index * global_batch + rank * batch_size)
        mask = positions < folder.count
        ids = permutation(epoch)[positions] if training else np.where(mask, positions, 0)
        return (
            np.array(folder.read(ids), object),
            ids,
            uniform(seed, epoch, ids, draws),
            mask.astype(np.float32),
        )

    def element(step):
        types = {'record': tf.string, 'id': tf.int64, 'draws': tf.float32, 'mask': tf.float32}
        tensors = dict(zip(types, tf.numpy_function(load, [step], list(types.values()))))
        for key, tensor in tensors.items():
            tensor.set_shape([batch_size, draws] if key == 'draws' else [batch_size])
        return tensors

    return (
        tf.data.Dataset.range(start_step, stop)
        .map(element, num_parallel_calls=_READ_AHEAD)
        .prefetch(2)
    )


def user_error(exception: BaseException) -> Optional[UserError]:
    """The UserError inside an exception: itself, or one that a reader raised and TensorFlow
    wrapped. None if there is not.
    """
    if isinstance(exception, UserError):
        return exception
    line = re.search(r'\bUserError: (.+)', str(exception))
    if line:
        return UserError(line.group(1))
    feature = re.search(
        r"Key: ([^\s.,]+).*(?:Data types don't match|Can't parse|Number of \S+ values)",
        str(exception),
    )
    return feature and UserError(
        "--data_path: the records' feature %s is of another type or number than this model's; they"
        " are another model's, or written by another program" % feature.group(1)
    )
