"""Every recipe against the publication it names."""

import pathlib
import re

import numpy as np
import pytest

from common import config, models
from common.checkpoints import restore
from common.data import records
from common.training import schedule
from wideresnet_tf.task import TASK

CONFIGS = pathlib.Path(__file__).resolve().parent.parent.parent / 'wideresnet_tf' / 'configs'
RECIPES = sorted(path.stem for path in CONFIGS.glob('*.yaml'))
CIFAR = 50000  # training images


def load(name, *flags):
    return models.parse(TASK, ['--config', str(CONFIGS / (name + '.yaml')), *flags])


def head(name):
    """The comment at the top: {'command': text, ...}, continuation lines joined."""
    fields, key = {}, 'title'
    for line in (CONFIGS / (name + '.yaml')).read_text().splitlines():
        if not line.startswith('#'):
            break
        match = re.match(r'# (\w+): +(.*)', line)
        key, text = match.groups() if match else (key, line[1:].strip())
        fields[key] = (fields[key] + ' ' if key in fields else '') + text
    return fields


def rates(cfg, epochs, devices=1):
    """The learning rate of the first step of each epoch, counted from 0."""
    per_epoch = records.steps_per_epoch(CIFAR, cfg.batch_size * cfg.accumulate * devices)
    return [
        float(schedule.of_recipe(cfg, epoch * per_epoch, int(cfg.epochs * per_epoch), per_epoch))
        for epoch in epochs
    ]


def test_there_are_recipes():
    assert {
        'wrn16_2_digits',
        'wrn28_10_cifar10',
        'wrn28_10_cifar100',
        'wrn28_10_cifar100_port',
        'wrn40_10_cifar10',
    } <= set(RECIPES)


@pytest.mark.parametrize('name', RECIPES)
def test_recipe_is_legal_and_gives_a_network(name):
    cfg = load(name)
    assert restore.network_variables(TASK, cfg)
    assert all(np.isfinite(rates(cfg, [0, cfg.epochs / 2, cfg.epochs - 1])))


@pytest.mark.parametrize('name', RECIPES)
def test_head_states_command_number_hardware_duration_and_source(name):
    fields = head(name)
    fields.pop('differs', None)
    assert list(fields) == ['title', 'command', 'expected', 'hardware', 'duration', 'source']
    assert all(fields.values())
    words = fields['command'].split()
    if '--config' in words:
        assert words[words.index('--config') + 1] == 'wideresnet_tf/configs/%s.yaml' % name


@pytest.mark.parametrize(
    'name', [name for name in RECIPES if '--do_train' in head(name)['command']]
)
def test_commands_of_heads_parse_and_change_nothing_that_decides_the_result(name):
    words = head(name)['command'].split()
    flags = words[[word.endswith('run_wideresnet.py') for word in words].index(True) + 1 :]
    if '--config' in flags:
        at = flags.index('--config')
        flags = flags[:at] + flags[at + 2 :]
    changed = config.changes(load(name, *flags), load(name).__dict__)
    assert changed.pop('do_train') == (False, True)
    assert set(changed) <= {'data_path', 'output_path', 'model_path', 'image_num'}


@pytest.mark.parametrize('name', RECIPES)
def test_expected_number_is_the_published_one(name):
    percent = re.search(r'top-1 (\d+\.\d+) %', head(name)['expected'])
    published = load(name).published
    assert all(0 < value < 1 for metrics in published.values() for value in metrics.values())
    if published:  # rounded to a decimal in the head
        assert (
            min(
                abs(float(percent.group(1)) - 100 * metrics['top1'])
                for metrics in published.values()
            )
            < 0.051
        )


