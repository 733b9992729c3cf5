"""ImageNet (ILSVRC2012), or any images in one folder a class, or digits -> TFRecords in
OUTPUT/train and OUTPUT/val.

    python -m xception_tf.prepare_imagenet --source DIR --output data/imagenet

DIR holds one of these; each split that is there is prepared:
  ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar     read in place, nothing is unpacked
  train/CLASS/*.jpg and val/CLASS/*.jpg                   ImageNet's n01440764/... or any other;
                                                          val/ may also be the flat, official one
  CLASS/*.jpg                                             one split, which --split names
`--source digits` takes scikit-learn's handwritten digits as 72x72 JPEGs and needs no download.

The classes of the official validation images are in another file:
imagenet_2012_validation_synset_labels.txt (one synset a line, from tensorflow/models), or the
development kit (ILSVRC2012_devkit_t12.tar.gz, or unpacked). Take care with the kit: its ground
truth counts classes in an order of its own, NOT that of the sorted synsets, so it needs the kit's
meta.mat beside it.

Records have TF-slim's schema. Class number = place of the class's folder or synset in sorted order
+ --label_offset.
"""

import functools
import io
import pathlib
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

if not __package__:  # run as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common.data import digits, images, preparation, record_writer
from common.errors import UserError, at_least, entry_point, first_few, warn
from common.files import name_in_errors, temporary_folder
from xception_tf import imagenet, imagenet_labels

SHARDS = {'train': 1024, 'val': 128}
DIGITS_SIZE = 72
_TEXTS = ('encoded', 'format', 'colorspace', 'filename', 'class/synset', 'class/text')
_NUMBERS = ('height', 'width', 'channels', 'class/label')
SCHEMA = {
    **{'image/' + key: preparation.TEXT for key in _TEXTS},
    **{'image/' + key: preparation.INT64 for key in _NUMBERS},
}


# ---- one record ----------------------------------------------------------------------------------


def as_jpeg(data: bytes) -> Tuple[bytes, int, int]:
    """Returns (a JPEG of one or three channels, height, width) of any image file's content. Raises
    nearly anything if it is damaged.

    What is no such JPEG by its content (ImageNet has a PNG called .JPEG and 22 CMYK JPEGs) becomes
    one of RGB, quality 100 and full colour resolution.
    """
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ValueError('its format is unknown')
    image.load()
    if image.format not in ('JPEG', 'MPO') or image.mode not in ('RGB', 'L'):
        encoded = io.BytesIO()
        Image.fromarray(images.decode(data)).save(encoded, 'JPEG', quality=100, subsampling=0)
        data = encoded.getvalue()
    return data, image.height, image.width


def encode(
    item: Tuple[imagenet.File, int], classes: Sequence[str], names: Sequence[str], label_offset: int
) -> Dict[str, Any]:
    """Returns the features of (image, place of its class); UserError for one that is not usable."""
    file, index = item
    try:
        with open(file.path, 'rb') as source:
            source.seek(file.offset)
            data = source.read(file.size)
        if file.size >= 0 and len(data) < file.size:
            raise ValueError('the archive ends within it')
        data, height, width = as_jpeg(data)
    except Exception as error:
        location = file.path if file.size < 0 else '%s: %s' % (file.path, file.name)
        raise UserError(
            '%s is not a usable image (%s); replace it, or leave out up to N such images with'
            ' --skip_corrupt N' % (location, error)
        )
    return {
        'image/encoded': data,
        'image/format': b'JPEG',
        'image/colorspace': b'RGB',
        'image/channels': 3,
        'image/height': height,
        'image/width': width,
        'image/filename': file.name.encode(),
        'image/class/label': index + label_offset,
        'image/class/synset': classes[index].encode(),
        'image/class/text': names[index].encode(),
    }


# ---- the command ---------------------------------------------------------------------------------


def write_digits(folder: pathlib.Path) -> None:
    """Writes FOLDER/train/0/0000.jpg etc. and FOLDER/val."""
    content = digits.load(DIGITS_SIZE)
    for split, part in (('train', 'train'), ('val', 'test')):
        for i, (image, label) in enumerate(zip(*content[part])):
            class_folder = folder / split / str(label)
            class_folder.mkdir(parents=True, exist_ok=True)
            (class_folder / ('%04d.jpg' % i)).write_bytes(cv2.imencode('.jpg', image)[1].tobytes())


