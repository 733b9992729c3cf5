"""Lets the tests of this folder import the modules beside them; a toy graph with the tensors that a
model has, and sessions that save its variables.
"""

import json
import pathlib
import sys

import pytest
import run_files
import tensorflow as tf

from common.checkpoints.saver import CheckpointSaver

sys.path.append(str(pathlib.Path(__file__).parent))


@pytest.fixture
def graph():
    with tf.Graph().as_default():
        yield


@pytest.fixture
def toy(graph):
    """toy(losses, rate): a train op that counts steps and sets the variable w to the step.

    The loss of step t is losses[t-1], or the last.
    """

    def build(losses=(1.0,), rate=0.1):
        step = tf.train.get_or_create_global_step()
        w = tf.get_variable('w', [], initializer=tf.zeros_initializer())
        index = tf.minimum(tf.cast(step, tf.int32), len(losses) - 1)
        loss = tf.identity(tf.gather(tf.constant(losses, tf.float32), index), name='train/loss')
        tf.constant(rate, name='train/learning_rate')
        with tf.control_dependencies([loss]):
            train = tf.assign(w, tf.cast(tf.assign_add(step, 1), tf.float32))
        with tf.control_dependencies([train]):
            tf.identity(step, name='train/global_step')
        return train

    return build


@pytest.fixture
def saving():
    """saving(folder, save_steps, steps, train, hooks): runs `train` and saves as training does."""

    def session(folder, save_steps, steps, train, others=()):
        scaffold = tf.train.Scaffold(
            saver=tf.train.Saver(max_to_keep=100, save_relative_paths=True)
        )
        saver = CheckpointSaver(str(folder), save_steps, scaffold)
        with tf.train.MonitoredTrainingSession(
            checkpoint_dir=str(folder),
            scaffold=scaffold,
            hooks=[*others, saver],
            save_checkpoint_secs=None,
            save_checkpoint_steps=None,
            save_summaries_steps=None,
            log_step_count_steps=None,
        ) as running:
            for _ in range(steps):
                if not running.should_stop():
                    running.run(train)

    return session


@pytest.fixture
def saved():
    """saved(folder): the steps of its training checkpoints."""
    return run_files.checkpoints


@pytest.fixture
def rows():
    """rows(folder): the rows of its metrics.jsonl."""
    return lambda folder: [
        json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()
    ]
