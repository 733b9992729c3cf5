"""--device npu without an NPU or its adapter: the environment, options, and what is computed before
the device is touched.
"""

import json
import os
import types

import numpy as np
import pytest
import tensorflow as tf

from common import config
from common.ascend import options as npu_options
from common.devices import npu
from common.errors import UserError
from common.settings import Config

OFF = 2  # RewriterConfig.Toggle
CM = dict(
    CM_CHIEF_IP='10.0.0.1',
    CM_CHIEF_PORT='29688',
    CM_CHIEF_DEVICE='0',
    CM_WORKER_SIZE='16',
    CM_WORKER_IP='10.0.0.2',
)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / 'table.json'
    path.write_text('{}')
    return str(path)


def parsed(*flags):
    return config.parse(Config, [str(flag) for flag in flags], 'any')


# The environment


def test_one_device_needs_no_variable(table):
    assert npu.environment({}) == (0, 1)
    assert npu.environment(
        {'DEVICE_ID': '3', 'ASCEND_DEVICE_ID': '3', 'HCCL_CONNECT_TIMEOUT': '120'}
    ) == (0, 1)
    assert npu.environment({'RANK_TABLE_FILE': table, 'RANK_ID': '0', 'RANK_SIZE': '1'}) == (0, 1)


def test_several_devices(table):
    assert npu.environment(
        {'RANK_TABLE_FILE': table, 'RANK_ID': '5', 'RANK_SIZE': '8', 'HCCL_CONNECT_TIMEOUT': '7200'}
    ) == (5, 8)
    assert npu.environment(CM) == (-1, 16)  # the rank comes from HCCL
    assert npu.environment(dict(CM, CM_WORKER_SIZE='1')) == (0, 1)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(RANK_SIZE='0'), 'RANK_SIZE=0'),
        (dict(RANK_SIZE=''), 'RANK_SIZE=: give a whole number'),
        (dict(RANK_SIZE='-2'), 'RANK_SIZE=-2: give a whole number, 0 or more'),
        (dict(RANK_SIZE='eight'), 'RANK_SIZE=eight: give a whole number'),
        (dict(RANK_ID='8'), 'RANK_ID=8: with RANK_SIZE=8 legal are 0 to 7'),
        (dict(RANK_ID='npu8p'), 'RANK_ID=npu8p: give a whole number'),
        (dict(RANK_ID=None), 'RANK_ID is not; python -m hccl.launch'),
        (
            dict(RANK_TABLE_FILE=None),
            'RANK_SIZE=8 but RANK_TABLE_FILE is not set; python -m hccl.launch',
        ),
        (
            dict(RANK_TABLE_FILE='/no/such.json'),
            'RANK_TABLE_FILE=/no/such.json: no such file; python -m hccl.rank_table',
        ),
        (dict(DEVICE_ID='1', ASCEND_DEVICE_ID='2'), 'DEVICE_ID=1 and ASCEND_DEVICE_ID=2 disagree'),
        (dict(DEVICE_ID='one'), 'DEVICE_ID=one: give a whole number'),
        (dict(ASCEND_DEVICE_ID='-1'), 'ASCEND_DEVICE_ID=-1: give a whole number'),
        (dict(HCCL_CONNECT_TIMEOUT='119'), 'HCCL_CONNECT_TIMEOUT=119: legal are 120 to 7200'),
        (dict(HCCL_CONNECT_TIMEOUT='7201'), 'HCCL_CONNECT_TIMEOUT=7201'),
        (dict(HCCL_CONNECT_TIMEOUT='10m'), 'HCCL_CONNECT_TIMEOUT=10m'),
        (dict(TF_CONFIG='{"cluster": {"ps": ["a:1"]}}'), 'TF_CONFIG names a cluster'),
    ],
)
def test_each_wrong_setting_is_named(table, change, message):
    env = dict({'RANK_TABLE_FILE': table, 'RANK_ID': '0', 'RANK_SIZE': '8'}, **change)
    with pytest.raises(UserError) as error:
        npu.environment({name: value for name, value in env.items() if value is not None})
    assert message in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(RANK_TABLE_FILE='t.json'), 'CM_CHIEF_IP and RANK_TABLE_FILE are both set'),
        (dict(RANK_ID='0'), 'CM_CHIEF_IP and RANK_ID are both set'),
        (dict(RANK_SIZE='16'), 'CM_CHIEF_IP and RANK_SIZE are both set'),
        (
            dict(RANK_SIZE=''),
            'CM_CHIEF_IP and RANK_SIZE are both set',
        ),  # the adapter takes an empty one for set
        (dict(CM_CHIEF_PORT='65521'), 'CM_CHIEF_PORT=65521: legal are 0 to 65520'),
        (dict(CM_WORKER_SIZE='many'), 'CM_WORKER_SIZE=many: give a whole number'),
        (dict(CM_WORKER_SIZE='0'), 'CM_WORKER_SIZE=0'),
        (dict(CM_CHIEF_DEVICE='first'), 'CM_CHIEF_DEVICE=first'),
        (dict(HCCL_CONNECT_TIMEOUT='5'), 'HCCL_CONNECT_TIMEOUT=5: legal'),
        (dict(DEVICE_ID='1', ASCEND_DEVICE_ID='2'), 'disagree'),
    ]
    + [
        ({name: None}, 'CM_WORKER_SIZE and CM_WORKER_IP must all be'.split(' and')[0])
        for name in CM
    ],
)
def test_each_wrong_setting_without_a_table_is_named(change, message):
    env = {name: value for name, value in dict(CM, **change).items() if value is not None}
    with pytest.raises(UserError) as error:
        npu.environment(env)
    assert message in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
    'job, legal',
    [
        ('1', True),
        ('a_B-9', True),
        ('10', True),
        ('0', False),
        ('007', False),
        ('a b', False),
        ('a.b', False),
    ],
)
def test_job_id(monkeypatch, job, legal):
    monkeypatch.setenv('JOB_ID', job)
    if legal:
        npu._job_id()
    else:
        with pytest.raises(UserError, match='JOB_ID=%s: legal are letters' % job):
            npu._job_id()


