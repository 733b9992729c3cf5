"""Every model offers what common/task.py asks for, and one that does not is told."""

import dataclasses
import inspect
import types

import pytest

from common import models, run
from common.configuration import config
from common.errors import UserError

OPTIONAL = {'decode': ['data', 'cfg'], 'baselines': ['folder', 'cfg']}


def arguments(function):
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize('name', ['wideresnet', 'xception', 'resnest'])
def test_modules_offer_the_protocol(name):
    task = models.find(name)  # checks the names
    assert task.name == name and task.final_checkpoint.endswith('.ckpt')
    assert isinstance(task.data.DRAWS, int) and task.metric.BEST in ('top1', 'miou')
    for function, expected in OPTIONAL.items():
        if hasattr(task.data, function):
            assert arguments(getattr(task.data, function)) == expected, function
    for module in task.models.values():
        defaults = list(inspect.signature(module.build).parameters.values())[2:]
        assert [default.default for default in defaults] == [False, None, None]
    assert callable(task.offline.normalization) and '/' in task.offline.output_name


def without(module, member, **more):
    rest = {key: value for key, value in vars(module).items() if key != member}
    return types.SimpleNamespace(**dict(rest, **more))


@pytest.mark.parametrize('command', [[], ['--predict', 'x.png'], ['--show_batch', '4']])
def test_a_model_without_a_member_is_told_at_the_start(command, capsys):
    task = models.find('wideresnet')
    task = dataclasses.replace(task, data=without(task.data, 'class_names'))
    with pytest.raises(SystemExit) as end:
        run.main(task, command)
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        'error: wideresnet_tf: wideresnet_tf.input_pipeline has no class_names(metadata, cfg);'
        ' common/task.py says what a model must offer\n'
    )


@pytest.mark.parametrize(
    'part, member, named',
    [
        ('data', 'DRAWS', 'DRAWS'),
        ('metric', 'BEST', 'BEST'),
        ('metric', 'figures', r'figures\(sums, cfg\)'),
        ('checkpoints', 'describe', r'describe\(shapes\)'),
        ('config', 'num_classes', 'num_classes'),
    ],
)
def test_what_is_missing_is_named(part, member, named):
    task = models.find('wideresnet')
    less = without(getattr(task, part), member)
    with pytest.raises(UserError, match='^wideresnet_tf: .*has no %s;' % named):
        dataclasses.replace(task, **{part: less, 'final_checkpoint': 'x'}).check()


def test_functions_of_other_arguments_are_named():
    task = models.find('wideresnet')
    old = types.SimpleNamespace(build=lambda images, cfg, is_training: images)
    with pytest.raises(UserError, match=r'has no build\(images, cfg, training, dropout, batch'):
        dataclasses.replace(task, models={'paper': old}).check()


def test_a_package_without_a_task_or_a_configuration_is_named(tmp_path, monkeypatch):
    (tmp_path / 'bare_tf').mkdir()
    (tmp_path / 'bare_tf' / '__init__.py').write_text('')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match='^bare_tf: no task.py with a TASK'):
        models.find('bare')
    with pytest.raises(UserError, match='^bare_tf: no config.py with a Config whose model is bare'):
        models.config_class('bare')


@pytest.mark.parametrize('name', ['wideresnet', 'xception', 'resnest'])
def test_the_configuration_is_found_without_the_task(name):
    assert models.config_class(name) is models.find(name).config


@pytest.mark.parametrize('name', ['wideresnet', 'xception', 'resnest'])
def test_default_recipe_is_legal_and_knows_its_image_size(name):
    task = models.find(name)
    cfg = config.parse(task.config, [])
    height, width, channels = cfg.input_shape
    assert height >= 32 and width >= 32 and channels == 3 and cfg.eval_batch_size >= 1
    assert getattr(cfg, 'variant', 'paper') in task.models
    with pytest.raises(AttributeError):
        cfg.seed = 2  # frozen


def test_an_unknown_model_is_named_with_the_nearest():
    with pytest.raises(UserError, match="--model wideresnt is unknown.*did you mean 'wideresnet'"):
        models.find('wideresnt')
