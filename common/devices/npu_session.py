"""A configuration in the terms of the TF adapter of Ascend NPU: arguments of NPURunConfig, and as a
ConfigProto (`session_config`).
"""

import inspect
import json
import sys
from typing import Any, Dict, Mapping

import tensorflow as tf

from common import host
from common.ascend import options as npu_options
from common.errors import UserError, warn

# precision_mode_v2 -> precision_mode, for adapters before r1.13.0.
OLD_MODES = {
    'fp16': 'force_fp16',
    'origin': 'must_keep_origin_dtype',
    'cube_fp16in_fp32out': 'cube_fp16in_fp32out',
    'mixed_float16': 'allow_mix_precision',
}


def is_mixed(cfg) -> bool:
    return npu_options.mode(cfg) in npu_options.MIXED


def adapter_options(cfg) -> Dict[str, Any]:
    """What NPURunConfig is to be given beyond the intervals, under its own names; None and defaults
    left out.
    """
    precision = 'precision_mode_v2' if cfg.precision_mode_v2 else 'precision_mode'
    options: Dict[str, Any] = {precision: npu_options.mode(cfg)}
    options['hcom_parallel'] = cfg.hcom_parallel
    if not cfg.enable_data_pre_proc:  # deprecated; True is the default of NPURunConfig
        options['enable_data_pre_proc'] = False
    names = ['modify_mixlist', 'op_select_implmode', 'op_compiler_cache_mode', 'aoe_mode']
    names += ['jit_compile', 'deterministic', *npu_options.FILES]
    options.update({name: getattr(cfg, name) for name in names if getattr(cfg, name)})
    if cfg.enable_small_channel:
        options['enable_small_channel'] = 1
    for name in ('graph_memory_max_size', 'variable_memory_max_size'):
        if getattr(cfg, name):
            options[name] = str(getattr(cfg, name))  # the adapter takes bytes as text
    if cfg.op_compiler_cache_dir:
        options['op_compiler_cache_dir'] = npu_options.folder(cfg.op_compiler_cache_dir)
    return options


def profiling_options(cfg) -> str:
    """The JSON text of a profile: traces of training, tasks, collectives and the pipe utilisation
    of AI Core.
    """
    on = dict.fromkeys(('training_trace', 'task_trace', 'hccl', 'aicpu'), 'on')
    points = dict(aic_metrics='PipeUtilization', fp_point='', bp_point='')
    return json.dumps(dict(on, **points, output=npu_options.folder(cfg.profiling)))


def dump_options(cfg) -> Dict[str, Any]:
    """Arguments of DumpConfig, {} without a dump."""
    if cfg.over_dump:
        path = npu_options.folder(cfg.over_dump)
        return dict(enable_dump_debug=True, dump_path=path, dump_debug_mode='all')
    if cfg.data_dump:
        path = npu_options.folder(cfg.data_dump)
        return dict(enable_dump=True, dump_path=path, dump_step=cfg.dump_step, dump_mode='output')
    return {}


def supported(function, arguments: Dict[str, Any]) -> Dict[str, Any]:
    """The arguments that the installed adapter's signature has; a one-line warning names the
    others. What an older adapter calls differently is translated.
    """
    parameters = inspect.signature(function).parameters
    arguments = _translated(arguments, parameters)
    missing = sorted(set(arguments) - set(parameters))
    if missing:
        warn('this adapter has no %s; left out' % ', '.join(missing))
    return {name: value for name, value in arguments.items() if name in parameters}


