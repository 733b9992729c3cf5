"""ImageNet (ILSVRC2012), or any images in one folder a class, or digits -> TFRecords in
OUTPUT/train and OUTPUT/val.

    python -m xception_tf.prepare_imagenet --source DIR --output data/imagenet

DIR holds one of these; each split that is there is prepared:
  ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar     read in place, nothing is unpacked
  train/CLASS/*.jpg and val/CLASS/*.jpg                   ImageNet's n01440764/... or any other;
                                                          val/ may also be the flat, official one
  CLASS/*.jpg                                             not split yet: --holdout SHARE or --split
                                                          says where they go
`--source digits` takes scikit-learn's handwritten digits as 72x72 JPEGs and needs no download.

Which class an official validation image has is in another file:
imagenet_2012_validation_synset_labels.txt (one synset a line, from tensorflow/models), or the
development kit (ILSVRC2012_devkit_t12.tar.gz, or unpacked). Take care with the kit: its ground
truth counts classes in an order of its own, NOT that of the sorted synsets, so it is of use only
with the kit's meta.mat.

Records have TF-slim's schema. Class number = place of the class's folder or synset in sorted order
+ --label_offset.
"""

import argparse
import functools
import hashlib
import io
import pathlib
import re
import sys
import tarfile
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
import tqdm
from PIL import Image, UnidentifiedImageError

if not __package__:  # run as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common.data import digits, images, record_writer, records  # noqa: E402
from common.errors import UserError, entry_point  # noqa: E402

CLASSES, COUNTS = 1000, {'train': 1281167, 'val': 50000}  # of ILSVRC2012
SHARDS = {'train': 1024, 'val': 128}
ARCHIVES = {'train': 'ILSVRC2012_img_train.tar', 'val': 'ILSVRC2012_img_val.tar'}
SYNSET_LIST = 'imagenet_2012_validation_synset_labels.txt'
GROUND_TRUTH = 'ILSVRC2012_validation_ground_truth.txt'
KIT = 'ILSVRC2012_devkit_t12'
WORDS = (
    'LOC_synset_mapping.txt',
    'synset_words.txt',
    'words.txt',
)  # `n01440764 tench, Tinca tinca` a line
DIGITS_SIZE = 72
SYNSET = re.compile(r'n\d{8}$')
SCHEMA = {
    **{
        key: {'kind': 'bytes', 'dtype': 'string', 'shape': []}
        for key in (
            'image/encoded',
            'image/format',
            'image/colorspace',
            'image/filename',
            'image/class/synset',
            'image/class/text',
        )
    },
    **{
        key: {'kind': 'int64', 'dtype': 'int64', 'shape': []}
        for key in ('image/height', 'image/width', 'image/channels', 'image/class/label')
    },
}


class File(NamedTuple):
    """An image: `size` bytes from `offset` of the file `path`, the whole file if size is -1."""

    path: str
    offset: int
    size: int
    name: str


Split = Dict[str, List[File]]  # class -> its images


# ---- finding the images --------------------------------------------------------------------------


def _members(path: pathlib.Path, start: int = 0) -> List[tarfile.TarInfo]:
    """The files in the tar archive that begins at byte `start` of `path`; their offset_data counts
    from the beginning of `path`.
    """
    try:
        with open(str(path), 'rb') as source:
            source.seek(start)
            with tarfile.open(fileobj=source, mode='r:') as archive:
                return [member for member in archive if member.isfile()]
    except tarfile.TarError as error:
        raise UserError(
            '%s: not a whole tar archive (%s, in the one at byte %d); download it again'
            % (path, error, start)
        )


def train_archive(path: pathlib.Path) -> Split:
    """ILSVRC2012_img_train.tar: a tar of one tar a class."""
    inner = [member for member in _members(path) if member.name.endswith('.tar')]
    if not inner:
        raise UserError(
            '%s: holds no n01440764.tar and the like; it is not the ILSVRC2012 training archive'
            % path
        )
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda member: _members(path, member.offset_data), inner)
        found = tqdm.tqdm(
            found, 'reading %s' % path.name, len(inner), unit=' classes', disable=None
        )
        return {
            pathlib.PurePosixPath(outer.name).stem: [
                File(
                    str(path),
                    member.offset_data,
                    member.size,
                    pathlib.PurePosixPath(member.name).name,
                )
                for member in members
            ]
            for outer, members in zip(inner, found)
        }


