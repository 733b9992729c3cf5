"""CIFAR-10, CIFAR-100 or the bundled handwritten digits -> TFRecords in OUTPUT/train and
OUTPUT/test.

    python -m wideresnet_tf.prepare_cifar --dataset cifar100 --source cifar-100-python.tar.gz
    --output data/cifar100

Reads the official archives (https://www.cs.toronto.edu/~kriz/cifar.html) in their python and binary
forms, packed or unpacked; a packed one is checked against its published MD5. Both forms give the
same records, in the schema of the published
port: `image` 3072 raw uint8 bytes (height, width, RGB), `fine_label` int64, `coarse_label` int64.
CIFAR-10 and the digits have one kind of label: it is `fine_label`, and `coarse_label` is 0.

`digits` needs no download: scikit-learn's 1797 scanned digits of 8x8, enlarged to 32x32x3, 1437 to
train and 360 to test on. They are written in the official CIFAR-10 binary layout first and take the
same way as CIFAR from there.
"""

import argparse
import hashlib
import io
import pathlib
import pickle
import sys
import tarfile
import tempfile
import zlib
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np

if not __package__:  # run as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common.data import digits, record_writer, records  # noqa: E402
from common.errors import UserError, entry_point  # noqa: E402


class Form(NamedTuple):
    """One official archive: its file name and MD5, the folder inside, and the files in that folder."""

    dataset: str
    archive: str
    md5: str
    folder: str
    train: List[str]
    test: str
    names: str  # the file with the class names


FORMS = [
    Form(
        'cifar10',
        'cifar-10-python.tar.gz',
        'c58f30108f718f92721af3b95e74349a',
        'cifar-10-batches-py',
        ['data_batch_%d' % i for i in range(1, 6)],
        'test_batch',
        'batches.meta',
    ),
    Form(
        'cifar10',
        'cifar-10-binary.tar.gz',
        'c32a1d4ab5d03f1284b67883e8d87530',
        'cifar-10-batches-bin',
        ['data_batch_%d.bin' % i for i in range(1, 6)],
        'test_batch.bin',
        'batches.meta.txt',
    ),
    Form(
        'cifar100',
        'cifar-100-python.tar.gz',
        'eb9058c3a382ffc7106e4002c42a8d85',
        'cifar-100-python',
        ['train'],
        'test',
        'meta',
    ),
    Form(
        'cifar100',
        'cifar-100-binary.tar.gz',
        '03b5dce01913d631647c71ecec9e9cb8',
        'cifar-100-binary',
        ['train.bin'],
        'test.bin',
        'fine_label_names.txt',
    ),
]
CLASSES = {'cifar10': 10, 'cifar100': 100, 'digits': 10}
COUNTS = {
    'cifar10': (50000, 10000),
    'cifar100': (50000, 10000),
    'digits': (digits.TRAIN, digits.TEST),
}
SCHEMA = {
    'image': {'kind': 'bytes', 'dtype': 'uint8', 'shape': [32, 32, 3]},
    'fine_label': {'kind': 'int64', 'dtype': 'int64', 'shape': []},
    'coarse_label': {'kind': 'int64', 'dtype': 'int64', 'shape': []},
}


# ---- finding and reading the archive -------------------------------------------------------------


def find_source(source: pathlib.Path, dataset: str) -> Tuple[pathlib.Path, Optional[Form]]:
    """The archive (its form is known once it is read: None) or the unpacked folder and its form, at
    `source` or in it.
    """
    if source.is_file():
        return source, None
    if not source.is_dir():
        raise UserError(
            '--source %s: no such file or folder; name the archive, or the folder that holds it'
            % source
        )
    forms = [form for form in FORMS if form.dataset == dataset]
    for form in forms:
        if (source / form.archive).is_file():
            return source / form.archive, None
    for form in forms:
        for folder in (source, source / form.folder):
            if any((folder / name).is_file() for name in form.train):
                return folder, form
    raise UserError(
        '--source %s: holds no %s; put %s there, or the folder %s'
        % (
            source,
            dataset,
            ' or '.join(form.archive for form in forms),
            ' or '.join(form.folder for form in forms),
        )
    )


