"""Training steps against those of the ResNeSt authors' own code (make_resnest_training.py) and of
mmsegmentation's, and the latter's logits, crops and colours (make_mmsegmentation_training.py).
"""

import dataclasses
import importlib
import json
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.ops import gen_nn_ops

from common import devices, models
from common.data import sampling
from common.metrics import segmentation
from common.training import optimizer, schedule
from resnest_tf import input_pipeline
from resnest_tf.rasters import Raster

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
draws = importlib.import_module('draws')
publication = importlib.import_module('make_resnest_training')
mmsegmentation = importlib.import_module('make_mmsegmentation_training')
SMALL = dict(depth=14, width=1 / 16, num_classes=publication.CLASSES)
SMALL.update(dropout_rate=0.0, aspp_dropout=0.0, precision='float32')


def recipe(name, **changes):
    path = HERE.parent.parent / 'resnest_tf' / 'configs' / (name + '.yaml')
    task, cfg = models.configure('resnest', ['--config', str(path), '--device', 'cpu'])
    return task, dataclasses.replace(cfg, **dict(SMALL, **changes))


def stored(name):
    return json.loads((HERE / (name + '_training.json')).read_text())


def variables():
    return {
        v.op.name: v
        for v in tf.global_variables()
        if 'Momentum' not in v.op.name and v.op.name != 'global_step'
    }


def fill(session, before):
    """Sets the variables to the values of draws.py."""
    initial = {v.initializer.inputs[1]: before[name] for name, v in variables().items()}
    session.run(tf.global_variables_initializer(), initial)


def drawn():
    return {name: draws.weight(name, v.shape.as_list()) for name, v in variables().items()}


@pytest.fixture
def exact_epsilon(monkeypatch):
    """Batch norm with PyTorch's 1e-5, which tf.nn.fused_batch_norm raises to 1.001e-5 for cuDNN.
    In networks this narrow that opens single ReLUs: 1 % of an update.
    """
    fused = gen_nn_ops.fused_batch_norm_v3
    monkeypatch.setattr(
        gen_nn_ops,
        'fused_batch_norm_v3',
        lambda *args, **options: fused(*args, **dict(options, epsilon=1e-5)),
    )


def train(task, cfg, rates, numbers):
    """Losses of the steps, and the digests of the first update and of all."""
    size = publication.SIZE
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [publication.BATCH, size, size, 3])
        labels = tf.placeholder(tf.int32, [publication.BATCH, size, size])
        rate = tf.placeholder(tf.float32, [])
        device = devices.select('cpu')

        def losses(index):
            with device.gradients():
                outputs = task.build(images, cfg, training=True)
            data = segmentation.loss(outputs, {'label': labels}, cfg)
            return optimizer.Losses(data, data + optimizer.l2_loss(cfg))

        step, loss = optimizer.train_op(cfg, device, losses, rate)
        assert optimizer.decayed(cfg, tf.trainable_variables()) == tf.trainable_variables()
        before = drawn()
        fill(session, before)
        found = []
        for number, value in zip(numbers, rates):
            feed = {images: draws.images(number, size, publication.BATCH), rate: value}
            feed[labels] = publication.pixels(number)
            found.append(session.run([loss, step], feed)[0])
            if number == numbers[0]:
                first = session.run(variables())
        after = session.run(variables())
    return {
        'losses': found,
        'first': draws.updates(before, first),
        'updates': draws.updates(before, after),
    }


@pytest.mark.parametrize('frozen', [False, True])
def test_losses_and_updates_are_those_of_the_authors_training_code(frozen, exact_epsilon):
    expected = stored('resnest_authors')['frozen' if frozen else 'trained']
    rates = publication.FROZEN_RATES if frozen else publication.RATES
    task, cfg = recipe('resnest50_cityscapes_paper', freeze_bn=frozen)
    found = train(task, cfg, rates, range(len(rates)))
    np.testing.assert_allclose(found['losses'], expected['losses'], rtol=2e-6)
    check(found['updates'], expected['updates'], 3e-3, 1e-6)


def check(found, expected, relative, resolution):
    """The length of an update, then its products with random vectors, against those of float64.
    float32 weights of about 1 resolve 1e-7 a step.
    """
    assert set(found) == set(expected)
    for name, update in expected.items():
        tolerance = relative * update[0] + resolution
        assert found[name] == pytest.approx(update, rel=0, abs=tolerance), name


