"""Evaluation: every record of a split exactly once, on any number of ranks."""

import math
import os
import time
from typing import Any, Callable, Dict, Optional

import numpy as np
import tensorflow as tf
import tqdm

from common.checkpoints import restore
from common.data import pipeline, records
from common.devices.base import Device
from common.devices.exchange import Exchange
from common.evaluation.errors import translated
from common.files import atomic, temporary_folder, write_json
from common.metrics import scores
from common.task import Task

COUNTS = 'counts'  # collection of an evaluation graph: ('key', tensor) pairs


def model_fn(task: Task, cfg: Any, names: Optional[Dict[str, str]]) -> Callable:
    """Returns the Estimator's model_fn for EVAL; labels travel inside features.

    names: {variable: name in the checkpoint}; None on ranks that receive rank 0's variables.
    """

    def build(features, labels, mode):
        images = task.data.normalize(tf.cast(features['image'], tf.float32), cfg)
        logits = task.inference(lambda view: task.build(view, cfg), images, cfg)
        for item in sorted(task.metric.counts(logits, features, cfg).items()):
            tf.add_to_collection(COUNTS, item)
        tf.train.get_or_create_global_step()
        return tf.estimator.EstimatorSpec(
            mode, loss=tf.reduce_mean(logits), scaffold=names and _scaffold(names)
        )

    return build


def _scaffold(names: Dict[str, str]) -> tf.train.Scaffold:
    """Restores the variables by the checkpoint's names.

    The step, which published checkpoints lack, is initialised with the local variables: a Scaffold
    runs no init_op after a restore.
    """
    return tf.train.Scaffold(
        saver=tf.train.Saver(restore.saved_variables(names)),
        ready_for_local_init_op=tf.constant([], tf.string),
        local_init_op=tf.group(
            tf.train.Scaffold.default_local_init_op(), tf.train.get_global_step().initializer
        ),
    )


class _Counter(tf.train.SessionRunHook):
    """Adds up the counts of all batches, and at the end those of all ranks, exactly: `totals`."""

    def __init__(self, device: Device, cfg: Any, batches: int, accumulate: Callable):
        self.totals: Dict[str, np.ndarray] = {}
        self.seconds = 0.0  # without the first batch, which includes compilation
        self._device, self._batches, self._accumulate = device, batches, accumulate
        # Every count is at most a matrix of classes by classes.
        self._capacity = 8 * (64 + min(cfg.num_classes, 255) ** 2)

    def begin(self):
        self._tensors = dict(tf.get_collection(COUNTS))
        self._exchange = Exchange(self._device, self._capacity)
        self._bar = tqdm.tqdm(
            total=self._batches,
            desc='evaluating',
            unit='batch',
            leave=False,
            dynamic_ncols=True,
            disable=None if self._device.is_chief else True,
        )

    def before_run(self, run_context):
        self._start = time.perf_counter()
        return tf.train.SessionRunArgs(self._tensors)

    def after_run(self, run_context, run_values):
        if self.totals:
            self.seconds += time.perf_counter() - self._start
        self.totals = scores.add(self.totals, self._accumulate(run_values.results))
        self._bar.update()

    def end(self, session):
        self._bar.close()
        self.totals = self._exchange.sum(session, self.totals)


def evaluate(
    task: Task, cfg: Any, device: Device, path: Optional[str], folder: records.Folder
) -> Dict[str, Any]:
    """Evaluates a checkpoint on every record of `folder`, each once, sharded over ranks.

    path: of the checkpoint, on rank 0, which sends the variables to the others.
    Returns {'model', figures ..., 'seconds', 'images_per_second', 'counts'}; on rank 0 also
    'checkpoint' and 'step'.
    """
    plan = restore.plan_restore(task, cfg, path) if device.is_chief else None
    batch = cfg.eval_batch_size
    batches = math.ceil(folder.count / (batch * device.size))
    accumulate = task.metric.accumulator(cfg, folder, device.is_chief)
    counter = _Counter(device, cfg, batches, accumulate)

    def input_fn():
        return pipeline.dataset(task, folder, cfg, batch, False, rank=device.rank, size=device.size)

    source = plan and plan.checkpoint.path
    # The Estimator wants a folder of its own: that of a foreign checkpoint is not written to.
    with temporary_folder('evaluation') as scratch, translated(task, cfg, source):
        estimator = device.estimator(model_fn(task, cfg, plan and plan.names), cfg, str(scratch))
        estimator.evaluate(
            input_fn,
            steps=batches,
            hooks=device.session_hooks(False) + [counter],
            checkpoint_path=source,
        )
        # The Estimator keeps an open file and a thread for each folder.
        tf.summary.FileWriterCache.clear()
    measured = (batches - 1) * batch * device.size
    result = dict(
        model=task.name,
        **task.metric.figures(counter.totals, cfg),
        seconds=round(counter.seconds, 3),
        images_per_second=round(measured / counter.seconds, 2) if measured else None,
        counts=counter.totals,
    )
    if 'confusion' in counter.totals and folder.metadata.get('classes'):
        result['classes'] = folder.metadata['classes']
    if plan:
        result.update(checkpoint=os.path.abspath(source), step=plan.checkpoint.step)
    return result


def write(result: Dict[str, Any], output_path: str) -> None:
    """Writes eval.json and, for few classes, confusion.npy (int64 [C, C], row = true class)."""
    counts = result['counts']
    if 'confusion' in counts:
        with atomic(os.path.join(output_path, 'confusion.npy')) as temporary:
            np.save(str(temporary), counts['confusion'])
    content = {key: value for key, value in result.items() if key != 'counts'}
    write_json(os.path.join(output_path, 'eval.json'), content)
