"""npu_bridge.npu_init, the one-stop import. From r1.9.0 on it adds the NpuOptimizer to every
tf.Session that is made afterwards.

Differs: npu_rnn, keras_to_npu, npu_strategy, npu_unary_ops and npu_embedding are missing; Keras is
not modelled.
"""

import os

import tensorflow.compat.v1 as tf
from ascend_sim import release
from tensorflow.core.protobuf import config_pb2
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.python.client import session
from tensorflow.python.keras import backend

from hccl.manage.api import get_local_rank_id, get_local_rank_size, get_rank_id, get_rank_size
from npu_bridge.estimator import npu_ops
from npu_bridge.estimator.npu import npu_config as _config
from npu_bridge.estimator.npu import npu_hook as _hook
from npu_bridge.estimator.npu import npu_optimizer as _optimizer
from npu_bridge.estimator.npu.npu_hook import NPUBroadcastGlobalVariablesHook
from npu_bridge.estimator.npu.npu_optimizer import NPUDistributedOptimizer

# Names that later releases brought.
for _module, _name, _since in (
    (_config, 'MemoryConfig', 'r1.9.0'),
    (_config, 'decorator_tf_session', 'r1.9.0'),
    (_hook, 'SetIterationsVarHook', 'r1.10.0'),
    (_hook, 'TellMeStepOrLossHook', 'r1.15.0'),
    (_optimizer, 'npu_distributed_optimizer_wrapper', 'r1.7.0'),
    (_optimizer, 'npu_allreduce', 'r1.7.0'),
):
    if release.at_least(_since):
        globals()[_name] = getattr(_module, _name)

experimental_options = {
    'disable_model_pruning': False,
    'function_optimization': RewriterConfig.ON,
    'constant_folding': RewriterConfig.ON,
    'shape_optimization': RewriterConfig.ON,
    'arithmetic_optimization': RewriterConfig.ON,
    'loop_optimization': RewriterConfig.ON,
    'dependency_optimization': RewriterConfig.ON,
    'layout_optimizer': RewriterConfig.ON,
}


def npu_hooks_append(hooks_list):
    """Appends the broadcast hook to a list; RANK_ID must be a number."""
    hooks_list = hooks_list if isinstance(hooks_list, list) else []
    hooks_list.append(NPUBroadcastGlobalVariablesHook(0, int(os.getenv('RANK_ID', '0'))))
    return hooks_list


def npu_config_proto(config_proto):
    """The ConfigProto (a new one if it is none) with an NpuOptimizer and remapping off.
    memory_optimization is switched off only if
    the NpuOptimizer was missing."""
    if not isinstance(config_proto, config_pb2.ConfigProto):
        config_proto = config_pb2.ConfigProto()
    rewrite = config_proto.graph_options.rewrite_options
    if not any(item.name == 'NpuOptimizer' for item in rewrite.custom_optimizers):
        rewrite.custom_optimizers.add().name = 'NpuOptimizer'
        rewrite.memory_optimization = RewriterConfig.OFF
    config_proto.allow_soft_placement = True
    config_proto.log_device_placement = False
    rewrite.remapping = RewriterConfig.OFF
    config_proto.graph_options.optimizer_options.global_jit_level = config_pb2.OptimizerOptions.OFF
    return config_proto


def npu_graph_options(graph_options):
    if not isinstance(graph_options, config_pb2.GraphOptions):
        graph_options = config_pb2.GraphOptions()
    graph_options.optimizer_options.global_jit_level = config_pb2.OptimizerOptions.OFF
    return graph_options


def npu_optimizer_options(optimizer_options):
    if not isinstance(optimizer_options, config_pb2.OptimizerOptions):
        optimizer_options = config_pb2.OptimizerOptions()
    optimizer_options.global_jit_level = config_pb2.OptimizerOptions.OFF
    return optimizer_options


def npu_run_config_init(run_config):
    """A tf.estimator.RunConfig (a new one if it is none) whose session runs on the device."""
    if not isinstance(run_config, tf.estimator.RunConfig):
        run_config = tf.estimator.RunConfig()
    run_config.__dict__['_session_config'] = npu_config_proto(run_config.session_config)
    return run_config


def set_keras_session_npu_config(config):
    sess = session.Session(config=npu_config_proto(config))
    backend.set_session(sess)
    return sess


def npu_clear_session(config):
    backend.clear_session()
    backend.set_session(session.Session(config=npu_config_proto(config)))


def init_resource(config):
    """Opens a session, initialises the device in it, and returns it with the op that shuts the
    device down.
    """
    start, stop = npu_ops.initialize_system(), npu_ops.shutdown_system()
    sess = session.Session(config=npu_config_proto(config))
    sess.run(start)
    _ranks.update(
        rank=get_rank_id(),
        local_rank=get_local_rank_id(),
        size=get_rank_size(),
        local_size=get_local_rank_size(),
    )
    return sess, stop


def shutdown_resource(sess, npu_shutdown):
    sess.run(npu_shutdown)


def close_session(sess):
    sess.close()


_ranks = {}  # what init_resource() found


def get_npu_rank_id():
    return _ranks.get('rank', 0)


def get_npu_local_rank_id():
    return _ranks.get('local_rank', 0)


def get_npu_rank_size():
    return _ranks.get('size', 1)


def get_npu_local_rank_size():
    return _ranks.get('local_size', 1)


class NpuEmptyHook(tf.train.SessionRunHook):
    """A hook that does nothing."""


def npu_tf_optimizer(opt):
    return NPUDistributedOptimizer(opt)


release.publish(globals(), __name__)
if release.at_least('r1.9.0'):
    session.Session.__init__ = _config.decorator_tf_session(session.Session.__init__)
    session.InteractiveSession.__init__ = _config.decorator_tf_session(
        session.InteractiveSession.__init__
    )
