"""npu_bridge.estimator.npu.npu_scope: attributes of nodes, which nothing here reads."""

import contextlib

import tensorflow.compat.v1 as tf
from ascend_sim import release
from tensorflow.core.framework import attr_value_pb2


@contextlib.contextmanager
def _keep_dtype():
    with tf.get_default_graph()._attr_scope({'_keep_dtype': attr_value_pb2.AttrValue(i=1)}):
        yield


@release.signed
def keep_dtype_scope():
    return _keep_dtype()
