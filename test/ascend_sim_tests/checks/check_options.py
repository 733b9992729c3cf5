"""NPURunConfig, NPUEstimator's constructor, and the parameter_map with its exceptions and its
aborts.
"""

import inspect

import pytest
import tensorflow.compat.v1 as tf
from ascend_sim import options
from npu_bridge.estimator.npu.npu_config import (
    DumpConfig,
    DynamicInputConfig,
    MemoryConfig,
    NPURunConfig,
    ProfilingConfig,
)
from npu_bridge.estimator.npu.npu_estimator import NPUEstimator, NPUEstimatorSpec


def model_fn(features, labels, mode):
    raise AssertionError('the constructor does not call it')


def parameters(config):
    """The parameter_map that an NPUEstimator makes of a config."""
    estimator = NPUEstimator(model_fn=model_fn, config=config)
    return estimator._session_config.graph_options.rewrite_options.custom_optimizers[
        0
    ].parameter_map


@pytest.mark.parametrize(
    'error, text, given',
    [
        (TypeError, 'iterations_per_loop must be int', {'iterations_per_loop': 1.0}),
        (ValueError, 'iterations_per_loop must be positive, got 0', {'iterations_per_loop': 0}),
        (TypeError, '"mix_compile_mode" type must be bool', {'mix_compile_mode': 1}),
        (
            ValueError,
            '"iterations_per_loop" must be 1 with "mix_compile_mode" is True',
            {'mix_compile_mode': True, 'iterations_per_loop': 2},
        ),
        (TypeError, 'Expected str, got bool', {'jit_compile': True}),
        (ValueError, '"horovod_mode" type must be bool', {'horovod_mode': 1}),
        (ValueError, '"graph_run_mode" value must be 0 or 1', {'graph_run_mode': 2}),
        (ValueError, 'graph_run_mode must be nonnegative', {'graph_run_mode': -1}),
        (ValueError, '`dump_config` must be provided with type `DumpConfig`', {'dump_config': {}}),
        (
            ValueError,
            '`experimental_config` must be provided with type `ExperimentalConfig`',
            {'experimental_config': {}},
        ),
        (
            ValueError,
            'dynamic_input_config must be provided with type DynamicInputConfig',
            {'dynamic_input_config': ()},
        ),
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
    assert (
        config.save_checkpoints_steps,
        config.save_summary_steps,
        config.keep_checkpoint_max,
    ) == (100, 0, 5)
    assert NPURunConfig(save_checkpoints_secs=5).save_checkpoints_steps is None
    assert list(inspect.signature(NPURunConfig.__init__).parameters)[:3] == [
        'self',
        'iterations_per_loop',
        'profiling_config',
    ]


def check_estimator_constructor(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='`config` must be provided with type `NPUConfigs`'):
        NPUEstimator(model_fn=model_fn, config=tf.estimator.RunConfig())
    with pytest.raises(
        ValueError,
        match='model_dir are set both in NPUEstimator and NPURunConfig, but with different values',
    ):
        NPUEstimator(model_fn=model_fn, model_dir='a', config=NPURunConfig(model_dir='b'))
    with pytest.raises(
        ValueError, match='save_checkpoints_steps=10 is no multiple of iterations_per_loop=4'
    ):
        NPUEstimator(
            model_fn=model_fn,
            config=NPURunConfig(iterations_per_loop=4, save_checkpoints_steps=10, model_dir='a'),
        )
    monkeypatch.chdir(tmp_path)
    made = NPUEstimator(model_fn=model_fn, config=NPURunConfig())
    assert 'model_dir_' in made.model_dir and (tmp_path / made.model_dir).is_dir()
    with pytest.raises(ValueError, match='7 steps are no multiple of iterations_per_loop=5'):
        NPUEstimator(
            model_fn=model_fn, model_dir='a', config=NPURunConfig(iterations_per_loop=5)
        ).train(lambda: None, steps=7)


def check_job_id(monkeypatch):
    monkeypatch.delenv('JOB_ID')
    with pytest.raises(
        ValueError,
        match='Load job info failed, please check whether `JOB_ID` is set in environment variable',
    ):
        NPUEstimator(model_fn=model_fn, model_dir='a', config=NPURunConfig())


def check_estimator_parameters(tmp_path):
    found = parameters(
        NPURunConfig(
            model_dir='a',
            precision_mode='allow_mix_precision',
            iterations_per_loop=10,
            hcom_parallel=False,
            graph_memory_max_size=1024,
            modify_mixlist='x.json',
            session_device_id=3,
            dump_config=DumpConfig(enable_dump=True, dump_path=str(tmp_path)),
            memory_config=MemoryConfig(atomic_clean_policy=1),
            profiling_config=ProfilingConfig(True, '{}'),
            dynamic_input_config=DynamicInputConfig('x:-1', '1;2', 0),
        )
    )
    assert found['precision_mode'].s == b'allow_mix_precision' and 'precision_mode_v2' not in found
    assert (
        found['iterations_per_loop'].i == 10
        and found['session_device_id'].i == 3
        and found['atomic_clean_policy'].i == 1
    )
    assert (
        found['enable_data_pre_proc'].b
        and found['use_off_line'].b
        and not found['hcom_parallel'].b
        and found['profiling_mode'].b
    )
    assert (
        found['graph_memory_max_size'].s == b'1024'
        and found['dump_path'].s == str(tmp_path).encode()
        and found['dump_mode'].s == b'output'
    )
    assert (
        found['job'].s == b'localhost'
        and found['jit_compile'].s == b'auto'
        and found['dynamic_dims'].s == b'1;2'
    )
    assert (
        'op_debug_level' not in found and 'dynamic_input' not in found and 'aoe_mode' not in found
    )
    with pytest.raises(TypeError):  # written as str into a bytes field
        parameters(NPURunConfig(model_dir='a', insert_op_file='x'))
    rewrite = NPUEstimator(
        model_fn=model_fn, model_dir='a', config=NPURunConfig()
    )._session_config.graph_options.rewrite_options
    assert list(rewrite.optimizers) == [
        'pruning',
        'function',
        'constfold',
        'shape',
        'arithmetic',
        'loop',
        'dependency',
        'layout',
        'GradFusionOptimizer',
    ]
    assert (
        options.validate(
            NPUEstimator(model_fn=model_fn, model_dir='a', config=NPURunConfig())._session_config
        ).iterations_per_loop
        == 1
    )


def check_estimator_spec():
    with pytest.raises(ValueError, match='host_call should have two elements'):
        NPUEstimatorSpec('eval', loss=tf.constant(1.0), host_call=(len,))
    assert isinstance(NPUEstimatorSpec('eval', loss=tf.constant(1.0)), tf.estimator.EstimatorSpec)


@pytest.mark.parametrize(
    'error, text, given',
    [
        (
            tf.errors.InvalidArgumentError,
            (
                "'bogus' is invalid, it should be one of the list:\\['force_fp32',"
                " 'allow_fp32_to_fp16', "
            ),
            {'precision_mode': 'bogus'},
        ),
        (
            tf.errors.InvalidArgumentError,
            "'' is invalid",
            {'precision_mode': 1},
        ),  # the wrong field reads as ""
        (tf.errors.InvalidArgumentError, "'bf' is invalid", {'precision_mode_v2': 'bf'}),
        (
            tf.errors.InternalError,
            "'precision_mode' and 'precision_mode_v2' can not be assigned at the same time.",
            {'precision_mode': 'force_fp32', 'precision_mode_v2': 'fp16'},
        ),
        (
            tf.errors.InternalError,
            'not supported by Ascend910A',
            {'precision_mode': 'allow_mix_precision_bf16'},
        ),
        (
            tf.errors.InvalidArgumentError,
            'The data type of jit_compile is invalid. Expected string type.',
            {'jit_compile': True},
        ),
        (tf.errors.InvalidArgumentError, "'yes' is invalid", {'jit_compile': 'yes'}),
        (tf.errors.InternalError, 'aoe mode:9 is invalid', {'aoe_mode': '9'}),
        (
            tf.errors.InternalError,
            'the path /no/such is not directory.',
            {'enable_dump': True, 'dump_path': '/no/such'},
        ),
        (
            tf.errors.InternalError,
            'if use dump function, dump_path must be set.',
            {'enable_dump_debug': True},
        ),
        (
            tf.errors.InternalError,
            'modify_mixlist is assigned, please ensure that precision_mode is assigned to',
            {'modify_mixlist': 'x', 'precision_mode': 'force_fp16'},
        ),
        (
            tf.errors.InternalError,
            "precision_mode_v2 is assigned to 'mixed_float16'",
            {'modify_mixlist': 'x', 'precision_mode_v2': 'fp16'},
        ),
        (tf.errors.InternalError, 'precision_mode only can be assigned', {'modify_mixlist': 'x'}),
        (
            tf.errors.InternalError,
            'enable_exception_dump should be one of 0, 1 and 2.',
            {'enable_exception_dump': 3},
        ),
        (tf.errors.InternalError, "dump_data should be 'tensor' or 'stats'.", {'dump_data': 'all'}),
        (
            tf.errors.InvalidArgumentError,
            'iterations_per_loop only support 1 in lazy_recompile mode. Current is:2',
            {
                'dynamic_input': True,
                'dynamic_graph_execute_mode': 'lazy_recompile',
                'iterations_per_loop': 2,
            },
        ),
    ],
)
def check_parameter_map_refused(make_config, error, text, given):
    with pytest.raises(error, match=text):
        options.validate(make_config(**given))


@pytest.mark.parametrize(
    'text, given',
    [
        ('iterator_per_loop should be int and must >= 1', {'iterations_per_loop': 0}),
        ('op select impl mode should be one of the list', {'op_select_implmode': 'fast'}),
        ('op_select_implmode must be set', {'optypelist_for_implmode': 'Conv2D'}),
        ('graph_run_mode value must be 0 or 1', {'graph_run_mode': 2}),
        ('buffer_optimize is valid, should be one of', {'buffer_optimize': 'l3'}),
        (
            'dynamic_graph_execute_mode should be',
            {'dynamic_input': True, 'dynamic_graph_execute_mode': 'x'},
        ),
        (
            'variable placement should be one of the list:[Host, Device]',
            {'variable_placement': 'Moon'},
        ),
        (
            'enable_compress_weight can not use with compress_weight_conf.',
            {'enable_compress_weight': False, 'compress_weight_conf': 'x'},
        ),
        ('session_device_id must be nonnegative integer.', {'session_device_id': -1}),
        ('local rank id should be in [0,7]', {'local_rank_id': 8}),
        ('local_device_list style is invalid', {'local_device_list': '1;2'}),
        ('should use together', {'input_shape': 'x:-1'}),
        (
            'input_shape string style is invalid',
            {'input_shape': 'x:a', 'dynamic_dims': '1', 'dynamic_node_type': 0},
        ),
        (
            'dynamic_dims string style is invalid',
            {'input_shape': 'x:-1', 'dynamic_dims': '1,', 'dynamic_node_type': 0},
        ),
        ('task_index should be int and must >= 0', {'task_index': -1}),
        (
            "correct example:'0|5|10-20'",
            {'enable_dump': True, 'dump_path': '.', 'dump_step': '5-5'},
        ),
        (
            'dump_step string style is error',
            {'enable_dump': True, 'dump_path': '.', 'dump_step': 'a'},
        ),
        (
            'dump_step only support dump <= 100 sets',
            {'enable_dump': True, 'dump_path': '.', 'dump_step': '|'.join('1' * 101)},
        ),
        ('dump mode should be one of', {'enable_dump': True, 'dump_path': '.', 'dump_mode': 'x'}),
    ],
)
def check_parameter_map_aborts(make_config, dies, text, given):
    assert text in dies(lambda: options.validate(make_config(**given)))


def check_parameter_map_accepts(make_config):
    chosen = options.validate(
        make_config(
            no_such_key=1,
            op_debug_level=9,
            iterations_per_loop=5,
            enable_data_pre_proc=True,
            mix_compile_mode='True',
            precision_mode='allow_mix_precision',
            modify_mixlist='x',
            dump_mode='ignored without enable_dump',
            input_shape='data:1,-1;b:2',
            dynamic_dims='1,2;3',
            dynamic_node_type=1,
        )
    )
    assert chosen.iterations_per_loop == 5 and chosen.enable_data_pre_proc and chosen.sunk
    assert not chosen.mix_compile_mode  # a string in place of a bool is read as False
    assert not options.validate(make_config()).enable_data_pre_proc  # unlike NPURunConfig's default
    assert options.validate(tf.ConfigProto()) is None


@pytest.mark.parametrize('name', ['remapping', 'memory_optimization'])
def check_rewriting_must_be_off(make_config, name):
    config = make_config()
    setattr(config.graph_options.rewrite_options, name, 0)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=name + ' must be switched OFF explicitly'
    ):
        options.validate(config)
