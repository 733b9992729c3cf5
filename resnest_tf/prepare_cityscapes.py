"""Cityscapes -> TFRecords in OUTPUT/train, OUTPUT/val and, if the images are there, OUTPUT/test.

    python -m resnest_tf.prepare_cityscapes --source DIR --output data/cityscapes

DIR holds leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of
https://www.cityscapes-dataset.com, which are read in place, or what they hold, leftImg8bit/ and
gtFine/. If these are in different places, name each, a folder or a zip file.

Records have the schema of the published port - raw pixels in BGR order and raw train ids, so 8.39
MB an image, 25 GB for the 2975 of train - and the `filename`. Label ids become train ids (see
resnest_tf/cityscapes.py). The labels of test are not public: all 255.
"""

import functools
import pathlib
import shutil
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

if not __package__:  # run as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common.data import preparation, record_writer, records
from common.errors import UserError, at_least, entry_point
from common.files import name_in_errors
from resnest_tf import cityscapes, cityscapes_files
from resnest_tf.cityscapes import IGNORE
from resnest_tf.cityscapes_files import IMAGES, Item, decode, train_ids, unusable

SHARD_BYTES = 200e6


def encode(item: Item, height: int, width: int) -> Dict[str, Any]:
    """Returns the features of a record. UserError names a file that cannot be used."""
    name, image, label = item
    pixels = decode(image, False)
    classes = train_ids(label) if label else np.full((height, width), IGNORE, np.uint8)
    for file, value in ((image, pixels), (label, classes)):
        if value.shape[:2] != (height, width):
            why = 'found %dx%d pixels, expected %dx%d as the others have'
            raise unusable(file, why % (*value.shape[1::-1], width, height))
    return {
        'image': pixels.tobytes(),
        'label': classes.tobytes(),
        'height': height,
        'width': width,
        'channels': 3,
        'filename': name.encode(),
    }


def prepared(path: pathlib.Path, allow_partial: bool) -> bool:
    """Returns whether the split was prepared before; UserError if something else is there."""

    def fits(folder: records.Folder) -> bool:
        is_whole = allow_partial or folder.metadata.get('complete')
        return folder.metadata.get('classes') == cityscapes.CLASSES and is_whole

    return preparation.open_prepared(path, fits, 'all of Cityscapes') is not None


def image_size(items: Sequence[Item], skip_corrupt: int) -> Tuple[int, int]:
    """(height, width) of the first image that can be read; all must have it."""
    for number, (_, image, _) in enumerate(items):
        try:
            return decode(image, False).shape[:2]
        except UserError:
            if number >= min(skip_corrupt, len(items) - 1):
                raise


def check_space(output: pathlib.Path, counts: Dict[str, int], size: int) -> None:
    """Says what will be written, `counts` records of `size` bytes; UserError without room."""
    needed = size * sum(counts.values())
    records_of = ' and '.join('%d %s records' % (count, split) for split, count in counts.items())
    sys.stderr.write(
        '%s: writing %.3g GB, %s of %.3g MB\n' % (output, needed / 1e9, records_of, size / 1e6)
    )
    unfinished = sum(  # record_writer.write goes on there
        file.stat().st_size for split in counts for file in output.glob('.%s.unfinished/*' % split)
    )
    folder = output.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free + unfinished:
        raise UserError(
            '--output %s: %.3g GB are needed, %.3g GB are free; make room, choose another disk, or'
            ' prepare fewer --splits' % (output, (needed - unfinished) / 1e9, free / 1e9)
        )


def schema(height: int, width: int) -> Dict[str, Dict]:
    """Returns what dataset.json says of the records' features."""
    return {
        'image': preparation.pixels(height, width, 3),
        'label': preparation.pixels(height, width),
        **dict.fromkeys(('height', 'width', 'channels'), preparation.INT64),
        'filename': preparation.TEXT,
    }


def write(flags, split: str, items: Sequence[Item], height: int, width: int) -> None:
    """Writes the records of a split."""
    complete = len(items) == cityscapes.COUNTS[split]
    source = flags.source[0].resolve()
    size = 4 * height * width  # bytes of a record
    record_writer.write(
        flags.output / split,
        items,
        functools.partial(encode, height=height, width=width),
        split=split,
        schema=schema(height, width),
        name='cityscapes' if complete else (source.parent if source.is_file() else source).name,
        classes=cityscapes.CLASSES,
        metadata={'complete': complete, 'ignore': IGNORE, 'channel_order': 'BGR'},
        shards=min(len(items), int(len(items) * size / SHARD_BYTES) + 1),
        restartable=True,
        skip_corrupt=flags.skip_corrupt,
    )


def prepare(flags) -> None:
    """Writes the splits that are asked for or that the source has, and that the output lacks."""
    chosen = [split for split in cityscapes.COUNTS if split in (flags.splits or cityscapes.COUNTS)]
    todo = [split for split in chosen if not prepared(flags.output / split, flags.allow_partial)]
    if not todo:
        return
    index = cityscapes_files.find(flags.source)
    required = flags.splits or ([] if flags.allow_partial else ['train', 'val'])
    present = [split for split in todo if split in required or index[IMAGES, split]]
    items = cityscapes_files.pair(index, present, flags.allow_partial)
    if not items:
        return  # only test is not prepared, and not there
    all_items = [item for content in items.values() for item in content]
    height, width = image_size(all_items, flags.skip_corrupt)
    counts = {split: len(content) for split, content in items.items()}
    check_space(flags.output, counts, 4 * height * width)
    for split, content in items.items():
        write(flags, split, content, height, width)


@entry_point
def main(arguments: Optional[List[str]] = None) -> None:
    parser = preparation.Parser(
        'python -m resnest_tf.prepare_cityscapes', __doc__, 'train/, val/ and test/'
    )
    add = parser.add_argument
    source = 'the folder described above, or several folders and zip files'
    add('--source', required=True, nargs='+', type=pathlib.Path, help=source)
    splits = 'only these (default: train, val and, if it is there, test)'
    add('--splits', nargs='+', choices=list(cityscapes.COUNTS), help=splits)
    partial = 'accept any number of images, and leave out those without a label'
    add('--allow_partial', action='store_true', help=partial)
    corrupt = 'leave out at most N images of a split that cannot be used'
    add('--skip_corrupt', type=at_least(0), default=0, help=corrupt)
    flags = parser.parse_args(arguments)
    try:
        with name_in_errors('--source or --output'):
            prepare(flags)
    finally:
        cityscapes_files.open_archive.cache_clear()  # closes the archives


if __name__ == '__main__':
    main()
