"""What the TF adapter is told: precision, and the ConfigProto of a training loop of one's own."""

import contextlib
import inspect
import json
import sys
import types

import pytest
import tensorflow as tf

from common.configuration import config
from common.configuration.settings import Config
from common.devices import npu_session
from common.errors import UserError

OFF = 2  # RewriterConfig.Toggle


def parsed(flags):
    return config.parse(Config, flags.split())


V1, V2 = 'precision_mode', 'precision_mode_v2'


@pytest.mark.parametrize(
    'flags, name, value, mixed',
    [
        ('', V1, 'allow_mix_precision', True),
        ('--precision mixed', V1, 'allow_mix_precision', True),
        ('--precision float32', V1, 'allow_fp32_to_fp16', False),
        ('--precision_mode must_keep_origin_dtype', V1, 'must_keep_origin_dtype', False),
        ('--precision float32 --precision_mode_v2 mixed_float16', V2, 'mixed_float16', True),
        ('--precision_mode_v2 origin', V2, 'origin', False),
    ],
)
def test_precision(flags, name, value, mixed):
    cfg = parsed(flags)
    options = npu_session.adapter_options(cfg)
    assert {key: options[key] for key in (V1, V2) if key in options} == {name: value}
    assert npu_session.is_mixed(cfg) is mixed


class DumpConfig:
    def __init__(
        self, enable_dump, dump_path, dump_step, dump_mode, enable_dump_debug, dump_debug_mode
    ):
        pass


def constructor(**defaults):
    """NPURunConfig.__init__ of a release: what every release has, and `defaults`."""

    def init(self, **given):
        pass

    names = (
        'precision_mode hcom_parallel enable_data_pre_proc modify_mixlist op_select_implmode'
        ' op_compiler_cache_mode op_compiler_cache_dir aoe_mode fusion_switch_file'
        ' enable_small_channel graph_memory_max_size variable_memory_max_size'.split()
    )
    init.__signature__ = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in dict(dict.fromkeys(names), **defaults).items()
        ]
    )
    return init


r1_5_0 = constructor()
r1_10_0 = constructor(topo_sorting_mode=None, jit_compile=True)
r1_11_0 = constructor(op_precision_mode=None, customize_dtypes=None, jit_compile=False)
r1_13_0 = constructor(
    op_precision_mode=None,
    customize_dtypes=None,
    deterministic=0,
    topo_sorting_mode=None,
    precision_mode_v2=None,
    jit_compile='auto',
)


@pytest.fixture(autouse=True)
def adapter(monkeypatch):
    """adapter(constructor): an npu_bridge whose NPURunConfig has this one; else that of r1.13.0."""

    def install(made):
        module = types.ModuleType('npu_config')
        module.NPURunConfig = type('NPURunConfig', (), {'__init__': made})
        module.DumpConfig = DumpConfig
        for name in ('', '.estimator', '.estimator.npu', '.estimator.npu.npu_config'):
            monkeypatch.setitem(sys.modules, 'npu_bridge' + name, module)

    install(r1_13_0)
    return install


def entry(session_config):
    """{option: (field of the union, value)} of the NpuOptimizer."""
    rewrite = session_config.graph_options.rewrite_options
    assert (rewrite.remapping, rewrite.memory_optimization) == (OFF, OFF)
    assert session_config.allow_soft_placement
    (item,) = rewrite.custom_optimizers
    assert item.name == 'NpuOptimizer'
    return {
        name: (value.WhichOneof('value'), getattr(value, value.WhichOneof('value')))
        for name, value in item.parameter_map.items()
    }


def test_one_core_gets_two_threads(monkeypatch):
    """The adapter's iterator blocks one and waits for another."""
    monkeypatch.setattr(npu_session.host, 'cores', lambda: 1)
    for made in (npu_session.host_config(), npu_session.session_config()):
        assert made.inter_op_parallelism_threads == 2
    monkeypatch.setattr(npu_session.host, 'cores', lambda: 24)
    assert npu_session.session_config().inter_op_parallelism_threads == 24


