"""Figures against scikit-learn, SciPy and the official Cityscapes scorer."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from cityscapesscripts.helpers import labels as official
from PIL import Image
from segmentation_data import NAMES, Data, files, read, settings

from common.errors import UserError
from common.evaluation import evaluate
from common.metrics import segmentation
from common.reporting import report


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
    np.testing.assert_allclose(list(figures.pop('iou').values()), iou, rtol=1e-12)
    pixels = valid.sum(axis=(1, 2))
    assert figures == pytest.approx(
        {
            'images': 3,
            'loss': (data.losses.astype(np.float64) * pixels).sum() / pixels.sum(),
            'miou': iou.mean(),
            'accuracy': sklearn.metrics.accuracy_score(true, predicted),
            'mean_accuracy': sklearn.metrics.balanced_accuracy_score(true, predicted),
            'frequency_weighted_iou': sklearn.metrics.jaccard_score(
                true, predicted, average='weighted'
            ),
        },
        rel=1e-12,
    )


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


def test_figures_are_those_of_the_official_scorer(tmp_path):
    """On label ids 0 to 33, whose classes are drawn such that some are missing, some are never true
    and some never predicted.
    """
    random = np.random.RandomState(5)
    names = ['ulm_000000_000019', 'ulm_000001_000019', 'bonn_000000_000294']
    true = [number for number in range(34) if number not in (17, 20, 33)]  # pole, sign, bicycle
    predicted = [number for number in range(19) if number not in (5, 7, 12)]  # pole, sign, rider
    ids = random.choice(true, (3, 40, 60)).astype(np.uint8)
    ids[0, :8], ids[1, 5:9] = 1, 24
    data = Data(tmp_path / 'val', names=names, size=(40, 60))
    train_ids = np.array([official.id2label[number].trainId for number in range(34)])
    data.labels = train_ids[ids].astype(np.uint8)  # -1 becomes 255
    drawn = random.choice(predicted, ids.shape).astype(np.uint8)
    wrong = (random.uniform(size=ids.shape) < 0.5) | (data.labels == 255)
    data.predictions = np.where(wrong, drawn, data.labels)
    data.predictions[data.labels == 12] = 11
    for name, image in zip(names, ids):
        folder = tmp_path / 'gtFine' / 'val' / name.split('_')[0]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(str(folder / (name + '_gtFine_labelIds.png')))
        no_instances = Image.fromarray(image.astype(np.int32))
        no_instances.save(str(folder / (name + '_gtFine_instanceIds.png')))
    figures = segmentation.figures(data.tally(settings(tmp_path / 'saved')), settings())

    command = [sys.executable, '-m', 'cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling']
    folders = dict(
        CITYSCAPES_DATASET=str(tmp_path),
        CITYSCAPES_RESULTS=str(tmp_path / 'saved' / 'labelIds'),
        CITYSCAPES_EXPORT_DIR=str(tmp_path),
    )
    env = dict(os.environ, **folders)
    subprocess.run(command, check=True, cwd=str(tmp_path), stdout=subprocess.DEVNULL, env=env)
    scored = json.loads((tmp_path / 'resultPixelLevelSemanticLabeling.json').read_text())
    assert figures['miou'] == pytest.approx(scored['averageScoreClasses'], abs=1e-9)
    for name, value in figures['iou'].items():
        assert float('nan' if value is None else value) == pytest.approx(
            scored['classScores'][name], abs=1e-9, nan_ok=True
        ), name
    kinds = {name: value if not value else 1 for name, value in figures['iou'].items()}
    assert [name for name in NAMES if kinds[name] is None] == ['pole', 'traffic sign']
    assert [name for name in NAMES if kinds[name] == 0] == ['rider', 'bicycle']
