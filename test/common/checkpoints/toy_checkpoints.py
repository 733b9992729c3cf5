"""Checkpoints of a network of four small variables."""

import numpy as np
import tensorflow as tf

SHAPES = {
    'stem/kernel': [3, 3, 3, 4],
    'bn/moving_mean': [4],
    'output/kernel': [4, 10],
    'output/bias': [10],
}

OTHER_HEAD = dict(SHAPES, **{'output/kernel': [4, 7], 'output/bias': [7]})


def values(shapes=None, seed=0):
    """{name: random float32 array}, of SHAPES by default."""
    random = np.random.RandomState(seed)
    return {
        name: random.normal(size=shape).astype(np.float32)
        for name, shape in (shapes or SHAPES).items()
    }


def saved(path, tensors):
    """Writes a checkpoint with TensorFlow's own saver, as training does."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {name: tf.Variable(value) for name, value in tensors.items()}
        session.run(tf.global_variables_initializer())
        return tf.train.Saver(variables).save(session, str(path), write_state=False)


def contents(folder):
    """{relative path: bytes} of the files in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }
