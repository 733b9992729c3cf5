"""Counts and figures against scikit-learn and loops written here; the graph against NumPy."""

import types

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from common.errors import UserError
from common.metrics import classification, losses, scores, segmentation
from common.metrics.labels import Labels

FOLDER = types.SimpleNamespace(path='DATA/val')


def settings(classes):
    labels = Labels(range(classes), 255, np.zeros([classes, 3], np.uint8), np.arange(classes))
    return types.SimpleNamespace(
        num_classes=classes, labels=labels, save_predictions=None, output_path=None, bgr=False
    )


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


def grappler(on):
    """A session's configuration with every optimizer of TensorFlow on or off."""
    config = tf.ConfigProto()
    options, values = config.graph_options.rewrite_options, rewriter_config_pb2.RewriterConfig
    for field in options.DESCRIPTOR.fields:
        if field.enum_type and field.enum_type.name == 'Toggle':
            setattr(options, field.name, values.ON if on else values.OFF)
    options.disable_meta_optimizer = not on
    options.meta_optimizer_iterations = values.TWO
    config.graph_options.optimizer_options.opt_level = 0 if on else -1
    options.min_graph_nodes = -1
    return config


def in_graph(logits, labels, mask, metric=classification, on=True, **features):
    """Sums of logits [B, C] or [B, H, W, C] by a graph whose inputs TensorFlow cannot fold."""
    features = dict(features, label=labels, mask=mask)
    cfg = settings(logits.shape[-1])
    with tf.Graph().as_default(), tf.Session(config=grappler(on)) as session:
        inputs = {key: tf.placeholder(value.dtype, value.shape) for key, value in features.items()}
        image = tf.placeholder(logits.dtype, logits.shape)
        feed = {inputs[key]: features[key] for key in features}
        feed[image] = logits
        fetched = session.run(metric.counts(image, inputs, cfg), feed)
    return metric.accumulator(cfg, FOLDER, True)(fetched)


def in_numpy(logits, labels, mask=None, metric=classification, **features):
    mask = np.ones(len(logits)) if mask is None else mask
    features = dict(features, label=labels, mask=mask)
    return metric.offline_counts(logits, features, settings(logits.shape[-1]))


def test_counts_agree_with_scikit_learn():
    logits, labels, mask = random_batch(0)
    counts = in_numpy(logits, labels, mask)
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
    assert in_numpy(logits, labels, mask)['top%d' % k] == expected
    assert in_graph(logits, labels, mask)['top%d' % k] == expected
    careless = sum((logits[i] > logits[i][labels[i]]).sum() < k for i in range(400) if mask[i])
    assert careless != expected  # the data do contain deciding ties


def test_all_equal_logits_are_class_zero():
    counts = in_numpy(np.zeros((10, 10)), np.arange(10))
    assert (counts['top1'], counts['top5']) == (1, 5)
    assert counts['confusion'][:, 0].sum() == 10


def test_the_last_of_three_classes_is_in_the_top_five():
    counts = in_numpy(np.array([[3.0, 2.0, 1.0]]), np.array([2]))
    assert (counts['top1'], counts['top5']) == (0, 1)


@pytest.mark.parametrize('on', [True, False])
@pytest.mark.parametrize(
    'classes, ties', [(3, True), (10, True), (10, False), (100, True), (101, False)]
)
def test_graph_equals_numpy(classes, ties, on):
    logits, labels, mask = random_batch(classes, batch=96, classes=classes, ties=ties)
    expected, counts = in_numpy(logits, labels, mask), in_graph(logits, labels, mask, on=on)
    assert set(counts) == set(expected)
    assert ('confusion' in counts) == (classes <= 100)
    for key in counts:
        np.testing.assert_array_equal(counts[key], expected[key])
        assert counts[key].dtype == (np.float64 if key == 'loss_sum' else np.int64)


