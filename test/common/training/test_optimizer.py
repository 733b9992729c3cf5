"""One step and several of each optimizer against NumPy, and gradient accumulation against one large
batch.
"""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from common.devices.cpu import CPU
from common.training import model_fn, optimizer

# The gradients of these variables are the constants below: the loss is linear in them.
KERNEL, GRADIENT = np.float32([[1.0, -2.0], [0.5, 3.0]]), np.float32([[0.3, -0.1], [2.0, 0.7]])
BIAS, BIAS_GRADIENT = np.float32([0.4, -0.6]), np.float32([-0.5, 0.25])
RATE = 0.1


class OneProcess:
    """As much of a device as an optimizer needs."""

    rank, size = 0, 1

    def wrap_optimizer(self, wrapped, cfg):
        return wrapped


def options(**changes):
    defaults = dict(
        optimizer='momentum',
        momentum=0.9,
        nesterov=False,
        rmsprop_decay=0.9,
        epsilon=1e-8,
        weight_decay=0.0,
        weight_decay_rule='kernels',
        clip_norm=0.0,
        ema_decay=0.0,
        accumulate=1,
        rate_factors={},
    )
    return types.SimpleNamespace(**dict(defaults, **changes))


def train(steps, **changes):
    """Values of kernel, bias and their averages (if any) after so many steps."""
    cfg = options(**changes)
    with tf.Graph().as_default():
        kernel, bias = (
            tf.get_variable('kernel', initializer=KERNEL),
            tf.get_variable('bias', initializer=BIAS),
        )

        def losses_of(index):
            data = tf.reduce_sum(kernel * GRADIENT) + tf.reduce_sum(bias * BIAS_GRADIENT)
            data *= 1.0 + index  # gradients of the micro-batches: 1, 2, ... times the constants
            return optimizer.Losses(data, data + optimizer.l2_loss(cfg))

        step = tf.train.get_or_create_global_step()
        op, _ = optimizer.train_op(cfg, OneProcess(), losses_of, tf.constant(RATE))
        averages = [
            v for v in tf.global_variables() if v.op.name.endswith('ExponentialMovingAverage')
        ]
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for _ in range(steps):
                session.run(op)
            assert session.run(step) == steps
            return session.run([kernel, bias]), session.run(averages)


def reference(w, gradient, steps, update):
    """Applies update(w, g, state, t) -> w, for t = 1..steps."""
    w, state = w.astype(np.float64), {}
    for t in range(1, steps + 1):
        w = update(w, gradient.astype(np.float64), state, t)
    return w


def sgd(w, g, state, t):
    return w - RATE * g


def momentum(w, g, state, t):
    state['m'] = 0.9 * state.get('m', 0) + g
    return w - RATE * state['m']


def nesterov(w, g, state, t):
    state['m'] = 0.9 * state.get('m', 0) + g
    return w - RATE * (g + 0.9 * state['m'])


def adam(w, g, state, t):
    """Kingma & Ba 2015, the form at the end of section 2: epsilon is added before the bias
    correction.
    """
    state['m'] = 0.9 * state.get('m', 0) + 0.1 * g
    state['v'] = 0.999 * state.get('v', 0) + 0.001 * g**2
    return w - RATE * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * state['m'] / (
        np.sqrt(state['v']) + 1e-3
    )


def rmsprop(w, g, state, t):
    """Tieleman & Hinton 2012 with momentum on the scaled gradient; TensorFlow starts the mean
    square at 1.
    """
    state['v'] = 0.8 * state.get('v', 1.0) + 0.2 * g**2
    state['m'] = 0.9 * state.get('m', 0) + RATE * g / np.sqrt(state['v'] + 1e-3)
    return w - state['m']


@pytest.mark.parametrize('steps', [1, 4])
@pytest.mark.parametrize(
    'update, changes',
    [
        (sgd, dict(optimizer='sgd')),
        (momentum, dict()),
        (nesterov, dict(nesterov=True)),
        (adam, dict(optimizer='adam', epsilon=1e-3)),
        (rmsprop, dict(optimizer='rmsprop', rmsprop_decay=0.8, epsilon=1e-3)),
        (momentum, dict(optimizer='momentumw')),
        (nesterov, dict(optimizer='momentumw', nesterov=True)),
    ],
)
def test_closed_forms(update, changes, steps):
    (kernel, bias), _ = train(steps, **changes)
    np.testing.assert_allclose(kernel, reference(KERNEL, GRADIENT, steps, update), rtol=3e-5)
    np.testing.assert_allclose(bias, reference(BIAS, BIAS_GRADIENT, steps, update), rtol=3e-5)


