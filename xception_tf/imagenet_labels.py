"""The classes of ImageNet's validation images and their names, by files of tensorflow/models or of
the development kit.
"""

import io
import pathlib
import re
from typing import Dict, List, Tuple

import numpy as np

from common.data import preparation
from common.errors import UserError

SYNSET_LIST = 'imagenet_2012_validation_synset_labels.txt'
GROUND_TRUTH = 'ILSVRC2012_validation_ground_truth.txt'
KIT = 'ILSVRC2012_devkit_t12'
# Lines such as `n01440764 tench, Tinca tinca`.
WORDS = ('LOC_synset_mapping.txt', 'synset_words.txt', 'words.txt')
SYNSET = re.compile(r'n\d{8}$')
CLASSES = 1000  # of ILSVRC2012; the development kit also lists what they belong to, by higher ids


def _read_files(path: pathlib.Path) -> Dict[str, bytes]:
    """{name: content} of what tells of classes at `path`: a file, folder or packed kit."""
    names = (SYNSET_LIST, GROUND_TRUTH, 'meta.mat') + WORDS
    if path.is_file() and path.name.endswith(('.tar.gz', '.tgz')):
        with preparation.open_tar(path) as archive:
            members = {
                pathlib.PurePosixPath(member.name).name: member
                for member in preparation.archive_files(archive)
            }
            present = [name for name in names if name in members]
            return {name: archive.extractfile(members[name]).read() for name in present}
    if path.is_file():
        return {path.name: path.read_bytes()}
    kit = path / (KIT + '.tar.gz')
    files = _read_files(kit) if kit.is_file() else {}
    for folder in (path / KIT / 'data', path / 'data', path):
        files.update(
            (name, (folder / name).read_bytes()) for name in names if (folder / name).is_file()
        )
    return files


def validation_synsets(path: pathlib.Path) -> List[str]:
    """Returns the synset of each official validation image, by the list or the kit at `path`."""
    path = path.parent if path.name in (GROUND_TRUTH, 'meta.mat') else path
    files = _read_files(path)
    listed = files.get(path.name if path.is_file() else SYNSET_LIST)
    if listed is not None:
        lines = listed.decode('ascii', 'replace').split()
        if not lines or not all(map(SYNSET.match, lines)):
            raise UserError(
                '%s: expected one synset such as n01440764 a line, found %r'
                % (path, ' '.join(lines[:2])[:40])
            )
        return lines
    if GROUND_TRUTH in files and 'meta.mat' not in files:
        raise UserError(
            "%s: %s counts classes in the kit's own order, which only its meta.mat tells; put it"
            ' beside, or use %s' % (path, GROUND_TRUTH, SYNSET_LIST)
        )
    if GROUND_TRUTH not in files:
        raise UserError(
            '%s: nothing says which classes the validation images have; put %s or %s.tar.gz there,'
            ' or name its place with --val_labels' % (path, SYNSET_LIST, KIT)
        )
    synsets, _ = _read_meta(files['meta.mat'], path)
    try:
        return [synsets[int(line)] for line in files[GROUND_TRUTH].split()]
    except (ValueError, KeyError) as error:
        raise UserError(
            "%s: %s does not fit the kit's meta.mat (%s: %s); unpack the kit again"
            % (path, GROUND_TRUTH, type(error).__name__, error)
        )


def _read_meta(content: bytes, path: pathlib.Path) -> Tuple[Dict[int, str], Dict[str, str]]:
    """Returns ({ILSVRC2012_ID: synset}, {synset: words}) of the kit's meta.mat."""
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
            "%s: not the development kit's meta.mat (%s: %s)" % (path, type(error).__name__, error)
        )


def read_words(source: pathlib.Path) -> Dict[str, str]:
    """Returns {synset or folder: readable name} by the files in the source."""
    files = _read_files(source)
    for name in WORDS:
        if name in files:
            lines = files[name].decode('utf-8', 'replace').splitlines()
            pairs = [line.split(None, 1) for line in lines]
            return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    return _read_meta(files['meta.mat'], source)[1] if 'meta.mat' in files else {}
