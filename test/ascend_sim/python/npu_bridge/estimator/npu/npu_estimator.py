"""npu_bridge.estimator.npu.npu_estimator: Estimator whose sessions run on the device, with the
adapter's own hooks. What the documentation merely demands of steps and intervals with
iterations_per_loop is checked here.
"""

import contextlib
import os

import tensorflow.compat.v1 as tf
from ascend_sim import environment, parameter_map, release, session
from tensorflow.python.util import function_utils
from tensorflow_estimator.python.estimator import estimator as estimator_lib

from common.devices import cpu_gradients
from npu_bridge.estimator.npu.npu_config import NPURunConfig
from npu_bridge.hccl import hccl_ops


class NPUEstimator(tf.estimator.Estimator):
    @release.signed
    def __init__(self, model_fn, model_dir, config, params, job_start_file, warm_start_from):
        if not isinstance(config, NPURunConfig):
            raise ValueError('`config` must be provided with type `NPUConfigs`')
        estimator_lib.model_fn_lib.verify_model_fn_args(model_fn, params)
        if config.session_config is None:
            config = config.replace(session_config=tf.ConfigProto())
        parameter_map.fill(config.session_config, config.npu_options)
        if not os.environ.get('JOB_ID'):
            raise ValueError(
                'Load job info failed, please check whether `JOB_ID` is set in environment variable'
            )
        model_dir = model_dir or config.model_dir
        _check_steps('save_checkpoints_steps', config.save_checkpoints_steps or 0, config)
        super().__init__(
            model_fn=_with_hooks(model_fn, model_dir, config),
            model_dir=model_dir,
            config=config,
            params=params or {},
            warm_start_from=warm_start_from or os.environ.get('RESTORE_FROM'),
        )

    def _assert_members_are_not_overridden(self):
        """train() is overridden on purpose."""

    def train(self, input_fn, hooks=None, steps=None, max_steps=None, saving_listeners=None):
        start = estimator_lib._load_global_step_from_checkpoint_dir(self.model_dir)
        total = steps if steps is not None else max_steps - start if max_steps is not None else 0
        _check_steps('steps', total, self.config)
        return super().train(input_fn, hooks, steps, max_steps, saving_listeners)


def _check_steps(name, steps, config):
    if steps % config.iterations_per_loop:
        raise ValueError(
            '%s: %d is no multiple of iterations_per_loop=%d; the device would run more'
            % (name, steps, config.iterations_per_loop)
        )


def _with_hooks(model_fn, model_dir, config):
    """The model_fn with the adapter's own hooks before the user's."""
    arguments = function_utils.fn_args(model_fn)

    def augmented(features, labels, mode, params):
        offered = {'labels': labels, 'mode': mode, 'params': params, 'config': config}
        offered = {name: value for name, value in offered.items() if name in arguments}
        # A device has gradients of dilated convolutions; TensorFlow's CPU kernels lack them.
        training = mode == tf.estimator.ModeKeys.TRAIN
        with cpu_gradients.gradients() if training else contextlib.nullcontext():
            spec = model_fn(features=features, **offered)
        if mode != tf.estimator.ModeKeys.TRAIN:
            return spec
        hooks = []
        if environment.rank_size() > 1:
            hooks.append(_BroadcastHook())
        if config.save_checkpoints_steps or config.save_checkpoints_secs:
            # Built at once, so it saves the variables that exist when model_fn returns.
            saver = tf.train.Saver(max_to_keep=config.keep_checkpoint_max)
            steps, seconds = config.save_checkpoints_steps, config.save_checkpoints_secs
            hooks.append(tf.train.CheckpointSaverHook(model_dir, seconds, steps, saver=saver))
        if config.iterations_per_loop > 1:
            hooks.append(_IterationsHook(config.iterations_per_loop))
            spec = spec._replace(train_op=tf.group(spec.train_op, name='IterationOp'))
        return spec._replace(training_hooks=tuple(hooks + list(spec.training_hooks or ())))

    return augmented


class _BroadcastHook(tf.train.SessionRunHook):
    """Gives every rank the root's trainable variables, and only those: no batch-norm statistics,
    slots or global step.
    """

    def begin(self):
        self._op = tf.group(
            [
                tf.assign(variable, hccl_ops.broadcast([variable], 0)[0])
                for variable in tf.trainable_variables()
            ]
        )

    def after_create_session(self, session, coord):
        session.run(self._op)


class _IterationsHook(tf.train.SessionRunHook):
    """Tells the device the number of steps per session.run."""

    def __init__(self, iterations):
        self._iterations = iterations

    def begin(self):
        collections = [session.LOOP_VARIABLE, tf.GraphKeys.LOCAL_VARIABLES]
        with tf.variable_scope('npu_runconfig'):
            self._variable = tf.get_variable(
                'iterations_per_loop',
                initializer=tf.constant(0, tf.int64),
                trainable=False,
                collections=collections,
                use_resource=True,
            )

    def after_create_session(self, session, coord):
        self._variable.load(self._iterations - 1, session=session)
