"""The NpuOptimizer parameter_map of a session, as NPUEstimator writes it from an NPURunConfig."""

import json

import tensorflow.compat.v1 as tf

from ascend_sim import release

# TensorFlow's own optimizers that run beside the adapter's; without `remap` and `memory`.
_OPTIMIZERS = (
    'pruning function constfold shape arithmetic loop dependency layout GradFusionOptimizer'
).split()
# Field of the union -> options of NPURunConfig. Any other must keep its default.
_FIELDS = {
    'b': 'enable_data_pre_proc hcom_parallel',
    'i': 'iterations_per_loop graph_run_mode deterministic enable_small_channel',
    's': (
        'precision_mode precision_mode_v2 modify_mixlist op_precision_mode op_select_implmode'
        ' op_compiler_cache_mode op_compiler_cache_dir aoe_mode graph_memory_max_size'
        ' variable_memory_max_size customize_dtypes fusion_switch_file jit_compile'
    ),
}
_FIELD = {name: field for field, names in _FIELDS.items() for name in names.split()}


def fill(session_config: tf.ConfigProto, options: dict) -> None:
    """Adds the NpuOptimizer to a ConfigProto.

    options: NPURunConfig's arguments beyond those of RunConfig, by name.
    """
    session_config.graph_options.rewrite_options.optimizers.extend(_OPTIMIZERS)
    entry = session_config.graph_options.rewrite_options.custom_optimizers.add(name='NpuOptimizer')
    params = entry.parameter_map
    defaults = release.defaults('npu_bridge.estimator.npu.npu_config.NPURunConfig')
    for name, value in options.items():
        if name in ('profiling_config', 'dump_config'):
            continue
        if name in _FIELD:
            if value is not None:
                _put(params[name], _FIELD[name], value)
        elif value != defaults[name]:
            raise NotImplementedError('%s=%r is not modelled by the stand-in' % (name, value))
    params['use_off_line'].b = True
    params['job'].s = b'localhost'
    if not release.at_least('r1.13.0') and options['precision_mode'] is None:
        params['precision_mode'].s = b'allow_fp32_to_fp16'
    if options['profiling_config'] is not None:
        _profiling(params, options['profiling_config'].given)
    if options['dump_config'] is not None:
        _dump(params, options['dump_config'].given)


def _put(attribute, field, value) -> None:
    if field == 's' and isinstance(value, bool):
        field = 'b'  # jit_compile of r1.10.0 and r1.11.0
    setattr(attribute, field, tf.compat.as_bytes(value) if field == 's' else value)


def _profiling(params, given) -> None:
    params['profiling_mode'].b = given['enable_profiling']
    if given['enable_profiling']:
        json.loads(given['profiling_options'])
        params['profiling_options'].s = tf.compat.as_bytes(given['profiling_options'])


def _dump(params, given) -> None:
    for key in ('enable_dump', 'enable_dump_debug'):
        params[key].b = given[key]
    for key in ('dump_path', 'dump_step', 'dump_mode', 'dump_debug_mode'):
        if given[key] is not None:
            params[key].s = tf.compat.as_bytes(given[key])
