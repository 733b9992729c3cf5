"""Counts and metrics against scikit-learn and loops written here; the graph against NumPy."""

import warnings

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from common.errors import UserError
from common.metrics import scores
from common.metrics.graph_counts import classification_counts_graph


def random_batch(seed, batch=64, classes=10, ties=False):
    rng = np.random.RandomState(seed)
    logits = rng.randn(batch, classes).astype(np.float32) * 3
    if ties:
        logits = np.round(logits / 2)
    return (
        logits,
        rng.randint(0, classes, batch).astype(np.int32),
        (rng.rand(batch) < 0.8).astype(np.float32),
    )


def ranked(logits):
    """Class numbers of each row, best first, the lower number first among equals."""
    return [sorted(range(len(row)), key=lambda c: (-row[c], c)) for row in logits]


def in_graph(logits, labels, mask):
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(
            classification_counts_graph(tf.constant(logits), tf.constant(labels), tf.constant(mask))
        )


def test_classification_counts_agree_with_scikit_learn():
    logits, labels, mask = random_batch(0)
    counts = scores.classification_counts(logits, labels, mask)
    kept, true = logits[mask > 0], labels[mask > 0]
    every = list(range(10))
    shares = np.exp(kept.astype(np.float64))
    shares /= shares.sum(1, keepdims=True)
    assert counts['images'] == mask.sum()
    assert counts['loss_sum'] == pytest.approx(
        sklearn.metrics.log_loss(true, shares, labels=every, normalize=False, eps=1e-15), rel=1e-9
    )
    for k in (1, 5):
        assert counts['top%d' % k] == sklearn.metrics.top_k_accuracy_score(
            true, kept, k=k, labels=every, normalize=False
        )
    np.testing.assert_array_equal(
        counts['confusion'], sklearn.metrics.confusion_matrix(true, kept.argmax(1), labels=every)
    )
    assert counts['confusion'].dtype == np.int64


@pytest.mark.parametrize('k', [1, 5])
def test_ties_go_to_the_lower_index(k):
    logits, labels, mask = random_batch(1, batch=400, ties=True)
    order = ranked(logits)
    expected = sum(labels[i] in order[i][:k] for i in range(400) if mask[i])
    assert scores.classification_counts(logits, labels, mask)['top%d' % k] == expected
    assert in_graph(logits, labels, mask)['top%d' % k] == expected
    careless = sum((logits[i] > logits[i][labels[i]]).sum() < k for i in range(400) if mask[i])
    assert careless != expected  # the data do contain deciding ties


def test_all_equal_logits_are_class_zero():
    counts = scores.classification_counts(np.zeros((10, 10)), np.arange(10))
    assert (counts['top1'], counts['top5']) == (1, 5)
    assert counts['confusion'][:, 0].sum() == 10


@pytest.mark.parametrize('count', [scores.classification_counts, in_graph])
def test_nan_is_never_correct(count):
    logits = np.zeros((3, 4), np.float32)
    logits[0] = np.nan  # everything diverged
    logits[1, 2] = np.nan  # the true class is the NaN
    logits[2, 1] = np.nan  # another class is; the true one is second
    counts = count(logits, np.array([0, 2, 0], np.int32), np.ones(3, np.float32))
    assert (counts['top1'], counts['top5']) == (0, 1)
    assert np.isnan(counts['loss_sum'])


def test_the_last_of_three_classes_is_in_the_top_five():
    counts = scores.classification_counts(np.array([[3.0, 2.0, 1.0]]), np.array([2]))
    assert (counts['top1'], counts['top5']) == (0, 1)


@pytest.mark.parametrize(
    'classes, ties', [(3, True), (10, True), (10, False), (100, True), (101, False)]
)
def test_graph_equals_numpy(classes, ties):
    logits, labels, mask = random_batch(classes, batch=96, classes=classes, ties=ties)
    expected, counts = (
        scores.classification_counts(logits, labels, mask),
        in_graph(logits, labels, mask),
    )
    assert set(counts) == set(expected)
    assert ('confusion' in counts) == (classes <= 100)
    for key in counts:
        if key == 'loss_sum':
            assert counts[key] == pytest.approx(expected[key], rel=1e-5)
        else:
            np.testing.assert_array_equal(counts[key], expected[key])
            assert counts[key].dtype == np.int32


def test_masked_images_count_nothing_even_if_they_are_nan():
    logits, labels, _ = random_batch(2, batch=4)
    logits[2:] = np.nan
    mask = np.array([1, 1, 0, 0], np.float32)
    expected = scores.classification_counts(logits[:2], labels[:2])
    for counts in (
        scores.classification_counts(logits, labels, mask),
        in_graph(logits, labels, mask),
    ):
        assert counts['images'] == 2
        assert counts['loss_sum'] == pytest.approx(expected['loss_sum'], rel=1e-5)
        np.testing.assert_array_equal(counts['confusion'], expected['confusion'])


def test_graph_fits_one_device():
    with tf.Graph().as_default() as graph:
        counts = classification_counts_graph(
            tf.placeholder(tf.float16, [8, 10]),
            tf.placeholder(tf.int32, [8]),
            tf.placeholder(tf.float32, [8]),
        )
        assert all(tensor.shape.is_fully_defined() for tensor in counts.values())
        inputs = {'Placeholder', 'Const', 'Cast'}
        legal = {tf.float32, tf.int32, tf.bool}
        for op in graph.get_operations():
            assert op.type not in (
                'Switch',
                'Merge',
                'While',
                'If',
                'PyFunc',
                'StatelessIf',
                'TopKV2',
                'InTopKV2',
            )
            if op.type not in inputs:
                assert {tensor.dtype.base_dtype for tensor in op.outputs} <= legal, op


def test_counts_add_up_over_batches():
    logits, labels, mask = random_batch(3)
    whole = scores.classification_counts(logits, labels, mask)
    total = {}
    for part in np.split(np.arange(64), [10, 11, 40]):
        total = scores.add(total, in_graph(logits[part], labels[part], mask[part]))
    assert total['confusion'].dtype == np.int64 and total['loss_sum'].dtype == np.float64
    for key in whole:
        np.testing.assert_allclose(total[key], whole[key], rtol=1e-6)
    with pytest.raises(ValueError, match='keys'):
        scores.add(whole, {'images': 1})


def test_sums_do_not_overflow_int32():
    assert scores.add({'images': np.int32(2**31 - 1)}, {'images': np.int32(1)})['images'] == 2**31


def test_classification_metrics():
    assert scores.classification({'images': 8, 'loss_sum': 4.0, 'top1': 2, 'top5': 6}) == {
        'images': 8,
        'loss': 0.5,
        'top1': 0.25,
        'top5': 0.75,
    }
    with pytest.raises(UserError, match='no image'):
        scores.classification(scores.classification_counts(np.zeros((2, 3)), [0, 1], np.zeros(2)))


@pytest.mark.parametrize('label', [-1, 10, 255])
def test_labels_outside_the_classes_are_refused(label):
    with pytest.raises(UserError, match='label %d is not one of the 10 classes' % label):
        scores.classification_counts(np.zeros((2, 10)), np.array([0, label]))
    with pytest.raises(UserError, match='label %d' % label):
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
