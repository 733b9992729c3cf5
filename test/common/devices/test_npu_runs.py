"""--device npu as the command runs it, on the stand-in for the Ascend tool chain (test/ascend_sim),
with 1 to 8 processes.
"""

import importlib.util
import json
import os
import pathlib
import re
import signal
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from common.checkpoints import checkpoint
from offline_inference import freeze

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
RUN = ROOT / 'wideresnet_tf' / 'run_wideresnet.py'
WITH_SIM = ROOT / 'test' / 'ascend_sim' / 'env.sh'
pytestmark = [pytest.mark.slow]
several = [
    pytest.mark.processes,
    pytest.mark.skipif(
        not importlib.util.find_spec('horovod'), reason='the stand-in joins ranks by Horovod'
    ),
]
CM = (
    '--cm_chief_ip 127.0.0.1 --cm_chief_port 29688 --cm_chief_device 0 --cm_worker_size 3'
    ' --cm_worker_ip 127.0.0.1'.split()
)
# Each rank notes its process and hands over to the script.
WRAPPER = """
import os, pathlib, runpy, sys
pathlib.Path({folder!r}, 'pid' + os.environ['DEVICE_ID']).write_text(str(os.getpid()))
sys.path.insert(0, {root!r})
sys.argv[0] = {script!r}
runpy.run_path({script!r}, run_name='__main__')
"""


@pytest.fixture(scope='module')
def launch(start):
    """launch(folder, flag, ..., devices='0-1', more=(), script=path, NAME=value): ranks of the
    stand-in.

    devices=None: one process without launcher; more: further words for the launcher.
    """

    def call(folder, *flags, devices=None, more=(), script=RUN, **environment):
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
        return start(*flags, cwd=folder, launcher=words, script=wrapper if devices else script)

    return call


@pytest.fixture(scope='module')
def flags(recipe, data):
    """flags(output, flag, ..., field=value): the words of a training command without anything
    random in the network.
    """

    def words(output, *more, **fields):
        path = recipe(
            **dict(
                dict(dropout_rate=0.0, learning_rate=0.01, brightness=30.0, eval_interval=0),
                **fields,
            )
        )
        return [
            '--config',
            path,
            '--data_path',
            data,
            '--output_path',
            output,
            '--do_train',
            'True',
            *more,
        ]

    return words


def succeeds(process):
    status, out, error = process.finish(200)
    assert status == 0, out + error
    return out + error


def lines(folder, kind):
    return [
        row
        for row in map(json.loads, (folder / 'metrics.jsonl').read_text().splitlines())
        if row['kind'] == kind
    ]


def steps(folder, kind='train'):
    return [row['step'] for row in lines(folder, kind)]


def checkpoints(folder):
    return sorted(int(path.stem.split('-')[-1]) for path in folder.glob('model.ckpt-*.index'))


def assert_same_training(weights, folder, reference, step):
    """Losses, weights and evaluation against those of a CPU."""
    assert steps(folder) == steps(reference)
    np.testing.assert_allclose(
        [row['loss'] for row in lines(folder, 'train')],
        [row['loss'] for row in lines(reference, 'train')],
        atol=1e-4,
    )
    found, expected = (weights(path / ('model.ckpt-%d' % step)) for path in (folder, reference))
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        # A slot holds gradients, which enter the weights times the learning rate, 0.01: where a
        # rounding error flips a ReLU, they move by some thousandths.
        atol = 1e-2 if name.endswith('Momentum') else 3e-4
        np.testing.assert_allclose(found[name], value, atol=atol, err_msg=name)
    first, second = (json.loads((path / 'eval.json').read_text()) for path in (folder, reference))
    assert (first['images'], first['top1']) == (second['images'], second['top1']) and first[
        'loss'
    ] == pytest.approx(second['loss'], abs=1e-4)
    np.testing.assert_array_equal(
        np.load(str(folder / 'confusion.npy')), np.load(str(reference / 'confusion.npy'))
    )


# One device


