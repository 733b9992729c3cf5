"""Throughput of the input pipeline alone, of training on real records and on synthetic batches,
measured in one run.

`python -m common.benchmark input|train --config RECIPE --data_path DATA [--rounds 3] [--round_steps
20] [flags of the recipe]` `python -m common.benchmark inference --config RECIPE --model_path
CKPT|none --batch_size 8`: ONNX Runtime and the frozen graph
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

import tensorflow as tf

from common import config, devices, models
from common.data import pipeline
from common.errors import UserError, entry_point
from common.evaluation.errors import translated
from common.task import Task
from common.training import model_fn
from common.training.progress import ThroughputMeter


class _Stopwatch(tf.train.SessionRunHook):
    """Times training steps, without the first `skip` (compilation, filling the read-ahead)."""

    def __init__(self, skip: int):
        self._skip, self.meter = skip, ThroughputMeter()

    def before_run(self, run_context):
        self._start = time.perf_counter()

    def after_run(self, run_context, run_values):
        self._skip -= 1
        if self._skip < 0:
            self.meter.add(time.perf_counter() - self._start, 1)


def input_rate(pipeline: Callable[[], tf.data.Dataset], batch_size: int, steps: int) -> float:
    """Images per second of a pipeline with nothing behind it; the first batches, read ahead, are
    not counted.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        batch = tf.data.make_one_shot_iterator(pipeline()).get_next()['label'].op
        for _ in range(10):
            session.run(batch)
        start = time.perf_counter()
        for _ in range(steps):
            session.run(batch)
        return steps * batch_size / (time.perf_counter() - start)


def train_rate(
    task: Task, cfg: Any, device: devices.Device, input_fn: Callable, steps: int
) -> float:
    """Images per second, over all ranks, of whole training steps on what input_fn gives."""
    watch, skip = _Stopwatch(3), 3
    with tempfile.TemporaryDirectory(prefix='benchmark-') as folder:
        estimator = device.estimator(
            model_fn.build(task, cfg, device, total_steps=10**6, steps_per_epoch=10**3),
            cfg,
            folder,
            10**6,
        )
        estimator.train(input_fn, steps=steps + skip, hooks=device.broadcast_hooks(True) + [watch])
    return watch.meter.steps * cfg.batch_size * cfg.accumulate * device.size / watch.meter.seconds


def synthetic(dataset: tf.data.Dataset) -> Dict[str, tf.Tensor]:
    """One batch of constants in the graph, of the types and shapes that the pipeline gives."""

    def constant(kind, shape):
        if kind.is_integer:
            return tf.zeros(shape, kind)
        return tf.fill(shape, tf.constant(0.5, kind))

    kinds, shapes = tf.data.get_output_types(dataset), tf.data.get_output_shapes(dataset)
    return {key: constant(kinds[key], shapes[key].as_list()) for key in kinds}


def measure(
    task: Task, cfg: Any, device: devices.Device, what: str, rounds: int, steps: int
) -> Dict[str, Any]:
    """Returns medians in images/s of this rank's pipeline, for 'input' of the task's baselines, for
    'train' of training too.

    What is compared alternates, and a ratio A_to_B is the median over the rounds.
    """
    folder = pipeline.open_split(task, cfg, task.train_split)
    baselines = {}
    if what == 'input' and hasattr(task.data, 'baselines'):
        baselines = task.data.baselines(folder, cfg)
    rates: Dict[str, List[float]] = {key: [] for key in ['input', *baselines, 'real', 'synthetic']}

    def real(batch_size=cfg.batch_size * cfg.accumulate):
        return pipeline.dataset(
            task, folder, cfg, batch_size, True, seed=cfg.seed, rank=device.rank, size=device.size
        )

    for _ in range(rounds):
        rates['input'].append(input_rate(lambda: real(cfg.batch_size), cfg.batch_size, steps))
        for key, baseline in baselines.items():
            rates[key].append(input_rate(baseline, cfg.batch_size, steps))
        if what == 'train':
            rates['real'].append(train_rate(task, cfg, device, real, steps))
            rates['synthetic'].append(
                train_rate(task, cfg, device, lambda: synthetic(real()), steps)
            )
    result = {
        key + '_images_per_second': round(statistics.median(values), 1)
        for key, values in rates.items()
        if values
    }
    for key, other in [('input', baseline) for baseline in baselines] + [('real', 'synthetic')] * (
        what == 'train'
    ):
        result['%s_to_%s' % (key, other)] = round(
            statistics.median(a / b for a, b in zip(rates[key], rates[other])), 3
        )
    return result


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        prog='python -m common.benchmark', description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        'what',
        choices=['input', 'train', 'inference'],
        help=(
            'input: the pipeline alone; train: that, real and synthetic training; inference: ONNX'
            ' Runtime and the frozen graph'
        ),
    )
    parser.add_argument('--config', required=True, help='recipe')
    parser.add_argument(
        '--rounds', type=int, default=3, help='rounds of each measurement; medians are printed'
    )
    parser.add_argument('--round_steps', type=int, default=20, help='steps in a round')
    args, flags = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    if args.rounds < 1 or args.round_steps < 1:
        raise UserError('--rounds and --round_steps: give whole numbers above 0')
    model = config.read_yaml(args.config).get('model')
    if not model:
        raise UserError(
            '--config %s: key model is missing; it names the model, e.g. model: wideresnet'
            % args.config
        )
    task, cfg = models.configure(model, ['--config', args.config] + flags)
    if args.what == 'inference':
        raise UserError('inference: python -m offline_inference.benchmark measures it')
    device = devices.select(cfg.device)
    with translated(task, cfg):
        result = measure(task, cfg, device, args.what, args.rounds, args.round_steps)
    if device.is_chief:
        print(
            json.dumps(
                dict(
                    model=model,
                    device=device.name,
                    ranks=device.size,
                    batch_size=cfg.batch_size,
                    **result,
                ),
                indent=2,
            )
        )


if __name__ == '__main__':
    main()
