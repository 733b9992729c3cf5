"""What the networks share."""

import numpy as np
import pytest
import tensorflow as tf

from common.training import layers


def test_widths_are_rounded_to_the_nearest_multiple():
    def at(width, **options):
        return layers.scaled(32, width, **options)

    assert [at(width, divisor=2048) for width in (1, 0.046875, 0.0001, 1.25)] == [32, 2, 1, 40]
    assert [at(width, divisor=256, multiple=2) for width in (1, 3 / 64, 1e-6, 0.5)] == [
        32,
        2,
        2,
        16,
    ]
    # The layer with `divisor` filters tells the width, whatever the rounding of the flag.
    for width in np.random.RandomState(0).uniform(0, 2, 100):
        told = layers.scaled(2048, width, divisor=2048) / 2048
        assert all(
            layers.scaled(filters, told, divisor=2048)
            == layers.scaled(filters, width, divisor=2048)
            for filters in (32, 64, 728)
        )


def test_padding_is_zero_on_all_four_sides():
    with tf.Graph().as_default(), tf.Session() as session:
        padded = session.run(layers.pad(tf.ones([1, 2, 3, 1]), 2))
    assert padded.shape == (1, 6, 7, 1) and padded.sum() == padded[:, 2:-2, 2:-2].sum() == 6


def test_dropout_layers_are_numbered():
    drop = layers.dropout_layers(lambda x, rate, index: (x, rate, index), 0.3, True)
    assert [drop('a'), drop('b')] == [('a', 0.3, 0), ('b', 0.3, 1)]


@pytest.mark.parametrize('rate, training', [(0.0, True), (0.3, False)])
def test_dropout_without_rate_or_training_is_nothing(rate, training):
    assert layers.dropout_layers(None, rate, training)('x') == 'x'


def test_dropout_in_training_must_be_given():
    with pytest.raises(ValueError, match='needs a dropout function'):
        layers.dropout_layers(None, 0.3, True)


def test_batch_norm_layers_hand_their_options_on():
    def spy(*args, **options):
        return args, options

    norm = layers.batch_norm_layers(spy, 0.9, 1e-3, True, axis=1)
    assert norm('x', 'a') == (('x', 'a', 0.9, 1e-3, True), {'axis': 1})
    assert norm('x', 'b', 0.5) == (('x', 'b', 0.5, 1e-3, True), {'axis': 1})
