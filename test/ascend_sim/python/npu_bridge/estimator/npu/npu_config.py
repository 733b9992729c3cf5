"""npu_bridge.estimator.npu.npu_config: the options of a run."""

import json
import os

import tensorflow.compat.v1 as tf
from ascend_sim import release

# Arguments that tf.estimator.RunConfig has as well.
_RUN_CONFIG = (
    'model_dir tf_random_seed save_summary_steps save_checkpoints_steps save_checkpoints_secs'
    ' session_config keep_checkpoint_max keep_checkpoint_every_n_hours log_step_count_steps'
    ' train_distribute eval_distribute'
).split()


class ProfilingConfig:
    @release.signed
    def __init__(self, **given):
        self.given = given


class DumpConfig:
    @release.signed
    def __init__(self, **given):
        self.given = given


class NPURunConfig(tf.estimator.RunConfig):
    """RunConfig with the options of the device; which ones there are depends on the release."""

    @release.signed
    def __init__(self, **given):
        _check(given)
        if given['save_checkpoints_steps'] is None and given['save_checkpoints_secs'] is None:
            given['save_checkpoints_steps'] = 100
        self.iterations_per_loop = given['iterations_per_loop']
        self.npu_options = {name: value for name, value in given.items() if name not in _RUN_CONFIG}
        super().__init__(**{name: given[name] for name in _RUN_CONFIG if name in given})


def _check(given) -> None:
    """What NPURunConfig.__init__ refuses; the adapter's C++ checks the rest at the first run."""
    loop = given['iterations_per_loop']
    if not isinstance(loop, int):
        raise TypeError('iterations_per_loop must be int, got {}'.format(type(loop)))
    if loop <= 0:
        raise ValueError('iterations_per_loop must be positive, got {}'.format(loop))
    if release.at_least('r1.13.0') and not isinstance(given['jit_compile'], str):
        raise TypeError('Expected str, got ' + type(given['jit_compile']).__name__)
    if json.loads(os.environ.get('TF_CONFIG') or '{}').get('cluster'):
        raise ValueError('"cluster" and "distribute" must all be set in ps mode')
    if not isinstance(given['dump_config'] or DumpConfig(), DumpConfig):
        raise ValueError('`dump_config` must be provided with type `DumpConfig`')
