"""Checkpoints whose logits are known from elsewhere, and the files made of them."""

import contextlib
import importlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Dict, NamedTuple

import numpy as np
import plain_sessions
import pytest
import tensorflow as tf
from graph_variables import random_weights, session_with, variables

from common.checkpoints import checkpoint
from offline_inference import freeze
from offline_inference.reference import Reference
from wideresnet_tf.checkpoints import from_torch

sys.path.append(str(pathlib.Path(__file__).parent))  # for small_resnest
DATA = pathlib.Path(__file__).resolve().parent.parent / 'data'
BATCH = 4


class Known(NamedTuple):
    """A checkpoint, what it is, and what its network must make of images."""

    config: Dict
    weights: Dict[str, np.ndarray]
    prefix: str
    images: np.ndarray  # normalised float32 [N,32,32,3]
    logits: np.ndarray


def _stored(name):
    with np.load(str(DATA / name)) as archive:
        arrays = {key: value for key, value in archive.items() if not key.startswith('train')}
    return arrays, arrays.pop('images'), arrays.pop('logits')


def _authors():
    """PyTorch's logits of the paper's authors' code."""
    arrays, images, logits = _stored('wrn_authors.npz')
    return (
        dict(variant='paper', depth=16, num_classes=10),
        from_torch(arrays),
        images.transpose(0, 2, 3, 1),
        logits,
    )


def _port():
    """The published port's logits; weights under its own names."""
    return (dict(variant='port', depth=10, num_classes=100),) + _stored('wrn_port.npz')


def _mindspore(reference):
    """Random weights and statistics, and what TensorFlow makes of them without any of this folder's
    code.
    """
    config = dict(variant='mindspore', depth=10, num_classes=10)
    images = np.random.RandomState(0).normal(size=(6, 32, 32, 3)).astype(np.float32)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 32, 32, 3])
        logits = reference(**config).network(x)
        weights = random_weights(0)
        with session_with(weights) as session:
            return config, weights, images, session.run(logits, {x: images})


@pytest.fixture(scope='module', autouse=True)
def sessions(request):
    """Sessions as users have them: what optimising a graph changes is measured here, with
    WideResNet; large graphs take long to optimise.
    """
    large = request.module.__name__.endswith(('resnest', 'xception'))
    with plain_sessions.patched() if large else contextlib.nullcontext():
        yield


@pytest.fixture(scope='session')
def reference(configured):
    """reference(field=value, ...): the tiny recipe's model, with its checkpoint if there is one."""

    def make(**changes):
        task, cfg = configured(**changes)
        return Reference.restored(task, cfg) if cfg.model_path else Reference(task, cfg)

    return make


