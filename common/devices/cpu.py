"""CPU: the default everywhere. float32."""

import contextlib
import ctypes
import os
import pathlib
from typing import Dict, Iterable, Set

import tensorflow as tf

from common import host
from common.devices import cpu_gradients
from common.devices.hvd import HorovodDevice, launched_size
from common.errors import UserError

# Parameters of glibc's mallopt and their values: memory that a step has freed stays with the
# process, and all threads take it from one heap. Else the kernel clears the same pages again in
# every step, which takes up to a third of the CPU time of an Xception.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_MALLOC = {_M_TRIM_THRESHOLD: -1, _M_MMAP_MAX: 0, _M_ARENA_MAX: 1}

# Milliseconds between two cycles in which Horovod looks for tensors to send; its default is 1. Each
# cycle is a message to all ranks, which costs the cores that compute: two ranks of Xception train
# 1.2 times as fast with 20. Gradients can wait so long, synchronised batch norm's moments cannot.
CYCLE_TIME = '20'


def _keep_freed_memory() -> None:
    """Tells the C library to keep what is freed, unless the user's MALLOC_... in the environment or
    another allocator (LD_PRELOAD) decides.
    """
    chosen = any(name.startswith(('MALLOC_', 'GLIBC_TUNABLES')) for name in os.environ)
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt and not chosen and not os.environ.get('LD_PRELOAD'):
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)


class _OneAfterAnother(tf.train.SessionRunHook):
    """Runs a step's operators one after another. Each of Intel's takes all cores; where two run at
    once, the threads of one wait for cores of the other, and an Xception trains 1.2 times slower.
    """

    _ARGUMENTS = tf.train.SessionRunArgs([], options=tf.RunOptions(inter_op_thread_pool=1))

    def before_run(self, run_context):
        return self._ARGUMENTS


def _threads() -> Set[int]:
    """Returns the ids of this process's threads, which rise; none where there is no /proc."""
    tasks = pathlib.Path('/proc/self/task')
    return {int(task.name) for task in tasks.iterdir()} if tasks.is_dir() else set()


def _lower_priority(threads: Iterable[int]) -> None:
    """Gives threads the lowest priority: they take only time that nobody else wants."""
    for thread in threads:
        with contextlib.suppress(OSError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, thread, 19)


def _mkl_settings(threads: int) -> Dict[str, str]:
    """The environment that MKL and its OpenMP read when the first session starts."""
    # Threads that wait look for work for 1 millisecond, which most find in the next operator; the
    # default, 200, takes the cores from what is not Intel's, such as the input.
    settings = {'OMP_NUM_THREADS': str(threads), 'KMP_BLOCKTIME': '1'}
    flags = set(host.cpuinfo('flags').split())
    if 'avx2' in flags and host.cpuinfo('vendor_id') != 'GenuineIntel':
        # MKL's matrix product uses no AVX on CPUs of other makers unless it is told to: here AVX2,
        # or AVX-512, which was 17 times as fast on an AMD EPYC.
        avx512 = {'avx512f', 'avx512bw', 'avx512dq', 'avx512vl'} <= flags
        settings['MKL_DEBUG_CPU_TYPE'] = '7' if avx512 else '5'
    return settings


class CPU(HorovodDevice):
    name = 'cpu'

    def __init__(self, sync_bn: bool = False):
        _keep_freed_memory()  # first: a thread that starts before it has a heap of its own
        if launched_size() > 1 and not sync_bn:
            os.environ.setdefault('HOROVOD_CYCLE_TIME', CYCLE_TIME)
        before = _threads()
        super().__init__()
        # The first new thread is Horovod's own, the others are Gloo's. While a message of another
        # rank waits that this rank does not need yet, one of these polls the kernel without a pause
        # and takes a fifth of a core from the step. Two ranks of ResNeSt-14 with synchronised batch
        # norm train 1.3 times as fast when it gives way.
        _lower_priority(sorted(_threads() - before)[1:])
        if host.is_mkl():
            for name, value in _mkl_settings(self._threads).items():
                os.environ.setdefault(name, value)
        self.open_first_session()

    def wrap_optimizer(self, optimizer, cfg):
        if cfg.precision == 'mixed':
            raise UserError(
                'precision: mixed needs --device gpu or npu; a CPU has no float16 arithmetic; give'
                ' --precision float32'
            )
        return super().wrap_optimizer(optimizer, cfg)

    def session_hooks(self, training):
        hooks = super().session_hooks(training)
        return [_OneAfterAnother(), *hooks] if host.is_mkl() and self._threads > 1 else hooks

    def gradients(self):
        return cpu_gradients.gradients()

    def session_config(self, training: bool = False):
        config = super().session_config(training)
        config.device_count['GPU'] = 0
        if host.is_mkl():
            # Pool 0 is for what has no hook: an op that blocks, such as an iterator's start, may
            # wait for another.
            for threads in (config.inter_op_parallelism_threads, 1):
                config.session_inter_op_thread_pool.add(num_threads=threads)
        return config
