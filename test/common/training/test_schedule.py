"""Learning rates against closed forms and the published recipes."""

import math

import numpy as np
import pytest
import tensorflow as tf

from common.configuration.settings import Config
from common.training import schedule

COMMON = dict(base=0.1, total_steps=1000, steps_per_epoch=10)
WARM = dict(warmup_epochs=5, warmup_factor=0.1)  # 50 steps
EVERY = {
    'constant': {},
    'piecewise': dict(boundaries=[30, 60], factors=[0.2, 0.01]),
    'exponential': dict(decay_rate=0.94, decay_epochs=2),
    'cosine': dict(end_factor=1e-3),
    'polynomial': dict(power=0.9, end_factor=1e-3),
    'linear': dict(end_factor=1e-3),
}


def learning_rate(step, *, base, total_steps, steps_per_epoch, **fields):
    cfg = Config(learning_rate=base, **fields)
    return schedule.learning_rate(cfg, step, total_steps, steps_per_epoch)


def closed_form(name, step, warmup_steps):
    """The schedules of EVERY, written out."""
    if step < warmup_steps:
        return 0.01 + (0.1 - 0.01) * step / warmup_steps
    p = min((step - warmup_steps) / (1000 - warmup_steps), 1.0)
    return {
        'constant': 0.1,
        'piecewise': 0.1 if step < 300 else 0.02 if step < 600 else 0.001,
        'exponential': 0.1 * 0.94 ** (step // 20),
        'cosine': 1e-4 + (0.1 - 1e-4) * (1 + math.cos(math.pi * p)) / 2,
        'polynomial': 1e-4 + (0.1 - 1e-4) * (1 - p) ** 0.9,
        'linear': 0.1 + (1e-4 - 0.1) * p,
    }[name]


def in_graph(steps, **arguments):
    """Evaluates the schedule as training does: from the int64 global step."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        rate = learning_rate(step, **arguments)
        assert rate.dtype == tf.float32 and rate.shape == []
        types = {op.type for op in graph.get_operations()}
        assert not types & {
            'Switch',
            'Merge',
            'If',
            'StatelessIf',
            'While',
            'PyFunc',
            'FloorDiv',
            'FloorMod',
        }
        assert all(
            out.dtype != tf.int64
            for op in graph.get_operations()
            if op.type != 'Placeholder'
            for out in op.outputs
        )
        return np.array([session.run(rate, {step: value}) for value in steps])


@pytest.mark.parametrize('warm', [{}, WARM], ids=['cold', 'warm'])
@pytest.mark.parametrize('name', sorted(EVERY))
def test_closed_forms(name, warm):
    warmup_steps = 50 if warm else 0
    arguments = dict(COMMON, schedule=name, **EVERY[name], **warm)
    everywhere = np.arange(0, 1020)
    expected = np.array([closed_form(name, step, warmup_steps) for step in everywhere])
    np.testing.assert_allclose(
        learning_rate(everywhere, **arguments), expected, rtol=1e-12, atol=1e-18
    )
    chosen = [0, 1, 19, 20, 39, 40, 49, 50, 51, 60, 299, 300, 599, 600, 998, 999, 1000, 1019]
    np.testing.assert_allclose(in_graph(chosen, **arguments), expected[chosen], rtol=2e-6)


@pytest.mark.parametrize('name', sorted(EVERY))
def test_a_number_gives_a_number(name):
    rate = learning_rate(7, schedule=name, **COMMON, **EVERY[name])
    assert isinstance(rate, float)


def test_the_global_step_variable_is_accepted():
    with tf.Graph().as_default(), tf.Session() as session:
        rate = learning_rate(tf.train.get_or_create_global_step(), schedule='constant', **COMMON)
        session.run(tf.global_variables_initializer())
        assert session.run(rate) == np.float32(0.1)


def test_wide_resnet_paper():
    recipe = dict(
        schedule='piecewise',
        base=0.1,
        total_steps=200 * 390,
        steps_per_epoch=390,
        boundaries=[60, 120, 160],
        factors=[0.2, 0.04, 0.008],
    )
    steps = [
        0,
        60 * 390 - 1,
        60 * 390,
        120 * 390 - 1,
        120 * 390,
        160 * 390 - 1,
        160 * 390,
        200 * 390 - 1,
    ]
    expected = [
        0.1,
        0.1,
        0.1 * 0.2,
        0.1 * 0.2,
        0.1 * 0.2**2,
        0.1 * 0.2**2,
        0.1 * 0.2**3,
        0.1 * 0.2**3,
    ]
    np.testing.assert_allclose(learning_rate(np.array(steps), **recipe), expected)
    np.testing.assert_allclose(in_graph(steps, **recipe), expected, rtol=1e-6)


def test_mindspore_wide_resnet_table():
    recipe = dict(
        schedule='piecewise',
        base=0.1,
        total_steps=300 * 195,
        steps_per_epoch=195,
        boundaries=[60, 120, 160, 200, 240],
        factors=[0.2, 0.04, 0.01, 8e-3, 6e-3],
    )
    epochs = np.array([0, 59.99, 60, 119, 121, 159, 161, 199, 201, 239, 241, 299.99])
    np.testing.assert_allclose(
        learning_rate((epochs * 195).astype(int), **recipe),
        [0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.001, 0.001, 8e-4, 8e-4, 6e-4, 6e-4],
    )


def test_mindspore_xception():
    per_epoch, total = 1251, 250 * 1251  # 1 281 167 images, 8 x 128
    recipe = dict(
        schedule='linear',
        base=0.4,
        total_steps=total,
        steps_per_epoch=per_epoch,
        warmup_epochs=1,
        warmup_factor=1e-4,
        end_factor=1e-4,
    )
    steps = np.array(
        [0, 1, per_epoch - 1, per_epoch, per_epoch + 1, 100 * per_epoch, total - 1, total]
    )
    rise, fall = (0.4 - 4e-5) / per_epoch, (0.4 - 4e-5) / (249 * per_epoch)
    expected = [
        4e-5,
        4e-5 + rise,
        0.4 - rise,
        0.4,
        0.4 - fall,
        0.4 - 99 * per_epoch * fall,
        4e-5 + fall,
        4e-5,
    ]
    np.testing.assert_allclose(learning_rate(steps, **recipe), expected, rtol=1e-9)
    np.testing.assert_allclose(in_graph(steps, **recipe), expected, rtol=2e-5, atol=1e-7)


def test_xception_paper():
    per_epoch = 10009
    recipe = dict(
        schedule='exponential',
        base=0.045,
        total_steps=100 * per_epoch,
        steps_per_epoch=per_epoch,
        decay_rate=0.94,
        decay_epochs=2,
    )
    periods = np.arange(1, 50)
    for offset, power in (
        (0, periods),
        (-1, periods - 1),
    ):  # exactly at the change, and one step before
        steps = periods * 2 * per_epoch + offset
        np.testing.assert_allclose(learning_rate(steps, **recipe), 0.045 * 0.94**power)
        np.testing.assert_allclose(
            in_graph(steps[-3:], **recipe), (0.045 * 0.94**power)[-3:], rtol=1e-5
        )


def test_smooth_exponential():
    rate = learning_rate(
        15, schedule='exponential', decay_rate=0.5, decay_epochs=3, staircase=False, **COMMON
    )
    assert rate == pytest.approx(0.1 * 0.5**0.5)


def test_fractions_of_epochs_round_up_to_whole_steps():
    arguments = dict(
        schedule='piecewise',
        base=1.0,
        total_steps=500,
        steps_per_epoch=100,
        boundaries=[0.07, 0.175],
        factors=[2, 3],
    )
    assert 0.07 * 100 > 7  # in binary; yet the change is at step 7, and at 18 for 17.5
    np.testing.assert_array_equal(
        learning_rate(np.array([6, 7, 17, 18]), **arguments), [1, 2, 2, 3]
    )


def test_warm_up_longer_than_training_never_reaches_the_base():
    arguments = dict(schedule='cosine', base=1.0, total_steps=4, steps_per_epoch=4, warmup_epochs=2)
    np.testing.assert_allclose(learning_rate(np.arange(4), **arguments), [0, 1 / 8, 2 / 8, 3 / 8])
