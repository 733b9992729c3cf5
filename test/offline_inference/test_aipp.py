"""AIPP's constants against the normalisation itself, against published numbers, and what AIPP
cannot do.
"""

import re

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from offline_inference import aipp


def fields(text):
    """{field: text} of a configuration with one operation."""
    body = re.fullmatch(r'aipp_op \{\n(.*)\n\}\n', text, re.S).group(1)
    pairs = [line.split(':') for line in body.splitlines()]
    assert len({key.strip() for key, _ in pairs}) == len(pairs)  # a field twice is an error
    return {key.strip(): value.strip() for key, value in pairs}


# x / 127.5 - 1; and the means and deviations that are published for CIFAR, there in units of 0..1.
KNOWN = {
    'half': ([127.5] * 3, [127.5] * 3),
    'cifar10': (
        np.multiply(255, [0.4914, 0.4822, 0.4465]),
        np.multiply(255, [0.2023, 0.1994, 0.2010]),
    ),
    'cifar100': (
        np.multiply(255, [0.5071, 0.4867, 0.4408]),
        np.multiply(255, [0.2675, 0.2565, 0.2761]),
    ),
}


@pytest.mark.parametrize('name', KNOWN)
def test_affine_constants_are_the_normalisation(name, reference):
    of = reference(normalization=name)
    mean, deviation = of.normalization
    np.testing.assert_allclose(mean, KNOWN[name][0], rtol=1e-12)
    np.testing.assert_allclose(deviation, KNOWN[name][1], rtol=1e-12)
    images = np.random.RandomState(0).randint(256, size=(2, 32, 32, 3)).astype(np.uint8)
    with tf.Graph().as_default(), tf.Session() as session:
        normalised = session.run(of.normalize(tf.constant(images)))
    np.testing.assert_allclose(
        normalised,
        (images.astype(np.float64) - KNOWN[name][0]) / KNOWN[name][1],
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize('name', KNOWN)
def test_file_computes_the_normalisation(name, reference):
    found = fields(aipp.text(reference(normalization=name)))
    assert found['aipp_mode'] == 'static' and found['input_format'] == 'RGB888_U8'
    assert (found['src_image_size_w'], found['src_image_size_h']) == ('32', '32')
    assert found['csc_switch'] == found['rbuv_swap_switch'] == 'false'
    values = np.arange(256)
    for channel in range(3):
        assert found['mean_chn_%d' % channel] == '0'  # an integer: 127.5 would be refused there
        made = (values - float(found['min_chn_%d' % channel])) * float(
            found['var_reci_chn_%d' % channel]
        )
        np.testing.assert_allclose(
            made, (values - KNOWN[name][0][channel]) / KNOWN[name][1][channel], rtol=1e-6, atol=1e-9
        )


def test_half_is_exact_to_the_last_digit(reference):
    found = fields(aipp.text(reference(normalization='half')))
    assert {found['min_chn_%d' % channel] for channel in range(3)} == {'127.5'}
    assert {found['var_reci_chn_%d' % channel] for channel in range(3)} == {'0.00784313725490196'}


def test_size_of_images_that_are_not_square(reference):
    of = reference(normalization='half')
    of.input_shape = [4, 64, 96, 3]
    found = fields(aipp.text(of))
    assert (found['src_image_size_w'], found['src_image_size_h']) == ('96', '64')


def test_what_aipp_cannot_do(reference):
    of = reference(normalization='per_image')
    assert of.normalization is None
    with pytest.raises(
        UserError, match='uint8: AIPP normalises.*wideresnet.*--input_dtype float32'
    ):
        aipp.text(of)
    of = reference(normalization='half')
    of.normalization = [0] * 3, [1e-5] * 3
    with pytest.raises(UserError, match='65504.*--input_dtype float32'):
        aipp.text(of)
    of.input_shape = [4, 32, 32, 1]
    with pytest.raises(UserError, match='normalises 1 channels'):
        aipp.text(of)
