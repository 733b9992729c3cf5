"""Ascend NPU through CANN's TF adapter (npu_bridge): NPUEstimator, mixed precision with the
overflow flag, HCCL allreduce.

Written for adapters r1.5.0 to master.
"""

import contextlib
import functools
import gc
import inspect
import math
import os
import sys
from typing import ContextManager, Dict, Iterator, List

import tensorflow as tf

from common.ascend import environment
from common.ascend import options as npu_options
from common.devices.base import Device
from common.devices.npu_session import (
    adapter_options,
    check_kernels,
    dump_options,
    host_config,
    is_mixed,
    profiling_options,
    session_config,
    supported,
)
from common.errors import UserError, warn


class _Broadcast(tf.train.SessionRunHook):
    """Gives every rank rank 0's variables. In training, NPUEstimator's own hook sends the weights,
    and this one the rest: batch-norm statistics, optimizer slots and the step.
    """

    def __init__(self, training: bool):
        self._training = training

    def begin(self):
        from npu_bridge.hccl import hccl_ops

        sent = {variable.op.name for variable in tf.trainable_variables()} if self._training else ()
        # Not fused: they are of several types.
        self._op = tf.group(
            [
                tf.assign(variable, hccl_ops.broadcast([variable], 0, fusion=0)[0])
                for variable in tf.global_variables()
                if variable.op.name not in sent
            ]
        )

    def after_create_session(self, session, coord):
        session.run(self._op)


