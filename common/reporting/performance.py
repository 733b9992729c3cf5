"""What this machine could do at most, and the table of a benchmark."""

import collections
import os
import pathlib
import re
import resource
import statistics
import time
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import tensorflow as tf
import tqdm

from common import host
from common.devices.base import Device
from common.errors import UserError
from common.files import read_json, write_json, write_text
from common.reporting.markdown import table
from common.task import Task
from common.training.progress import ThroughputMeter

# A training step computes the activations, and with about as many operations each, the gradients
# of the activations and of the weights.
TRAINING_TO_FORWARD = 3
COPIED = 1 << 27  # float64 numbers: more than any cache holds

_INTRODUCTION = """# Performance

Written by `python -m common.benchmark table`; each section is one run of
`python -m common.benchmark all --report FOLDER` (or `train`, `eval`) or of
`python -m offline_inference.benchmark --report FOLDER`. A figure is the median of the
rounds, the spread is the lowest and the highest. What stands side by side was measured in turns,
and a ratio is the median of the ratios of the rounds. Where `load` is above the number of cores,
other programs shared them: images/s are too low then, and ratios less certain.

- input: the pipeline alone. port: that of the published port. decode: JPEG decoding alone.
- real: training. synthetic: the same on one batch of noise. pytorch: the same network and batch
  size in PyTorch, on one batch of noise.
- eval: inference with the training framework, input included.
- latency, throughput: inference of the exported model, one batch at a time on all cores, or as
  many batches at a time as there are cores. pb: the frozen graph in TensorFlow. onnx: ONNX Runtime.
  openvino: OpenVINO in float32 and in bfloat16.
- limit: images/s of training at TensorFlow's peak of float32 matrix products.
- ranks: processes; each computes on cores / ranks threads. images/s are those of all ranks.
- seconds_to_first_step: building the graph, starting the session, the first step.
- operators: milliseconds of each type in one traced step, also of those that ran side by side."""


class TimedSteps(tf.train.SessionRunHook):
    """Times `steps` training steps after the warm-up; if `traced`, sums the milliseconds of each
    type of operator in one more, `operators`. Operators that run side by side count each.
    """

    WARM_UP = 3  # steps that are not timed: compilation, filling the read-ahead

    def __init__(self, steps: int, traced: bool):
        self.meter = ThroughputMeter()
        self.operators: Dict[str, float] = {}
        self.total = self.WARM_UP + steps + traced
        self._done, self._timed = 0, range(self.WARM_UP, self.WARM_UP + steps)

    def before_run(self, run_context):
        self._start = time.perf_counter()
        if self._done == self._timed.stop:
            options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
            return tf.train.SessionRunArgs([], options=options)

    def after_run(self, run_context, run_values):
        if self._done in self._timed:
            self.meter.add(time.perf_counter() - self._start, 1)
        elif self._done == self._timed.stop:
            self.operators = _operators(run_values.run_metadata)
        self._done += 1


def _operators(metadata: tf.RunMetadata) -> Dict[str, float]:
    """Milliseconds of the ten types of operator that took longest, sorted, and of the others."""
    total: collections.Counter = collections.Counter()
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            label = re.search(r'= (\w+)\(', node.timeline_label)  # NAME = TYPE(INPUTS)
            name = label.group(1) if label else node.node_name
            total[name] += (node.op_end_rel_micros - node.op_start_rel_micros) / 1e3
    longest = dict(total.most_common(10))
    longest['others'] = sum(total.values()) - sum(longest.values())
    return {name: round(value, 1) for name, value in longest.items()}


def alternate(
    calls: Dict[str, Callable[[], float]], rounds: int, pairs: Sequence[Tuple[str, str]]
) -> Dict[str, Any]:
    """Calls what measures images/s, each in turn in every round; every other round goes backwards,
    so that none gains by coming after a certain other one.

    Returns NAME_images_per_second, the median, with NAME_spread, [lowest, highest]; A_to_B, the
    median of the ratios, for each pair (A, B); and peak_memory_mb of this process after each round.
    """
    rates: Dict[str, List[float]] = {name: [] for name in calls}
    peaks = []
    with tqdm.tqdm(total=rounds * len(calls), unit='measurement', disable=None) as bar:
        for number in range(rounds):
            for name in list(calls)[:: -1 if number % 2 else 1]:
                bar.set_description(name)
                rates[name].append(calls[name]())
                bar.update()
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    result: Dict[str, Any] = {}
    for name, values in rates.items():
        result[name + '_images_per_second'] = _rounded(statistics.median(values))
        result[name + '_spread'] = [_rounded(min(values)), _rounded(max(values))]
    for first, second in pairs:
        ratio = statistics.median(a / b for a, b in zip(rates[first], rates[second]))
        result['%s_to_%s' % (first, second)] = round(ratio, 3)
    return dict(result, peak_memory_mb=peaks)


