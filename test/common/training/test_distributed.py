"""Two processes on this machine against one: Horovod with Gloo, started by horovodrun. Skipped
without Horovod.
"""

import functools
import importlib.util
import os
import pathlib
import re
import signal
import sys

import numpy as np
import pytest
from run_files import checkpoints, evaluation, rows, steps

from common.checkpoints import checkpoint

HOROVODRUN = pathlib.Path(sys.executable).parent / 'horovodrun'
VARIABLES = pathlib.Path(__file__).resolve().parent / 'rank_variables.py'
RUN = pathlib.Path(__file__).resolve().parents[3] / 'wideresnet_tf' / 'run_wideresnet.py'
pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(
        not importlib.util.find_spec('horovod') or not HOROVODRUN.exists(),
        reason='Horovod is not installed',
    ),
]

# Each rank runs in a folder of its own: what it writes under a relative path shows who wrote it.
WRAPPER = """
import os, pathlib, runpy, sys
folder = pathlib.Path({folder!r}, 'rank' + os.environ['HOROVOD_RANK'])
folder.mkdir(parents=True, exist_ok=True)
(folder.parent / (folder.name + '.pid')).write_text(str(os.getpid()))
os.chdir(str(folder))
sys.path.insert(0, {root!r})
sys.argv[0] = {script!r}
runpy.run_path({script!r}, run_name='__main__')
"""


@pytest.fixture(scope='module')
def launch(start):
    """launch(folder, flag, ..., script=path): the script on two ranks, in folder/rank<n> each."""

    def call(folder, *flags, script=RUN):
        folder.mkdir(parents=True, exist_ok=True)
        wrapper = folder / 'wrapper.py'
        wrapper.write_text(
            WRAPPER.format(folder=str(folder), script=str(script), root=str(RUN.parent.parent))
        )
        return start(*flags, script=wrapper, launcher=[HOROVODRUN, '-np', '2', '--gloo'])

    return call


# The same training

SAME = dict(
    freeze_bn=True,
    dropout_rate=0.0,
    learning_rate=0.01,
    brightness=30.0,
    epochs=5,
    eval_interval=2.5,
    save_checkpoints_steps=7,
)


@pytest.fixture(scope='module')
def runs(start, launch, recipe, training_words, tmp_path_factory):
    """(one process with batches of 16, rank 0 of two processes with batches of 8): folders of the
    runs.
    """
    folder = tmp_path_factory.mktemp('same')
    launched = functools.partial(launch, folder)
    for begin, batch_size, output in ((launched, 8, 'run'), (start, 16, folder / 'one')):
        process = begin(*training_words(recipe(batch_size=batch_size, **SAME), output))
        status, out, error = process.finish()
        assert status == 0, out + error
    return folder / 'one', folder / 'rank0' / 'run'


def test_two_processes_end_in_the_weights_of_one(runs, weights):
    one, two = (weights(folder / 'model.ckpt-20') for folder in runs)
    assert sorted(one) == sorted(two)
    start = weights(runs[0] / 'model.ckpt-10')
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    assert np.abs(one['output/kernel'] - start['output/kernel']).max() > 1e-3


def test_two_processes_log_the_mean_loss_of_both(runs):
    one, two = (rows(folder, 'train') for folder in runs)
    assert [row['step'] for row in two] == [row['step'] for row in one] == list(range(1, 21))
    np.testing.assert_allclose(
        [row['loss'] for row in two], [row['loss'] for row in one], rtol=1e-4
    )
    started = rows(runs[1], 'run')[0]
    assert (started['ranks'], started['global_batch'], started['steps_per_epoch']) == (2, 16, 4)


def test_two_processes_evaluate_every_image_once(runs, run, recipe, data, tmp_path):
    """21 images: the last batch of 16 is padded on both ranks, on rank 1 wholly. Against one
    process on the same checkpoint.
    """
    result, confusion = evaluation(runs[1]), np.load(str(runs[1] / 'confusion.npy'))
    words = ['--config', recipe(batch_size=7, **SAME), '--data_path', data]
    run(*words, '--model_path', runs[1] / 'wideresnet.ckpt', '--output_path', tmp_path)
    alone = evaluation(tmp_path)
    assert result['images'] == alone['images'] == confusion.sum() == 21
    assert (result['top1'], result['top5']) == (alone['top1'], alone['top5'])
    assert result['loss'] == pytest.approx(alone['loss'], rel=1e-5)
    np.testing.assert_array_equal(confusion, np.load(str(tmp_path / 'confusion.npy')))
    assert [row['images'] for row in rows(runs[1], 'eval')] == [21, 21]