def class_folders(folder: pathlib.Path) -> Split:
    """FOLDER/CLASS/images. UserError for a class without images: the classes after it would get
    other numbers elsewhere.
    """
    found, others = {}, []
    for place in sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith('.')
    ):
        files = sorted(file for file in place.iterdir() if not file.name.startswith('.'))
        found[place.name] = [
            File(str(file), 0, -1, file.name)
            for file in files
            if file.suffix.lower() in images.SUFFIXES
        ]
        others += [str(file) for file in files if file.suffix.lower() not in images.SUFFIXES]
    empty = [name for name, content in found.items() if not content]
    if empty or not found:
        raise UserError(
            '%s: %s; put images there, or remove such folders'
            % (
                folder,
                (
                    'no image (%s) in %s' % (' '.join(images.SUFFIXES), ', '.join(empty[:10]))
                    if empty
                    else 'holds no folder of a class'
                ),
            )
        )
    if others:
        sys.stderr.write(
            'warning: %d entries are no images (%s) and are left out, the first: %s\n'
            % (len(others), ' '.join(images.SUFFIXES), others[0])
        )
    return found


def by_number(files: Iterable[File], synsets: Sequence[str]) -> Split:
    """Official validation images, ILSVRC2012_val_00000001.JPEG etc., whose number says which line
    of `synsets` they belong to.
    """
    found: Split = {}
    for file in files:
        number = re.match(r'ILSVRC2012_val_(\d{8})\.', file.name)
        if not number or not 0 < int(number.group(1)) <= len(synsets):
            raise UserError(
                '%s: %s is not one of ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_%08d.JPEG, for'
                ' which there are labels' % (file.path, file.name, len(synsets))
            )
        found.setdefault(synsets[int(number.group(1)) - 1], []).append(file)
    return found


def _texts(place: pathlib.Path) -> Dict[str, bytes]:
    """The files at `place` (a file, a folder or the packed development kit) that may say something
    about classes: name -> content.
    """
    wanted = (SYNSET_LIST, GROUND_TRUTH, 'meta.mat') + WORDS
    if place.is_file() and place.name.endswith(('.tar.gz', '.tgz')):
        try:
            with tarfile.open(str(place)) as archive:
                return {
                    pathlib.PurePosixPath(member.name).name: archive.extractfile(member).read()
                    for member in archive
                    if member.isfile() and pathlib.PurePosixPath(member.name).name in wanted
                }
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise UserError('%s: not a readable archive (%s); download it again' % (place, error))
    if place.is_file():
        return {place.name: place.read_bytes()}
    kit = place / (KIT + '.tar.gz')
    found = _texts(kit) if kit.is_file() else {}
    for folder in (place / KIT / 'data', place / 'data', place):
        found.update(
            (name, (folder / name).read_bytes()) for name in wanted if (folder / name).is_file()
        )
    return found


def validation_synsets(place: pathlib.Path) -> List[str]:
    """The synset of each official validation image, from the list of synsets or from the
    development kit at `place`.
    """
    place = place.parent if place.name in (GROUND_TRUTH, 'meta.mat') else place
    found = _texts(place)
    listed = found.get(place.name if place.is_file() else SYNSET_LIST)
    if listed is not None:
        lines = listed.decode('ascii', 'replace').split()
        if not lines or not all(map(SYNSET.match, lines)):
            raise UserError(
                '%s: expected one synset such as n01440764 a line, found %r'
                % (place, ' '.join(lines[:2])[:40])
            )
        return lines
    if GROUND_TRUTH in found and 'meta.mat' not in found:
        raise UserError(
            "%s: %s counts classes in the development kit's own order, which only the kit's"
            ' meta.mat tells; put it beside, or use %s' % (place, GROUND_TRUTH, SYNSET_LIST)
        )
    if GROUND_TRUTH not in found:
        raise UserError(
            '%s: nothing says which classes the validation images have; put %s or %s.tar.gz there,'
            ' or name its place with --val_labels' % (place, SYNSET_LIST, KIT)
        )
    synsets, _ = read_meta(found['meta.mat'], place)
    try:
        return [synsets[int(line)] for line in found[GROUND_TRUTH].split()]
    except (ValueError, KeyError) as error:
        raise UserError(
            "%s: %s does not fit the kit's meta.mat (%s: %s); unpack the kit again"
            % (place, GROUND_TRUTH, type(error).__name__, error)
        )


