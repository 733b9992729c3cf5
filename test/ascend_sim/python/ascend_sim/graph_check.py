"""What a training step may consist of if all of it is to run on the device.

The adapter keeps on the host what the device cannot run, and splits the graph (slow, and fatal for
iterations_per_loop > 1); the stand-in refuses the step and names the op.
"""

import re
from typing import Dict, Iterable, List, Set

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.grappler import item as grappler_item
from tensorflow.python.grappler import tf_optimizer

from ascend_sim import errors, marks

_PYTHON = {'PyFunc', 'PyFuncStateless', 'EagerPyFunc'}
_FED = {'Placeholder', 'PlaceholderV2', 'PlaceholderWithDefault'}
_QUEUE = re.compile(r'Queue|^(Stage|Unstage|Barrier|Reader)|Reader(V2)?$')
_SUMMARY = re.compile(r'Summary')
_FUNCTIONAL = re.compile(r'(Stateless)?(If|While)$|Case$|For$|(Stateful)?PartitionedCall$')
_APPLY = re.compile(r'^(Resource)?(Sparse)?Apply[A-Z]')
# Outputs that have no static shape and need none: indices that constant folding removes, and
# cuDNN's scratch space.
_SHAPELESS = {'BroadcastGradientArgs'}
_SCRATCH = {('FusedBatchNormV3', 5)}


def ancestors(ops: Iterable[tf.Operation]) -> List[tf.Operation]:
    """Everything that has to run for `ops`, themselves included."""
    seen: Set[tf.Operation] = set()
    stack = list(ops)
    while stack:
        op = stack.pop()
        if op not in seen:
            seen.add(op)
            stack += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return list(seen)


def _function_ops(op: tf.Operation) -> List[str]:
    """Types of the ops in the bodies of a functional op (If, While, PartitionedCall), nested ones
    included.
    """
    if not _FUNCTIONAL.match(op.type):
        return []
    library = {item.signature.name: item for item in op.graph.as_graph_def().library.function}
    names, types, seen = _called(op.node_def), [], set()
    while names:
        name = names.pop()
        if name not in seen and name in library:
            seen.add(name)
            for node in library[name].node_def:
                types.append(node.op)
                names += _called(node)
    return types


def _called(node) -> List[str]:
    """Functions that a node names in its attributes."""
    return [
        name
        for value in node.attr.values()
        for name in [value.func.name] + [item.name for item in value.list.func]
        if name
    ]


def trains(op: tf.Operation) -> bool:
    """True if running `op` applies gradients: it is a training step."""
    if op.name == 'IterationOp':
        return True
    return any(
        _APPLY.match(kind) for item in ancestors([op]) for kind in [item.type] + _function_ops(item)
    )


def check(roots: List[tf.Operation], iterations: int) -> None:
    """Raises tf.errors.InvalidArgumentError, naming the op, if the step of `roots` cannot be sunk
    to the device.

    iterations: iterations_per_loop; with more than one a one-shot iterator kills the process, as in
    the real adapter.
    """
    ops = ancestors(roots)
    if iterations != 1 and any(op.type == 'OneShotIterator' for op in ops):
        errors.fatal('iterator_per_loop only support 1 when using OneShotIterator')
    for op in sorted(ops, key=lambda item: item.name):
        if marks.kind(op) is None:
            for kind in [op.type] + _function_ops(op):
                _check_type(op, kind)
            _check_strings(op)
    _check_shapes(roots, {op.name: op for op in ops})


def _check_type(op: tf.Operation, kind: str) -> None:
    if kind in _PYTHON:
        problem = 'runs Python inside the step; do it in the dataset (map) instead'
    elif kind in _FED:
        problem = 'is fed; data must come from an initializable tf.data iterator'
    elif kind == 'OneShotIterator':
        problem = (
            'is a one-shot iterator; use an initializable one (an Estimator input_fn that returns a'
            ' Dataset does)'
        )
    elif _QUEUE.search(kind):
        problem = 'is a queue or reader; data must come from an initializable tf.data iterator'
    elif _SUMMARY.search(kind):
        problem = 'is a summary inside the step; write summaries on the host'
    else:
        return
    raise errors.invalid(
        'the training step cannot run on the device: %s (%s) %s' % (op.name, kind, problem), op
    )