@pytest.fixture(scope='module')
def one(launch, flags, tmp_path_factory):
    """A run of 8 steps that stopped after 4 and went on."""
    folder = tmp_path_factory.mktemp('one')
    for total in (4, 8):
        text = succeeds(
            launch(
                folder,
                *flags(
                    'run',
                    '--device',
                    'npu',
                    '--precision',
                    'mixed',
                    '--loss_scale',
                    '1024',
                    '--steps',
                    total,
                ),
            )
        )
    assert 'resuming at step 4' in text and 'Traceback' not in text
    return folder / 'run'


def test_one_device_trains_resumes_and_evaluates_as_a_cpu_does(one, run, flags, weights, tmp_path):
    run(*flags(tmp_path / 'cpu', '--device', 'cpu', '--steps', 8))
    assert [row['resumed_from'] for row in lines(one, 'run')] == [0, 4]
    assert {row['device'] for row in lines(one, 'run')} == {'npu'}
    assert not any('skipped_steps' in row for row in lines(one, 'train'))
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


# Several


@pytest.mark.parametrize('marked', [pytest.param(None, marks=several)])
def test_eight_devices_train_as_a_cpu_does(marked, launch, run, flags, weights, tmp_path):
    """Batch norm is frozen, as its statistics are those of a device's own images."""
    fields = dict(freeze_bn=True, steps=3)
    text = succeeds(
        launch(
            tmp_path / 'npu',
            *flags('run', batch_size=2, precision='float32', **fields),
            devices='0-7',
        )
    )
    assert 'device=npu x 8  global batch 16' in text
    run(*flags(tmp_path / 'cpu', '--device', 'cpu', batch_size=16, **fields))
    assert_same_training(weights, tmp_path / 'npu' / 'run', tmp_path / 'cpu', 3)


@pytest.mark.parametrize('marked', [pytest.param(None, marks=several)])
def test_a_rank_that_dies_ends_the_job_and_the_command_goes_on(marked, launch, flags, tmp_path):
    """First with a rank table; then without one, until a signal."""
    folder, words = (
        tmp_path / 'run',
        flags('run', batch_size=4, steps=300, save_checkpoints_steps=5, keep_checkpoints=99),
    )

    def reaches(step):
        return lambda: (folder / 'metrics.jsonl').exists() and max(steps(folder) or [0]) >= step

    process = launch(tmp_path, *words, devices='0-2')
    process.wait_for(reaches(7))
    os.kill(int((tmp_path / 'pid1').read_text()), signal.SIGKILL)
    began = time.monotonic()
    status, out, error = process.finish(60)
    assert time.monotonic() - began < 10
    assert status not in (0, None) and re.search(
        r'launch: rank 1 .*(signal 9|SIGKILL)', out + error
    ), out + error
    for rank in range(3):
        with pytest.raises(OSError):
            os.kill(int((tmp_path / ('pid%d' % rank)).read_text()), 0)
    killed = checkpoints(folder)[-1]
    assert 5 <= killed < 200

    process = launch(tmp_path, *words, devices='0-2', more=CM)
    process.wait_for(reaches(killed + 7))
    process.send(signal.SIGTERM)
    status, out, error = process.finish(60)
    stopped = checkpoints(folder)[-1]
    assert (
        status == 143
        and 'resuming at step %d' % killed in out
        and 'stopped by signal 15' in out
        and 'Traceback' not in out + error
    )
    assert killed + 7 <= stopped < 300 and steps(folder) == list(
        range(1, stopped + 1)
    )  # saved where it stopped, nothing twice


