"""Cityscapes -> TFRecords in OUTPUT/train, OUTPUT/val and, if the images are there, OUTPUT/test.

    python -m resnest_tf.prepare_cityscapes --source DIR --output data/cityscapes

DIR holds leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of
https://www.cityscapes-dataset.com, which are read in place, or what they hold, leftImg8bit/ and
gtFine/. If these are in different places, name each, a folder or a zip file.

Records have the schema of the published port - raw pixels in BGR order and raw train ids, so 8.39
MB an image, 25 GB for the 2975 of train - and the `filename`. Label ids become train ids (see
resnest_tf/cityscapes.py). The labels of test are not public: all 255.
"""

import argparse
import collections
import functools
import pathlib
import re
import shutil
import sys
import zipfile
import zlib
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

if not __package__:  # run as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common.data import record_writer, records  # noqa: E402
from common.errors import UserError, entry_point, some  # noqa: E402
from resnest_tf import cityscapes  # noqa: E402
from resnest_tf.cityscapes import COUNTS, IGNORE  # noqa: E402

IMAGES, LABELS = 'leftImg8bit', 'gtFine'
ARCHIVES = {IMAGES: 'leftImg8bit_trainvaltest.zip', LABELS: 'gtFine_trainvaltest.zip'}
SHARD_BYTES = 200e6
# CITY/CITY_SSSSSS_FFFFFF_leftImg8bit.png, CITY/CITY_SSSSSS_FFFFFF_gtFine_labelIds.png; _color,
# _instanceIds and _polygons are not used
FILE = re.compile(
    r'(?:.*/)?(leftImg8bit|gtFine)/(train|val|test)/([^/]+)/(\3_\d{6}_\d{6})_\1(?:(?<=8bit)|(?<=Fine)_labelIds)\.png'
)
PNG_KINDS = {0: 'grey', 2: 'RGB', 3: 'palette', 4: 'grey and alpha', 6: 'RGB and alpha'}


class File(NamedTuple):
    """The file `path`, or the member `path` of the zip file `archive`."""

    archive: Optional[str]
    path: str

    def __str__(self):
        return '%s: %s' % self if self.archive else self.path


Item = Tuple[str, File, Optional[File]]  # name, image, label
Found = Dict[Tuple[str, str], Dict[str, File]]  # (leftImg8bit or gtFine, split) -> {name: file}


# ---- finding the files ---------------------------------------------------------------------------


def listed(place: pathlib.Path) -> List[File]:
    """All files in a zip file, or the PNGs in an extracted folder leftImg8bit/ or gtFine/."""
    if place.is_dir():
        return [File(None, str(path)) for path in sorted(place.glob('*/*/*.png'))]
    try:
        with zipfile.ZipFile(str(place)) as archive:
            return [File(str(place), name) for name in archive.namelist() if not name.endswith('/')]
    except zipfile.BadZipFile as error:
        with open(str(place), 'rb') as source:
            is_page = source.read(100).lstrip()[:1] == b'<'
        raise UserError(
            '%s: %s; download it again'
            % (
                place,
                (
                    'a web page, not a zip archive: the download needs a login'
                    if is_page
                    else 'not a whole zip archive (%s)' % error
                ),
            )
        )


def places(source: pathlib.Path) -> List[pathlib.Path]:
    """The zip files and extracted folders that --source means; a zip file, which is whole, goes
    before the folder beside it.
    """
    if source.is_file() or source.name in ARCHIVES and source.is_dir():
        return [source]
    if not source.is_dir():
        raise UserError(
            '--source %s: no such file or folder; name the zip files, or the folder that holds them'
            % source
        )
    found = [
        source / archive if (source / archive).is_file() else source / kind
        for kind, archive in ARCHIVES.items()
    ]
    found = [place for place in found if place.exists()]
    if not found:
        inside = [entry.name for entry in source.iterdir()]
        raise UserError(
            '--source %s: holds neither %s nor %s nor %s/ nor %s/ (found: %s); name the folder that'
            ' does, or the zip files'
            % ((source,) + tuple(ARCHIVES.values()) + tuple(ARCHIVES) + (some(inside),))
        )
    return found


