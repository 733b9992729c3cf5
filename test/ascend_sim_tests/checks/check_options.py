"""NPURunConfig, NPUEstimator's constructor, and what the parameter_map may hold."""

import pytest
import tensorflow.compat.v1 as tf
from ascend_sim import options
from npu_bridge.estimator.npu.npu_config import DumpConfig, NPURunConfig, ProfilingConfig
from npu_bridge.estimator.npu.npu_estimator import NPUEstimator


def model_fn(features, labels, mode):
    raise AssertionError('the constructor does not call it')


def rewrite_options(**given):
    """The rewrite options that an NPUEstimator makes of a config."""
    estimator = NPUEstimator(model_fn=model_fn, config=NPURunConfig(model_dir='a', **given))
    return estimator._session_config.graph_options.rewrite_options


@pytest.mark.parametrize(
    'error, text, given',
    [
        (TypeError, 'iterations_per_loop must be int', {'iterations_per_loop': 1.0}),
        (ValueError, 'iterations_per_loop must be positive, got 0', {'iterations_per_loop': 0}),
        (TypeError, 'Expected str, got bool', {'jit_compile': True}),
        (ValueError, '`dump_config` must be provided with type `DumpConfig`', {'dump_config': 1}),
        (TypeError, 'unexpected keyword argument', {'precision': 'allow_mix_precision'}),
        (
            ValueError,
            'cannot be both set',
            {'save_checkpoints_steps': 1, 'save_checkpoints_secs': 1},
        ),
    ],
)
def check_run_config_refuses(error, text, given):
    with pytest.raises(error, match=text):
        NPURunConfig(**given)


def check_run_config_defaults():
    config = NPURunConfig()
    found = config.save_checkpoints_steps, config.save_summary_steps, config.keep_checkpoint_max
    assert found == (100, 0, 5)
    assert NPURunConfig(save_checkpoints_secs=5).save_checkpoints_steps is None


def check_estimator_constructor(monkeypatch):
    with pytest.raises(ValueError, match='`config` must be provided with type `NPUConfigs`'):
        NPUEstimator(model_fn=model_fn, config=tf.estimator.RunConfig())
    with pytest.raises(ValueError, match='save_checkpoints_steps: 10 is no multiple of iterations'):
        rewrite_options(iterations_per_loop=4, save_checkpoints_steps=10)
    with pytest.raises(NotImplementedError, match='horovod_mode=True'):
        rewrite_options(horovod_mode=True)
    monkeypatch.delenv('JOB_ID')
    with pytest.raises(ValueError, match='please check whether `JOB_ID` is set in environment'):
        rewrite_options()


def check_estimator_parameters(tmp_path):
    rewrite = rewrite_options(
        precision_mode='allow_mix_precision',
        iterations_per_loop=10,
        hcom_parallel=False,
        graph_memory_max_size='1024',
        dump_config=DumpConfig(enable_dump=True, dump_path=str(tmp_path)),
        profiling_config=ProfilingConfig(True, '{}'),
    )
    found = rewrite.custom_optimizers[0].parameter_map
    assert found['precision_mode'].s == b'allow_mix_precision' and 'precision_mode_v2' not in found
    assert found['iterations_per_loop'].i == 10 and found['graph_memory_max_size'].s == b'1024'
    flags = [found[name].b for name in ('enable_data_pre_proc', 'use_off_line', 'profiling_mode')]
    assert all(flags) and not found['hcom_parallel'].b
    assert found['dump_path'].s == str(tmp_path).encode() and found['dump_mode'].s == b'output'
    assert found['jit_compile'].s == b'auto' and 'aoe_mode' not in found
    assert (
        list(rewrite.optimizers)
        == (
            'pruning function constfold shape arithmetic loop dependency layout GradFusionOptimizer'
        ).split()
    )


@pytest.mark.parametrize(
    'error, text, given',
    [
        (
            'InvalidArgument',
            "'bogus' is invalid, .* the list:\\['force_",
            {'precision_mode': 'bogus'},
        ),
        ('InvalidArgument', "'' is invalid", {'precision_mode': 1}),  # the wrong field reads as ""
        ('InvalidArgument', "'bf' is invalid", {'precision_mode_v2': 'bf'}),
        (
            'Internal',
            "'precision_mode' and 'precision_mode_v2' can not be assigned at the same time.",
            {'precision_mode': 'force_fp32', 'precision_mode_v2': 'fp16'},
        ),
        ('Internal', 'not supported by Ascend910A', {'precision_mode': 'allow_mix_precision_bf16'}),
        ('InvalidArgument', 'jit_compile is invalid. Expected string', {'jit_compile': True}),
        ('InvalidArgument', "'yes' is invalid", {'jit_compile': 'yes'}),
        ('Internal', 'aoe mode:9 is invalid', {'aoe_mode': '9'}),
        (
            'Internal',
            'the path /no/such is not directory.',
            {'enable_dump': True, 'dump_path': '/no/such'},
        ),
        ('Internal', 'dump_path must be set.', {'enable_dump_debug': True}),
        (
            'Internal',
            'ensure that precision_mode is assigned to',
            {'modify_mixlist': 'x', 'precision_mode': 'force_fp16'},
        ),
        (
            'Internal',
            "precision_mode_v2 is assigned to 'mixed_float16'",
            {'modify_mixlist': 'x', 'precision_mode_v2': 'fp16'},
        ),
        ('Internal', 'ensure that precision_mode is assigned', {'modify_mixlist': 'x'}),
    ],
)
def check_parameter_map_refused(make_config, error, text, given):
    with pytest.raises(getattr(tf.errors, error + 'Error'), match=text):
        options.validate(make_config(**given))


DUMP = {'enable_dump': True, 'dump_path': '.'}


@pytest.mark.parametrize(
    'text, given',
    [
        ('iterator_per_loop should be int and must >= 1', {'iterations_per_loop': 0}),
        ('op select impl mode should be one of the list', {'op_select_implmode': 'fast'}),
        ('op_select_implmode must be set', {'optypelist_for_implmode': 'Conv2D'}),
        ('graph_run_mode value must be 0 or 1', {'graph_run_mode': 2}),
        ('dump_step string style is error', dict(DUMP, dump_step='5-5')),
        ('dump_step string style is error', dict(DUMP, dump_step='a')),
        ('only support dump <= 100 sets', dict(DUMP, dump_step='|'.join('1' * 101))),
        ('dump mode should be one of', dict(DUMP, dump_mode='x')),
    ],
)
def check_parameter_map_aborts(make_config, dies, text, given):
    assert text in dies(lambda: options.validate(make_config(**given)))


def check_parameter_map_accepts(make_config):
    chosen = options.validate(
        make_config(
            no_such_key=1,
            iterations_per_loop=5,
            enable_data_pre_proc='True',
            precision_mode='allow_mix_precision',
            modify_mixlist='x',
            dump_mode='ignored without enable_dump',
        )
    )
    assert chosen.iterations_per_loop == 5
    assert not chosen.enable_data_pre_proc  # a string in place of a bool is read as False
    assert options.validate(tf.ConfigProto()) is None


@pytest.mark.parametrize('name', ['remapping', 'memory_optimization'])
def check_rewriting_must_be_off(make_config, name):
    config = make_config()
    setattr(config.graph_options.rewrite_options, name, 0)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=name + ' must be switched OFF explicitly'
    ):
        options.validate(config)