def test_rank_0_alone_writes(runs):
    assert list((runs[1].parent.parent / 'rank1').iterdir()) == []
    # The same files as one process leaves; event files have names of their own.
    names = [
        {path.name for path in folder.iterdir() if not path.name.startswith('events')}
        for folder in runs
    ]
    assert names[0] == names[1]


# Variables and sums


@pytest.fixture(scope='module')
def trained(runs, weights, tmp_path_factory):
    """(folder, tensors) of a checkpoint in which nothing has its initial value, batch-norm
    statistics neither.
    """
    folder, random = tmp_path_factory.mktemp('trained'), np.random.RandomState(0)
    tensors = {
        name: (
            random.uniform(0.5, 1.5, value.shape).astype(np.float32) if 'moving_' in name else value
        )
        for name, value in weights(runs[0] / 'model.ckpt-20').items()
    }
    checkpoint.write(str(folder / 'model.ckpt-20'), tensors)
    (folder / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-20"')
    return folder, tensors


@pytest.fixture(scope='module')
def checked(launch, recipe, data, trained, tmp_path_factory):
    """What either rank found in rank_variables.py."""
    folder = tmp_path_factory.mktemp('check')
    status, out, error = launch(
        folder, recipe(batch_size=4, dropout_rate=0.5), data, trained[0], script=VARIABLES
    ).finish()
    assert status == 0, out + error
    return [dict(np.load(str(folder / rank / 'result.npz'))) for rank in ('rank0', 'rank1')]


def test_ranks_and_exact_sums(checked):
    assert [found['rank_size'].tolist() for found in checked] == [[0, 2], [1, 2]]
    for found in checked:
        assert int(found['total']) == 2**61 + 1
        np.testing.assert_allclose(found['part'], [0.2, 1])
        assert found['summed'] == 21


def test_every_variable_comes_from_rank_0(checked, trained):
    """Weights, batch-norm statistics, slots and the step."""
    kinds = {name.split('/')[-1] for name in trained[1]}
    assert kinds >= set('kernel gamma moving_mean moving_variance Momentum global_step'.split())
    for name, value in trained[1].items():
        for found in checked:
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert np.abs(trained[1]['output/kernel/Momentum']).max() > 0


def test_ranks_stay_equal_and_drop_different_values(checked):
    """They train on different labels and with different masks; the weights that come of it are the
    same.
    """
    one, two = checked
    for name in one:
        if name.startswith('after/'):
            np.testing.assert_array_equal(one[name], two[name])
    np.testing.assert_array_equal(one['losses'], two['losses'])
    assert not np.array_equal(one['after/output/bias'], one['output/bias'])


# Signals


def test_ranks_stop_at_the_same_step_and_go_on(launch, recipe, training_words, tmp_path):
    settings = dict(batch_size=8, steps=2000, eval_interval=0, save_interval=1000)
    words = training_words(recipe(**settings), 'run')
    folder = tmp_path / 'rank0' / 'run'

    def reaches(step, sessions):
        def condition():
            path = folder / 'metrics.jsonl'
            text = path.read_text() if path.exists() else ''
            return text.count('"kind": "run"') == sessions and any(
                int(found) >= step for found in re.findall(r'"step": (\d+)', text)
            )

        return condition

    def finish(process):
        """(exit status, what it has printed, the step at which it stopped)."""
        status, out, error = process.finish(60)
        assert 'exit with status code 143' in out + error and '>:Traceback' not in out + error
        return status, out + error, checkpoints(folder)[-1]

    # One rank gets the signal: the other stops with it.
    process = launch(tmp_path, *words)
    process.wait_for(reaches(3, 1))
    os.kill(int((tmp_path / 'rank1.pid').read_text()), signal.SIGTERM)
    status, text, first = finish(process)
    assert status != 0 and first == steps(folder)[-1] >= 3
    assert '[0]<stdout>:stopped by signal 15; the same command resumes at step %d' % first in text

    # The launcher gets it, after the same command has gone on.
    process = launch(tmp_path, *words)
    process.wait_for(reaches(first + 3, 2))
    process.send(signal.SIGTERM)
    _, text, second = finish(process)
    assert rows(folder, 'run')[1]['resumed_from'] == first
    assert 'resuming at step %d' % first in text
    assert steps(folder) == list(range(1, second + 1))
    assert list((tmp_path / 'rank1').iterdir()) == []


# Mistakes


def test_a_mistake_is_said_once_and_ends_both(launch, recipe, training_words, tmp_path):
    words = training_words(recipe(batch_size=8), 'run', '--model_path nowhere.ckpt')
    status, out, error = launch(tmp_path, *words).finish(60)
    assert status != 0
    assert (out + error).count('error: --model_path nowhere.ckpt: no such checkpoint') == 1
    assert '>:Traceback' not in out + error
    assert not (tmp_path / 'rank0' / 'run').exists()
