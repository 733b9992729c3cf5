"""npu_bridge.estimator.npu.npu_estimator. Differs: host_call is not modelled, and what the
documentation merely demands of steps and
intervals with iterations_per_loop is checked here."""

import os
import random
import string
import sys

import tensorflow.compat.v1 as tf
from ascend_sim import environment, release
from tensorflow.python.util import function_utils
from tensorflow_estimator.python.estimator import estimator as estimator_lib

from npu_bridge.estimator.npu import npu_common, npu_options
from npu_bridge.estimator.npu.npu_config import NPURunConfig
from npu_bridge.estimator.npu.npu_hook import (
    NPUBroadcastGlobalVariablesHook,
    NPUCheckpointSaverHook,
    NPULogOutfeedSessionHook,
    SetIterationsVarHook,
)
from npu_bridge.estimator.npu.npu_saver import NPUSaver


class NPUEstimatorSpec(tf.estimator.EstimatorSpec):
    """EstimatorSpec with host_call=(function, tensors)."""

    def __new__(
        cls,
        mode,
        predictions=None,
        loss=None,
        train_op=None,
        eval_metric_ops=None,
        export_outputs=None,
        training_chief_hooks=None,
        training_hooks=None,
        scaffold=None,
        evaluation_hooks=None,
        prediction_hooks=None,
        host_call=None,
    ):
        if host_call is not None:
            _check_host_call(host_call)
            raise NotImplementedError('host_call is not modelled by the stand-in (test/ascend_sim)')
        spec = super().__new__(
            cls,
            mode=mode,
            predictions=predictions,
            loss=loss,
            train_op=train_op,
            eval_metric_ops=eval_metric_ops,
            export_outputs=export_outputs,
            training_chief_hooks=training_chief_hooks,
            training_hooks=training_hooks,
            scaffold=scaffold,
            evaluation_hooks=evaluation_hooks,
            prediction_hooks=prediction_hooks,
        )
        spec._host_call = None
        return spec


def _check_host_call(host_call):
    if not isinstance(host_call, (tuple, list)):
        raise ValueError('host_call should be tuple or list')
    if len(host_call) != 2:
        raise ValueError('host_call should have two elements.')
    if not callable(host_call[0]):
        raise TypeError('host_call[0] should be callable.')
    if not isinstance(host_call[1], (tuple, list, dict)):
        raise ValueError('host_call[1] should be tuple or list, or dict.')


class NPUEstimator(tf.estimator.Estimator):
    """Estimator whose sessions run on the device."""

    def __init__(self, model_fn, model_dir, config, params, job_start_file, warm_start_from):
        if not isinstance(config, NPURunConfig):
            raise ValueError('`config` must be provided with type `NPUConfigs`')
        estimator_lib.model_fn_lib.verify_model_fn_args(model_fn, params)
        if config.session_config is None:
            config = config.replace(session_config=tf.ConfigProto())
        npu_options.fill(config.session_config, config)
        self._job = npu_common.NPUBasics(job_start_file).jobinfo
        if self._job is None:
            raise ValueError(
                'Load job info failed, please check whether `JOB_ID` is set in environment variable'
            )
        model_dir = _model_dir(model_dir, config)
        _check_intervals(config)
        restore_from = (
            warm_start_from or self._job._local_checkpoint_dir or os.environ.get('RESTORE_FROM')
        )
        super().__init__(
            model_fn=self._with_hooks(model_fn, model_dir, config),
            model_dir=model_dir,
            config=config,
            params=params or {},
            warm_start_from=restore_from,
        )

    def _assert_members_are_not_overridden(self):
        """train() is overridden on purpose."""

    def train(self, input_fn, hooks=None, steps=None, max_steps=None, saving_listeners=None):
        iterations = self.config.iterations_per_loop
        start = estimator_lib._load_global_step_from_checkpoint_dir(self.model_dir)
        total = steps if steps is not None else max_steps - start if max_steps is not None else 0
        if total % iterations:
            raise ValueError(
                '%d steps are no multiple of iterations_per_loop=%d; the device would run more'
                % (total, iterations)
            )
        return super().train(input_fn, hooks, steps, max_steps, saving_listeners)

    def _with_hooks(self, model_fn, model_dir, config):
        """The model_fn with the adapter's own hooks before the user's."""
        arguments = function_utils.fn_args(model_fn)

        def augmented(features, labels, mode, params):
            offered = {'labels': labels, 'mode': mode, 'params': params, 'config': config}
            spec = model_fn(
                features=features,
                **{name: value for name, value in offered.items() if name in arguments},
            )
            if mode == tf.estimator.ModeKeys.PREDICT:
                return spec
            if not isinstance(spec, tf.estimator.EstimatorSpec):
                raise RuntimeError(
                    'estimator_spec used by NPU %s must have type `NPUEstimatorSpec` or'
                    ' `EstimatorSpec`. Got %s'
                    % ('train' if mode == tf.estimator.ModeKeys.TRAIN else 'evaluate', type(spec))
                )
            log = (
                [NPULogOutfeedSessionHook(sys.stderr)] if isinstance(spec, NPUEstimatorSpec) else []
            )
            if mode == tf.estimator.ModeKeys.EVAL:
                return (
                    spec._replace(evaluation_hooks=tuple(log + list(spec.evaluation_hooks or ())))
                    if log
                    else spec
                )
            return self._training_spec(spec, log, model_dir, config)

        return augmented

    def _training_spec(self, spec, log, model_dir, config):
        hooks = []
        if environment.rank_size() > 1 and not config.horovod_mode:
            hooks.append(
                NPUBroadcastGlobalVariablesHook(
                    self._job._device_info._root_rank, self._job._device_info._index
                )
            )
        if config.save_checkpoints_steps or config.save_checkpoints_secs:
            hooks.append(
                NPUCheckpointSaverHook(
                    checkpoint_dir=model_dir,
                    save_secs=config.save_checkpoints_secs,
                    save_steps=config.save_checkpoints_steps,
                    saver=NPUSaver(max_to_keep=config.keep_checkpoint_max),
                )
            )
        hooks += log
        if config.iterations_per_loop > 1:
            if not isinstance(spec.train_op, (tf.Operation, tf.Tensor)):
                raise ValueError('train_op must be an Operation')
            hooks.append(SetIterationsVarHook(config.iterations_per_loop))
            spec = spec._replace(train_op=tf.group(spec.train_op, name='IterationOp'))
        return spec._replace(training_hooks=tuple(hooks + list(spec.training_hooks or ())))


def _model_dir(model_dir, config):
    """The one that is set, in the Estimator or its config; a new folder with a random name if none
    is.
    """
    if model_dir is not None and config.model_dir is not None and model_dir != config.model_dir:
        raise ValueError(
            'model_dir are set both in NPUEstimator and NPURunConfig, but with different values. In'
            " constructor: '{}', in NPURunConfig: '{}' ".format(model_dir, config.model_dir)
        )
    model_dir = model_dir or config.model_dir
    while model_dir is None:
        candidate = os.path.join(
            os.getcwd(),
            'model_dir_' + ''.join(random.sample(string.ascii_letters + string.digits, 10)),
        )
        if not os.path.exists(candidate):
            os.mkdir(candidate)
            model_dir = candidate
    return model_dir


def _check_intervals(config):
    if (
        config.iterations_per_loop > 1
        and (config.save_checkpoints_steps or 0) % config.iterations_per_loop
    ):
        raise ValueError(
            'save_checkpoints_steps=%d is no multiple of iterations_per_loop=%d'
            % (config.save_checkpoints_steps, config.iterations_per_loop)
        )


release.publish(globals(), __name__)
