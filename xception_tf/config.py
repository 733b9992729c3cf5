"""Fields of an Xception recipe that common/config.py lacks."""
import dataclasses

from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from typing_extensions import Literal

from common import devices
from common.config import Config, option
from common.devices import gpu
from common.errors import UserError
from xception_tf import model


@dataclasses.dataclass
class XceptionConfig(Config):
    # Network
    num_classes: PositiveInt = option(1000, 'classes')
    width: PositiveFloat = option(1.0, 'multiplies the number of filters; below 1 for small tasks and tests')
    dropout_rate: NonNegativeFloat = option(0.0, 'before the classifier (paper: 0.5)')
    bn_decay: NonNegativeFloat = option(0.99, "of batch norm's moving averages (Keras 0.99, MindSpore 0.9); lower it for runs of few steps")
    data_format: Literal['channels_last', 'channels_first'] = option('channels_last', 'how the layers compute; channels_first is for gpu and npu')
    # Data
    image_size: PositiveInt = option(299, 'images are made this many pixels high and wide; at least 71')

    def validate(self) -> None:
        super().validate()
        if self.num_classes < 2:
            raise UserError('num_classes: %d is not legal; a classifier has at least 2' % self.num_classes)
        if self.image_size < model.SMALLEST:
            raise UserError('image_size: %d is not legal; give at least %d' % (self.image_size, model.SMALLEST))
        for name in ('dropout_rate', 'bn_decay'):
            if getattr(self, name) >= 1:
                raise UserError('%s: %s is not legal; 0 <= %s < 1' % (name, getattr(self, name), name))
        on_cpu = self.device == 'cpu' or self.device == 'auto' and not devices.npu_available() and not gpu.available()
        if self.data_format == 'channels_first' and on_cpu:
            raise UserError('data_format: channels_first needs --device gpu or npu, TensorFlow has no such kernels for CPUs; give channels_last. '
                            'A checkpoint fits both')