def test_a_job_without_an_id_gets_one(monkeypatch):
    monkeypatch.setenv('JOB_ID', 'x')
    monkeypatch.delenv('JOB_ID')
    npu._job_id()
    assert os.environ['JOB_ID'].startswith('local')


# Options


@pytest.mark.parametrize(
    'flags, message',
    [
        (
            ['--op_select_implmode', 'high_accuracy'],
            'op_select_implmode: .high_accuracy. is not legal; give .*high_precision',
        ),
        (
            ['--precision_mode', 'allow_mix_precison'],
            "precision_mode: .*did you mean 'allow_mix_precision'",
        ),
        (['--precision_mode_v2', 'mixed'], 'precision_mode_v2: .*mixed_float16'),
        (
            ['--precision_mode', 'force_fp32', '--precision_mode_v2', 'origin'],
            'precision_mode and precision_mode_v2: give one',
        ),
        (
            ['--precision', 'mixed', '--precision_mode', 'force_fp32', '--modify_mixlist', 'F'],
            'modify_mixlist: needs mixed precision .*force_fp32',
        ),
        (
            ['--precision', 'float32', '--modify_mixlist', 'F'],
            'modify_mixlist: needs mixed precision .*allow_fp32_to_fp16',
        ),
        (
            ['--precision_mode_v2', 'fp16', '--modify_mixlist', 'F'],
            'modify_mixlist: needs mixed precision .*found fp16',
        ),
        (['--modify_mixlist', '/no/such.json'], 'modify_mixlist /no/such.json: No such file'),
        (['--over_dump', 'a', '--data_dump', 'b'], 'over_dump and data_dump: give one'),
        (['--dump_step', '5'], 'dump_step: it chooses steps of --data_dump'),
        (
            ['--iterations_per_loop', '0'],
            'iterations_per_loop: .0. is not legal; give a whole number above 0',
        ),
        (
            ['--iterations_per_loop', '4', '--enable_data_pre_proc', 'False'],
            'iterations_per_loop 4: needs --enable_data_pre_proc True',
        ),
        (['--deterministic', '2'], 'deterministic: 2 is not legal; give 0 or 1'),
        (['--aoe_mode', '3'], 'aoe_mode: .3. is not legal; give 1 or 2 or 4 or mdat'),
        (
            ['--op_compiler_cache_mode', 'on'],
            'op_compiler_cache_mode: .on. is not legal; give disable or enable or force',
        ),
        (['--graph_memory_max_size', '-1'], 'graph_memory_max_size: .*above 0'),
        (['--hccl_split', 'sise 50,50'], "hccl_split: 'sise 50,50' is not legal"),
    ],
)
def test_illegal_options_are_refused_before_anything_starts(flags, message):
    with pytest.raises(UserError, match=message):
        parsed(*flags)


@pytest.mark.parametrize(
    'text, legal',
    [
        ('0', True),
        ('0|5|10', True),
        ('0|5|10-20', True),
        ('|'.join(map(str, range(100))), True),
        ('|'.join(map(str, range(101))), False),
        ('10-5', False),
        ('5-5', False),
        ('5-', False),
        ('-5', False),
        ('1,2', False),
        ('1|', False),
        ('all', False),
        ('1-2-3', False),
    ],
)
def test_dump_steps(text, legal):
    """The adapter's grammar; it aborts the process where this is a UserError."""
    if legal:
        assert parsed('--dump_step=' + text, '--data_dump', 'd').dump_step == text
    else:
        with pytest.raises(UserError, match='dump_step'):
            parsed('--dump_step=' + text, '--data_dump', 'd')