def gather(
    flags, source: pathlib.Path, splits: Sequence[str]
) -> Dict[str, Tuple[imagenet.Split, bool]]:
    """Returns those of the splits that the source has: (images, whether it is ImageNet). UserError
    if none, unless the rest was prepared before, or if ImageNet is not complete.
    """
    labels = flags.val_labels or source
    available = {split: imagenet.find(source, split, labels) for split in splits}
    if not any(available.values()) and flags.split:
        available = {flags.split: (imagenet.class_folders(source), False)}
    if not any(available.values()):
        problem = '--source %s: holds neither %s nor %s' % (
            source,
            ' nor '.join(imagenet.ARCHIVES[split] for split in splits),
            ' nor '.join(split + '/' for split in splits),
        )
        if len(splits) == 1 and not flags.split:  # the same command, a second time
            warn(problem)
            return {}
        raise UserError(
            problem + '; name the folder that does, or, if it holds a folder for each class, give'
            ' --split train or --split val'
        )
    result = {}
    for split, entry in available.items():
        if entry:
            content, official = entry[0], entry[1] or imagenet.is_imagenet(entry[0])
            if official and not flags.no_verify:
                imagenet.check(content, split, source, imagenet_labels.read_words(source))
            result[split] = content, official
    return result


def common_classes(
    flags, source: pathlib.Path, splits: Dict[str, imagenet.Split], earlier: Optional[Dict]
) -> List[str]:
    """Returns the classes, which both splits number alike, whichever was prepared first. UserError
    if they do not fit together, a warning for classes that a split lacks.
    """
    if earlier and earlier['label_offset'] != flags.label_offset:
        raise UserError(
            '--label_offset %d: the other split in %s was prepared with %d; use the same'
            % (flags.label_offset, flags.output, earlier['label_offset'])
        )
    classes = earlier['synsets'] if earlier else sorted(splits.get('train', splits.get('val')))
    for split, content in splits.items():
        unknown, absent = set(content) - set(classes), set(classes) - set(content)
        if unknown:
            raise UserError(
                '%s: %s has classes that the other split lacks: %s'
                % (source, split, first_few(unknown))
            )
        if absent:
            warn(
                '%s has no image of %d of the %d classes: %s'
                % (split, len(absent), len(classes), first_few(absent))
            )
    return classes


def prepare(flags, source: pathlib.Path) -> None:
    """Writes the splits that the source has and the output has not."""
    prepared = {}
    for split in imagenet.COUNTS:
        folder = preparation.open_prepared(
            flags.output / split,
            lambda folder: 'synsets' in folder.metadata,
            'images of classes with their synsets',
        )
        prepared[split] = folder and folder.metadata
    todo = [split for split in prepared if flags.split in (None, split) and not prepared[split]]
    if not todo:
        return
    available = gather(flags, source, todo)
    content = {split: images_of for split, (images_of, _) in available.items()}
    classes = common_classes(flags, source, content, prepared['train'] or prepared['val'])
    readable_names = imagenet_labels.read_words(source)
    names = [readable_names.get(name, name) for name in classes]
    for split, (images_of, official) in available.items():
        items = []
        for index, name in enumerate(classes):
            files = sorted(images_of.get(name, []), key=lambda file: file.name)
            items += [(file, index) for file in files[: flags.limit_per_class]]
        order = np.random.RandomState(0).permutation(len(items))
        record_writer.write(
            flags.output / split,
            [items[i] for i in order],
            functools.partial(
                encode, classes=classes, names=names, label_offset=flags.label_offset
            ),
            name='imagenet' if official else flags.source.resolve().name,
            split=split,
            schema=SCHEMA,
            classes=names,
            metadata={'synsets': classes, 'label_offset': flags.label_offset},
            shards=flags.shards or min(SHARDS[split], len(items) // 300 + 1),
            restartable=True,
            skip_corrupt=flags.skip_corrupt,
        )


def parse(arguments: Optional[List[str]]):
    parser = preparation.Parser(
        'python -m xception_tf.prepare_imagenet', __doc__, 'train/ and val/'
    )
    add, number = parser.add_argument, at_least(1)
    add('--source', required=True, type=pathlib.Path, help='the folder described above, or: digits')
    add('--split', choices=sorted(imagenet.COUNTS), help='only this one')
    offset = 'number of the first class (default: 1, as TF-slim has it)'
    add('--label_offset', type=int, choices=[0, 1], default=1, help=offset)
    add('--limit_per_class', type=number, help='take the first N images of each class, by name')
    shards = 'files a split (default: 1024 and 128, fewer if there are few images)'
    add('--shards', type=number, help=shards)
    labels = 'where the classes of the official validation images are (default: in the source)'
    add('--val_labels', type=pathlib.Path, help=labels)
    corrupt = 'leave out at most N images that cannot be read'
    add('--skip_corrupt', type=at_least(0), default=0, help=corrupt)
    add('--no_verify', action='store_true', help='accept any number of images and classes')
    return parser.parse_args(arguments)


@entry_point
def main(arguments: Optional[List[str]] = None) -> None:
    flags = parse(arguments)
    if flags.source == pathlib.Path('digits') and not flags.source.exists():
        with temporary_folder('digits') as temporary:
            write_digits(temporary)
            prepare(flags, temporary)
    elif not flags.source.is_dir():
        raise UserError(
            '--source %s: no such folder; name the folder of the archives or images, or: digits'
            % flags.source
        )
    else:
        with name_in_errors(flags.source):
            prepare(flags, flags.source)


if __name__ == '__main__':
    main()
