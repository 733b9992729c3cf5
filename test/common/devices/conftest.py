"""Runs of `--device npu` on the stand-in for the Ascend tool chain (test/ascend_sim)."""

import os
import pathlib
import sys

import pytest
import tensorflow as tf

sys.path.append(str(pathlib.Path(__file__).parent))
from npu_runs import ROOT, RUN, WITH_SIM  # noqa: E402

# Each rank notes its process and hands over to the script.
WRAPPER = """
import os, pathlib, runpy, sys
pathlib.Path({folder!r}, 'pid' + os.environ['DEVICE_ID']).write_text(str(os.getpid()))
sys.path.insert(0, {root!r})
sys.argv[0] = {script!r}
runpy.run_path({script!r}, run_name='__main__')
"""


@pytest.fixture
def alone(monkeypatch):
    """One process without launcher, and a graph of its own."""
    for name in ('HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('HOROVOD_CYCLE_TIME', '')  # so that it is taken back afterwards
    del os.environ['HOROVOD_CYCLE_TIME']
    with tf.Graph().as_default():
        yield


@pytest.fixture(scope='module')
def launch(start):
    """launch(folder, flag, ..., devices='0-1', more=(), script=path, forked=True, NAME=value):
    ranks of the stand-in.

    devices=None: one process without launcher; more: further words for the launcher.
    """

    def call(folder, *flags, devices=None, more=(), script=RUN, forked=True, **environment):
        folder.mkdir(parents=True, exist_ok=True)
        variables = dict(
            ASCEND_SIM_DIR=folder / 'sim',
            OMP_NUM_THREADS='1',
            TF_NUM_INTEROP_THREADS='1',  # as on one core, where the adapter's iterator hangs
            **environment,
        )
        words = ['env'] + ['%s=%s' % item for item in variables.items()] + [WITH_SIM]
        if devices:
            wrapper = folder / 'wrapper.py'
            wrapper.write_text(
                WRAPPER.format(folder=str(folder), script=str(script), root=str(ROOT))
            )
            words += [
                sys.executable,
                '-m',
                'hccl.launch',
                '--devices',
                devices,
                '--log_dir',
                folder / 'logs',
                *more,
                '--',
            ]
        script = wrapper if devices else script
        return start(*flags, cwd=folder, launcher=words, script=script, forked=forked)

    return call


@pytest.fixture(scope='module')
def flags(recipe, training_words):
    """flags(output, 'words', ..., field=value): the words of a training command without anything
    random in the network.
    """
    settings = dict(dropout_rate=0.0, learning_rate=0.01, brightness=30.0, eval_interval=0)
    return lambda output, *more, **fields: training_words(
        recipe(**dict(settings, **fields)), output, *more
    )
