"""Every recipe says what it is, and builds its network."""

import pathlib

import pytest

from common.checkpoints import restore
from common.configuration import config
from resnest_tf.task import TASK

CONFIGS = pathlib.Path(__file__).resolve().parent.parent.parent / 'resnest_tf' / 'configs'
RECIPES = sorted(CONFIGS.glob('*.yaml'))


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_recipe_says_what_it_is(path):
    head = [line for line in path.read_text().splitlines() if line.startswith('#')]
    for word in ('command:', 'expected:', 'hardware:', 'duration:', 'source:'):
        assert any(line.startswith('# ' + word) for line in head), word
    words = ['--config', str(path)]
    assert config.parse(TASK.config, words)
    shallow = [] if 'port' in path.stem else ['--depth', '14']  # the port has one depth
    assert restore.network_variables(TASK, config.parse(TASK.config, words + shallow))
