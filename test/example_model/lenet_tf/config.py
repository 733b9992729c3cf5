"""Fields of a LeNet recipe that common/configuration/settings.py lacks."""

import dataclasses
import pathlib

from common.configuration.fields import PositiveInt, option
from common.configuration.settings import Config
from common.errors import UserError


@dataclasses.dataclass(frozen=True)
class LeNetConfig(Config):
    model = 'lenet'
    default_recipe = pathlib.Path(__file__).parent / 'configs' / 'lenet_digits.yaml'
    filters: PositiveInt = option(8, 'of the first conv; the second has twice as many')
    num_classes: PositiveInt = option(10, 'classes')

    input_shape = (16, 16, 3)

    def check(self) -> None:
        super().check()
        if self.num_classes < 2:
            raise UserError('num_classes: %d is not legal; give at least 2' % self.num_classes)
