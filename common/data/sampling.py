"""Which records make a batch, and the random numbers that augment them: functions of (seed, step).

The same record of the same epoch is augmented alike on any number of ranks and after any restart.
"""

import functools
import math
from typing import Callable, Dict, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from common.data.records import Folder, steps_per_epoch

# For functions of tf.data maps: AutoGraph's conversion would change nothing and takes a second.
as_written = tf.autograph.experimental.do_not_convert


def splitmix64(state: np.ndarray) -> np.ndarray:
    """Returns the SplitMix64 generator's output (Steele et al. 2014) in each state, uint64."""
    with np.errstate(over='ignore'):
        mixed = np.asarray(state, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ mixed >> np.uint64(31)


def uniform(seed: int, epoch: int, ids: np.ndarray, columns: int) -> np.ndarray:
    """Returns float32 [len(ids), columns] in [0, 1), functions of (seed, epoch, id, column)."""
    key = splitmix64(splitmix64(np.uint64(seed)) ^ np.uint64(epoch))
    bits = splitmix64(
        splitmix64(key ^ np.asarray(ids, np.uint64))[:, None] ^ np.arange(columns, dtype=np.uint64)
    )
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def batches(
    folder: Folder,
    batch_size: int,
    *,
    training: bool,
    seed: int = 0,
    rank: int = 0,
    size: int = 1,
    start_step: int = 0,
    steps: Optional[int] = None,
    draws: int = 0,
) -> tf.data.Dataset:
    """Returns this rank's batches of B = batch_size record numbers.

    Elements: 'id' int64 [B], 'draws' float32 [B, draws] in [0, 1), 'mask' float32 [B].
    Training: step t, from the start of training, is batch t % steps_per_epoch of a permutation
    drawn from (seed, t // steps_per_epoch); the first is `start_step`, and `steps` follow (None:
    without end). Otherwise every record comes once, in order; ranks get equally many full batches,
    filled up with record 0 at mask 0. A global batch is cut into `size` contiguous parts, one a
    rank.
    """
    global_batch = batch_size * size
    if training:
        epoch_steps = steps_per_epoch(folder.count, global_batch)
        stop = np.iinfo(np.int64).max
    else:
        stop = epoch_steps = math.ceil(folder.count / global_batch)
    if steps is not None:
        stop = min(stop, start_step + steps)

    @functools.lru_cache(maxsize=2)  # read-ahead straddles two epochs
    def permutation(epoch: int) -> np.ndarray:
        return np.random.RandomState([seed, epoch]).permutation(folder.count)

    def choose(step):
        epoch, index = divmod(int(step), epoch_steps)
        positions = np.arange(batch_size) + (index * global_batch + rank * batch_size)
        mask = positions < folder.count
        ids = permutation(epoch)[positions] if training else np.where(mask, positions, 0)
        return ids, uniform(seed, epoch, ids, draws), mask.astype(np.float32)

    outputs: Dict[str, Tuple[tf.DType, Sequence]] = {
        'id': (tf.int64, [batch_size]),
        'draws': (tf.float32, [batch_size, draws]),
        'mask': (tf.float32, [batch_size]),
    }
    dataset = tf.data.Dataset.range(start_step, stop)
    return dataset.map(as_written(lambda step: on_host(choose, [step], outputs)))


def load(
    function: Callable,
    batch: Dict[str, tf.Tensor],
    training: bool,
    outputs: Dict[str, Tuple[tf.DType, Sequence]],
) -> Dict[str, tf.Tensor]:
    """Runs function(ids, draws) -> arrays on the host; returns them with the batch's mask and, in
    evaluation, id int32 [B]. outputs: as of `on_host`, with the shape of one record.
    """
    size = batch['mask'].shape.as_list()
    outputs = {name: (dtype, [*size, *shape]) for name, (dtype, shape) in outputs.items()}
    features = on_host(function, [batch['id'], batch['draws']], outputs)
    if not training:
        features['id'] = tf.cast(batch['id'], tf.int32)
    return dict(features, mask=batch['mask'])


def stream(
    folder: Folder, parse: Callable, batch_size: int, parallel_calls: int
) -> tf.data.Dataset:
    """Returns batches as the published ports read them, one parse(record) at a time, without end,
    to measure `batches` against.
    """
    dataset = tf.data.TFRecordDataset([str(file) for file in folder.files]).repeat()
    return dataset.map(parse, parallel_calls).batch(batch_size, True).prefetch(2)


def on_host(
    function: Callable, inputs: Sequence[tf.Tensor], outputs: Dict[str, Tuple[tf.DType, Sequence]]
) -> Dict[str, tf.Tensor]:
    """Runs function(*arrays) -> arrays inside a tf.data pipeline.

    outputs: name -> (dtype, static shape) of what it returns, in order.
    """
    tensors = tf.numpy_function(function, list(inputs), [dtype for dtype, _ in outputs.values()])
    for tensor, (_, shape) in zip(tensors, outputs.values()):
        tensor.set_shape(shape)
    return dict(zip(outputs, tensors))
