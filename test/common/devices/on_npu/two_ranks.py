"""One of two ranks: what it receives and sends. Arguments: recipe, data, folder."""

import sys

import numpy as np
import tensorflow as tf

from common import devices
from common.configuration import config
from common.data import pipeline
from common.devices.exchange import Exchange
from common.training import model_fn
from common.training.metrics_logger import MetricsLogger
from common.training.plan import Plan
from common.training.progress import Progress, ThroughputMeter
from wideresnet_tf.task import TASK

recipe, data, folder = sys.argv[1:]
device = devices.select('npu')
with device.session() as session:
    sums = Exchange(device, 100).sum(
        session,
        dict(
            whole=np.array(2**60 + device.rank),
            matrix=np.array([[-1, 2**53 + 1]]),
            part=np.float64([0.1, 1e-17 * device.rank, -1e300]),
        ),
    )
# Ranks of different seeds; rank 0 goes on from a checkpoint.
cfg = config.parse(
    TASK.config,
    [
        '--config',
        recipe,
        '--data_path',
        data,
        '--seed',
        str(device.rank),
        '--precision_mode_v2',
        'mixed_float16',
    ],
)
result, seen = dict(sums, place=[device.rank, device.size]), []


class Watch(tf.train.SessionRunHook):
    def begin(self):
        self.scale = next(v for v in tf.global_variables() if v.op.name == 'loss_scale')
        self.summed = device.allreduce_sum(tf.identity(tf.constant(10.0 + device.rank)), 'check')

    def before_run(self, run_context):
        if (
            'summed' not in result
        ):  # after every hook has seen the session, the adapter's own as well
            for variable, value in zip(
                tf.global_variables(), run_context.session.run(tf.global_variables())
            ):
                result['start/' + variable.op.name] = value
            result['summed'] = run_context.session.run(self.summed)

    def after_run(self, run_context, run_values):
        seen.append(run_context.session.run([tf.train.get_global_step(), self.scale]))

    def end(self, session):
        for variable, value in zip(tf.trainable_variables(), session.run(tf.trainable_variables())):
            result['end/' + variable.op.name] = value


model_dir = folder if device.is_chief else folder + '/rank1'
progress = Progress(
    MetricsLogger(folder, device.is_chief),
    ThroughputMeter(),
    Plan(8, 4, 26, 1, [], False),
    interval=1,
    show_bar=False,
    model_dir=folder,
    start=20,
)
estimator = device.estimator(
    model_fn.build(TASK, cfg, device, total_steps=100, steps_per_epoch=4), cfg, model_dir, 1000
)
records = pipeline.open_split(TASK, cfg, 'train')
estimator.train(
    lambda: pipeline.dataset(
        TASK, records, cfg, 4, True, seed=1, rank=device.rank, size=device.size, start_step=20
    ),
    steps=6,
    hooks=device.session_hooks(True) + [Watch(), progress],
)
np.savez(folder + '/result%d.npz' % device.rank, seen=seen, **result)
