"""Where the images of ImageNet (ILSVRC2012) are: in the archives, read in place, or in folders."""

import pathlib
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import tqdm

from common.data import images, preparation
from common.errors import UserError, first_few, warn
from xception_tf import imagenet_labels

COUNTS = {'train': 1281167, 'val': 50000}  # of ILSVRC2012
ARCHIVES = {'train': 'ILSVRC2012_img_train.tar', 'val': 'ILSVRC2012_img_val.tar'}


class File(NamedTuple):
    """An image: `size` bytes from `offset` of the file `path`, the whole file if size is -1."""

    path: str
    offset: int
    size: int
    name: str


Split = Dict[str, List[File]]  # class -> its images


def _members(path: pathlib.Path, start: int = 0) -> List[File]:
    """The files in the tar archive at byte `start` of `path`."""
    with preparation.open_tar(path, 'r:', start) as archive:
        return [
            File(str(path), member.offset_data, member.size, pathlib.Path(member.name).name)
            for member in preparation.archive_files(archive)
        ]


def train_archive(path: pathlib.Path) -> Split:
    """Returns the images of ILSVRC2012_img_train.tar: a tar of one tar a class."""
    inner = [file for file in _members(path) if file.name.endswith('.tar')]
    if not inner:
        raise UserError(
            '%s: holds no n01440764.tar and the like; it is not the ILSVRC2012 training archive'
            % path
        )
    with ThreadPoolExecutor(8) as pool:
        contents = pool.map(lambda file: _members(path, file.offset), inner)
        bar = tqdm.tqdm(contents, 'reading ' + path.name, len(inner), unit=' classes', disable=None)
        return {pathlib.Path(outer.name).stem: files for outer, files in zip(inner, bar)}


def _visible_entries(folder: pathlib.Path) -> List[pathlib.Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith('.'))


def class_folders(folder: pathlib.Path) -> Split:
    """Returns the images of FOLDER/CLASS/. UserError for a class without images: the classes after
    it would get other numbers elsewhere.
    """
    suffixes = ' '.join(images.SUFFIXES)
    by_class: Split = {entry.name: [] for entry in _visible_entries(folder) if entry.is_dir()}
    ignored = []
    for name, content in by_class.items():
        for file in _visible_entries(folder / name):
            if file.suffix.lower() in images.SUFFIXES:
                content.append(File(str(file), 0, -1, file.name))
            else:
                ignored.append(str(file))
    if not by_class:
        raise UserError(
            '%s: holds no folder of a class; put images there in a folder for each class' % folder
        )
    empty = [name for name, content in by_class.items() if not content]
    if empty:
        raise UserError(
            '%s: no image (%s) in %s; put images there, or remove such folders'
            % (folder, suffixes, first_few(empty))
        )
    if ignored:
        warn(
            '%d entries are not images (%s) and are left out, the first: %s'
            % (len(ignored), suffixes, ignored[0])
        )
    return by_class


def by_synset(files: Iterable[File], synsets: Sequence[str]) -> Split:
    """Returns the official validation images by synset; image N has the N-th of `synsets`."""
    by_class: Split = {}
    for file in files:
        number = re.match(r'ILSVRC2012_val_(\d{8})\.', file.name)
        if not number or not 0 < int(number.group(1)) <= len(synsets):
            raise UserError(
                '%s: %s is not one of ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_%08d.JPEG, for'
                ' which there are labels' % (file.path, file.name, len(synsets))
            )
        by_class.setdefault(synsets[int(number.group(1)) - 1], []).append(file)
    return by_class


def find(
    source: pathlib.Path, split: str, val_labels: pathlib.Path
) -> Optional[Tuple[Split, bool]]:
    """Returns (images, whether it is the official archive or flat folder) of a split, None without
    one.
    """
    archive, folder = source / ARCHIVES[split], source / split
    if archive.is_file() and split == 'train':
        return train_archive(archive), True
    if archive.is_file():
        return by_synset(_members(archive), imagenet_labels.validation_synsets(val_labels)), True
    if not folder.is_dir():
        return None
    flat = sorted(file for file in folder.iterdir() if file.name.startswith('ILSVRC2012_val_'))
    if split == 'val' and flat:
        files = [File(str(file), 0, -1, file.name) for file in flat]
        return by_synset(files, imagenet_labels.validation_synsets(val_labels)), True
    return class_folders(folder), False


def is_imagenet(by_class: Split) -> bool:
    """Whether these are the classes of ImageNet."""
    return len(by_class) == imagenet_labels.CLASSES and all(
        map(imagenet_labels.SYNSET.match, by_class)
    )


def check(by_class: Split, split: str, source: pathlib.Path, names: Dict[str, str]) -> None:
    """UserError if the split is not all of ImageNet's."""
    count, classes = sum(map(len, by_class.values())), imagenet_labels.CLASSES
    if not is_imagenet(by_class) or count != COUNTS[split]:
        missing = set(names) - set(by_class) if len(names) == classes else ()
        raise UserError(
            '%s: found %d images of %d classes, ILSVRC2012 %s has %d of %d%s; complete it, or use'
            ' what is there with --no_verify'
            % (
                source,
                count,
                len(by_class),
                split,
                COUNTS[split],
                classes,
                ' (missing: %s)' % first_few(missing) if missing else '',
            )
        )
