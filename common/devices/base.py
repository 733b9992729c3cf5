"""The interface that every device fulfils. Only the files of this folder know Horovod or
npu_bridge.
"""

import abc
import contextlib
from typing import Callable, ContextManager, Dict, List, Optional, Sequence, Union

import tensorflow as tf


class Device(abc.ABC):
    """Where a run happens: `size` processes (ranks), each driving one device.

    name: 'cpu', 'gpu' or 'npu'; rank: this process's number, 0 <= rank < size; rank 0 writes
    checkpoints and logs.
    """

    name: str
    rank: int = 0
    size: int = 1
    # Whether the ranks' messages are paired by their order alone, and not by name.
    pairs_by_order = False

    @property
    def is_chief(self) -> bool:
        return self.rank == 0

    @abc.abstractmethod
    def estimator(
        self,
        model_fn: Callable,
        cfg,
        model_dir: str,
        save_steps: Optional[int] = None,
        steps_per_loop: int = 1,
    ) -> tf.estimator.Estimator:
        """Returns an Estimator with this device's run configuration.

        save_steps: steps between the checkpoints that rank 0 writes; None for an evaluation.
        steps_per_loop: training steps per session.run, from `steps_per_loop`.
        """

    @abc.abstractmethod
    def wrap_optimizer(self, optimizer: tf.train.Optimizer, cfg) -> tf.train.Optimizer:
        """Adds gradient averaging over ranks and, for mixed precision, loss scaling."""

    @abc.abstractmethod
    def session_hooks(self, training: bool) -> List[tf.train.SessionRunHook]:
        """Hooks of a session that trains or evaluates. With several ranks they give every rank rank
        0's variables, all of them, when the session starts.
        """

    @abc.abstractmethod
    def allreduce_sum(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        """Sums a tensor over ranks inside the graph; `name` is the same on every rank."""

    @abc.abstractmethod
    def all_gather(self, values: tf.Tensor, name: str) -> tf.Tensor:
        """Returns int32 [size, n] of all ranks' int32 [n], inside the graph."""

    @abc.abstractmethod
    def session(self, cfg=None) -> ContextManager[tf.Session]:
        """A session of a new graph in which ranks can exchange values; not inside another.

        cfg: gives the precision of a network in it; None for a session without a network.
        """

    def peer_ended(self, error: Exception) -> bool:
        """Whether an error only reports that another rank has ended."""
        return False

    def steps_per_loop(self, cfg, intervals: Dict[str, int]) -> int:
        """Training steps per session.run: a divisor of every interval {name: steps}; 1 unless the
        device loops on its own.
        """
        return 1

    def full_precision(self) -> ContextManager:
        """A context: ops that are made in it keep their dtype where mixed precision would give them
        float16.
        """
        return contextlib.nullcontext()

    def gradients(self) -> ContextManager:
        """A context: the ops that are made in it have gradients that this device can compute."""
        return contextlib.nullcontext()

    def dropout(
        self, x: tf.Tensor, rate: float, seed: Sequence[Union[int, tf.Tensor]]
    ) -> tf.Tensor:
        """Zeroes a share `rate` of x, to the nearest 1/65536, and scales the rest by 1/(1-rate);
        the mask is a function of `seed` (two integers).
        """
        # 16 bits for each value: a CPU draws numbers for half as long as it would floats.
        seed = tf.stack([tf.cast(value, tf.int32) for value in seed])
        count, lowest, highest = tf.size(x), -(2**31), 2**31 - 1
        integers = tf.random.stateless_uniform(
            [(count + 1) // 2], seed, lowest, highest, dtype=tf.int32
        )
        bits = tf.reshape(tf.bitcast(integers, tf.int16), [-1])[:count]
        keep = tf.reshape(bits, tf.shape(x)) >= min(round(rate * 65536), 65535) - 32768
        return x * (tf.cast(keep, x.dtype) / (1.0 - rate))
