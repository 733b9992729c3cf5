"""prepare_cityscapes on files and archives that are not right, and after an interruption."""

import re
import shutil
import zipfile

import cv2
import numpy as np
import pytest
from cityscapes_archives import (
    HEIGHT,
    IMAGES,
    WIDTH,
    check_records,
    fine,
    image_files,
    label,
    label_files,
    left,
    picture,
    png,
    read,
    refused,
    run,
    train_ids,
    write_zip,
)
from preparing import contents, stamps, write_files

from resnest_tf import prepare_cityscapes

pytestmark = pytest.mark.usefixtures('small_cityscapes')


# Files that are not right


def grey(value):
    return np.full((HEIGHT, WIDTH), value, np.uint8)


NAME = 'aachen_000001_000019'
LABEL, PICTURE = label(NAME), picture(NAME)
WRONG_LABELS = {
    'an id above 33': (
        lambda: png(np.where(LABEL == 7, 34, LABEL).astype(np.uint8)),
        'ids 34, where label ids are 0 to 33',
    ),
    'train ids': (lambda: png(train_ids(LABEL)), 'looks like train ids'),
    'nothing but 255': (lambda: png(grey(255)), 'looks like train ids'),
    'colours': (lambda: png(PICTURE), '8 bits RGB, where label ids have 8 bits grey'),
    'a palette': (lambda: png(grey(7), 'P'), '8 bits palette'),
    'alpha': (lambda: png(PICTURE, 'RGBA'), '8 bits RGB and alpha'),
    '16 bits': (lambda: png(grey(26).astype(np.uint16) * 1000), '16 bits grey'),
    '1 bit': (lambda: png(grey(255), '1'), '1 bits grey'),
    'a label of another size': (
        lambda: png(label(NAME, 8, 32)),
        'found 32x8 pixels, expected 32x16',
    ),
    'a label that is cut off': (lambda: png(LABEL)[:-30], 'cut off'),
}
WRONG_IMAGES = {
    'an image of another size': (
        lambda: png(picture(NAME, 16, 30)),
        'found 30x16 pixels, expected 32x16',
    ),
    'an image that is cut off': (lambda: png(PICTURE)[:500], 'cut off'),
    'a damaged image': (lambda: png(PICTURE)[:500] + b'damage' + png(PICTURE)[506:], 'damaged'),
    'a JPEG': (lambda: cv2.imencode('.jpg', PICTURE)[1].tobytes(), 'not a PNG'),
    'an empty image': (lambda: b'', 'is empty'),
}


@pytest.mark.parametrize('what', [*WRONG_LABELS, *WRONG_IMAGES])
@pytest.mark.parametrize('form', ['folder', 'zip'])
def test_files_that_cannot_be_used(tmp_path, capsys, form, what):
    name = (fine if what in WRONG_LABELS else left)('train', NAME)
    content, part = {**WRONG_LABELS, **WRONG_IMAGES}[what]
    files = {**image_files(), **label_files(), name: content()}
    if form == 'folder':
        source = write_files(tmp_path / 'source', files)
        place = source / name
    else:
        source = write_zip(tmp_path / 'source.zip', files)
        place = '%s: %s' % (source, name)
    line = refused(capsys, source, tmp_path / 'out')
    assert '%s is not usable' % place in line and '--skip_corrupt' in line and part in line
    run(source, tmp_path / 'out', '--skip_corrupt', 1)
    assert 'warning: left out' in capsys.readouterr().err
    rest = [one for one in IMAGES['train'] if one != NAME]
    assert list(read(tmp_path / 'out' / 'train')) == rest


def test_no_more_than_skip_corrupt_allows(extracted, tmp_path, capsys):
    names = IMAGES['train']
    for name in names[:3]:  # also the first, whose size the others must have
        (extracted / left('train', name)).write_bytes(b'no image')
    assert names[2] in refused(capsys, extracted, tmp_path / 'out', '--skip_corrupt', 2)
    run(extracted, tmp_path / 'out', '--skip_corrupt', 3)
    assert list(read(tmp_path / 'out' / 'train')) == names[3:]


def test_finished_files_survive_an_interruption(extracted, tmp_path, capsys, monkeypatch):
    clean, out = tmp_path / 'clean', tmp_path / 'out'
    monkeypatch.setattr(prepare_cityscapes, 'SHARD_BYTES', 4 * HEIGHT * WIDTH)
    run(extracted, clean)
    file = extracted / fine('train', IMAGES['train'][-1])
    whole = file.read_bytes()
    file.write_bytes(whole[:50])
    assert str(file) in refused(capsys, extracted, out)
    kept = stamps(out / '.train.unfinished', 'train-*.tfrecord')
    assert len(kept) == 3
    file.write_bytes(whole)
    run(extracted, out)
    assert contents(out) == contents(clean)
    assert kept.items() <= stamps(out / 'train').items()
    assert sorted(path.name for path in out.iterdir()) == ['test', 'train', 'val']


