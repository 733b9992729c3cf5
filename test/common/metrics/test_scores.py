"""Figures of confusion matrices against scikit-learn; sums of counts."""

import warnings

import numpy as np
import pytest
import sklearn.metrics

from common.errors import UserError
from common.metrics import scores


def test_counts_add_up():
    first = {'images': np.int32(2**31 - 1), 'loss_sum': np.float32(0.5)}
    total = scores.add(scores.add({}, first), {'images': np.int32(1), 'loss_sum': 0.25})
    assert total == {'images': 2**31, 'loss_sum': 0.75}
    assert total['images'].dtype == np.int64 and total['loss_sum'].dtype == np.float64
    with pytest.raises(ValueError, match='keys'):
        scores.add(first, {'images': 1})


@pytest.mark.parametrize('label', [-1, 10, 255])
def test_labels_outside_the_classes_are_refused(label):
    with pytest.raises(UserError, match='label %d is not one of the 10 classes' % label):
        scores.confusion([0, label], [0, 0], 10)


def segmentation(seed=4):
    rng = np.random.RandomState(seed)
    true = rng.randint(0, 6, (2, 16, 24)).astype(np.uint8)
    predicted = np.where(rng.rand(*true.shape) < 0.6, true, rng.randint(0, 6, true.shape))
    true[rng.rand(*true.shape) < 0.2] = 255
    return true, predicted, true[true != 255], predicted[true != 255]


def test_segmentation_metrics_agree_with_scikit_learn():
    true, predicted, kept_true, kept_predicted = segmentation()
    matrix = scores.confusion(true, predicted, 6, ignore=255)
    np.testing.assert_array_equal(
        matrix, sklearn.metrics.confusion_matrix(kept_true, kept_predicted)
    )
    np.testing.assert_allclose(
        scores.iou(matrix), sklearn.metrics.jaccard_score(kept_true, kept_predicted, average=None)
    )
    np.testing.assert_allclose(
        scores.recall(matrix), sklearn.metrics.recall_score(kept_true, kept_predicted, average=None)
    )
    np.testing.assert_allclose(
        scores.precision(matrix),
        sklearn.metrics.precision_score(kept_true, kept_predicted, average=None),
    )
    assert scores.mean_iou(matrix) == pytest.approx(
        sklearn.metrics.jaccard_score(kept_true, kept_predicted, average='macro')
    )
    assert scores.frequency_weighted_iou(matrix) == pytest.approx(
        sklearn.metrics.jaccard_score(kept_true, kept_predicted, average='weighted')
    )
    assert scores.mean_accuracy(matrix) == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(kept_true, kept_predicted)
    )
    assert scores.accuracy(matrix) == pytest.approx(
        sklearn.metrics.accuracy_score(kept_true, kept_predicted)
    )


def test_absent_classes_are_left_out_of_the_means():
    # class 0: 3 of 4 right; class 1: never true, predicted once; class 2: neither
    matrix = scores.confusion([0, 0, 0, 0], [0, 0, 0, 1], 3)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        np.testing.assert_array_equal(scores.iou(matrix), [0.75, 0.0, np.nan])
        np.testing.assert_array_equal(scores.recall(matrix), [0.75, np.nan, np.nan])
        np.testing.assert_array_equal(scores.precision(matrix), [1.0, 0.0, np.nan])
        assert scores.mean_iou(matrix) == 0.375
        assert scores.mean_accuracy(matrix) == 0.75
        assert scores.frequency_weighted_iou(matrix) == 0.75
        assert np.isnan(scores.mean_iou(np.zeros((3, 3), np.int64)))


def test_confusion_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match='3 true but 2 predicted'):
        scores.confusion([0, 1, 1], [0, 1], 2)
    with pytest.raises(ValueError, match='0..1'):
        scores.confusion([0, 1], [0, 2], 2)


def test_latency():
    result = scores.latency(list(range(1, 102)))  # 1..101 ms: the percentile p is 1 + p
    assert result == {'mean': 51.0, 'p50': 51.0, 'p90': 91.0, 'p99': 100.0}
    with pytest.raises(ValueError):
        scores.latency([])
