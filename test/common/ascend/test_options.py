"""The options of --device npu, refused before the adapter aborts on them."""

import numpy as np
import pytest

from common.ascend import options
from common.configuration import config
from common.configuration.settings import Config
from common.errors import UserError


def parsed(*flags):
    return config.parse(Config, [str(flag) for flag in flags])


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
        (
            ['--fusion_switch_file', '/no/such.json'],
            'fusion_switch_file /no/such.json: no such file',
        ),
        (['--jit_compile', 'yes'], 'jit_compile: .yes. is not legal; give true or false or auto'),
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
        (['--deterministic', '2'], 'deterministic: .2. is not legal; give 0 or 1'),
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
    assert options.split(text, 160) == options.split(text) == numbers


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
        ('index 1.5,159', 'something that is not a number'),
        ('index', 'is not legal'),
        ('20,159', 'is not legal'),
        ('index -1,159', 'is not legal'),
        ('size 1..5,98.5', 'something that is not a number'),
        ('size 100,0', 'above 0'),
    ],
)
def test_illegal_splits(text, message):
    with pytest.raises(UserError, match=message):
        options.split(text, 160)


def test_auto_split_hides_what_it_can():
    """The last segment, which nothing hides, is as large as it may be: at most 3.46 % of the
    elements, in whole gradients.
    """
    random = np.random.RandomState(0)
    for _ in range(50):
        sizes = random.randint(1, 10**6, random.randint(2, 60)).tolist()
        numbers = options.split(options.auto_split(sizes), len(sizes))
        if len(numbers) == 2:
            tail = sum(sizes[numbers[0] + 1 :]) / sum(sizes)
            assert 0 < tail <= 0.0346 < tail + sizes[numbers[0]] / sum(sizes)
        else:
            assert numbers == [len(sizes) - 1] and sizes[-1] / sum(sizes) > 0.0346


def test_tuning_needs_a_folder_to_write_to(tmp_path, monkeypatch):
    """Where the adapter aborts the process."""
    monkeypatch.chdir(tmp_path)
    parsed('--aoe_mode', '2').check_npu()
    monkeypatch.setattr('os.access', lambda path, mode: False)
    with pytest.raises(UserError, match='aoe_mode: .*%s, which is not writable' % tmp_path):
        parsed('--aoe_mode', '2').check_npu()


def test_options_of_the_npu_are_reported_on_other_devices():
    cfg = parsed('--deterministic', '1', '--hcom_parallel', 'False', '--batch_size', '3')
    assert cfg.ignored_on('cpu') == ['hcom_parallel, deterministic: no effect with device cpu']
    assert cfg.ignored_on('npu') == [] == parsed().ignored_on('cpu')
