"""Losses against scikit-learn's log_loss and closed forms in NumPy float64."""

import functools

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from common.metrics import losses

RNG = np.random.RandomState(7)
LOGITS = (RNG.randn(12, 5) * 2).astype(np.float32)
LABELS = RNG.randint(0, 5, 12).astype(np.int32)
LABELS_B = RNG.randint(0, 5, 12).astype(np.int32)
DENSE = RNG.randn(2, 4, 6, 5).astype(np.float32)
DENSE_LABELS = np.where(RNG.rand(2, 4, 6) < 0.3, 255, RNG.randint(0, 5, (2, 4, 6))).astype(np.int32)


def run(build, *arrays):
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(build(*[tf.constant(array) for array in arrays]))


def softmax(logits):
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def of_labels(logits, labels):
    """Softmax probability of each element's label."""
    return np.take_along_axis(softmax(logits), labels[..., None].astype(np.int64), -1)[..., 0]


def soft_target_loss(logits, targets):
    return -(targets * np.log(softmax(logits))).sum(-1).mean()


def test_cross_entropy_is_log_loss():
    expected = sklearn.metrics.log_loss(LABELS, softmax(LOGITS), labels=range(5))
    assert run(losses.cross_entropy, LOGITS, LABELS) == pytest.approx(expected, rel=1e-6)


def test_uniform_logits_cost_log_of_the_number_of_classes():
    assert run(losses.cross_entropy, np.zeros((3, 100), np.float32), np.arange(3)) == pytest.approx(
        np.log(100), rel=1e-6
    )


def test_label_smoothing_is_cross_entropy_with_smoothed_targets():
    targets = 0.9 * np.eye(5)[LABELS] + 0.1 / 5
    loss = run(lambda x, y: losses.cross_entropy(x, y, 0.1), LOGITS, LABELS)
    assert loss == pytest.approx(soft_target_loss(LOGITS, targets), rel=1e-6)


@pytest.mark.parametrize(
    'lam', [np.float32(0.3), RNG.rand(12).astype(np.float32)], ids=['scalar', 'each']
)
def test_mixup_is_cross_entropy_with_mixed_and_smoothed_targets(lam):
    share = np.broadcast_to(lam, 12)[:, None]
    targets = 0.9 * (share * np.eye(5)[LABELS] + (1 - share) * np.eye(5)[LABELS_B]) + 0.1 / 5
    loss = run(
        lambda x, y, b, lam: losses.cross_entropy(x, y, 0.1, labels_b=b, lam=lam),
        LOGITS,
        LABELS,
        LABELS_B,
        lam,
    )
    assert loss == pytest.approx(soft_target_loss(LOGITS, targets), rel=1e-6)


def test_ignored_elements_do_not_poison_the_loss():
    labels = np.where(np.arange(12) < 7, LABELS, 255)
    poisoned = LOGITS.copy()
    poisoned[9] = np.nan
    expected = -np.log(of_labels(LOGITS, LABELS))[:7]
    for average, count in (('labelled', 7), ('all', 12)):
        function = functools.partial(losses.cross_entropy, ignore_label=255, average=average)
        loss = run(function, poisoned, labels)
        assert loss == pytest.approx(expected.sum() / count, rel=1e-6)


@pytest.mark.parametrize('average', ['labelled', 'all'])
def test_dense_cross_entropy_leaves_the_ignored_label_out(average):
    valid = DENSE_LABELS != 255
    expected = -np.log(of_labels(DENSE[valid], DENSE_LABELS[valid])).sum() / (
        valid.sum() if average == 'labelled' else valid.size
    )
    loss = run(
        lambda x, y: losses.cross_entropy(x, y, ignore_label=255, average=average),
        DENSE,
        DENSE_LABELS,
    )
    assert loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('average', ['labelled', 'all'])
@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_dense_focal(gamma, average):
    valid = DENSE_LABELS != 255
    p = of_labels(DENSE[valid], DENSE_LABELS[valid])
    expected = (-((1 - p) ** gamma) * np.log(p)).sum() / (
        valid.sum() if average == 'labelled' else valid.size
    )
    loss = run(
        lambda x, y: losses.focal(x, y, gamma, ignore_label=255, average=average),
        DENSE,
        DENSE_LABELS,
    )
    assert loss == pytest.approx(expected, rel=1e-5)


def test_focal_of_a_batch_of_images():
    p = of_labels(LOGITS, LABELS)
    assert run(losses.focal, LOGITS, LABELS) == pytest.approx(
        (-((1 - p) ** 2) * np.log(p)).mean(), rel=1e-5
    )


def mined(logits, labels, threshold, min_kept, valid):
    """(mean cross entropy, which count) of the hard elements, by sorting their probabilities."""
    p = of_labels(logits, np.where(valid, labels, 0))
    limit = threshold
    in_order = np.sort(p[valid])
    count = min(min_kept * len(labels), len(in_order))
    if count:
        limit = max(threshold, np.nextafter(in_order[count - 1], 2))
    hard = valid & (p < limit)
    return -np.log(p[hard]).mean(), hard


