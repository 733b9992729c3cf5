"""The few pictures that a report shows: the worst ones stay, in order."""

import json
import types

import cv2
import numpy as np
import pytest

from common.errors import UserError
from common.metrics import classification
from common.metrics.pictures import Gallery


def grey(value):
    return np.full([4, 6, 3], value, np.uint8)


def shown(folder):
    """{file: value of its pixels} in the order of the list; the folder holds nothing else."""
    content = json.loads((folder / 'gallery.json').read_text())
    files = [picture['file'] for picture in content['pictures']]
    assert sorted(files + ['gallery.json']) == sorted(path.name for path in folder.iterdir())
    return {name: int(cv2.imread(str(folder / name)).mean()) for name in files}


def test_the_first_in_order_stay(tmp_path):
    orders = np.random.RandomState(0).permutation(40)
    gallery, drawn = Gallery(str(tmp_path), 'Worst', 5), []
    for order in orders:
        gallery.offer(
            order, 'n%d' % order, 'x', lambda order=order: drawn.append(order) or grey(order)
        )
    assert shown(tmp_path) == {'n%d.png' % order: order for order in range(5)}
    assert list(shown(tmp_path)) == ['n%d.png' % order for order in range(5)]
    assert len(drawn) < 30  # what does not stay is not drawn


def test_a_new_evaluation_replaces_the_pictures(tmp_path):
    Gallery(str(tmp_path), 'Worst', 5).offer(0, 'old', 'x', lambda: grey(9))
    again = Gallery(str(tmp_path), 'Worst', 5)
    assert list(shown(tmp_path)) == ['old.png']  # until there is something to show
    again.offer(7, 'new', 'a caption', lambda: grey(8))
    assert shown(tmp_path) == {'new.png': 8}
    content = json.loads((tmp_path / 'gallery.json').read_text())
    assert content == {'title': 'Worst', 'pictures': [{'file': 'new.png', 'caption': 'a caption'}]}


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'worst').write_text('')
    with pytest.raises(UserError, match='--output_path: .*worst.* could not be written'):
        Gallery(str(tmp_path / 'worst'), 'Worst', 1).offer(0, 'a', 'x', lambda: grey(1))


@pytest.mark.parametrize('names', [['cat', 'dog', 'bird'], []])
def test_the_worst_images_of_a_classifier(names, tmp_path):
    cfg = types.SimpleNamespace(num_classes=3, output_path=str(tmp_path))
    folder = types.SimpleNamespace(path='DATA', metadata={'classes': names})
    add_up = classification.accumulator(cfg, folder, True)
    images = np.stack([np.full([32, 32, 3], 10 * index, np.uint8) for index in range(6)])
    logits = np.array(
        [[5, 0, 0], [0, 1, 3.5], [0, 0, 5], [0, 1.5, 0], [9, 0, 0], [0, 3.5, 0]], np.float32
    )
    batch = {
        'label': np.array([0, 1, 2, 0, 1, 2]),
        'logits': logits,
        'mask': np.array([1, 1, 1, 1, 0, 1]),
        'finite': np.ones(6),
        'id': np.arange(10, 16),
        'image': images,
    }
    assert add_up(batch)['top1'] == 2
    worst = shown(tmp_path / 'worst')
    assert worst == {'record_000015.png': 50, 'record_000011.png': 10, 'record_000013.png': 30}
    assert list(worst) == ['record_000015.png', 'record_000011.png', 'record_000013.png']
    captions = json.loads((tmp_path / 'worst' / 'gallery.json').read_text())['pictures']
    first = 'bird taken for dog, loss 3.56' if names else '2 taken for 1, loss 3.56'
    assert captions[0]['caption'] == first
    assert cv2.imread(str(tmp_path / 'worst' / 'record_000015.png')).shape == (96, 96, 3)


def test_other_ranks_and_evaluations_without_a_folder_write_nothing(tmp_path):
    folder = types.SimpleNamespace(path='DATA', metadata={})
    batch = {key: np.array([1]) for key in ('label', 'mask', 'finite', 'id')}
    batch['logits'] = np.array([[1.0, 0.0]])
    for output, is_chief in ((str(tmp_path / 'run'), False), (None, True)):
        cfg = types.SimpleNamespace(num_classes=2, output_path=output)
        classification.accumulator(cfg, folder, is_chief)(batch)
    assert not list(tmp_path.iterdir())
