"""Checks a session's NpuOptimizer parameter_map as the adapter's C++ does
(NpuAttrs::SetNpuOptimizerAttr).

As there, unknown keys are ignored and a value in the wrong oneof field is read as that field's
default. Differs: remapping and memory_optimization that are not OFF are refused, where the real one
goes on to miscompile; and the bfloat16 modes are refused on a 910A, where the real graph engine
does it later.
"""

import os
import re
from typing import Any, Dict, NamedTuple

from tensorflow.core.protobuf import rewriter_config_pb2

from ascend_sim import environment, errors
from ascend_sim.release import at_least

PRECISION_MODES = [
    'force_fp32',
    'allow_fp32_to_fp16',
    'force_fp16',
    'must_keep_origin_dtype',
    'allow_mix_precision',
    'cube_fp16in_fp32out',
    'allow_mix_precision_fp16',
    'allow_mix_precision_bf16',
    'allow_fp32_to_bf16',
]
PRECISION_MODES_V2 = ['fp16', 'origin', 'cube_fp16in_fp32out', 'mixed_float16', 'mixed_bfloat16']
_MIXED = ['allow_mix_precision', 'allow_mix_precision_fp16', 'allow_mix_precision_bf16']
_MIXED_V2 = ['mixed_float16', 'mixed_bfloat16']
_OFF = rewriter_config_pb2.RewriterConfig.OFF


class Options(NamedTuple):
    """What the stand-in itself needs of a session's options."""

    iterations_per_loop: int = 1
    enable_data_pre_proc: bool = False
    mix_compile_mode: bool = False
    sunk: bool = True  # use_off_line: False runs everything on the host
    session_device_id: Any = None


class _Map:
    """A parameter_map with the C++ way of reading: the asked field, whatever was set."""

    def __init__(self, parameters):
        self._parameters = parameters

    def __contains__(self, key):
        return key in self._parameters

    def s(self, key, default=''):
        return self._parameters[key].s.decode() if key in self else default

    def i(self, key, default=0):
        return self._parameters[key].i if key in self else default

    def b(self, key, default=False):
        return self._parameters[key].b if key in self else default

    def field(self, key):
        return self._parameters[key].WhichOneof('value')


def _listed(values) -> str:
    return '[%s]' % ', '.join("'%s'" % value for value in values)


def _allowed(value: str, legal) -> None:
    if value not in legal:
        raise errors.invalid(
            "'%s' is invalid, it should be one of the list:%s" % (value, _listed(legal))
        )


def _directory(path: str) -> str:
    """ "" for a folder that can be read and written, else what is wrong with it."""
    if not os.path.isdir(path):
        return 'the path %s is not directory.' % path
    return (
        ''
        if os.access(path, os.R_OK | os.W_OK)
        else "the path %s does't have read, write permissions." % path
    )


def _dump(params: _Map) -> None:
    dump, debug = params.b('enable_dump'), params.b('enable_dump_debug')
    if dump or debug:
        if 'dump_path' not in params:
            raise errors.internal('if use dump function, dump_path must be set.')
        problem = _directory(params.s('dump_path'))
        if problem:
            raise errors.internal(problem)
    if dump and 'dump_step' in params:
        sets = params.s('dump_step').split('|')
        if len(sets) > 100:
            errors.fatal('dump_step only support dump <= 100 sets of data')
        for item in sets:
            match = re.match(r'^(\d+)(?:-(\d+))?$', item)
            if not match:
                errors.fatal("dump_step string style is error, correct example:'0|5|10|50-100'")
            if match.group(2) and int(match.group(1)) >= int(match.group(2)):
                errors.fatal(
                    "in range steps, the first step is >= second step, correct example:'0|5|10-20'"
                )
    if dump and params.s('dump_mode', 'output') not in ('input', 'output', 'all'):
        errors.fatal('dump mode should be one of the list:[input, output, all]')
    if debug and params.s('dump_debug_mode', 'all') not in (
        'aicore_overflow',
        'atomic_overflow',
        'all',
    ):
        errors.fatal(
            'dump debug mode should be one of the list:[aicore_overflow, atomic_overflow, all]'
        )
    if params.s('dump_data', 'tensor') not in ('tensor', 'stats') and at_least('r1.15.0'):
        raise errors.internal("dump_data should be 'tensor' or 'stats'.")


