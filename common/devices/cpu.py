"""CPU: the default everywhere. float32."""

import os
from typing import Dict

from common import host
from common.devices import dilated_conv
from common.devices.hvd import HorovodDevice
from common.errors import UserError


def _mkl_settings(threads: int) -> Dict[str, str]:
    """The environment that MKL and its OpenMP read when the first session starts."""
    # Threads that spin between two ops would take the cores from the others.
    settings = {'OMP_NUM_THREADS': str(threads), 'KMP_BLOCKTIME': '0'}
    flags = set(host.cpuinfo('flags').split())
    if 'avx2' in flags and host.cpuinfo('vendor_id') != 'GenuineIntel':
        # MKL's matrix product uses no AVX on CPUs of other makers unless it is told to: here AVX2,
        # or AVX-512, which was 17 times as fast on an AMD EPYC.
        avx512 = {'avx512f', 'avx512bw', 'avx512dq', 'avx512vl'} <= flags
        settings['MKL_DEBUG_CPU_TYPE'] = '7' if avx512 else '5'
    return settings


class CPU(HorovodDevice):
    name = 'cpu'

    def __init__(self):
        super().__init__()
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

    def gradients(self):
        return dilated_conv.gradients()

    def session_config(self, training: bool = False):
        config = super().session_config(training)
        config.device_count['GPU'] = 0
        return config
