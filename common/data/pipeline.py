"""From a folder of records to batches of features, for any task."""

from typing import Any

import tensorflow as tf

from common.data import records, sampling
from common.errors import UserError
from common.task import Task


def open_split(task: Task, cfg: Any, split: str) -> records.Folder:
    """Opens and validates the records of a split.

    --image_num takes the first N of them: of the training split in training, else of this one.
    """
    folder = records.open_split(cfg.data_path, split, cfg.skip_corrupt)
    names = task.data.class_names(folder.metadata, cfg)
    if names and len(names) != cfg.num_classes:
        raise UserError(
            '--num_classes %d: %s has %d classes' % (cfg.num_classes, folder.path, len(names))
        )
    limit = cfg.image_num
    if limit is not None and not (cfg.do_train and split == task.eval_split):
        if limit > folder.count:
            raise UserError(
                '--image_num %d: %s holds %d records; give at most that, or leave the flag out'
                % (limit, folder.path, folder.count)
            )
        folder.count = limit
    return folder


def dataset(
    task: Task, folder: records.Folder, cfg: Any, batch_size: int, training: bool, **position: Any
) -> tf.data.Dataset:
    """Returns batches of features; `position` as in sampling.batches (seed, rank, ...)."""
    draws = task.data.DRAWS if training else 0
    batches = sampling.batches(folder, batch_size, training=training, draws=draws, **position)
    parse = sampling.as_written(lambda batch: task.data.parse(batch, folder, cfg, training))
    # Prefetching last keeps the map on the host: Ascend's adapter moves the last to the device.
    return batches.map(parse, num_parallel_calls=2).prefetch(2)
