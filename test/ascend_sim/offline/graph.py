"""The frozen TensorFlow graph on its way through atc: read, cut to the outputs, checked, rounded as
the device rounds.
"""

import fnmatch
from typing import Dict, List, Tuple

import numpy as np
import tensorflow.compat.v1 as tf
from google.protobuf.message import DecodeError

from offline.errors import AtcError, unsupported

# Operations that the inference parser does not know: what is not frozen, reads data, talks to the
# host or only trains.
UNKNOWN = (
    'Variable* VarHandleOp VarIsInitializedOp ReadVariableOp ResourceGather* IsVariableInitialized'
    ' Assign* *Iterator* *Dataset* *Queue* *ReaderV2 Reader* Assert Print PrintV2 *PyFunc* Save*'
    ' Restore* *Summary* NoOp Decode* Parse* ReadFile String* AsString HashTable* LookupTable*'
    ' Dropout *Grad Apply* ResourceApply*'
).split()
FUNCTIONAL = (
    'PartitionedCall StatefulPartitionedCall If StatelessIf While StatelessWhile For'.split()
)
# Operations that hand values on unchanged: rounding their result again would do nothing.
_PASSIVE = (
    'Const Identity Reshape Squeeze ExpandDims Transpose MaxPool Relu ConcatV2 Split SplitV Slice'
    ' StridedSlice Pack Unpack Tile GatherV2'
).split()
# Operations of the matrix unit -> the inputs that it takes in float16 only.
_CUBE = {
    'Conv2D': (0, 1),
    'DepthwiseConv2dNative': (0, 1),
    'MatMul': (0, 1),
    'BatchMatMul': (0, 1),
    'BatchMatMulV2': (0, 1),
    'Conv2DBackpropInput': (1, 2),
    'Conv3D': (0, 1),
}
_LARGEST = 65504.0


def read(path: str) -> tf.GraphDef:
    """The GraphDef of a .pb file. Raises AtcError: E19015 empty, E19005 not protobuf, E10041 no
    nodes.
    """
    with open(path, 'rb') as file:
        data = file.read()
    if not data:
        raise AtcError('E19015', path)
    graph_def = tf.GraphDef()
    try:
        graph_def.ParseFromString(data)
    except (DecodeError, RuntimeError):
        raise AtcError('E19005', path) from None
    if not graph_def.node:
        raise AtcError('E10041', path)
    return graph_def


def producer(tensor: str) -> Tuple[str, int]:
    """(node, index) of a node's input such as 'name', 'name:1' or '^name'."""
    name, _, index = tensor.lstrip('^').partition(':')
    return name, int(index or 0)


def cut(graph_def: tf.GraphDef, outputs: List[str]) -> tf.GraphDef:
    """The nodes that `outputs` need, in the file's order. Raises AtcError for a name that is not
    there.
    """
    nodes = {node.name: node for node in graph_def.node}
    for name in outputs:
        if name not in nodes:
            raise AtcError('E10016', name, 'out_nodes')
    needed, waiting = set(), list(outputs)
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        for tensor in nodes[name].input:
            source = producer(tensor)[0]
            if source not in nodes:
                raise AtcError('E12009', name, source)
            waiting.append(source)
    result = tf.GraphDef(versions=graph_def.versions, library=graph_def.library)
    result.node.extend(node for node in graph_def.node if node.name in needed)
    for node in result.node:
        node.device = ''
    return result


def check_operations(graph_def: tf.GraphDef) -> None:
    """Raises AtcError for the first operation that cannot become part of an offline model."""
    for node in graph_def.node:
        if any(fnmatch.fnmatchcase(node.op, pattern) for pattern in UNKNOWN):
            raise AtcError('E19010', node.name, node.op)
        if node.op in FUNCTIONAL:
            raise AtcError('E12029')


def load(graph_def: tf.GraphDef, shapes: Dict[str, List[int]]) -> tf.Graph:
    """A tf.Graph with its Placeholders at these static shapes. Raises AtcError if the shapes do not
    go together.
    """
    fixed = tf.GraphDef()
    fixed.CopyFrom(graph_def)
    for node in fixed.node:
        if node.name in shapes:
            node.attr['shape'].shape.CopyFrom(tf.TensorShape(shapes[node.name]).as_proto())
            node.attr.pop('_output_shapes', None)
    result = tf.Graph()
    with result.as_default():
        try:
            tf.import_graph_def(fixed, name='')
        except (ValueError, TypeError, KeyError) as error:
            raise AtcError(
                'E19999',
                'The shapes of the graph cannot be inferred: %s' % str(error).splitlines()[0],
            ) from None
    return result


