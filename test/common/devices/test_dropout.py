"""The CPU's dropout: its masks, and the seeds that training gives to it."""

import types
import unittest.mock

import numpy as np
import pytest
import tensorflow as tf

from common.devices import cpu
from common.training import model_fn
from wideresnet_tf.config import WideResNetConfig

pytestmark = pytest.mark.usefixtures('alone')


def drop(x, rate, *seeds):
    with tf.Session() as session:
        return session.run([cpu.CPU().dropout(tf.constant(x), rate, seed) for seed in seeds])


@pytest.mark.parametrize('rate', [0.3, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_scales_the_rest(rate):
    x = np.random.RandomState(0).uniform(1, 2, (50, 400)).astype(np.float32)
    (y,) = drop(x, rate, (1, 2))
    kept = y != 0
    np.testing.assert_allclose(y[kept], x[kept] / (1 - rate), rtol=1e-5)
    assert abs(kept.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / x.size)
    # Neither rows nor columns have a mask in common.
    assert abs(kept.mean(axis=0) - (1 - rate)).max() < 6 * np.sqrt(rate * (1 - rate) / 50)


def test_dropout_of_an_odd_number_of_values():
    (y,) = drop(np.ones((3, 1, 7), np.float32), 0.5, (1, 2))
    assert set(np.unique(y)) == {0, 2}


def test_the_mask_is_a_function_of_the_seed():
    x = np.ones((20, 50), np.float32)
    first, again, layer, step, negative = drop(x, 0.5, (1, 2), (1, 2), (3, 2), (1, 3), (-1, 2))
    np.testing.assert_array_equal(first, again)
    for other in (layer, step, negative):
        assert abs(np.mean((first != 0) == (other != 0)) - 0.5) < 0.1


def test_dropout_keeps_half_precision():
    assert drop(np.ones(8, np.float16), 0.5, (0, 0))[0].dtype == np.float16


def test_layers_ranks_and_micro_batches_drop_differently_and_steps_anew(monkeypatch):
    """The seeds that the training graph gives to dropout: 18 layers (WRN-40), 16 ranks, 4
    micro-batches.
    """

    def build(images, cfg, training, dropout, batch_norm):
        for layer in range(18):
            dropout(images, 0.5, layer)
        return images * tf.get_variable('w', [1])

    task = unittest.mock.Mock(
        build=build,
        data=types.SimpleNamespace(
            augment=lambda features, cfg: features, normalize=lambda images, cfg: images
        ),
        metric=types.SimpleNamespace(loss=lambda outputs, features, cfg: tf.reduce_sum(outputs)),
    )
    cfg = WideResNetConfig(optimizer='sgd', accumulate=4, batch_size=1, seed=3)

    class Recorder(cpu.CPU):
        def __init__(self, rank):
            super().__init__()
            self.rank, self.seeds = rank, []

        def dropout(self, x, rate, seed):
            self.seeds.append(seed)
            return x

    seeds = []
    for rank in range(16):
        with tf.Graph().as_default():
            device = Recorder(rank)
            build_graph = model_fn.build(task, cfg, device, total_steps=1, steps_per_epoch=1)
            build_graph({'image': tf.ones([4])}, None, tf.estimator.ModeKeys.TRAIN)
            assert all(step is tf.train.get_global_step() for _, step in device.seeds)
            seeds += [int(first) for first, _ in device.seeds]
    assert len(set(np.array(seeds).astype(np.int32).tolist())) == 18 * 16 * 4
