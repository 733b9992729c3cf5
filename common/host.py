"""This machine: how many cores a process may use, and what the results were measured with."""

import math
import os
import pathlib
import platform
from typing import Dict

MKL_SETTINGS = ('OMP_NUM_THREADS', 'KMP_BLOCKTIME', 'KMP_AFFINITY', 'MKL_DEBUG_CPU_TYPE')
HOROVOD_SETTINGS = ('HOROVOD_CYCLE_TIME', 'HOROVOD_FUSION_THRESHOLD')
CGROUP = pathlib.Path('/sys/fs/cgroup')


def cores() -> int:
    """Returns the cores that this process may use: its affinity, and its container's quota."""
    allowed = len(os.sched_getaffinity(0))
    quota = _quota()
    return max(1, min(allowed, math.ceil(quota))) if quota else allowed


def _quota() -> float:
    """Returns the cores that control groups (version 2, else 1) grant; 0 for no limit."""
    try:
        if (CGROUP / 'cpu.max').is_file():
            limit, period = (CGROUP / 'cpu.max').read_text().split()
        else:
            limit = (CGROUP / 'cpu/cpu.cfs_quota_us').read_text()
            period = (CGROUP / 'cpu/cpu.cfs_period_us').read_text()
        return max(0.0, float(limit) / float(period))
    except (OSError, ValueError):  # no control groups, or "max"
        return 0.0


def is_mkl() -> bool:
    """Returns whether this TensorFlow is built with Intel's MKL-DNN (./setup.sh --mkl)."""
    from tensorflow.python import pywrap_tensorflow

    return getattr(pywrap_tensorflow, 'IsMklEnabled', bool)()  # TensorFlow 2 has no such question


def describe() -> Dict[str, str]:
    """Returns versions, processor and the settings of MKL and Horovod, for the record of a run."""
    import numpy as np
    import tensorflow as tf

    return {
        'python': platform.python_version(),
        'tensorflow': tf.__version__ + (' MKL' if is_mkl() else ''),
        'numpy': np.__version__,
        'cpu': cpuinfo('model name') or platform.machine(),
        'cores': str(cores()),
        **({name: os.environ.get(name, 'unset') for name in MKL_SETTINGS} if is_mkl() else {}),
        **{name: os.environ[name] for name in HOROVOD_SETTINGS if name in os.environ},
    }


def cpuinfo(key: str) -> str:
    """Returns what /proc/cpuinfo says of the first core, such as 'flags'; '' if it does not."""
    try:
        for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
            if line.split(':')[0].strip() == key:
                return line.split(':')[1].strip()
    except OSError:
        pass
    return ''
