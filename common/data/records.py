"""Folders of TFRecords: validated when they are opened, read by record number, so that step t reads
the records that (seed, epoch) determine, whatever ran before.

A folder that common/data/record_writer.py wrote also holds `dataset.json` (what it is) and
`index.npy` (where each record starts, so that a million of them open at once); a folder without
them is scanned.
"""

import hashlib
import itertools
import os
import pathlib
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from common.data import scanning, tfrecord
from common.errors import UserError, first_few, warn
from common.files import read_json

FORMAT_VERSION = 1
_OPTIONAL = {'name': str, 'split': str, 'classes': list, 'label_offset': int}  # in dataset.json
_REDO = 'remove the folder and prepare it again'


def split_path(data_path, split: str) -> pathlib.Path:
    """Returns data_path/<split> if there is one, else data_path, as the published ports give it."""
    path = pathlib.Path(data_path)
    return path / split if has_split(path, split) else path


def has_split(data_path, split: str) -> bool:
    """Returns whether there is a folder data_path/<split>."""
    return (pathlib.Path(data_path) / split).is_dir()


def open_split(data_path, split: str, skip_corrupt: int = 0) -> 'Folder':
    """Opens the records of a split. UserError if the folder of that name holds another split by its
    dataset.json, a warning if --data_path is a folder of another split.
    """
    folder = Folder.open(split_path(data_path, split), skip_corrupt)
    stated = folder.metadata.get('split', split)
    if stated != split and has_split(data_path, split):
        raise UserError(
            '%s: its dataset.json says that it is the split %s; put the records of %s there'
            % (folder.path, stated, split)
        )
    if stated != split:
        warn('%s: these are the records of %s, used as %s' % (folder.path, stated, split))
    return folder


def steps_per_epoch(count: int, global_batch: int) -> int:
    """Returns the full batches in an epoch, which drops the rest; UserError if there is none."""
    if count < global_batch:
        raise UserError(
            'found %d training records, which do not fill one global batch of %d; lower'
            ' --batch_size or the number of devices' % (count, global_batch)
        )
    return count // global_batch


