"""Every recipe is legal and says what to expect; learning rates are those of the publications."""

import pathlib
import re

import pytest
import yaml

from common.configuration import config
from common.training import schedule
from xception_tf.task import TASK

CONFIGS = pathlib.Path(__file__).resolve().parent.parent.parent / 'xception_tf' / 'configs'
RECIPES = sorted(CONFIGS.glob('*.yaml'))


@pytest.mark.parametrize('path', RECIPES, ids=[path.stem for path in RECIPES])
def test_recipe_is_legal_and_says_what_to_expect(path):
    head = [line for line in path.read_text().splitlines() if line.startswith('#')]
    for word in ('command:', 'expected:', 'hardware:', 'duration:', 'source:'):
        assert any(line.startswith('# ' + word) for line in head), word
    assert path.name in head[1] + head[2] or 'default of run_xception.py' in head[0]
    cfg = config.parse(TASK.config, ['--config', str(path)])
    keys = re.findall(r'^(\w+):', path.read_text(), re.MULTILINE)
    assert len(keys) == len(set(keys))  # YAML takes the last of two, silently
    assert set(yaml.safe_load(path.read_text())) > {'model', 'num_classes', 'image_size', 'epochs'}
    assert all(0 < value < 1 for row in cfg.published.values() for value in row.values())


@pytest.mark.parametrize(
    'name, per_epoch, rates',
    [
        # 1 281 167 images in batches of 128 x 8; from 4e-5 to 0.4 in one epoch, then a straight
        # line to 4e-5 at epoch 250
        (
            'imagenet',
            1251,
            {
                0: 4e-5,
                1251: 0.4,
                1251 + 1251 * 249 // 3: 0.4 - (0.4 - 4e-5) / 3,
                1251 * 250 - 1: 4e-5 + (0.4 - 4e-5) / (1251 * 249),
            },
        ),
        (
            'imagenet_paper',
            5004,
            {0: 0.045, 2 * 5004 - 1: 0.045, 2 * 5004: 0.0423, 100 * 5004: 0.045 * 0.94**50},
        ),
        ('imagenet_port', 20018, {0: 0.01, 20017: 0.01}),
    ],
)
def test_learning_rates_are_the_published_ones(name, per_epoch, rates):
    cfg = config.parse(TASK.config, ['--config', str(CONFIGS / ('xception_%s.yaml' % name))])
    for step, rate in rates.items():
        found = schedule.learning_rate(cfg, step, int(cfg.epochs) * per_epoch, per_epoch)
        assert found == pytest.approx(rate, rel=1e-6)