@pytest.fixture(scope='session')
def known(reference, tmp_path_factory):
    """known(variant): a Known; its checkpoint holds a step and slots of an optimizer as well."""
    made = {}

    def get(variant):
        if variant not in made:
            config, weights, images, logits = {
                'paper': _authors,
                'port': _port,
                'mindspore': lambda: _mindspore(reference),
            }[variant]()
            prefix = str(tmp_path_factory.mktemp(variant) / 'model.ckpt-7')
            company = {name + '/Momentum': np.ones_like(value) for name, value in weights.items()}
            checkpoint.write(prefix, dict(weights, global_step=np.int64(7), **company))
            config.update(widen_factor=1, batch_size=BATCH)
            # Whole batches, so that a graph of fixed size can be given all of them.
            fill = [index % len(images) for index in range(-(-len(images) // BATCH) * BATCH)]
            made[variant] = Known(config, weights, prefix, images[fill], logits[fill])
        return made[variant]

    return get


@pytest.fixture(scope='session')
def frozen(known, reference, tmp_path_factory):
    """frozen(variant): path of the .pb file of known(variant), made once."""
    made = {}

    def get(variant):
        if variant not in made:
            made[variant] = tmp_path_factory.mktemp('frozen') / (variant + '.pb')
            of = reference(model_path=known(variant).prefix, **known(variant).config)
            freeze.freeze(of, made[variant])
        return made[variant]

    return get


@pytest.fixture(scope='session')
def infer_all():
    """infer_all(infer, images): logits of all images, a batch at a time."""
    return lambda infer, images: np.concatenate(
        [infer(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    )


@pytest.fixture(scope='session')
def resident():
    """resident(): bytes of memory that this process holds now."""
    return lambda: (
        int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    )


@pytest.fixture
def fails(capsys):
    """fails(main, flags): the one line on stderr of a command that must end with status 2."""

    def call(main, flags):
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(flag) for flag in flags])
        assert exit_.value.code == 2
        text = capsys.readouterr().err
        assert text.startswith('error: ') and text.count('\n') == 1, text
        return text

    return call


SIM = pathlib.Path(__file__).resolve().parent.parent / 'ascend_sim'


def use_sim(patch):
    """Makes the stand-ins for atc, msame, npu-smi and ais_bench those of this machine, and runs
    them in this Python.
    """
    patch.setenv('PATH', '%s%s%s' % (SIM / 'bin', os.pathsep, os.environ['PATH']))
    patch.setenv('PYTHONPATH', str(SIM / 'python'))
    patch.setenv('ASCEND_SIM_PYTHON', sys.executable)
    patch.setenv('CUDA_VISIBLE_DEVICES', '')


@pytest.fixture
def sim(monkeypatch):
    use_sim(monkeypatch)
    return SIM


@pytest.fixture(scope='module', autouse=True)
def tools_here():
    """Runs the stand-ins for atc and msame inside this process: as processes, each imports
    TensorFlow. Gives subprocess.run as it was.
    """
    start = subprocess.run

    def run(words, **options):
        found = shutil.which(words[0])
        if found is None or pathlib.Path(found) not in (SIM / 'bin' / 'atc', SIM / 'bin' / 'msame'):
            return start(words, **options)
        tool = importlib.import_module('offline.' + words[0])
        before, text = os.getcwd(), io.StringIO()
        os.chdir(str(options.get('cwd', '.')))
        try:
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                status = tool.main(words[1:])
        finally:
            os.chdir(before)
        return subprocess.CompletedProcess(words, status, text.getvalue())

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SIM))
        patch.setattr(subprocess, 'run', run)
        yield start


@pytest.fixture(scope='module')
def sim_for_module():
    """The same for a fixture of a whole module; use it as `with sim_for_module():`."""

    @contextlib.contextmanager
    def use():
        with pytest.MonkeyPatch.context() as patch:
            use_sim(patch)
            yield

    return use


@pytest.fixture(scope='session')
def trained(reference, images_and_labels, tmp_path_factory):
    """A WRN-10-1 that is right for some images of the test split and wrong for others: (prefix,
    logits [21,4], labels [21]).
    """
    images, labels = images_and_labels(21, seed=2)
    random, weights = np.random.RandomState(5), {}
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 32, 32, 3])
        logits = reference().network(x)
        for name, shape, _ in variables():
            positive = name.endswith(('gamma', 'moving_variance'))
            value = random.uniform(0.5, 1.5, shape) if positive else random.normal(0, 0.15, shape)
            weights[name] = value.astype(np.float32)
        with session_with(weights) as session:
            values = session.run(logits, {x: images / 127.5 - 1.0})  # normalization: half
    prefix = str(tmp_path_factory.mktemp('trained') / 'wideresnet.ckpt')
    checkpoint.write(prefix, weights)
    return prefix, values, labels


@pytest.fixture(scope='module')
def command(trained, recipe, data):
    """command(output, **flags): the words of a run."""

    def words(output, **flags):
        flags = dict(
            dict(
                model='wideresnet',
                config=recipe(),
                model_path=trained[0],
                data_path=data,
                batch_size=8,
            ),
            **flags,
        )
        return [
            str(word)
            for key, value in dict(flags, output=output).items()
            for word in ('--' + key, value)
        ]

    return words