@pytest.mark.parametrize(
    'update, name',
    [
        (sgd, 'sgd'),
        (momentum, 'momentum'),
        (adam, 'adam'),
        (rmsprop, 'rmsprop'),
        (momentum, 'momentumw'),
    ],
)
def test_every_optimizer_takes_the_mean_of_micro_batches(update, name):
    (kernel, bias), _ = train(3, optimizer=name, accumulate=3, epsilon=1e-3, rmsprop_decay=0.8)
    np.testing.assert_allclose(
        kernel, reference(KERNEL, GRADIENT * (1 + 2 + 3) / 3, 3, update), rtol=3e-5
    )
    np.testing.assert_allclose(
        bias, reference(BIAS, BIAS_GRADIENT * (1 + 2 + 3) / 3, 3, update), rtol=3e-5
    )


def test_a_micro_batch_waits_for_the_gradients_of_the_one_before():
    """So the activations of one are freed before those of the next are made."""
    with tf.Graph().as_default() as graph:
        kernel, starts = tf.get_variable('kernel', initializer=KERNEL), []

        def losses_of(index):
            activation = tf.square(kernel)
            starts.append(activation.op)
            return optimizer.Losses(*[tf.reduce_sum(activation)] * 2)

        optimizer.train_op(options(accumulate=3), OneProcess(), losses_of, tf.constant(RATE))
    for start in starts[1:]:
        made = [op for op in graph.get_operations() if op._id < start._id]
        gradient = [op for op in made if op.type == 'Mul' and 'gradients' in op.name][-1]
        needed, stack = set(), [start]
        while stack:
            op = stack.pop()
            needed.add(op)
            stack += [item for item in op.control_inputs if item not in needed]
            stack += [item.op for item in op.inputs if item.op not in needed]
        assert gradient in needed


def test_micro_batches_share_decay_clipping_and_average():
    """Weight decay counts once a step, the norm is that of the mean gradient, the average follows
    steps.
    """
    gradient = 1.5 * GRADIENT + 0.05 * KERNEL
    norm = np.sqrt((gradient**2).sum() + (1.5**2 * BIAS_GRADIENT**2).sum())
    (kernel, _), (average, _) = train(
        1, optimizer='sgd', accumulate=2, weight_decay=0.05, clip_norm=0.5, ema_decay=0.5
    )
    after = KERNEL - RATE * 0.5 / norm * gradient
    np.testing.assert_allclose(kernel, after, rtol=1e-5)
    np.testing.assert_allclose(average, 2 / 11 * KERNEL + 9 / 11 * after, rtol=1e-5)


# Weight decay


@pytest.mark.parametrize(
    'name, update', [('sgd', sgd), ('momentum', momentum), ('adam', adam), ('rmsprop', rmsprop)]
)
@pytest.mark.parametrize('everything', [False, True])
def test_weight_decay_is_l2_of_kernels_and_of_biases_if_asked_for(name, update, everything):
    (kernel, bias), _ = train(
        3,
        optimizer=name,
        weight_decay=0.05,
        weight_decay_rule='all' if everything else 'kernels',
        epsilon=1e-3,
        rmsprop_decay=0.8,
    )

    def decayed(w, g, state, t):
        return update(w, g + 0.05 * w, state, t)

    np.testing.assert_allclose(kernel, reference(KERNEL, GRADIENT, 3, decayed), rtol=1e-5)
    np.testing.assert_allclose(
        bias, reference(BIAS, BIAS_GRADIENT, 3, decayed if everything else update), rtol=1e-5
    )


@pytest.mark.parametrize('everything', [False, True])
def test_momentumw_decays_the_weight_itself_whatever_the_learning_rate(everything):
    """Loshchilov & Hutter 2019, algorithm 1: the decay enters neither the momentum nor the learning
    rate.
    """
    (kernel, bias), _ = train(
        3,
        optimizer='momentumw',
        weight_decay=0.05,
        weight_decay_rule='all' if everything else 'kernels',
    )

    def decayed(w, g, state, t):
        return momentum(w - 0.05 * w, g, state, t)

    np.testing.assert_allclose(kernel, reference(KERNEL, GRADIENT, 3, decayed), rtol=1e-5)
    np.testing.assert_allclose(
        bias, reference(BIAS, BIAS_GRADIENT, 3, decayed if everything else momentum), rtol=1e-5
    )


