"""Illegal values of the fields that only WideResNet has."""

import pytest

from common.configuration import config
from common.errors import UserError
from wideresnet_tf.config import WideResNetConfig


@pytest.mark.parametrize(
    'flags, message',
    [
        ('--depth 30', r'depth: 30 is not legal; .* 6n\+4 .*28 and 34$'),
        ('--depth 4', 'depth: 4 is not legal; .*at least 10.* 10 and 16$'),
        ('--depth 9', 'depth: 9 .* 10 and 16$'),
        ('--depth 15', 'depth: 15 .* 10 and 16$'),
        ('--widen_factor 0', "widen_factor: '0' is not legal; give a whole number above 0$"),
        ('--num_classes 1', 'num_classes: 1 is not legal; give at least 2$'),
        ('--variant ports', "'ports' is not legal; give paper or port or mindspore; .* 'port'"),
        ('--dropout_rate 1.0', 'dropout_rate: 1.0 is not legal; 0 <= dropout_rate < 1$'),
        ('--dropout_rate -0.1', "dropout_rate: '-0.1' is not legal; give a number, 0 or more$"),
        ('--contrast 1.1', 'contrast: 1.1 is not legal; give at most 1$'),
        ('--loss focal --mixup 0.2', 'mixup: 0.2 is not legal; loss focal'),
    ],
)
def test_illegal_values_say_what_is_legal(flags, message):
    with pytest.raises(UserError, match=message):
        config.parse(WideResNetConfig, flags.split())