class Folder:
    """A validated folder of TFRecords, or one such file; records are numbered through its files.

    path; metadata: the content of dataset.json, {} without one; files: in dataset.json's order,
    else in the natural order of their names; count: of records, without corrupt ones left out.
    """

    def __init__(
        self,
        path: pathlib.Path,
        metadata: Dict,
        files: List[pathlib.Path],
        frames: List[np.ndarray],
    ):
        self.path, self.metadata, self.files = path, metadata, files
        self._file = np.repeat(np.arange(len(files)), [len(part) for part in frames])
        self._start, self._length = np.concatenate(frames).T
        self.count = len(self._start)

    @classmethod
    def open(cls, path, skip_corrupt: int = 0) -> 'Folder':
        """Opens and checks a folder; UserError if something is wrong with it.

        With skip_corrupt > 0 every byte is checked now and up to that many corrupt records are left
        out, with a warning each; without it payloads are checked as they are read.
        """
        path = pathlib.Path(path)
        try:
            return cls._open(path, skip_corrupt)
        except OSError as error:
            raise UserError('%s could not be read: %s' % (path, error))

    @classmethod
    def _open(cls, path: pathlib.Path, skip_corrupt: int) -> 'Folder':
        if not path.is_dir() and not (path.is_file() and tfrecord.is_record_file(path)):
            raise UserError(
                '%s: %s; name the folder that holds the TFRecords, or one TFRecord file'
                % (path, 'is not a TFRecord' if path.exists() else 'no such folder')
            )
        metadata = _metadata(path)
        files = [path / shard['file'] for shard in metadata.get('shards', [])]
        if not files:
            files = [path] if path.is_file() else tfrecord.find(path)
        _warn_unused(path, files)
        if metadata and not skip_corrupt and (path / 'index.npy').exists():
            frames = _load_index(path / 'index.npy', metadata['shards'])
        else:
            frames = scanning.scan(files, skip_corrupt, distinct=not metadata)
        count = sum(map(len, frames))
        # A scan that meets a damaged length cannot tell how many records are lost with it.
        if metadata and not 0 <= metadata['count'] - count <= skip_corrupt:
            problem = 'found %d records, dataset.json says %d' % (count, metadata['count'])
            raise UserError('%s: %s, --skip_corrupt %d; %s' % (path, problem, skip_corrupt, _REDO))
        if not count:
            raise UserError('%s: holds no readable record' % path)
        return cls(path, metadata, files, frames)

    def read(self, ids: Sequence[int]) -> List[bytes]:
        """Returns the payloads of the records `ids` (0..count-1, any order, repeats too); UserError
        if one is corrupt. Thread safe.
        """
        ids = np.asarray(ids, np.int64)
        numbers = self._file[ids].tolist()
        payloads = [b''] * len(ids)
        # Opened for each call, in microseconds: a thousand open files exceed the usual limit.
        order = np.argsort(ids, kind='stable').tolist()
        for number, group in itertools.groupby(order, key=numbers.__getitem__):
            try:
                with open(self.files[number], 'rb', buffering=0) as source:
                    for i in group:
                        payloads[i] = self._payload(source.fileno(), ids[i])
            except OSError as error:
                raise UserError('%s could not be read: %s' % (self.files[number], error))
        return payloads

    def _payload(self, descriptor: int, id: int) -> bytes:
        start, length = int(self._start[id]), int(self._length[id])
        size = tfrecord.HEADER + length + tfrecord.FOOTER
        frame = os.pread(descriptor, size, start)
        payload = frame[tfrecord.HEADER : -tfrecord.FOOTER]
        stored = frame[: tfrecord.HEADER], frame[-tfrecord.FOOTER :]
        if stored != (tfrecord.header(length), tfrecord.checksum(payload)):
            file = self.files[self._file[id]]
            raise UserError(
                tfrecord.describe_corrupt(file, start, size, tfrecord.BAD_CONTENT) + scanning.SKIP
            )
        return payload

    def content(self) -> str:
        """Returns a digest of the records' stored checksums, which change with any byte of them."""
        digest, footers = hashlib.sha256(), self._start + tfrecord.HEADER + self._length
        for number, ids in itertools.groupby(range(self.count), key=self._file.__getitem__):
            with open(self.files[number], 'rb', buffering=0) as source:
                for id in ids:
                    digest.update(os.pread(source.fileno(), tfrecord.FOOTER, int(footers[id])))
        return digest.hexdigest()

    def examples(self, ids: Sequence[int], kinds: Dict[str, type]) -> List[Dict[str, Any]]:
        """Returns the features `kinds` of the records `ids`, see tfrecord.parse_example. UserError
        names a record that is corrupt or has other features.
        """
        examples = []
        for id, payload in zip(ids, self.read(ids)):
            try:
                examples.append(tfrecord.parse_example(payload, kinds))
            except ValueError as error:
                raise self.record_error(id, error)
        return examples

    def location(self, id: int) -> Tuple[pathlib.Path, int]:
        """Returns the file of a record and the byte at which it starts."""
        return self.files[self._file[id]], int(self._start[id])

    def record_error(self, id: int, why: Any, name: str = '') -> UserError:
        """Returns the error for a record that cannot be used."""
        file, start = self.location(id)
        name = name and ' (%s)' % name
        return UserError('%s: record %d at byte %d%s: %s' % (file, id, start, name, why))


def user_error(exception: BaseException) -> Optional[UserError]:
    """Returns the UserError inside an exception: itself, or a reader's, of which TensorFlow keeps
    the text; None if there is none.
    """
    if isinstance(exception, UserError):
        return exception
    line = re.search(r'\bUserError: (.+)', str(exception))
    return UserError(line.group(1)) if line else None


