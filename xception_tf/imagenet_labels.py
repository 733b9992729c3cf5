"""The classes of ImageNet's validation images and their names, by files of tensorflow/models or of
the development kit.
"""

import io
import pathlib
import re
import tarfile
import zlib
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


def _texts(place: pathlib.Path) -> Dict[str, bytes]:
    """{name: content} of what tells of classes at `place`: a file, folder or packed kit."""
    wanted = (SYNSET_LIST, GROUND_TRUTH, 'meta.mat') + WORDS
    if place.is_file() and place.name.endswith(('.tar.gz', '.tgz')):
        try:
            with tarfile.open(place) as archive:
                found = {
                    pathlib.PurePosixPath(member.name).name: member
                    for member in preparation.archive_files(archive)
                }
                return {
                    name: archive.extractfile(found[name]).read()
                    for name in wanted
                    if name in found
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
    """Returns the synset of each official validation image, by the list or the kit at `place`."""
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
            "%s: %s counts classes in the kit's own order, which only its meta.mat tells; put it"
            ' beside, or use %s' % (place, GROUND_TRUTH, SYNSET_LIST)
        )
    if GROUND_TRUTH not in found:
        raise UserError(
            '%s: nothing says which classes the validation images have; put %s or %s.tar.gz there,'
            ' or name its place with --val_labels' % (place, SYNSET_LIST, KIT)
        )
    synsets, _ = _read_meta(found['meta.mat'], place)
    try:
        return [synsets[int(line)] for line in found[GROUND_TRUTH].split()]
    except (ValueError, KeyError) as error:
        raise UserError(
            "%s: %s does not fit the kit's meta.mat (%s: %s); unpack the kit again"
            % (place, GROUND_TRUTH, type(error).__name__, error)
        )


def _read_meta(content: bytes, place: pathlib.Path) -> Tuple[Dict[int, str], Dict[str, str]]:
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
            "%s: not the development kit's meta.mat (%s: %s)" % (place, type(error).__name__, error)
        )


def read_words(source: pathlib.Path) -> Dict[str, str]:
    """Returns {synset or folder: readable name} by the files in the source."""
    found = _texts(source)
    for name in WORDS:
        if name in found:
            lines = found[name].decode('utf-8', 'replace').splitlines()
            pairs = [line.split(None, 1) for line in lines]
            return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    return _read_meta(found['meta.mat'], source)[1] if 'meta.mat' in found else {}
