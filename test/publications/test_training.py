"""Five training steps against those of the publications' own code (see make_training.py), and the
learning rate, the decayed variables and the loss that belong to them.
"""

import dataclasses
import functools
import importlib
import json
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

from common import devices, host
from common.configuration import config
from common.training import optimizer, schedule
from resnest_tf.task import TASK as RESNEST
from wideresnet_tf.task import TASK as WIDERESNET
from xception_tf.task import TASK as XCEPTION

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
draws = importlib.import_module('draws')


def recipe(task, name, **changes):
    path = HERE.parent.parent / (task.name + '_tf') / 'configs' / (name + '.yaml')
    cfg = config.parse(task.config, ['--config', str(path), '--device', 'cpu'])
    return dataclasses.replace(cfg, **changes)


SMALL = dict(dropout_rate=0.0, num_classes=10, precision='float32')
# (of the first update, of all updates, of the losses), relative to an update's length. PyTorch ran
# in float64. MindSpore has float32 only, in which a ReLU whose input is 0 but for rounding may open
# on one side alone; with two images, as for Xception, the steps that follow drift apart.
TOLERANCES = {
    'wrn_authors': (2e-4, 2e-4, 2e-5),
    'wrn_mindspore': (5e-2, 5e-2, 5e-3),
    'wrn_port': (1e-4, 1e-4, 1e-5),
    'xception_mindspore': (5e-2, None, 2e-2),
}
if host.is_mkl():  # it rounds otherwise in each run, and opens such ReLUs of every network
    TOLERANCES = dict.fromkeys(TOLERANCES, (0.2, None, 2e-2))
RUNS = {
    'wrn_authors': (WIDERESNET, 'wrn28_10_cifar10', dict(depth=10, widen_factor=1)),
    'wrn_mindspore': (WIDERESNET, 'wrn40_10_cifar10', dict(depth=10, widen_factor=1)),
    'wrn_port': (
        WIDERESNET,
        'wrn28_10_cifar100_port',
        dict(depth=10, widen_factor=1, num_classes=100),
    ),
    # 0.1 over the 9 other classes, as its recipe has it over 999.
    'xception_mindspore': (
        XCEPTION,
        'xception_imagenet',
        dict(width=1 / 16, label_smoothing=1 / 9),
    ),
}


def train(task, cfg):
    """The recipe's own training: losses of the steps, {variable: digest of its first and of all
    updates}, and the names of the decayed variables.
    """
    size = cfg.input_shape[0]
    batch = draws.BATCH if task is WIDERESNET else draws.XCEPTION_BATCH
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [batch, size, size, 3])
        labels = tf.placeholder(tf.int32, [batch])
        rate = tf.placeholder(tf.float32, [])

        def losses(index):
            features = {'label': labels, 'mask': tf.ones([batch])}
            data = task.metric.loss(task.build(images, cfg, training=True), features, cfg)
            return optimizer.Losses(data, data + optimizer.l2_loss(cfg))

        device = devices.select('cpu')
        step, loss = optimizer.train_op(cfg, device, losses, rate)
        decayed = [v.op.name for v in optimizer.decayed(cfg, tf.trainable_variables())]
        names = [
            v.op.name
            for v in tf.global_variables()
            if 'Momentum' not in v.op.name and v.op.name != 'global_step'
        ]
        variables = {v.op.name: v for v in tf.global_variables() if v.op.name in names}
        session.run(tf.global_variables_initializer())
        initial = session.run(variables)
        before = {n: draws.weight(n, v.shape.as_list()) for n, v in variables.items()}
        session.run(
            tf.global_variables_initializer(),
            {v.initializer.inputs[1]: before[name] for name, v in variables.items()},
        )
        found = []
        for number, value in enumerate(draws.RATES):
            feed = {images: draws.images(number, size, batch), rate: value}
            feed[labels] = draws.labels(number, cfg.num_classes, batch)
            found.append(session.run([loss, step], feed)[0])
            if not number:
                first = session.run(variables)
        after = session.run(variables)
    return {
        'losses': found,
        'first': {name: draws.digest(name, before[name], first[name]) for name in names},
        'updates': {name: draws.digest(name, before[name], after[name]) for name in names},
        'decayed': decayed,
        'initial': initial,
    }


@functools.lru_cache(maxsize=None)
def trained(name):
    """The configuration of a run, and what `train` returns."""
    task, recipe_name, changes = RUNS[name]
    cfg = recipe(task, recipe_name, **dict(SMALL, **changes))
    return cfg, train(task, cfg)


@pytest.mark.parametrize('name', sorted(RUNS))
def test_five_steps_are_the_publications(name):
    stored = json.loads((HERE / (name + '_training.json')).read_text())
    cfg, found = trained(name)
    *updates, of_losses = TOLERANCES[name]
    np.testing.assert_allclose(found['losses'][0], stored['losses'][0], rtol=2e-5)
    np.testing.assert_allclose(found['losses'], stored['losses'], rtol=of_losses)
    expected = {variable: decay for variable, decay in stored['decays'].items() if decay}
    assert dict.fromkeys(found['decayed'], cfg.weight_decay) == expected
    for key, tolerance in zip(('first', 'updates'), updates):
        assert set(found[key]) == set(stored[key])
        for variable, digest in stored[key].items() if tolerance else ():
            # The products with random vectors are as uncertain as the update is long.
            # A float32 weight of 0.3 resolves 3e-8, in each of five steps, and the gradient of a
            # bias before a batch norm is nothing but rounding.
            limit = tolerance * digest[0] + 4e-7
            np.testing.assert_allclose(
                found[key][variable], digest, rtol=0, atol=limit, err_msg=variable
            )


