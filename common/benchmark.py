"""Throughput on this machine, measured side by side in one run: medians and spread of the rounds.

    python -m common.benchmark input --config RECIPE --data_path DATA   the input pipeline alone
    python -m common.benchmark train --config RECIPE --data_path DATA   training, also without input
    python -m common.benchmark eval --config RECIPE --data_path DATA    the network without training
    python -m common.benchmark all --config RECIPE --data_path DATA     all three, and the limits
    python -m common.benchmark npu --config RECIPE       a training step on Ascend, counted
    python -m common.benchmark scaling --config RECIPE --images_per_second 270 --devices 8,16,64

--report FOLDER also writes benchmark.json and benchmark.md, and `python -m common.benchmark table
FOLDER ... > PERFORMANCE.md` makes one page of several. --peer_python PYTHON trains the same network
in the PyTorch of that Python between ours. Every other flag is the recipe's.
`python -m offline_inference.benchmark` measures inference.
"""

import dataclasses
import functools
import json
import pathlib
import subprocess
import sys
import time
from typing import Any, Callable, Dict, Optional, Sequence

import tensorflow as tf

from common import devices, host, models
from common.configuration import config
from common.configuration.fields import warn_without_effect
from common.data import pipeline
from common.errors import Parser, UserError, entry_point
from common.evaluation.errors import translated
from common.files import temporary_folder
from common.reporting import npu_graph, performance, scaling
from common.task import Task
from common.training import model_fn
from common.training.progress import ThroughputMeter

PEER = pathlib.Path(__file__).resolve().parent.parent / 'test/peers/pytorch.py'
WARM_UP = 3  # training steps that are not timed: compilation, filling the read-ahead


class _Stopwatch(tf.train.SessionRunHook):
    """Times training steps after the warm-up."""

    def __init__(self):
        self._steps, self.meter = 0, ThroughputMeter()

    def before_run(self, run_context):
        self._start = time.perf_counter()

    def after_run(self, run_context, run_values):
        self._steps += 1
        if self._steps > WARM_UP:
            self.meter.add(time.perf_counter() - self._start, 1)


