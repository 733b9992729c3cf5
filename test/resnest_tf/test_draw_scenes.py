"""resnest_tf.draw_scenes: what is drawn, and that it can be prepared as Cityscapes is."""

import os

import cv2
import numpy as np
import pytest
import tensorflow as tf

from common.data import records
from resnest_tf import draw_scenes, prepare_cityscapes, street

DRAWN = {
    'road': 7,
    'sidewalk': 8,
    'building': 11,
    'pole': 17,
    'vegetation': 21,
    'sky': 23,
    'person': 24,
    'car': 26,
}
EGO, STATIC = 1, 4


def run(output, *flags):
    draw_scenes.main(['--output', str(output), *map(str, flags)])


def refused(capsys, *flags):
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(*flags)
    assert caught.value.code == 2
    return capsys.readouterr().err


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


@pytest.fixture(scope='module')
def scenes():
    """(images, label ids) of 24 scenes to train on."""
    return [
        np.stack(arrays)
        for arrays in zip(*(draw_scenes.draw(1, 'train', number, 128, 256) for number in range(24)))
    ]


def test_layout_of_cityscapes(tmp_path):
    run(tmp_path / 'scenes', '--train', 3, '--val', 2, '--height', 64, '--width', 96)
    names = {
        split: ['%s_000000_%06d' % (draw_scenes.CITIES[split], i) for i in range(count)]
        for split, count in (('train', 3), ('val', 2))
    }
    assert set(content(tmp_path / 'scenes')) == {
        '%s/%s/%s/%s_%s.png' % (kind, split, draw_scenes.CITIES[split], name, ending)
        for split in names
        for name in names[split]
        for kind, ending in (('leftImg8bit', 'leftImg8bit'), ('gtFine', 'gtFine_labelIds'))
    }
    for path in (tmp_path / 'scenes').rglob('*.png'):
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert pixels.dtype == np.uint8 and pixels.shape == (
            (64, 96) if path.name.endswith('labelIds.png') else (64, 96, 3)
        )


def test_a_scene_depends_on_seed_split_and_number_alone(tmp_path):
    size = ['--height', 64, '--width', 96]
    run(tmp_path / 'few', '--train', 2, '--val', 1, *size)
    run(tmp_path / 'many', '--train', 4, '--val', 3, '--seed', 1, *size)
    run(tmp_path / 'other', '--train', 2, '--val', 1, '--seed', 2, *size)
    few, many, other = (content(tmp_path / name) for name in ('few', 'many', 'other'))
    assert {name: many[name] for name in few} == few and len(many) == 14
    assert set(other) == set(few) and all(other[name] != few[name] for name in few)
    assert len(set(many.values())) == 14  # also: no scene of val is one of train


def test_labels(scenes):
    images, ids = scenes
    counts = np.bincount(ids.ravel(), minlength=256) / ids.size
    assert set(np.flatnonzero(counts)) == set(DRAWN.values()) | {EGO, STATIC}
    assert (
        all(counts[id] > 0.01 for id in DRAWN.values())
        and counts[DRAWN['road']] < 0.5
        and counts[EGO] + counts[STATIC] < 0.12
    )
    for name, share in (
        ('road', 1),
        ('sky', 0.9),
        ('building', 1),
        ('sidewalk', 1),
        ('car', 0.8),
        ('person', 0.9),
        ('vegetation', 0.8),
        ('pole', 0.8),
    ):
        assert np.mean([(DRAWN[name] == one).any() for one in ids]) >= share, name
    assert (
        (ids[:, -1, 128] == EGO).all()
        and np.mean(ids[:, 0] == DRAWN['sky']) > 0.2
        and not (ids[:, 100:] == DRAWN['sky']).any()
    )
    assert images.dtype == np.uint8 and images.std() > 30 and images.std(axis=(1, 2, 3)).min() > 15


def test_edges_of_labels_are_those_of_the_picture(scenes):
    """Pixels that differ from their neighbour in label differ in colour as well, more than
    neighbours of the same label.
    """
    images, ids = scenes
    steps = np.abs(np.diff(images.astype(float), axis=2)).sum(-1)
    same = np.diff(ids.astype(int), axis=2) == 0
    assert steps[~same].mean() > 2 * steps[same].mean()
    shifted = np.roll(same, 4, axis=2)
    assert steps[~same].mean() > 1.5 * steps[~shifted].mean()


