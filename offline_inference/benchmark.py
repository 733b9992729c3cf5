"""Images per second of ONNX Runtime and of the frozen graph in TensorFlow, measured in turns in one
run.

python -m common.benchmark inference --config C --model_path CKPT|none --batch_size 8 [--rounds 3]
[--round_steps 20]
"""

import pathlib
import statistics
import tempfile
import time
from typing import Any, Callable, Dict, List

import numpy as np
import tensorflow as tf

from common.evaluation import evaluation
from common.task import Task
from offline_inference import freeze, pb, to_onnx


def rate(infer: Callable[[np.ndarray], np.ndarray], images: np.ndarray, steps: int) -> float:
    """Images per second of `steps` calls; the caller has warmed the engine up."""
    began = time.perf_counter()
    for _ in range(steps):
        infer(images)
    return steps * len(images) / (time.perf_counter() - began)


def measure(task: Task, rounds: int, steps: int) -> Dict[str, Any]:
    """Medians over the rounds, in images/s, and the median of the ratio; on random images, whose
    values change nothing.

    --model_path none (or not given): initial weights.
    """
    to_onnx.require()
    with tempfile.TemporaryDirectory(prefix='benchmark-') as folder:
        path = task.cfg.model_path
        if path in (None, 'none'):
            path = _initial(task, folder)
        frozen, model = (
            pathlib.Path(folder) / (task.name + '.pb'),
            pathlib.Path(folder) / (task.name + '.onnx'),
        )
        freeze.freeze(task, evaluation.match(task, path), frozen)
        to_onnx.convert(frozen, model, task.output_name)
        engines = {'onnx': to_onnx.load(model, task), 'pb': pb.load(frozen, task)}
        images = (
            np.random.RandomState(0)
            .normal(size=[task.cfg.batch_size] + list(task.input_shape))
            .astype(np.float32)
        )
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
    return dict(
        result,
        onnx_to_pb=round(statistics.median(a / b for a, b in zip(rates['onnx'], rates['pb'])), 3),
    )


def _initial(task: Task, folder: str) -> str:
    """A checkpoint of the network as it is before training."""
    with tf.Graph().as_default(), tf.Session(config=pb.session_config(task)) as session:
        task.network(tf.placeholder(tf.float32, [1] + list(task.input_shape)), False)
        session.run(tf.global_variables_initializer())
        return tf.train.Saver().save(session, str(pathlib.Path(folder) / 'initial.ckpt'))