@pytest.mark.parametrize(
    'text, legal',
    [
        (
            (
                '{"black-list": {"to-add": ["ReduceSumD"], "to-remove": []}, "white-list":'
                ' {"to-add": []}, "gray-list": {}}'
            ),
            True,
        ),
        ('{}', True),
        ('{"black-list": {"to-add": [}', False),
        ('{} // a comment', False),
        ('[]', False),
        ('{"blacklist": {}}', False),
        ('{"black-list": ["ReduceSumD"]}', False),
        ('{"black-list": {"add": []}}', False),
    ],
)
def test_mixlists(tmp_path, text, legal):
    path = tmp_path / 'mixlist.json'
    path.write_text(text)
    for flags in (
        [],
        ['--precision_mode_v2', 'mixed_float16'],
        ['--precision_mode', 'allow_mix_precision_fp16'],
    ):
        if legal:
            assert parsed('--modify_mixlist', path, *flags).modify_mixlist == str(path)
        else:
            with pytest.raises(UserError, match='modify_mixlist .*mixlist.json'):
                parsed('--modify_mixlist', path, *flags)


@pytest.mark.parametrize(
    'flags, name, value, mixed',
    [
        ([], 'precision_mode', 'allow_mix_precision', True),
        (['--precision', 'mixed'], 'precision_mode', 'allow_mix_precision', True),
        (['--precision', 'float32'], 'precision_mode', 'allow_fp32_to_fp16', False),
        (
            ['--precision_mode', 'must_keep_origin_dtype'],
            'precision_mode',
            'must_keep_origin_dtype',
            False,
        ),
        (
            ['--precision', 'float32', '--precision_mode_v2', 'mixed_float16'],
            'precision_mode_v2',
            'mixed_float16',
            True,
        ),
        (['--precision_mode_v2', 'origin'], 'precision_mode_v2', 'origin', False),
    ],
)
def test_precision(flags, name, value, mixed):
    cfg = parsed(*flags)
    assert npu.precision(cfg) == {name: value} and npu.is_mixed(cfg) is mixed


# Sessions of one's own


def entry(session_config):
    """{option: (field of the union, value)} of the NpuOptimizer."""
    rewrite = session_config.graph_options.rewrite_options
    assert (rewrite.remapping, rewrite.memory_optimization) == (
        OFF,
        OFF,
    ) and session_config.allow_soft_placement
    (item,) = rewrite.custom_optimizers
    assert item.name == 'NpuOptimizer'
    return {
        name: (value.WhichOneof('value'), getattr(value, value.WhichOneof('value')))
        for name, value in item.parameter_map.items()
    }


def test_a_plain_session():
    assert entry(npu.session_config()) == {
        'use_off_line': ('b', True),
        'iterations_per_loop': ('i', 1),
        'graph_run_mode': ('i', 1),
        'precision_mode': ('s', b'allow_mix_precision'),
        'enable_data_pre_proc': ('b', True),
        'hcom_parallel': ('b', True),
    }


def test_every_option_is_in_the_field_that_the_adapter_reads(tmp_path):
    (tmp_path / 'mixlist.json').write_text('{}')
    cfg = parsed(
        '--modify_mixlist',
        tmp_path / 'mixlist.json',
        '--op_select_implmode',
        'high_precision',
        '--op_compiler_cache_mode',
        'enable',
        '--op_compiler_cache_dir',
        tmp_path / 'cache',
        '--aoe_mode',
        '4',
        '--graph_memory_max_size',
        2**34,
        '--variable_memory_max_size',
        2**33,
        '--deterministic',
        '1',
        '--hcom_parallel',
        'False',
        '--enable_data_pre_proc',
        'False',
        '--profiling',
        tmp_path / 'profile',
        '--data_dump',
        tmp_path / 'dump',
        '--dump_step',
        '0|5',
        '--precision_mode',
        'allow_mix_precision',
    )
    found = entry(npu.session_config(cfg, iterations_per_loop=10))
    profile = json.loads(found.pop('profiling_options')[1].decode())
    assert found == {
        'use_off_line': ('b', True),
        'iterations_per_loop': ('i', 10),
        'graph_run_mode': ('i', 1),
        'precision_mode': ('s', b'allow_mix_precision'),
        'modify_mixlist': ('s', bytes(tmp_path / 'mixlist.json')),
        'op_select_implmode': ('s', b'high_precision'),
        'op_compiler_cache_mode': ('s', b'enable'),
        'op_compiler_cache_dir': ('s', bytes(tmp_path / 'cache')),
        'aoe_mode': ('s', b'4'),
        'graph_memory_max_size': ('s', b'17179869184'),
        'variable_memory_max_size': ('s', b'8589934592'),
        'deterministic': ('i', 1),
        'hcom_parallel': ('b', False),
        'enable_data_pre_proc': ('b', False),
        'profiling_mode': ('b', True),
        'enable_dump': ('b', True),
        'dump_path': ('s', bytes(tmp_path / 'dump')),
        'dump_step': ('s', b'0|5'),
        'dump_mode': ('s', b'output'),
    }
    assert (
        profile['output'] == str(tmp_path / 'profile')
        and profile['training_trace'] == profile['task_trace'] == profile['hccl'] == 'on'
    )
    assert all(
        (tmp_path / name).is_dir() for name in ('cache', 'profile', 'dump')
    )  # the adapter wants them to exist


