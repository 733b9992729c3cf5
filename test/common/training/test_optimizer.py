"""One step and several of each optimizer against NumPy. Accumulation in a network:
test_accumulation.py.
"""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from common.training import optimizer

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
        kernel = tf.get_variable('kernel', initializer=KERNEL)
        bias = tf.get_variable('bias', initializer=BIAS)

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


OPTIMIZERS = [('sgd', sgd), ('momentum', momentum), ('adam', adam), ('rmsprop', rmsprop)]


@pytest.mark.parametrize('name, update', OPTIMIZERS + [('momentumw', momentum)])
def test_every_optimizer_takes_the_mean_of_micro_batches(name, update):
    (kernel, bias), _ = train(3, optimizer=name, accumulate=3, epsilon=1e-3, rmsprop_decay=0.8)
    mean = (1 + 2 + 3) / 3
    np.testing.assert_allclose(kernel, reference(KERNEL, mean * GRADIENT, 3, update), rtol=3e-5)
    np.testing.assert_allclose(bias, reference(BIAS, mean * BIAS_GRADIENT, 3, update), rtol=3e-5)


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


@pytest.mark.parametrize('name, update', OPTIMIZERS)
@pytest.mark.parametrize('rule', ['kernels', 'all'])
def test_weight_decay_is_l2_of_kernels_and_of_biases_if_asked_for(name, update, rule):
    decay = dict(weight_decay=0.05, weight_decay_rule=rule)
    (kernel, bias), _ = train(3, optimizer=name, epsilon=1e-3, rmsprop_decay=0.8, **decay)

    def decayed(w, g, state, t):
        return update(w, g + 0.05 * w, state, t)

    np.testing.assert_allclose(kernel, reference(KERNEL, GRADIENT, 3, decayed), rtol=1e-5)
    of_bias = decayed if rule == 'all' else update
    np.testing.assert_allclose(bias, reference(BIAS, BIAS_GRADIENT, 3, of_bias), rtol=1e-5)


@pytest.mark.parametrize('rule', ['kernels', 'all'])
def test_momentumw_decays_the_weight_itself_whatever_the_learning_rate(rule):
    """Loshchilov & Hutter 2019, algorithm 1: the decay enters neither the momentum nor the learning
    rate.
    """
    decay = dict(weight_decay=0.05, weight_decay_rule=rule)
    (kernel, bias), _ = train(3, optimizer='momentumw', **decay)

    def decayed(w, g, state, t):
        return momentum(w - 0.05 * w, g, state, t)

    np.testing.assert_allclose(kernel, reference(KERNEL, GRADIENT, 3, decayed), rtol=1e-5)
    of_bias = decayed if rule == 'all' else momentum
    np.testing.assert_allclose(bias, reference(BIAS, BIAS_GRADIENT, 3, of_bias), rtol=1e-5)


def test_decay_leaves_batch_norm_and_biases_of_the_network_alone(configured):
    task, cfg = configured(variant='port', dropout_rate=0.0)
    with tf.Graph().as_default():
        task.build(tf.zeros([1, 32, 32, 3]), cfg, training=True)
        names = {v.op.name for v in optimizer.decayed(cfg, tf.trainable_variables())}
        variables = {v.op.name for v in tf.trainable_variables()}
        assert names == {name for name in variables if name.endswith('kernel')} != set()
        cfg = dataclasses.replace(cfg, weight_decay_rule='no_bn')
        no_bn = {v.op.name for v in optimizer.decayed(cfg, tf.trainable_variables())}
        assert no_bn - names == {name for name in variables if name.endswith('bias')}
        cfg = dataclasses.replace(cfg, weight_decay_rule='all')
        everything = {v.op.name for v in optimizer.decayed(cfg, tf.trainable_variables())}
        assert everything == variables > no_bn > names
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