@pytest.mark.parametrize(
    'threshold, min_kept, hard',
    [
        (0.3, 0, None),  # the threshold alone
        (0.3, 3, None),  # and more than so many are below it
        (0.05, 10, 20),  # the threshold leaves too few: 10 for each of 2 images
        (0.0, 7, 14),  # no threshold
        (0.0, 1, 2),
        (0.3, 1000, 'all'),  # more than there are
        (1.0, 0, 'all'),
    ],
)
def test_ohem_takes_the_hard_elements(threshold, min_kept, hard):
    labels = np.where(np.arange(6) == 2, 255, DENSE_LABELS)  # the logits of this column are NaN
    valid = labels != 255
    poisoned = DENSE.copy()
    poisoned[:, :, 2] = np.nan
    expected, chosen = mined(DENSE, DENSE_LABELS, threshold, min_kept, valid)
    assert (
        0 < chosen.sum() < valid.sum()
        if hard is None
        else chosen.sum() == (valid.sum() if hard == 'all' else hard)
    )

    def build(x, y):
        loss = losses.ohem(x, y, threshold, min_kept, 255)
        return loss, tf.gradients(loss, x)[0]

    loss, gradient = run(build, poisoned, labels)
    assert loss == pytest.approx(expected, rel=1e-6)
    targets = np.eye(5)[np.where(chosen, DENSE_LABELS, 0)]
    gradient = np.where(np.isnan(poisoned), 0, gradient)  # 0 * NaN there
    np.testing.assert_allclose(
        gradient, (softmax(DENSE) - targets) * chosen[..., None] / chosen.sum(), atol=1e-6
    )


def test_ohem_of_everything_is_cross_entropy():
    loss = run(lambda x, y: losses.ohem(x, y, 0.7, 24, ignore_label=255), DENSE, DENSE_LABELS)
    assert loss == pytest.approx(
        run(lambda x, y: losses.cross_entropy(x, y, ignore_label=255), DENSE, DENSE_LABELS),
        rel=1e-6,
    )


@pytest.mark.parametrize('spread', [1e-3, 1.0, 30.0])
@pytest.mark.parametrize('kept', [1, 999, 20000, 40000])
def test_ohem_of_many_pixels_is_that_of_a_sort(spread, kept):
    """Beside the hardest it may keep pixels whose loss is less by 2^-24 of the largest."""
    random = np.random.RandomState(0)
    logits = random.normal(0, spread, [1, 200, 200, 3]).astype(np.float32)
    labels = random.choice([0, 1, 2, 255], [1, 200, 200], p=[0.3, 0.3, 0.3, 0.1]).astype(np.int32)
    true = np.where(labels == 255, 0, labels)
    pixels = -np.log(of_labels(logits.astype(np.float64), true))[labels != 255]
    hardest = np.sort(pixels)[::-1][:kept]
    loss = run(lambda x, y: losses.ohem(x, y, 0.0, kept, 255), logits, labels)
    assert loss == pytest.approx(hardest.mean(), rel=1e-5)


def test_ohem_keeps_enough_of_equals():
    """All logits are 0, so none is harder than another; none is below the threshold."""
    assert run(
        lambda x, y: losses.ohem(x, y, 0.1, 2),
        np.zeros((2, 3, 4, 5), np.float32),
        np.zeros((2, 3, 4), np.int32),
    ) == pytest.approx(np.log(5))


@pytest.mark.parametrize('loss', [losses.cross_entropy, losses.focal, losses.ohem])
def test_nothing_valid_is_loss_zero_with_zero_gradient(loss):
    def build(x):
        value = loss(x, tf.fill([2, 4, 6], 255), ignore_label=255)
        return value, tf.gradients(value, x)[0]

    value, gradient = run(build, DENSE)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros_like(DENSE))


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_focal_gradient_is_finite_where_the_network_is_certain(gamma):
    certain = np.array([[200.0, 0.0], [-200.0, 0.0]], np.float32)
    gradient = run(
        lambda x: tf.gradients(losses.focal(x, tf.constant([0, 0]), gamma), x)[0], certain
    )
    assert np.isfinite(gradient).all()
    assert gradient[1, 0] < 0  # the miss is still corrected


def test_cross_entropy_gradient_is_softmax_minus_target():
    gradient = run(
        lambda x: tf.gradients(losses.cross_entropy(x, tf.constant(LABELS), 0.1), x)[0], LOGITS
    )
    targets = 0.9 * np.eye(5)[LABELS] + 0.1 / 5
    np.testing.assert_allclose(gradient, (softmax(LOGITS) - targets) / 12, atol=1e-6)


@pytest.mark.parametrize('loss', [losses.cross_entropy, losses.focal, losses.ohem])
def test_half_precision_logits_are_computed_in_float32(loss):
    half = (LOGITS * 5).astype(np.float16)
    value = run(loss, half, LABELS)
    assert value.dtype == np.float32
    assert value == pytest.approx(run(loss, half.astype(np.float32), LABELS), rel=1e-6)


def test_batch_size_may_be_unknown():
    with tf.Graph().as_default(), tf.Session() as session:
        logits, labels = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.int32, [None])
        loss = losses.cross_entropy(logits, labels, 0.1)
        value = session.run(loss, {logits: LOGITS, labels: LABELS})
    assert value == pytest.approx(
        soft_target_loss(LOGITS, 0.9 * np.eye(5)[LABELS] + 0.02), rel=1e-6
    )


def test_a_label_that_is_no_class_is_an_error_on_cpu():
    with pytest.raises(tf.errors.InvalidArgumentError, match='outside the valid range'):
        run(losses.cross_entropy, LOGITS, np.full(12, 5, np.int32))
