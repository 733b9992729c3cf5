"""The files of Cityscapes: finding them in the downloads, packed or not, and reading them."""

import functools
import pathlib
import re
import zipfile
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from common.errors import UserError, first_few, warn
from common.files import ZIP_ERRORS
from resnest_tf import cityscapes
from resnest_tf.cityscapes import IGNORE

IMAGES, LABELS = 'leftImg8bit', 'gtFine'
ARCHIVES = {IMAGES: 'leftImg8bit_trainvaltest.zip', LABELS: 'gtFine_trainvaltest.zip'}
# CITY/CITY_SSSSSS_FFFFFF_leftImg8bit.png, CITY/CITY_SSSSSS_FFFFFF_gtFine_labelIds.png; _color,
# _instanceIds and _polygons are not used.
FILE = re.compile(
    r'(?:.*/)?(leftImg8bit|gtFine)/(train|val|test)/([^/]+)/(\3_\d{6}_\d{6})'
    r'_\1(?:(?<=8bit)|(?<=Fine)_labelIds)\.png'
)
PNG_KINDS = {0: 'grey', 2: 'RGB', 3: 'palette', 4: 'grey and alpha', 6: 'RGB and alpha'}


class File(NamedTuple):
    """The file `path`, or the member `path` of the zip file `archive`."""

    archive: Optional[str]
    path: str

    def __str__(self):
        return '%s: %s' % self if self.archive else self.path


Item = Tuple[str, File, Optional[File]]  # name, image, label
FileIndex = Dict[Tuple[str, str], Dict[str, File]]  # (leftImg8bit or gtFine, split) -> {name: file}


def list_files(path: pathlib.Path) -> List[File]:
    """Returns all files in a zip file, or the PNGs in a folder leftImg8bit/ or gtFine/."""
    if path.is_dir():
        return [File(None, str(file)) for file in sorted(path.glob('*/*/*.png'))]
    try:
        with zipfile.ZipFile(path) as archive:
            return [File(str(path), name) for name in archive.namelist() if not name.endswith('/')]
    except ZIP_ERRORS as error:
        problem = 'not a whole zip archive (%s)' % error
        with open(path, 'rb') as source:
            if source.read(100).lstrip()[:1] == b'<':
                problem = 'a web page, not a zip archive: the download needs a login'
        raise UserError('%s: %s; download it again' % (path, problem))


def archives_and_folders(source: pathlib.Path) -> List[pathlib.Path]:
    """Returns the zip files and extracted folders of a --source; a zip goes before its folder."""
    if source.is_file() or source.name in ARCHIVES and source.is_dir():
        return [source]
    if not source.is_dir():
        raise UserError(
            '--source %s: no such file or folder; name the zip files, or the folder that holds them'
            % source
        )
    paths = [
        source / archive if (source / archive).is_file() else source / kind
        for kind, archive in ARCHIVES.items()
    ]
    paths = [path for path in paths if path.exists()]
    if not paths:
        entries = first_few(entry.name for entry in source.iterdir())
        raise UserError(
            '--source %s: holds neither %s nor %s nor %s/ nor %s/ (found: %s); name the folder that'
            ' does, or the zip files' % (source, *ARCHIVES.values(), *ARCHIVES, entries)
        )
    return paths


def find(sources: Sequence[pathlib.Path]) -> FileIndex:
    """Returns every image and every label file. UserError for a source of something else."""
    index: FileIndex = {(kind, split): {} for kind in ARCHIVES for split in cityscapes.COUNTS}
    for path in [path for source in sources for path in archives_and_folders(source)]:
        files = {file: FILE.fullmatch(file.path) for file in list_files(path)}
        if not any(files.values()):
            content = '%d other images' % len(files)
            if files and path.is_file():
                content = first_few({'/'.join(file.path.split('/')[:2]) for file in files})
            raise UserError(
                '%s: holds no SPLIT/CITY/*_leftImg8bit.png or *_gtFine_labelIds.png (found: %s); of'
                ' the downloads of Cityscapes give %s'
                % (path, content, ' and '.join(ARCHIVES.values()))
            )
        for file, match in files.items():
            if match:
                kind, split, _, name = match.groups()
                other = index[kind, split].setdefault(name, file)
                if other is not file:
                    raise UserError('%s: is also in %s; name one of them' % (file, other))
    return index


