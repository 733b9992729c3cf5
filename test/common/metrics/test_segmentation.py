"""Figures against scikit-learn, SciPy and the official Cityscapes scorer; pictures as they are read
back.
"""

import errno
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import tensorflow as tf
from cityscapesscripts.helpers import labels as official
from PIL import Image

from common.data import record_writer, records, tfrecord
from common.errors import UserError
from common.evaluation import evaluate
from common.metrics import scores as measures
from common.metrics import segmentation
from common.metrics.labels import Labels
from common.reporting import report

NAMES = [official.trainId2label[number].name for number in range(19)]
COLOURS = np.array([official.trainId2label[number].color for number in range(19)], np.uint8)
SCHEMA = {
    'image': {'kind': 'bytes', 'dtype': 'uint8', 'shape': []},
    'label': {'kind': 'bytes', 'dtype': 'uint8', 'shape': []},
    'filename': {'kind': 'bytes', 'dtype': 'string', 'shape': []},
    **{
        key: {'kind': 'int64', 'dtype': 'int64', 'shape': []}
        for key in ('height', 'width', 'channels')
    },
}


def settings(save=None, output=None, classes=19):
    names = NAMES if classes == 19 else ['class %d' % number for number in range(classes)]
    ids = [official.trainId2label[number].id for number in range(19)]
    ids = np.array(ids if classes == 19 else range(classes), np.uint8)
    return types.SimpleNamespace(
        num_classes=classes,
        labels=Labels(names, 255, COLOURS, ids),
        bgr=False,
        save_predictions=save and str(save),
        output_path=output and str(output),
    )


def encode(item):
    image, label, name = item
    return {
        'image': image[..., ::-1].tobytes(),
        'label': label.tobytes(),
        'height': image.shape[0],
        'width': image.shape[1],
        'channels': 3,
        'filename': name.encode(),
    }


class Data:
    """Random RGB images, labels with ignored pixels and predictions, in records of our schema or,
    without names, the published port's.
    """

    def __init__(
        self,
        path,
        names=('ulm_000000_000019', 'ulm_000001_000019', 'bonn_000002_000019'),
        size=(18, 24),
        classes=19,
        seed=0,
    ):
        random = np.random.RandomState(seed)
        count = len(names) or 3
        self.images = random.randint(0, 256, (count,) + size + (3,)).astype(np.uint8)
        self.labels = random.randint(0, classes + 3, (count,) + size)
        self.labels = np.where(self.labels < classes, self.labels, 255).astype(np.uint8)
        wrong = random.randint(0, classes, (count,) + size)
        self.predictions = np.where(
            (random.uniform(size=wrong.shape) < 0.4) | (self.labels == 255), wrong, self.labels
        ).astype(np.uint8)
        self.losses = random.uniform(0.1, 3, count).astype(np.float32)
        if names:
            record_writer.write(
                path,
                list(zip(self.images, self.labels, names)),
                encode,
                name='test',
                split='val',
                schema=SCHEMA,
                workers=1,
            )
        else:
            path.mkdir()
            with tf.io.TFRecordWriter(str(path / 'val.tfrecord')) as writer:
                for item in zip(self.images, self.labels, [''] * count):
                    features = encode(item)
                    del features['filename']
                    writer.write(tfrecord.make_example(features))
        self.folder = records.Folder.open(path)

    def batch(self, number, mask=1.0):
        return {
            'prediction': self.predictions[number : number + 1],
            'label': self.labels[number : number + 1],
            'id': np.array([number], np.int32),
            'loss': self.losses[number : number + 1],
            'mask': np.array([mask], np.float32),
            'finite': np.array([True]),
            'image': self.images[number : number + 1],
        }

    def tally(self, cfg, is_chief=True):
        """Sums over all images."""
        tally, total = segmentation.accumulator(cfg, self.folder, is_chief), {}
        for number in range(len(self.images)):
            total = measures.add(total, tally(self.batch(number)))
        return total


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path / 'val')


def read(path):
    with Image.open(str(path)) as image:
        return np.array(image)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


# Counts and figures


