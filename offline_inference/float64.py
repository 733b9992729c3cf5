"""Inference graphs in float64: compares two whose difference float32 rounding would hide."""

from typing import Mapping

import numpy as np
import tensorflow as tf

from offline_inference import pb
from offline_inference.reference import Infer, Reference

_FLOAT, _DOUBLE = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum


def checkpoint_network(reference: Reference) -> Infer:
    """Returns infer of the checkpoint's own network, its values read from the file."""
    with tf.Graph().as_default() as graph:
        reference.network(tf.placeholder(tf.float32, reference.input_shape, pb.INPUT))
    names = reference.plan.names.items()
    values = {name: reference.plan.checkpoint.read(source) for name, source in names}
    return frozen_graph(reference, graph.as_graph_def(), values)


def frozen_graph(
    reference: Reference, graph_def: tf.GraphDef, values: Mapping[str, np.ndarray] = {}
) -> Infer:
    """Returns infer of an inference graph; values: {name: value} of its variables."""
    graph_def = convert(graph_def, reference.output_name, values)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name='')
        images, logits = (
            graph.get_tensor_by_name(name + ':0') for name in (pb.INPUT, reference.output_name)
        )
        session = tf.Session(graph=graph, config=reference.session_config())
    return session.make_callable(logits, [images])


def convert(graph_def: tf.GraphDef, output: str, values: Mapping[str, np.ndarray]) -> tf.GraphDef:
    """Returns an inference graph with float64 for float32, and `values` for variables."""
    constant = tf.GraphDef()
    for node in graph_def.node:
        if node.name in values:
            _constant(constant, node.name, values[node.name])
        else:
            constant.node.add().CopyFrom(node)
    result = tf.GraphDef()
    for node in tf.graph_util.extract_sub_graph(constant, [output]).node:
        if node.op.startswith('FusedBatchNorm'):  # has no float64 kernel
            _batch_norm(result, node)
        elif node.op == 'Const' and node.attr['dtype'].type == _FLOAT:
            _constant(result, node.name, tf.make_ndarray(node.attr['value'].tensor))
        else:
            copy = result.node.add()
            copy.CopyFrom(node)
            for attribute in copy.attr.values():
                if attribute.type == _FLOAT:
                    attribute.type = _DOUBLE
            if node.op == 'ResizeBilinear':  # whatever it reads, it makes float32
                copy.name += '/float64_resized'
                cast = result.node.add(op='Cast', name=node.name, input=[copy.name])
                cast.attr['SrcT'].type, cast.attr['DstT'].type = _FLOAT, _DOUBLE
    return result


def _constant(graph_def: tf.GraphDef, name: str, value: np.ndarray) -> None:
    node = graph_def.node.add(op='Const', name=name)
    node.attr['dtype'].type = _DOUBLE
    node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(value.astype(np.float64)))


def _batch_norm(graph_def: tf.GraphDef, norm: tf.NodeDef) -> None:
    """(x - mean) * gamma / sqrt(variance + epsilon) + beta, in separate operations."""
    x, gamma, beta, mean, variance = norm.input[:5]
    part = norm.name + '/float64_'
    _constant(graph_def, part + 'epsilon', np.float64(norm.attr['epsilon'].f))
    for op, result, inputs in (
        ('AddV2', part + 'variance', [variance, part + 'epsilon']),
        ('Rsqrt', part + 'rsqrt', [part + 'variance']),
        ('Mul', part + 'scale', [gamma, part + 'rsqrt']),
        ('Sub', part + 'centred', [x, mean]),
        ('Mul', part + 'scaled', [part + 'centred', part + 'scale']),
        ('AddV2', norm.name, [part + 'scaled', beta]),
    ):
        graph_def.node.add(op=op, name=result, input=inputs).attr['T'].type = _DOUBLE