CHECK = """
import json, pathlib, sys
import numpy as np
import tensorflow as tf
from common import devices, models
from common.data import pipeline
from common.devices.exchange import Exchange
from common.training import model_fn
from common.training.metrics_logger import MetricsLogger
from common.training.plan import Plan
from common.training.progress import Progress, ThroughputMeter
from wideresnet_tf.task import TASK

recipe, data, folder = sys.argv[1:]
device = devices.select('npu')
with device.session() as session:
    sums = Exchange(device, 100).sum(session, dict(
        whole=np.array(2 ** 60 + device.rank), matrix=np.array([[-1, 2 ** 53 + 1]]),
        part=np.float64([0.1, 1e-17 * device.rank, -1e300])))
# Ranks of different seeds; rank 0 goes on from a checkpoint.
cfg = models.parse(TASK, ['--config', recipe, '--data_path', data, '--seed', str(device.rank)])
result, seen = dict(sums, place=[device.rank, device.size]), []


class Watch(tf.train.SessionRunHook):
    def begin(self):
        self.scale = next(v for v in tf.global_variables() if v.op.name == 'loss_scale')
        self.summed = device.allreduce_sum(tf.identity(tf.constant(10.0 + device.rank)), 'check')

    def before_run(self, run_context):
        if 'summed' not in result:  # after every hook has seen the session, the adapter's own as well
            for variable, value in zip(tf.global_variables(), run_context.session.run(tf.global_variables())):
                result['start/' + variable.op.name] = value
            result['summed'] = run_context.session.run(self.summed)

    def after_run(self, run_context, run_values):
        seen.append(run_context.session.run([tf.train.get_global_step(), self.scale]))

    def end(self, session):
        for variable, value in zip(tf.trainable_variables(), session.run(tf.trainable_variables())):
            result['end/' + variable.op.name] = value


model_dir = folder if device.is_chief else folder + '/rank1'
progress = Progress(MetricsLogger(folder, device.is_chief), ThroughputMeter(), Plan(8, 4, 26, 1, [], False), interval=1,
                    shows_bar=False, model_dir=folder, start=20)
estimator = device.estimator(model_fn.build(TASK, cfg, device, total_steps=100, steps_per_epoch=4), cfg, model_dir, 1000)
records = pipeline.open_split(TASK, cfg, 'train')
estimator.train(lambda: pipeline.dataset(TASK, records, cfg, 4, True, seed=1, rank=device.rank, size=device.size, start_step=20), steps=6,
                hooks=device.broadcast_hooks(True) + [Watch(), progress])
np.savez(folder + '/result%d.npz' % device.rank, seen=seen, **result)
"""


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
    (folder / 'check.py').write_text(CHECK)
    succeeds(
        launch(
            folder,
            recipe(batch_size=4, dropout_rate=0.5, learning_rate=0.001),
            data,
            trained[0],
            devices='0-1',
            script=folder / 'check.py',
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
        rows = lines(trained[0], 'train')
        assert [(row['step'], row.get('skipped_steps', 0)) for row in rows] == [
            (21, 0),
            (22, 0),
            (23, 2),
            (24, 0),
            (25, 0),
            (26, 0),
        ]


# Loops


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
                '--device',
                'npu',
                '--iterations_per_loop',
                '4',
                loss_scale=1024,
                batch_size=4,
                log_interval=4,
                save_checkpoints_steps=16,
                eval_interval=1,
            ),
            ASCEND_SIM_OVERFLOW='2',
        )
    )
    rows = lines(tmp_path / 'run', 'train')
    assert sum(row.get('skipped_steps', 0) for row in rows) == 1
    # 15 of the first 16 steps counted, so one more loop; then 13 were left, which takes 4 loops.
    assert steps(tmp_path / 'run', 'eval') == [19, 35] and checkpoints(tmp_path / 'run')[-1] == 35
    assert json.loads((tmp_path / 'run' / 'eval.json').read_text())['step'] == 35


# The step as one graph for the device