def test_counts_of_one_image(data):
    found = segmentation.accumulator(settings(), data.folder, True)(data.batch(1))
    valid = data.labels[1] != 255
    expected = sklearn.metrics.confusion_matrix(
        data.labels[1][valid], data.predictions[1][valid], labels=range(19)
    )
    assert {key: value.dtype for key, value in found.items()} == {
        'images': np.int64,
        'pixels': np.int64,
        'loss_sum': np.float64,
        'confusion': np.int64,
    }
    np.testing.assert_array_equal(found['confusion'], expected)
    assert found['images'] == 1 and found['pixels'] == valid.sum() and 0 < valid.sum() < valid.size
    assert found['loss_sum'] == pytest.approx(float(data.losses[1]) * valid.sum(), rel=1e-12)


def test_figures_are_those_of_scikit_learn(data):
    figures = segmentation.figures(data.tally(settings()), settings())
    valid = data.labels != 255
    true, predicted = data.labels[valid], data.predictions[valid]
    iou = sklearn.metrics.jaccard_score(true, predicted, average=None)
    assert list(figures['iou']) == NAMES
    np.testing.assert_allclose(list(figures['iou'].values()), iou, rtol=1e-12)
    np.testing.assert_allclose(figures['miou'], iou.mean(), rtol=1e-12)
    np.testing.assert_allclose(
        figures['accuracy'], sklearn.metrics.accuracy_score(true, predicted), rtol=1e-12
    )
    np.testing.assert_allclose(
        figures['mean_accuracy'],
        sklearn.metrics.balanced_accuracy_score(true, predicted),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        figures['frequency_weighted_iou'],
        sklearn.metrics.jaccard_score(true, predicted, average='weighted'),
        rtol=1e-12,
    )
    pixels = valid.sum(axis=(1, 2))
    np.testing.assert_allclose(
        figures['loss'], (data.losses.astype(np.float64) * pixels).sum() / pixels.sum(), rtol=1e-12
    )
    assert figures['images'] == 3 and set(figures) == {
        'images',
        'loss',
        'miou',
        'accuracy',
        'mean_accuracy',
        'frequency_weighted_iou',
        'iou',
    }


def test_padding_counts_nothing_and_writes_nothing(data, tmp_path):
    tally = segmentation.accumulator(
        settings(tmp_path / 'saved', tmp_path / 'run'), data.folder, True
    )
    nothing, one = tally(data.batch(0, mask=0.0)), tally(data.batch(0))
    assert all(not np.any(value) for value in nothing.values())
    assert {key: (value.dtype, value.shape) for key, value in nothing.items()} == {
        key: (value.dtype, value.shape) for key, value in one.items()
    }
    assert len(files(tmp_path / 'saved')) == 3  # of the second call
    with pytest.raises(UserError, match='no image was evaluated'):
        segmentation.figures(nothing, settings())


def test_classes_that_do_not_occur(data, tmp_path):
    """Neither true nor predicted: no figure. Predicted only: 0, which counts."""
    data.labels[data.labels == 3] = 255
    data.labels[data.labels == 5] = 255
    data.predictions[data.predictions == 3] = 4
    assert (data.predictions[data.labels != 255] == 5).any()
    figures = segmentation.figures(data.tally(settings()), settings())
    assert figures['iou']['wall'] is None and figures['iou']['pole'] == 0
    rest = [value for value in figures['iou'].values() if value is not None]
    assert len(rest) == 18 and figures['miou'] == pytest.approx(np.mean(rest), rel=1e-12)
    assert re.search(r'wall +-(\s|$)', segmentation.eval_line('resnest', figures)) and re.search(
        r'pole +0\.00', segmentation.eval_line('resnest', figures)
    )
    evaluate.write(dict(figures, counts={'confusion': np.eye(19)}, model='resnest'), str(tmp_path))
    written = json.loads((tmp_path / 'eval.json').read_text(), parse_constant=pytest.fail)
    assert written['iou']['wall'] is None
    report.write(tmp_path)
    assert (
        'iou.png' in (tmp_path / 'report.md').read_text()
        and (tmp_path / 'plots' / 'iou.png').exists()
    )


def test_images_without_labels_have_no_figures_but_predictions(data, tmp_path):
    data.labels[:] = 255
    data.losses[:] = np.nan
    figures = segmentation.figures(data.tally(settings(tmp_path / 'saved')), settings())
    assert figures == {'images': 3}
    assert (
        segmentation.eval_line('resnest', figures)
        == '3 images, none of whose pixels has a label: nothing to score'
    )
    assert len(files(tmp_path / 'saved' / 'labelIds')) == 3