def read_meta(content: bytes, place: pathlib.Path) -> Tuple[Dict[int, str], Dict[str, str]]:
    """The kit's meta.mat: ({ILSVRC2012_ID: synset}, {synset: words}) of the classes; it also lists
    what they belong to, by higher ids.
    """
    from scipy.io import loadmat

    try:
        table = np.atleast_1d(loadmat(io.BytesIO(content), squeeze_me=True)['synsets'])
        table = table[table['ILSVRC2012_ID'].astype(int) <= CLASSES]
        return (
            {int(row['ILSVRC2012_ID']): str(row['WNID']) for row in table},
            {str(row['WNID']): str(row['words']) for row in table},
        )
    except Exception as error:  # a damaged file raises nearly anything
        raise UserError(
            "%s: not the development kit's meta.mat (%s: %s)" % (place, type(error).__name__, error)
        )


def read_words(source: pathlib.Path, words: Optional[pathlib.Path]) -> Dict[str, str]:
    """{synset or folder: readable name}, from --words or what lies in the source; {} if nothing
    does.
    """
    if words and not words.is_file():
        raise UserError('--words %s: no such file' % words)
    found = _texts(words or source)
    for name in [words.name] if words else WORDS:
        if name in found:
            lines = [
                line.split(None, 1) for line in found[name].decode('utf-8', 'replace').splitlines()
            ]
            return {line[0]: line[1].strip() for line in lines if len(line) == 2}
    return read_meta(found['meta.mat'], source)[1] if 'meta.mat' in found else {}


def find(
    source: pathlib.Path, split: str, val_labels: pathlib.Path
) -> Optional[Tuple[Split, bool]]:
    """(the split's images, whether it is the official archive or flat folder); None if the source
    holds no such split.
    """
    archive, folder = source / ARCHIVES[split], source / split
    if archive.is_file():
        if split == 'train':
            return train_archive(archive), True
        files = [
            File(
                str(archive),
                member.offset_data,
                member.size,
                pathlib.PurePosixPath(member.name).name,
            )
            for member in _members(archive)
        ]
        return by_number(files, validation_synsets(val_labels)), True
    if not folder.is_dir():
        return None
    flat = sorted(file for file in folder.iterdir() if file.name.startswith('ILSVRC2012_val_'))
    if split == 'val' and flat:
        return (
            by_number(
                [File(str(file), 0, -1, file.name) for file in flat], validation_synsets(val_labels)
            ),
            True,
        )
    return class_folders(folder), False


def hold_out(found: Split, share: float) -> Dict[str, Split]:
    """Splits each class: its round(share x n) images whose names have the smallest SHA-256 are val,
    whatever their order or folder.
    """
    splits: Dict[str, Split] = {'train': {}, 'val': {}}
    for name, files in found.items():
        ordered = sorted(files, key=lambda file: hashlib.sha256(file.name.encode()).digest())
        count = int(round(share * len(files)))
        for split, part in (('val', ordered[:count]), ('train', ordered[count:])):
            if part:
                splits[split][name] = part
    return splits


# ---- one record ----------------------------------------------------------------------------------


