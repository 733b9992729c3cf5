"""Variables of the default graph, and values for them, for tests of the models."""

import numpy as np
import tensorflow as tf


def variables():
    """[[name, shape, whether it is trained]] in the order in which they were made."""
    trainable = set(tf.trainable_variables())
    return [[v.op.name, v.shape.as_list(), v in trainable] for v in tf.global_variables()]


def parameters():
    """The number of values that are trained."""
    return sum(np.prod(shape, dtype=int) for _, shape, trainable in variables() if trainable)


def session_with(weights):
    """A session in which every variable of the graph has its value of `weights`; none may be left
    over.
    """
    names = {v.op.name: v for v in tf.global_variables()}
    assert set(names) == set(weights)
    session = tf.Session()
    session.run(
        [v.initializer for v in names.values()],
        {v.initializer.inputs[1]: weights[name] for name, v in names.items()},
    )
    return session


def random_value(random, name, shape, highest=1.5):
    """float32; such that activations keep their size and every term of the network matters."""
    if len(shape) > 1:
        fan_in = 9 if name.endswith('depthwise_kernel') else np.prod(shape[:-1])
        value = random.normal(0, np.sqrt(2 / fan_in), shape)
    elif name.endswith(('gamma', 'moving_variance')):
        value = random.uniform(0.5, highest, shape)
    else:
        value = random.normal(0, 0.3, shape)
    return value.astype(np.float32)


def random_weights(seed, highest=1.5):
    random = np.random.RandomState(seed)
    return {name: random_value(random, name, shape, highest) for name, shape, _ in variables()}
