"""Marks on graph nodes by which the patched session recognises what the real adapter recognises by
op type.
"""

import contextlib
from typing import Optional

import tensorflow.compat.v1 as tf
from tensorflow.core.framework import attr_value_pb2, node_def_pb2

INIT, SHUTDOWN = b'NPUInit', b'NPUShutdown'
_KIND, _FUSION = '_npu_op', '_ascend_sim_fusion'


@contextlib.contextmanager
def scope(kind: bytes, fusion: int = 0):
    """Every op made inside stands for one op of the device, b'' for none; fusion: that of HCCL."""
    values = {_KIND: attr_value_pb2.AttrValue(s=kind), _FUSION: attr_value_pb2.AttrValue(i=fusion)}
    with tf.get_default_graph()._attr_scope(values):
        yield


def kind(op: tf.Operation) -> Optional[bytes]:
    """The kind under which the op was made, None for an op of the user's."""
    try:
        return op.get_attr(_KIND)
    except ValueError:
        return None


def is_marked(node: node_def_pb2.NodeDef) -> bool:
    """Whether the node was made under a kind."""
    return _KIND in node.attr


def is_hccl(op: tf.Operation) -> bool:
    return (kind(op) or b'').startswith(b'Hcom')


def fusion(op: tf.Operation) -> int:
    return op.get_attr(_FUSION)
