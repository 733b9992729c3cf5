"""--device npu as the command runs it, with one process and with two."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from npu_runs import assert_same_training, several, succeeds
from run_files import checkpoints, evaluation, rows, steps

from common.checkpoints import checkpoint
from offline_inference import freeze

pytestmark = [pytest.mark.slow]
SCRIPTS = pathlib.Path(__file__).resolve().parent / 'on_npu'


@pytest.fixture(scope='module')
def one(launch, flags, tmp_path_factory):
    """A run of 8 steps that stopped after 4 and went on."""
    folder = tmp_path_factory.mktemp('one')
    for total in (4, 8):
        text = succeeds(
            launch(
                folder,
                *flags('run', '--device npu --precision mixed --loss_scale 1024 --steps', total),
            )
        )
    assert 'resuming at step 4' in text and 'Traceback' not in text
    return folder / 'run'


def test_one_device_trains_resumes_and_evaluates_as_a_cpu_does(one, run, flags, weights, tmp_path):
    run(*flags(tmp_path / 'cpu', '--device', 'cpu', '--steps', 8))
    assert [row['resumed_from'] for row in rows(one, 'run')] == [0, 4]
    assert {row['device'] for row in rows(one, 'run')} == {'npu'}
    assert not any('skipped_steps' in row for row in rows(one, 'train'))
    kept = tmp_path / 'npu'
    kept.mkdir()
    for name in ('metrics.jsonl', 'eval.json', 'confusion.npy'):
        (kept / name).write_bytes((one / name).read_bytes())
    for path in one.glob('model.ckpt-8.*'):
        (kept / path.name).write_bytes(path.read_bytes())
    assert_same_training(weights, kept, tmp_path / 'cpu', 8)


def test_its_checkpoint_is_exported(one, tmp_path):
    freeze.main(
        [
            '--model',
            'wideresnet',
            '--config',
            str(one / 'config.yaml'),
            '--model_path',
            str(one / 'wideresnet.ckpt'),
            '--batch_size',
            '2',
            '--output',
            str(tmp_path / 'model.pb'),
        ]
    )
    graph = tf.GraphDef.FromString((tmp_path / 'model.pb').read_bytes())
    assert [node.name for node in graph.node if node.op == 'Placeholder'] == ['inputx']


@pytest.fixture(scope='module')
def trained(one, weights, tmp_path_factory):
    """(folder, tensors) of a checkpoint in which nothing has its initial value, batch-norm
    statistics and loss scale neither.
    """
    folder, random = tmp_path_factory.mktemp('trained'), np.random.RandomState(0)
    tensors = {
        name: (
            random.uniform(0.5, 1.5, value.shape).astype(np.float32) if 'moving_' in name else value
        )
        for name, value in weights(one / 'model.ckpt-8').items()
    }
    tensors.update(
        global_step=np.int64(20),
        loss_scale=np.float32(1024),
        good_steps=np.int32(5),
        bad_steps=np.int32(0),
    )
    checkpoint.write(str(folder / 'model.ckpt-20'), tensors)
    (folder / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-20"')
    return folder, tensors


@pytest.fixture(scope='module')
def checked(launch, recipe, data, trained, tmp_path_factory):
    """What either of two ranks found in the script above; rank 1 overflows in its third and fourth
    step.
    """
    folder = tmp_path_factory.mktemp('check')
    succeeds(
        launch(
            folder,
            recipe(batch_size=4, dropout_rate=0.5, learning_rate=0.001),
            data,
            trained[0],
            devices='0-1',
            script=SCRIPTS / 'two_ranks.py',
            ASCEND_SIM_OVERFLOW='3:1,4:1',
        )
    )
    return [dict(np.load(str(trained[0] / ('result%d.npz' % rank)))) for rank in range(2)]


@pytest.mark.parametrize('marked', [pytest.param(None, marks=several)])
class TestTwoDevices:
    def test_sums_are_exact(self, marked, checked):
        for rank, found in enumerate(checked):
            assert found['place'].tolist() == [rank, 2] and found['summed'] == 21
            assert (
                found['whole'].dtype == np.int64
                and int(found['whole']) == 2**61 + 1
                and found['matrix'].tolist() == [[-2, 2**54 + 2]]
            )
            assert found['part'].tolist() == [0.2, 1e-17, -2e300]

    def test_every_variable_comes_from_rank_0(self, marked, checked, trained):
        """Weights, batch-norm statistics, slots, loss scale and the step."""
        kinds = {name.split('/')[-1] for name in trained[1]}
        assert kinds >= {
            'kernel',
            'gamma',
            'moving_mean',
            'moving_variance',
            'Momentum',
            'global_step',
            'loss_scale',
            'good_steps',
        }
        for name, value in trained[1].items():
            for found in checked:
                np.testing.assert_array_equal(found['start/' + name], value, err_msg=name)
        assert {name[6:] for name in checked[1] if name.startswith('start/')} == set(trained[1])

    def test_an_overflow_on_one_rank_skips_the_step_on_both_and_halves_the_scale(
        self, marked, checked
    ):
        for found in checked:
            assert found['seen'].astype(int).tolist() == [
                [21, 1024],
                [22, 1024],
                [22, 1024],
                [22, 512],
                [23, 512],
                [24, 512],
                [25, 512],
                [26, 512],
            ]

    def test_ranks_stay_equal(self, marked, checked):
        """They train on different images and drop different values."""
        one, two = checked
        for name in one:
            if name.startswith('end/'):
                np.testing.assert_array_equal(one[name], two[name], err_msg=name)
        assert np.abs(one['end/output/kernel'] - one['start/output/kernel']).max() > 0

    def test_skipped_steps_are_counted(self, marked, checked, trained):
        found = [(row['step'], row.get('skipped_steps', 0)) for row in rows(trained[0], 'train')]
        assert found == [(21, 0), (22, 0), (23, 2), (24, 0), (25, 0), (26, 0)]


def test_intervals_are_multiples_of_the_loop(launch, flags, run, weights, tmp_path):
    """16 steps of 8 images, and as many on a CPU: a loop changes nothing but when hooks run."""
    fields = dict(batch_size=8, log_interval=4, save_checkpoints_steps=4, eval_interval=1)
    text = succeeds(
        launch(tmp_path, *flags('run', '--device', 'npu', precision='float32', **fields))
    )
    assert '4 steps per call of the device' in text
    folder = tmp_path / 'run'
    assert steps(folder) == [4, 8, 12, 16]
    assert steps(folder, 'eval') == [8, 16] and steps(folder, 'end') == [16]
    assert set(checkpoints(folder)) >= {4, 8, 12, 16}
    assert all(step % 4 == 0 for step in checkpoints(folder))
    run(*flags(tmp_path / 'cpu', '--device', 'cpu', **fields))
    assert_same_training(weights, folder, tmp_path / 'cpu', 16)


def test_after_skipped_steps_a_run_ends_a_few_steps_late(launch, flags, tmp_path):
    succeeds(
        launch(
            tmp_path,
            *flags(
                'run',
                '--device npu --iterations_per_loop 4',
                loss_scale=1024,
                batch_size=4,
                log_interval=4,
                save_checkpoints_steps=16,
                eval_interval=1,
            ),
            ASCEND_SIM_OVERFLOW='2',
        )
    )
    assert sum(row.get('skipped_steps', 0) for row in rows(tmp_path / 'run', 'train')) == 1
    # 15 of the first 16 steps counted, so one more loop; then 13 were left, which takes 4 loops.
    assert steps(tmp_path / 'run', 'eval') == [19, 35] and checkpoints(tmp_path / 'run')[-1] == 35
    assert evaluation(tmp_path / 'run')['step'] == 35
