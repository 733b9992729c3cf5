"""Frozen graph -> ONNX, and inference with ONNX Runtime on the CPU. (Not onnx.py, which would hide
the package of that name.)

python -m offline_inference.to_onnx --model wideresnet --config C --frozen F.pb --output X.onnx
"""

import logging
import os
import pathlib
import sys
from typing import Callable, Dict, Optional, Sequence

import numpy as np
import tensorflow as tf

from common.errors import UserError, entry_point
from common.files import atomic
from common.task import Task
from offline_inference import freeze, manifest, pb

# Up to opset 14 ONNX Runtime 1.10 turns a batch norm that no convolution took, and its ReLU, into
# one step in its own memory layout; opset 15 has another BatchNormalization, which it runs by
# itself between two reorderings. A tenth of the time of a WRN-16-2.
OPSET = 13


def require() -> None:
    """Raises UserError if a package is missing, before anything else takes time."""
    try:
        import onnxruntime  # noqa: F401, E401
        import tf2onnx
    except ImportError as error:
        raise UserError('--backend onnx: %s; ./setup.sh installs it, or give --backend pb' % error)


def software() -> Dict[str, str]:
    """Versions for a result."""
    import onnxruntime  # noqa: E401
    import tf2onnx

    return {'onnxruntime': onnxruntime.__version__, 'tf2onnx': tf2onnx.__version__}


def convert(frozen: pathlib.Path, output: pathlib.Path, output_name: str) -> None:
    """Writes the ONNX model of a frozen graph: the same names (inputx:0, output_name:0), the input
    stays [N, H, W, C].
    """
    require()
    import tf2onnx

    logging.getLogger('tf2onnx').setLevel(logging.ERROR)
    with tf.Graph().as_default():  # what the converter builds goes here
        model, _ = tf2onnx.convert.from_graph_def(
            pb.read(frozen),
            name=pathlib.Path(output).stem,
            input_names=[pb.INPUT + ':0'],
            output_names=[output_name + ':0'],
            opset=OPSET,
        )
    with atomic(output) as temporary:
        temporary.write_bytes(model.SerializeToString())


def load(
    path: pathlib.Path, task: Task, input_dtype: str = 'float32'
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns infer(images): [--batch_size, H, W, C], normalised float32 or uint8 -> logits, on all
    cores.

    Raises UserError if the file is no ONNX model of this network, or one for another shape of
    input.
    """
    require()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    # The checkpoint's own network runs on the same cores between two batches: threads that wait
    # must not hold on to one.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=['CPUExecutionProvider']
        )
    except Exception as error:  # its exceptions have no class of their own to catch
        raise UserError(
            '%s is no ONNX model that ONNX Runtime %s runs: %s'
            % (path, onnxruntime.__version__, str(error).splitlines()[0])
        )
    inputs, names = session.get_inputs(), [output.name for output in session.get_outputs()]
    images, logits = pb.INPUT + ':0', task.output_name + ':0'
    if [node.name for node in inputs] != [images] or names != [logits]:
        raise UserError(
            '%s is no ONNX model of %s: it makes %s of %s, wanted is %s of %s'
            % (
                path,
                task.name,
                ', '.join(names),
                ', '.join(node.name for node in inputs),
                logits,
                images,
            )
        )
    pb.check_input(
        path,
        [size if isinstance(size, int) else None for size in inputs[0].shape],
        [task.cfg.batch_size] + list(task.input_shape),
    )
    if inputs[0].type != {'float32': 'tensor(float)', 'uint8': 'tensor(uint8)'}[input_dtype]:
        raise UserError(
            '%s takes images of type %s, not %s; give another --input_dtype, or freeze the model'
            ' anew' % (path, inputs[0].type, input_dtype)
        )
    return lambda batch: session.run([logits], {images: batch})[0]


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = freeze.Parser('python -m offline_inference.to_onnx', __doc__)
    parser.add_argument(
        '--frozen', required=True, help='the .pb file that offline_inference.freeze wrote'
    )
    parser.add_argument('--output', required=True, help='the .onnx file to write')
    args, task, _ = parser.parse(sys.argv[1:] if argv is None else argv)
    frozen, output = pathlib.Path(args.frozen), pathlib.Path(args.output)
    made_of = manifest.made_of(frozen) or {} if frozen.is_file() else {}
    manifest.same(args.frozen, made_of, {'model': task.name})
    convert(frozen, output, task.output_name)
    load(output, task, made_of.get('input_dtype', 'float32'))
    print('%s: %.2f MB' % (output, output.stat().st_size / 1e6))


if __name__ == '__main__':
    main()
