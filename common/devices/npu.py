"""Ascend NPU through CANN's TF adapter (npu_bridge): NPUEstimator, mixed precision with the
overflow flag, HCCL allreduce.

Written for adapters r1.5.0 to master. `session_config()` serves those who keep a training loop of
their own.
"""

import gc
import inspect
import json
import os
import re
import sys
from typing import Any, ContextManager, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import tensorflow as tf

from common.ascend import options as npu_options
from common.devices.base import Device
from common.errors import UserError

CM = ('CM_CHIEF_IP', 'CM_CHIEF_PORT', 'CM_CHIEF_DEVICE', 'CM_WORKER_SIZE', 'CM_WORKER_IP')


class Place(NamedTuple):
    """This process's place in the job. rank -1: HCCL gives it (CM_* mode)."""

    rank: int
    size: int


def environment(env=os.environ) -> Place:
    """Reads and checks the variables that the adapter and HCCL start from; UserError names the
    variable and the cure.

    One device needs none. Several: RANK_TABLE_FILE with RANK_ID and RANK_SIZE, or all five CM_* and
    none of these.
    """
    _check_process(env)
    cm = [name for name in CM if env.get(name)]
    if cm:
        for name in ('RANK_TABLE_FILE', 'RANK_ID', 'RANK_SIZE'):
            if name in env:  # the adapter refuses even an empty one
                raise UserError(
                    '%s and %s are both set: CM_* variables replace the rank table; unset one side'
                    % (cm[0], name)
                )
        if len(cm) < len(CM):
            raise UserError('%s is set: %s must all be' % (cm[0], ', '.join(CM)))
        if _number(env, 'CM_CHIEF_PORT') > 65520:
            raise UserError('CM_CHIEF_PORT=%s: legal are 0 to 65520' % env['CM_CHIEF_PORT'])
        _number(env, 'CM_CHIEF_DEVICE')
        size = _number(env, 'CM_WORKER_SIZE')
        if not size:
            raise UserError('CM_WORKER_SIZE=0: give the number of devices of all servers')
        return Place(-1 if size > 1 else 0, size)
    size = (
        _number(env, 'RANK_SIZE') if 'RANK_SIZE' in env else 1
    )  # empty, it is no number to the adapter
    if not size:
        raise UserError('RANK_SIZE=0: give the number of devices of all servers')
    table = env.get('RANK_TABLE_FILE')
    if size > 1 and not table:
        raise UserError(
            'RANK_SIZE=%d but RANK_TABLE_FILE is not set; python -m hccl.launch sets all of them'
            % size
        )
    if table and not os.path.isfile(table):
        raise UserError(
            'RANK_TABLE_FILE=%s: no such file; python -m hccl.rank_table generate makes one' % table
        )
    if table and not env.get('RANK_ID'):
        raise UserError(
            'RANK_TABLE_FILE is set but RANK_ID is not; python -m hccl.launch sets all of them'
        )
    rank = _number(env, 'RANK_ID', '0')
    if rank >= size:
        raise UserError('RANK_ID=%d: with RANK_SIZE=%d legal are 0 to %d' % (rank, size, size - 1))
    return Place(rank, size)


def _check_process(env) -> None:
    """What holds with and without a rank table: the device, time limits, and no parameter servers."""
    if (
        env.get('DEVICE_ID')
        and env.get('ASCEND_DEVICE_ID')
        and env['DEVICE_ID'] != env['ASCEND_DEVICE_ID']
    ):
        raise UserError(
            'DEVICE_ID=%s and ASCEND_DEVICE_ID=%s disagree; unset one'
            % (env['DEVICE_ID'], env['ASCEND_DEVICE_ID'])
        )
    for name in ('DEVICE_ID', 'ASCEND_DEVICE_ID'):
        _number(env, name, '0')
    timeout = env.get('HCCL_CONNECT_TIMEOUT')
    if timeout and not (timeout.isdigit() and 120 <= int(timeout) <= 7200):
        raise UserError('HCCL_CONNECT_TIMEOUT=%s: legal are 120 to 7200 seconds' % timeout)
    if '"cluster"' in env.get('TF_CONFIG', ''):
        raise UserError(
            'TF_CONFIG names a cluster: NPURunConfig takes it for a job with parameter servers,'
            ' which this is not; unset it'
        )


