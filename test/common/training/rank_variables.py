"""python rank_variables.py RECIPE DATA FOLDER: what one of two ranks sees; writes result.npz."""

import sys

import numpy as np
import tensorflow as tf

from common import devices
from common.configuration import config
from common.devices.exchange import Exchange
from common.training import model_fn
from wideresnet_tf.task import TASK

recipe, data, folder = sys.argv[1:]
device = devices.select('cpu')
result = {'rank_size': [device.rank, device.size]}
# Exact beyond 2^53, where a float64 is not.
with device.session() as session:
    result.update(
        Exchange(device, 100).sum(
            session,
            {
                'total': np.array(2**60 + device.rank, np.int64),
                'part': np.float64([0.1, device.rank]),
            },
        )
    )
cfg = config.parse(
    TASK.config, ['--config', recipe, '--data_path', data, '--seed', str(device.rank)]
)
# Rank 0 restores what was trained; rank 1 has fresh variables of another seed.
features = {
    'image': tf.zeros([4, 32, 32, 3], tf.uint8),
    'label': tf.constant([device.rank] * 4),
    'mask': tf.ones(4),
}
spec = model_fn.build(TASK, cfg, device, total_steps=9, steps_per_epoch=1)(
    features, None, tf.estimator.ModeKeys.TRAIN
)
summed = device.allreduce_sum(tf.constant(10.0 + device.rank), 'check')
with tf.train.MonitoredTrainingSession(
    checkpoint_dir=folder if device.is_chief else None,
    hooks=device.session_hooks(True),
    config=device.session_config(),
    save_checkpoint_secs=None,
    save_summaries_steps=None,
    log_step_count_steps=None,
) as session:
    raw = session._tf_sess()
    result.update({v.op.name: raw.run(v) for v in tf.global_variables()}, summed=raw.run(summed))
    losses = [session.run([spec.loss, spec.train_op])[0] for _ in range(2)]
    result.update(
        {'after/' + v.op.name: raw.run(v) for v in tf.trainable_variables()}, losses=losses
    )
np.savez('result.npz', **result)