GRAPHS = """
import json, sys
import tensorflow as tf
from common import devices, models
from common.data import pipeline
from common.training import model_fn
from wideresnet_tf.task import TASK
from ascend_sim import graph_check, marks

recipe, data = sys.argv[1:3]
device, found = devices.select('npu'), []
for words in json.loads(sys.argv[3]):
    with tf.Graph().as_default() as graph:
        cfg = models.parse(TASK, ['--config', recipe, '--data_path', data] + words.split())
        count = cfg.batch_size * cfg.accumulate
        folder = pipeline.open_split(TASK, cfg, 'train')
        iterator = tf.data.make_initializable_iterator(pipeline.dataset(TASK, folder, cfg, count, True, seed=1, rank=0, size=1))
        spec = model_fn.build(TASK, cfg, device, total_steps=100, steps_per_epoch=4)(iterator.get_next(), None, tf.estimator.ModeKeys.TRAIN)
        ops, stack = set(), [spec.train_op, spec.loss.op] + [graph.get_operation_by_name('train/' + name) for name in ('learning_rate', 'global_step')]
        while stack:
            op = stack.pop()
            if op not in ops:
                ops.add(op)
                stack += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
        own = [op for op in ops if marks.kind(op) is None]
        graph_check.check([spec.train_op], 4)
        found.append(dict(
            python=[op.name for op in own if 'PyFunc' in op.type], fed=[op.name for op in own if op.type.startswith('Placeholder')],
            strings=[op.name for op in own if any(tensor.dtype.base_dtype == tf.string for tensor in op.outputs) and
                     any(user.type != 'Assert' for tensor in op.outputs for user in tensor.consumers())],
            unknown=[tensor.name for op in own if op.type == 'IteratorGetNext' for tensor in op.outputs if not tensor.shape.is_fully_defined()],
            host=[op.name for op in own if 'Queue' in op.type or 'Summary' in op.type or op.type in ('Print', 'PrintV2', 'OneShotIterator')],
            applies=sum('Apply' in op.type for op in own), variables=len(tf.trainable_variables()), drops=sum(
                marks.kind(op) == b'DropOutGenMask' for op in ops), names=len({op.name for op in ops}) == len(ops)))
print(json.dumps(found))
"""
OPTIONS = [
    '--variant paper --optimizer momentum --mixup 0.2 --dropout_rate 0.3',
    '--variant port --optimizer adam --brightness 63 --contrast 0.8',
    '--variant mindspore --optimizer rmsprop --cutout 8',
    '--optimizer momentumw --accumulate 2 --clip_norm 1 --ema_decay 0.9 --dropout_rate 0.3',
    '--optimizer sgd --precision float32 --loss focal --clip_norm 1',
    '--freeze_bn True --label_smoothing 0.1 --loss_scale 1024 --normalization per_image',
    '--optimizer adam --accumulate 2 --mixup 0.2 --cutout 8 --loss_scale 1024 --precision mixed',
]


def test_every_training_step_is_one_graph_for_the_device(launch, recipe, data, tmp_path):
    """No Python, feeds, strings, summaries or unknown shapes in what the train op, loss and rate
    need; and the stand-in's own check.
    """
    (tmp_path / 'graphs.py').write_text(GRAPHS)
    text = succeeds(
        launch(
            tmp_path,
            recipe(batch_size=4, dropout_rate=0.0),
            data,
            json.dumps(OPTIONS),
            script=tmp_path / 'graphs.py',
        )
    )
    found = json.loads(next(line for line in text.splitlines() if line.startswith('[{')))
    assert len(found) == len(OPTIONS)
    for options, graph in zip(OPTIONS, found):
        assert not any(graph[key] for key in ('python', 'fed', 'strings', 'unknown', 'host')), (
            options,
            graph,
        )
        assert graph['applies'] == graph['variables'] > 10 and graph['names'], options
        assert bool(graph['drops']) == ('dropout' in options), options


# Releases of the adapter

