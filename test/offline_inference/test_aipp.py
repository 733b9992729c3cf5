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
def test_affine_constants_are_the_normalisation(name, task):
    of = task(normalization=name)
    mean, deviation = of.affine_normalization()
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
def test_file_computes_the_normalisation(name, task):
    found = fields(aipp.text(task(normalization=name)))
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


def test_half_is_exact_to_the_last_digit(task):
    found = fields(aipp.text(task(normalization='half')))
    assert {found['min_chn_%d' % channel] for channel in range(3)} == {'127.5'}
    assert {found['var_reci_chn_%d' % channel] for channel in range(3)} == {'0.00784313725490196'}


def test_reversed_channels(task):
    of = task(normalization='half')
    of.swap_channels = True
    assert fields(aipp.text(of))['rbuv_swap_switch'] == 'true'


def test_what_aipp_cannot_do(task, monkeypatch):
    of = task(normalization='per_image')
    assert of.affine_normalization() is None
    with pytest.raises(
        UserError, match='--input_dtype uint8: wideresnet has no constants.*--input_dtype float32'
    ):
        aipp.text(of)
    of = task(normalization='half')
    monkeypatch.setattr(of, 'affine_normalization', lambda: ([0] * 3, [1e-5] * 3))
    with pytest.raises(UserError, match='65504'):
        aipp.text(of)
    monkeypatch.setattr(of, 'input_shape', (32, 32, 4), raising=False)
    with pytest.raises(UserError, match='3 channels or 1, wideresnet takes 4'):
        aipp.text(of)
