"""Every model offers the functions that common/task.py asks for, with their arguments."""

import inspect
import types

import pytest

from common import models

FUNCTIONS = {
    'data': {
        'parse': ['batch', 'folder', 'cfg', 'training'],
        'augment': ['features', 'cfg'],
        'normalize': ['images', 'cfg'],
        'class_names': ['metadata', 'cfg'],
    },
    'metric': {
        'loss': ['outputs', 'features', 'cfg'],
        'counts': ['logits', 'features', 'cfg'],
        'accumulator': ['cfg', 'folder', 'is_chief'],
        'offline_counts': ['logits', 'features', 'cfg'],
        'figures': ['sums', 'cfg'],
        'eval_line': ['name', 'figures'],
    },
    'checkpoints': {'classifier_scopes': ['cfg'], 'describe': ['shapes']},
}
OPTIONAL = {'decode': ['data', 'cfg'], 'baselines': ['folder', 'cfg']}
BUILD = ['images', 'cfg', 'training', 'dropout', 'batch_norm']


def arguments(function):
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize('name', ['wideresnet', 'xception', 'resnest'])
def test_modules_offer_the_protocol(name):
    task = models.find(name)
    assert task.name == name and task.final_checkpoint.endswith('.ckpt')
    assert isinstance(task.data.DRAWS, int) and task.metric.BEST in ('top1', 'miou')
    for member, functions in FUNCTIONS.items():
        module = getattr(task, member)
        assert isinstance(module, types.ModuleType)
        for function, expected in functions.items():
            assert arguments(getattr(module, function)) == expected, (module.__name__, function)
    for function, expected in OPTIONAL.items():
        if hasattr(task.data, function):
            assert arguments(getattr(task.data, function)) == expected, function
    for variant, module in task.models.items():
        assert arguments(module.build) == BUILD, variant
        defaults = inspect.signature(module.build).parameters
        assert [defaults[key].default for key in BUILD[2:]] == [False, None, None]
    assert callable(task.offline.normalization) and '/' in task.offline.output_name


@pytest.mark.parametrize('name', ['wideresnet', 'xception', 'resnest'])
def test_default_recipe_is_legal_and_knows_its_image_size(name):
    task = models.find(name)
    cfg = models.parse(task, [])
    height, width, channels = cfg.input_shape
    assert height >= 32 and width >= 32 and channels == 3 and cfg.eval_batch_size >= 1
    assert getattr(cfg, 'variant', 'paper') in task.models
    with pytest.raises(AttributeError):
        cfg.seed = 2  # frozen


def test_an_unknown_model_is_named_with_the_nearest():
    from common.errors import UserError

    with pytest.raises(UserError, match="--model wideresnt is unknown.*did you mean 'wideresnet'"):
        models.find('wideresnt')
