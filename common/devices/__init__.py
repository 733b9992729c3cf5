"""Chooses where a run happens: `select('auto' | 'cpu' | 'gpu' | 'npu')`."""

from typing import Any

from common.ascend import cann
from common.devices.base import Device


def select(name: str = 'auto', sync_bn: bool = False) -> Device:
    """Returns the device; 'auto' takes npu where npu_bridge is found, else gpu where TensorFlow
    sees one, else cpu. sync_bn: ranks exchange the moments of batch norm.

    Raises UserError if a device that was asked for by name is missing.
    """
    from common.devices import cpu, gpu

    if name == 'npu' or (name == 'auto' and cann.has_adapter()):
        from common.devices import npu

        return npu.NPU()
    if name == 'gpu' or (name == 'auto' and gpu.available()):
        return gpu.GPU()
    return cpu.CPU(sync_bn)


def select_for(cfg: Any) -> Device:
    """Returns the device of a configuration; UserError also for what it cannot run there."""
    device = select(cfg.device, cfg.sync_bn is not False)
    cfg.check_device(device.name)
    return device