def test_overflow_dumps_and_the_other_precision(tmp_path):
    found = entry(
        npu.session_config(
            parsed('--over_dump', tmp_path / 'over', '--precision_mode_v2', 'mixed_float16')
        )
    )
    assert found['enable_dump_debug'] == ('b', True) and found['dump_debug_mode'] == ('s', b'all')
    assert (
        found['dump_path'] == ('s', bytes(tmp_path / 'over'))
        and 'enable_dump' not in found
        and 'dump_step' not in found
    )
    assert found['precision_mode_v2'] == ('s', b'mixed_float16') and 'precision_mode' not in found


def test_a_session_with_illegal_options_is_refused():
    with pytest.raises(UserError, match='give one'):
        npu.session_config(Config(precision_mode='force_fp32', precision_mode_v2='origin'))


def test_arguments_that_an_older_adapter_lacks_are_left_out_with_a_warning(capsys):
    def old(self, a, b=1):
        pass

    assert (
        npu.supported(old, {'a': 1, 'b': 2}) == {'a': 1, 'b': 2} and capsys.readouterr().err == ''
    )
    assert npu.supported(old, {'a': 1, 'd': 3, 'c': 2}) == {'a': 1}
    assert capsys.readouterr().err == 'warning: this adapter has no c, d; left out\n'


# Gradient segments


@pytest.mark.parametrize(
    'text, numbers',
    [
        ('index 20,100,159', [20, 100, 159]),
        ('index 159', [159]),
        ('size 60,20,20', [60, 20, 20]),
        ('size 96.54,3.46', [96.54, 3.46]),
        ('index 0,1,2,3,4,5,6,159', [0, 1, 2, 3, 4, 5, 6, 159]),
    ],
)
def test_split(text, numbers):
    assert npu_options.split(text, 160) == npu_options.split(text) == numbers


@pytest.mark.parametrize(
    'text, message',
    [
        ('index 20,20,159', 'must ascend'),
        ('index 20,10', 'must ascend'),
        ('index 20,100', 'last gradient, 159'),
        ('index 20,160', 'last gradient, 159'),
        ('size 50,40', 'sum to 90'),
        ('size 60,60', 'sum to 120'),
        ('index 0,1,2,3,4,5,6,7,159', '9 segments; HCCL takes at most 8'),
        ('index 1.5,159', 'not all of it are numbers'),
        ('index', 'is not legal'),
        ('20,159', 'is not legal'),
        ('index -1,159', 'is not legal'),
        ('size 1..5,98.5', 'not all of it are numbers'),
        ('size 100,0', 'above 0'),
    ],
)
def test_illegal_splits(text, message):
    with pytest.raises(UserError, match=message):
        npu_options.split(text, 160)


def test_auto_split_hides_what_it_can():
    """The last segment, which nothing hides, is as large as it may be: at most 3.46 % of the
    elements, in whole gradients.
    """
    random = np.random.RandomState(0)
    for _ in range(50):
        sizes = random.randint(1, 10**6, random.randint(2, 60)).tolist()
        numbers = npu_options.split(npu_options.auto_split(sizes), len(sizes))
        if len(numbers) == 2:
            tail = sum(sizes[numbers[0] + 1 :]) / sum(sizes)
            assert 0 < tail <= 0.0346 < tail + sizes[numbers[0]] / sum(sizes)
        else:
            assert numbers == [len(sizes) - 1] and sizes[-1] / sum(sizes) > 0.0346


# Loops


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
    assert (
        loops({'log_interval': 10, 'checkpoints': 20}, capsys, enable_data_pre_proc=False)[0] == 1
    )


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
    assert [
        array.tolist() for array in device.sum_over_ranks([np.array(2**60 + 1), np.float64([0.1])])
    ] == [2**60 + 1, [0.1]]
    tensor = tf.constant(1.0)
    assert device.allreduce_sum(tensor, 'x') is tensor and device.broadcast_hooks(True) == []