def as_jpeg(data: bytes) -> Tuple[bytes, int, int]:
    """(a JPEG of one or three channels, height, width) of any image file's content. Raises nearly
    anything if it is damaged.

    What is such a JPEG already stays as it is. Else - told by content, not by name: ImageNet has a
    PNG called .JPEG and 22 CMYK JPEGs - OpenCV decodes it to RGB and it is encoded again with
    quality 100 and full colour resolution.
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
    item: Tuple[File, int], classes: Sequence[str], names: Sequence[str], label_offset: int
) -> Dict[str, Any]:
    """(image, place of its class) -> the features of a record. UserError names an image that cannot
    be used.
    """
    file, index = item
    try:
        with open(file.path, 'rb') as source:
            source.seek(file.offset)
            data = source.read(file.size)
        if file.size >= 0 and len(data) < file.size:
            raise ValueError('the archive ends within it')
        data, height, width = as_jpeg(data)
    except Exception as error:
        place = file.path if file.size < 0 else '%s: %s' % (file.path, file.name)
        raise UserError(
            '%s is no usable image (%s); replace it, or leave out up to N such images with'
            ' --skip_corrupt N' % (place, error)
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
    """FOLDER/train/0/0000.jpg etc. and FOLDER/val."""
    for split, part in (('train', 'train'), ('val', 'test')):
        for i, (image, label) in enumerate(zip(*digits.load(DIGITS_SIZE)[part])):
            place = folder / split / str(label)
            place.mkdir(parents=True, exist_ok=True)
            (place / ('%04d.jpg' % i)).write_bytes(cv2.imencode('.jpg', image)[1].tobytes())


def is_imagenet(found: Split) -> bool:
    return len(found) == CLASSES and all(map(SYNSET.match, found))


def check(found: Split, split: str, source: pathlib.Path, words: Dict[str, str]) -> None:
    """UserError if the split is not all of ImageNet's."""
    count = sum(map(len, found.values()))
    if not is_imagenet(found) or count != COUNTS[split]:
        missing = sorted(set(words) - set(found)) if len(words) == CLASSES else []
        raise UserError(
            '%s: found %d images of %d classes, ILSVRC2012 %s has %d of %d%s; complete it, or use'
            ' what is there with --no_verify'
            % (
                source,
                count,
                len(found),
                split,
                COUNTS[split],
                CLASSES,
                ' (missing: %s)' % ', '.join(missing[:10]) if missing else '',
            )
        )


def prepared(path: pathlib.Path) -> Optional[Dict[str, Any]]:
    """The dataset.json of a split that was prepared before; None if there is none. UserError if
    something else is in its place.
    """
    if not path.is_dir() or not any(path.iterdir()):
        return None
    metadata = records.Folder.open(path).metadata
    if 'synsets' not in metadata:
        raise UserError('%s: holds other records; remove it or choose another --output' % path)
    return metadata


def gather(
    flags: argparse.Namespace, source: pathlib.Path, splits: Sequence[str]
) -> Dict[str, Tuple[Split, bool]]:
    """Those of the splits that the source has: (images, whether it is ImageNet). UserError if none,
    or if ImageNet is not complete.
    """
    if flags.holdout:
        parts = hold_out(class_folders(source), flags.holdout)
        found = {split: (parts[split], False) for split in splits}
    else:
        found = {split: find(source, split, flags.val_labels or source) for split in splits}
        if not any(found.values()) and flags.split:
            found = {flags.split: (class_folders(source), False)}
        if not any(found.values()):
            raise UserError(
                '--source %s: holds neither %s nor %s; name the folder that does, or, if it holds a'
                ' folder for each class, give --holdout SHARE (of the images for val) or --split'
                % (
                    source,
                    ' nor '.join(ARCHIVES[split] for split in splits),
                    ' nor '.join(split + '/' for split in splits),
                )
            )
    result = {
        split: (entry[0], entry[1] or is_imagenet(entry[0]))
        for split, entry in found.items()
        if entry
    }
    for split, (content, imagenet) in result.items():
        if imagenet and not flags.no_verify:
            check(content, split, source, read_words(source, flags.words))
    return result


