"""The official CIFAR archives (https://www.cs.toronto.edu/~kriz/cifar.html), in their python and
binary forms, packed or unpacked.
"""

import io
import pathlib
import pickle
from typing import Dict, List, NamedTuple, Tuple

import numpy as np

from common.data import preparation
from common.errors import UserError, first_few
from common.files import checksum

CLASSES = {'cifar10': 10, 'cifar100': 100}
SUPERCLASSES = {'cifar10': 1, 'cifar100': 20}


class Layout(NamedTuple):
    """One official archive: its file name and MD5, the folder inside, and the files in that."""

    dataset: str
    archive: str
    md5: str
    folder: str
    train: List[str]
    test: str
    names: str

    @property
    def files(self) -> List[str]:
        return self.train + [self.test, self.names]

    @property
    def is_binary(self) -> bool:
        return self.test.endswith('.bin')


LAYOUTS = [
    Layout(
        'cifar10',
        'cifar-10-python.tar.gz',
        'c58f30108f718f92721af3b95e74349a',
        'cifar-10-batches-py',
        ['data_batch_%d' % i for i in range(1, 6)],
        'test_batch',
        'batches.meta',
    ),
    Layout(
        'cifar10',
        'cifar-10-binary.tar.gz',
        'c32a1d4ab5d03f1284b67883e8d87530',
        'cifar-10-batches-bin',
        ['data_batch_%d.bin' % i for i in range(1, 6)],
        'test_batch.bin',
        'batches.meta.txt',
    ),
    Layout(
        'cifar100',
        'cifar-100-python.tar.gz',
        'eb9058c3a382ffc7106e4002c42a8d85',
        'cifar-100-python',
        ['train'],
        'test',
        'meta',
    ),
    Layout(
        'cifar100',
        'cifar-100-binary.tar.gz',
        '03b5dce01913d631647c71ecec9e9cb8',
        'cifar-100-binary',
        ['train.bin'],
        'test.bin',
        'fine_label_names.txt',
    ),
]


# ---- finding and reading the archive -------------------------------------------------------------


def read(source: pathlib.Path, dataset: str, verify: bool) -> Tuple[Layout, str, Dict[str, bytes]]:
    """Returns the layout of the data set at `source` or in it, where it is, and {name: content} of
    those of its files that are there. verify: checks an archive's MD5.
    """
    if source.is_file():
        return read_archive(source, dataset, verify)
    if not source.is_dir():
        raise UserError(
            '--source %s: no such file or folder; name the archive, or the folder that holds it'
            % source
        )
    layouts = [layout for layout in LAYOUTS if layout.dataset == dataset]
    for layout in layouts:
        if (source / layout.archive).is_file():
            return read_archive(source / layout.archive, dataset, verify)
    for layout in layouts:
        for folder in (source, source / layout.folder):
            present = [name for name in layout.files if (folder / name).is_file()]
            if set(present) & set(layout.train):
                return layout, str(folder), {name: (folder / name).read_bytes() for name in present}
    archives, folders = zip(*((layout.archive, layout.folder) for layout in layouts))
    raise UserError(
        '--source %s: holds no %s; put %s there, or the folder %s'
        % (source, dataset, ' or '.join(archives), ' or '.join(folders))
    )


def read_archive(
    path: pathlib.Path, dataset: str, verify: bool
) -> Tuple[Layout, str, Dict[str, bytes]]:
    """As `read`, of a packed archive; UserError if it is damaged or another one."""
    if verify:
        _check_md5(path, dataset)
    folders = {layout.folder: layout for layout in LAYOUTS}
    contents: Dict[str, Dict[str, bytes]] = {}
    with preparation.open_tar(path) as archive:
        for member in preparation.archive_files(archive):
            member_path = pathlib.PurePosixPath(member.name)
            layout = folders.get(member_path.parent.name)
            if layout and member_path.name in layout.files:
                content = archive.extractfile(member).read()
                contents.setdefault(layout.archive, {})[member_path.name] = content
    matches = [layout for layout in LAYOUTS if layout.archive in contents]
    if len(matches) != 1 or matches[0].dataset != dataset:
        raise UserError(
            '%s: holds %s, --dataset says %s; name the archive of that data set alone'
            % (
                path,
                ' and '.join(layout.folder for layout in matches) or 'no CIFAR archive',
                dataset,
            )
        )
    return matches[0], str(path), contents[matches[0].archive]


def _check_md5(path: pathlib.Path, dataset: str) -> None:
    md5 = checksum(path, 'md5')
    if md5 not in {layout.md5 for layout in LAYOUTS}:
        expected = [layout.md5 for layout in LAYOUTS if layout.archive == path.name]
        expected = expected or [layout.md5 for layout in LAYOUTS if layout.dataset == dataset]
        raise UserError(
            '%s: found MD5 %s (%d bytes), expected %s; download it again, or accept it with'
            ' --no_verify' % (path, md5, path.stat().st_size, ' or '.join(expected))
        )