def test_a_plain_session():
    assert entry(npu_session.session_config()) == {
        'use_off_line': ('b', True),
        'iterations_per_loop': ('i', 1),
        'graph_run_mode': ('i', 1),
        'precision_mode': ('s', b'allow_mix_precision'),
        'hcom_parallel': ('b', True),
        'op_compiler_cache_mode': ('s', b'enable'),
    }
    looped = entry(npu_session.session_config(iterations_per_loop=2))
    assert looped['enable_data_pre_proc'] == ('b', True)  # loops need it


def test_every_option_is_in_the_field_that_the_adapter_reads(tmp_path):
    for name in ('mixlist.json', 'fusion.json', 'precision.ini', 'types.cfg'):
        (tmp_path / name).write_text('{}')
    flags = (
        ' --fusion_switch_file {0}/fusion.json --op_precision_mode {0}/precision.ini'
        ' --customize_dtypes {0}/types.cfg --enable_small_channel True'
        ' --modify_mixlist {0}/mixlist.json --op_select_implmode high_precision'
        ' --op_compiler_cache_mode enable --op_compiler_cache_dir {0}/cache --aoe_mode 4'
        ' --graph_memory_max_size 17179869184 --variable_memory_max_size 8589934592'
        ' --deterministic 1 --hcom_parallel False --enable_data_pre_proc False'
        ' --profiling {0}/profile --data_dump {0}/dump --dump_step 0|5'
        ' --precision_mode allow_mix_precision'
    )
    cfg = parsed(flags.format(tmp_path))
    found = entry(npu_session.session_config(cfg, iterations_per_loop=10))
    profile = json.loads(found.pop('profiling_options')[1].decode())
    assert found == {
        'use_off_line': ('b', True),
        'iterations_per_loop': ('i', 10),
        'graph_run_mode': ('i', 1),
        'precision_mode': ('s', b'allow_mix_precision'),
        'modify_mixlist': ('s', bytes(tmp_path / 'mixlist.json')),
        'fusion_switch_file': ('s', bytes(tmp_path / 'fusion.json')),
        'op_precision_mode': ('s', bytes(tmp_path / 'precision.ini')),
        'customize_dtypes': ('s', bytes(tmp_path / 'types.cfg')),
        'enable_small_channel': ('i', 1),
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
    assert profile['output'] == str(tmp_path / 'profile')
    assert profile['training_trace'] == profile['task_trace'] == profile['hccl'] == 'on'
    # The adapter wants them to exist.
    assert all((tmp_path / name).is_dir() for name in ('cache', 'profile', 'dump'))


@pytest.mark.parametrize(
    'mode, expected',
    [
        ('fp16', 'force_fp16'),
        ('origin', 'must_keep_origin_dtype'),
        ('cube_fp16in_fp32out', 'cube_fp16in_fp32out'),
        ('mixed_float16', 'allow_mix_precision'),
    ],
)
def test_an_older_adapter_gets_the_older_name_of_a_precision(mode, expected, adapter, capsys):
    adapter(r1_11_0)
    found = entry(npu_session.session_config(parsed('--precision_mode_v2 ' + mode)))
    assert found['precision_mode'] == ('s', expected.encode()) and 'precision_mode_v2' not in found
    said = 'precision_mode_v2 %s is precision_mode %s on this adapter\n' % (mode, expected)
    assert capsys.readouterr().err == said
    older = {'precision_mode': expected}
    assert npu_session.supported(r1_11_0, {'precision_mode_v2': mode}) == older


def test_a_precision_that_an_older_adapter_lacks_is_refused(adapter):
    adapter(r1_11_0)
    with pytest.raises(UserError, match='precision_mode_v2 mixed_bfloat16: .*older than r1.13.0'):
        npu_session.session_config(parsed('--precision_mode_v2 mixed_bfloat16'))


FP16 = '--modify_mixlist mixlist --precision_mode allow_mix_precision_fp16'


@pytest.mark.parametrize(
    'made, flags, message',
    [
        # SetNpuOptimizerAttr of npu_attrs.cc, r1.12.0: '... precision_mode is assigned to
        # 'allow_mix_precision'.'; r1.13.0 names 'allow_mix_precision_fp16' and '_bf16' too.
        (r1_10_0, FP16, 'modify_mixlist: before r1.13.0 .*found allow_mix_precision_fp16'),
        (r1_10_0, '--modify_mixlist mixlist --precision_mode_v2 mixed_float16', None),
        (r1_13_0, FP16, None),
        # CheckAoeMode: {'1', '2', '3', '4'} to r1.9.0, with 'mdat' from r1.10.0.
        (r1_5_0, '--aoe_mode mdat', 'aoe_mode mdat: .* older than r1.10.0; give 1, 2 or 4'),
        (r1_5_0, '--aoe_mode 2', None),
        (r1_10_0, '--aoe_mode mdat', None),
    ],
)
def test_words_that_an_older_adapter_refuses(made, flags, message, adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mixlist').write_text('{}')
    adapter(made)
    expected = pytest.raises(UserError, match=message) if message else contextlib.nullcontext()
    with expected:
        npu_session.session_config(parsed(flags))


def test_jit_compile_is_a_bool_to_some_adapters(adapter):
    for made, mode, expected in (
        (r1_13_0, 'false', ('s', b'false')),
        (r1_13_0, 'auto', ('s', b'auto')),
        (r1_11_0, 'true', ('b', True)),
        (r1_11_0, 'auto', None),
    ):
        adapter(made)
        found = entry(npu_session.session_config(parsed('--jit_compile ' + mode)))
        assert found.get('jit_compile') == expected


def test_overflow_dumps_and_the_other_precision(tmp_path):
    cfg = parsed('--over_dump %s/over --precision_mode_v2 mixed_float16' % tmp_path)
    found = entry(npu_session.session_config(cfg))
    assert found['enable_dump_debug'] == ('b', True) and found['dump_debug_mode'] == ('s', b'all')
    assert found['dump_path'] == ('s', bytes(tmp_path / 'over'))
    assert 'enable_dump' not in found and 'dump_step' not in found
    assert found['precision_mode_v2'] == ('s', b'mixed_float16') and 'precision_mode' not in found


@pytest.mark.parametrize('shape, legal', [([2048], False), ([2047], True), ([2, 32, 32], False)])
def test_a_loss_that_the_device_cannot_compile_is_refused(shape, legal):
    """ops/built-in/tbe/impl/one_hot_d.py of CANN, check_supported: not for (2048,)."""
    with tf.Graph().as_default() as graph:
        labels, logits = tf.zeros(shape, tf.int32), tf.zeros(shape + [3])
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    with contextlib.nullcontext() if legal else pytest.raises(UserError, match='exactly 2048'):
        npu_session.check_kernels(graph)


def test_a_session_with_illegal_options_is_refused():
    with pytest.raises(UserError, match='give one'):
        npu_session.session_config(Config(precision_mode='force_fp32', precision_mode_v2='origin'))


def test_arguments_that_an_older_adapter_lacks_are_left_out_with_a_warning(capsys):
    def old(self, a, b=1):
        pass

    assert npu_session.supported(old, {'a': 1, 'b': 2}) == {'a': 1, 'b': 2}
    assert capsys.readouterr().err == ''
    assert npu_session.supported(old, {'a': 1, 'd': 3, 'c': 2}) == {'a': 1}
    assert capsys.readouterr().err == 'warning: this adapter has no c, d; left out\n'


def test_a_session_leaves_out_what_an_older_adapter_lacks_with_the_same_warning(adapter, capsys):
    adapter(r1_5_0)
    cfg = parsed('--deterministic 1 --jit_compile false')
    assert sorted(entry(npu_session.session_config(cfg))) == [
        'graph_run_mode',
        'hcom_parallel',
        'iterations_per_loop',
        'op_compiler_cache_mode',
        'precision_mode',
        'use_off_line',
    ]
    assert capsys.readouterr().err == (
        'warning: this adapter has no deterministic, jit_compile; left out\n'
    )
