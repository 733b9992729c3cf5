"""Every recipe against the ledger of what its publication's code says (see make_ledger.py)."""

import dataclasses
import json
import pathlib
import re

import pytest

from common.configuration import config
from resnest_tf.task import TASK as RESNEST
from wideresnet_tf import input_pipeline
from wideresnet_tf.task import TASK as WIDERESNET
from xception_tf.task import TASK as XCEPTION

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TASKS = {'resnest': RESNEST, 'wideresnet': WIDERESNET, 'xception': XCEPTION}
LEDGERS = {model: json.loads((HERE / (model + '.json')).read_text()) for model in TASKS}
RECIPES = [(model, recipe) for model, ledger in LEDGERS.items() for recipe in ledger]
# Headings of --help whose options decide the result of a training, but for those in FREE.
DECIDING = ['Network', 'Data', 'Training images', 'Length and batch', 'Optimizer', 'Loss']
DECIDING += ['Learning rate']
FREE = {'accumulate', 'allow_other_batch', 'batch_size', 'data_format', 'label', 'label_offset'}
FREE |= {'scale_learning_rate', 'verify_records'}
# The value at which an option does nothing, and needs no source.
OFF = {'aspp_dropout': 0, 'aux_weight': 0, 'brightness': 0, 'clip_norm': 0, 'color_jitter': 0}
OFF.update(contrast=0, cutout=0, dropout_rate=0, ema_decay=0, end_factor=0, freeze_bn=False)
OFF.update(global_batch=None, head_rate_factor=1, label_smoothing=0, mixup=0, steps=None)
OFF.update(warmup_epochs=0, warmup_factor=0, width=1)
# What the ledger has under another name than a field's.
DERIVED = {
    'normalization': 'statistics',
    'factors': 'rates',
    'warmup_factor': 'warmup_start',
    'end_factor': 'end_learning_rate',
}


def path_of(model, recipe):
    return ROOT / (model + '_tf') / 'configs' / (recipe + '.yaml')


def resolved(model, recipe):
    task = TASKS[model]
    return config.parse(task.config, ['--config', str(path_of(model, recipe))])


def found(cfg, key):
    """The value of a recipe that is to be that of the ledger's entry `key`."""
    if key == 'statistics':
        mean, std = input_pipeline.STATISTICS[cfg.normalization]
        return mean + std
    if key == 'rates':
        return [cfg.learning_rate * factor for factor in [1.0] + cfg.factors]
    if key == 'warmup_start':
        return cfg.learning_rate * cfg.warmup_factor
    if key == 'end_learning_rate':
        return cfg.learning_rate * cfg.end_factor
    if key == 'global_batch':
        return cfg.global_batch or cfg.batch_size * cfg.accumulate
    return getattr(cfg, key)


def compared(ledger, recipe):
    return [
        key
        for key in ledger[recipe]['values']
        if not key.startswith('published') and key not in ('rate of step', 'label smoothing over')
    ]


def differences(cfg, entry, keys):
    """The keys in which a configuration is not what the ledger's entry says."""
    return {
        key
        for key in keys
        if found(cfg, key) != pytest.approx(entry['values'][key]['value'], rel=1e-6)
    }


@pytest.mark.parametrize('model, recipe', RECIPES)
def test_recipe_is_the_publications_but_for_listed_deviations(model, recipe):
    entry, keys = LEDGERS[model][recipe], compared(LEDGERS[model], recipe)
    cfg = resolved(model, recipe)
    assert differences(cfg, entry, keys) == set(keys) & set(entry['deviations'])
    choices = entry.get('choices', {})
    assert {key: found(cfg, key) for key in choices} == choices


@pytest.mark.parametrize('model, recipe', RECIPES)
def test_every_value_that_decides_the_result_has_a_source_or_is_off(model, recipe):
    """Defaults too: what a recipe does not say, the publication does not do."""
    cfg, known = resolved(model, recipe), known_names(LEDGERS[model][recipe])
    group, unknown = '', {}
    known |= FREE | ({'epochs'} if cfg.steps else set())
    known |= set() if cfg.weight_decay else {'weight_decay_rule'}
    for field in dataclasses.fields(cfg):
        group = field.metadata['group'] or group
        needed = all(getattr(cfg, n) in values for n, values in field.metadata['needs'].items())
        off = field.name in OFF and getattr(cfg, field.name) == OFF[field.name]
        if group in DECIDING and needed and not off and field.name not in known:
            unknown[field.name] = getattr(cfg, field.name)
    assert not unknown


def known_names(entry):
    """Fields with a source, and those the publication leaves open and the recipe's head lists."""
    names = set(entry['values']) | set(entry.get('choices', {}))
    return names | {name for name, source in DERIVED.items() if source in names}


@pytest.mark.parametrize('model, recipe', RECIPES)
def test_deviations_stand_in_the_head_of_the_recipe(model, recipe):
    text = path_of(model, recipe).read_text()
    head = re.search(r'# differs: +- ((?:.*\n)(?:#    .*\n)*)', text)
    items = re.split(r'\n# +- ', head.group(1))
    words = [re.sub(r'\n#? *', ' ', item).strip() for item in items]
    assert words == list(LEDGERS[model][recipe]['deviations'].values())


@pytest.mark.parametrize('model, recipe', RECIPES)
def test_published_figures_are_the_sources(model, recipe):
    entry = LEDGERS[model][recipe]['values']
    figures = resolved(model, recipe).published.values()
    for key in entry:
        if key.startswith('published'):
            name = key.split()[1]
            assert any(
                figure.get(name) == pytest.approx(entry[key]['value'], abs=1e-6)
                for figure in figures
            )


@pytest.mark.parametrize('model, recipe', RECIPES)
def test_every_changed_value_is_noticed(model, recipe):
    """What a slip of the pen would do to each number and switch of the recipe."""
    entry, cfg = LEDGERS[model][recipe], resolved(model, recipe)
    keys = set(compared(LEDGERS[model], recipe)) - set(entry['deviations'])
    fields = {field.name for field in dataclasses.fields(cfg)} & keys
    assert len(fields) >= 8
    for key in fields:
        old = getattr(cfg, key)
        if isinstance(old, bool):
            new = not old
        elif isinstance(old, list):
            new = old[:-1] + [sum(old[-1:]) + 1]
        elif isinstance(old, str):
            new = old + 'x'
        else:
            new = (old or 1) * 1.01 + 0.01
        changed = dataclasses.replace(cfg, **{key: new})
        assert key in differences(changed, entry, keys), key


@pytest.mark.parametrize('model', sorted(TASKS))
def test_recipes_without_a_ledger_are_our_own(model):
    for path in (ROOT / (model + '_tf') / 'configs').glob('*.yaml'):
        own = '# source:    this repository' in path.read_text()
        assert own == (path.stem not in LEDGERS[model])


@pytest.mark.parametrize('model', sorted(TASKS))
def test_sources_name_repository_commit_file_and_line(model):
    for entry in LEDGERS[model].values():
        for value in entry['values'].values():
            assert re.match(
                r'[\w-]+/[\w-]+@[0-9a-f]{40}:[^:]+:\d+: .|(Chollet|Zhang et al.) 20\d\d, arXiv:',
                value['source'],
            )
