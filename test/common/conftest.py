"""A small run that nothing interrupted, and what to compare its figures with."""

import functools
import os
import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from wideresnet_tf import model
from wideresnet_tf.config import WideResNetConfig

# Cosine with warm-up, so that the rate depends on the step; an evaluation at step 16, checkpoints
# between and beside it.
RUN_SETTINGS = dict(
    epochs=8,
    schedule='cosine',
    warmup_epochs=1,
    eval_interval=4,
    save_checkpoints_steps=5,
    keep_checkpoints=3,
    mixup=0.2,
    brightness=20.0,
    ema_decay=0.9,
)


@pytest.fixture(scope='session')
def run_settings():
    return RUN_SETTINGS


@pytest.fixture(scope='session')
def training_words(data):
    """training_words(recipe, output, 'words', ...): the words of a training command."""

    def words(path, output, *more):
        own = ('--do_train True --config', path, '--data_path', data, '--output_path', output)
        return ' '.join(map(str, own + more)).split()

    return words


@pytest.fixture(scope='session')
def flags(recipe, training_words):
    """flags(output, 'words', ...): the words of a training command."""
    return functools.partial(training_words, recipe(**RUN_SETTINGS))


@pytest.fixture(scope='session')
def finished(start, flags, once):
    """The folder of a run that nothing interrupted. Not to be changed; see `copy`."""

    def make(folder):
        with mock.patch.dict(os.environ, OPTIMISED_SESSIONS='1'):
            status, out, error = start(*flags(folder)).finish()
        assert status == 0, out + error

    return once('finished', make)


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(str(finished), str(tmp_path / 'copy'))
    return tmp_path / 'copy'


@pytest.fixture
def fails(run, capsys):
    """fails(flag, ...): the one line that the command ends with, status 2."""

    def call(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run(*words)
        assert stop.value.code == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert (
            error[-1].startswith('error: ')
            and sum(line.startswith('error: ') for line in error) == 1
        ), error
        assert not any('Traceback' in line for line in error)
        return error[-1]

    return call


@pytest.fixture(scope='session')
def reference_evaluation(weights):
    """reference_evaluation(prefix, images, labels): loss, top-1, confusion by NumPy."""

    def evaluate(prefix, images, labels):
        with tf.Graph().as_default(), tf.Session() as session:
            logits = model.build(
                tf.constant(images / np.float32(127.5) - 1, tf.float32),
                WideResNetConfig(depth=10, widen_factor=1, num_classes=4),
            )
            values = weights(prefix)
            session.run(
                tf.global_variables_initializer(),
                {v.initializer.inputs[1]: values[v.op.name] for v in tf.global_variables()},
            )
            logits = session.run(logits).astype(np.float64)
        loss = (
            np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))
            + logits.max(axis=1)
            - logits[np.arange(len(labels)), labels]
        )
        confusion = np.zeros((4, 4), int)
        np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
        return loss.mean(), np.trace(confusion) / len(labels), confusion

    return evaluate
