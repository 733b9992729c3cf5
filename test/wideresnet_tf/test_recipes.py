"""Every recipe against the publication it names."""

import pathlib
import re

import numpy as np
import pytest

from common.checkpoints import restore
from common.configuration import config
from common.data import records
from common.training import schedule
from wideresnet_tf.task import TASK

CONFIGS = pathlib.Path(__file__).resolve().parent.parent.parent / 'wideresnet_tf' / 'configs'
RECIPES = sorted(path.stem for path in CONFIGS.glob('*.yaml'))
CIFAR = 50000  # training images


def load(name, *flags):
    return config.parse(TASK.config, ['--config', str(CONFIGS / (name + '.yaml')), *flags])


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
        schedule.learning_rate(cfg, epoch * per_epoch, int(cfg.epochs * per_epoch), per_epoch)
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


def test_port_recipe_is_the_default():
    assert config.parse(TASK.config, []) == load('wrn28_10_cifar100_port')