def test_decay_leaves_batch_norm_and_biases_of_the_network_alone(configured):
    task, cfg = configured(variant='port', dropout_rate=0.0)
    with tf.Graph().as_default():
        task.build(tf.zeros([1, 32, 32, 3]), cfg, training=True)
        names = {v.op.name for v in optimizer.decayed(cfg, tf.trainable_variables())}
        assert (
            names
            == {v.op.name for v in tf.trainable_variables() if v.op.name.endswith('kernel')}
            != set()
        )
        cfg = dataclasses.replace(cfg, weight_decay_rule='no_bn')
        no_bn = {v.op.name for v in optimizer.decayed(cfg, tf.trainable_variables())}
        assert no_bn - names == {
            v.op.name for v in tf.trainable_variables() if v.op.name.endswith('bias')
        }
        cfg = dataclasses.replace(cfg, weight_decay_rule='all')
        everything = {v.op.name for v in optimizer.decayed(cfg, tf.trainable_variables())}
        assert everything == {v.op.name for v in tf.trainable_variables()} > no_bn > names
        assert not any('moving' in name for name in everything)


# Clipping and averaging


@pytest.mark.parametrize('clip', [0.5, 100.0])
def test_clipping_is_by_the_norm_over_all_variables(clip):
    norm = np.sqrt((GRADIENT**2).sum() + (BIAS_GRADIENT**2).sum())
    assert 0.5 < norm < 100
    (kernel, bias), _ = train(1, optimizer='sgd', clip_norm=clip)
    factor = min(1, clip / norm)
    np.testing.assert_allclose(kernel, KERNEL - RATE * factor * GRADIENT, rtol=1e-6)
    np.testing.assert_allclose(bias, BIAS - RATE * factor * BIAS_GRADIENT, rtol=1e-6)


def test_clipping_includes_weight_decay():
    gradient = GRADIENT + 0.05 * KERNEL
    norm = np.sqrt((gradient**2).sum() + (BIAS_GRADIENT**2).sum())
    (kernel, _), _ = train(1, optimizer='sgd', clip_norm=0.5, weight_decay=0.05)
    np.testing.assert_allclose(kernel, KERNEL - RATE * 0.5 / norm * gradient, rtol=1e-6)


def test_a_rate_factor_multiplies_the_rate_of_its_scope():
    """Of the decay too: PyTorch's groups with a rate of their own do so."""
    (kernel, bias), _ = train(3, rate_factors={'kernel': 10.0}, weight_decay=0.01)
    expected, speed = KERNEL.astype(float), 0
    for _ in range(3):
        speed = 0.9 * speed + GRADIENT + 0.01 * expected
        expected = expected - 10 * RATE * speed
    np.testing.assert_allclose(kernel, expected, rtol=1e-5)
    np.testing.assert_allclose(bias, train(3)[0][1], rtol=1e-6)


def test_average_follows_the_weights():
    """The decay starts low: min(decay, (1 + t) / (10 + t)) after step t."""
    _, (kernel, bias) = train(40, optimizer='sgd', ema_decay=0.6)
    for found, start, gradient in ((kernel, KERNEL, GRADIENT), (bias, BIAS, BIAS_GRADIENT)):
        w, average = start.astype(np.float64), start.astype(np.float64)
        for t in range(1, 41):
            w = w - RATE * gradient
            decay = min(0.6, (1 + t) / (10 + t))
            average = decay * average + (1 - decay) * w
        np.testing.assert_allclose(found, average, rtol=1e-5)


def test_no_average_by_default():
    assert train(1)[1] == []


# The network: accumulation, batch norm


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
    settings = dict(
        freeze_bn=True, dropout_rate=0.5, learning_rate=1e-9, weight_decay=0.0, batch_size=8
    )
    start = step_of(configured(**settings), {key: value[:8] for key, value in features.items()})[0]
    first = step_of(
        configured(**settings), {key: value[:8] for key, value in features.items()}, start
    )[2][0]
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