def _number(env, name: str, default: Optional[str] = None) -> int:
    text = env.get(name) or default or ''
    if not text.isdigit():
        raise UserError('%s=%s: give a whole number, 0 or more' % (name, text))
    return int(text)


def _job_id() -> None:
    """NPUEstimator wants a JOB_ID; any will do for a job on one machine that was not started by a
    cluster.
    """
    job = os.environ.setdefault('JOB_ID', 'local%d' % os.getpid())
    if not re.fullmatch(r'[A-Za-z0-9_-]+', job) or re.fullmatch(r'0\d*', job):
        raise UserError(
            'JOB_ID=%s: legal are letters, digits, _ and -, and no number that starts with 0' % job
        )


def precision(cfg) -> Dict[str, str]:
    """precision_mode or precision_mode_v2 of a configuration."""
    return {
        'precision_mode_v2' if cfg.precision_mode_v2 else 'precision_mode': npu_options.mode(cfg)
    }


def is_mixed(cfg) -> bool:
    return next(iter(precision(cfg).values())) in npu_options.MIXED


def adapter_options(cfg) -> Dict[str, Any]:
    """What NPURunConfig is to be given beyond the intervals, under its own names; None and defaults
    left out.
    """
    options: Dict[str, Any] = precision(cfg)
    options.update(enable_data_pre_proc=cfg.enable_data_pre_proc, hcom_parallel=cfg.hcom_parallel)
    for name in ('modify_mixlist', 'op_select_implmode', 'op_compiler_cache_mode', 'aoe_mode'):
        if getattr(cfg, name):
            options[name] = getattr(cfg, name)
    for name in (
        'graph_memory_max_size',
        'variable_memory_max_size',
    ):  # the adapter takes bytes as text
        if getattr(cfg, name):
            options[name] = str(getattr(cfg, name))
    if cfg.op_compiler_cache_dir:
        options['op_compiler_cache_dir'] = npu_options.folder(cfg.op_compiler_cache_dir)
    if cfg.deterministic:
        options['deterministic'] = cfg.deterministic
    return options


def profiling_options(cfg) -> str:
    """The JSON text of a profile: traces of training, tasks, collectives and the pipe utilisation
    of AI Core.
    """
    return json.dumps(
        {
            'output': npu_options.folder(cfg.profiling),
            'training_trace': 'on',
            'task_trace': 'on',
            'hccl': 'on',
            'aicpu': 'on',
            'aic_metrics': 'PipeUtilization',
            'fp_point': '',
            'bp_point': '',
        }
    )


def _dump(cfg) -> Dict[str, Any]:
    """Arguments of DumpConfig, {} without a dump."""
    if cfg.over_dump:
        return dict(
            enable_dump_debug=True,
            dump_path=npu_options.folder(cfg.over_dump),
            dump_debug_mode='all',
        )
    if cfg.data_dump:
        return dict(
            enable_dump=True,
            dump_path=npu_options.folder(cfg.data_dump),
            dump_step=cfg.dump_step,
            dump_mode='output',
        )
    return {}


def supported(function, arguments: Dict[str, Any]) -> Dict[str, Any]:
    """The arguments that the installed adapter's signature has; a one-line warning names the
    others.
    """
    known = inspect.signature(function).parameters
    missing = sorted(set(arguments) - set(known))
    if missing:
        sys.stderr.write('warning: this adapter has no %s; left out\n' % ', '.join(missing))
    return {name: value for name, value in arguments.items() if name in known}


def session_config(cfg=None, iterations_per_loop: int = 1) -> tf.ConfigProto:
    """ConfigProto for a training loop of one's own (no Estimator): a complete NpuOptimizer entry,
    remapping and memory optimisation off.

    cfg: a common.settings.Config; None takes the defaults. With iterations_per_loop > 1 the train
    op must also go through npu_bridge's util.set_iteration_per_loop.
    """
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

    from common.settings import Config

    cfg = cfg or Config()
    cfg.validate_npu()
    config = tf.ConfigProto(allow_soft_placement=True)
    config.graph_options.rewrite_options.remapping = RewriterConfig.OFF
    config.graph_options.rewrite_options.memory_optimization = RewriterConfig.OFF
    entry = config.graph_options.rewrite_options.custom_optimizers.add()
    entry.name = 'NpuOptimizer'
    values = dict(
        adapter_options(cfg),
        use_off_line=True,
        iterations_per_loop=iterations_per_loop,
        graph_run_mode=1,
        **_dump(cfg),
    )
    if cfg.profiling:
        values.update(profiling_mode=True, profiling_options=profiling_options(cfg))
    for name, value in values.items():
        field = entry.parameter_map[
            name
        ]  # the wrong field of the union is silently read as its default
        if isinstance(value, bool):
            field.b = value
        elif isinstance(value, int):
            field.i = value
        elif value is not None:
            field.s = tf.compat.as_bytes(value)
    return config


