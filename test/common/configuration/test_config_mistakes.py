"""What is said about mistakes: the key or flag, what was found, what is legal and the nearest name;
and about options without effect.
"""

import dataclasses

import pytest
from example_config import Example, parse, refused

from common.configuration import fields


@pytest.mark.parametrize(
    'argv, message',
    [
        (['--batch_siz', '3'], "unknown flag --batch_siz .*did you mean 'batch_size'"),
        (['--batch_siz=3'], "unknown flag --batch_siz .*did you mean 'batch_size'"),
        (['--dephts', '16'], "unknown flag --dephts .*did you mean 'depth"),
        (['--zzz', '16'], 'unknown flag --zzz .*--help all lists them'),
        (['-b', '3'], 'unknown flag -b'),
        (['-depth', '16'], "unknown flag -depth .*did you mean 'depth'"),
        (['---depth', '16'], "unknown flag ---depth .*did you mean 'depth'"),
        (['depth', '16'], 'depth 16'),
        (['--batch_size', '3.5'], "batch_size: '3.5' .*whole number above 0"),
        (['--batch_size', '0'], "batch_size: '0' .*whole number above 0"),
        (['--batch_size', '-1'], "batch_size: '-1' .*whole number above 0"),
        (['--batch_size', 'None'], "batch_size: 'None' .*whole number above 0"),
        (['--batch_size'], 'batch_size needs a value.*whole number above 0'),
        (['--batch_size='], "batch_size: '' .*whole number above 0"),
        (['--depth', '16', '--batch_size'], 'batch_size needs a value.*whole number above 0'),
        (['--batch_size', '--depth', '16'], 'batch_size.*whole number above 0'),
        (['--depths', 'x'], "depth: 'x' .*whole number above 0"),
        (['--seed', '-1'], "seed: '-1' .*0 or more"),
        (['--image_num', '0'], "image_num: '0' .*whole number above 0 or None"),
        (['--learning_rate', 'abc'], "learning_rate: 'abc' .*a number above 0"),
        (['--learning_rate', 'nan'], "learning_rate: 'nan'"),
        (['--learning_rate', '.nan'], 'learning_rate: '),
        (['--learning_rate', 'inf'], 'learning_rate: inf .*finite'),
        (['--weight_decay', 'inf'], 'weight_decay: inf .*finite'),
        (['--weight_decay', '-0.1'], "weight_decay: '-0.1' .*0 or more"),
        (['--loss_scale', 'inf'], 'loss_scale: inf .*finite'),
        (['--do_train', 'Ture'], "do_train: 'Ture' .*True or False"),
        (['--do_train', '1'], "do_train: '1' .*True or False"),
        (['--variant', 'ports'], "variant: 'ports' .*paper or port; did you mean 'port'"),
        (['--schedule', 'liner'], "schedule: 'liner' .*linear.*did you mean 'linear'"),
        (['--optimizer', 'Adam'], "optimizer: 'Adam' .*did you mean 'adam'"),
        (['--loss_scale', 'dynamik'], "loss_scale: 'dynamik' .*dynamic"),
        (['--loss_scale', '0'], "loss_scale: '0' "),
        (['--boundaries', '60', '120'], "boundaries: '60' .*a list such as"),
        (['--boundaries', '[a]'], r"boundaries: '\[a\]' .*a list such as"),
        (['--momentum', '1'], 'momentum: 1.0 .*< 1'),
        (['--label_smoothing', '1.5'], 'label_smoothing: 1.5 .*< 1'),
        (['--ema_decay', '1'], 'ema_decay: 1.0 .*< 1'),
        (['--schedule', 'piecewise'], r'piecewise: .*found boundaries \[\] and factors \[\]'),
        (
            ['--schedule', 'piecewise', '--boundaries', '[1]', '--factors', '[0.1, 1]'],
            'a factor for each; found boundaries',
        ),
        (['--boundaries', '[120, 60]'], 'boundaries: .*must ascend'),
        (['--boundaries', '[60, 60]'], 'boundaries: .*must ascend'),
        (['--boundaries', '[0, 60]'], 'boundaries: .*must ascend, all above 0'),
        (['--factors', '[-0.1]'], 'factors: .*at least 0'),
        (['--schedule', 'exponential', '--decay_rate', '0'], 'decay_rate: .*a number above 0'),
        (['--end_factor', '-1'], 'end_factor: .*a number, 0 or more'),
        (['--warmup_epochs', '-1'], 'warmup_epochs: .*a number, 0 or more'),
        (
            ['--schedule', 'piecewise', '--boundaries', '[1]', '--factors', '[.nan]'],
            'factors: .*nan.*finite',
        ),
        (['--boundaries', '[.inf]'], 'boundaries: .*inf.*finite'),
        (['--loss', 'focal', '--label_smoothing', '0.1'], 'label_smoothing.*focal'),
        (['--config'], '--config needs a value; give a file'),
        (['--depth', '16', '--config'], '--config needs a value; give a file'),
        (['--config', 'nope.yaml'], '--config nope.yaml: No such file'),
    ],
)
def test_mistakes_on_the_command_line(argv, message):
    refused(message, *argv)