def test_label_that_is_no_class(data):
    data.labels[0, 0, 0] = 20
    with pytest.raises(UserError, match='label 20 is not one of the 19 classes'):
        data.tally(settings())


def test_lines_that_scripts_search_for(data):
    figures = segmentation.figures(data.tally(settings()), settings())
    lines = segmentation.eval_line('resnest', figures).splitlines()
    assert lines[-1] == 'miou %.6f' % figures['miou']
    assert lines[
        -2
    ] == 'pixel accuracy= %.2f, mean accuracy= %.2f, miou = %.2f, frequency-weighted IoU = %.2f' % (
        figures['accuracy'],
        figures['mean_accuracy'],
        figures['miou'],
        figures['frequency_weighted_iou'],
    )
    assert len(lines) <= 10 and max(map(len, lines)) <= 100
    for name, value in figures['iou'].items():
        assert (
            len(
                re.findall(
                    r'(?:^|   )%s +%.2f(?=   |$)' % (name, 100 * value),
                    '\n'.join(lines),
                    re.MULTILINE,
                )
            )
            == 1
        )


def test_other_classes_have_numbers_for_names(tmp_path):
    data = Data(tmp_path / 'val', classes=5)
    figures = segmentation.figures(
        data.tally(settings(tmp_path / 'saved', classes=5)), settings(classes=5)
    )
    assert list(figures['iou']) == ['class %d' % number for number in range(5)]
    assert re.search(
        r'class 4 +%.2f' % (100 * figures['iou']['class 4']),
        segmentation.eval_line('resnest', figures),
    )
    np.testing.assert_array_equal(
        read(tmp_path / 'saved/labelIds/bonn_000002_000019_pred_labelIds.png'), data.predictions[2]
    )


# Offline


@pytest.mark.parametrize(
    'dtype, tolerance', [(np.float32, 1e-6), (np.float16, 1e-6), (np.float64, 1e-12)]
)
def test_offline_counts(dtype, tolerance):
    random = np.random.RandomState(0)
    logits = random.normal(0, 20, [4, 9, 11, 6]).astype(dtype)
    logits[0] += 1000  # exponentials of the logits themselves overflow
    labels = random.choice([0, 1, 2, 3, 4, 5, 255], [4, 9, 11]).astype(np.uint8)
    labels[1] = 255
    mask = np.array([1, 1, 0, 1], np.float32)
    found = segmentation.offline_counts(
        logits, {'label': labels, 'mask': mask}, settings(classes=6)
    )
    valid = (labels != 255) & (mask > 0)[:, None, None]
    double, true = logits[valid].astype(np.float64), labels[valid]
    loss = -scipy.special.log_softmax(double, axis=1)[np.arange(len(true)), true].sum()
    assert found['images'] == 3 and found['pixels'] == valid.sum()
    assert found['loss_sum'] == pytest.approx(loss, rel=tolerance)
    np.testing.assert_array_equal(
        found['confusion'],
        sklearn.metrics.confusion_matrix(true, double.argmax(axis=1), labels=range(6)),
    )


def test_offline_counts_are_those_of_evaluation(data):
    random = np.random.RandomState(1)
    logits = random.normal(0, 1, data.labels.shape + (19,)) + 2 * np.eye(19)[data.predictions]
    data.predictions = logits.argmax(axis=-1).astype(np.uint8)
    log_probability = scipy.special.log_softmax(logits, axis=-1)
    for number, label in enumerate(data.labels):
        where = np.nonzero(label != 255)
        data.losses[number] = -log_probability[number][where + (label[where],)].mean()
    online, offline = (
        data.tally(settings()),
        segmentation.offline_counts(logits, {'label': data.labels, 'mask': np.ones(3)}, settings()),
    )
    assert set(online) == set(offline)
    for key in online:
        np.testing.assert_allclose(online[key], offline[key], rtol=1e-6)


# Saved predictions


