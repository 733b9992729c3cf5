"""Batch norm at inference is a scale and a shift per channel; where it directly follows a
convolution, that convolution can do both.
"""

import collections
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import tensor_util

_NORMS = ('FusedBatchNorm', 'FusedBatchNormV2', 'FusedBatchNormV3')


class Folded(NamedTuple):
    graph_def: tf.GraphDef
    folded: int  # batch norms that went into a convolution
    kept: int  # batch norms that something else precedes


def batch_norms(graph_def: tf.GraphDef, output: str) -> Folded:
    """Folds convolution (-> BiasAdd) -> batch norm of a frozen graph into convolution -> BiasAdd.

    Exact but for rounding: kernel' = kernel * s and bias' = (bias - mean) * s + beta with s = gamma
    / sqrt(variance + epsilon), computed in float64. The BiasAdd takes the batch norm's name. A
    convolution whose result something else reads as well is left alone, and so is a batch norm
    after a sum or a ReLU (pre-activation networks): ONNX Runtime and ATC both have a kernel for it,
    which beats a Mul and an Add.

    Args:
        graph_def: without variables, Identity and training nodes.
        output: the node that is wanted; what it does not need is left out.
    """
    graph = tf.GraphDef()
    graph.CopyFrom(graph_def)
    nodes = {node.name: node for node in graph.node}
    readers = collections.Counter(
        [output] + [name.split(':')[0] for node in graph.node for name in node.input]
    )
    norms = [node for node in graph.node if node.op in _NORMS]
    folded = 0
    for norm in norms:
        above = nodes[norm.input[0]]
        biased = above if above.op == 'BiasAdd' else None
        conv = nodes[biased.input[0]] if biased else above
        if (
            conv.op not in ('Conv2D', 'DepthwiseConv2dNative')
            or readers[conv.name] > 1
            or readers[above.name] > 1
        ):
            continue
        gamma, beta, mean, variance = (_value(nodes[name]) for name in norm.input[1:5])
        scale = gamma / np.sqrt(variance + norm.attr['epsilon'].f)
        kernel = _value(nodes[conv.input[1]])
        # A depthwise kernel is [h, w, channels, multiplier] and its outputs are numbered channel by
        # channel.
        kernel = kernel * (
            scale.reshape(kernel.shape[2:]) if conv.op == 'DepthwiseConv2dNative' else scale
        )
        bias = _value(nodes[biased.input[1]]) if biased else 0.0
        conv.input[1] = _constant(graph, conv.name + '/folded_kernel', kernel)
        shift = _constant(graph, norm.name + '/folded_bias', (bias - mean) * scale + beta)
        data_format = norm.attr['data_format'].s
        norm.op = 'BiasAdd'
        norm.input[:] = [conv.name, shift]
        norm.attr.clear()
        norm.attr['T'].type = tf.float32.as_datatype_enum
        norm.attr['data_format'].s = data_format
        folded += 1
    return Folded(tf.graph_util.extract_sub_graph(graph, [output]), folded, len(norms) - folded)


def _value(node: tf.NodeDef) -> np.ndarray:
    return tensor_util.MakeNdarray(node.attr['value'].tensor).astype(np.float64)


def _constant(graph: tf.GraphDef, name: str, value: np.ndarray) -> str:
    node = graph.node.add(name=name, op='Const')
    node.attr['dtype'].type = tf.float32.as_datatype_enum
    node.attr['value'].tensor.CopyFrom(tensor_util.make_tensor_proto(value.astype(np.float32)))
    return name