def read_archive(path: pathlib.Path, dataset: str, verify: bool) -> Tuple[Form, Dict[str, bytes]]:
    """The form of a packed archive and its files (name -> content); nothing is unpacked to disk.
    UserError if damaged.
    """
    digest = hashlib.md5()
    with open(str(path), 'rb') as archive:
        for block in iter(lambda: archive.read(1 << 20), b''):
            digest.update(block)
    expected = {form.md5: form for form in FORMS}
    if verify and digest.hexdigest() not in expected:
        named = [form.md5 for form in FORMS if form.archive == path.name] or [
            form.md5 for form in FORMS if form.dataset == dataset
        ]
        raise UserError(
            '%s: found MD5 %s (%d bytes), expected %s; download it again, or use it as it is with'
            ' --no_verify' % (path, digest.hexdigest(), path.stat().st_size, ' or '.join(named))
        )
    wanted = {
        (form.folder, name): form for form in FORMS for name in form.train + [form.test, form.names]
    }
    contents, forms = {}, set()
    try:
        with tarfile.open(str(path)) as archive:
            for member in archive:
                place = tuple(pathlib.PurePosixPath(member.name).parts[-2:])
                if member.isfile() and place in wanted:
                    forms.add(wanted[place].archive)
                    contents[place[1]] = archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError('%s: not a readable tar archive (%s); download it again' % (path, error))
    found = [form for form in FORMS if form.archive in forms]
    if len(found) != 1 or found[0].dataset != dataset:
        raise UserError(
            '%s: holds %s, --dataset says %s'
            % (path, ' and '.join(form.dataset for form in found) or 'no CIFAR archive', dataset)
        )
    return found[0], contents


def read_folder(path: pathlib.Path, form: Form) -> Dict[str, bytes]:
    """The files of an unpacked archive, those that are there (name -> content)."""
    return {
        name: (path / name).read_bytes()
        for name in form.train + [form.test, form.names]
        if (path / name).is_file()
    }


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
        self.array = np.frombuffer(content, kind.name).reshape(
            shape, order='F' if is_fortran else 'C'
        )


class _Unpickler(pickle.Unpickler):
    """Builds arrays of numbers and plain containers only: an archive from elsewhere must not run
    code.
    """

    def find_class(self, module, name):
        place = (module.replace('numpy._core', 'numpy.core'), name)
        if place in (('numpy.core.multiarray', '_reconstruct'), ('numpy', 'ndarray')):
            return _Array
        if place == ('numpy', 'dtype'):
            return _Type
        if place == ('_codecs', 'encode'):  # how Python 3 spells bytes in protocol 2
            return lambda text, encoding: text.encode('latin1')
        raise pickle.UnpicklingError('it asks for %s.%s' % (module, name))


def unpickle(content: bytes, label: str) -> Dict[str, object]:
    """A python archive's dict, keys as str. UserError if it is anything but a pickled dict of
    arrays and containers.
    """
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