def _half(array: np.ndarray) -> np.ndarray:
    return np.clip(array, -_LARGEST, _LARGEST).astype(np.float16).astype(np.float32)


def _batch_norm_parameters(nodes: Dict[str, tf.NodeDef]) -> set:
    """Names of the Consts that hold scale, offset, mean and variance: vectors that the device keeps
    in float32.
    """
    names = set()
    for node in nodes.values():
        for tensor in node.input[1:5] if node.op.startswith('FusedBatchNorm') else ():
            name = producer(tensor)[0]
            while nodes[name].op == 'Identity':
                name = producer(nodes[name].input[0])[0]
            names.add(name)
    return names


class _Rounding:
    """Adds to a GraphDef, for a tensor, the nodes that clip it to float16's range and round it to
    float16's values.
    """

    def __init__(self, graph_def: tf.GraphDef):
        self._graph_def, self._done = graph_def, {}
        for sign, value in (('low', -_LARGEST), ('high', _LARGEST)):
            self._add(
                'half_range/' + sign,
                'Const',
                [],
                dtype=tf.float32,
                value=tf.make_tensor_proto(value, tf.float32),
            )

    def _add(self, name, op, inputs, **attributes):
        node = self._graph_def.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            if isinstance(value, tf.DType):
                node.attr[key].type = value.as_datatype_enum
            else:
                node.attr[key].tensor.CopyFrom(value)
        return name

    def of(self, name: str, index: int) -> str:
        """Name of the node whose result is the rounded tensor."""
        if (name, index) not in self._done:
            stem = '%s/half_%d/' % (name, index)
            node = self._add(
                stem + 'low', 'Maximum', ['%s:%d' % (name, index), 'half_range/low'], T=tf.float32
            )
            node = self._add(stem + 'high', 'Minimum', [node, 'half_range/high'], T=tf.float32)
            node = self._add(stem + 'round', 'Cast', [node], SrcT=tf.float32, DstT=tf.float16)
            self._done[name, index] = self._add(
                stem + 'back', 'Cast', [node], SrcT=tf.float16, DstT=tf.float32
            )
        return self._done[name, index]


def round_to_half(
    graph_def: tf.GraphDef, graph: tf.Graph, mode: str, outputs: List[Tuple[str, int]]
) -> Tuple[tf.GraphDef, List[str]]:
    """The graph as it computes in `mode` (see checks.precision), and the names of the tensors that
    are its outputs now.

    'half': weights (all but the parameters of batch normalisation) and every computed float32
    tensor, inputs and outputs among them, are rounded to float16 and saturate at +-65504; sums
    inside an operation stay float32, as in the device's matrix unit. 'cube': only what enters
    convolutions and matrix products is rounded. 'float': nothing.
    """
    if mode == 'float':
        return graph_def, ['%s:%d' % output for output in outputs]
    if any(node.op == 'Enter' for node in graph_def.node):
        raise unsupported('a while loop in float16')
    result = tf.GraphDef()
    result.CopyFrom(graph_def)
    original = list(result.node)
    nodes = {node.name: node for node in original}
    rounding = _Rounding(result)
    keep = _batch_norm_parameters(nodes)

    def rounded(name, index):
        operation = graph.get_operation_by_name(name)
        return operation.outputs[index].dtype == tf.float32 and operation.type not in _PASSIVE

    for node in original:
        for position, tensor in enumerate(node.input):
            name, index = producer(tensor)
            if tensor.startswith('^'):
                continue
            if mode == 'cube':
                if (
                    position in _CUBE.get(node.op, ())
                    and graph.get_operation_by_name(name).outputs[index].dtype == tf.float32
                ):
                    node.input[position] = rounding.of(name, index)
            elif rounded(name, index):
                node.input[position] = rounding.of(name, index)
        if (
            mode == 'half'
            and node.op == 'Const'
            and node.attr['dtype'].type == tf.float32.as_datatype_enum
            and node.name not in keep
        ):
            node.attr['value'].tensor.CopyFrom(
                tf.make_tensor_proto(_half(tf.make_ndarray(node.attr['value'].tensor)), tf.float32)
            )
    return result, [
        (
            rounding.of(name, index) + ':0'
            if mode == 'half' and rounded(name, index)
            else '%s:%d' % (name, index)
        )
        for name, index in outputs
    ]