def test_losses_and_updates_are_those_of_mmsegmentations_runner(exact_epsilon):
    numbers = mmsegmentation.NUMBERS
    task, cfg = recipe('resnest101_cityscapes', steps=len(numbers))
    rates = schedule.learning_rate(cfg, np.arange(cfg.steps), cfg.steps, 1)
    found, expected = train(task, cfg, rates, numbers), stored('mmsegmentation')
    np.testing.assert_allclose(found['losses'], expected['losses'], rtol=2e-5)
    check(found['first'], expected['first'], 3e-3, 1e-6)
    # From the second step on single ReLUs open on one side alone; in float64 all digits agree.
    check(found['updates'], expected['updates'], 5e-2, 1e-6)


def test_learning_rate_is_that_of_mmsegmentations_hook():
    _, cfg = recipe('resnest101_cityscapes')
    found = schedule.learning_rate(cfg, np.array(mmsegmentation.SAMPLED), cfg.steps, 371)
    np.testing.assert_allclose(found, stored('mmsegmentation')['rates'], rtol=1e-6)


def test_logits_of_an_odd_sized_image_are_mmsegmentations():
    task, cfg = recipe('resnest101_cityscapes')
    height, width = mmsegmentation.TESTED
    image = draws.images(99, width, 1)[:, :height]
    with tf.Graph().as_default(), tf.Session() as session:
        logits = task.build(tf.constant(image), cfg, training=False)
        before = drawn()
        fill(session, before)
        found = session.run(logits)[0, ::8, ::8].transpose(2, 0, 1)
    expected = np.array(stored('mmsegmentation')['logits'])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_initial_values_are_distributed_as_mmsegmentations():
    """Mean and deviation within 6 of their errors; `differs` of the recipe lists the exception."""
    task, cfg = recipe('resnest101_cityscapes')
    with tf.Graph().as_default(), tf.Session() as session:
        task.build(tf.zeros([2, 64, 64, 3]), cfg, training=True)
        session.run(tf.global_variables_initializer())
        values = session.run(variables())
    for name, (mean, deviation) in stored('mmsegmentation')['initial'].items():
        if name.endswith('/conv3_bn/gamma') and name.startswith('stage'):
            mean = 1.0
        error = 12 * deviation / np.sqrt(values[name].size)
        assert abs(values[name].mean() - mean) <= error, name
        assert abs(values[name].std() - deviation) <= error, name


def test_crops_are_drawn_again_where_mmsegmentation_draws_again(monkeypatch):
    _, cfg = recipe('resnest101_cityscapes', min_scale=1.0, max_scale=1.0, photometric=False)
    cfg = dataclasses.replace(cfg, **dict(zip(('crop_height', 'crop_width'), mmsegmentation.CROP)))
    places = np.stack(np.meshgrid(np.arange(48), np.arange(64), indexing='ij'), 2)
    places = np.dstack([places, np.zeros([48, 64])]).astype(np.uint8)
    found = []
    for number in range(len(stored('mmsegmentation')['crops'])):
        label, uniform = mmsegmentation.label_map(number)
        monkeypatch.setattr(sampling, 'uniform', lambda *_, redraws=uniform[1:]: redraws)
        one = dict.fromkeys(input_pipeline.Draws._fields, 0.6)
        one.update(top=uniform[0, 0], left=uniform[0, 1])
        pixels, classes = (np.empty(mmsegmentation.CROP + tail, np.uint8) for tail in ((3,), ()))
        raster = Raster(48, 64, '', 0, 0, (places, label))
        input_pipeline.random_crop(raster, input_pipeline.Draws(**one), cfg, pixels, classes)
        found.append(pixels[0, 0, :0:-1].tolist())
    assert found == stored('mmsegmentation')['crops']


def test_colours_are_those_of_mmsegmentation():
    image, rows = mmsegmentation.coloured()
    for row, expected in zip(rows, stored('mmsegmentation')['colours']):
        one = dict.fromkeys(input_pipeline.Draws._fields, 0.0)
        one.update(zip(('brightness', 'contrast', 'contrast_last', 'saturation', 'hue'), row))
        error = np.abs(
            input_pipeline.distort(image, input_pipeline.Draws(**one)) - np.int32(expected)
        )
        both = one['saturation'] >= 0.5 and one['hue'] >= 0.5  # one conversion to HSV, theirs two
        assert error.mean() < (1.0 if both else 0.05), one
        assert error.max() <= (8 if both else 1), one
