"""What decides the speed of a training step on an Ascend device and can be counted without one.

`python -m common.benchmark npu --config RECIPE [--ranks 8] [flags of the recipe]` builds the step
for `--device npu`, folds it as the TF adapter does, and counts; nothing runs and no data is read.
"""

import collections
import os
import pathlib
import re
import types
from typing import Any, Dict, Iterable, List
from unittest import mock

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.grappler import tf_optimizer

from common import devices
from common.data import sampling
from common.devices import npu_session
from common.files import read_json
from common.task import Task
from common.training import global_batch, model_fn

ENGINES = read_json(pathlib.Path(__file__).parents[1] / 'ascend' / 'op_engines.json')
# TensorFlow's own optimizers that run beside the adapter's.
_FOLDING = ('pruning', 'function', 'constfold', 'shape', 'arithmetic', 'loop', 'dependency')
# An op may say which op of the device it stands for; '': for none.
STANDS_FOR = '_npu_op'
_GRADIENT = re.compile(r'(^|/)gradients(_\d+)?/')
_STATE = ('VariableV2', 'Const', 'Identity')


def training_graph(task: Task, cfg: Any, ranks: int) -> tf.Graph:
    """Returns the folded graph of one training step on one of `ranks` devices."""
    device = devices.select('npu')
    device.size = ranks
    # The adapter's optimizer reads the variable.
    with mock.patch.dict(os.environ, RANK_SIZE=str(ranks)), tf.Graph().as_default() as graph:
        features = _features(task, cfg)
        spec = model_fn.build(task, cfg, device, total_steps=10**6, steps_per_epoch=10**3)(
            features, None, tf.estimator.ModeKeys.TRAIN
        )
        fetches = [spec.train_op.name, spec.loss.op.name]
        fetches += [name.split(':')[0] for name in (model_fn.STEP, model_fn.LEARNING_RATE)]
    return _folded(graph, fetches)


def _features(task: Task, cfg: Any) -> Dict[str, tf.Tensor]:
    """A batch as it leaves the pipeline, by types and shapes: the iterator is never started."""
    size = cfg.batch_size * cfg.accumulate
    batch = {
        'id': tf.zeros([size], tf.int64),
        'draws': tf.zeros([size, task.data.DRAWS]),
        'mask': tf.ones([size]),
    }
    folder = types.SimpleNamespace(metadata={}, path='no records', count=size)
    parse = sampling.as_written(lambda batch: task.data.parse(batch, folder, cfg, True))
    dataset = tf.data.Dataset.from_tensors(batch).map(parse)
    return tf.data.make_initializable_iterator(dataset).get_next()


def _folded(graph: tf.Graph, fetches: List[str]) -> tf.Graph:
    meta = meta_graph_pb2.MetaGraphDef()
    meta.graph_def.CopyFrom(tf.graph_util.extract_sub_graph(graph.as_graph_def(), fetches))
    meta.collection_def['train_op'].node_list.value.extend(fetches)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.optimizers.extend(_FOLDING)
    folded = tf.Graph()
    with folded.as_default():
        tf.import_graph_def(tf_optimizer.OptimizeGraph(config, meta), name='')
    return folded


def device_type(op: tf.Operation) -> str:
    """Type of the op on the device, '' if there is none."""
    try:
        return op.get_attr(STANDS_FOR).decode()
    except ValueError:
        return op.type


def device_ops(graph: tf.Graph) -> List[tf.Operation]:
    """The ops that the device runs; of those that together stand for one, the first."""

    def continues(op: tf.Operation, kind: str) -> bool:
        inputs = [tensor.op for tensor in op.inputs if tensor.op.type != 'Const']
        return op.type == 'Const' or any(device_type(source) == kind for source in inputs)

    kinds = {op: device_type(op) for op in graph.get_operations()}
    return [
        op for op, kind in kinds.items() if kind and (kind == op.type or not continues(op, kind))
    ]


def engine(op: tf.Operation) -> str:
    """'ai_core', 'ai_cpu', 'graph_engine', 'hccl', 'host', or 'unknown' to the table."""
    kind = device_type(op)
    if kind in ENGINES['ai_cpu'] or kind in ENGINES['ai_cpu_if'] and _needs_ai_cpu(op, kind):
        return 'ai_cpu'
    for name in ('ai_core', 'graph_engine', 'hccl', 'host'):
        if kind in ENGINES[name]:
            return name
    return 'unknown'


def _needs_ai_cpu(op: tf.Operation, kind: str) -> bool:
    """The condition that the table states in words."""
    dtype = op.inputs[0].dtype.base_dtype
    if kind == 'StridedSlice':
        strides = tf.get_static_value(op.inputs[3])
        return strides is None or len(strides) > 0 and strides[-1] < 1
    if kind == 'Cast':
        return dtype == tf.int64 and op.outputs[0].dtype == tf.float32
    if kind == 'Slice':
        return tf.get_static_value(op.inputs[1]) is None
    return dtype.is_integer if kind == 'Sum' else dtype == tf.float32