class NPU(Device):
    """One Ascend device of `size`; HCCL between them."""

    name = 'npu'
    pairs_by_order = True

    def __init__(self):
        self.rank, self.size = environment.read_rank()
        # any id will do for a job on one machine that no cluster has started
        os.environ['JOB_ID'] = environment.job_id('local%d' % os.getpid())
        try:
            import npu_bridge  # noqa: F401 (registers the graph passes)
        except ImportError as error:
            raise UserError(
                "--device npu: npu_bridge does not import (%s); it comes with CANN's tfplugin:"
                ' source set_env.sh of ascend-toolkit and tfplugin, or give --device cpu' % error
            )
        # The first session of a process sizes the thread pool of all.
        tf.Session(config=host_config()).close()
        if self.rank < 0:
            from npu_bridge.estimator.npu.npu_config import NPURunConfig

            from hccl.manage.api import get_rank_id

            if 'aoe_config_file' not in inspect.signature(NPURunConfig.__init__).parameters:
                raise UserError(
                    'CM_CHIEF_IP: TF adapters before r1.11.0 need a rank table; python -m'
                    ' hccl.rank_table generate makes one'
                )
            with self.session():
                self.rank = get_rank_id()

    def steps_per_loop(self, cfg, intervals: Dict[str, int]) -> int:
        longest = functools.reduce(math.gcd, intervals.values())
        loop = cfg.iterations_per_loop or (longest if cfg.enable_data_pre_proc else 1)
        if longest % loop:
            name = next(name for name, steps in intervals.items() if steps % loop)
            raise UserError(
                'iterations_per_loop: %d does not divide %s (%d steps); the largest that divides'
                ' every interval is %d' % (loop, name, intervals[name], longest)
            )
        if loop == 1 and not cfg.iterations_per_loop:
            reason = '--enable_data_pre_proc False'
            if cfg.enable_data_pre_proc:
                named = ', '.join('%s (%d)' % item for item in intervals.items())
                reason = named + ' have no common divisor'
            warn('1 step per call of the device: %s; more would be faster' % reason)
        return loop

    def estimator(self, model_fn, cfg, model_dir, save_steps=None, steps_per_loop=1):
        from npu_bridge.estimator.npu.npu_config import DumpConfig, NPURunConfig, ProfilingConfig
        from npu_bridge.estimator.npu.npu_estimator import NPUEstimator

        options = adapter_options(cfg)
        if cfg.profiling:
            options['profiling_config'] = ProfilingConfig(
                enable_profiling=True, profiling_options=profiling_options(cfg)
            )
        if dump_options(cfg):
            options['dump_config'] = DumpConfig(**supported(DumpConfig.__init__, dump_options(cfg)))
        options.update(
            model_dir=model_dir,
            tf_random_seed=cfg.seed,
            iterations_per_loop=steps_per_loop,
            save_summary_steps=0,
            # Every rank would save; 0 (unlike None) switches the adapter's saver off.
            save_checkpoints_steps=(save_steps or 0) if self.is_chief else 0,
            keep_checkpoint_max=cfg.keep_checkpoints,
            log_step_count_steps=None,
            session_config=host_config(),
        )
        config = NPURunConfig(**supported(NPURunConfig.__init__, options))
        return NPUEstimator(model_fn=self._before_session(model_fn, cfg), config=config)

    def _before_session(self, model_fn, cfg):
        """Checks the graph, and tells HCCL the gradient segments now that the variables exist."""

        def built(features, labels, mode):
            spec = model_fn(features, labels, mode)
            check_kernels(tf.get_default_graph())
            if mode == tf.estimator.ModeKeys.TRAIN and cfg.hccl_split and self.size > 1:
                from hccl.split.api import set_split_strategy_by_idx, set_split_strategy_by_size

                backwards = reversed(tf.trainable_variables())  # the order of back-propagation
                sizes = [variable.shape.num_elements() for variable in backwards]
                text = npu_options.auto_split(sizes) if cfg.hccl_split == 'auto' else cfg.hccl_split
                by_index = text.startswith('index')
                setter = set_split_strategy_by_idx if by_index else set_split_strategy_by_size
                setter(npu_options.split(text, len(sizes)))
                if self.is_chief:
                    sys.stderr.write('gradient segments: %s of %d gradients\n' % (text, len(sizes)))
            return spec

        return built

    def wrap_optimizer(self, optimizer: tf.train.Optimizer, cfg) -> tf.train.Optimizer:
        from npu_bridge.estimator.npu.npu_loss_scale_manager import (
            ExponentialUpdateLossScaleManager,
            FixedLossScaleManager,
        )
        from npu_bridge.estimator.npu.npu_loss_scale_optimizer import NPULossScaleOptimizer
        from npu_bridge.estimator.npu.npu_optimizer import NPUDistributedOptimizer

        # Averages over ranks; with one rank it does nothing.
        optimizer = NPUDistributedOptimizer(optimizer)
        if not is_mixed(cfg):
            return optimizer
        if cfg.loss_scale == 'dynamic':
            manager = ExponentialUpdateLossScaleManager(
                init_loss_scale=2**32,
                incr_every_n_steps=1000,
                decr_every_n_nan_or_inf=2,
                decr_ratio=0.5,
            )
        else:
            manager = FixedLossScaleManager(loss_scale=cfg.loss_scale)
        # On the 910 float16 saturates: no Inf or NaN appears. This optimizer reads the device's
        # overflow flag, of all ranks.
        return NPULossScaleOptimizer(optimizer, manager, is_distributed=self.size > 1)

    def session_hooks(self, training: bool) -> List[tf.train.SessionRunHook]:
        return [_Broadcast(training)] if self.size > 1 else []

    def allreduce_sum(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        if self.size == 1:
            return tensor
        from npu_bridge.hccl import hccl_ops

        return hccl_ops.allreduce(tensor, 'sum', fusion=0)

    def full_precision(self) -> ContextManager:
        from npu_bridge.estimator.npu import npu_scope

        return npu_scope.keep_dtype_scope()

    def all_gather(self, values: tf.Tensor, name: str) -> tf.Tensor:
        from npu_bridge.hccl import hccl_ops

        return tf.reshape(hccl_ops.allgather(values, self.size), [self.size, -1])

    def dropout(self, x: tf.Tensor, rate: float, seed) -> tf.Tensor:
        """The device's own generator: its mask follows the graph's seed, not the step, so a resumed
        run draws others.
        """
        from npu_bridge.estimator import npu_ops

        return npu_ops.dropout(x, 1.0 - rate)

    @contextlib.contextmanager
    def session(self, cfg=None) -> Iterator[tf.Session]:
        """A session between initialize_system and shutdown_system; training does it by itself."""
        from npu_bridge.estimator import npu_ops

        config = session_config(cfg)
        if cfg is None:
            # The adapter keeps it for the whole process (NpuAttrs::init_options_ of npu_attrs.cc),
            # so that a training with precision_mode_v2 would have both.
            (entry,) = config.graph_options.rewrite_options.custom_optimizers
            del entry.parameter_map['precision_mode']
        gc.collect()  # the deletion of an earlier, closed session would shut this one's device down
        with tf.Graph().as_default(), tf.Session(config=config) as session:
            session.run(npu_ops.initialize_system())
            try:
                yield session
            finally:
                session.run(npu_ops.shutdown_system())
