"""Images per second of the frozen graph in TensorFlow, ONNX Runtime and, where it is installed,
OpenVINO, measured in turns.

    python -m offline_inference.benchmark --model wideresnet --config C --model_path CKPT|none
    --batch_size 8 [--rounds 3] [--round_steps 20] [--report FOLDER]

Latency mode is one call at a time on all cores, throughput mode as many calls at a time as there
are cores. Without a checkpoint the network has its initial weights.
"""

import functools
import json
import multiprocessing.pool
import pathlib
import time
from typing import Any, Dict, List

from common.configuration.settings import Config
from common.errors import UserError, at_least, entry_point
from offline_inference import cli


def _parse(argv: cli.Argv = None) -> cli.Parsed:
    parser = cli.Parser('benchmark', __doc__)
    parser.add_argument(
        '--rounds', type=at_least(1), default=3, help='medians over N rounds are printed'
    )
    parser.add_argument('--round_steps', type=at_least(1), default=20, help='batches in a round')
    parser.add_argument('--report', metavar='FOLDER', help='also write the figures there')
    return parser.parse_model(argv)


if __name__ == '__main__':
    entry_point(_parse)()  # before the imports below, which take seconds

import numpy as np
import tensorflow as tf

from common import host
from common.checkpoints.restore import plan_restore
from common.files import temporary_folder
from common.reporting import performance
from common.task import Task
from offline_inference import freeze, openvino_engine, pb, to_onnx
from offline_inference.reference import Infer, Reference


def rate(infer: Infer, images: np.ndarray, steps: int, streams: int = 1) -> float:
    """Images per second of `steps` calls, `streams` at a time; the first calls are not counted."""
    with multiprocessing.pool.ThreadPool(streams) as pool:
        pool.map(infer, [images] * streams, chunksize=1)
        start = time.perf_counter()
        pool.map(infer, [images] * steps, chunksize=1)
        return steps * len(images) / (time.perf_counter() - start)


def measure(task: Task, cfg: Config, rounds: int, steps: int) -> Dict[str, Any]:
    """Returns what `performance.alternate` does, for MODE_ENGINE on random images, whose values
    change nothing; the pairs are each engine and TensorFlow's frozen graph.
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
        size = round(frozen.stat().st_size / 1e6, 2)
        result: Dict[str, Any] = {}
        peaks: List[int] = []
        for mode, streams in (('latency', 1), ('throughput', host.cores())):
            calls = {
                '%s_%s' % (mode, name): functools.partial(rate, infer, images, steps, streams)
                for name, infer in _engines(reference, frozen, model, streams).items()
            }
            pairs = [(name, mode + '_pb') for name in calls if name != mode + '_pb']
            result.update(performance.alternate(calls, rounds, pairs))
            peaks += result['peak_memory_mb']
    return dict(result, peak_memory_mb=peaks, pb_mb=size)


def _engines(
    reference: Reference, frozen: pathlib.Path, model: pathlib.Path, streams: int
) -> Dict[str, Infer]:
    threads = max(1, host.cores() // streams)
    engines = {
        'pb': pb.engine(frozen, reference),
        'onnx': to_onnx.engine(model, reference, threads=threads),
    }
    for precision in cli.PRECISIONS:
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
def main(argv: cli.Argv = None) -> None:
    args, cfg = _parse(argv)
    task = cli.load(cfg)
    result = dict(
        model=task.name,
        settings='--batch_size %d' % cfg.batch_size,
        what='inference',
        rounds=args.rounds,
        **measure(task, cfg, args.rounds, args.round_steps),
    )
    print(json.dumps(result, indent=2))
    if args.report:
        performance.write(result, task.name, args.report)


if __name__ == '__main__':
    main()
