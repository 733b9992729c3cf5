"""atc: a frozen TensorFlow graph -> offline model. What it accepts, refuses and prints is CANN's;
what it writes is the stand-in's own.
"""

import os
import sys
from typing import Any, Dict, List

from offline import aipp, checks, errors, flags, om
from offline.errors import AtcError

START = 'ATC start working now, please wait for a moment.'
SUCCESS = 'ATC run success, welcome to the next use.'
FAILURE = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"
FAILED = 255  # CANN's FAILED is 0xFFFFFFFF, of which a status keeps one byte


def _say(text: str) -> None:
    print(text, flush=True)


def _inputs(values: Dict[str, Any], graph_def, shapes: checks.Shapes) -> List[Dict[str, Any]]:
    """The model's inputs: those of --input_shape in its order, then the others."""
    import tensorflow.compat.v1 as tf

    nodes = {node.name: node for node in graph_def.node}
    shapes = list(shapes)
    for name, shape in shapes:
        if name not in nodes:
            raise AtcError('E10016', name, 'input_shape')
        if nodes[name].op != 'Placeholder':
            raise AtcError('E10017', name, 'input_shape')
    for node in graph_def.node:
        if node.op == 'Placeholder' and node.name not in dict(shapes):
            shape = tf.TensorShape(node.attr['shape'].shape)
            sizes = (
                [size.value if size.value is not None else -1 for size in shape]
                if shape.dims is not None
                else [-1]
            )
            if -1 in sizes:
                raise AtcError(
                    'E10001', -1, node.name, 'maybe you should set input_shape to specify its shape'
                )
            shapes.append((node.name, sizes))
    inputs = []
    for name, shape in shapes:
        declared = tf.TensorShape(nodes[name].attr['shape'].shape)
        if declared.dims is not None and declared.dims and len(declared.dims) != len(shape):
            raise AtcError('E10049', len(shape), len(declared.dims))
        dtype = tf.as_dtype(nodes[name].attr['dtype'].type)
        if dtype not in (tf.float32, tf.float16, tf.uint8, tf.int32, tf.int64, tf.bool):
            raise AtcError(
                'E19999', 'Data type %s of node %s is not supported.' % (dtype.name, name)
            )
        inputs.append(
            dict(
                name=name,
                dtype=dtype.as_numpy_dtype().dtype.name,
                shape=list(shape),
                model_shape=list(shape),
                feed=dtype.as_numpy_dtype().dtype.name,
                aipp=None,
            )
        )
    for name in values['input_fp16_nodes'].split(';') if values['input_fp16_nodes'] else []:
        if name not in nodes:
            raise AtcError('E10016', name, 'input_fp16_nodes')
        if nodes[name].op != 'Placeholder':
            raise AtcError('E10017', name, 'input_fp16_nodes')
        next(item for item in inputs if item['name'] == name)['dtype'] = 'float16'
    return inputs


def _insert_aipp(values: Dict[str, Any], inputs: List[Dict[str, Any]], kind) -> None:
    """Gives the inputs that the configuration names their operation: from then on they take uint8
    images.
    """
    if not values['insert_op_conf']:
        return
    operations = aipp.read(values['insert_op_conf'])
    if kind == 'image':
        raise errors.unsupported('AIPP with --dynamic_image_size')
    names = [item['name'] for item in inputs]
    for operation in operations:
        name, rank = operation['related_input_name'], operation['related_input_rank']
        if name and name not in names:
            raise AtcError('E10052', 'related_input_name %s is no input of the model' % name)
        if not name and rank >= len(inputs):
            raise AtcError(
                'E10052',
                'Can not find the data node by aipp parameter related_input_rank %d' % rank,
            )
        item = inputs[names.index(name) if name else rank]
        if item['name'] in values['input_fp16_nodes'].split(';'):
            raise AtcError('E10034', item['name'])
        item['shape'] = aipp.fit(
            operation, item['model_shape'], item['dtype'], values['input_format']
        )
        item.update(dtype='uint8', aipp=operation)


