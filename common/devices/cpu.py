"""CPU: the default everywhere. float32."""

from common.devices import dilated_conv
from common.devices.hvd import HorovodDevice
from common.errors import UserError


class CPU(HorovodDevice):
    name = 'cpu'

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