def _check_strings(op: tf.Operation) -> None:
    """Strings stay on the host; the message constants of Assert are the exception that the real
    adapter makes too.
    """
    for tensor in op.outputs:
        if tensor.dtype.base_dtype == tf.string and not (
            op.type == 'Const' and all(use.type == 'Assert' for use in tensor.consumers())
        ):
            raise errors.invalid(
                'the training step cannot run on the device: %s (%s) has a string output'
                % (op.name, op.type),
                op,
            )


def _folding_matters(meta: meta_graph_pb2.MetaGraphDef) -> bool:
    """Whether a shape is unknown to Grappler's inference, which takes a tenth of the time."""
    nodes = {node.name: node for node in meta.graph_def.node}
    for name, outputs in grappler_item.Item(meta).GetOpProperties().items():
        node = nodes[name]
        # What a broadcast gradient sums over is known where the shapes that it has are.
        sums = node.op == 'Sum' and nodes[node.input[1].split(':')[0]].op in _SHAPELESS
        if sums or node.op in _SHAPELESS or marks.is_marked(node):
            continue
        for index, output in enumerate(outputs):
            is_known = not output.shape.unknown_rank and all(
                dim.size >= 0 for dim in output.shape.dim
            )
            has_shape = tf.as_dtype(output.dtype).base_dtype not in (tf.resource, tf.variant)
            if has_shape and not is_known and (node.op, index) not in _SCRATCH:
                return True
    return False


def _known(tensor: tf.Tensor, original: tf.Operation) -> bool:
    """True for a shape that importing a graph forgets: those in tf.while_loop, which Python sets
    when it makes the loop.
    """
    return (
        original is not None
        and tensor.value_index < len(original.outputs)
        and original.outputs[tensor.value_index].shape.is_fully_defined()
    )


def _check_shapes(roots: List[tf.Operation], originals: Dict[str, tf.Operation]) -> None:
    """Shapes are judged after TensorFlow's own constant folding, which is what the real adapter
    gets to see.
    """
    graph = roots[0].graph
    meta = meta_graph_pb2.MetaGraphDef()
    meta.graph_def.CopyFrom(
        tf.graph_util.extract_sub_graph(graph.as_graph_def(), [op.name for op in roots])
    )
    meta.collection_def['train_op'].node_list.value.extend(op.name for op in roots)
    if not _folding_matters(meta):
        return
    config = config_pb2.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1
    rewrite.meta_optimizer_iterations = rewrite.TWO
    rewrite.optimizers.extend(['pruning', 'function', 'constfold', 'shape', 'constfold'])
    folded = tf.Graph()
    with folded.as_default():
        tf.import_graph_def(tf_optimizer.OptimizeGraph(config, meta), name='')
    unknown = {
        op.name: (op, tensor)
        for op in folded.get_operations()
        if marks.kind(op) is None and op.type not in _SHAPELESS
        for tensor in op.outputs
        if (op.type, tensor.value_index) not in _SCRATCH
        and tensor.dtype.base_dtype not in (tf.resource, tf.variant)
        and not tensor.shape.is_fully_defined()
        and not _known(tensor, originals.get(op.name))
    }
    if unknown:
        # The op that was made first is the cause; the others follow from it.
        op, tensor = min(
            unknown.values(),
            key=lambda pair: (
                originals[pair[0].name]._id if pair[0].name in originals else len(originals) << 8
            ),
        )
        raise errors.invalid(
            'the training step cannot run on the device: %s (%s) has the unknown shape %s; shapes'
            ' must be static (batch(..., drop_remainder=True))' % (op.name, op.type, tensor.shape),
            originals.get(op.name),
        )
