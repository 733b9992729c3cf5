"""Frozen graph -> ONNX, and inference with ONNX Runtime on the CPU.

python -m offline_inference.to_onnx --model wideresnet --config C --frozen F.pb --output X.onnx
"""

# Not called onnx.py, which would hide the package of that name.
import logging
import pathlib
from typing import Any, Dict, Optional

from common.errors import UserError, entry_point
from offline_inference import cli


def _parse(argv: cli.Argv = None) -> cli.Parsed:
    parser = cli.Parser('to_onnx', __doc__)
    parser.add_argument(
        '--frozen', required=True, help='the .pb file that offline_inference.freeze wrote'
    )
    parser.add_argument('--output', required=True, help='the .onnx file to write')
    return parser.parse_model(argv)


if __name__ == '__main__':
    entry_point(_parse)()  # before the imports below, which take seconds

import tensorflow as tf

from common import host
from common.files import atomic
from offline_inference import manifest, pb
from offline_inference.reference import Infer, Reference

# Up to opset 14 ONNX Runtime 1.10 runs a batch norm that follows no convolution, and its ReLU, as
# one step in its own memory layout; the BatchNormalization of opset 15 it runs by itself between
# two reorderings, which takes a tenth of the time of a WRN-16-2.
OPSET = 13
_TYPES = {'float32': 'tensor(float)', 'uint8': 'tensor(uint8)'}


def _package(name: str) -> Any:
    return cli.optional_package(name, 'onnx', './setup.sh installs it, or give --backend pb')


def software() -> Dict[str, str]:
    """Returns the versions of the packages; UserError if one is missing."""
    return {name: _package(name).__version__ for name in ('onnxruntime', 'tf2onnx')}


def convert(frozen: pathlib.Path, output: pathlib.Path, output_name: str) -> None:
    """Writes the ONNX model of a frozen graph, with the same names and the input [N,H,W,C]."""
    tf2onnx = _package('tf2onnx')
    logging.getLogger('tf2onnx').setLevel(logging.ERROR)
    with tf.Graph().as_default():  # the converter builds its own in the default graph
        model, _ = tf2onnx.convert.from_graph_def(
            pb.read(frozen),
            name=pathlib.Path(output).stem,
            input_names=[pb.INPUT + ':0'],
            output_names=[output_name + ':0'],
            opset=OPSET,
        )
    with atomic(output) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _session(path: pathlib.Path, threads: int) -> Any:
    onnxruntime = _package('onnxruntime')
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    # The checkpoint's own network runs on the same cores between two batches: threads that wait
    # must not keep one busy.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    except Exception as error:  # its exceptions have no class of their own to catch
        raise UserError(
            '%s is not an ONNX model that ONNX Runtime %s can run: %s'
            % (path, onnxruntime.__version__, str(error).splitlines()[0])
        )


def engine(
    path: pathlib.Path,
    reference: Reference,
    input_dtype: str = 'float32',
    threads: Optional[int] = None,
) -> Infer:
    """Returns infer; UserError if the file is not an ONNX model of this network, or takes another
    input. threads: for one call; None: all cores.
    """
    session = _session(path, threads or host.cores())
    inputs, outputs = session.get_inputs(), [output.name for output in session.get_outputs()]
    images, logits = pb.INPUT + ':0', reference.output_name + ':0'
    if [node.name for node in inputs] != [images] or outputs != [logits]:
        names = ', '.join(outputs), ', '.join(node.name for node in inputs)
        raise UserError(
            '%s is not an ONNX model of %s: it computes %s from %s, not %s from %s'
            % (path, reference.name, *names, logits, images)
        )
    shape = [size if isinstance(size, int) else None for size in inputs[0].shape]
    pb.check_shape(path, shape, reference)
    if inputs[0].type != _TYPES[input_dtype]:
        raise UserError(
            '%s takes images of type %s, not %s; give another --input_dtype, or freeze the model'
            ' again' % (path, inputs[0].type, input_dtype)
        )
    return lambda batch: session.run([logits], {images: batch})[0]


@entry_point
def main(argv: cli.Argv = None) -> None:
    args, cfg = _parse(argv)
    reference = Reference(cli.load(cfg), cfg)
    frozen, output = pathlib.Path(args.frozen), pathlib.Path(args.output)
    sources = (manifest.sources(frozen) if frozen.is_file() else None) or {}
    manifest.require_same(args.frozen, sources, {'model': reference.name})
    convert(frozen, output, reference.output_name)
    engine(output, reference, sources.get('input_dtype', 'float32'))
    print('%s: %.2f MB' % (output, output.stat().st_size / 1e6))


if __name__ == '__main__':
    main()
