"""The random weights, images and labels of five training steps, and what is stored of them: shared
by make_training.py, which runs the publications' code, and test_training.py, which runs ours.
"""

import json
import re
import zlib

import numpy as np

BATCH, XCEPTION_BATCH = 8, 2
RATES = [0.1, 0.1, 0.1, 0.02, 0.02]


def _random(name):
    return np.random.RandomState(zlib.crc32(name.encode()))


def weight(name, shape):
    """The initial value of a variable of ours, float32 in TensorFlow's layout."""
    random, leaf = _random(name), name.rsplit('/', 1)[1]
    if 'kernel' in leaf:
        fan_in = 9 if leaf == 'depthwise_kernel' else np.prod(shape[:-1])
        value = random.normal(0, np.sqrt(2 / fan_in), shape)
    elif leaf in ('gamma', 'moving_variance'):
        value = random.uniform(0.5, 1.5, shape)
    else:
        value = random.normal(0, 0.3, shape)
    return value.astype(np.float32)


def images(step, size, count=BATCH):
    """float32 [count, size, size, 3], normalised."""
    shape = (count, size, size, 3)
    return _random('images%d' % step).normal(size=shape).astype(np.float32)


def labels(step, classes, count=BATCH):
    return _random('labels%d' % step).randint(classes, size=count).astype(np.int32)


def digest(name, before, after):
    """[length of the update, its products with three random vectors], in float64."""
    update = (after.astype(np.float64) - before).ravel()
    vectors = _random(name + ' digest').normal(size=(3, update.size))
    return [float(np.linalg.norm(update))] + [float(x) for x in vectors.dot(update)]


def updates(before, after):
    return {name: digest(name, before[name], after[name]) for name in before}


def store(path, result):
    """Writes JSON with 7 significant digits, a list of numbers on one line."""
    text = json.dumps(result, indent=0)
    text = re.sub(r'-?\d+\.\d+(e-?\d+)?', lambda found: '%.7g' % float(found.group()), text)
    text = re.sub(r'\[[^][]*\]', lambda found: ' '.join(found.group().split()), text)
    with open(path, 'w') as file:
        file.write(text + '\n')
