"""Checks a session's NpuOptimizer parameter_map as the adapter's C++ does
(NpuAttrs::SetNpuOptimizerAttr): unknown keys are ignored, and a value in the wrong field of the
union is read as that field's default.
"""

import os
import re
from typing import Any, NamedTuple, Optional

from tensorflow.core.protobuf import rewriter_config_pb2

from ascend_sim import environment, errors
from ascend_sim.release import at_least

_MIXED = ('allow_mix_precision', 'allow_mix_precision_fp16', 'allow_mix_precision_bf16')
PRECISION_MODES = (
    'force_fp32',
    'allow_fp32_to_fp16',
    'force_fp16',
    'must_keep_origin_dtype',
    'cube_fp16in_fp32out',
    'allow_fp32_to_bf16',
) + _MIXED
_MIXED_V2 = ('mixed_float16', 'mixed_bfloat16')
PRECISION_MODES_V2 = ('fp16', 'origin', 'cube_fp16in_fp32out') + _MIXED_V2
_IMPLEMENTATIONS = (
    'high_precision',
    'high_performance',
    'high_precision_for_all',
    'high_performance_for_all',
)
_kept = {}  # precision of all sessions of the process, as NpuAttrs::init_options_ holds it
_OFF = rewriter_config_pb2.RewriterConfig.OFF


class Options(NamedTuple):
    """What the stand-in itself needs of a session's options."""

    iterations_per_loop: int
    enable_data_pre_proc: bool


class _Map:
    """A parameter_map with the C++ way of reading: the asked field, whatever was set."""

    def __init__(self, parameters):
        self._parameters = parameters

    def __contains__(self, key):
        return key in self._parameters

    def get(self, key, field, default=None):
        """field: s, i or b."""
        if key not in self:
            return default
        value = getattr(self._parameters[key], field)
        return value.decode() if field == 's' else value

    def field(self, key):
        return self._parameters[key].WhichOneof('value')


def _one_of(value: str, legal) -> None:
    if value not in legal:
        listed = ', '.join("'%s'" % item for item in legal)
        raise errors.invalid("'%s' is invalid, it should be one of the list:[%s]" % (value, listed))


def _check_folder(path: str) -> None:
    if not os.path.isdir(path):
        raise errors.internal('the path %s is not directory.' % path)
    if not os.access(path, os.R_OK | os.W_OK):
        raise errors.internal("the path %s does't have read, write permissions." % path)


def _dump(params: _Map) -> None:
    dump, debug = (params.get(key, 'b', False) for key in ('enable_dump', 'enable_dump_debug'))
    if dump or debug:
        if 'dump_path' not in params:
            raise errors.internal('if use dump function, dump_path must be set.')
        _check_folder(params.get('dump_path', 's'))
    if dump and 'dump_step' in params:
        steps = params.get('dump_step', 's').split('|')
        if len(steps) > 100:
            errors.fatal('dump_step only support dump <= 100 sets of data')
        for item in steps:
            match = re.match(r'(\d+)(?:-(\d+))?\Z', item)
            if not match or match.group(2) and int(match.group(1)) >= int(match.group(2)):
                errors.fatal("dump_step string style is error, correct example:'0|5|10|50-100'")
    if dump and params.get('dump_mode', 's', 'output') not in ('input', 'output', 'all'):
        errors.fatal('dump mode should be one of the list:[input, output, all]')
    modes = ('aicore_overflow', 'atomic_overflow', 'all')
    if debug and params.get('dump_debug_mode', 's', 'all') not in modes:
        errors.fatal('dump debug mode should be one of the list:[%s]' % ', '.join(modes))


