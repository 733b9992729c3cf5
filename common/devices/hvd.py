"""What CPU and GPU share: tf.estimator.Estimator, with Horovod where there is more than one
process.
"""

import contextlib
import os
import re
from typing import Dict, Iterator, List

import tensorflow as tf

from common import host
from common.checkpoints.saver import CheckpointSaver
from common.devices.base import Device
from common.errors import UserError


def launched_size() -> int:
    """Number of processes that a launcher (horovodrun, mpirun) started, 1 without a launcher."""
    for name in ('HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE'):
        if os.environ.get(name):
            return int(os.environ[name])
    return 1


# A rank that does not answer ends the job after so many seconds.
STALL = {'HOROVOD_STALL_CHECK_TIME_SECONDS': '60', 'HOROVOD_STALL_SHUTDOWN_TIME_SECONDS': '600'}


class HorovodDevice(Device):
    """One process per device; Horovod is imported only if a launcher started more than one."""

    def __init__(self):
        self._hvd = None
        self.local_rank, local_size = 0, 1
        if launched_size() > 1:
            for name, seconds in STALL.items():
                os.environ.setdefault(name, seconds)
            try:
                import horovod.tensorflow as hvd
            except ImportError as error:
                raise UserError(
                    '%d processes were launched but Horovod does not import (%s); ./setup.sh'
                    ' --horovod installs it' % (launched_size(), error)
                )
            hvd.init()
            self._hvd, self.rank, self.size = hvd, hvd.rank(), hvd.size()
            self.local_rank, local_size = hvd.local_rank(), hvd.local_size()
        self._threads = max(1, host.cores() // local_size)

    def open_first_session(self) -> None:
        """Sets the number of threads, which the first session of a process decides for all. GPUs
        are left to the first that trains.
        """
        tf.Session(config=tf.ConfigProto(device_count={'GPU': 0}, **self._pools())).close()

    def _pools(self) -> Dict[str, int]:
        return {
            'intra_op_parallelism_threads': self._threads,
            # An op that blocks, such as an iterator's start, may wait for another in this pool.
            'inter_op_parallelism_threads': max(2, self._threads),
        }

    def session_config(self, training: bool = False) -> tf.ConfigProto:
        """Returns a configuration that shares the cores between the processes of this machine."""
        return tf.ConfigProto(allow_soft_placement=True, **self._pools())

    def estimator(self, model_fn, cfg, model_dir, save_steps=None, steps_per_loop=1):
        def with_saver(features, labels, mode):
            spec = model_fn(features, labels, mode)
            if not (save_steps and self.is_chief):
                return spec
            # Among the hooks of all ranks it comes after those that look at the loss: a step that
            # went wrong is not saved.
            saver = CheckpointSaver(model_dir, save_steps, spec.scaffold)
            return spec._replace(training_hooks=[saver])

        # The Estimator's own saver, which is off, writes a checkpoint it has just restored again.
        config = tf.estimator.RunConfig(
            model_dir=model_dir,
            tf_random_seed=cfg.seed,
            session_config=self.session_config(training=save_steps is not None),
            keep_checkpoint_max=cfg.keep_checkpoints,
            save_checkpoints_steps=None,
            save_checkpoints_secs=None,
            save_summary_steps=None,
            log_step_count_steps=None,
        )
        return tf.estimator.Estimator(with_saver, config=config)

    def wrap_optimizer(self, optimizer: tf.train.Optimizer, cfg) -> tf.train.Optimizer:
        return (
            self._hvd.DistributedOptimizer(optimizer, op=self._hvd.Average)
            if self._hvd
            else optimizer
        )

    def session_hooks(self, training: bool) -> List[tf.train.SessionRunHook]:
        # Broadcasts tf.global_variables(): batch-norm statistics, optimizer slots and the step, not
        # only the weights.
        return [self._hvd.BroadcastGlobalVariablesHook(0)] if self._hvd else []

    def allreduce_sum(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        return self._hvd.allreduce(tensor, op=self._hvd.Sum, name=name) if self._hvd else tensor

    def peer_ended(self, error: Exception) -> bool:
        return self.size > 1 and bool(
            re.search('Horovod has been shut down|Connection (closed|reset) by peer', str(error))
        )

    def all_gather(self, values: tf.Tensor, name: str) -> tf.Tensor:
        return self._hvd.allgather(tf.expand_dims(values, 0), name=name)

    @contextlib.contextmanager
    def session(self, cfg=None) -> Iterator[tf.Session]:
        with tf.Graph().as_default(), tf.Session(config=self.session_config()) as session:
            yield session