def test_small_things_are_still_seen():
    def box(thing, z, seed=0):
        """(width, height) in pixels of a thing that stands alone."""
        scene = draw_scenes.Scene(np.random.RandomState(seed), 128, 256)
        getattr(street, thing)(scene, 0.0, z)
        rows, columns = np.nonzero(scene.ids)
        return np.bincount(rows).max() if thing == 'pole' else np.ptp(columns) + 1, np.ptp(rows) + 1

    for seed in range(10):
        assert box('person', 17, seed)[0] >= 4 and box('person', 17, seed)[1] >= 12
        assert box('pole', 45, seed)[0] >= 3 and box('pole', 45, seed)[1] >= 12
        assert min(box('car', 45, seed)) >= 5
    assert box('person', 6)[1] > 2 * box('person', 17)[1]


def test_colour_alone_does_not_tell_the_class(scenes):
    """A table from colour (4 bits a channel) to its most frequent class, made of 20 scenes, labels
    4 others badly.
    """
    images, ids = scenes
    keys = (images // 16).astype(int) @ [256, 16, 1]
    table = np.zeros((4096, 34), int)
    np.add.at(table, (keys[:20].ravel(), ids[:20].ravel()), 1)
    guess, truth = table.argmax(1)[keys[20:]], ids[20:]
    iou = [
        ((guess == id) & (truth == id)).sum() / ((guess == id) | (truth == id)).sum()
        for id in DRAWN.values()
    ]
    assert 0.05 < np.mean(iou) < 0.35


def test_scenes_are_prepared_as_cityscapes_is(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0})
    run(tmp_path / 'scenes', '--train', 3, '--val', 2, '--height', 64, '--width', 96)
    prepare_cityscapes.main(
        [
            '--source',
            str(tmp_path / 'scenes'),
            '--output',
            str(tmp_path / 'records'),
            '--allow_partial',
        ]
    )
    train_ids = {
        id: place
        for place, id in enumerate(
            [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
        )
    }
    for split, count in (('train', 3), ('val', 2)):
        folder = records.Folder.open(tmp_path / 'records' / split)
        assert folder.count == count and folder.metadata['name'] == 'scenes'
        for number, payload in enumerate(folder.read(range(count))):
            feature = tf.train.Example.FromString(payload).features.feature
            image, ids = draw_scenes.draw(1, split, number, 64, 96)
            assert feature['image'].bytes_list.value[0] == image.tobytes()
            assert (
                feature['label'].bytes_list.value[0]
                == np.vectorize(lambda id: train_ids.get(id, 255))(ids).astype(np.uint8).tobytes()
            )
    assert sorted(path.name for path in (tmp_path / 'records').iterdir()) == ['train', 'val']


def test_the_folder_appears_whole_or_not_at_all(tmp_path, capsys, monkeypatch):
    encode, calls = cv2.imencode, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) > 3:
            raise OSError(28, 'No space left on device')
        return encode(*arguments)

    monkeypatch.setattr(cv2, 'imencode', full)
    assert 'scenes: No space left on device' in refused(
        capsys, tmp_path / 'scenes', '--train', 3, '--val', 1, '--height', 64, '--width', 64
    )
    assert len(calls) == 4 and not list(tmp_path.iterdir())


def test_what_is_there_stays(tmp_path, capsys):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'notes.txt').write_text('mine')
    assert 'mine already exists and is not empty; remove it' in refused(capsys, tmp_path / 'mine')
    assert 'already exists' in refused(capsys, tmp_path / 'mine' / 'notes.txt')
    assert content(tmp_path / 'mine') == {'notes.txt': b'mine'}
    (tmp_path / 'empty').mkdir()
    run(tmp_path / 'empty', '--train', 1, '--val', 0, '--height', 64, '--width', 64)
    assert len(content(tmp_path / 'empty')) == 2


@pytest.mark.parametrize(
    'flag, value, legal',
    [
        ('--train', -1, '0 to 1000000'),
        ('--height', 16, '32 to 4096'),
        ('--width', 9000, '32 to 8192'),
        ('--seed', -1, '0 to 4294967295'),
    ],
)
def test_mistakes(tmp_path, capsys, flag, value, legal):
    assert '%s: found %d, give a whole number, %s' % (flag, value, legal) in refused(
        capsys, tmp_path / 'scenes', flag, value
    )
    assert not (tmp_path / 'scenes').exists()
