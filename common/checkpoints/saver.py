"""Saves checkpoints while training."""

import os

import tensorflow as tf

from common.checkpoints import checkpoint
from common.errors import UserError, explanation


class CheckpointSaver(tf.train.CheckpointSaverHook):
    """TensorFlow's, except that it writes no checkpoint twice and none that is not finite."""

    def __init__(self, checkpoint_dir: str, save_steps: int, scaffold: tf.train.Scaffold):
        super().__init__(checkpoint_dir, save_steps=save_steps, scaffold=scaffold)

    def begin(self):
        super().begin()
        weights = [v for v in tf.global_variables() if v.dtype.base_dtype.is_floating]
        self._finite = tf.reduce_all([tf.reduce_all(tf.is_finite(weight)) for weight in weights])

    def after_create_session(self, session, coord):
        """As TensorFlow's, without graph.pbtxt: writing the text takes seconds at every start."""
        step = session.run(self._global_step_tensor)
        self._summary_writer.add_graph(session.graph)
        self._save(session, step)
        self._timer.update_last_triggered_step(step)

    def _save(self, session, step):
        newest = tf.train.latest_checkpoint(self._checkpoint_dir)
        if newest and os.path.basename(newest) == 'model.ckpt-%d' % step:
            return False
        if not os.path.isdir(self._checkpoint_dir):
            raise UserError(
                '%s: no such folder any more; with it in its place the same command goes on'
                % self._checkpoint_dir
            )
        if not session.run(self._finite):
            raise diverged('weights are not finite after step %d' % step, self._checkpoint_dir)
        try:
            return super()._save(session, step)
        except tf.errors.OutOfRangeError as error:
            # A full disk or file size limit; the session would take it for the end of the data.
            raise UserError(explanation(error))


def diverged(problem: str, model_dir: str) -> UserError:
    """Returns the error for a run whose loss or weights are not finite."""
    return UserError(
        '%s; the last good checkpoint is %s. Lower --learning_rate, lengthen --warmup_epochs or'
        ' give --clip_norm' % (problem, checkpoint.latest(model_dir) or 'none yet')
    )