def find(sources: Sequence[pathlib.Path]) -> Found:
    """Every image and every label file. UserError for a source of something else."""
    found: Found = {(kind, split): {} for kind in ARCHIVES for split in COUNTS}
    for place in [place for source in sources for place in places(source)]:
        files = listed(place)
        matches = [
            (match, file)
            for match, file in ((FILE.fullmatch(file.path), file) for file in files)
            if match
        ]
        if not matches:
            inside = (
                {'/'.join(pathlib.PurePosixPath(file.path).parts[:2]) for file in files}
                if place.is_file()
                else ()
            )
            raise UserError(
                '%s: holds no SPLIT/CITY/*_leftImg8bit.png or *_gtFine_labelIds.png (found: %s); of'
                ' the downloads of Cityscapes give %s'
                % (
                    place,
                    some(inside) if inside else '%d other images' % len(files),
                    ' and '.join(ARCHIVES.values()),
                )
            )
        for match, file in matches:
            kind, split, _, name = match.groups()
            if name in found[kind, split]:
                raise UserError(
                    '%s: is also in %s; name one of them' % (file, found[kind, split][name])
                )
            found[kind, split][name] = file
    return found


def pair(found: Found, splits: Sequence[str], allow_partial: bool) -> Dict[str, List[Item]]:
    """The images of each split with their labels, sorted by name. UserError, or a warning, if
    Cityscapes has more or less.
    """
    for kind in ARCHIVES:
        if not any(found[kind, split] for split in COUNTS) and (
            kind == IMAGES or set(splits) != {'test'}
        ):
            raise UserError(
                '--source: holds no %s/{train,val,test}; add %s' % (kind, ARCHIVES[kind])
            )
    items: Dict[str, List[Item]] = {}
    problems = []
    for split in splits:
        images = found[IMAGES, split]
        labels = (
            found[LABELS, split] if split != 'test' else dict.fromkeys(images)
        )  # the labels that gtFine has for test are dummies
        for these, others, what in (
            (images, labels, 'images have no label'),
            (labels, images, 'labels have no image'),
        ):
            alone = set(these) - set(others)
            problems += ['%d %s %s (%s)' % (len(alone), split, what, some(alone))] if alone else []
        items[split] = [
            (name, images[name], labels[name]) for name in sorted(set(images) & set(labels))
        ]
        more = len(items[split]) - COUNTS[split]
        if more:
            problems.append(
                'found %d %s images%s, %d are %s'
                % (
                    len(items[split]),
                    split,
                    '' if split == 'test' else ' with labels',
                    abs(more),
                    'too many' if more > 0 else 'missing',
                )
            )
    if problems and not (allow_partial and any(items.values())):
        raise UserError(
            'not all of Cityscapes: %s; complete it%s'
            % (
                '; '.join(problems),
                '' if allow_partial else ', or use what is there with --allow_partial',
            )
        )
    for problem in problems:
        sys.stderr.write('warning: %s\n' % problem)
    return {split: content for split, content in items.items() if content}


# ---- one record ----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def opened(archive: str) -> zipfile.ZipFile:
    """One a process: it takes a while to read the list of 20000 members."""
    return zipfile.ZipFile(archive)


def unusable(file: File, why: str) -> UserError:
    return UserError(
        '%s is not usable: %s; replace it, or leave out up to N images with --skip_corrupt N'
        % (file, why)
    )


