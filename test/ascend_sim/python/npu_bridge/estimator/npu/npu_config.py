"""npu_bridge.estimator.npu.npu_config. Differs: of the parameter-server mode nothing but the checks
is modelled.
"""

import enum
import inspect
import json
import os

import tensorflow.compat.v1 as tf
from ascend_sim import release
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

from npu_bridge.estimator.npu import util

# RunConfig's own arguments; the others of the signature are kept as attributes.
_RUN_CONFIG = (
    'model_dir',
    'tf_random_seed',
    'save_summary_steps',
    'save_checkpoints_steps',
    'save_checkpoints_secs',
    'session_config',
    'keep_checkpoint_max',
    'keep_checkpoint_every_n_hours',
    'log_step_count_steps',
    'train_distribute',
    'eval_distribute',
)
# Attributes without an underscore in the real class.
_PUBLIC = (
    'iterations_per_loop',
    'mix_compile_mode',
    'enable_data_pre_proc',
    'is_tailing_optimization',
    'variable_format_optimize',
    'horovod_mode',
    'graph_run_mode',
    'op_debug_level',
    'enable_scope_fusion_passes',
    'enable_exception_dump',
    'topo_sorting_mode',
    'aoe_config_file',
    'insert_op_file',
    'stream_sync_timeout',
    'event_sync_timeout',
    'es_cluster_config',
)


class _Settings:
    """Keeps what it is given as attributes with an underscore."""

    def __init__(self, **given):
        for name, value in given.items():
            setattr(self, '_' + name, value)


class ProfilingConfig(_Settings):
    pass


class MemoryConfig(_Settings):
    pass


class DumpConfig(_Settings):
    pass


class DynamicInputConfig(_Settings):
    pass


class GraphMemoryOptimizeConfig(_Settings):
    def __init__(self, **given):
        for name, value in given.items():
            if value is not None and value not in ('auto', 'manual'):
                raise ValueError("%s should be in ['auto', 'manual']" % name)
        super().__init__(**given)


class ExperimentalConfig(_Settings):
    def __init__(self, **given):
        inner = given.get('graph_memory_optimize_config')
        if inner is not None and not isinstance(inner, GraphMemoryOptimizeConfig):
            raise ValueError('graph_memory_optimize_config type must be GraphMemoryOptimizeConfig')
        super().__init__(**given)


class NpuExecutePlacement(enum.Enum):
    ALL = 'all'
    CUBE = 'cube'
    VECTOR = 'vector'
    TAISHAN = 'taishan'
    DVPP = 'dvpp'
    HOST = 'host'


class NPURunConfig(tf.estimator.RunConfig):
    """RunConfig with the options of the device; which ones there are depends on the release."""

    def __init__(self, **given):
        _check(given)
        if given['save_checkpoints_steps'] is None and given['save_checkpoints_secs'] is None:
            given['save_checkpoints_steps'] = 100
        for name, value in given.items():
            if name not in _RUN_CONFIG and name != 'distribute':
                setattr(self, name if name in _PUBLIC else '_' + name, value)
        super().__init__(**{name: given[name] for name in _RUN_CONFIG if name in given})


def _check(given) -> None:
    """What NPURunConfig.__init__ refuses; the rest is left to the adapter's C++ at the first run."""
    old = not release.at_least('r1.13.0')
    util.check_positive_integer(given['iterations_per_loop'], 'iterations_per_loop')
    if not isinstance(given['mix_compile_mode'], bool):
        raise (ValueError if old else TypeError)('"mix_compile_mode" type must be bool')
    if given['mix_compile_mode'] and given['iterations_per_loop'] != 1:
        raise ValueError('"iterations_per_loop" must be 1 with "mix_compile_mode" is True')
    if release.at_least('r1.13.0') and not isinstance(given['jit_compile'], str):
        raise TypeError('Expected str, got ' + type(given['jit_compile']).__name__)
    cluster = json.loads(os.environ.get('TF_CONFIG') or '{}').get('cluster')
    strategy = isinstance(given['distribute'], tf.distribute.experimental.ParameterServerStrategy)
    if bool(cluster) != strategy:
        raise ValueError('"cluster" and "distribute" must all be set in ps mode')
    if cluster and not given['mix_compile_mode']:
        raise ValueError('"mix_compile_mode" can only be True with "cluster" is set')
    for name, cls in (('dump_config', 'DumpConfig'), ('experimental_config', 'ExperimentalConfig')):
        if given.get(name) is not None and not isinstance(given[name], globals()[cls]):
            raise ValueError('`%s` must be provided with type `%s`' % (name, cls))
    if not isinstance(given['horovod_mode'], bool):
        raise ValueError('"horovod_mode" type must be bool')
    util.check_nonnegative_integer(given['graph_run_mode'], 'graph_run_mode')
    if given['graph_run_mode'] > 1:
        raise ValueError('"graph_run_mode" value must be 0 or 1')
    util.check_nonnegative_integer(given['enable_exception_dump'], 'enable_exception_dump')
    if given['dynamic_input_config'] is not None and not isinstance(
        given['dynamic_input_config'], DynamicInputConfig
    ):
        raise ValueError('dynamic_input_config must be provided with type DynamicInputConfig')


def set_npu_default_config(func, args, kwargs):
    """Arguments of a Session constructor with the NpuOptimizer added to their config."""
    index = list(inspect.signature(func).parameters).index('config') - 1
    config = kwargs.get('config')
    if config is None:
        config = args[index] if len(args) > index else config_pb2.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    if not any(item.name == 'NpuOptimizer' for item in rewrite.custom_optimizers):
        rewrite.custom_optimizers.add().name = 'NpuOptimizer'
        rewrite.memory_optimization = rewriter_config_pb2.RewriterConfig.OFF
    config.allow_soft_placement = True
    config.log_device_placement = False
    rewrite.remapping = rewriter_config_pb2.RewriterConfig.OFF
    config.graph_options.optimizer_options.global_jit_level = config_pb2.OptimizerOptions.OFF
    return args[:index] + args[index + 1 :], dict(kwargs, config=config)


def decorator_tf_session(func):
    def construct(self, *args, **kwargs):
        args, kwargs = set_npu_default_config(func, args, kwargs)
        return func(self, *args, **kwargs)

    return construct


release.publish(globals(), __name__)