def _translated(arguments: Dict[str, Any], parameters: Mapping[str, Any]) -> Dict[str, Any]:
    """Options as the installed adapter names them, whose NPURunConfig has `parameters`.

    UserError for a precision mode that it lacks: without it, precision would silently be another.
    """
    arguments = dict(arguments)
    if 'precision_mode_v2' in arguments and 'precision_mode_v2' not in parameters:
        mode = arguments.pop('precision_mode_v2')
        if mode not in OLD_MODES:
            raise UserError(
                'precision_mode_v2 %s: this adapter is older than r1.13.0 and has only the modes of'
                ' --precision_mode; give one of those, or install a newer CANN' % mode
            )
        old = arguments['precision_mode'] = OLD_MODES[mode]
        text = 'precision_mode_v2 %s is precision_mode %s on this adapter\n'
        sys.stderr.write(text % (mode, old))
    if 'precision_mode' in parameters:  # NPURunConfig, not DumpConfig
        _check_combinations(arguments, parameters)
    jit = parameters.get('jit_compile')
    if 'jit_compile' in arguments and jit and isinstance(jit.default, bool):  # r1.10.0, r1.11.0
        compiled = arguments.pop('jit_compile')
        if compiled != 'auto':
            arguments['jit_compile'] = compiled == 'true'
    return arguments


def _check_combinations(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """UserError for what the C++ of an older adapter refuses although its Python takes it."""
    mode, is_old = arguments.get('precision_mode'), 'precision_mode_v2' not in parameters
    if 'modify_mixlist' in arguments and is_old and mode != 'allow_mix_precision':
        raise UserError(
            'modify_mixlist: before r1.13.0 the adapter takes it with --precision_mode'
            ' allow_mix_precision alone, found %s' % mode
        )
    if arguments.get('aoe_mode') == 'mdat' and 'topo_sorting_mode' not in parameters:
        raise UserError('aoe_mode mdat: this adapter is older than r1.10.0; give 1, 2 or 4')


def check_kernels(graph: tf.Graph) -> None:
    """UserError for an operator that the device would refuse when it compiles the graph.

    CANN replaces the sparse cross entropy by others, but not for labels of shape [2048]
    (check_supported of tbe/impl/one_hot_d.py), and it has no kernel of its own.
    """
    for op in graph.get_operations():
        if op.type == 'SparseSoftmaxCrossEntropyWithLogits' and op.inputs[1].shape == [2048]:
            raise UserError(
                'a loss of exactly 2048 labels (images, or pixels of all images) has no kernel on'
                ' the device; give another --batch_size or other sizes of images'
            )


def host_config() -> tf.ConfigProto:
    """ConfigProto of a session whose options the adapter writes itself.

    The adapter's iterator blocks an inter-op thread and waits for another one of the same pool, so
    with one thread, the default on one core, it would wait for ever.
    """
    threads = max(2, host.cores())
    return tf.ConfigProto(allow_soft_placement=True, inter_op_parallelism_threads=threads)


def session_config(cfg=None, iterations_per_loop: int = 1) -> tf.ConfigProto:
    """ConfigProto for a session without an Estimator, such as a training loop of one's own: a
    complete NpuOptimizer entry, remapping and memory optimisation off.

    cfg: a settings.Config; None takes the defaults. With iterations_per_loop > 1 the train op must
    also go through npu_bridge's util.set_iteration_per_loop.
    """
    from npu_bridge.estimator.npu.npu_config import DumpConfig, NPURunConfig
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

    from common.configuration.settings import Config

    cfg = cfg or Config()
    cfg.check_npu()
    config = host_config()
    rewrite = config.graph_options.rewrite_options
    rewrite.remapping = rewrite.memory_optimization = RewriterConfig.OFF
    entry = rewrite.custom_optimizers.add(name='NpuOptimizer')
    values = dict(
        supported(NPURunConfig.__init__, adapter_options(cfg)),
        use_off_line=True,
        iterations_per_loop=iterations_per_loop,
        graph_run_mode=1,
        **supported(DumpConfig.__init__, dump_options(cfg)),
    )
    if iterations_per_loop > 1:
        values.setdefault('enable_data_pre_proc', True)  # False in a session, unlike NPURunConfig
    if cfg.profiling:
        values.update(profiling_mode=True, profiling_options=profiling_options(cfg))
    for name, value in values.items():
        # The wrong field of the union is silently read as its default.
        field = entry.parameter_map[name]
        if isinstance(value, bool):
            field.b = value
        elif isinstance(value, int):
            field.i = value
        elif value is not None:
            field.s = tf.compat.as_bytes(value)
    return config
