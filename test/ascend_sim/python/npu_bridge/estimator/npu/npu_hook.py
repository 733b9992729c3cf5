"""npu_bridge.estimator.npu.npu_hook. Differs: the outfeed hooks do nothing, for host_call is not
modelled.
"""

import os

import tensorflow.compat.v1 as tf
from ascend_sim import environment, release

from npu_bridge.estimator import npu_ops
from npu_bridge.estimator.npu import util
from npu_bridge.hccl import hccl_ops


class NPUShutDownHook(tf.train.SessionRunHook):
    """Runs shutdown_system at the end."""

    def __init__(self, scaffold):
        self._scaffold = scaffold
        self._shutdown = None

    def begin(self):
        self._shutdown = npu_ops.NPUShutdown()

    def end(self, session):
        session.run(self._shutdown)


class NPUBroadcastGlobalVariablesHook(tf.train.SessionRunHook):
    """Gives every rank the root's trainable variables, and only those: no batch-norm statistics,
    slots or global step.
    """

    def __init__(self, root_rank, index):
        self._root_rank = root_rank
        self._index = index
        self._bcast_op = None
        self._rank_size = environment.rank_size()

    def begin(self):
        if self._rank_size > 1:
            self._bcast_op = _broadcast(self._root_rank)

    def after_create_session(self, session, coord):
        if self._rank_size > 1:
            session.run(self._bcast_op)


def _broadcast(root_rank):
    return tf.group(
        [
            tf.assign(variable, hccl_ops.broadcast([variable], root_rank)[0])
            for variable in tf.trainable_variables()
        ]
    )


def broadcast_global_variables(root_rank, index=None):
    del index  # an argument of older releases
    return _broadcast(root_rank)


class NPUCheckpointSaverHook(tf.train.CheckpointSaverHook):
    """CheckpointSaverHook on every rank: they all save to the same folder if they are given the
    same one.
    """

    def __init__(
        self, checkpoint_dir, save_secs, save_steps, saver, checkpoint_basename, scaffold, listeners
    ):
        super().__init__(
            checkpoint_dir=checkpoint_dir,
            save_secs=save_secs,
            save_steps=save_steps,
            saver=saver,
            checkpoint_basename=checkpoint_basename,
            scaffold=scaffold,
            listeners=listeners,
        )


class SetIterationsVarHook(tf.train.SessionRunHook):
    """Tells the device the number of steps per session.run."""

    def __init__(self, iterations_per_loop):
        self._iterations_per_loop = iterations_per_loop

    def begin(self):
        for name in util.LOOP_VARIABLES:
            util.create_or_get_var(name)

    def after_create_session(self, session, coord):
        with session.graph.as_default():
            util.load_loop_variables(session, self._iterations_per_loop)


class NPULogOutfeedSessionHook(tf.train.SessionRunHook):
    """Prints what the device logs; the imaginary one logs nothing."""

    def __init__(self, output_stream):
        self._output_stream = output_stream


class NPUOutputTensorHook(tf.train.LoggingTensorHook):
    """Collects tensors of every run and hands them to output_fn every output_every_n_steps runs and
    at the end.
    """

    def __init__(self, tensors, dependencies, output_fn, output_every_n_steps):
        self._output_fn, self._output_every_n_steps = output_fn, output_every_n_steps
        self._collected, self._runs = [], 0
        if dependencies is not None:
            with tf.control_dependencies(
                list(dependencies) if isinstance(dependencies, (list, tuple)) else [dependencies]
            ):
                tensors = {name: tf.identity(tensor) for name, tensor in tensors.items()}
        super().__init__(tensors, every_n_iter=1 << 31)

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._current_tensors)

    def after_run(self, run_context, run_values):
        self._collected.append({tag: run_values.results[tag] for tag in self._tag_order})
        self._runs += 1
        if self._runs % self._output_every_n_steps == 0:
            self._hand_over()

    def end(self, session):
        if self._collected:
            self._hand_over()

    def _hand_over(self):
        self._output_fn(self._collected)
        del self._collected[:]


class TellMeStepOrLossHook(tf.train.SessionRunHook):
    """Tells the adapter step and loss by environment variables."""

    def __init__(self, step, total_step, loss, final_loss):
        if step is None and loss is None:
            raise ValueError('One of step or loss must be specified')
        self._fetches = {
            name: tensor
            for name, tensor in (('STEP_NOW', step), ('LOSS_NOW', loss))
            if tensor is not None
        }
        for name, value in (('TOTAL_STEP', total_step), ('TARGET_LOSS', final_loss)):
            if value is not None:
                os.environ[name] = str(value)

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context, run_values):
        os.environ.update({name: str(value) for name, value in run_values.results.items()})


release.publish(globals(), __name__)
