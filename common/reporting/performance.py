"""What this machine could do at most, and the table of a benchmark."""

import pathlib
import time
from typing import Any, Callable, Dict

import numpy as np
import tensorflow as tf

from common import host
from common.files import atomic, write_json
from common.reporting.markdown import table
from common.task import Task

# A training step computes the activations, and with about as many operations each, the gradients
# of the activations and of the weights.
TRAINING_TO_FORWARD = 3


def limits(task: Task, cfg: Any) -> Dict[str, float]:
    """Returns this machine's peak of float32 matrix products and of copying memory, the network's
    operations for one image (a multiplication and an addition are two), and the images/s of
    training that the first allows.
    """
    with tf.Graph().as_default() as graph:
        task.build(tf.zeros((1,) + tuple(cfg.input_shape)), cfg)
        options = tf.profiler.ProfileOptionBuilder.float_operation()
        options['output'] = 'none'
        operations = tf.profiler.profile(graph, options=options).total_float_ops
    size, count = 1536, 1 << 27
    matrix, source, target = np.ones([size, size], np.float32), np.ones(count), np.ones(count)
    product = 2 * size**3 / _fastest(lambda: matrix @ matrix)
    copied = 2 * source.nbytes / _fastest(lambda: np.copyto(target, source))
    return {
        'sgemm_gflops': round(product / 1e9, 1),
        'memory_gbytes_per_second': round(copied / 1e9, 1),
        'network_gflop_per_image': round(operations / 1e9, 4),
        'train_limit_images_per_second': round(product / operations / TRAINING_TO_FORWARD, 1),
    }


def _fastest(function: Callable[[], Any], rounds: int = 7) -> float:
    """Seconds of the fastest of some calls: a limit, not a mean."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def write(result: Dict[str, Any], recipe: str, folder: str) -> None:
    """Writes benchmark.json and benchmark.md: each figure with its spread, what it was measured
    beside, the ratio and the limit.
    """
    result = dict(result, recipe=recipe, host=host.describe())
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
    header = ['', 'images/s', 'spread', 'beside it', 'limit']
    facts = [(key, value) for key, value in result.items() if not isinstance(value, (dict, list))]
    shown = [(key, value) for key, value in facts if 'images_per_second' not in key]
    shown += list(result['host'].items())
    parts = [
        '# Benchmark of %s' % recipe,
        table('', header, rows),
        table('', ['', ''], shown, left=2),
    ]
    write_json(pathlib.Path(folder, 'benchmark.json'), result)
    with atomic(pathlib.Path(folder, 'benchmark.md')) as temporary:
        temporary.write_text('\n\n'.join(parts) + '\n')
