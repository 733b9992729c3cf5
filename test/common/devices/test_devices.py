"""Choosing a device, and what CPU and GPU share. Several processes: test_distributed.py.
Dropout: test_dropout.py.
"""

import importlib.util
import os
import sys
import threading
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from common import devices, host
from common.ascend import cann
from common.devices import cpu, gpu, hvd
from common.devices.exchange import Exchange
from common.errors import UserError
from common.training import optimizer

pytestmark = pytest.mark.usefixtures('alone')


@pytest.fixture
def nothing(monkeypatch):
    """No NPU adapter, no GPU."""
    monkeypatch.setattr(cann, 'has_adapter', lambda: False)
    monkeypatch.setattr(gpu, 'available', lambda: False)


# Choosing


def test_auto_is_cpu_where_there_is_nothing_else(nothing):
    for name in ('auto', 'cpu'):
        device = devices.select(name)
        assert (device.name, device.rank, device.size, device.is_chief) == ('cpu', 0, 1, True)


def test_auto_prefers_gpu_to_cpu(nothing, monkeypatch):
    monkeypatch.setattr(gpu, 'available', lambda: True)
    assert devices.select('auto').name == 'gpu' and devices.select('cpu').name == 'cpu'


def test_a_gpu_that_is_missing_says_how_to_get_it(nothing):
    with pytest.raises(
        UserError, match='--device gpu: TensorFlow sees no GPU; install .*--device cpu'
    ):
        devices.select('gpu')


def test_an_npu_that_is_missing_says_how_to_get_it(nothing, monkeypatch):
    monkeypatch.setitem(sys.modules, 'npu_bridge', None)
    with pytest.raises(UserError, match='--device npu: .*npu_bridge.*--device cpu'):
        devices.select('npu')


def test_npu_is_available_where_its_adapter_is(monkeypatch):
    for spec in (None, types.SimpleNamespace()):
        monkeypatch.setattr(importlib.util, 'find_spec', lambda name, spec=spec: spec)
        assert cann.has_adapter() is (spec is not None)


# Processes


@pytest.mark.parametrize('name', ['HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE'])
def test_launchers_tell_the_number_of_processes(name, monkeypatch):
    assert hvd.launched_size() == 1
    monkeypatch.setenv(name, '4')
    assert hvd.launched_size() == 4


def test_several_processes_without_horovod_say_how_to_install_it(nothing, monkeypatch):
    monkeypatch.setenv('HOROVOD_SIZE', '2')
    monkeypatch.setitem(sys.modules, 'horovod.tensorflow', None)
    with pytest.raises(
        UserError,
        match='2 processes were launched but Horovod does not import .*setup.sh --horovod',
    ):
        devices.select('auto')


def test_one_process_of_a_launcher_needs_no_horovod(nothing, monkeypatch):
    monkeypatch.setenv('HOROVOD_SIZE', '1')
    monkeypatch.setitem(sys.modules, 'horovod.tensorflow', None)
    assert devices.select('auto').size == 1


def fake_horovod(monkeypatch, init=lambda: None):
    """Rank 5 of 8, the second of 4 on its machine."""
    fake = types.ModuleType('horovod.tensorflow')
    fake.init, fake.rank, fake.size = init, lambda: 5, lambda: 8
    fake.local_rank, fake.local_size = lambda: 1, lambda: 4
    package = types.ModuleType('horovod')
    package.tensorflow = fake
    monkeypatch.setitem(sys.modules, 'horovod', package)
    monkeypatch.setitem(sys.modules, 'horovod.tensorflow', fake)


def test_processes_of_a_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(hvd.host, 'cores', lambda: 12)
    fake_horovod(monkeypatch)
    assert cpu.CPU().session_config().intra_op_parallelism_threads == 12
    assert 'HOROVOD_CYCLE_TIME' not in os.environ
    monkeypatch.setenv('HOROVOD_SIZE', '8')
    cpu.CPU(sync_bn=True)  # its messages cannot wait
    assert 'HOROVOD_CYCLE_TIME' not in os.environ
    device = cpu.CPU()
    assert host.describe()['HOROVOD_CYCLE_TIME'] == cpu.CYCLE_TIME
    assert (device.rank, device.size, device.is_chief, device.local_rank) == (5, 8, False, 1)
    assert device.session_config().intra_op_parallelism_threads == 3


def test_the_threads_of_gloo_give_way_to_computing(monkeypatch):
    """On a transport that starts three threads, as Horovod's does: its own and two of Gloo."""
    ended, started = threading.Event(), []

    def init():
        for _ in range(3):
            before = cpu._threads()
            threading.Thread(target=ended.wait, daemon=True).start()
            started.extend(cpu._threads() - before)

    fake_horovod(monkeypatch, init=init)
    monkeypatch.setenv('HOROVOD_SIZE', '8')
    try:
        cpu.CPU()
        priorities = [os.getpriority(os.PRIO_PROCESS, thread) for thread in started]
    finally:
        ended.set()
    assert priorities == [0, 19, 19] and os.getpriority(os.PRIO_PROCESS, 0) == 0


def test_session_configs(nothing, monkeypatch):
    assert cpu.CPU().session_config().device_count['GPU'] == 0
    monkeypatch.setattr(gpu, 'available', lambda: True)
    config = gpu.GPU().session_config()
    assert (
        config.gpu_options.allow_growth
        and config.gpu_options.visible_device_list == '0'
        and 'GPU' not in config.device_count
    )