class _Broadcast(tf.train.SessionRunHook):
    """Gives every rank rank 0's variables. In training, NPUEstimator's own hook sends the weights,
    and this one what that leaves
    out: batch-norm statistics, optimizer slots and the step."""

    def __init__(self, training: bool):
        self._training = training

    def begin(self):
        from npu_bridge.hccl import hccl_ops

        sent = {variable.op.name for variable in tf.trainable_variables()} if self._training else ()
        self._op = tf.group(
            [
                tf.assign(
                    variable, hccl_ops.broadcast([variable], 0, fusion=0)[0]
                )  # not fused: they are of several types
                for variable in tf.global_variables()
                if variable.op.name not in sent
            ]
        )

    def after_create_session(self, session, coord):
        session.run(self._op)


class NPU(Device):
    """One Ascend device of `size`; HCCL between them."""

    name = 'npu'

    def __init__(self):
        place = environment()
        _job_id()
        try:
            import npu_bridge  # noqa: F401 (registers the graph passes)
        except ImportError as error:
            raise UserError(
                "--device npu: npu_bridge does not import (%s); it comes with CANN's tfplugin:"
                ' source set_env.sh of ascend-toolkit and tfplugin, or give --device cpu' % error
            )
        self.rank, self.size = place
        if self.rank < 0:
            from npu_bridge.estimator.npu.npu_config import NPURunConfig

            from hccl.manage.api import get_rank_id

            if 'aoe_config_file' not in inspect.signature(NPURunConfig.__init__).parameters:
                raise UserError(
                    'CM_CHIEF_IP: TF adapters before r1.11.0 need a rank table; python -m'
                    ' hccl.rank_table generate makes one'
                )
            self.rank = self._with_hccl(lambda session: get_rank_id())

    def steps_per_loop(self, cfg, intervals: Dict[str, int]) -> int:
        longest = int(np.gcd.reduce(np.asarray(list(intervals.values()), np.int64)))
        loop = cfg.iterations_per_loop or (longest if cfg.enable_data_pre_proc else 1)
        if longest % loop:
            culprit = next(name for name, steps in intervals.items() if steps % loop)
            raise UserError(
                'iterations_per_loop: %d does not divide %s (%d steps); the largest that divides'
                ' every interval is %d' % (loop, culprit, intervals[culprit], longest)
            )
        if loop == 1 and not cfg.iterations_per_loop:
            sys.stderr.write(
                'warning: 1 step per call of the device: %s have no common divisor; more would be'
                ' faster\n' % ', '.join('%s (%d)' % item for item in intervals.items())
            )
        return loop

    def estimator(
        self, model_fn, cfg, model_dir: str, save_steps: int, steps_per_loop: int = 1
    ) -> tf.estimator.Estimator:
        from npu_bridge.estimator.npu.npu_config import DumpConfig, NPURunConfig, ProfilingConfig
        from npu_bridge.estimator.npu.npu_estimator import NPUEstimator

        if (
            cfg.accumulate > 1
        ):  # a loop of TensorFlow 1: the adapter hands it to the device as one While only if told so
            os.environ.setdefault('ENABLE_FORCE_V2_CONTROL', '1')
        options = adapter_options(cfg)
        if cfg.profiling:
            options['profiling_config'] = ProfilingConfig(
                enable_profiling=True, profiling_options=profiling_options(cfg)
            )
        if _dump(cfg):
            options['dump_config'] = DumpConfig(**supported(DumpConfig.__init__, _dump(cfg)))
        config = NPURunConfig(
            **supported(
                NPURunConfig.__init__,
                dict(
                    options,
                    model_dir=model_dir,
                    tf_random_seed=cfg.seed,
                    iterations_per_loop=steps_per_loop,
                    save_summary_steps=0,
                    # Every rank would save; 0 (unlike None) switches the adapter's saver off.
                    save_checkpoints_steps=save_steps if self.is_chief else 0,
                    keep_checkpoint_max=cfg.keep_checkpoints,
                    log_step_count_steps=None,
                    session_config=tf.ConfigProto(allow_soft_placement=True),
                ),
            )
        )
        return NPUEstimator(
            model_fn=(
                self._with_split(model_fn, cfg) if cfg.hccl_split and self.size > 1 else model_fn
            ),
            config=config,
        )

    def _with_split(self, model_fn, cfg):
        """Tells HCCL the gradient segments as soon as the variables exist, before the session does."""

        def with_split(features, labels, mode):
            spec = model_fn(features, labels, mode)
            if mode == tf.estimator.ModeKeys.TRAIN:
                from hccl.split.api import set_split_strategy_by_idx, set_split_strategy_by_size

                sizes = [
                    variable.shape.num_elements() for variable in reversed(tf.trainable_variables())
                ]  # the order of back-propagation
                text = npu_options.auto_split(sizes) if cfg.hccl_split == 'auto' else cfg.hccl_split
                numbers = npu_options.split(text, len(sizes))
                (
                    set_split_strategy_by_idx
                    if text.startswith('index')
                    else set_split_strategy_by_size
                )(numbers)
                if self.is_chief:
                    sys.stderr.write('gradient segments: %s of %d gradients\n' % (text, len(sizes)))
            return spec

        return with_split

    def wrap_optimizer(self, optimizer: tf.train.Optimizer, cfg) -> tf.train.Optimizer:
        from npu_bridge.estimator.npu.npu_loss_scale_manager import (
            ExponentialUpdateLossScaleManager,
            FixedLossScaleManager,
        )
        from npu_bridge.estimator.npu.npu_loss_scale_optimizer import NPULossScaleOptimizer
        from npu_bridge.estimator.npu.npu_optimizer import NPUDistributedOptimizer

        optimizer = NPUDistributedOptimizer(
            optimizer
        )  # averages over ranks; with one rank it does nothing
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

    def broadcast_hooks(self, training: bool) -> List[tf.train.SessionRunHook]:
        return [_Broadcast(training)] if self.size > 1 else []

    def allreduce_sum(self, tensor: tf.Tensor, name: str) -> tf.Tensor:
        if self.size == 1:
            return tensor
        from npu_bridge.hccl import hccl_ops

        return hccl_ops.allreduce(tensor, 'sum', fusion=0)

    def full_precision(self) -> ContextManager:
        from npu_bridge.estimator.npu import npu_scope

        return npu_scope.keep_dtype_scope()

    def sum_over_ranks(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """HCCL sums neither int64 nor float64 on a 910: their bytes are gathered as int32, and
        every host sums in the same order.
        """
        if self.size == 1:
            return list(arrays)
        from npu_bridge.hccl import hccl_ops

        arrays = [np.asarray(array) for array in arrays]
        words = [np.frombuffer(array.tobytes(), np.int32) for array in arrays]
        gathered = self._with_hccl(
            lambda session: session.run(
                [hccl_ops.allgather(tf.constant(part), self.size) for part in words]
            )
        )
        return [
            np.frombuffer(every.tobytes(), array.dtype)
            .reshape((self.size,) + array.shape)
            .sum(axis=0, dtype=array.dtype)
            for every, array in zip(gathered, arrays)
        ]

    def dropout(self, x: tf.Tensor, rate: float, seed) -> tf.Tensor:
        """The device's own generator: its mask follows the graph's seed, not the step, so a resumed
        run draws others.
        """
        from npu_bridge.estimator import npu_ops

        return npu_ops.dropout(x, 1.0 - rate)

    @staticmethod
    def _with_hccl(work):
        """Runs work(session) between initialize_system and shutdown_system: training tears both
        device and HCCL down at its end.
        """
        from npu_bridge.estimator import npu_ops

        # a closed session that still waits for its deletion would take this one's device down with
        # it
        gc.collect()
        with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
            session.run(npu_ops.initialize_system())
            try:
                return work(session)
            finally:
                session.run(npu_ops.shutdown_system())