def _precision(params: _Map) -> None:
    mode, mode_v2 = params.get('precision_mode', 's'), None
    if mode is not None:
        if at_least('r1.12.0'):
            _one_of(mode, PRECISION_MODES)
        elif mode not in PRECISION_MODES:
            errors.fatal('[GePlugin] Initialize ge failed: precision_mode %s is invalid' % mode)
    if at_least('r1.13.0'):  # older ones ignore the key
        mode_v2 = params.get('precision_mode_v2', 's')
        if mode_v2 is not None:
            _one_of(mode_v2, PRECISION_MODES_V2)
        if mode is not None and mode_v2 is not None:
            raise errors.internal(
                "'precision_mode' and 'precision_mode_v2' can not be assigned at the same time."
            )
        given = {'precision_mode': mode, 'precision_mode_v2': mode_v2}
        _kept.update({name: value for name, value in given.items() if value})
        if len(_kept) == 2:
            raise errors.internal(
                'GE gets both precision_mode and precision_mode_v2, one of them from an earlier'
                ' session of this process: %s' % sorted(_kept.values())
            )
    if 'bf' in (mode_v2 or mode or '') and environment.CHIP == '910A':
        raise errors.internal('%s is not supported by Ascend910A' % (mode_v2 or mode))
    mixed = _MIXED if at_least('r1.13.0') else _MIXED[:1]
    if 'modify_mixlist' in params and mode not in mixed and mode_v2 not in _MIXED_V2:
        name, legal = ('precision_mode_v2', _MIXED_V2) if mode_v2 else ('precision_mode', mixed)
        raise errors.internal(
            'modify_mixlist is assigned, please ensure that %s is assigned to %s.'
            % (name, ' or '.join("'%s'" % item for item in legal))
        )


def _tuning(params: _Map) -> None:
    mode = params.get('aoe_mode', 's', '')
    legal = ['1', '2', '4'] + (['mdat'] if at_least('r1.10.0') else [])
    if mode and mode not in legal:
        raise errors.internal(
            'aoe mode:%s is invalid, aoe mode should be one of the list:%s' % (mode, legal)
        )


def _engine(params: _Map) -> None:
    if params.get('graph_run_mode', 'i', 1) > 1:
        errors.fatal('graph_run_mode value must be 0 or 1')
    if 'op_select_implmode' in params:
        if params.get('op_select_implmode', 's') not in _IMPLEMENTATIONS:
            errors.fatal(
                'op select impl mode should be one of the list:[%s]' % ', '.join(_IMPLEMENTATIONS)
            )
    elif 'optypelist_for_implmode' in params:
        errors.fatal('when use optypelist_for_implmode, op_select_implmode must be set.')
    if 'jit_compile' in params and at_least('r1.13.0'):
        if params.field('jit_compile') != 's':
            raise errors.invalid('The data type of jit_compile is invalid. Expected string type.')
        _one_of(params.get('jit_compile', 's'), ('true', 'false', 'auto'))
    if params.get('iterations_per_loop', 'i', 1) < 1:
        errors.fatal('iterator_per_loop should be int and must >= 1')


def _rewriting(rewrite) -> None:
    """Fused and recomputing nodes of TensorFlow's own rewriting have no counterpart on the device.

    The adapter goes on to compile the wrong graph; the stand-in refuses.
    """
    if rewrite.optimizers:
        found = [name for name in rewrite.optimizers if name in ('remap', 'memory')]
    else:
        found = [
            name
            for name in ('remapping', 'memory_optimization')
            if getattr(rewrite, name) != _OFF and not rewrite.disable_meta_optimizer
        ]
    if found:
        raise errors.invalid(
            'rewrite_options: %s must be switched OFF explicitly in a session with NpuOptimizer'
            % ' and '.join(found)
        )


def validate(config: Any) -> Optional[Options]:
    """Options of a session's ConfigProto, None if it has no NpuOptimizer; an illegal one raises
    tf.errors or aborts.
    """
    rewrite = config.graph_options.rewrite_options
    entries = [item for item in rewrite.custom_optimizers if item.name == 'NpuOptimizer']
    if not entries:
        return None
    params = _Map(entries[-1].parameter_map)
    for check in (_dump, _tuning, _precision, _engine):
        check(params)
    _rewriting(rewrite)
    return Options(
        params.get('iterations_per_loop', 'i', 1), params.get('enable_data_pre_proc', 'b', False)
    )