def decode(file: File, is_label: bool) -> np.ndarray:
    """A PNG file -> uint8, an image [H,W,3] in BGR order, a label [H,W]. UserError names a file
    that is not whole or of another kind.
    """
    try:
        data = (
            opened(file.archive).read(file.path)
            if file.archive
            else pathlib.Path(file.path).read_bytes()
        )
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise unusable(file, 'it cannot be read: %s' % error)
    if data[:8] != b'\x89PNG\r\n\x1a\n' or len(data) < 33:
        raise unusable(file, 'it is no PNG' if data else 'it is empty')
    if b'IEND\xaeB`\x82' not in data:
        raise unusable(file, 'it is cut off')
    depth, kind = data[24], data[25]  # of the PNG header; OpenCV would scale 4 bits to 8
    if is_label and (depth, kind) != (8, 0):
        raise unusable(
            file,
            'it has %d bits %s, where label ids have 8 bits grey'
            % (depth, PNG_KINDS.get(kind, 'of an unknown kind')),
        )
    try:
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED if is_label else cv2.IMREAD_COLOR
        )
    except cv2.error as error:
        raise unusable(file, ' '.join(str(error).split()))
    if pixels is None:
        raise unusable(file, 'it is damaged')
    return pixels


def train_ids(file: File) -> np.ndarray:
    """A labelIds file -> uint8 [H,W] train ids. UserError if it holds what is no label id."""
    label = decode(file, True)
    present = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
    wrong = [int(id) for id in present if id >= cityscapes.LABELS and id != IGNORE]
    if wrong:
        raise unusable(
            file,
            'it holds the ids %s, where label ids are 0 to %d'
            % (some(wrong), cityscapes.LABELS - 1),
        )
    if IGNORE in present and all(present[:-1] < len(cityscapes.CLASSES)):
        # Label ids have 255 hardly ever, and plants, sky or cars, which are above 20, nearly
        # always.
        raise unusable(
            file,
            'it looks like train ids (255, and else nothing above 18), where label ids are needed',
        )
    return cityscapes.TRAIN_IDS[label]


def encode(item: Item, height: int, width: int) -> Dict[str, Any]:
    """(name, image, label) -> the features of a record. UserError names a file that cannot be used."""
    name, image, label = item
    values = (
        decode(image, False),
        (train_ids(label) if label else np.full((height, width), IGNORE, np.uint8)),
    )
    for file, value in zip((image, label), values):
        if value.shape[:2] != (height, width):
            raise unusable(
                file,
                'found %dx%d pixels, expected %dx%d as the others have'
                % (value.shape[1], value.shape[0], width, height),
            )
    return {
        'image': values[0].tobytes(),
        'label': values[1].tobytes(),
        'height': height,
        'width': width,
        'channels': 3,
        'filename': name.encode(),
    }


# ---- the command ---------------------------------------------------------------------------------


def prepared(path: pathlib.Path, allow_partial: bool) -> bool:
    """Whether the split was prepared before. UserError if something else, or less than is asked
    for, is in its place.
    """
    if not path.is_dir() or not any(path.iterdir()):
        return False
    folder = records.Folder.open(path)
    if folder.metadata.get('classes') != cityscapes.CLASSES or not (
        allow_partial or folder.metadata.get('complete')
    ):
        raise UserError(
            '%s: holds %d records of %s, not all of Cityscapes; remove it or choose another'
            ' --output' % (path, folder.count, folder.metadata.get('name', 'something else'))
        )
    sys.stderr.write('%s: already there (%d records), left as it is\n' % (path, folder.count))
    return True


def image_size(items: Sequence[Item], skip_corrupt: int) -> Tuple[int, int]:
    """(height, width) of the first image that can be read; all must have it, as evaluation takes
    whole images.
    """
    for number, (_, image, _) in enumerate(items):
        try:
            return decode(image, False).shape[:2]
        except UserError:
            if number >= min(skip_corrupt, len(items) - 1):
                raise


