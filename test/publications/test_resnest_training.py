"""Training steps against those of the ResNeSt authors' own code (see make_resnest_training.py)."""

import importlib
import json
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

from common import devices
from common.metrics import segmentation
from common.training import optimizer
from resnest_tf import model
from resnest_tf.config import ResNeStConfig

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
draws = importlib.import_module('draws')
publication = importlib.import_module('make_resnest_training')
# The fields of configs/resnest50_cityscapes_paper.yaml that a step depends on, but for the size.
RECIPE = dict(
    variant='paper',
    depth=14,
    width=1 / 16,
    num_classes=publication.CLASSES,
    aux_weight=0.2,
    loss_average='labelled',
    weight_decay=1e-4,
    weight_decay_rule='all',
    head_rate_factor=10.0,
)


def train(frozen, rates):
    cfg, size = ResNeStConfig(freeze_bn=frozen, **RECIPE), publication.SIZE
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [publication.BATCH, size, size, 3])
        labels = tf.placeholder(tf.int32, [publication.BATCH, size, size])
        rate = tf.placeholder(tf.float32, [])
        device = devices.select('cpu')

        def losses(index):
            with device.gradients():
                outputs = model.build(images, cfg, training=True)
            data = segmentation.loss(outputs, {'label': labels}, cfg)
            return optimizer.Losses(data, data + optimizer.l2_loss(cfg))

        step, loss = optimizer.train_op(cfg, device, losses, rate)
        assert optimizer.decayed(cfg, tf.trainable_variables()) == tf.trainable_variables()
        variables = {
            v.op.name: v
            for v in tf.global_variables()
            if 'Momentum' not in v.op.name and v.op.name != 'global_step'
        }
        before = {name: draws.weight(name, v.shape.as_list()) for name, v in variables.items()}
        session.run(
            tf.global_variables_initializer(),
            {v.initializer.inputs[1]: before[name] for name, v in variables.items()},
        )
        found = []
        for number, value in enumerate(rates):
            feed = {images: draws.images(number, size, publication.BATCH), rate: value}
            feed[labels] = publication.pixels(number)
            found.append(session.run([loss, step], feed)[0])
        after = session.run(variables)
    return found, {name: draws.digest(name, before[name], after[name]) for name in before}


@pytest.mark.parametrize('frozen', [False, True])
def test_losses_and_updates_are_those_of_the_authors_training_code(frozen):
    stored = json.loads((HERE / 'resnest_authors_training.json').read_text())
    expected = stored['frozen' if frozen else 'trained']
    rates = publication.FROZEN_RATES if frozen else publication.RATES
    losses, updates = train(frozen, rates)
    np.testing.assert_allclose(losses, expected['losses'], rtol=2e-4)
    assert set(updates) == set(expected['updates'])
    for name, update in expected['updates'].items():
        # The length of an update, then its products with random vectors. The authors' ran in
        # float64. float32 weights of about 1 resolve 1e-7 a step; while training, sums that nearly
        # cancel lose more in batch norm over 4 images.
        relative, resolution = (3e-3, 4e-7) if frozen else (1e-2, 2e-5)
        tolerance = relative * update[0] + resolution
        assert updates[name] == pytest.approx(update, rel=0, abs=tolerance), name