def input_rate(pipeline: Callable[[], tf.data.Dataset], batch_size: int, steps: int) -> float:
    """Returns the images per second of a pipeline with nothing behind it, over `steps` batches and
    at least a second; the first batches, which were read ahead, are not counted.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        batch = tf.data.make_one_shot_iterator(pipeline()).get_next()['label'].op
        for _ in range(10):
            session.run(batch)
        start, done, seconds = time.perf_counter(), 0, 0.0
        while done < steps or seconds < 1:
            session.run(batch)
            done, seconds = done + 1, time.perf_counter() - start
        return done * batch_size / seconds


def train_rate(
    task: Task, cfg: Any, device: devices.Device, input_fn: Callable, steps: int
) -> float:
    """Returns the images per second, over all ranks, of whole training steps on what input_fn
    gives.
    """
    watch = _Stopwatch()
    build = model_fn.build(task, cfg, device, total_steps=10**6, steps_per_epoch=10**3)
    with temporary_folder('benchmark') as folder:
        estimator = device.estimator(build, cfg, str(folder), 10**6)
        hooks = device.broadcast_hooks(True) + [watch]
        estimator.train(input_fn, steps=steps + WARM_UP, hooks=hooks)
    return watch.meter.steps_per_second * cfg.batch_size * cfg.accumulate * device.size


def eval_rate(
    task: Task, cfg: Any, device: devices.Device, input_fn: Callable, steps: int
) -> float:
    """Returns the images per second of this rank's inference on what input_fn gives, with initial
    weights.
    """
    with device.session(cfg) as session:
        features = tf.data.make_one_shot_iterator(input_fn()).get_next()
        logits = task.build(task.data.normalize(features['image'], cfg), cfg).op
        session.run(tf.global_variables_initializer())
        session.run(logits)
        start = time.perf_counter()
        for _ in range(steps):
            session.run(logits)
        return steps * cfg.batch_size / (time.perf_counter() - start)


def peer_rate(python: str, task: Task, cfg: Any, steps: int) -> float:
    """Returns the images per second of training in the PyTorch of another Python."""
    recipe = dict(
        {key: value for key, value in vars(cfg).items() if isinstance(value, (int, float))},
        model=task.name,
        shape=cfg.input_shape,
        steps=steps,
        threads=host.cores(),
    )
    command = [python, str(PEER), json.dumps(recipe)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return float(done.stdout)
    except (OSError, ValueError) as error:
        message = str(error) if isinstance(error, OSError) else done.stderr.decode().strip()
        raise UserError(
            '--peer_python %s: %s; give a Python with PyTorch, or leave the flag out'
            % (python, message.splitlines()[-1] if message else 'no figure')
        )


def synthetic(dataset: tf.data.Dataset) -> Dict[str, tf.Tensor]:
    """Returns one batch of constants, of the types and shapes that the pipeline gives."""
    kinds, shapes = tf.data.get_output_types(dataset), tf.data.get_output_shapes(dataset)
    return {
        key: tf.fill(shapes[key].as_list(), tf.constant(0 if kind.is_integer else 0.5, kind))
        for key, kind in kinds.items()
    }


def measure(
    task: Task,
    cfg: Any,
    device: devices.Device,
    what: str,
    rounds: int,
    steps: int,
    peer: Optional[str] = None,
) -> Dict[str, Any]:
    """Measures what `what` names: the pipeline beside the task's baselines, training on real and on
    synthetic batches beside a peer, inference. Returns what `performance.alternate` does.
    """
    folder = pipeline.open_split(task, cfg, task.train_split)

    def real(batch_size=cfg.batch_size * cfg.accumulate, training=True):
        position = dict(seed=cfg.seed, rank=device.rank, size=device.size)
        return pipeline.dataset(task, folder, cfg, batch_size, training, **position)

    calls: Dict[str, Callable[[], float]] = {}
    if what in ('input', 'all'):
        inputs = {'input': lambda: real(cfg.batch_size)}
        inputs.update(task.data.baselines(folder, cfg) if hasattr(task.data, 'baselines') else {})
        for name, dataset in inputs.items():
            calls[name] = functools.partial(input_rate, dataset, cfg.batch_size, steps)
    if what in ('train', 'all'):
        for name, input_fn in (('real', real), ('synthetic', lambda: synthetic(real()))):
            calls[name] = functools.partial(train_rate, task, cfg, device, input_fn, steps)
        if peer:
            calls['pytorch'] = functools.partial(peer_rate, peer, task, cfg, steps)
    if what in ('eval', 'all'):
        evaluated = functools.partial(real, cfg.batch_size, training=False)
        calls['eval'] = functools.partial(eval_rate, task, cfg, device, evaluated, steps)
    beside = {'synthetic': 'real', 'pytorch': 'synthetic'}
    pairs = [
        (beside.get(name, 'input'), name) for name in calls if name not in ('input', 'real', 'eval')
    ]
    return performance.alternate(calls, rounds, pairs)


def _settings(cfg: Any, recipe: Any) -> str:
    """The flags that change a recipe, without folders and device."""
    changed = config.changes(cfg, dataclasses.asdict(recipe)).items()
    return ' '.join(
        '--%s %s' % (key, new) for key, (_, new) in changed if not key.endswith(('path', 'device'))
    )


def _parser() -> Parser:
    parser = Parser(prog='python -m common.benchmark', description=__doc__)
    words = ['input', 'train', 'eval', 'all', 'npu', 'scaling', 'inference', 'table']
    parser.add_argument('what', choices=words)
    parser.add_argument('--config', help='recipe')
    parser.add_argument('--rounds', type=int, default=3, help='rounds of each measurement')
    parser.add_argument('--round_steps', type=int, default=20, help='steps in a round')
    parser.add_argument('--report', metavar='FOLDER', help='also write the figures there')
    parser.add_argument('--peer_python', metavar='PYTHON', help='a Python that has PyTorch')
    scaling.add_arguments(parser)
    parser.add_argument('--ranks', type=int, default=8, help='npu: devices of the job')
    return parser


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    args, flags = _parser().parse_known_args(sys.argv[1:] if argv is None else argv)
    if args.what == 'inference':
        raise UserError('inference is measured by: python -m offline_inference.benchmark')
    if args.what == 'table':
        print(performance.page(flags))
        return
    if not args.config:
        raise UserError('--config is missing; name a recipe, e.g. wideresnet_tf/configs/...yaml')
    if args.rounds < 1 or args.round_steps < 1:
        raise UserError('--rounds and --round_steps: give whole numbers above 0')
    model = config.read_yaml(args.config).get('model')
    if not model:
        raise UserError(
            '--config %s: key model is missing; it names the model, e.g. model: wideresnet'
            % args.config
        )
    task, cfg = models.configure(model, ['--config', args.config] + flags)
    if args.what == 'scaling':
        print(scaling.report(task, cfg, args))
        return
    if args.what == 'npu':
        print(json.dumps(dict(model=model, **npu_graph.measure(task, cfg, args.ranks)), indent=2))
        return
    device = devices.select(cfg.device, cfg.sync_bn is not False)
    if device.is_chief:
        warn_without_effect(cfg, device.name)
    with translated(task, cfg):
        measured = measure(
            task, cfg, device, args.what, args.rounds, args.round_steps, args.peer_python
        )
    result = dict(
        model=model,
        settings=_settings(cfg, models.parse(task, ['--config', args.config])),
        what=args.what,
        device=device.name,
        ranks=device.size,
        batch_size=cfg.batch_size,
        rounds=args.rounds,
        **measured,
    )
    if args.what == 'all':
        result.update(performance.limits(task, cfg, device))
    if device.is_chief:
        print(json.dumps(result, indent=2))
        if args.report:
            performance.write(result, pathlib.Path(args.config).stem, args.report)


if __name__ == '__main__':
    main()