# ---- opening -------------------------------------------------------------------------------------


def _metadata(path: pathlib.Path) -> Dict:
    """dataset.json's content, {} without one; UserError if it is not ours or has other shards."""
    file = path / 'dataset.json'
    if not file.exists():
        return {}
    try:
        metadata = read_json(file)
        version, count = metadata['format_version'], metadata['count']
        shards = {
            _typed(shard, 'file', str): (_typed(shard, 'bytes', int), _typed(shard, 'records', int))
            for shard in _typed(metadata, 'shards', list)
        }
        for key, kind in _OPTIONAL.items():
            if key in metadata:
                _typed(metadata, key, kind)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            '%s: not a description of a dataset (%s: %s); restore it, or remove it to read the'
            ' records as they are' % (file, type(error).__name__, error)
        )
    problem = ''
    if version != FORMAT_VERSION:
        problem = 'format_version %r, legal is %d' % (version, FORMAT_VERSION)
    elif len(shards) < len(metadata['shards']):
        problem = 'a shard that is listed twice'
    elif not shards or count != sum(records for _, records in shards.values()):
        problem = 'count %r, which is not the sum of its shards' % count
    if problem:
        raise UserError('%s: found %s; %s' % (file, problem, _REDO))
    _check_shards(path, {name: size for name, (size, _) in shards.items()})
    return metadata


def _typed(content: Dict, key: str, kind: Any) -> Any:
    """content[key]. TypeError or ValueError if it is not what the writer gives."""
    value = content[key]
    if type(value) is not kind:
        raise TypeError('%s is %r, expected %s' % (key, value, kind.__name__))
    if (
        (kind is int and value < 0)
        or (key == 'file' and (pathlib.PurePath(value).name != value or '\0' in value))
        or (key == 'classes' and set(map(type, value)) - {str})
    ):
        raise ValueError('%s is %r' % (key, value))
    return value


def _check_shards(path: pathlib.Path, sizes: Dict[str, int]) -> None:
    missing = [name for name in sizes if not (path / name).is_file()]
    if missing:
        raise UserError(
            '%s: %d of its files are missing: %s; copy them here, or %s'
            % (path / 'dataset.json', len(missing), first_few(missing), _REDO)
        )
    for name, expected in sizes.items():
        size = (path / name).stat().st_size
        if size != expected:
            raise UserError(
                '%s: found %d bytes, dataset.json says %d (an incomplete copy?); copy it again,'
                ' or %s' % (path / name, size, expected, _REDO)
            )


def _warn_unused(path: pathlib.Path, used: List[pathlib.Path]) -> None:
    present = set(os.listdir(path)) if path.is_dir() else set()
    unused = present - {file.name for file in used} - {'dataset.json', 'index.npy'}
    if unused:
        warn(
            '%s: not used, as they are not TFRecords of this dataset: %s'
            % (path, first_few(unused))
        )


def _load_index(file: pathlib.Path, shards: List[Dict]) -> List[np.ndarray]:
    """[records, 2] (start, length) for each shard, from the stored starts."""
    fix = 'remove it and the records are scanned instead'
    try:
        starts = np.asarray(np.load(file))
    except Exception as error:  # a damaged file raises nearly anything
        raise UserError('%s: not readable (%s); %s' % (file, type(error).__name__, fix))
    ends = np.cumsum([shard['records'] for shard in shards])
    if starts.dtype == np.int64 and starts.shape == (ends[-1],):
        frames = []
        for start, shard in zip(np.split(starts, ends[:-1]), shards):
            lengths = np.diff(start, append=shard['bytes']) - tfrecord.HEADER - tfrecord.FOOTER
            frames.append(np.stack([start, lengths], axis=1))
        if all((frame >= 0).all() for frame in frames):
            return frames
    raise UserError('%s: does not belong to dataset.json; %s' % (file, fix))