def test_saved_predictions(data, tmp_path):
    data.tally(settings(tmp_path / 'saved'), is_chief=False)
    names = ['bonn_000002_000019', 'ulm_000000_000019', 'ulm_000001_000019']
    assert files(tmp_path / 'saved') == ['color/%s.png' % name for name in names] + [
        'labelIds/%s_pred_labelIds.png' % name for name in names
    ] + ['overlay/%s.png' % name for name in names]
    ids, colours, overlay = (
        read(tmp_path / 'saved' / name)
        for name in (
            'labelIds/bonn_000002_000019_pred_labelIds.png',
            'color/bonn_000002_000019.png',
            'overlay/bonn_000002_000019.png',
        )
    )
    assert ids.dtype == np.uint8 and ids.shape == (18, 24)
    np.testing.assert_array_equal(
        ids, np.vectorize(lambda number: official.trainId2label[number].id)(data.predictions[2])
    )
    np.testing.assert_array_equal(colours, COLOURS[data.predictions[2]])
    mean = (data.images[2].astype(float) + COLOURS[data.predictions[2]]) / 2
    assert np.abs(overlay - mean).max() <= 1


def test_names_of_records_without_one_and_names_that_are_no_file_names(tmp_path):
    data = Data(tmp_path / 'port', names=())
    data.tally(settings(tmp_path / 'saved'))
    assert files(tmp_path / 'saved' / 'color') == [
        'record_%06d.png' % number for number in range(3)
    ]
    with Image.open(str(tmp_path / 'saved/overlay/record_000001.png')) as overlay:
        mean = (data.images[1].astype(float) + COLOURS[data.predictions[1]]) / 2
        assert np.abs(np.array(overlay) - mean).max() <= 1
    Data(tmp_path / 'odd', names=('../../a b',)).tally(settings(tmp_path / 'inside'))
    assert files(tmp_path / 'inside' / 'color') == ['.._.._a_b.png']


@pytest.mark.parametrize('flag', ['--save_predictions', '--output_path'])
def test_a_folder_that_cannot_be_written(data, tmp_path, flag):
    (tmp_path / 'file').write_text('')
    cfg = (
        settings(tmp_path / 'file')
        if flag == '--save_predictions'
        else settings(output=tmp_path / 'file')
    )
    with pytest.raises(UserError, match='%s: .*file.*could not be written: .+; free space' % flag):
        data.tally(cfg)


def test_a_full_disk_leaves_no_half_file(data, tmp_path, monkeypatch):
    def write_bytes(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pathlib.Path, 'write_bytes', write_bytes)
    with pytest.raises(
        UserError, match='--save_predictions: .*could not be written: No space left on device'
    ):
        data.tally(settings(tmp_path / 'saved'))
    assert files(tmp_path / 'saved') == []


# Samples for the report


def positions(picture, part):
    """Left edges of where `part` is exactly within `picture`."""
    height, width, _ = part.shape
    return [
        x
        for y in range(len(picture) - height + 1)
        for x in range(picture.shape[1] - width + 1)
        if (picture[y, x] == part[0, 0]).all()
        and (picture[y : y + height, x : x + width] == part).all()
    ]


def test_samples_show_image_truth_prediction_and_overlay_side_by_side(data, tmp_path):
    data.tally(settings(output=tmp_path / 'run'))
    picture = read(tmp_path / 'run/samples/ulm_000001_000019.png')
    truth = np.where((data.labels[1] == 255)[..., None], 0, COLOURS[data.labels[1] % 19]).astype(
        np.uint8
    )
    overlay = cv2.addWeighted(data.images[1], 0.5, COLOURS[data.predictions[1]], 0.5, 0)
    found = [
        positions(picture, part)
        for part in (data.images[1], truth, COLOURS[data.predictions[1]], overlay)
    ]
    assert [len(places) for places in found] == [1, 1, 1, 1] and found == sorted(found)


def test_samples_are_the_chiefs_first_four(tmp_path):
    data = Data(tmp_path / 'val', names=['ulm_%06d_000019' % number for number in range(6)])
    data.tally(settings(output=tmp_path / 'other'), is_chief=False)
    assert not (tmp_path / 'other').exists()
    data.tally(settings(output=tmp_path / 'run'))
    samples = ['ulm_%06d_000019.png' % number for number in range(4)]
    assert files(tmp_path / 'run/samples') == ['gallery.json'] + samples
    listed = json.loads((tmp_path / 'run/samples/gallery.json').read_text())
    assert [picture['file'] for picture in listed['pictures']] == samples


