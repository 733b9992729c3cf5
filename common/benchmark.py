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

import argparse
import dataclasses
import functools
import json
import math
import pathlib
import subprocess
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from common import models
from common.configuration import config
from common.errors import Parser, UserError, at_least, entry_point
from common.reporting import scaling


def _parse(argv: Optional[Sequence[str]] = None) -> Tuple[argparse.Namespace, Any]:
    """Returns the command's own flags and the recipe's configuration, None for `table`."""
    parser = Parser(prog='python -m common.benchmark', description=__doc__)
    choices = ['input', 'train', 'eval', 'all', 'npu', 'scaling', 'inference', 'table']
    number = at_least(1)
    parser.add_argument('what', choices=choices)
    parser.add_argument('--config', help='recipe')
    parser.add_argument('--rounds', type=number, default=3, help='rounds of each measurement')
    parser.add_argument('--round_steps', type=number, default=20, help='steps in a round')
    parser.add_argument('--report', metavar='FOLDER', help='also write the figures there')
    parser.add_argument('--peer_python', metavar='PYTHON', help='a Python that has PyTorch')
    scaling.add_arguments(parser)
    parser.add_argument('--ranks', type=number, default=8, help='npu: devices of the job')
    args, flags = parser.parse_known_args(argv)
    if args.what == 'inference':
        raise UserError('inference is measured by: python -m offline_inference.benchmark')
    if args.what == 'table':
        args.folders = flags
        return args, None
    if not args.config:
        raise UserError('--config is missing; name a recipe, e.g. wideresnet_tf/configs/...yaml')
    if args.what == 'scaling' and not 0 < args.images_per_second < math.inf:
        raise UserError(
            'scaling needs --images_per_second N, a number above 0: the throughput of one device'
        )
    model = config.read_yaml(args.config).get('model')
    if not model:
        raise UserError(
            '--config %s: key model is missing; it names the model, e.g. model: wideresnet'
            % args.config
        )
    flags = ['--config', args.config, *flags]
    return args, config.parse(models.config_class(model), flags, parser.flags)


if __name__ == '__main__':
    entry_point(_parse)()  # before the imports below, which take seconds

import numpy as np
import tensorflow as tf

from common import devices, host
from common.checkpoints import restore
from common.configuration.fields import warn_without_effect
from common.data import pipeline
from common.evaluation.errors import translated
from common.files import temporary_folder
from common.reporting import npu_graph, performance
from common.task import Task
from common.training import model_fn
from common.training.progress import FirstStep

PEER = pathlib.Path(__file__).resolve().parent.parent / 'test/peers/pytorch.py'


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


class Trainer:
    """Trains again and again. notes: for the result, what the way to the first step took the first
    time, and on CPU the milliseconds of each type of operator the last time.
    """

    def __init__(self, task: Task, cfg: Any, device: devices.Device, steps: int):
        self.notes: Dict[str, Any] = {}
        self._task, self._cfg, self._device, self._steps = task, cfg, device, steps

    def rate(self, input_fn: Callable) -> float:
        """Returns the images per second of training on what input_fn gives, over all ranks."""
        task, cfg, device = self._task, self._cfg, self._device
        watch = performance.TimedSteps(self._steps, traced=device.name == 'cpu')
        first = FirstStep(time.time(), self._note_start)
        build = model_fn.build(task, cfg, device, total_steps=10**6, steps_per_epoch=10**3)
        with temporary_folder('benchmark') as folder:
            estimator = device.estimator(build, cfg, str(folder), 10**6)
            hooks = device.session_hooks(True) + [first, watch]
            estimator.train(input_fn, steps=watch.total, hooks=hooks)
        if watch.operators:
            self.notes['operator_milliseconds'] = watch.operators
        return watch.meter.steps_per_second * cfg.batch_size * cfg.accumulate * device.size

    def _note_start(self, parameters: int, seconds: Dict[str, float]) -> None:
        parts = ', '.join(
            '%s %.1f' % (part, seconds[part]) for part in ('graph', 'session', 'step')
        )
        self.notes.setdefault('seconds_to_first_step', parts)


def eval_rate(
    task: Task, cfg: Any, device: devices.Device, input_fn: Callable, steps: int
) -> float:
    """Returns the images per second of this rank's inference with initial weights."""
    with device.session(cfg) as session:
        features = tf.data.make_one_shot_iterator(input_fn()).get_next()
        logits = task.build(task.data.normalize(features['image'], cfg), cfg).op
        session.run(tf.global_variables_initializer())
        session.run(logits)
        start = time.perf_counter()
        for _ in range(steps):
            session.run(logits)
        return steps * cfg.batch_size / (time.perf_counter() - start)


