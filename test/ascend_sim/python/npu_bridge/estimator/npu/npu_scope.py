"""npu_bridge.estimator.npu.npu_scope. Differs: the attributes are set on the nodes, and nothing
reads them.
"""

import contextlib

import tensorflow.compat.v1 as tf
from ascend_sim import release
from tensorflow.core.framework import attr_value_pb2

from npu_bridge.estimator.npu import util
from npu_bridge.estimator.npu.npu_config import NpuExecutePlacement


def _value(value):
    if isinstance(value, bool):
        return attr_value_pb2.AttrValue(b=value)
    if isinstance(value, int):
        return attr_value_pb2.AttrValue(i=value)
    return attr_value_pb2.AttrValue(s=tf.compat.as_bytes(value))


@contextlib.contextmanager
def _attributes(**attributes):
    with tf.get_default_graph()._attr_scope(
        {name: _value(value) for name, value in attributes.items()}
    ):
        yield


def without_npu_compile_scope():
    return _attributes(_without_npu_compile=True)


def npu_variable_scope(placement):
    if not isinstance(placement, NpuExecutePlacement):
        raise ValueError("placement vaule must be in NpuExecutePlacement's vaule")
    return _attributes(_variable_placement=placement.value)


def keep_dtype_scope():
    return _attributes(_keep_dtype=1)


def npu_stage_scope(stage):
    return _attributes(_stage_level=stage)


def npu_mem_type_scope():
    return _attributes(_output_memory_type=1)


def npu_weight_prefetch_scope(buffer_pool_id, buffer_pool_size):
    return _attributes(_buffer_pool_id=buffer_pool_id, _buffer_pool_size=buffer_pool_size)


def op_specified_engine_scope(engine_name, kernel_lib_name):
    return _attributes(
        _specified_engine_name=engine_name, _specified_kernel_lib_name=kernel_lib_name
    )


def npu_qos_label_scope(label):
    return _attributes(_qos_service_label=label)


def subgraph_multi_dims_scope(index):
    return _attributes(_subgraph_multi_dims_index=index)


def npu_optimizer_scope():
    return _attributes(_optimizer=True)


def npu_recompute_scope():
    return tf.name_scope('NpuRecompute')


def npu_graph_slice_scope(slice_num):
    if slice_num is not None:
        util.check_positive_integer(slice_num, 'slice_num')
    return tf.name_scope('SliceNum-%s-NpuGraphSlicing%s' % (slice_num, slice_num))


release.publish(globals(), __name__)