def _precision(params: _Map) -> None:
    if 'precision_mode' in params:
        mode = params.s('precision_mode')
        if at_least('r1.12.0'):
            _allowed(mode, PRECISION_MODES)
        elif mode not in PRECISION_MODES:
            errors.fatal('[GePlugin] Initialize ge failed: precision_mode %s is invalid' % mode)
        if 'bf16' in mode and environment.first_generation():
            raise errors.internal(
                'precision_mode %s is not supported by Ascend%s' % (mode, environment.CHIP)
            )
    if 'precision_mode_v2' in params and at_least('r1.13.0'):
        _allowed(params.s('precision_mode_v2'), PRECISION_MODES_V2)
        if 'bf' in params.s('precision_mode_v2') and environment.first_generation():
            raise errors.internal(
                'precision_mode_v2 %s is not supported by Ascend%s'
                % (params.s('precision_mode_v2'), environment.CHIP)
            )
    if 'modify_mixlist' in params:
        _mixlist(params)
    if 'precision_mode' in params and 'precision_mode_v2' in params and at_least('r1.13.0'):
        raise errors.internal(
            "'precision_mode' and 'precision_mode_v2' can not be assigned at the same time."
        )


def _mixlist(params: _Map) -> None:
    """modify_mixlist belongs to mixed precision only."""
    if not at_least('r1.13.0'):
        if params.s('precision_mode') != 'allow_mix_precision':
            raise errors.internal(
                'modify_mixlist is assigned, please ensure that precision_mode is assigned to'
                " 'allow_mix_precision'."
            )
        return
    modes = (
        "'allow_mix_precision' or 'allow_mix_precision_fp16' or 'allow_mix_precision_bf16'(if"
        ' available)'
    )
    modes_v2 = "'mixed_float16' or 'mixed_bfloat16'(if available)"
    if 'precision_mode' in params:
        if params.s('precision_mode') not in _MIXED:
            raise errors.internal(
                'modify_mixlist is assigned, please ensure that precision_mode is assigned to %s.'
                % modes
            )
    elif 'precision_mode_v2' in params:
        if params.s('precision_mode_v2') not in _MIXED_V2:
            raise errors.internal(
                'modify_mixlist is assigned, please ensure that precision_mode_v2 is assigned'
                ' to %s.' % modes_v2
            )
    else:
        raise errors.internal(
            'modify_mixlist is assigned, please ensure precision_mode only can be assigned to'
            ' %s,precision_mode_v2 only can be assigned to %s.' % (modes, modes_v2)
        )


def _tuning(params: _Map) -> None:
    mode = params.s('aoe_mode') if 'aoe_mode' in params else os.environ.get('AOE_MODE', '')
    if not mode:
        return
    legal = (
        ['1', '2']
        + ([] if at_least('r1.11.0') else ['3'])
        + ['4']
        + (['mdat'] if at_least('r1.10.0') else [])
    )
    if mode not in legal:
        raise errors.internal(
            'aoe mode:%s is invalid, aoe mode should be one of the list:[%s]'
            % (mode, ','.join("'%s'" % item for item in legal))
        )
    problem = _directory(params.s('work_path', './'))
    if problem:
        errors.fatal(problem)


def _dynamic(params: _Map) -> None:
    if params.b('dynamic_input') and params.s(
        'dynamic_graph_execute_mode', 'dynamic_execute'
    ) not in ('lazy_recompile', 'dynamic_execute'):
        errors.fatal('dynamic_graph_execute_mode should be lazy_recompile or dynamic_execute.')
    if (
        params.b('dynamic_input')
        and params.s('dynamic_graph_execute_mode') == 'lazy_recompile'
        and params.i('iterations_per_loop', 1) > 1
    ):
        raise errors.invalid(
            'iterations_per_loop only support 1 in lazy_recompile mode. Current is:%d'
            % params.i('iterations_per_loop')
        )
    keys = [key for key in ('input_shape', 'dynamic_dims', 'dynamic_node_type') if key in params]
    if keys and len(keys) != 3:
        errors.fatal('input_shape, dynamic_dims and dynamic_node_type should use together.')
    if keys:
        if not re.match(r'^(\w+:(-?\d+,)+;)+$', params.s('input_shape').replace(';', ',;') + ',;'):
            errors.fatal('input_shape string style is invalid')
        if not re.match(r'^((\d+,)+;)+$', params.s('dynamic_dims').replace(';', ',;') + ',;'):
            errors.fatal('dynamic_dims string style is invalid')
        if params.i('dynamic_node_type') not in (0, 1):
            errors.fatal('dynamic_node_type should be 0 or 1.')
        if params.b('mix_compile_mode'):
            errors.fatal('dynamic config can not use with mix compile.')


