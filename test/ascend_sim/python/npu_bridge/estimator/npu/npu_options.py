"""From an NPURunConfig to the NpuOptimizer parameter_map of a session; a part of npu_estimator in
the real package.
"""

import json
import os

import tensorflow.compat.v1 as tf
from ascend_sim import release

# TensorFlow's own optimisers that run besides the adapter's; `remap` and `memory` are not among
# them.
_OPTIMIZERS = [
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

# Field of the parameter_map -> options that are written whether None or not.
_ALWAYS = {
    'b': (
        'enable_data_pre_proc',
        'mix_compile_mode',
        'is_tailing_optimization',
        'hcom_parallel',
        'enable_compress_weight',
        'hcom_multi_mode',
        'external_weight',
        'frozen_variable',
        'enable_reduce_precision',
    ),
    'i': (
        'iterations_per_loop',
        'graph_run_mode',
        'enable_exception_dump',
        'enable_small_channel',
        'deterministic',
        'stream_sync_timeout',
        'event_sync_timeout',
    ),
    's': ('device_type', 'jit_compile', 'variable_placement'),
}
# ... and options that are written only if they are not None.
_IF_GIVEN = {
    'b': ('dynamic_input', 'variable_format_optimize'),
    'i': (
        'op_debug_level',
        'local_rank_id',
        'session_device_id',
        'hccl_timeout',
        'op_wait_timeout',
        'op_execute_timeout',
        'topo_sorting_mode',
    ),
    's': (
        'enable_scope_fusion_passes',
        'buffer_optimize',
        'fusion_switch_file',
        'compress_weight_conf',
        'op_compiler_cache_mode',
        'op_compiler_cache_dir',
        'debug_dir',
        'dynamic_graph_execute_mode',
        'dynamic_inputs_shape_range',
        'local_device_list',
        'soc_config',
        'HCCL_algorithm',
        'customize_dtypes',
        'op_debug_config',
        'es_cluster_config',
        'modify_mixlist',
        'op_precision_mode',
        'stream_max_parallel_num',
        'ac_parallel_enable',
        'op_select_implmode',
        'optypelist_for_implmode',
        'precision_mode',
        'precision_mode_v2',
        'aoe_config_file',
        'auto_tune_mode',
        'graph_memory_max_size',
        'variable_memory_max_size',
    ),
}


def fill(session_config, config):
    """Adds the NpuOptimizer of `config` to a ConfigProto."""
    rewrite = session_config.graph_options.rewrite_options
    rewrite.optimizers.extend(_OPTIMIZERS)
    entry = rewrite.custom_optimizers.add()
    entry.name = 'NpuOptimizer'
    params = entry.parameter_map
    names = {
        item[0]
        for item in release.api('npu_bridge.estimator.npu.npu_config')['NPURunConfig']['__init__']
    }
    for table, always in ((_ALWAYS, True), (_IF_GIVEN, False)):
        for field, keys in table.items():
            for key in keys:
                value = getattr(config, key, getattr(config, '_' + key, None))
                if key in names and (always or value is not None):
                    _put(params, key, field, value)
    params['use_off_line'].b = True
    params['min_group_size'].b = True
    if getattr(config, 'insert_op_file', None) is not None:
        params[
            'insert_op_file'
        ].s = config.insert_op_file  # not encoded, as in the adapter: a str is a TypeError
    if not release.at_least('r1.13.0') and config._precision_mode is None:
        params['precision_mode'].s = (
            b'allow_fp32_to_fp16' if config.graph_run_mode else b'force_fp16'
        )
    _job(params)
    _profiling(params, config)
    _memory(params, config)
    _dump(params, config)
    _dynamic(params, config)
    _tuning(params, config)
    if 'experimental_config' in names:
        _experimental(params, config)


def _put(params, key, field, value):
    if key in ('graph_memory_max_size', 'variable_memory_max_size'):
        value = str(value)
    if key == 'jit_compile' and isinstance(value, bool):
        field = 'b'  # r1.10.0 and r1.11.0
    setattr(params[key], field, tf.compat.as_bytes(value) if field == 's' else value)


def _job(params):
    task = json.loads(os.environ.get('TF_CONFIG') or '{}').get('task', {})
    params['job'].s = tf.compat.as_bytes(task.get('type') or 'localhost')
    params['task_index'].i = int(task.get('index', 0)) if task.get('type') else 0


def _profiling(params, config):
    if config._profiling_config is not None:
        params['profiling_mode'].b = config._profiling_config._enable_profiling
        if config._profiling_config._enable_profiling:
            params['profiling_options'].s = tf.compat.as_bytes(
                config._profiling_config._profiling_options or ''
            )


def _memory(params, config):
    memory = getattr(config, '_memory_config', None)
    if memory is not None:
        params['atomic_clean_policy'].i = memory._atomic_clean_policy
        if memory._static_memory_policy is not None:
            params['static_memory_policy'].i = memory._static_memory_policy
        if memory._memory_optimization_policy is not None:
            params['memory_optimization_policy'].s = tf.compat.as_bytes(
                memory._memory_optimization_policy
            )


def _dump(params, config):
    dump = config._dump_config
    params['enable_dump'].b = dump._enable_dump if dump else False
    params['enable_dump_debug'].b = dump._enable_dump_debug if dump else False
    for key in (
        'dump_path',
        'dump_step',
        'dump_mode',
        'dump_debug_mode',
        'dump_data',
        'dump_layer',
    ):
        value = getattr(dump, '_' + key, None)
        if value is not None:
            params[key].s = tf.compat.as_bytes(value)


def _dynamic(params, config):
    dynamic = config._dynamic_input_config
    if dynamic is not None and None not in (
        dynamic._input_shape,
        dynamic._dynamic_dims,
        dynamic._dynamic_node_type,
    ):
        params['input_shape'].s = tf.compat.as_bytes(dynamic._input_shape)
        params['dynamic_dims'].s = tf.compat.as_bytes(dynamic._dynamic_dims)
        params['dynamic_node_type'].i = dynamic._dynamic_node_type


def _tuning(params, config):
    if config._aoe_mode is not None:
        params['aoe_mode'].s = tf.compat.as_bytes(config._aoe_mode)
        params['work_path'].s = tf.compat.as_bytes(
            config._work_path if config._work_path is not None else './'
        )
        if config._distribute_config is not None:
            params['distribute_config'].s = tf.compat.as_bytes(config._distribute_config)


def _experimental(params, config):
    chosen = config._experimental_config
    if chosen is None:
        params['experimental_logical_device_cluster_deploy_mode'].s = b'LB'
        return
    for key in (
        'logical_device_cluster_deploy_mode',
        'logical_device_id',
        'model_deploy_mode',
        'model_deploy_devicelist',
        'accelerate_train_mode',
        'resource_config_path',
        'graph_compiler_cache_dir',
        'graph_parallel_option_path',
    ):
        value = getattr(chosen, '_' + key, None)
        if value is not None:
            plain = key in (
                'resource_config_path',
                'graph_compiler_cache_dir',
                'graph_parallel_option_path',
            )
            params[key if plain else 'experimental_' + key].s = tf.compat.as_bytes(value)
    if getattr(chosen, '_enable_graph_parallel', None) is not None:
        params['enable_graph_parallel'].b = chosen._enable_graph_parallel
    memory = chosen._graph_memory_optimize_config
    if memory is not None and getattr(memory, '_graph_slice', None) is not None:
        params['graph_slice'].s = tf.compat.as_bytes(memory._graph_slice)