def test_initial_values_are_distributed_as_the_authors():
    """Mean and deviation of each variable of WRN-10-4 before training, within 6 of their errors."""
    stored = json.loads((HERE / 'wrn_authors_training.json').read_text())['initial']
    cfg = recipe(WIDERESNET, 'wrn28_10_cifar10', depth=10, widen_factor=4)
    with tf.Graph().as_default(), tf.Session() as session:
        WIDERESNET.build(tf.zeros([1, 32, 32, 3]), cfg)
        session.run(tf.global_variables_initializer())
        values = session.run({v.op.name: v for v in tf.global_variables()})
    assert set(values) == set(stored)
    for name, (mean, deviation) in stored.items():
        error = 6 * deviation / np.sqrt(values[name].size)
        assert abs(values[name].mean() - mean) <= 2 * error, name
        assert abs(values[name].std() - deviation) <= 2 * error, name


def test_xception_begins_glorot_uniform():
    """As in Keras, MindSpore's 'xavier_uniform' and the port's xavier_initializer."""
    for name, values in trained('xception_mindspore')[1]['initial'].items():
        if name.endswith('kernel'):
            fans = np.prod(values.shape[:-2]) * sum(values.shape[-2:])
            bound = np.sqrt(6 / fans)
            assert np.abs(values).max() <= bound * (1 + 1e-6), name
            error = 6 * bound / np.sqrt(values.size)
            assert values.std() == pytest.approx(bound / np.sqrt(3), abs=error), name
        else:
            assert (values == name.endswith(('gamma', 'moving_variance'))).all(), name


def rates(task, name, steps_per_epoch):
    """The recipe's learning rate at every step."""
    cfg = recipe(task, name)
    total = int(cfg.epochs * steps_per_epoch)
    return schedule.learning_rate(cfg, np.arange(total), total, steps_per_epoch)


@pytest.mark.parametrize('name', ['wrn28_10_cifar10', 'wrn28_10_cifar100'])
def test_rate_at_every_step_is_the_authors(name):
    found = rates(WIDERESNET, name, 390)
    epoch = 1 + np.arange(200 * 390) // 390  # numbered as train.lua does
    drops = sum((epoch >= drop).astype(int) for drop in (60, 120, 160))
    np.testing.assert_allclose(found, 0.1 * 0.2**drops, rtol=1e-12)


def test_rate_at_every_step_is_mindspores_but_one_step_earlier():
    found = rates(WIDERESNET, 'wrn40_10_cifar10', 195)
    step = np.arange(300 * 195)
    limits = [60 * 195, 120 * 195, 160 * 195, 200 * 195, 240 * 195]
    theirs = np.select([step <= limit for limit in limits], [0.1, 0.02, 0.004, 0.001, 8e-4], 6e-4)
    np.testing.assert_allclose(found[1:-1], theirs[2:], rtol=1e-12)
    assert found[0] == theirs[0] == theirs[1]


def test_rate_at_every_step_is_that_of_mindspores_xception():
    found = rates(XCEPTION, 'xception_imagenet', 1251)
    step, warm, total = np.arange(250 * 1251), 1251, 250 * 1251
    rising = 4e-5 + (0.4 - 4e-5) * step / warm
    falling = 0.4 - (0.4 - 4e-5) * (step - warm) / (total - warm)
    np.testing.assert_allclose(found, np.where(step < warm, rising, falling), rtol=1e-9)
    ledger = json.loads((HERE / 'xception.json').read_text())['xception_imagenet']
    for at, rate in ledger['values']['rate of step']['value'].items():  # from running their code
        assert found[int(at)] == pytest.approx(rate, rel=1e-6)


def polynomial(rate, end):
    return lambda step, total, per_epoch: end + (rate - end) * (1 - step / total) ** 0.9


def constant(rate):
    return lambda step, total, per_epoch: rate


@pytest.mark.parametrize(
    'task, name, images, theirs',
    [
        (RESNEST, 'resnest50_cityscapes_paper', 2975, polynomial(0.01, 0)),
        (RESNEST, 'resnest101_cityscapes_paper', 2975, polynomial(0.01, 0)),
        (RESNEST, 'resnest50_cityscapes', 2975, polynomial(0.01, 1e-4)),
        (RESNEST, 'resnest101_cityscapes', 2975, polynomial(0.01, 1e-4)),
        (RESNEST, 'resnest50_cityscapes_port', 2975, constant(1e-5)),
        (WIDERESNET, 'wrn28_10_cifar100_port', 50000, constant(1.6e-4)),
        (XCEPTION, 'xception_imagenet_port', 1281167, constant(0.01)),
        (
            XCEPTION,
            'xception_imagenet_paper',
            1281167,
            lambda step, total, per_epoch: 0.045 * 0.94 ** (step // (2 * per_epoch)),
        ),
    ],
)
def test_rate_at_every_step_is_the_publications_formula(task, name, images, theirs):
    cfg = recipe(task, name)
    per_epoch = images // (cfg.global_batch or cfg.batch_size)
    total = cfg.steps or int(cfg.epochs * per_epoch)
    step = np.arange(0, total, max(1, total // 50000))
    found = schedule.learning_rate(cfg, step, total, per_epoch)
    np.testing.assert_allclose(found, theirs(step, total, per_epoch), rtol=1e-9, atol=1e-12)