def test_one_process_sums_to_itself(monkeypatch):
    monkeypatch.setattr(host, 'is_mkl', lambda: False)
    device = cpu.CPU()
    arrays = {'whole': np.array(2**60 + 1), 'part': np.float64([0.1])}
    sums = Exchange(device, 100).sum(None, arrays)
    assert sums['whole'] == 2**60 + 1 and sums['part'].tolist() == [0.1]
    tensor = tf.constant(1.0)
    assert device.allreduce_sum(tensor, 'x') is tensor and device.session_hooks(True) == []
    wrapped = tf.train.GradientDescentOptimizer(0.1)
    assert device.wrap_optimizer(wrapped, types.SimpleNamespace(precision='auto')) is wrapped
    assert device.steps_per_loop(None, {'a': 10}) == 1


# Precision


def test_mixed_precision_on_a_cpu_is_refused():
    with pytest.raises(
        UserError, match='precision: mixed needs --device gpu or npu.*--precision float32'
    ):
        cpu.CPU().wrap_optimizer(
            tf.train.GradientDescentOptimizer(0.1),
            types.SimpleNamespace(precision='mixed', loss_scale=128),
        )


@pytest.mark.parametrize('accumulate', [1, 3])
@pytest.mark.parametrize('scale', [128.0, 'dynamic'])
def test_loss_scaling_changes_no_gradient(accumulate, scale):
    """As on a GPU: TensorFlow's loss-scale optimizer outside, accumulation inside. Its scale is a
    power of 2.
    """

    class Scaled:
        rank, size = 0, 1

        def wrap_optimizer(self, wrapped, cfg):
            return tf.train.experimental.MixedPrecisionLossScaleOptimizer(wrapped, scale)

    cfg = types.SimpleNamespace(
        optimizer='momentum',
        momentum=0.9,
        nesterov=False,
        weight_decay=0.5,
        weight_decay_rule='all',
        rate_factors={},
        clip_norm=0.0,
        ema_decay=0.0,
        accumulate=accumulate,
    )
    w = tf.get_variable('w', initializer=np.float32([1.0, -2.0]))

    def losses_of(index):
        data = tf.reduce_sum(w * [0.25, 3.0])
        return optimizer.Losses(data, data + optimizer.l2_loss(cfg))

    op, loss = optimizer.train_op(cfg, Scaled(), losses_of, tf.constant(0.5))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        logged, _ = session.run([loss, op])
        assert logged == pytest.approx(0.25 - 6)  # not scaled
        np.testing.assert_allclose(
            session.run(w), [1 - 0.5 * (0.25 + 0.5), -2 - 0.5 * (3 - 1)], rtol=1e-6
        )


# The CPU's settings


_AVX512 = 'avx2 avx512f avx512bw avx512dq avx512vl'


@pytest.mark.parametrize('given', [{}, {'OMP_NUM_THREADS': '7', 'MKL_DEBUG_CPU_TYPE': '4'}])
@pytest.mark.parametrize(
    'mkl, maker, flags, cpu_type',
    [
        (False, 'AuthenticAMD', _AVX512, None),
        (True, 'GenuineIntel', _AVX512, None),
        (True, 'AuthenticAMD', 'avx', None),
        (True, 'AuthenticAMD', 'avx avx2 avx512f', '5'),
        (True, 'AuthenticAMD', _AVX512, '7'),
    ],
)
def test_settings_of_the_mkl_build_unless_the_user_has_set_them(
    mkl, maker, flags, cpu_type, given, monkeypatch
):
    monkeypatch.setattr(os, 'environ', dict(given))
    monkeypatch.setattr(host, 'is_mkl', lambda: mkl)
    monkeypatch.setattr(host, 'cpuinfo', {'vendor_id': maker, 'flags': flags}.get)
    threads = str(cpu.CPU().session_config().intra_op_parallelism_threads)
    expected = {'OMP_NUM_THREADS': threads, 'KMP_BLOCKTIME': '1'} if mkl else {}
    if cpu_type:
        expected['MKL_DEBUG_CPU_TYPE'] = cpu_type
    assert os.environ == dict(expected, **given)


def test_operators_of_the_mkl_build_run_one_after_another(monkeypatch):
    monkeypatch.setattr(os, 'environ', dict(os.environ))
    monkeypatch.setattr(host, 'is_mkl', lambda: True)
    monkeypatch.setattr(host, 'cores', lambda: 1)
    assert cpu.CPU().session_hooks(True) == []  # two operators on one core do not wait for others
    monkeypatch.setattr(host, 'cores', lambda: 2)
    device = cpu.CPU()
    running = []

    def work():
        running.append(None)
        time.sleep(0.2)
        beside = len(running)
        running.pop()
        return beside

    operators = [tf.numpy_function(work, [], tf.int64) for _ in range(3)]
    config = device.session_config()
    with tf.Session(config=config) as session:  # what has no hook, such as an iterator's start
        assert max(session.run(operators)) > 1
    for training in (True, False):
        hooks = device.session_hooks(training)
        with tf.train.SingularMonitoredSession(hooks, config=config) as session:
            assert session.run(operators) == [1, 1, 1]


@pytest.mark.parametrize('name, calls', [('OTHER', 3), ('MALLOC_ARENA_MAX', 0), ('LD_PRELOAD', 0)])
def test_freed_memory_is_kept_unless_the_user_has_chosen(name, calls, monkeypatch):
    monkeypatch.setattr(os, 'environ', {name: '1'})
    made = []
    library = types.SimpleNamespace(mallopt=lambda *pair: made.append(pair))
    monkeypatch.setattr(cpu.ctypes, 'CDLL', lambda name: library)
    cpu.CPU()
    assert len(made) == calls
    monkeypatch.setattr(cpu.ctypes, 'CDLL', lambda name: types.SimpleNamespace())  # another libc
    cpu.CPU()