@pytest.mark.parametrize('on', [True, False])
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('metric', [classification, segmentation])
def test_logits_that_are_not_finite_are_an_error_that_names_the_first_image(metric, value, on):
    """Wherever they are: in the true class or another, in some of them or in all."""
    random = np.random.RandomState(0)
    shape = (4, 5) if metric is classification else (4, 3, 2, 5)
    mask, ids = np.array([0, 1, 1, 1], np.float32), np.array([7, 8, 9, 10], np.int32)
    labels = random.randint(0, 5, shape[:-1]).astype(np.int32)
    features = {'id': ids, 'image': np.zeros([4, 3, 2, 3], np.uint8)}
    for where in [..., (..., 0), (..., 3), (..., slice(1, 3))]:
        logits = random.randn(*shape).astype(np.float32)
        logits[2:][where] = value
        logits[0] = value  # masked
        with pytest.raises(UserError, match='^record 9 of DATA/val: .* is not finite'):
            in_graph(logits, labels, mask, metric, on, **features)
        with pytest.raises(UserError, match='^record 9: .* is not finite'):
            in_numpy(logits, labels, mask, metric, **features)
        counts = in_graph(
            logits, labels, np.array([0, 1, 0, 0], np.float32), metric, on, **features
        )
        assert counts['images'] == 1 and np.isfinite(counts['loss_sum'])


def test_largest_numbers_are_finite():
    largest = np.full([2, 3], np.finfo(np.float32).max)
    with tf.Graph().as_default(), tf.Session() as session:
        assert session.run(losses.finite(tf.constant(largest))).all()


def test_masked_images_count_nothing():
    logits, labels, _ = random_batch(2, batch=4)
    mask = np.array([1, 1, 0, 0], np.float32)
    expected = in_numpy(logits[:2], labels[:2])
    for counts in (in_numpy(logits, labels, mask), in_graph(logits, labels, mask)):
        assert counts['images'] == 2
        assert counts['loss_sum'] == pytest.approx(expected['loss_sum'], rel=1e-5)
        np.testing.assert_array_equal(counts['confusion'], expected['confusion'])


@pytest.mark.parametrize('metric', [classification, segmentation])
def test_graph_fits_one_device(metric):
    """Static shapes; no op that an Ascend device leaves to its AI CPU, no control flow."""
    shape = [8] if metric is classification else [8, 6, 4]
    with tf.Graph().as_default() as graph:
        features = {
            'label': tf.placeholder(tf.uint8, shape),
            'mask': tf.placeholder(tf.float32, [8]),
            'id': tf.placeholder(tf.int32, [8]),
        }
        counts = metric.counts(tf.placeholder(tf.float16, shape + [10]), features, settings(10))
        assert all(tensor.shape.is_fully_defined() for tensor in counts.values())
        for op in graph.get_operations():
            assert (
                op.type
                not in (
                    'Switch Merge While If PyFunc StatelessIf TopKV2 InTopKV2 IsFinite LogicalNot'
                ).split()
            )
            assert op.type != 'Sum' or op.inputs[0].dtype == tf.float32
            if op.type not in ('Placeholder', 'Const', 'Cast', 'Identity'):
                assert {tensor.dtype.base_dtype for tensor in op.outputs} <= {
                    tf.float32,
                    tf.int32,
                    tf.bool,
                }, op


def test_counts_add_up_over_batches():
    logits, labels, mask = random_batch(3)
    whole = in_numpy(logits, labels, mask)
    total = {}
    for part in np.split(np.arange(64), [10, 11, 40]):
        total = scores.add(total, in_graph(logits[part], labels[part], mask[part]))
    for key in whole:
        np.testing.assert_allclose(total[key], whole[key], rtol=1e-6)


def test_figures():
    sums = {'images': 8, 'loss_sum': 4.0, 'top1': 2, 'top5': 6}
    assert classification.figures(sums, settings(3)) == {
        'images': 8,
        'loss': 0.5,
        'top1': 0.25,
        'top5': 0.75,
    }
    with pytest.raises(UserError, match='no image'):
        classification.figures(in_numpy(np.zeros((2, 3)), np.array([0, 1]), np.zeros(2)), None)


@pytest.mark.parametrize('label', [-1, 10, 255])
def test_labels_outside_the_classes_are_refused(label):
    with pytest.raises(UserError, match='label %d is not one of the 10 classes' % label):
        in_numpy(np.zeros((2, 10)), np.array([0, label]))