def _bytes(tensors: Iterable[tf.Tensor]) -> int:
    return sum(t.shape.num_elements() * t.dtype.base_dtype.size for t in tensors)


def flops(op: tf.Operation) -> int:
    """Floating-point operations: of convolutions and matrix products a multiplication and an
    addition for each weight, of other ops one for each element of the result.
    """
    kind = op.type
    if kind == 'MatMul':
        inner = op.inputs[0].shape.as_list()[0 if op.get_attr('transpose_a') else 1]
        return 2 * inner * op.outputs[0].shape.num_elements()
    match = re.match(r'(DepthwiseConv2dNative|Conv2D)(Backprop)?(Input|Filter)?$', kind)
    if match:
        weights = op.outputs[0] if match.group(3) == 'Filter' else op.inputs[1]
        height, width, channels, _ = weights.shape.as_list()
        result = op.inputs[2] if match.group(2) else op.outputs[0]
        depthwise = match.group(1) != 'Conv2D'
        window = height * width * (1 if depthwise else channels)
        return 2 * window * result.shape.num_elements()
    floats = [t for t in op.outputs if t.dtype.base_dtype == tf.float32]
    return sum(t.shape.num_elements() or 0 for t in floats[:1])


def count(graph: tf.Graph, cfg: Any) -> Dict[str, Any]:
    """Returns what can be counted of a folded training step."""
    ops = device_ops(graph)
    by_engine: Dict[str, List[tf.Operation]] = {'ai_core': [], 'hccl': [], 'host': []}
    for op in ops:
        by_engine.setdefault(engine(op), []).append(op)
    core, collectives = by_engine['ai_core'], by_engine['hccl']
    float16 = sum(flops(op) for op in core if _in_float16(op))
    total = sum(flops(op) for op in core)
    batch = next(op for op in ops if op.type == 'IteratorGetNext')
    images = cfg.batch_size * cfg.accumulate
    return dict(
        device_graphs=1 + len(by_engine['host']),
        feeds=sum(op.type.startswith('Placeholder') for op in ops),
        nodes=len(ops),
        op_types={
            name: dict(collections.Counter(map(device_type, engine_ops)).most_common())
            for name, engine_ops in sorted(by_engine.items())
            if engine_ops
        },
        v1_loops=len({op.get_attr('frame_name') for op in ops if op.type.endswith('Enter')}),
        conditional_switches=sum(op.type.endswith('Switch') for op in ops),
        bytes_per_image=_bytes(batch.outputs) // images,
        gflops_per_image=round(total / images / 1e9, 3),
        float16_share_of_flops=round(float16 / total, 4),
        activation_megabytes=round(_activations(ops, cfg) / 1e6, 1),
        collectives=dict(
            count=len(collectives),
            bytes=sum(_bytes(op.inputs) for op in collectives),
            order=['%s %d' % (device_type(op), _bytes(op.inputs)) for op in collectives],
        ),
    )


def _in_float16(op: tf.Operation) -> bool:
    """Whether the matrix unit runs it, in float16 in every mode unless its types are kept."""
    if not re.search('Conv2d|Conv2D|MatMul', op.type):
        return False
    try:
        return not op.get_attr('_keep_dtype')
    except ValueError:
        return True


def _activations(ops: List[tf.Operation], cfg: Any) -> int:
    """Bytes that the forward pass keeps for the backward pass, an estimate: float32 counts half in
    mixed precision; of micro-batches only one is alive.
    """
    read = {tensor for op in ops if _GRADIENT.search(op.name) for tensor in op.inputs}
    kept = [
        tensor
        for tensor in read
        if not _GRADIENT.search(tensor.op.name)
        and tensor.op.type not in _STATE
        and tensor.shape.is_fully_defined()
    ]
    floats = [tensor for tensor in kept if tensor.dtype.base_dtype == tf.float32]
    saved = sum(_bytes([tensor]) // 2 for tensor in floats) if npu_session.is_mixed(cfg) else 0
    return (_bytes(kept) - saved) // cfg.accumulate


def measure(task: Task, cfg: Any, ranks: int) -> Dict[str, Any]:
    """Returns the counts of a recipe's step on one of `ranks` devices, with its share of the global
    batch, and why AI CPU runs.
    """
    cfg, _ = global_batch.divide(cfg, ranks)
    result = count(training_graph(task, cfg, ranks), cfg)
    why = dict(ENGINES['ai_cpu'], **ENGINES['ai_cpu_if'])
    used = result['op_types'].get('ai_cpu', {})
    return dict(result, ranks=ranks, ai_cpu_because={name: why[name] for name in used})