RELEASES = [
    'r1.5.0',
    'r1.5.1',
    'r1.6.0',
    'r1.7.0',
    'r1.8.0',
    'r1.9.0',
    'r1.10.0',
    'r1.11.0',
    'r1.12.0',
    'r1.13.0',
    'r1.14.0',
    'r1.14.1',
    'r1.15.0',
    'master',
]
# Releases that changed no signature -> what the doctor calls them.
SAME = {'r1.5.1': 'r1.5.0', 'r1.14.0': 'r1.13.0', 'r1.14.1': 'r1.13.0'}
CONFIGS = """
import contextlib, io, json, os, sys
import tensorflow as tf
from common import config, settings
from common.ascend import cann
from common.training import model_fn
from common.devices import npu

folder, releases = sys.argv[1], sys.argv[2:]
given = ['--op_select_implmode', 'high_precision', '--op_compiler_cache_mode', 'enable', '--op_compiler_cache_dir', folder + '/cache', '--aoe_mode', '2',
         '--graph_memory_max_size', '1000000', '--variable_memory_max_size', '1000000', '--deterministic', '1', '--profiling', folder + '/profile']
cases = [given + ['--modify_mixlist', folder + '/mixlist.json', '--data_dump', folder + '/dump', '--dump_step', '0|5'],
         ['--over_dump', folder + '/over', '--precision_mode_v2', 'mixed_float16',
          '--jit_compile', 'false', '--enable_small_channel', 'True',
          '--op_precision_mode', folder + '/mixlist.json',
          '--fusion_switch_file', folder + '/mixlist.json',
          '--customize_dtypes', folder + '/mixlist.json'], []]
for release in releases:
    read, write = os.pipe()
    if os.fork() == 0:  # after the import of TensorFlow, which takes seconds
        os.environ['ASCEND_SIM_RELEASE'] = release
        from npu_bridge.estimator.npu.npu_config import NPURunConfig
        device, result = npu.NPU(), [cann.adapter_release(NPURunConfig.__init__)]
        for case in cases:
            cfg = config.parse(settings.Config, case)
            with contextlib.redirect_stderr(io.StringIO()) as warned, tf.Graph().as_default():
                made = device.estimator(lambda features, labels, mode: None, cfg, folder + '/model', 10, 5).config
                device.wrap_optimizer(tf.train.GradientDescentOptimizer(0.1), cfg)
            entry, = made.session_config.graph_options.rewrite_options.custom_optimizers
            result.append([warned.getvalue(), made.iterations_per_loop, made.save_checkpoints_steps, sorted(entry.parameter_map)])
        os.write(write, json.dumps(result).encode())
        os._exit(0)
    os.close(write)
    print(json.dumps([release] + json.loads(os.fdopen(read).read() or '[]')), flush=True)
"""


def test_every_release_of_the_adapter_takes_what_it_knows(launch, tmp_path):
    (tmp_path / 'mixlist.json').write_text('{}')
    (tmp_path / 'configs.py').write_text(CONFIGS)
    text = succeeds(launch(tmp_path, tmp_path, *RELEASES, script=tmp_path / 'configs.py'))
    rows = [json.loads(line) for line in text.splitlines() if line.startswith('["')]
    assert [row[0] for row in rows] == RELEASES
    since = {'deterministic': 'r1.12.0', 'customize_dtypes': 'r1.9.0', 'jit_compile': 'r1.10.0'}
    warned = 'warning: this adapter has no %s; left out\n'
    for index, (release, told, *cases) in enumerate(rows):
        missing = {name for name, first in since.items() if index < RELEASES.index(first)}
        if release == 'r1.12.0':
            missing.add('jit_compile')
        assert SAME.get(release, release) in told.split(), (release, told)
        everything, other, plain = cases
        assert everything[0] == (warned % 'deterministic' if 'deterministic' in missing else '')
        lacking, older = sorted(missing - {'deterministic'}), index < RELEASES.index('r1.13.0')
        assert other[0] == (
            'precision_mode_v2 mixed_float16 is precision_mode allow_mix_precision on this'
            ' adapter\n' * older + (warned % ', '.join(lacking) if lacking else '')
        )
        assert ('precision_mode' in other[3], 'precision_mode_v2' in other[3]) == (older, not older)
        assert set(other[3]) >= {'enable_small_channel', 'fusion_switch_file', 'op_precision_mode'}
        assert plain[0] == '' and all(case[1:3] == [5, 10] for case in cases)
        assert set(everything[3]) >= {
            'op_select_implmode',
            'op_compiler_cache_mode',
            'aoe_mode',
            'graph_memory_max_size',
            'modify_mixlist',
            'dump_step',
            'profiling_options',
            'precision_mode',
        }
        assert ('deterministic' in everything[3]) == ('deterministic' not in missing)
