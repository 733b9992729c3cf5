"""--device npu without an NPU or its adapter: what is computed before the device is touched."""

import types

import numpy as np
import pytest
import tensorflow as tf

from common.devices import npu
from common.devices.exchange import Exchange
from common.errors import UserError


def loops(intervals, capsys, **settings):
    cfg = types.SimpleNamespace(
        **dict(dict(iterations_per_loop=None, enable_data_pre_proc=True), **settings)
    )
    found = npu.NPU.__new__(npu.NPU).steps_per_loop(cfg, intervals)
    return found, capsys.readouterr().err


def test_a_loop_is_the_largest_that_divides_every_interval(capsys):
    intervals = {'log_interval': 30, 'checkpoints': 195, 'evaluation or end at step 390': 390}
    assert loops(intervals, capsys) == (15, '')
    assert loops(intervals, capsys, iterations_per_loop=5) == (5, '')
    assert loops(intervals, capsys, iterations_per_loop=1) == (1, '')
    assert loops({'log_interval': 10, 'checkpoints': 7}, capsys)[0] == 1


def test_single_steps_are_explained(capsys):
    found, warning = loops({'log_interval': 10, 'checkpoints': 7}, capsys)
    assert (
        found == 1 and warning.count('\n') == 1 and 'log_interval (10), checkpoints (7)' in warning
    )
    found, warning = loops({'log_interval': 10}, capsys, enable_data_pre_proc=False)
    assert found == 1 and '--enable_data_pre_proc False' in warning and 'divisor' not in warning


def test_a_loop_that_an_interval_does_not_admit_names_it(capsys):
    with pytest.raises(
        UserError,
        match=(
            r'iterations_per_loop: 10 does not divide checkpoints \(195 steps\); the largest .*'
            r' is 15'
        ),
    ):
        loops({'log_interval': 30, 'checkpoints': 195}, capsys, iterations_per_loop=10)


def test_sums_of_one_device():
    device = npu.NPU.__new__(npu.NPU)
    assert (device.rank, device.size) == (0, 1)
    sums = Exchange(device, 100).sum(None, {'whole': np.array(2**60 + 1)})
    assert sums['whole'] == 2**60 + 1
    tensor = tf.constant(1.0)
    assert device.allreduce_sum(tensor, 'x') is tensor and device.session_hooks(True) == []