def check_space(output: pathlib.Path, counts: Dict[str, int], size: int) -> None:
    """Says what will be written, `counts` records of `size` bytes; UserError if the disk has no
    room for it.
    """
    needed = size * sum(counts.values())
    sys.stderr.write(
        '%s: writing %.3g GB, %s of %.3g MB\n'
        % (
            output,
            needed / 1e9,
            ' and '.join('%d %s records' % (count, split) for split, count in counts.items()),
            size / 1e6,
        )
    )
    unfinished = sum(
        file.stat().st_size for split in counts for file in output.glob('.%s.unfinished/*' % split)
    )  # record_writer.write goes on there
    place = next(
        folder for folder in [output.resolve(), *output.resolve().parents] if folder.exists()
    )
    free = shutil.disk_usage(str(place)).free
    if needed > free + unfinished:
        raise UserError(
            '--output %s: %.3g GB are needed, %.3g GB are free; make room, choose another disk, or'
            ' prepare fewer --splits' % (output, (needed - unfinished) / 1e9, free / 1e9)
        )


def prepare(flags: argparse.Namespace) -> None:
    """Writes the splits that are asked for, or that the source has, and that the output has not."""
    todo = [
        split
        for split in COUNTS
        if split in (flags.splits or COUNTS)
        and not prepared(flags.output / split, flags.allow_partial)
    ]
    if not todo:
        return
    found = find(flags.source)
    required = flags.splits or ([] if flags.allow_partial else ['train', 'val'])
    items = pair(
        found,
        [split for split in todo if split in required or found[IMAGES, split]],
        flags.allow_partial,
    )
    if not items:
        return  # only test is not prepared, and not there
    height, width = image_size(
        [item for content in items.values() for item in content], flags.skip_corrupt
    )
    schema = {
        **{
            key: {'kind': 'bytes', 'dtype': 'uint8', 'shape': shape}
            for key, shape in (('image', [height, width, 3]), ('label', [height, width]))
        },
        **{
            key: {'kind': 'int64', 'dtype': 'int64', 'shape': []}
            for key in ('height', 'width', 'channels')
        },
        'filename': {'kind': 'bytes', 'dtype': 'string', 'shape': []},
    }
    size = 4 * height * width  # bytes of a record
    check_space(flags.output, {split: len(content) for split, content in items.items()}, size)
    place = flags.source[0].resolve()
    for split, content in items.items():
        complete = len(content) == COUNTS[split]
        facts = {
            'source': 'leftImg8bit and gtFine',
            'complete': complete,
            'labelled': split != 'test',
            'ignore': IGNORE,
            'channel_order': 'BGR',
            'cities': dict(collections.Counter(name.rsplit('_', 2)[0] for name, _, _ in content)),
        }
        record_writer.write(
            flags.output / split,
            content,
            functools.partial(encode, height=height, width=width),
            split=split,
            schema=schema,
            name='cityscapes' if complete else (place.parent if place.is_file() else place).name,
            classes=cityscapes.CLASSES,
            metadata=facts,
            shards=min(len(content), int(len(content) * size / SHARD_BYTES) + 1),
            workers=flags.workers,
            restartable=True,
            skip_corrupt=flags.skip_corrupt,
        )


@entry_point
def main(arguments: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        prog='prepare_cityscapes',
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--source',
        required=True,
        nargs='+',
        type=pathlib.Path,
        help='the folder described above, or several folders and zip files',
    )
    parser.add_argument(
        '--output',
        required=True,
        type=pathlib.Path,
        help='folder to make train/, val/ and test/ in',
    )
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=list(COUNTS),
        help='only these (default: train, val and, if it is there, test)',
    )
    parser.add_argument(
        '--allow_partial',
        action='store_true',
        help='accept any number of images, and leave out those without a label',
    )
    parser.add_argument(
        '--skip_corrupt',
        type=int,
        default=0,
        help='leave out at most N images of a split that cannot be used',
    )
    parser.add_argument('--workers', type=int, help='processes (default: one a core)')
    flags = parser.parse_args(arguments)
    if flags.workers is not None and flags.workers < 1:
        raise UserError('--workers %d: give a whole number above 0' % flags.workers)
    try:
        prepare(flags)
    except OSError as error:
        raise UserError('--source or --output could not be read: %s' % error)
    finally:
        opened.cache_clear()  # closes the archives


if __name__ == '__main__':
    main()