def decode(content: bytes, form: Form, label: str) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One data file -> images uint8 [n, 32, 32, 3], fine labels [n], coarse labels [n] (zeros for
    CIFAR-10).
    """
    two = form.dataset == 'cifar100'
    if form.test.endswith('.bin'):
        width = 3074 if two else 3073
        if len(content) % width or not content:
            raise UserError(
                '%s: found %d bytes, not a multiple of the %d of one record; it is cut off or'
                ' another file' % (label, len(content), width)
            )
        rows = np.frombuffer(content, np.uint8).reshape(-1, width)
        planes, fine, coarse = rows[:, -3072:], rows[:, width - 3073], rows[:, 0] * two
    else:
        loaded = unpickle(content, label)
        try:
            planes = np.asarray(loaded['data'])
            fine = np.asarray(loaded['fine_labels' if two else 'labels'])
            coarse = np.asarray(loaded['coarse_labels']) if two else np.zeros_like(fine)
        except KeyError as error:
            raise UserError(
                '%s: lacks the key %s; found %s' % (label, error, ', '.join(map(str, loaded)))
            )
        if (
            planes.dtype != np.uint8
            or planes.shape != (len(fine), 3072)
            or fine.shape != coarse.shape
        ):
            raise UserError(
                '%s: found data %s %s and %d labels, expected uint8 (n, 3072) and n labels'
                % (label, planes.dtype, planes.shape, len(fine))
            )
    classes = CLASSES[form.dataset]
    for labels, legal in ((fine, classes), (coarse, 20 if two else 1)):
        wrong = (
            labels if labels.dtype.kind not in 'iu' else labels[(labels < 0) | (labels >= legal)]
        )
        if len(wrong):
            raise UserError('%s: found label %s, legal are 0 to %d' % (label, wrong[0], legal - 1))
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), fine, coarse


def class_names(content: bytes, form: Form, label: str) -> List[str]:
    """The names of the (fine) classes."""
    if form.names.endswith('.txt'):
        names = content.decode('utf-8', 'replace').split()
    else:
        loaded = unpickle(content, label).get(
            'fine_label_names' if form.dataset == 'cifar100' else 'label_names', []
        )
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in loaded]
    if len(names) != CLASSES[form.dataset]:
        raise UserError(
            '%s: found %d class names, expected %d' % (label, len(names), CLASSES[form.dataset])
        )
    return names


# ---- digits --------------------------------------------------------------------------------------


def write_digits(folder: pathlib.Path) -> None:
    """Writes scikit-learn's digits as `folder`/data_batch_1..5.bin, test_batch.bin and
    batches.meta.txt, all three planes the same.
    """
    splits = digits.load(32)
    train, test = (
        [bytes([label]) + 3 * image.tobytes() for image, label in zip(*splits[split])]
        for split in ('train', 'test')
    )
    folder.mkdir(parents=True)
    for i in range(5):
        (folder / ('data_batch_%d.bin' % (i + 1))).write_bytes(
            b''.join(train[len(train) * i // 5 : len(train) * (i + 1) // 5])
        )
    (folder / 'test_batch.bin').write_bytes(b''.join(test))
    (folder / 'batches.meta.txt').write_text(''.join('%d\n' % name for name in range(10)))


# ---- the command ---------------------------------------------------------------------------------


def encode(item: Tuple[bytes, int, int]) -> Dict[str, object]:
    """(image, fine label, coarse label) -> the features of a record."""
    return {'image': item[0], 'fine_label': item[1], 'coarse_label': item[2]}


def load_splits(
    source: pathlib.Path, dataset: str, verify: bool
) -> Tuple[Dict[str, List], List[str]]:
    """Items for `encode` of the splits 'train' and 'test', and the class names."""
    path, form = find_source(source, dataset)
    form, contents = (
        (form, read_folder(path, form)) if form else read_archive(path, dataset, verify)
    )
    needed = (form.train if verify else []) + [form.test, form.names]
    absent = [name for name in needed if name not in contents]
    if absent:
        raise UserError('%s: lacks %s; unpack or download it again' % (path, ', '.join(absent)))
    splits = {}
    for split, names in (('train', form.train), ('test', [form.test])):
        splits[split] = [
            (image.tobytes(), int(fine), int(coarse))
            for name in names
            if name in contents
            for image, fine, coarse in zip(*decode(contents[name], form, '%s: %s' % (path, name)))
        ]
    return splits, class_names(contents[form.names], form, '%s: %s' % (path, form.names))


def finished(path: pathlib.Path, dataset: str, expected: Optional[int]) -> bool:
    """Whether `path` already holds this split, whole. UserError if it holds something else, or not
    `expected` records.
    """
    if not path.is_dir() or not any(path.iterdir()):
        return False
    folder = records.Folder.open(path)
    if folder.metadata.get('name') != dataset or expected not in (None, folder.count):
        raise UserError(
            '%s: found %d records of %s, expected %s of %s; remove it or choose another --output'
            % (
                path,
                folder.count,
                folder.metadata.get('name', 'an unknown dataset'),
                expected or 'any number',
                dataset,
            )
        )
    return True


def prepare(
    dataset: str, source: Optional[pathlib.Path], output: pathlib.Path, verify: bool, shards: int
) -> None:
    """Writes output/train and output/test; what is already there stays."""
    expected = dict(zip(('train', 'test'), COUNTS[dataset] if verify else (None, None)))
    todo = [split for split in expected if not finished(output / split, dataset, expected[split])]
    if not todo:
        sys.stderr.write('%s: %s is already there, nothing to do\n' % (output, dataset))
        return
    if dataset == 'digits':
        with tempfile.TemporaryDirectory() as temporary:
            write_digits(pathlib.Path(temporary) / 'cifar-10-batches-bin')
            splits, classes = load_splits(pathlib.Path(temporary), 'cifar10', False)
    elif source is None:
        raise UserError(
            '--source is missing: name the %s archive, or the folder that holds it' % dataset
        )
    else:
        sys.stderr.write('reading %s\n' % source)
        try:
            splits, classes = load_splits(source, dataset, verify)
        except OSError as error:
            raise UserError('--source %s could not be read: %s' % (source, error))
    for split, count in expected.items():
        if count not in (None, len(splits[split])):
            raise UserError(
                '%s: found %d %s images, expected %d; use what is there with --no_verify'
                % (source, len(splits[split]), split, count)
            )
    for split in todo:
        # One process: sending an image to another costs more than encoding it.
        record_writer.write(
            output / split,
            splits[split],
            encode,
            name=dataset,
            split=split,
            schema=SCHEMA,
            classes=classes,
            shards=shards,
            workers=1,
        )


@entry_point
def main(arguments: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        prog='prepare_cifar', allow_abbrev=False, description=__doc__.split('\n\n')[0]
    )
    parser.add_argument('--dataset', required=True, choices=sorted(COUNTS))
    parser.add_argument(
        '--source',
        type=pathlib.Path,
        help='the archive, or the folder that holds it (packed or not)',
    )
    parser.add_argument(
        '--output', required=True, type=pathlib.Path, help='folder to make train/ and test/ in'
    )
    parser.add_argument(
        '--no_verify', action='store_true', help='accept another MD5, number of files or of images'
    )
    parser.add_argument('--shards', type=int, default=10, help='files a split (default: 10)')
    flags = parser.parse_args(arguments)
    prepare(flags.dataset, flags.source, flags.output, not flags.no_verify, flags.shards)


if __name__ == '__main__':
    main()
