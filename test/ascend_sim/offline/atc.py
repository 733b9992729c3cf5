"""atc: a frozen TensorFlow graph -> offline model. What it accepts, refuses and prints is CANN's;
what it writes is the stand-in's own.
"""

import sys
from typing import Any, Dict, List

from offline import aipp, checks, om
from offline.errors import AtcError

START = 'ATC start working now, please wait for a moment.'
SUCCESS = 'ATC run success, welcome to the next use.'
FAILURE = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"
FAILED = 255  # CANN's FAILED is 0xFFFFFFFF, of which a status keeps one byte


def _inputs(graph_def, shapes: Dict[str, List[int]]) -> List[Dict[str, Any]]:
    """The model's inputs, in the order of --input_shape."""
    import tensorflow.compat.v1 as tf

    nodes = {node.name: node for node in graph_def.node}
    inputs = []
    for name, shape in shapes.items():
        if name not in nodes:
            raise AtcError('E10016', name, 'input_shape')
        if nodes[name].op != 'Placeholder':
            raise AtcError('E10017', name)
        declared = tf.TensorShape(nodes[name].attr['shape'].shape)
        if declared.dims and len(declared.dims) != len(shape):
            raise AtcError('E10049', len(shape), len(declared.dims))
        dtype = tf.as_dtype(nodes[name].attr['dtype'].type).as_numpy_dtype().dtype.name
        inputs.append(dict(name=name, dtype=dtype, shape=shape, feed=dtype, aipp=None))
    return inputs


def convert(values: Dict[str, Any]) -> None:
    """Does what the flags say. Raises AtcError."""
    checks.check(values)
    shapes, nodes = (
        checks.input_shapes(values['input_shape']),
        checks.out_nodes(values['out_nodes']),
    )
    # TensorFlow takes seconds to import: after everything that can be refused without it.
    from offline import graph

    graph_def = graph.cut(graph.read(values['model']), [name for name, _ in nodes])
    graph.check_operations(graph_def)
    inputs = _inputs(graph_def, shapes)
    if values['insert_op_conf']:
        operation = aipp.read(values['insert_op_conf'])
        item = inputs[operation['related_input_rank']]
        aipp.check(operation, item['shape'], item['dtype'])
        item.update(dtype='uint8', aipp=operation)
    loaded = graph.load(graph_def, shapes)
    rounded, fetches = graph.round_to_half(graph_def, loaded, checks.precision(values), nodes)
    outputs = []
    for (name, index), fetch in zip(nodes, fetches):
        tensor = loaded.get_tensor_by_name('%s:%d' % (name, index))
        native = tensor.dtype.as_numpy_dtype().dtype.name
        if native == 'int64':
            raise AtcError('E10055', 'the output %s is INT64, cast it to INT32' % tensor.name)
        dtype = checks.OUTPUT_TYPES.get(values['output_type'], native)
        outputs.append(
            dict(name=tensor.name, fetch=fetch, dtype=dtype, shape=tensor.shape.as_list())
        )
    om.write(
        values['output'] + '.om', rounded.SerializeToString(), dict(inputs=inputs, outputs=outputs)
    )
    with open('fusion_result.json', 'w') as file:  # the compiler leaves one where it is started
        file.write('[]\n')


def main(words: List[str]) -> int:
    """The command; returns its exit status."""
    print(START, flush=True)
    try:
        convert(checks.parse(words))
    except checks.FlagsError as error:
        sys.stderr.write('%s\n' % error)
        return 1
    except AtcError as error:
        print('%s\n%s' % (FAILURE, error.text()), flush=True)
        return FAILED
    print(SUCCESS + '\n', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