def _placement(params: _Map) -> None:
    if params.i('graph_run_mode', 1) > 1:
        errors.fatal('graph_run_mode value must be 0 or 1')
    if 'local_rank_id' in params and not 0 <= params.i('local_rank_id') <= 7:
        errors.fatal('local rank id should be in [0,7]')
    if 'local_device_list' in params and not re.match(
        r'^(\d+,)+$', params.s('local_device_list') + ','
    ):
        errors.fatal("local_device_list style is invalid, example:'1,2,3'")
    if at_least('r1.15.0') and not 0 <= params.i('enable_exception_dump', 2) <= 2:
        raise errors.internal('enable_exception_dump should be one of 0, 1 and 2.')
    if 'op_select_implmode' not in params and 'optypelist_for_implmode' in params:
        errors.fatal('when use optypelist_for_implmode, op_select_implmode must be set.')
    if 'op_select_implmode' in params and params.s('op_select_implmode') not in (
        'high_precision',
        'high_performance',
        'high_precision_for_all',
        'high_performance_for_all',
    ):
        errors.fatal(
            'op select impl mode should be one of the list:[high_precision, high_performance,'
            ' high_precision_for_all, high_performance_for_all]'
        )
    if params.s('buffer_optimize', 'l2_optimize') not in ('l2_optimize', 'off_optimize'):
        errors.fatal('buffer_optimize is valid, should be one of [l2_optimize, off_optimize]')
    if 'enable_compress_weight' in params and 'compress_weight_conf' in params:
        errors.fatal('enable_compress_weight can not use with compress_weight_conf.')
    if 'session_device_id' in params and params.i('session_device_id') < 0:
        errors.fatal('session_device_id must be nonnegative integer.')
    if at_least('r1.12.0') and params.s('variable_placement', 'Device') not in ('Host', 'Device'):
        errors.fatal('variable placement should be one of the list:[Host, Device]')
    if 'jit_compile' in params and at_least('r1.13.0'):
        if params.field('jit_compile') != 's':
            raise errors.invalid('The data type of jit_compile is invalid. Expected string type.')
        _allowed(params.s('jit_compile'), ['true', 'false', 'auto'])
    if 'graph_slice' in params and params.s('graph_slice') not in ('auto', 'manual'):
        raise errors.internal("graph_slice must be in ['auto', 'manual']")


def _rewriting(rewrite) -> None:
    """Fused and recomputing nodes of TensorFlow's own rewriting have no counterpart on the device."""
    if rewrite.optimizers:
        found = [name for name in rewrite.optimizers if name in ('remap', 'memory')]
    else:
        found = [
            name
            for name, value in (
                ('remapping', rewrite.remapping),
                ('memory_optimization', rewrite.memory_optimization),
            )
            if value != _OFF and not rewrite.disable_meta_optimizer
        ]
    if found:
        raise errors.invalid(
            'rewrite_options: %s must be switched OFF explicitly in a session with NpuOptimizer'
            % ' and '.join(found)
        )


def validate(config) -> Dict[str, Any]:
    """Options of a session's ConfigProto, or None if it has no NpuOptimizer; an illegal one raises
    tf.errors or aborts.
    """
    rewrite = config.graph_options.rewrite_options
    entries = [
        _Map(item.parameter_map)
        for item in rewrite.custom_optimizers
        if item.name == 'NpuOptimizer'
    ]
    if not entries:
        return None
    for params in entries:
        for check in (_dump, _tuning, _precision, _dynamic, _placement):
            check(params)
        if params.i('iterations_per_loop', 1) < 1:
            errors.fatal('iterator_per_loop should be int and must >= 1')
        if params.i('task_index') < 0:
            errors.fatal('task_index should be int and must >= 0')
    _rewriting(rewrite)
    result = Options()
    for params in entries:  # the last entry that has a key wins
        result = Options(
            params.i('iterations_per_loop', result.iterations_per_loop),
            params.b('enable_data_pre_proc', result.enable_data_pre_proc),
            params.b('mix_compile_mode', result.mix_compile_mode),
            params.b('use_off_line', result.sunk),
            (
                params.i('session_device_id')
                if 'session_device_id' in params
                else result.session_device_id
            ),
        )
    return result
