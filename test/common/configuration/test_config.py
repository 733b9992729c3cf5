"""Defaults < YAML < flags, in every spelling, and configurations that are saved."""

import dataclasses

import pytest
import yaml
from example_config import Example, parse

from common.configuration import config


def test_defaults_are_those_of_the_class():
    assert parse() == Example()


def test_flags_win_over_yaml_and_yaml_over_defaults(yaml_file):
    path = yaml_file({'model': 'example', 'depth': 40, 'batch_size': 64})
    cfg = parse('--config', path, '--depth', 16)
    assert (cfg.depth, cfg.batch_size, cfg.momentum) == (16, 64, 0.9)


@pytest.mark.parametrize(
    'order',
    [
        ['--depth', '16', '--seed', '7', '--config', 'RECIPE'],
        ['--depth', '16', '--config', 'RECIPE', '--seed', '7'],
        ['--config', 'RECIPE', '--depth', '16', '--seed', '7'],
        ['--depth=16', '--config=RECIPE', '--seed=7'],
    ],
)
def test_config_may_stand_anywhere(order, yaml_file):
    path = yaml_file({'depth': 40, 'batch_size': 64, 'seed': 3})
    cfg = parse(*[word.replace('RECIPE', str(path)) for word in order])
    assert (cfg.depth, cfg.batch_size, cfg.seed) == (16, 64, 7)


def test_of_repeated_flags_the_last_counts(tmp_path):
    for name, batch in (('a', 8), ('b', 9)):
        (tmp_path / name).write_text('batch_size: %d' % batch)
    assert parse('--depth', 10, '--depth', 16).depth == 16
    assert parse('--config', tmp_path / 'a', '--config', tmp_path / 'b').batch_size == 9


def test_default_recipe_is_read_unless_another_is_given(tmp_path, yaml_file):
    (tmp_path / 'default.yaml').write_text('seed: 5\ndepth: 16')

    class WithDefault(Example):
        default_recipe = tmp_path / 'default.yaml'

    assert parse(of=WithDefault).seed == 5
    cfg = parse('--seed', 6, of=WithDefault)
    assert (cfg.seed, cfg.depth) == (6, 16)
    cfg = parse('--config', yaml_file({'depth': 22}), of=WithDefault)
    assert (cfg.seed, cfg.depth) == (1, 22)


@pytest.mark.parametrize(
    'words',
    [['--depths', '16'], ['--depths=16'], ['--depth', '16'], ['--depth', '22', '--depths', '16']],
)
def test_published_flags_are_aliases(words):
    assert parse(*words).depth == 16


def test_alias_takes_what_its_field_takes():
    assert parse('--epoch', 40).epochs == 40.0


@pytest.mark.parametrize(
    'word, value', [('True', True), ('true', True), ('False', False), ('false', False)]
)
def test_booleans(word, value):
    assert parse('--do_train', word).do_train is value
    assert parse('--staircase=' + word).staircase is value


@pytest.mark.parametrize('word', ['1e-4', '0.0001', '1E-4', '.0001'])
def test_numbers_in_every_notation_on_the_command_line_and_in_yaml(word, yaml_file):
    assert parse('--learning_rate', word).learning_rate == 0.0001
    assert parse('--config', yaml_file('learning_rate: ' + word)).learning_rate == 0.0001


@pytest.mark.parametrize('word', ['2020-02-30', '!!int ""', '[' * 5000, '1: 2'])
def test_texts_that_yaml_stumbles_over(word):
    assert parse('--data_path', word).data_path == word


def test_none_as_python_prints_it(yaml_file):
    path = yaml_file({'model_path': 'a', 'image_num': 3, 'steps': 4})
    cfg = parse('--config', path, '--model_path', 'None', '--image_num=None')
    assert (cfg.model_path, cfg.image_num, cfg.steps) == (None, None, 4)


TEXTS = '123 1e3 true null None a=b [a] ä'.split() + ['run #2', 'a\nb', "'x'", 'a: b', 'with space']


@pytest.mark.parametrize('text', TEXTS)
def test_paths_stay_as_they_are_written(text):
    assert parse('--data_path', text).data_path == text
    assert parse('--data_path=' + text).data_path == text


def test_lists_and_unions():
    words = '--schedule piecewise --factors=[0.2,1e-3] --loss_scale 1024'.split()
    cfg = parse(*words, '--boundaries', '[60, 120.5]')
    assert (cfg.boundaries, cfg.factors, cfg.loss_scale) == ([60.0, 120.5], [0.2, 0.001], 1024.0)
    assert parse('--loss_scale', 'dynamic').loss_scale == 'dynamic'


def test_defaults_of_lists_are_not_shared():
    parse().factors.append(1.0)
    assert parse().factors == []


def test_saved_config_reads_back_equal(tmp_path, yaml_file):
    published = {'paper, median of 5': {'top1': 0.9611, 'top5': 1.0}}
    words = '--schedule piecewise --loss_scale 32 --image_num 5 --data_path 123 --seed 2147483648'
    recipe = yaml_file({'published': published, 'boundaries': [1, 2.5]})
    more = ['--config', recipe, '--factors', '[1e-05, 0]', '--model_path', 'a: b']
    cfg = parse(*words.split(), *more)
    assert cfg.published == published
    config.save(cfg, tmp_path / 'run' / 'config.yaml', 'example')
    again = parse('--config', tmp_path / 'run' / 'config.yaml')
    assert again == cfg
    assert [type(value) for value in dataclasses.astuple(again)] == [
        type(value) for value in dataclasses.astuple(cfg)
    ]
    assert config.changes(again, config.read_yaml(tmp_path / 'run' / 'config.yaml')) == {}


def test_saved_config_names_every_field_and_the_model(tmp_path):
    config.save(Example(), tmp_path / 'config.yaml', 'example')
    saved = yaml.safe_load((tmp_path / 'config.yaml').read_text())
    assert saved.pop('model') == 'example'
    assert list(saved) == [field.name for field in dataclasses.fields(Example)]


def test_changes_and_summary():
    cfg = parse('--depth', 16, '--factors', '[0.5]')
    base = dataclasses.asdict(Example())
    assert config.changes(cfg, base) == {'depth': (28, 16), 'factors': ([], [0.5])}
    assert config.changes(cfg, {'depth': 40, 'gone_since': 1}) == {'depth': (40, 16)}
    assert config.summary(cfg) == 'factors=[0.5]  depth=16'