# ---- decoding ------------------------------------------------------------------------------------


class _Type:
    """Stands in for numpy.dtype while unpickling."""

    def __init__(self, name, *_):
        self.name = name.decode() if isinstance(name, bytes) else name

    def __setstate__(self, state):
        self.name = (state[1].decode() if isinstance(state[1], bytes) else state[1]) + self.name


class _Array:
    """Stands in for numpy.ndarray while unpickling: its state becomes `array`, of numbers only."""

    def __init__(self, *_):
        self.array = None

    def __setstate__(self, state):
        _, shape, kind, is_fortran, content = state
        if np.dtype(kind.name).kind not in 'biuf':
            raise pickle.UnpicklingError('it holds an array of %s' % kind.name)
        order = 'F' if is_fortran else 'C'
        self.array = np.frombuffer(content, kind.name).reshape(shape, order=order)


class _Unpickler(pickle.Unpickler):
    """Builds arrays of numbers and plain containers only: an archive must not run code."""

    def find_class(self, module, name):
        target = (module.replace('numpy._core', 'numpy.core'), name)
        if target in (('numpy.core.multiarray', '_reconstruct'), ('numpy', 'ndarray')):
            return _Array
        if target == ('numpy', 'dtype'):
            return _Type
        if target == ('_codecs', 'encode'):  # how Python 3 spells bytes in protocol 2
            return lambda text, encoding: text.encode('latin1')
        raise pickle.UnpicklingError('it asks for %s.%s' % (module, name))


def _unpickle(content: bytes, label: str) -> Dict[str, object]:
    """A python archive's dict, keys as str; UserError for another pickle."""
    try:
        loaded = _Unpickler(io.BytesIO(content), encoding='bytes').load()
        return {
            key.decode() if isinstance(key, bytes) else key: (
                value.array if isinstance(value, _Array) else value
            )
            for key, value in loaded.items()
        }
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(
            '%s: not a CIFAR file in python form (%s: %s)' % (label, type(error).__name__, error)
        )


def decode(content: bytes, layout: Layout, label: str) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns images uint8 [n,32,32,3], fine labels [n] and coarse labels [n] (zeros for CIFAR-10)
    of a data file, which errors call `label`.
    """
    planes, fine, coarse = (_binary if layout.is_binary else _python)(content, layout, label)
    for labels, count in ((fine, CLASSES[layout.dataset]), (coarse, SUPERCLASSES[layout.dataset])):
        is_number = labels.dtype.kind in 'iu'
        illegal = labels[(labels < 0) | (labels >= count)] if is_number else labels
        if len(illegal):
            raise UserError(
                '%s: found label %s, legal are 0 to %d' % (label, illegal[0], count - 1)
            )
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), fine, coarse


def _binary(
    content: bytes, layout: Layout, label: str
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    has_coarse = layout.dataset == 'cifar100'  # coarse and fine label
    width = 3074 if has_coarse else 3073
    if len(content) % width or not content:
        raise UserError(
            '%s: found %d bytes, not a multiple of the %d of a record; download it again'
            % (label, len(content), width)
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, width)
    return rows[:, -3072:], rows[:, -3073], rows[:, 0] * has_coarse


def _python(
    content: bytes, layout: Layout, label: str
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    has_coarse = layout.dataset == 'cifar100'
    loaded = _unpickle(content, label)
    try:
        planes = np.asarray(loaded['data'])
        fine = np.asarray(loaded['fine_labels' if has_coarse else 'labels'])
        coarse = np.asarray(loaded['coarse_labels']) if has_coarse else np.zeros_like(fine)
    except KeyError as error:
        raise UserError(
            '%s: lacks the key %s; found %s' % (label, error, first_few(map(str, loaded)))
        )
    is_valid = planes.dtype == np.uint8 and fine.ndim == 1 and fine.shape == coarse.shape
    if not is_valid or planes.shape != (len(fine), 3072):
        raise UserError(
            '%s: found data %s %s and %d labels, expected uint8 (n, 3072) and n labels'
            % (label, planes.dtype, planes.shape, fine.size)
        )
    return planes, fine, coarse


def class_names(content: bytes, layout: Layout, label: str) -> List[str]:
    """Returns the names of the (fine) classes by the content of layout.names."""
    if layout.is_binary:
        names = content.decode('utf-8', 'replace').split()
    else:
        key = 'fine_label_names' if layout.dataset == 'cifar100' else 'label_names'
        listed = _unpickle(content, label).get(key, [])
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in listed]
    expected = CLASSES[layout.dataset]
    if len(names) != expected:
        raise UserError('%s: found %d class names, expected %d' % (label, len(names), expected))
    return names