@pytest.mark.parametrize(
    'text, message',
    [
        ('epohcs: 4', "unknown key 'epohcs' in .*recipe.yaml; did you mean 'epochs'"),
        ('epoch: 4', "unknown key 'epoch' .*did you mean 'epochs'"),
        ('1: 2', 'unknown key 1 '),
        ('config: x', "unknown key 'config'"),
        ('model: xception', 'another model'),
        ('', 'key: value'),
        ('- a', 'key: value.*list'),
        ('a: [', 'recipe.yaml is not valid YAML'),
        ('a: b: c', 'recipe.yaml is not valid YAML'),
        ('a: 2020-02-30', 'recipe.yaml is not valid YAML'),
        ('a: !!int ""', 'recipe.yaml is not valid YAML'),
        ('batch_size: 8.5', 'batch_size: 8.5 .*whole number above 0'),
        ('batch_size:', 'batch_size: None .*whole number above 0'),
        ('learning_rate: .nan', 'learning_rate: nan'),
        ('data_path:', 'data_path: None .*text'),
        ('flip: 3', "unknown key 'flip'"),
        ('nesterov: 3', 'nesterov: 3 .*True or False'),
        ('output_path: 5', 'output_path: 5 .*a text or None'),
        ('boundaries: 5', 'boundaries: 5 .*a list such as'),
        ('published: 5', 'published: 5 .*source.*metric'),
        ('published: {a: {b: x}}', 'published: .*source.*metric'),
    ],
)
def test_mistakes_in_a_recipe(text, message, yaml_file):
    refused(message, '--config', yaml_file(text))


def test_mistake_in_yaml_is_reported_though_another_flag_is_right(yaml_file):
    refused('batch_size: 0', '--config', yaml_file('batch_size: 0'), '--depth', '16')


def test_missing_recipe_names_the_nearest(tmp_path, yaml_file):
    yaml_file('depth: 16')
    refused("did you mean 'recipe.yaml'", '--config', tmp_path / 'recpie.yaml')


def test_recipe_that_is_a_folder_or_binary(tmp_path):
    refused('--config .*Is a directory', '--config', tmp_path)
    (tmp_path / 'b.yaml').write_bytes(b'\xd0\xff\x00')
    refused('b.yaml', '--config', tmp_path / 'b.yaml')


@pytest.mark.parametrize(
    'words, message',
    [
        (
            ['--batch_size', '99999999999'],
            'batch_size: 99999999999 is not legal; give at most 65536',
        ),
        (['--data_path', 'a\0b'], 'data_path: .* is not legal; give a text'),
        (['--data_path', 'a\udcff'], r"data_path: 'a\\udcff' is not legal; give a text"),
        (
            ['--do_train', 'True', '--output_path', 'a[1]/b'],
            r'output_path a\[1\]/b: TensorFlow takes',
        ),
        (['--do_train', 'True', '--output_path', 'a\\b'], 'for a pattern; give a path without'),
        (['--output_path', ' '], "output_path: '' is not legal .an unset shell variable"),
    ],
)
def test_absurd_values(words, message):
    refused(message, *words)


@pytest.mark.parametrize(
    'words, notes',
    [
        (
            ['--nesterov', 'True', '--optimizer', 'adam'],
            ['nesterov has no effect with optimizer adam'],
        ),
        (['--focal_gamma', '3'], ['focal_gamma has no effect with loss cross_entropy']),
        (['--focal_gamma', '3', '--loss', 'focal'], []),
        (['--restart', 'True'], ['restart has no effect with do_train False']),
        (['--deterministic', '1'], ['deterministic: no effect with device cpu']),
        (['--warmup_factor', '0.5'], ['warmup_factor has no effect with warmup_epochs 0.0']),
        (['--warmup_factor', '0.5', '--warmup_epochs', '1'], []),
        (['--power', '2', '--schedule', 'cosine'], ['power has no effect with schedule cosine']),
        (
            ['--loss_scale', '8', '--precision', 'float32'],
            ['loss_scale has no effect with precision float32'],
        ),
    ],
)
def test_options_without_effect_are_reported(words, notes):
    assert fields.without_effect(parse(*words), 'cpu') == notes


def test_needs_name_fields_and_legal_values():
    for field in dataclasses.fields(Example):
        for other, values in field.metadata['needs'].items():
            if values is fields.NOT_ZERO:
                assert hasattr(Example(), other) and 0 not in values and 1 in values
                continue
            for value in values:
                assert getattr(dataclasses.replace(Example(), **{other: value}), other) == value