def pair(index: FileIndex, splits: Sequence[str], allow_partial: bool) -> Dict[str, List[Item]]:
    """Returns the images of each split with their labels, sorted by name. UserError, or a warning,
    if Cityscapes has more or less.
    """
    for kind in [IMAGES] if set(splits) == {'test'} else ARCHIVES:
        if not any(index[kind, split] for split in cityscapes.COUNTS):
            raise UserError(
                '--source: holds no %s/{train,val,test}; add %s' % (kind, ARCHIVES[kind])
            )
    items: Dict[str, List[Item]] = {}
    problems = []
    for split in splits:
        images = index[IMAGES, split]
        # The labels that gtFine has for test are dummies.
        labels = dict.fromkeys(images) if split == 'test' else index[LABELS, split]
        for names, problem in (
            (set(images) - set(labels), 'images have no label'),
            (set(labels) - set(images), 'labels have no image'),
        ):
            if names:
                problems.append('%d %s %s (%s)' % (len(names), split, problem, first_few(names)))
        names = sorted(set(images) & set(labels))
        items[split] = [(name, images[name], labels[name]) for name in names]
        surplus = len(names) - cityscapes.COUNTS[split]
        if surplus:
            kind = 'images' if split == 'test' else 'images with labels'
            state = 'too many' if surplus > 0 else 'missing'
            problems.append(
                'found %d %s %s, %d are %s' % (len(names), split, kind, abs(surplus), state)
            )
    if problems and not (allow_partial and any(items.values())):
        hint = '' if allow_partial else ', or use what is there with --allow_partial'
        raise UserError('not all of Cityscapes: %s; complete it%s' % ('; '.join(problems), hint))
    for problem in problems:
        warn(problem)
    return {split: content for split, content in items.items() if content}


@functools.lru_cache(maxsize=None)
def open_archive(archive: str) -> zipfile.ZipFile:
    """Opens an archive, once a process: reading the list of 20000 members takes a while."""
    return zipfile.ZipFile(archive)


def unusable(file: File, why: str) -> UserError:
    return UserError(
        '%s is not usable: %s; replace it, or leave out up to N images with --skip_corrupt N'
        % (file, why)
    )


def decode(file: File, is_label: bool) -> np.ndarray:
    """Returns the uint8 pixels of a PNG file: an image [H,W,3] in BGR order, or a label [H,W].

    UserError names a file that is not whole or of another kind.
    """
    try:
        if file.archive:
            data = open_archive(file.archive).read(file.path)
        else:
            data = pathlib.Path(file.path).read_bytes()
    except (OSError, *ZIP_ERRORS) as error:
        raise unusable(file, 'it cannot be read: %s' % error)
    if data[:8] != b'\x89PNG\r\n\x1a\n' or len(data) < 33:
        raise unusable(file, 'it is not a PNG' if data else 'it is empty')
    if b'IEND\xaeB`\x82' not in data:
        raise unusable(file, 'it is cut off')
    depth, kind = data[24], data[25]  # of the PNG header; OpenCV would scale 4 bits to 8
    if is_label and (depth, kind) != (8, 0):
        properties = depth, PNG_KINDS.get(kind, 'of an unknown kind')
        raise unusable(file, 'it has %d bits %s, where label ids have 8 bits grey' % properties)
    mode = cv2.IMREAD_UNCHANGED if is_label else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error as error:
        raise unusable(file, ' '.join(str(error).split()))
    if pixels is None:
        raise unusable(file, 'it is damaged')
    return pixels


def train_ids(file: File) -> np.ndarray:
    """Returns a labelIds file as uint8 [H,W] train ids. UserError if it is something else."""
    label = decode(file, True)
    present = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
    illegal = [int(id) for id in present if id >= cityscapes.LABELS and id != IGNORE]
    if illegal:
        why = 'it holds the ids %s, where label ids are 0 to %d'
        raise unusable(file, why % (first_few(illegal), cityscapes.LABELS - 1))
    if IGNORE in present and all(present[:-1] < len(cityscapes.CLASSES)):
        # Label ids hardly ever include 255, and nearly always vegetation, sky or cars, above 20.
        why = 'it looks like train ids (255, and else nothing above 18), where label ids are needed'
        raise unusable(file, why)
    return cityscapes.TRAIN_IDS[label]