def test_the_worst_images_have_the_most_wrong_pixels(tmp_path):
    names = ['ulm_%06d_000019' % number for number in range(8)]
    data = Data(tmp_path / 'val', names=names)
    data.predictions[:] = np.where(data.labels == 255, 0, data.labels)
    shares = [7, 3, 5, 1, 6, 2, 8, 4]  # rows of wrong pixels
    for number, rows in enumerate(shares):
        data.labels[number, :] = 0
        data.predictions[number] = 0
        data.predictions[number, :rows] = 1
    data.labels[0] = 255  # nothing to be wrong in
    data.tally(settings(output=tmp_path / 'run'))
    listed = json.loads((tmp_path / 'run/worst/gallery.json').read_text())
    order = [number for number in np.argsort(shares)[::-1] if number]
    assert [picture['file'] for picture in listed['pictures']] == [
        names[number] + '.png' for number in order[:6]
    ]
    height = data.labels.shape[1]
    assert listed['pictures'][0]['caption'] == '%s: %.1f %% of the pixels correct' % (
        names[6],
        100 * (1 - 8 / height),
    )


def test_samples_of_wide_images_are_scaled_down(tmp_path):
    data = Data(tmp_path / 'val', names=('ulm_000000_000019',), size=(300, 1300))
    data.labels[:], data.predictions[:] = 255, 8
    data.tally(settings(output=tmp_path / 'run'))
    picture = read(tmp_path / 'run/samples/ulm_000000_000019.png')
    assert 4 * 640 <= picture.shape[1] <= 4 * 640 + 80 and 148 <= picture.shape[0] <= 148 + 60
    assert len(positions(picture, np.tile(COLOURS[8], (147, 640, 1)))) > 0
    assert len(positions(picture, np.zeros((147, 640, 3), np.uint8))) > 0


# The official scorer


def test_figures_are_those_of_the_official_scorer(tmp_path):
    """On label ids 0 to 33, whose classes are drawn such that some are missing, some are never true
    and some never predicted.
    """
    random = np.random.RandomState(5)
    names = ['ulm_000000_000019', 'ulm_000001_000019', 'bonn_000000_000294']
    ids = random.choice(
        [number for number in range(34) if number not in (17, 20, 33)], (3, 40, 60)
    ).astype(np.uint8)  # pole, sign, bicycle
    ids[0, :8], ids[1, 5:9] = 1, 24
    data = Data(tmp_path / 'val', names=names, size=(40, 60))
    data.labels = np.vectorize(lambda number: official.id2label[number].trainId % 256)(ids).astype(
        np.uint8
    )
    drawn = random.choice(
        [number for number in range(19) if number not in (5, 7, 12)], ids.shape
    )  # pole, sign, rider
    data.predictions = np.where(
        (random.uniform(size=ids.shape) < 0.5) | (data.labels == 255), drawn, data.labels
    ).astype(np.uint8)
    data.predictions[data.labels == 12] = 11
    for name, image in zip(names, ids):
        folder = tmp_path / 'gtFine' / 'val' / name.split('_')[0]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(str(folder / (name + '_gtFine_labelIds.png')))
        Image.fromarray(image.astype(np.int32)).save(
            str(folder / (name + '_gtFine_instanceIds.png'))
        )  # no instances
    figures = segmentation.figures(data.tally(settings(tmp_path / 'saved')), settings())

    command = [sys.executable, '-m', 'cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling']
    subprocess.run(
        command,
        check=True,
        cwd=str(tmp_path),
        stdout=subprocess.DEVNULL,
        env=dict(
            os.environ,
            CITYSCAPES_DATASET=str(tmp_path),
            CITYSCAPES_RESULTS=str(tmp_path / 'saved' / 'labelIds'),
            CITYSCAPES_EXPORT_DIR=str(tmp_path),
        ),
    )
    scored = json.loads((tmp_path / 'resultPixelLevelSemanticLabeling.json').read_text())
    assert figures['miou'] == pytest.approx(scored['averageScoreClasses'], abs=1e-9)
    for name, value in figures['iou'].items():
        assert float('nan' if value is None else value) == pytest.approx(
            scored['classScores'][name], abs=1e-9, nan_ok=True
        ), name
    kinds = {name: value if not value else 1 for name, value in figures['iou'].items()}
    assert [name for name in NAMES if kinds[name] is None] == ['pole', 'traffic sign']
    assert [name for name in NAMES if kinds[name] == 0] == ['rider', 'bicycle']
