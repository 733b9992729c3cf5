"""Accumulation of gradients in a network: micro-batches against one large batch, batch norm,
dropout and mixup.
"""

import numpy as np
import pytest
import tensorflow as tf

from common.devices.cpu import CPU
from common.training import model_fn


def images(count):
    random = np.random.RandomState(0)
    return {
        'image': random.randint(0, 256, (count, 32, 32, 3)).astype(np.uint8),
        'label': random.randint(0, 4, count).astype(np.int32),
        'mask': np.ones(count, np.float32),
        'draws': random.uniform(size=(count, 8)).astype(np.float32),
        'mixup': random.uniform(size=count).astype(np.float32),
    }


def step_of(chosen, features, start=None, steps=1):
    """Trains the task on the same batch `steps` times: (variables before, variables after, logged
    losses).
    """
    task, cfg = chosen
    with tf.Graph().as_default():
        inputs = {
            key: tf.placeholder_with_default(value, value.shape) for key, value in features.items()
        }
        spec = model_fn.build(task, cfg, CPU(), total_steps=10, steps_per_epoch=1)(
            inputs, None, tf.estimator.ModeKeys.TRAIN
        )
        variables = {v.op.name: v for v in tf.global_variables()}
        with tf.Session() as session:
            given = {
                variables[name].initializer.inputs[1]: value
                for name, value in (start or {}).items()
                if name in variables
            }
            session.run(tf.global_variables_initializer(), given)
            before = session.run(variables)
            losses = [session.run([spec.loss, spec.train_op])[0] for _ in range(steps)]
            return before, session.run(variables), losses


def spread(values, seed=1):
    """Batch-norm parameters and biases away from 0 and 1, so that every term of the gradient
    counts.
    """
    random = np.random.RandomState(seed)
    return {
        name: (
            random.uniform(0.5, 1.5, value.shape)
            if name.endswith(('gamma', 'moving_variance'))
            else (
                random.normal(0, 0.1, value.shape)
                if name.endswith(('beta', 'bias', 'moving_mean'))
                else value
            )
        )
        for name, value in values.items()
        if 'Momentum' not in name and name != 'global_step'
    }


@pytest.mark.parametrize('variant', ['paper', 'port'])
def test_accumulated_micro_batches_are_one_batch(variant, configured):
    settings = dict(
        variant=variant,
        freeze_bn=True,
        dropout_rate=0.0,
        weight_decay=0.01,
        clip_norm=1.0,
        brightness=20.0,
        learning_rate=0.1,
    )
    features = {key: value for key, value in images(32).items() if key != 'mixup'}
    start = spread(step_of(configured(batch_size=32, **settings), features)[0])
    before, whole, losses = step_of(configured(batch_size=32, **settings), features, start, steps=2)
    again, parts, part_losses = step_of(
        configured(batch_size=8, accumulate=4, **settings), features, start, steps=2
    )
    assert sorted(parts) == sorted(whole)  # the loop's body makes no variables of its own
    assert parts['global_step'] == whole['global_step'] == 2
    np.testing.assert_allclose(part_losses, losses, rtol=1e-5)
    for name in whole:
        np.testing.assert_array_equal(again[name], before[name])
        # The norm, since a single gradient moves where rounding flips a ReLU in the second step.
        error = np.linalg.norm(parts[name] - whole[name])
        assert error <= 1e-3 * np.linalg.norm(whole[name]) + 1e-6, name
    moved = [name for name in start if not np.array_equal(before[name], whole[name])]
    assert len(moved) == len([name for name in start if 'moving_' not in name])


def stem_means(values, batch):
    """Channel means of the stem's output for uint8 images: the sum of nine shifted images."""
    x = np.pad(batch / 127.5 - 1, [(0, 0), (1, 1), (1, 1), (0, 0)], 'constant')
    kernel = values['stem/conv/kernel']
    return sum(
        np.tensordot(x[:, i : i + 32, j : j + 32].mean(axis=(0, 1, 2)), kernel[i, j], 1)
        for i in range(3)
        for j in range(3)
    )


@pytest.mark.parametrize('accumulate', [1, 3])
def test_batch_norm_sees_each_micro_batch_once(accumulate, configured):
    features = {
        key: value for key, value in images(8 * accumulate).items() if key not in ('mixup', 'draws')
    }
    before, after, _ = step_of(
        configured(batch_size=8, accumulate=accumulate, learning_rate=1e-9), features
    )
    mean = before['group1/block1/bn1/moving_mean']
    for part in np.split(features['image'], accumulate):
        mean = 0.9 * mean + 0.1 * stem_means(before, part)
    np.testing.assert_allclose(after['group1/block1/bn1/moving_mean'], mean, rtol=1e-4, atol=1e-5)
    moved = [
        name
        for name in before
        if 'moving_' in name and not np.array_equal(before[name], after[name])
    ]
    assert len(moved) == 2 * 7  # a mean and a variance in each of the batch norms of a WRN-10


def test_accumulation_drops_and_mixes_each_micro_batch_on_its_own(configured):
    """With equal images and labels micro-batches differ by their dropout masks alone; their mean
    loss is not that of one of them.
    """
    one = {key: value[:1] for key, value in images(1).items() if key != 'mixup'}
    features = {key: np.repeat(value, 16, axis=0) for key, value in one.items()}
    half = {key: value[:8] for key, value in features.items()}
    settings = dict(
        freeze_bn=True, dropout_rate=0.5, learning_rate=1e-9, weight_decay=0.0, batch_size=8
    )
    start = step_of(configured(**settings), half)[0]
    first = step_of(configured(**settings), half, start)[2][0]
    both = step_of(configured(accumulate=2, **settings), features, start)[2][0]
    assert abs(2 * both - first - first) > 1e-4  # the second micro-batch has a loss of its own
    assert abs(both - first) < 0.5 * first


def test_accumulation_with_mixup_and_a_large_seed_builds(configured):
    settings = dict(
        accumulate=2,
        batch_size=4,
        mixup=0.4,
        cutout=8,
        contrast=0.5,
        seed=2**32 - 1,
        ema_decay=0.9,
        variant='port',
    )
    assert np.isfinite(step_of(configured(**settings), images(8), steps=2)[2]).all()
