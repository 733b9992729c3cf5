"""What CPU and GPU share: tf.estimator.Estimator, with Horovod where there is more than one
process.
"""

import multiprocessing
import os
import re
from typing import List, Sequence

import numpy as np
import tensorflow as tf

from common.checkpoints.saver import CheckpointSaver
from common.devices.base import Device
from common.errors import UserError


def launched_size() -> int:
    """Number of processes that a launcher (horovodrun, mpirun) started, 1 without a launcher."""
    for name in ('HOROVOD_SIZE', 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE'):
        if os.environ.get(name):
            return int(os.environ[name])
    return 1


class HorovodDevice(Device):
    """One process per device; Horovod is imported only if a launcher started more than one."""

    def __init__(self):
        self._hvd = None
        self.local_rank, local_size = 0, 1
        if launched_size() > 1:
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
        self._threads = max(1, multiprocessing.cpu_count() // local_size)

    def session_config(self) -> tf.ConfigProto:
        """Shares the cores evenly between the processes of this machine."""
        return tf.ConfigProto(
            intra_op_parallelism_threads=self._threads,
            inter_op_parallelism_threads=self._threads,
            allow_soft_placement=True,
        )

    def estimator(
        self, model_fn, cfg, model_dir: str, save_steps: int, steps_per_loop: int = 1
    ) -> tf.estimator.Estimator:
        def with_saver(features, labels, mode):
            spec = model_fn(features, labels, mode)
            if mode != tf.estimator.ModeKeys.TRAIN or not self.is_chief:
                return spec
            # Among the hooks of all ranks it comes after those that look at the loss: a step that
            # went wrong is not saved.
            return spec._replace(
                training_hooks=[CheckpointSaver(model_dir, save_steps, spec.scaffold)]
            )

        # Estimator's own saver writes the checkpoint that it has just restored once more; ours does
        # not. So it is off.
        config = tf.estimator.RunConfig(
            model_dir=model_dir,
            tf_random_seed=cfg.seed,
            session_config=self.session_config(),
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

    def broadcast_hooks(self, training: bool) -> List[tf.train.SessionRunHook]:
        # Broadcasts tf.global_variables(): batch-norm statistics, optimizer slots and the step, not
        # only the weights.
        return [self._hvd.BroadcastGlobalVariablesHook(0)] if self._hvd else []

    def allreduce_sum(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        return self._hvd.allreduce(tensor, op=self._hvd.Sum, name=name) if self._hvd else tensor

    def peer_ended(self, error: Exception) -> bool:
        return self.size > 1 and bool(
            re.search('Horovod has been shut down|Connection (closed|reset) by peer', str(error))
        )

    def sum_over_ranks(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        if not self._hvd:
            return list(arrays)
        with tf.Graph().as_default(), tf.Session(config=self.session_config()) as session:
            return session.run(
                [
                    self._hvd.allreduce(
                        tf.constant(array), op=self._hvd.Sum, name='sum_over_ranks_%d' % index
                    )
                    for index, array in enumerate(arrays)
                ]
            )