def _rounded(rate: float) -> float:
    """To the digits that a measurement can tell: a large network trains less than one image/s."""
    return float('%.3g' % rate)


def limits(task: Task, cfg: Any, device: Device) -> Dict[str, float]:
    """Returns the peak of TensorFlow's float32 matrix products on this machine and of copying
    memory, the network's operations for one image (a multiplication and an addition are two), and
    the images/s of training that the first allows.
    """
    with tf.Graph().as_default() as graph:
        task.build(tf.zeros((1,) + tuple(cfg.input_shape)), cfg)
        options = tf.profiler.ProfileOptionBuilder.float_operation()
        options['output'] = 'none'
        operations = tf.profiler.profile(graph, options=options).total_float_ops
    size, source, target = 1536, np.ones(COPIED), np.ones(COPIED)
    copied = 2 * source.nbytes / _fastest(lambda: np.copyto(target, source))
    with tf.Graph().as_default(), device.session(cfg) as session:
        shapes = [1, 32, 48, size], [1, 1, size, size]
        # A 1x1 convolution is a matrix product.
        images, kernel = (tf.Variable(tf.ones(shape)) for shape in shapes)
        product = tf.nn.conv2d(images, kernel, 1, 'SAME').op
        session.run(tf.global_variables_initializer())
        peak = 2 * 32 * 48 * size**2 / _fastest(lambda: session.run(product))
    return {
        'sgemm_gflops': round(peak / 1e9, 1),
        'memory_gbytes_per_second': round(copied / 1e9, 1),
        'network_gflop_per_image': round(operations / 1e9, 4),
        'train_limit_images_per_second': round(peak / operations / TRAINING_TO_FORWARD, 1),
    }


def _fastest(function: Callable[[], Any]) -> float:
    """Seconds of the fastest of seven calls: a limit, not a mean."""
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def write(result: Dict[str, Any], recipe: str, folder: str) -> None:
    """Writes benchmark.json and benchmark.md: each figure with its spread, what it was measured
    beside, the ratio and the limit.
    """
    load = '%.1f on %d cores' % (os.getloadavg()[0], os.cpu_count())
    result = dict(result, recipe=recipe, host=dict(host.describe(), load=load))
    parts = ['# Benchmark of ' + recipe, *_tables(result)]
    write_json(pathlib.Path(folder, 'benchmark.json'), result)
    write_text(pathlib.Path(folder, 'benchmark.md'), '\n\n'.join(parts) + '\n')


def page(folders: List[str]) -> str:
    """Returns PERFORMANCE.md: the tables of several folders that `write` wrote."""
    parts = [_INTRODUCTION]
    for folder in folders:
        path = pathlib.Path(folder, 'benchmark.json')
        try:
            result = read_json(path)
            title = '## {recipe} {settings}, TensorFlow {host[tensorflow]}'.format(**result)
            title += ', %d ranks' % result['ranks'] if result.get('ranks', 1) > 1 else ''
            parts += [title, *_tables(result)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = getattr(error, 'strerror', None) or '%s: %s' % (type(error).__name__, error)
            raise UserError(
                '%s is not the figures of a benchmark (%s); python -m common.benchmark all'
                ' --report %s writes them' % (path, why, folder)
            )
    if not folders:
        raise UserError('table: name folders that --report has written')
    return '\n\n'.join(parts)


def _tables(result: Dict[str, Any]) -> List[str]:
    tables = [_figures(result), _conditions(result)]
    operators = result.get('operator_milliseconds', {})
    if operators:
        total = sum(operators.values())
        rows = [(name, ms, '%.1f %%' % (100 * ms / total)) for name, ms in operators.items()]
        tables.append(table('', ['operator of a training step', 'ms', 'share'], rows))
    return tables


def _figures(result: Dict[str, Any]) -> str:
    rows = []
    for key in [key for key in result if key.endswith('_spread')]:
        name = key[: -len('_spread')]
        ratios = [
            '%.3g x %s' % (value, other[len(name) + 4 :])
            for other, value in result.items()
            if other.startswith(name + '_to_')
        ]
        limit = result.get('train_limit_images_per_second', '') if name == 'real' else ''
        spread = '%g to %g' % tuple(result[key])
        rows.append([name, result[name + '_images_per_second'], spread, ', '.join(ratios), limit])
    return table('', ['', 'images/s', 'spread', 'beside it', 'limit'], rows)


def _conditions(result: Dict[str, Any]) -> str:
    """What was measured, where, the limits and the memory."""
    facts = [(key, value) for key, value in result.items() if not isinstance(value, (dict, list))]
    rows = [(key, value) for key, value in facts if 'images_per_second' not in key]
    rows += list(result['host'].items())
    peaks = ', '.join(map(str, result['peak_memory_mb']))
    rows.append(('peak memory after each round, MB', peaks))
    return table('', ['', ''], rows, text_columns=2)
