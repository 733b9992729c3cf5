"""What several test files share: a tiny data set, a tiny recipe, and ways to run the command on
them.
"""

import contextlib
import fcntl
import functools
import gc
import os
import pathlib
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import yaml
from tensorflow.python.util import deprecation, tf_stack
from xdist.scheduler import LoadFileScheduling

sys.path.append(str(pathlib.Path(__file__).parent))
import forked_python  # noqa: E402
import plain_sessions  # noqa: E402
import tensorflow_records  # noqa: E402
from started_command import Command  # noqa: E402

from common import signals  # noqa: E402

# Without it, every call of a deprecated function is inspected for a notice that nobody reads.
deprecation._PRINT_DEPRECATION_WARNINGS = False
# An op notes one frame of where it is made, not the eighty below pytest.
tf_stack.extract_stack.__defaults__ = (1,)
ROOT = pathlib.Path(__file__).resolve().parent.parent
CLASSES = 4

# WRN-10-1: the smallest there is. With dropout, crop and flip, so that randomness shows if it is
# not a function of (seed, step) or (seed, epoch, record).
TINY = dict(
    model='wideresnet',
    depth=10,
    widen_factor=1,
    num_classes=CLASSES,
    variant='paper',
    dropout_rate=0.3,
    normalization='half',
    batch_size=16,
    epochs=2,
    learning_rate=0.05,
    momentum=0.9,
    nesterov=True,
    weight_decay=1e-4,
    log_interval=1,
)


def pytest_collection_finish():
    gc.freeze()  # no collection need look at what imports have made
    gc.set_threshold(10000)


@pytest.fixture(scope='module', autouse=True)
def sessions():
    """Sessions do not optimise their graphs; those of processes that Python is started for do."""
    with plain_sessions.patched():
        yield


@pytest.fixture(autouse=True)
def no_signal():
    """This process goes on after a test whose command a signal has ended."""
    yield
    signals.received.clear()


def tiny_images(count, seed):
    """uint8 [count, 32, 32, 3] and labels: each class has a mean colour of its own, under noise."""
    random = np.random.RandomState(seed)
    labels = np.arange(count) % CLASSES
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [150, 150, 150]])
    images = colours[labels][:, None, None, :] + random.normal(0, 40, (count, 32, 32, 3))
    return images.clip(0, 255).astype(np.uint8), labels


def write_port_records(path, images, fine, coarse=None):
    """One TFRecord file of the published port's schema, written by TensorFlow."""
    tensorflow_records.write(
        path,
        (
            dict(image=image.tobytes(), fine_label=int(label), coarse_label=int(superclass))
            for image, label, superclass in zip(images, fine, fine if coarse is None else coarse)
        ),
    )


@functools.lru_cache(maxsize=None)
def is_slow(file):
    return 'pytest.mark.slow' in (ROOT / file).read_text()


class SlowFilesFirst(LoadFileScheduling):
    """A file on one worker, and those with slow tests first, so that all workers end together."""

    def _assign_work_unit(self, node):
        slow = [file for file in self.workqueue if is_slow(file)]
        if slow:
            self.workqueue.move_to_end(slow[0], last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)  # without xdist, too
def pytest_xdist_make_scheduler(config, log):
    return SlowFilesFirst(config, log) if config.getvalue('dist') == 'loadfile' else None


@pytest.fixture(scope='session')
def port_records():
    return write_port_records


@pytest.fixture(scope='session')
def images_and_labels():
    return tiny_images


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    """once(name, make): the folder of that name, which make(folder) fills once for all workers."""
    shared = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        shared = shared.parent

    def call(name, make):
        with open(str(shared / (name + '.lock')), 'a') as made:
            fcntl.flock(made, fcntl.LOCK_EX)
            if not os.fstat(made.fileno()).st_size:
                make(shared / name)
                made.write('made')
        return shared / name

    return call


@pytest.fixture(scope='session')
def data(once):
    """A folder with train/ (64 records) and test/ (21, which no batch of 8 or 16 divides)."""

    def make(folder):
        write_port_records(folder / 'train' / 'train.tfrecord', *tiny_images(64, seed=1))
        write_port_records(folder / 'test' / 'test.tfrecord', *tiny_images(21, seed=2))

    return once('data', make)


@pytest.fixture(scope='session')
def recipe(tmp_path_factory):
    """recipe(field=value, ...): path of a YAML file with the tiny recipe and these changes."""
    folder = tmp_path_factory.mktemp('recipes')

    def make(**changes):
        path = folder / ('%d.yaml' % len(list(folder.iterdir())))
        path.write_text(yaml.safe_dump(dict(TINY, **changes)))
        return path

    return make


@pytest.fixture(scope='session')
def configured(recipe, data):
    """configured(field=value, ...): WideResNet's Task, and the tiny recipe with these changes."""
    from common.configuration import config
    from wideresnet_tf.task import TASK

    def make(**changes):
        changes.setdefault('data_path', str(data))
        return TASK, config.parse(TASK.config, ['--config', str(recipe(**changes))])

    return make


@pytest.fixture(scope='session')
def run():
    """run(flag, ...): the command inside this process, which saves the start of a process; it
    writes no report unless asked to.
    """
    from common import run as command
    from wideresnet_tf.task import TASK

    def call(*flags, report=False):
        with contextlib.ExitStack() as stack:
            if not report:
                stack.enter_context(mock.patch('common.reporting.report.write'))
            command.main(TASK, [str(flag) for flag in flags])

    return call


@pytest.fixture(scope='session')
def start():
    """start(flag, ..., cwd=folder, launcher=words): the command as a process of its own, see
    `Command`.

    forked=False: Python is started for it; otherwise the command is a fork, see forked_python.py.
    """
    started = []

    def call(
        *flags,
        cwd=None,
        launcher=(),
        script=ROOT / 'wideresnet_tf' / 'run_wideresnet.py',
        forked=True,
    ):
        python = forked_python.WORDS if forked else [sys.executable]
        started.append(Command([*launcher, *python, script, *flags], cwd))
        return started[-1]

    with forked_python.server():
        yield call
        for command in started:
            command.abandon()


@pytest.fixture(scope='session')
def weights():
    """weights(checkpoint prefix): {variable name: array}."""

    def read(prefix):
        reader = tf.train.load_checkpoint(str(prefix))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}

    return read


@pytest.fixture(scope='session')
def mutated():
    """mutated(content, random): bytes with some of them changed, cut, doubled or moved."""

    def mutate(content, random):
        content = bytearray(content)
        for _ in range(random.randint(1, 4)):
            at, count = random.randint(len(content) + 1), random.randint(1, 40)
            part = content[at : at + count]
            content[at : at + count] = [
                bytes(random.randint(0, 256, len(part)).astype('uint8')),
                b'',
                part * 2,
                part[::-1],
                bytes(len(part)),
            ][random.randint(5)]
        return bytes(
            content[: random.randint(len(content) + 1)] if random.rand() < 0.2 else content
        )

    return mutate
