"""A run's folder, and the module toy_checkpoints for the tests of this folder."""

import pathlib
import sys

import pytest
import tensorflow as tf

sys.path.append(str(pathlib.Path(__file__).parent))
from toy_checkpoints import SHAPES, values  # noqa: E402


@pytest.fixture
def run_folder(tmp_path):
    """A folder with checkpoints of steps 1, 2 and 3, as training leaves it; returns (folder,
    [tensors of each]).
    """
    everything = []
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        variables = {name: tf.get_variable(name, shape) for name, shape in SHAPES.items()}
        counts = tf.get_variable('counts', [2], tf.int32, tf.zeros_initializer())
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(save_relative_paths=True)
        for number in (1, 2, 3):
            tensors = values(seed=number)
            for name, variable in variables.items():
                variable.load(tensors[name], session)
            step.load(number, session)
            counts.load([number, -number], session)
            saver.save(session, str(tmp_path / 'model.ckpt'), global_step=number)
            everything.append(tensors)
    return tmp_path, everything
