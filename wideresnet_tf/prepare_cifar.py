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
from common.data import digits, preparation, record_writer, records
from common.errors import UserError, at_least, entry_point, warn
from common.files import name_in_errors
from wideresnet_tf import cifar

COUNTS = {
    'cifar10': {'train': 50000, 'test': 10000},
    'cifar100': {'train': 50000, 'test': 10000},
    'digits': {'train': digits.TRAIN, 'test': digits.TEST},
}
SCHEMA = {
    'image': preparation.pixels(32, 32, 3),
    'fine_label': preparation.INT64,
    'coarse_label': preparation.INT64,
}
Item = Tuple[bytes, int, int]  # image, fine label, coarse label


def encode(item: Item) -> Dict[str, object]:
    """Returns the features of a record."""
    return {'image': item[0], 'fine_label': item[1], 'coarse_label': item[2]}


def load_digits() -> Tuple[Dict[str, List[Item]], List[str]]:
    """Returns the items of both splits, grey in three colours, and the class names."""
    splits = {
        split: [(image.repeat(3).tobytes(), int(label), 0) for image, label in zip(*content)]
        for split, content in digits.load(32).items()
    }
    return splits, list('0123456789')


def load_cifar(flags) -> Tuple[Dict[str, List[Item]], List[str]]:
    """Returns the items of both splits, and the class names. UserError if the archive is not
    complete, unless --allow_partial leaves out parts of the training images.
    """
    layout, location, contents = cifar.read(flags.source, flags.dataset, not flags.no_verify)
    absent = [name for name in layout.files if name not in contents]
    if absent:
        problem = '%s: lacks %s' % (location, ', '.join(absent))
        is_partial = set(absent) < set(layout.train)
        if not (is_partial and flags.allow_partial):
            hint = ', or use what is there with --allow_partial' if is_partial else ''
            raise UserError('%s; unpack or download it again%s' % (problem, hint))
        warn(problem)
    splits: Dict[str, List[Item]] = {'train': [], 'test': []}
    for name in [*layout.train, layout.test]:
        if name in contents:
            rows = cifar.decode(contents[name], layout, '%s: %s' % (location, name))
            splits['test' if name == layout.test else 'train'] += [
                (image.tobytes(), int(fine), int(coarse)) for image, fine, coarse in zip(*rows)
            ]
    label = '%s: %s' % (location, layout.names)
    return splits, cifar.class_names(contents[layout.names], layout, label)


def prepared(flags, split: str) -> bool:
    """Returns whether the split was prepared before; UserError if something else is there."""
    any_number, count = flags.no_verify or flags.allow_partial, COUNTS[flags.dataset][split]

    def fits(folder: records.Folder) -> bool:
        return folder.metadata.get('name') == flags.dataset and (
            any_number or folder.count == count
        )

    expected = '%s of %s' % ('any number' if any_number else count, flags.dataset)
    return preparation.open_prepared(flags.output / split, fits, expected) is not None


def check_counts(flags, splits: Dict[str, List[Item]]) -> None:
    """UserError for a split of another size, a warning if the user accepts any number."""
    for split, expected in COUNTS[flags.dataset].items():
        count = len(splits[split])
        if count != expected:
            problem = '%s: found %d %s images, expected %d'
            problem %= (flags.source, count, split, expected)
            if not (flags.no_verify or flags.allow_partial):
                raise UserError(problem + '; use what is there with --no_verify')
            warn(problem)


def prepare(flags) -> None:
    """Writes output/train and output/test; what is already there stays."""
    todo = [split for split in COUNTS[flags.dataset] if not prepared(flags, split)]
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
        with name_in_errors(flags.source):
            splits, classes = load_cifar(flags)
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
    add = parser.add_argument
    add('--dataset', required=True, choices=sorted(COUNTS))
    source = 'the archive, or the folder that holds it (packed or not)'
    add('--source', type=pathlib.Path, help=source)
    add('--no_verify', action='store_true', help='accept another MD5 and number of images')
    add('--allow_partial', action='store_true', help='accept missing files of training images')
    shards = 'files a split (default: 10)'
    add('--shards', type=at_least(1), default=10, help=shards)
    prepare(parser.parse_args(arguments))


if __name__ == '__main__':
    main()
