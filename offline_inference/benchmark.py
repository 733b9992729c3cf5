"""Images per second of the frozen graph in TensorFlow, ONNX Runtime and, where it is installed,
OpenVINO, measured in turns.

    python -m offline_inference.benchmark --model wideresnet --config C --model_path CKPT|none
    --batch_size 8 [--rounds 3] [--round_steps 20]

Latency mode is one call at a time on all cores, throughput mode as many calls at a time as there
are cores. Without a checkpoint the network has its initial weights.
"""

import json
import multiprocessing.pool
import pathlib
import statistics
import time
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import tensorflow as tf

from common import host
from common.checkpoints.restore import plan_restore
from common.configuration.settings import Config
from common.errors import UserError, entry_point
from common.files import temporary_folder
from common.task import Task
from offline_inference import freeze, openvino_engine, pb, to_onnx
from offline_inference.cli import Parser
from offline_inference.reference import Infer, Reference


def rate(infer: Infer, images: np.ndarray, steps: int, streams: int = 1) -> float:
    """Images per second of `steps` calls, `streams` at a time; the first calls are not counted."""
    with multiprocessing.pool.ThreadPool(streams) as pool:
        pool.map(infer, [images] * streams, chunksize=1)
        began = time.perf_counter()
        pool.map(infer, [images] * steps, chunksize=1)
        return steps * len(images) / (time.perf_counter() - began)


def measure(task: Task, cfg: Config, rounds: int, steps: int) -> Dict[str, Any]:
    """Medians over the rounds, in images/s, and of the ratios to TensorFlow's frozen graph; on
    random images, whose values change nothing.
    """
    to_onnx.software()
    with temporary_folder('benchmark') as folder:
        path = cfg.model_path
        if path in (None, 'none'):
            path = _initial(Reference(task, cfg), folder)
        reference = Reference(task, cfg, plan_restore(task, cfg, path))
        frozen, model = folder / 'model.pb', folder / 'model.onnx'
        freeze.freeze(reference, frozen)
        to_onnx.convert(frozen, model, reference.output_name)
        images = np.random.RandomState(0).normal(size=reference.input_shape).astype(np.float32)
        result: Dict[str, Any] = {}
        for mode, streams in (('latency', 1), ('throughput', host.cores())):
            engines = _engines(reference, frozen, model, streams)
            rates: Dict[str, List[float]] = {name: [] for name in engines}
            for _ in range(rounds):
                for name, infer in engines.items():
                    rates[name].append(rate(infer, images, steps, streams))
            for name, values in rates.items():
                ratio = statistics.median(a / b for a, b in zip(values, rates['pb']))
                key = '%s_%s' % (mode, name)
                result[key + '_images_per_second'] = round(statistics.median(values), 1)
                if name != 'pb':
                    result[key + '_to_pb'] = round(ratio, 3)
    return result


def _engines(
    reference: Reference, frozen: pathlib.Path, model: pathlib.Path, streams: int
) -> Dict[str, Infer]:
    threads = max(1, host.cores() // streams)
    engines = {
        'pb': pb.engine(frozen, reference),
        'onnx': to_onnx.engine(model, reference, threads=threads),
    }
    for precision in openvino_engine.PRECISIONS:
        try:
            openvino_engine.software(precision)
        except UserError:
            continue
        name = 'openvino_' + precision
        engines[name] = openvino_engine.engine(model, precision, throughput=streams > 1)
    return engines


def _initial(reference: Reference, folder: pathlib.Path) -> str:
    """A checkpoint of the network as it is before training."""
    with tf.Graph().as_default(), tf.Session(config=reference.session_config()) as session:
        reference.network(tf.placeholder(tf.float32, reference.input_shape))
        session.run(tf.global_variables_initializer())
        return tf.train.Saver().save(session, str(folder / 'initial.ckpt'))


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = Parser('benchmark', __doc__)
    parser.add_argument('--rounds', type=int, default=3, help='medians over N rounds are printed')
    parser.add_argument('--round_steps', type=int, default=20, help='batches in a round')
    args, task, cfg, _ = parser.parse_model(argv)
    if args.rounds < 1 or args.round_steps < 1:
        raise UserError('--rounds and --round_steps: give whole numbers above 0')
    result = measure(task, cfg, args.rounds, args.round_steps)
    head = dict(model=task.name, batch_size=cfg.batch_size, cores=host.cores())
    print(json.dumps(dict(head, **result), indent=2))


if __name__ == '__main__':
    main()