@pytest.mark.parametrize(
    'name, classes, top1', [('wrn28_10_cifar10', 10, 0.9611), ('wrn28_10_cifar100', 100, 0.8115)]
)
def test_paper(name, classes, top1):
    """The authors' train_cifar.sh and train.lua; results with dropout from their README."""
    cfg = load(name)
    assert (cfg.variant, cfg.depth, cfg.widen_factor, cfg.num_classes, cfg.dropout_rate) == (
        'paper',
        28,
        10,
        classes,
        0.3,
    )
    assert (cfg.optimizer, cfg.momentum, cfg.nesterov, cfg.weight_decay) == (
        'momentum',
        0.9,
        True,
        5e-4,
    )
    assert (
        cfg.batch_size * cfg.accumulate,
        cfg.epochs,
        cfg.crop_pad,
        cfg.flip,
        cfg.label_smoothing,
    ) == (128, 200, 4, True, 0)
    np.testing.assert_allclose(
        rates(cfg, [0, 58, 59, 118, 119, 158, 159, 199]),
        [0.1, 0.1, 0.1 * 0.2, 0.1 * 0.2, 0.1 * 0.2**2, 0.1 * 0.2**2, 0.1 * 0.2**3, 0.1 * 0.2**3],
    )
    assert (cfg.normalization, cfg.crop_padding) == ('authors', 'reflect')
    assert top1 in [metrics['top1'] for metrics in cfg.published.values()]


def test_mindspore():
    """mindspore-ai/models, research/cv/wideresnet: 8 devices x 32 images, 195 steps an epoch."""
    cfg = load('wrn40_10_cifar10')
    assert (cfg.variant, cfg.depth, cfg.widen_factor, cfg.num_classes, cfg.dropout_rate) == (
        'mindspore',
        40,
        10,
        10,
        0.3,
    )
    assert (cfg.optimizer, cfg.momentum, cfg.nesterov) == ('momentum', 0.9, True)
    assert (cfg.weight_decay, cfg.weight_decay_all) == (5e-4, True)
    # 0.1 goes to the other 9 classes; here a share goes to all 10.
    assert cfg.label_smoothing * 9 / 10 == pytest.approx(0.1, rel=1e-6)
    assert (cfg.batch_size, cfg.epochs, cfg.crop_pad, cfg.flip, cfg.normalization) == (
        32,
        300,
        4,
        True,
        'mindspore',
    )
    assert (cfg.loss_scale, cfg.save_interval, cfg.keep_checkpoints) == (32, 5, 10)
    assert records.steps_per_epoch(CIFAR, cfg.batch_size * 8) == 195
    np.testing.assert_allclose(
        rates(cfg, [0, 59, 60, 119, 120, 159, 160, 199, 200, 239, 240, 299], devices=8),
        np.repeat([0.1, 0.02, 0.004, 0.001, 0.0008, 0.0006], 2),
    )
    # What its head advises for one device is the same batch.
    alone = load(
        'wrn40_10_cifar10', *head('wrn40_10_cifar10')['hardware'].split('give ')[1].split()
    )
    assert alone.batch_size * alone.accumulate == 8 * 32


def test_published_port():
    """wideresnet_ID0175: fine-tuning with MomentumW, and its input pipeline's brightness and
    contrast.
    """
    cfg = load('wrn28_10_cifar100_port')
    assert (cfg.variant, cfg.depth, cfg.widen_factor, cfg.num_classes, cfg.dropout_rate) == (
        'port',
        28,
        10,
        100,
        0.3,
    )
    assert (cfg.optimizer, cfg.momentum, cfg.nesterov, cfg.weight_decay) == (
        'momentumw',
        0.9,
        False,
        5e-6,
    )
    assert (cfg.batch_size, cfg.epochs, cfg.normalization, cfg.crop_pad, cfg.flip) == (
        32,
        40,
        'per_image',
        4,
        True,
    )
    assert (cfg.brightness, 1 - cfg.contrast, 1 + cfg.contrast, cfg.label) == (
        63,
        pytest.approx(0.2),
        1.8,
        'fine_label',
    )
    np.testing.assert_allclose(rates(cfg, [0, 20, 39]), 0.00016)
    assert {metrics['top1'] for metrics in cfg.published.values()} >= {0.8145, 0.7695}


def test_port_recipe_is_the_default():
    assert models.parse(TASK, []) == load('wrn28_10_cifar100_port')
