"""Agreement and relative difference, by hand."""

import math
import tracemalloc

import numpy as np
import pytest

from offline_inference import agreement

A = np.array([[1.0, 2.0], [5.0, 3.0], [0.0, 0.0], [9.0, 9.5]])


def test_agreement_counts_equal_classes_of_real_images():
    b = A + [[0.25, 0], [-3, 0], [0, 0], [50, 0]]
    assert agreement.compare_logits(A, b, np.array([1, 1, 1, 0])) == (
        3,
        2,
        3.0,
    )  # the last is padding
    total = agreement.compare_logits(A, b, np.ones(4)).add(
        agreement.compare_logits(A, A, np.ones(4))
    )
    assert total == (8, 6, 50.0) and total.share == 0.75
    assert agreement.compare_logits(A, b, np.zeros(4)) == (0, 0, 0.0)
    assert math.isnan(agreement.Agreement().share)


def test_equal_logits_count_as_the_first_class():
    assert (
        agreement.compare_logits(np.array([[2.0, 2.0]]), np.array([[2.0, 1.9]]), np.ones(1)).equal
        == 1
    )


def test_each_pixel_is_a_prediction():
    online = np.zeros((2, 3, 5, 4))
    offline = online.copy()
    offline[1, 2, 4, 3] = 1.0
    assert agreement.compare_logits(online, offline, np.ones(2)) == (30, 29, 1.0)
    assert agreement.compare_logits(online, offline, np.array([1.0, 0.0])) == (15, 15, 0.0)


@pytest.mark.parametrize('both', [False, True])
def test_nan_never_agrees(both):
    bad = A.copy()
    bad[1, 0] = np.nan  # where the largest is
    found = agreement.compare_logits(bad if both else A, bad, np.ones(4))
    assert found[:2] == (4, 3) and math.isnan(found.largest)
    assert math.isnan(found.add(agreement.Agreement(1, 1, 0.5)).largest) and math.isnan(
        agreement.Agreement(1, 1, 0.5).add(found).largest
    )


def test_relative_difference_is_of_the_images_own_scale():
    reference = np.array([[100.0, -200.0], [0.1, 0.2]])
    assert agreement.relative_difference(reference, reference + [[1, 0], [0, 0]]) == pytest.approx(
        1 / 200
    )
    assert agreement.relative_difference(
        reference, reference + [[0, 0], [0, 0.01]]
    ) == pytest.approx(0.05)
    assert agreement.relative_difference(np.zeros((2, 3)), np.zeros((2, 3))) == 0
    assert agreement.relative_difference(np.zeros((2, 3)), np.full((2, 3), 1e-3)) > 1
    for bad in (np.nan, np.inf):
        assert math.isnan(agreement.relative_difference(reference, np.full((2, 2), bad)))
        assert math.isnan(agreement.relative_difference(np.full((2, 2), bad), np.full((2, 2), bad)))


def test_a_photographs_logits_are_compared_without_copies_of_them():
    online = np.random.RandomState(0).normal(size=[2, 300, 401, 19]).astype(np.float32)
    offline = online.copy()
    offline[1, 250, 400, 7] = 50.0  # in the last piece of an image
    offline[0, 299, 0] = np.nan
    offline[1, 0, 5, :] -= 1.0  # the same class
    tracemalloc.start()
    found = agreement.compare_logits(online, offline, np.array([0, 1]))
    worst = agreement.relative_difference(online[1:], offline[1:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    difference = 50 - float(online[1, 250, 400, 7])
    assert found == (
        300 * 401,
        300 * 401 - 1,
        pytest.approx(difference),
    ) and worst == pytest.approx(difference / np.abs(online[1]).max())
    assert peak < online.nbytes / 2
    assert agreement.compare_logits(
        online, offline, np.ones(2)
    ).equal == 2 * 300 * 401 - 2 and math.isnan(agreement.relative_difference(online, offline))
