"""CIFAR-10, CIFAR-100 or the bundled handwritten digits -> TFRecords in OUTPUT/train and
OUTPUT/test.

    python -m wideresnet_tf.prepare_cifar --dataset cifar100 --source cifar-100-python.tar.gz
    --output data/cifar100

Reads the official archives in their python and binary forms, packed or unpacked; a packed one is
checked against its published MD5. Both forms give the same records, in the schema of the published
port: `image` 3072 raw uint8 bytes (height, width, RGB), `fine_label` int64, `coarse_label` int64.
CIFAR-10 and the digits have one kind of label: it is `fine_label`, and `coarse_label` is 0.

`digits` needs no download: scikit-learn's 1797 scanned digits of 8x8, enlarged to 32x32x3, 1437 to
train and 360 to test on.
"""

import pathlib
import sys
from typing import Dict, List, Optional, Tuple

if not __package__:  # run as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common.data import digits, preparation, record_writer, records  # noqa: E402
from common.errors import UserError, entry_point  # noqa: E402
from wideresnet_tf import cifar  # noqa: E402

COUNTS = {
    'cifar10': {'train': 50000, 'test': 10000},
    'cifar100': {'train': 50000, 'test': 10000},
    'digits': {'train': digits.TRAIN, 'test': digits.TEST},
}
SCHEMA = {
    'image': {'kind': 'bytes', 'dtype': 'uint8', 'shape': [32, 32, 3]},
    'fine_label': {'kind': 'int64', 'dtype': 'int64', 'shape': []},
    'coarse_label': {'kind': 'int64', 'dtype': 'int64', 'shape': []},
}
Item = Tuple[bytes, int, int]  # image, fine label, coarse label


def encode(item: Item) -> Dict[str, object]:
    """Returns the features of a record."""
    return {'image': item[0], 'fine_label': item[1], 'coarse_label': item[2]}


def load_digits() -> Tuple[Dict[str, List[Item]], List[str]]:
    """Returns the items of both splits, all three colours the same, and the class names."""
    splits = {
        split: [(image.repeat(3).tobytes(), int(label), 0) for image, label in zip(*content)]
        for split, content in digits.load(32).items()
    }
    return splits, [str(name) for name in range(10)]


def load_cifar(flags) -> Tuple[Dict[str, List[Item]], List[str]]:
    """Returns the items of both splits, and the class names. UserError if the archive is not
    complete, unless --allow_partial leaves out parts of the training images.
    """
    form, place, contents = cifar.read(flags.source, flags.dataset, not flags.no_verify)
    absent = [name for name in form.files if name not in contents]
    if absent:
        problem = '%s: lacks %s' % (place, ', '.join(absent))
        if not flags.allow_partial or not set(absent) < set(form.train):
            hint = '; unpack or download it again'
            if set(absent) < set(form.train):
                hint += ', or use what is there with --allow_partial'
            raise UserError(problem + hint)
        sys.stderr.write('warning: %s\n' % problem)
    splits = {}
    for split, names in (('train', form.train), ('test', [form.test])):
        splits[split] = [
            (image.tobytes(), int(fine), int(coarse))
            for name in names
            if name in contents
            for image, fine, coarse in zip(
                *cifar.decode(contents[name], form, '%s: %s' % (place, name))
            )
        ]
    label = '%s: %s' % (place, form.names)
    return splits, cifar.class_names(contents[form.names], form, label)


def prepared(path: pathlib.Path, dataset: str, count: Optional[int]) -> bool:
    """Whether the split was prepared before. UserError if something else, or not `count` records
    (None: any number), is in its place.
    """

    def fits(folder: records.Folder) -> bool:
        return folder.metadata.get('name') == dataset and count in (None, folder.count)

    expected = '%s of %s' % (count or 'any number', dataset)
    return preparation.earlier(path, fits, expected) is not None


def check_counts(flags, splits: Dict[str, List[Item]]) -> None:
    """UserError, or a warning if the user accepts any number, for a split of another size."""
    for split, expected in COUNTS[flags.dataset].items():
        if len(splits[split]) != expected:
            problem = '%s: found %d %s images, expected %d' % (
                flags.source,
                len(splits[split]),
                split,
                expected,
            )
            if not (flags.no_verify or flags.allow_partial):
                raise UserError(problem + '; use what is there with --no_verify')
            sys.stderr.write('warning: %s\n' % problem)


def prepare(flags) -> None:
    """Writes output/train and output/test; what is already there stays."""
    any_number = flags.no_verify or flags.allow_partial
    todo = [
        split
        for split, count in COUNTS[flags.dataset].items()
        if not prepared(flags.output / split, flags.dataset, None if any_number else count)
    ]
    if not todo:
        return
    if flags.dataset == 'digits':
        splits, classes = load_digits()
    elif flags.source is None:
        raise UserError(
            '--source is missing: name the %s archive, or the folder that holds it' % flags.dataset
        )
    else:
        sys.stderr.write('reading %s\n' % flags.source)
        try:
            splits, classes = load_cifar(flags)
        except OSError as error:
            raise UserError('--source %s could not be read: %s' % (flags.source, error))
        check_counts(flags, splits)
    for split in todo:
        # One process: sending an image to another costs more than encoding it.
        record_writer.write(
            flags.output / split,
            splits[split],
            encode,
            name=flags.dataset,
            split=split,
            schema=SCHEMA,
            classes=classes,
            shards=flags.shards,
            workers=1,
        )


@entry_point
def main(arguments: Optional[List[str]] = None) -> None:
    parser = preparation.Parser(
        'python -m wideresnet_tf.prepare_cifar', __doc__, 'train/ and test/'
    )
    parser.add_argument('--dataset', required=True, choices=sorted(COUNTS))
    parser.add_argument(
        '--source',
        type=pathlib.Path,
        help='the archive, or the folder that holds it (packed or not)',
    )
    parser.add_argument(
        '--no_verify', action='store_true', help='accept another MD5 and number of images'
    )
    parser.add_argument(
        '--allow_partial', action='store_true', help='accept missing files of training images'
    )
    parser.add_argument(
        '--shards', type=preparation.at_least(1), default=10, help='files a split (default: 10)'
    )
    prepare(parser.parse_args(arguments))


if __name__ == '__main__':
    main()
