"""prepare_imagenet on folders of one's own classes, and scikit-learn's digits."""

import shutil

import cv2
import numpy as np
import pytest
from imagenet_archives import image, read, refused, run
from preparing import described, write_files
from sklearn.datasets import load_digits

from common.data import digits

pytestmark = pytest.mark.usefixtures('small_imagenet')


def own(folder, **counts):
    """Folders of classes with so many images, in JPEG and PNG."""
    for j, (name, count) in enumerate(sorted(counts.items())):
        for i in range(count):
            ending, kind = [('jpg', 'JPEG'), ('png', 'PNG'), ('JPG', 'JPEG')][i % 3]
            write_files(folder / name, {'%s %d.%s' % (name, i, ending): image(j * 50 + i, kind)})
    return folder


def test_own_images(tmp_path, capsys):
    pets, out = tmp_path / 'pets', tmp_path / 'out'
    own(pets / 'train', dog=4, cat=3, bird=5)
    own(pets / 'val', dog=2, bird=1)
    write_files(pets / 'train' / 'dog', {'notes.txt': b'x', '.DS_Store': b'x'})
    run(pets, out, '--label_offset', 0)
    err = capsys.readouterr().err
    assert 'notes.txt' in err and '.DS_Store' not in err
    assert 'warning: val has no image of 1 of the 3 classes: cat' in err
    names = ['bird', 'cat', 'dog']
    for split, counts in (('train', [5, 3, 4]), ('val', [1, 0, 2])):
        found = [(record['class/label'], record['filename']) for record in read(out / split)]
        assert np.bincount([label for label, _ in found], minlength=3).tolist() == counts
        assert all(file.startswith(names[label]) for label, file in found)
        metadata = described(out / split)
        assert metadata['classes'] == metadata['synsets'] == names and metadata['name'] == 'pets'


def test_splits_number_classes_alike(tmp_path, capsys):
    pets, out = tmp_path / 'pets', tmp_path / 'out'
    own(pets / 'train', dog=4, cat=3)
    own(pets / 'val', dog=2, ant=1)
    assert 'val has classes that the other split lacks: ant' in refused(capsys, pets, out)
    run(pets, out, '--split', 'train')
    shutil.rmtree(str(pets / 'val' / 'ant'))
    with pytest.raises(SystemExit):
        run(pets, out, '--label_offset', 0)
    err = capsys.readouterr().err
    assert '--label_offset 0: the other split in %s was prepared with 1' % out in err
    run(pets, out)  # without cat: dog keeps its number
    assert [record['class/label'] for record in read(out / 'val')] == [2, 2]


def test_names_of_own_classes(tmp_path):
    source = own(tmp_path / 'pets' / 'train', d1=2, c1=1).parent
    write_files(source, {'words.txt': 'd1\tDackel, böse\nx1 unused\n'.encode()})
    run(source, tmp_path / 'out')
    train, names = tmp_path / 'out' / 'train', ['c1', 'Dackel, böse']
    metadata = described(train)
    assert metadata['classes'] == names and metadata['synsets'] == ['c1', 'd1']
    assert {record['class/text'] for record in read(train)} == set(names)


def test_folders_of_classes_need_a_split(tmp_path, capsys):
    source = own(tmp_path / 'pets', dog=10, cat=6, bird=1)
    assert 'give --split train or --split val' in refused(capsys, source, tmp_path / 'out')
    run(source, tmp_path / 'all', '--split', 'val')
    assert len(read(tmp_path / 'all' / 'val')) == 17 and not (tmp_path / 'all' / 'train').exists()


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--limit_per_class', '0'], '--limit_per_class: found 0, give a whole number, 1 or more'),
        ([], 'no image'),
        (['--source', 'absent'], 'absent: no such folder'),
    ],
)
def test_mistakes(tmp_path, capsys, flags, message):
    source = own(tmp_path / 'pets' / 'train', dog=2).parent
    write_files(source / 'train' / 'cat', {'cat.txt': b'no image'})
    assert message in refused(capsys, source, tmp_path / 'out', *flags)


# Digits


def nearest_digits(images):
    """Which of scikit-learn's digits each image shows; a few are so alike that it is another of the
    same class.
    """
    known = load_digits().data
    small = [cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).ravel() for image in images]
    return [int(np.square(known - one * (16 / 255)).sum(1).argmin()) for one in small]


def test_digits(tmp_path):
    run('digits', tmp_path / 'out')
    seen = {}
    for split, count in (('train', 1437), ('val', 360)):
        found, metadata = read(tmp_path / 'out' / split), described(tmp_path / 'out' / split)
        assert len(found) == count == metadata['count']
        assert metadata['classes'] == [str(i) for i in range(10)]
        assert {record['height'] for record in found} == {72}
        encoded = [np.frombuffer(record['encoded'], np.uint8) for record in found]
        seen[split] = nearest_digits(cv2.imdecode(one, cv2.IMREAD_GRAYSCALE) for one in encoded)
        labels = [record['class/label'] for record in found]
        assert np.array_equal(load_digits().target[seen[split]] + 1, labels)
    train, val = set(seen['train']), set(seen['val'])
    assert len(train | val) >= 1790 and len(train & val) <= 5
    # WideResNet's digits are split alike.
    assert len(set(nearest_digits(digits.load(32)['test'][0])) ^ val) <= 5
