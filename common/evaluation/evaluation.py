"""Evaluation: every record of the split exactly once, on any number of ranks."""

import contextlib
import json
import math
import os
import re
import sys
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, Optional

import numpy as np
import tensorflow as tf
import tqdm

from common import devices
from common.checkpoints import checkpoint
from common.data import records
from common.errors import UserError
from common.files import atomic
from common.task import Task
from common.training import model_fn


class _Counter(tf.train.SessionRunHook):
    """Sums what `tally` makes of an evaluation graph's counts on the host, exactly: int64 for whole
    numbers, float64 else.
    """

    def __init__(
        self,
        title: str,
        batches: int,
        chief: bool,
        tally: Callable[[Dict[str, np.ndarray]], Dict[str, np.ndarray]],
    ):
        self.totals: Dict[str, np.ndarray] = {}
        self.seconds, self.first = 0.0, True
        self._title, self._batches, self._chief, self._tally = title, batches, chief, tally

    def begin(self):
        self._tensors = dict(tf.get_collection(model_fn.COUNTS))
        self._bar = tqdm.tqdm(
            total=self._batches,
            desc=self._title,
            unit='batch',
            leave=False,
            dynamic_ncols=True,
            disable=not (self._chief and sys.stderr.isatty()),
        )

    def before_run(self, run_context):
        self._start = time.perf_counter()
        return tf.train.SessionRunArgs(self._tensors)

    def after_run(self, run_context, run_values):
        for key, value in self._tally(run_values.results).items():
            wide = np.asarray(
                value, np.int64 if np.issubdtype(value.dtype, np.integer) else np.float64
            )
            self.totals[key] = self.totals.get(key, 0) + wide
        if not self.first:  # the first batch includes compilation
            self.seconds += time.perf_counter() - self._start
        self.first = False
        self._bar.update()

    def end(self, session):
        self._bar.close()


def write_json(path: str, content: Dict[str, Any]) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + '\n')


def match(task: Task, path: str, training: bool = False) -> checkpoint.Match:
    """How a checkpoint fits the task's network, for training the one with all that only training
    has; UserError if it does not.
    """
    found = checkpoint.Checkpoint(path)
    optional = (
        (
            tuple(task.may_be_missing(found.shapes))
            + tuple(task.heads if task.cfg.reinit_head else ())
        )
        if training
        else ()
    )
    return checkpoint.match(
        found,
        task.variables(training),
        optional,
        task.explain_checkpoint(found.shapes),
        task.dead(found.shapes),
    )


@contextlib.contextmanager
def reading(task: Task, path: Optional[str]) -> Iterator[None]:
    """Turns TensorFlow's errors about records and about restoring the checkpoint `path` into
    UserErrors.
    """
    try:
        yield
    except tf.errors.OpError as error:
        known = records.user_error(error)
        if (
            known
            or not path
            or not re.search('RestoreV2|Restoring from checkpoint failed', str(error))
        ):
            raise known or error
        if isinstance(error, (tf.errors.NotFoundError, tf.errors.InvalidArgumentError)):
            match(task, path)  # says it if the network is another
            raise UserError(
                '%s was written with another --optimizer or --ema_decay (%s); give that one, or'
                ' another --output_path'
                % (
                    path,
                    (
                        re.search(r'Key \S+ not found', str(error))
                        or ['a variable has another shape']
                    )[0],
                )
            )
        raise UserError(
            '%s is damaged: %s; take an older checkpoint (without its .index a run goes on from the'
            ' one before)' % (path, str(error).splitlines()[0])
        )


def evaluate(
    task: Task, device: devices.Device, path: Optional[str], folder: Optional[records.Folder] = None
) -> Dict[str, Any]:
    """Evaluates a checkpoint on every record of the evaluation split, each once, sharded over
    ranks.

    Returns {'model', 'checkpoint', 'step', metrics..., 'seconds', 'images_per_second', 'counts'};
    checkpoint and step on rank 0 only.
    """
    cfg = task.cfg
    folder = folder or task.folder(task.eval_split)
    found = (
        match(task, path) if device.is_chief else None
    )  # rank 0 reads the checkpoint, which others may not see, and sends it
    images = task.eval_batch_size * device.size
    batches = math.ceil(folder.count / images)
    counter = _Counter('evaluating', batches, device.is_chief, task.tally(folder, device.is_chief))

    def input_fn():
        return task.dataset(folder, task.eval_batch_size, False, rank=device.rank, size=device.size)

    # The Estimator wants a folder of its own: a foreign checkpoint's is not written to.
    with tempfile.TemporaryDirectory(prefix='evaluation-') as scratch, reading(
        task, found and found.checkpoint.path
    ):
        estimator = device.estimator(
            model_fn.build(task, device, restore=found and found.names), cfg, scratch, save_steps=1
        )
        estimator.evaluate(
            input_fn,
            steps=batches,
            hooks=device.broadcast_hooks(False) + [counter],
            checkpoint_path=found and found.checkpoint.path,
        )
    keys = sorted(counter.totals)
    counts = dict(
        zip(keys, device.sum_over_ranks([np.asarray(counter.totals[key]) for key in keys]))
    )
    names = (
        {'classes': folder.metadata['classes']}
        if 'confusion' in counts and folder.metadata.get('classes')
        else {}
    )
    measured = (batches - 1) * images
    source = (
        dict(checkpoint=os.path.abspath(found.checkpoint.path), step=found.checkpoint.step)
        if found
        else {}
    )
    return dict(
        source,
        model=task.name,
        **task.metrics(counts),
        seconds=round(counter.seconds, 3),
        images_per_second=round(measured / counter.seconds, 2) if measured else None,
        counts=counts,
        **names,
    )


def write(result: Dict[str, Any], output_path: str) -> None:
    """Writes eval.json and, for few classes, confusion.npy (int64 [C, C], row = true class)."""
    counts = result['counts']
    if 'confusion' in counts:
        with atomic(os.path.join(output_path, 'confusion.npy')) as temporary:
            np.save(str(temporary), counts['confusion'])
    write_json(
        os.path.join(output_path, 'eval.json'),
        {key: value for key, value in result.items() if key != 'counts'},
    )
