"""Images per second of ONNX Runtime and of the frozen graph in TensorFlow, measured in turns.

python -m offline_inference.benchmark --model wideresnet --config C --model_path CKPT|none
--batch_size 8 [--rounds 3] [--round_steps 20]
"""

import json
import pathlib
import statistics
import tempfile
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import tensorflow as tf

from common.checkpoints.restore import plan_restore
from common.errors import UserError, entry_point
from common.settings import Config
from common.task import Task
from offline_inference import freeze, pb, to_onnx
from offline_inference.cli import Parser
from offline_inference.reference import Reference


def rate(infer: Callable[[np.ndarray], np.ndarray], images: np.ndarray, steps: int) -> float:
    """Images per second of `steps` calls; the caller has warmed the engine up."""
    began = time.perf_counter()
    for _ in range(steps):
        infer(images)
    return steps * len(images) / (time.perf_counter() - began)


def measure(task: Task, cfg: Config, rounds: int, steps: int) -> Dict[str, Any]:
    """Medians over the rounds, in images/s, and the median of the ratio; on random images, whose
    values change nothing. --model_path none (or not given): initial weights.
    """
    to_onnx.software()
    with tempfile.TemporaryDirectory(prefix='benchmark-') as folder:
        path = cfg.model_path
        if path in (None, 'none'):
            path = _initial(Reference(task, cfg), folder)
        reference = Reference(task, cfg, plan_restore(task, cfg, path))
        frozen, model = pathlib.Path(folder, 'model.pb'), pathlib.Path(folder, 'model.onnx')
        freeze.freeze(reference, frozen)
        to_onnx.convert(frozen, model, reference.output_name)
        engines = {'onnx': to_onnx.engine(model, reference), 'pb': pb.engine(frozen, reference)}
        images = np.random.RandomState(0).normal(size=reference.input_shape).astype(np.float32)
        for infer in engines.values():
            infer(images)
            infer(images)
        rates: Dict[str, List[float]] = {name: [] for name in engines}
        for _ in range(rounds):
            for name, infer in engines.items():
                rates[name].append(rate(infer, images, steps))
    result = {
        name + '_images_per_second': round(statistics.median(values), 1)
        for name, values in rates.items()
    }
    ratio = statistics.median(a / b for a, b in zip(rates['onnx'], rates['pb']))
    return dict(result, onnx_to_pb=round(ratio, 3))


def _initial(reference: Reference, folder: str) -> str:
    """A checkpoint of the network as it is before training."""
    with tf.Graph().as_default(), tf.Session(config=reference.session_config()) as session:
        reference.network(tf.placeholder(tf.float32, reference.input_shape))
        session.run(tf.global_variables_initializer())
        return tf.train.Saver().save(session, str(pathlib.Path(folder) / 'initial.ckpt'))


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = Parser('benchmark', __doc__)
    parser.add_argument('--rounds', type=int, default=3, help='medians over N rounds are printed')
    parser.add_argument('--round_steps', type=int, default=20, help='batches in a round')
    args, task, cfg, _ = parser.parse_model(argv)
    if args.rounds < 1 or args.round_steps < 1:
        raise UserError('--rounds and --round_steps: give whole numbers above 0')
    result = measure(task, cfg, args.rounds, args.round_steps)
    print(json.dumps(dict(model=task.name, batch_size=cfg.batch_size, **result), indent=2))


if __name__ == '__main__':
    main()