def peer_rate(python: str, task: Task, cfg: Any, steps: int, shape: Sequence[int]) -> float:
    """Returns the images per second of training in the PyTorch of another Python, on images of
    `shape` [H, W, C].
    """
    recipe = dict(
        {key: value for key, value in vars(cfg).items() if isinstance(value, (int, float))},
        model=task.name,
        shape=shape,
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


def synthetic(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns one batch again and again, of the types and shapes that the pipeline gives: images of
    noise, whose pixels a processor multiplies up to a tenth slower than black ones; labels 0.
    """
    kinds, shapes = tf.data.get_output_types(dataset), tf.data.get_output_shapes(dataset)
    batch = {
        key: np.full(shapes[key].as_list(), 0 if kind.is_integer else 0.5, kind.as_numpy_dtype)
        for key, kind in kinds.items()
    }
    image = batch['image']
    batch['image'] = np.random.RandomState(0).randint(0, 256, image.shape).astype(image.dtype)
    return tf.data.Dataset.from_tensors(batch).repeat()


def measure(
    task: Task, cfg: Any, device: devices.Device, args: argparse.Namespace
) -> Dict[str, Any]:
    """Measures what `args.what` names: the pipeline beside the task's baselines, training on real
    and on synthetic batches beside a peer, inference. Returns what `performance.alternate` does.
    """
    folder = pipeline.open_split(task, cfg, task.train_split)

    def real(batch_size=cfg.batch_size * cfg.accumulate, training=True):
        position = dict(seed=cfg.seed, rank=device.rank, size=device.size)
        return pipeline.dataset(task, folder, cfg, batch_size, training, **position)

    steps, partial = args.round_steps, functools.partial
    calls: Dict[str, Callable[[], float]] = {}
    pairs: List[Tuple[str, str]] = []
    trainer = Trainer(task, cfg, device, steps)
    if args.what in ('input', 'all'):
        calls['input'] = partial(input_rate, lambda: real(cfg.batch_size), cfg.batch_size, steps)
        if hasattr(task.data, 'baselines'):
            for name, dataset in task.data.baselines(folder, cfg).items():
                calls[name] = partial(input_rate, dataset, cfg.batch_size, steps)
                pairs.append(('input', name))
    if args.what in ('train', 'all'):
        calls['real'] = partial(trainer.rate, real)
        calls['synthetic'] = partial(trainer.rate, lambda: synthetic(real()))
        pairs.append(('real', 'synthetic'))
        if args.peer_python:
            shape = tf.data.get_output_shapes(real())['image'].as_list()[1:]
            calls['pytorch'] = partial(peer_rate, args.peer_python, task, cfg, steps, shape)
            pairs.append(('synthetic', 'pytorch'))
    if args.what in ('eval', 'all'):
        evaluated = partial(real, cfg.batch_size, training=False)
        calls['eval'] = partial(eval_rate, task, cfg, device, evaluated, steps)
    return dict(performance.alternate(calls, args.rounds, pairs), **trainer.notes)


def _settings(cfg: Any, path: str) -> str:
    """The flags that change a recipe, without folders and device."""
    recipe = config.parse(type(cfg), ['--config', path])
    changed = config.changes(cfg, dataclasses.asdict(recipe)).items()
    return ' '.join(
        '--%s %s' % (key, new) for key, (_, new) in changed if not key.endswith(('path', 'device'))
    )


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    args, cfg = _parse(argv)
    if args.what == 'table':
        print(performance.page(args.folders))
        return
    task = models.find(cfg.model)
    if args.what == 'scaling':
        variables = restore.network_variables(task, cfg, training=True)
        print(scaling.report(cfg, variables, args))
        return
    if args.what == 'npu':
        counted = npu_graph.measure(task, cfg, args.ranks)
        print(json.dumps(dict(model=task.name, **counted), indent=2))
        return
    device = devices.select_for(cfg)
    if device.is_chief:
        warn_without_effect(cfg, device.name)
    with translated(task, cfg):
        measured = measure(task, cfg, device, args)
    result = dict(
        model=task.name,
        settings=_settings(cfg, args.config),
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