# Archives that are not right


def test_damage_inside_an_archive(zipped, tmp_path, capsys):
    archive = zipped / 'leftImg8bit_trainvaltest.zip'
    name = left('val', 'munster_000173_000019')
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(str(archive)) as opened:
        data[opened.getinfo(name).header_offset + 30 + len(name) + 300] ^= 255
    archive.write_bytes(bytes(data))
    line = refused(capsys, zipped, tmp_path / 'out', '--splits', 'val')
    assert '%s: %s is not usable: it cannot be read' % (archive, name) in line
    run(zipped, tmp_path / 'out', '--splits', 'val', '--skip_corrupt', 1)
    assert list(read(tmp_path / 'out' / 'val')) == ['frankfurt_000000_000294']


PAGE = b'\n<!DOCTYPE html><html>please log in</html>'


@pytest.mark.parametrize(
    'content, part',
    [
        (lambda whole: whole[: len(whole) // 2], 'not a whole zip archive'),
        (lambda whole: b'', 'not a whole zip archive'),
        (lambda whole: PAGE, 'a web page, not a zip archive: the download needs a login'),
    ],
)
def test_archives_that_are_not_whole(zipped, tmp_path, capsys, content, part):
    archive = zipped / 'gtFine_trainvaltest.zip'
    archive.write_bytes(content(archive.read_bytes()))
    line = refused(capsys, zipped, tmp_path / 'out')
    assert '%s: %s' % (archive, part) in line and 'download it again' in line


@pytest.mark.parametrize(
    'folder, file',
    [
        ('gtCoarse/train', 'aachen/aachen_000000_000019_gtCoarse_labelIds.png'),
        ('leftImg8bit/train_extra', 'augsburg/augsburg_000000_000000_leftImg8bit.png'),
        ('leftImg8bit_blurred/train', 'ulm/ulm_000000_000019_leftImg8bit_blurred.png'),
        ('gtFine/train', 'ulm/ulm_000000_000019_gtFine_labelTrainIds.png'),
    ],
)
def test_other_archives_of_cityscapes(zipped, tmp_path, capsys, folder, file):
    archive = write_zip(tmp_path / 'other.zip', {'%s/%s' % (folder, file): b'x'})
    line = refused(capsys, [zipped, archive], tmp_path / 'out')
    assert str(archive) in line
    assert '(found: %s' % folder in re.sub('README, |license.txt, ', '', line)
    assert 'leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip' in line


def test_sources_that_are_not_right(zipped, extracted, tmp_path, capsys):
    out, absent = tmp_path / 'out', tmp_path / 'absent'
    line = refused(capsys, absent, out)
    assert '--source %s: no such file or folder' % absent in line
    write_files(tmp_path / 'other', {'gtCoarse.zip': b'x'})
    line = refused(capsys, tmp_path / 'other', out)
    for part in ('leftImg8bit_trainvaltest.zip', 'gtFine_trainvaltest.zip', 'found: gtCoarse.zip'):
        assert part in line
    line = refused(capsys, [zipped, extracted], out)
    assert 'is also in %s' % (zipped / 'leftImg8bit_trainvaltest.zip') in line
    line = refused(capsys, zipped / 'gtFine_trainvaltest.zip', out)
    assert 'holds no leftImg8bit/' in line and 'leftImg8bit_trainvaltest.zip' in line


def test_disk_space(zipped, tmp_path, capsys, monkeypatch):
    out = tmp_path / 'new' / 'out'
    needed = 4 * HEIGHT * WIDTH * sum(map(len, IMAGES.values()))
    free = {str(tmp_path.resolve()): needed - 1}

    def disk_usage(place):
        return shutil._ntuple_diskusage(10**9, 0, free[str(place)])

    monkeypatch.setattr(prepare_cityscapes.shutil, 'disk_usage', disk_usage)
    line = refused(capsys, zipped, out)
    assert '--output' in line and 'are needed' in line and 'are free' in line
    # What is there counts.
    write_files(out, {'.train.unfinished/train-00000-of-00001.tfrecord': b'x'})
    free[str(out.resolve())] = needed - 1
    run(zipped, out)
    check_records(out)