def prepare(flags: argparse.Namespace, source: pathlib.Path) -> None:
    """Writes the splits that the source has and the output has not. Both number the classes alike,
    whichever comes first.
    """
    before = {split: prepared(flags.output / split) for split in COUNTS}
    for split, metadata in before.items():
        if metadata:
            sys.stderr.write(
                '%s: already there (%d records), left as it is\n'
                % (flags.output / split, metadata['count'])
            )
    todo = [split for split in COUNTS if flags.split in (None, split) and not before[split]]
    if not todo:
        return
    found = gather(flags, source, todo)
    earlier = (
        before['train']
        or before['val']
        or {
            'synsets': sorted(found.get('train', found.get('val'))[0]),
            'label_offset': flags.label_offset,
        }
    )
    classes = earlier['synsets']
    if earlier['label_offset'] != flags.label_offset:
        raise UserError(
            '--label_offset %d: the other split in %s was prepared with %d; use the same'
            % (flags.label_offset, flags.output, earlier['label_offset'])
        )
    for split, (content, _) in found.items():
        unknown, absent = sorted(set(content) - set(classes)), sorted(set(classes) - set(content))
        if unknown:
            raise UserError(
                '%s: %s has classes that the other split lacks: %s'
                % (source, split, ', '.join(unknown[:10]))
            )
        if absent:
            sys.stderr.write(
                'warning: %s has no image of %d of the %d classes: %s\n'
                % (split, len(absent), len(classes), ', '.join(absent[:10]))
            )
    words = read_words(source, flags.words)
    names = [words.get(name, name) for name in classes]
    for split, (content, imagenet) in found.items():
        items = [
            (file, index)
            for index, name in enumerate(classes)
            for file in sorted(content.get(name, []), key=lambda file: file.name)[
                : flags.limit_per_class
            ]
        ]
        order = np.random.RandomState(0).permutation(len(items))
        record_writer.write(
            flags.output / split,
            [items[i] for i in order],
            functools.partial(
                encode, classes=classes, names=names, label_offset=flags.label_offset
            ),
            name='imagenet' if imagenet else flags.source.resolve().name,
            split=split,
            schema=SCHEMA,
            classes=names,
            metadata={'synsets': classes, 'label_offset': flags.label_offset},
            shards=flags.shards or min(SHARDS[split], len(items) // 300 + 1),
            restartable=True,
            skip_corrupt=flags.skip_corrupt,
        )


@entry_point
def main(arguments: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        prog='prepare_imagenet',
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--source', required=True, type=pathlib.Path, help='the folder described above, or: digits'
    )
    parser.add_argument(
        '--output', required=True, type=pathlib.Path, help='folder to make train/ and val/ in'
    )
    parser.add_argument('--split', choices=sorted(COUNTS), help='only this one')
    parser.add_argument(
        '--holdout',
        type=float,
        help=(
            'share of each class that goes to val, of images that are not split yet; by a hash of'
            ' their names'
        ),
    )
    parser.add_argument(
        '--label_offset',
        type=int,
        choices=[0, 1],
        default=1,
        help='number of the first class (default: 1, as TF-slim has it)',
    )
    parser.add_argument(
        '--limit_per_class', type=int, help='take the first N images of each class, by name'
    )
    parser.add_argument(
        '--shards',
        type=int,
        help='files a split (default: 1024 and 128, fewer if there are few images)',
    )
    parser.add_argument(
        '--words',
        type=pathlib.Path,
        help='readable names, `n01440764 tench, Tinca tinca` a line (default: %s, if in the source)'
        % ' or '.join(WORDS),
    )
    parser.add_argument(
        '--val_labels',
        type=pathlib.Path,
        help='where the classes of the official validation images are (default: in the source)',
    )
    parser.add_argument(
        '--skip_corrupt', type=int, default=0, help='leave out at most N images that cannot be read'
    )
    parser.add_argument(
        '--no_verify', action='store_true', help='accept any number of images and classes'
    )
    flags = parser.parse_args(arguments)
    if flags.holdout is not None and not 0 < flags.holdout < 1:
        raise UserError('--holdout %s: give a share between 0 and 1' % flags.holdout)
    if flags.limit_per_class is not None and flags.limit_per_class < 1:
        raise UserError('--limit_per_class %d: give a whole number above 0' % flags.limit_per_class)
    try:
        if flags.source == pathlib.Path('digits') and not flags.source.exists():
            with tempfile.TemporaryDirectory() as temporary:
                write_digits(pathlib.Path(temporary))
                prepare(flags, pathlib.Path(temporary))
        elif not flags.source.is_dir():
            raise UserError(
                '--source %s: no such folder; name the folder that holds the archives or the'
                ' images, or: digits' % flags.source
            )
        else:
            prepare(flags, flags.source)
    except OSError as error:
        raise UserError('--source %s could not be read: %s' % (flags.source, error))


if __name__ == '__main__':
    main()
