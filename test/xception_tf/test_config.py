"""Illegal flags of run_xception.py."""

import pytest

from common import devices
from common.configuration import config
from common.errors import UserError
from xception_tf.task import TASK


@pytest.mark.parametrize(
    'flags, message',
    [
        ('--image_size 70', 'image_size: 70 is not legal; give at least 71'),
        ('--num_classes 1', 'num_classes: 1 is not legal; give at least 2'),
        ('--width 0', 'width: .* a number above 0'),
        ('--dropout_rate 1', 'dropout_rate: 1.0 is not legal; 0 <= dropout_rate < 1'),
        ('--bn_decay 1.5', 'bn_decay: 1.5 is not legal'),
        ('--data_format channels_first --device cpu', 'channels_first needs --device gpu or npu'),
        ('--class_nums 10', "did you mean 'class_num'"),
    ],
)
def test_illegal_flags_are_refused_before_anything_is_built(flags, message):
    with pytest.raises(UserError, match=message):
        config.parse(TASK.config, flags.split())


def test_channels_first_is_refused_where_auto_means_the_cpu():
    with pytest.raises(UserError, match='channels_first needs --device gpu or npu'):
        devices.select_for(config.parse(TASK.config, ['--data_format', 'channels_first']))