def _outputs(values: Dict[str, Any], nodes, types, loaded, fetches) -> List[Dict[str, Any]]:
    """The model's outputs. Without --output_type an output keeps the graph's type;
    ASCEND_SIM_OUTPUT_FP16=1: float32 becomes float16.
    """
    outputs = []
    for (name, index), fetch in zip(nodes, fetches):
        native = loaded.get_operation_by_name(name).outputs[index].dtype.as_numpy_dtype().dtype.name
        wanted = types.get((name, index)) or types.get(None)
        if native == 'int64' and not wanted:
            raise AtcError(
                'E10055', 'the output %s:%d is INT64, cast it to INT32 in the graph' % (name, index)
            )
        if native == 'float32' and os.environ.get('ASCEND_SIM_OUTPUT_FP16') == '1':
            native = 'float16'
        outputs.append(
            dict(name='%s:%d' % (name, index), fetch=fetch, dtype=wanted or native, shapes=[])
        )
    return outputs


def convert(values: Dict[str, Any]) -> None:
    """Does what the flags say. Raises AtcError."""
    checks.flags(values)
    dynamic = any(
        values[flag] for flag in ('dynamic_batch_size', 'dynamic_image_size', 'dynamic_dims')
    )
    shapes = checks.input_shapes(values['input_shape'], dynamic)
    kind, gears = checks.gears(values, shapes)
    nodes = checks.out_nodes(values['out_nodes'])

    from offline import (
        graph,
    )  # TensorFlow takes seconds to import: after everything that can be refused without it

    graph_def = graph.read(values['model'])
    graph_def = graph.cut(graph_def, [name for name, _ in nodes] or graph.leaves(graph_def))
    graph.check_operations(graph_def)
    inputs = _inputs(values, graph_def, shapes)
    types = checks.output_types(values['output_type'], nodes)
    gears = gears or [[]]
    model_shapes = [
        om.shapes_of([item['model_shape'] for item in inputs], gear, kind) for gear in gears
    ]
    loaded = [
        graph.load(graph_def, {item['name']: shape for item, shape in zip(inputs, one)})
        for one in model_shapes
    ]
    if not nodes:
        nodes = [
            (name, index)
            for name in graph.leaves(graph_def)
            for index in range(len(loaded[0].get_operation_by_name(name).outputs))
        ]
    for name, index in nodes:
        count = len(loaded[0].get_operation_by_name(name).outputs)
        if index >= count:
            raise AtcError(
                'E10003',
                name,
                'out_nodes',
                'output index:%d must be smaller than output size:%d and can not be negative!'
                % (index, count),
            )
    _insert_aipp(values, inputs, kind)
    rounded, fetches = graph.round_to_half(graph_def, loaded[0], checks.precision(values), nodes)
    outputs = _outputs(values, nodes, types, loaded[0], fetches)
    for item, (name, index) in zip(outputs, nodes):
        item['shapes'] = [graph.static_shape(one, '%s:%d' % (name, index)) for one in loaded]
    om.write(
        values['output'] + '.om',
        rounded.SerializeToString(),
        dict(
            soc_version=values['soc_version'],
            input_format=values['input_format'],
            gear_kind=kind,
            gears=gears,
            precision=checks.precision(values),
            inputs=inputs,
            outputs=outputs,
        ),
    )
    try:
        with open('fusion_result.json', 'w') as file:  # the compiler leaves one where it is started
            file.write('[]\n')
    except OSError:
        pass


def main(words: List[str]) -> int:
    """The command; returns its exit status."""
    _say(START)
    try:
        values = flags.parse(words)
    except flags.FlagsError as error:
        sys.stderr.write('%s\n' % error)
        return 1
    except flags.Help:
        _say(flags.usage())
        return 1  # as gflags does
    if values['log'] not in ('null', 'debug', 'info', 'warning', 'error'):
        _say(
            'E10010: invalid value for --log:%s, only support debug, info, warning, error, null\n%s'
            % (values['log'], FAILURE)
        )
        return FAILED
    try:
        if values['mode'] not in (0, 1, 3, 5, 6):
            raise AtcError('E10001', values['mode'], '--mode', 'only support 0, 1, 3, 5, 6')
        if values['mode'] != 0:
            raise errors.unsupported('--mode=%d' % values['mode'])
        convert(values)
    except AtcError as error:
        _say('%s\n%s' % (FAILURE, error.text()))
        return FAILED
    _say(SUCCESS + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
